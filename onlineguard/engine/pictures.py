"""Pictures of verdicts, drawn by Matplotlib: values, scores against thresholds, and what is anomalous."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from onlineguard import extras
from onlineguard.engine.columns import as_columns, as_numpy, names_of
from onlineguard.engine.events import as_events
from onlineguard.errors import InvalidArgument

MOST_FEATURES = 12  # panels that can still be read
MOST_POINTS = 20_000  # usual events drawn; more cannot be told apart
LOWEST_SCORE = 0.02  # what is less odd than this is drawn here
WIDE = 3.0  # scales on each side of a location that are shaded
USUAL, ODD, LINE, BAND = "#94a3b8", "#dc2626", "#0f172a", "#dbeafe"


class Judged(Protocol):
    """What is drawn of `Verdicts`."""

    @property
    def score(self) -> np.ndarray: ...
    @property
    def threshold(self) -> np.ndarray: ...
    @property
    def anomalous(self) -> np.ndarray: ...
    def __len__(self) -> int: ...


def drawn(
    verdicts: Judged,
    X: Any = None,
    features: Sequence[str] | None = None,
    *,
    time: Any = None,
    title: str = "",
    usual: Mapping[Any, tuple[float, float]] | None = None,
) -> Any:
    """The axes of a new figure, an array: a panel for each feature, then one for the score on a log axis.

    X: the events, (n, d) numbers or named columns; without them only the scores are drawn.
    features: which of the named columns are drawn, or the names of the numbers; else those that hold numbers.
    time: what lies along the axis, (n,) times or numbers, or the name of such a column of X or of its index in pandas;
        without it, that index where it holds times, else the events are counted.
    usual: location and scale of features, to be shaded.

    Of the usual events at most MOST_POINTS are drawn, evenly spread, and all of the anomalous. Raises MissingExtra
    without Matplotlib, and InvalidArgument for events of another number, or of too many features.
    """
    extras.require("plot", "plot")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    index = _index(X)
    if time is None and index.get(None) is not None:
        time = index[None]
    at = _times(X, index.get(time) if isinstance(time, str) and time in index else time, len(verdicts))
    along = time if isinstance(time, str) else "event" if time is None else "time"
    names, values = _values(X, features, len(verdicts), time if isinstance(time, str) else None)
    _, axes = plt.subplots(
        len(names) + 1,
        1,
        figsize=(10.0, 2.4 + 1.6 * len(names)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    axes = axes[:, 0]
    odd = np.flatnonzero(verdicts.anomalous)
    usual_ones = _thinned(np.flatnonzero(~verdicts.anomalous))
    for j, name in enumerate(names):
        if usual and name in usual:
            location, scale = usual[name]
            axes[j].axhspan(location - WIDE * scale, location + WIDE * scale, color=BAND, lw=0)
        _dots(axes[j], at, usual_ones, values[:, j], odd)
        axes[j].set_ylabel(str(name))
    below, score = axes[-1], np.maximum(verdicts.score, LOWEST_SCORE)
    _dots(below, at, usual_ones, score, odd)
    shown = _thinned(np.arange(len(verdicts)))
    below.plot(at[shown], verdicts.threshold[shown], color=LINE, lw=1.2, label="threshold")
    below.set(yscale="log", ylabel="score", xlabel=along)
    wide = np.ptp(np.log10(score)) > 2 if len(score) else False
    below.yaxis.set(
        major_locator=LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)),
        major_formatter=StrMethodFormatter("{x:g}"),
        minor_formatter=NullFormatter(),
    )
    below.legend(loc="upper left", frameon=False)
    axes[0].set_title(title or repr(verdicts), loc="left", fontsize="medium")
    return axes


def _dots(axis: Any, at: np.ndarray, usual: np.ndarray, values: np.ndarray, odd: np.ndarray) -> None:
    axis.plot(at[usual], values[usual], ".", ms=2.0, color=USUAL, rasterized=True)
    axis.plot(at[odd], values[odd], "o", ms=4.0, color=ODD, label=f"{len(odd):,} anomalous")
    axis.spines[["top", "right"]].set_visible(False)


def _thinned(at: np.ndarray) -> np.ndarray:
    return at[:: max(1, -(-len(at) // MOST_POINTS))]


def _index(X: Any) -> dict[str | None, Any]:
    """The levels of a frame's index in pandas by their names; by None the index itself, where it holds times."""
    index = getattr(X, "index", None)
    if index is None or not hasattr(index, "get_level_values"):
        return {}
    levels = {name: index.get_level_values(name) for name in index.names if isinstance(name, str)}
    return levels | ({None: index} if getattr(index.dtype, "kind", "") == "M" else {})


def _times(X: Any, time: Any, n: int) -> np.ndarray:
    """What lies along the axis of n events."""
    if time is None:
        return np.arange(n)
    if isinstance(time, str):
        columns = as_columns(X)
        if columns is None or time not in names_of(columns):
            raise InvalidArgument("time", f"is {time!r}, which is no column of X; name one, or give the times")
        time = columns[time]
    found = np.asarray(as_numpy(time))
    if found.shape != (n,):
        raise InvalidArgument("time", f"has shape {found.shape} for {n} verdicts; it must hold one time an event")
    return found


def _values(X: Any, features: Sequence[str] | None, n: int, time: str | None) -> tuple[list[Any], np.ndarray]:
    """The names of the features that are drawn, and their values (n, d)."""
    if X is None:
        return [], np.empty((n, 0))
    columns = as_columns(X)
    if features is not None:
        names: list[Any] = list(features)
    elif columns is not None:
        names = [name for name in names_of(columns) if name != time and _holds_numbers(columns[name])]
    else:
        names = list(range(np.shape(X)[1] if np.ndim(X) > 1 else 1))
    if not names:
        return [], np.empty((n, 0))
    if len(names) > MOST_FEATURES:
        raise InvalidArgument(
            "X", f"has {len(names)} features; a figure shows at most {MOST_FEATURES}: name them, features=[...]"
        )
    values = np.asarray(as_events(X, len(names), names))
    if len(values) != n:
        raise InvalidArgument("X", f"has {len(values)} events for {n} verdicts; give the events that were judged")
    return names, values


def _holds_numbers(column: Any) -> bool:
    try:
        as_events({"x": column}, 1, ["x"])
    except InvalidArgument:
        return False
    return True
