"""Pictures of verdicts, drawn by Matplotlib: values, scores against thresholds, and what is anomalous."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onlineguard import extras
from onlineguard.engine.columns import as_columns, names_of
from onlineguard.engine.events import as_events
from onlineguard.errors import InvalidArgument

if TYPE_CHECKING:
    from onlineguard.engine.verdicts import Verdicts

MOST_FEATURES = 12  # panels that can still be read
MOST_POINTS = 20_000  # usual events drawn; more cannot be told apart
LOWEST_SCORE = 0.02  # what is less odd than this is drawn here
WIDE = 3.0  # scales on each side of a location that are shaded
USUAL, ODD, LINE, BAND = "#94a3b8", "#dc2626", "#0f172a", "#dbeafe"


def drawn(
    verdicts: "Verdicts",
    X: Any = None,
    features: Sequence[str] | None = None,
    *,
    title: str = "",
    usual: Mapping[Any, tuple[float, float]] | None = None,
) -> Any:
    """The axes of a new figure, an array: a panel for each feature, then one for the score on a log axis.

    X: the events, (n, d) numbers or named columns; without them only the scores are drawn.
    features: which of the named columns are drawn, or the names of the numbers.
    usual: location and scale of features, to be shaded.

    Of the usual events at most MOST_POINTS are drawn, evenly spread, and all of the anomalous. Raises MissingExtra
    without Matplotlib, and InvalidArgument for events of another number, or of too many features.
    """
    extras.require("plot", "plot")
    import matplotlib.pyplot as plt

    names, values = _values(X, features, len(verdicts))
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
        _dots(axes[j], usual_ones, values[:, j], odd)
        axes[j].set_ylabel(str(name))
    below, score = axes[-1], np.maximum(verdicts.score, LOWEST_SCORE)
    _dots(below, usual_ones, score, odd)
    shown = _thinned(np.arange(len(verdicts)))
    below.plot(shown, verdicts.threshold[shown], color=LINE, lw=1.2, label="threshold")
    below.set(yscale="log", ylabel="score", xlabel="event")
    below.legend(loc="upper left", frameon=False)
    axes[0].set_title(title or repr(verdicts), loc="left", fontsize="medium")
    return axes


def _dots(axis: Any, usual: np.ndarray, values: np.ndarray, odd: np.ndarray) -> None:
    axis.plot(usual, values[usual], ".", ms=2.0, color=USUAL, rasterized=True)
    axis.plot(odd, values[odd], "o", ms=4.0, color=ODD, label=f"{len(odd):,} anomalous")
    axis.spines[["top", "right"]].set_visible(False)


def _thinned(at: np.ndarray) -> np.ndarray:
    return at[:: max(1, -(-len(at) // MOST_POINTS))]


def _values(X: Any, features: Sequence[str] | None, n: int) -> tuple[list[Any], np.ndarray]:
    """The names of the features that are drawn, and their values (n, d)."""
    if X is None:
        return [], np.empty((n, 0))
    columns = as_columns(X)
    if features is not None:
        names: list[Any] = list(features)
    elif columns is not None:
        names = names_of(columns)
    else:
        names = list(range(np.shape(X)[1] if np.ndim(X) > 1 else 1))
    if len(names) > MOST_FEATURES:
        raise InvalidArgument(
            "X", f"has {len(names)} features; a figure shows at most {MOST_FEATURES}: name them, features=[...]"
        )
    values = np.asarray(as_events(X, len(names), names))
    if len(values) != n:
        raise InvalidArgument("X", f"has {len(values)} events for {n} verdicts; give the events that were judged")
    return names, values
