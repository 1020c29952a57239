"""Sample weights that give every hour of the week the same say, with and without login, for either label.

    w_i = n / (m N_i)

N_i is the number of clicks in the cell (hour, weekday, logged in, label) of click i, n is the number of all clicks,
and m is the number of cells that have any. So every such cell weighs n / m in total, and the mean weight is 1. Without
weights a network learns the busy hours. At night, when few people and many robots come, it would take everybody for a
robot.

Where clicks have loads beforehand (see `spreading`), N_i is the sum of those in the cell, and the weight is that times
the click's load.

With a hundred labels over hundreds of cells, one click would weigh as much as a thousand others. So where the known
humans are fewer than `FEWEST` for each hour of the week and login that has clicks, the cells are the two labels alone.

Source: w_i = C / N_i in "SLIDR", IAAI 2023, and its team's workshop paper at NeurIPS 2022; C = n / m is our choice.
"""

import numpy as np

from onlineguard.errors import InvalidArgument

CELLS = 24 * 7 * 2 * 2  # hour x weekday x logged in x label
FEWEST = 5  # known humans a cell, on average: fewer say nothing of an hour, and each would speak for it


def cell_weights(
    hour: np.ndarray,
    weekday: np.ndarray,
    logged_in: np.ndarray,
    human: np.ndarray,
    largest: float | None = None,
    loads: np.ndarray | None = None,
    fewest: int = FEWEST,
) -> np.ndarray:
    """The weight (n,) float32 of every click; their mean is 1.

    hour: (n,) 0 to 23, and weekday: (n,) 0 to 6, both in the visitor's local time.
    logged_in, human: (n,) bool.
    largest: no weight exceeds it. What is cut off is spread over all other clicks in proportion, so sparse cells then
        weigh less than others. Without it, a click that is alone in its cell weighs as much as a whole cell, which may
        be thousands.
    loads: (n,) what the clicks weigh beforehand; by default 1 each.
    fewest: see above; 0 always takes the cells.

    >>> hour = np.array([3, 12, 12])
    >>> cell_weights(hour, np.zeros(3, int), np.zeros(3, bool), np.zeros(3, bool), fewest=0).tolist()
    [1.5, 0.75, 0.75]
    """
    codes = cells(hour, weekday, logged_in, human)
    if largest is not None and not largest > 1.0:
        raise InvalidArgument(f"largest is {largest}; it must exceed 1, the mean weight, e.g. 100; None sets no bound")
    if np.count_nonzero(human) < fewest * len(np.unique(codes // 2)):
        codes = codes % 2
    loads = np.ones(len(codes)) if loads is None else np.asarray(loads, np.float64)
    totals = np.bincount(codes, loads, minlength=CELLS)
    filled = np.count_nonzero(totals)
    weight = len(codes) / filled * loads / totals[codes] if len(codes) else loads
    return (weight if largest is None else _capped(weight, largest)).astype(np.float32)


def cells(hour: np.ndarray, weekday: np.ndarray, logged_in: np.ndarray, human: np.ndarray) -> np.ndarray:
    """The number of every click's cell (n,), below CELLS: ((weekday * 24 + hour) * 2 + logged in) * 2 + human."""
    columns = {"hour": hour, "weekday": weekday, "logged_in": logged_in, "human": human}
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or arrays["hour"].ndim != 1:
        raise InvalidArgument(
            "hour, weekday, logged_in and human have the shapes "
            f"{', '.join(str(array.shape) for array in arrays.values())}; give one number a click to each, (n,)"
        )
    for name, limit in (("hour", 24), ("weekday", 7), ("logged_in", 2), ("human", 2)):
        outside = np.flatnonzero(~np.isin(arrays[name], np.arange(limit)))
        if len(outside):
            raise InvalidArgument(
                f"{name}[{outside[0]}] is {arrays[name][outside[0]]}; it must be a whole number from 0 to {limit - 1}"
                + (" (Monday is 0; polars counts from 1)" if name == "weekday" else "")
            )
    hour, weekday, logged_in, human = (array.astype(np.int16) for array in arrays.values())
    return ((weekday * 24 + hour) * 2 + logged_in) * 2 + human


def effective_size(weights: np.ndarray) -> float:
    """The number of equally weighted clicks that estimate a mean as well as these: (sum w)^2 / sum w^2. 0 for none.

    Source: Kish, "Survey Sampling", 1965.
    """
    w = np.asarray(weights, np.float64)
    squares = float(w @ w)
    return float(w.sum()) ** 2 / squares if squares > 0.0 else 0.0


def _capped(weight: np.ndarray, largest: float) -> np.ndarray:
    """The weights, at most `largest`. All others are scaled by one factor, so that the mean stays 1."""
    if not len(weight) or weight.max() <= largest:
        return weight
    n, order = len(weight), np.argsort(-weight, kind="stable")
    # If the k heaviest clicks are at the bound, the rest must share n - largest * k. We look for the smallest k for
    # which the heaviest of the rest stays below the bound. It exists: a bound above 1 cannot be reached by all clicks,
    # since their mean weight is 1.
    heaviest = weight[order]
    rest = np.cumsum(heaviest[::-1])[::-1]
    factor = (n - largest * np.arange(n)) / rest
    k = int(np.argmax((factor * heaviest <= largest) & (factor >= 0.0)))
    capped = weight * factor[k]
    capped[order[:k]] = largest
    return capped
