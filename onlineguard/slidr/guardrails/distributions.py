"""Guardrails on features: that none is missing, none stopped varying, and none drifted from the last promoted training.

**Stopped.** The data are cut into quarters of a day. A feature that is the same in all clicks of a quarter, and varies
in most others, has stopped: a counter that was lost, or a column that is no longer filled. One that never varied is no
fault, since the model takes no notice of it, unless it varied when the live model was trained. Hours and days of the
week are left out, here and below: they are the calendar's. What is looked up has stopped where all of it rests, since
few clicks may come from hosting networks; and that it has not begun yet is no fault.

**Drift** is the population stability index over the ten bins that the deciles of the live model's training clicks make,

    PSI = sum_b (a_b - e_b) ln(a_b / e_b)

with the shares e_b then and a_b now.

Source: the index is credit scoring's, with the usual rule that above .25 a population is another one; see Siddiqi,
"Credit risk scorecards", 2006.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from onlineguard.records.versions import FeaturePromise
from onlineguard.slidr.features import CALENDAR, LOOKED_UP, NAMES
from onlineguard.slidr.guardrails.checks import Check, Finding
from onlineguard.slidr.guardrails.data import Data

BINS = 10
SAMPLE = 200_000  # clicks that distributions are taken from: the shares of ten bins are then good to .1 %
FLOOR = 1e-4  # of a share in the index, which an empty bin would make infinite
QUARTER = 6  # hours
ENOUGH = 100  # clicks of a quarter; with fewer a rare feature may rest by chance


def features(data: Data, limits: Mapping[str, float]) -> Finding:
    """Features that are missing, or stopped varying."""
    quarter = data.hour // QUARTER
    still: list[np.ndarray] = []
    finite = np.ones(len(NAMES), bool)
    for at in range(int(quarter.max(initial=0)) + 1):  # a quarter at a time, for its memory
        part = data.X[np.flatnonzero(data.timely & (quarter == at))]
        finite &= np.isfinite(part).all(0)
        if len(part) >= ENOUGH:
            still.append(part.min(0) == part.max(0))
    if not finite.all():
        lost = [NAMES[at] for at in np.flatnonzero(~finite)]
        return Finding(False, f"{', '.join(lost[:5])} are not finite in some clicks", {"missing": len(lost)})
    if len(still) < 3:
        return Finding(None, "too few quarters of a day have clicks", {"missing": 0})
    resting = np.array(still)
    counted = ~np.isin(NAMES, CALENDAR)
    looked_up = np.isin(NAMES, LOOKED_UP)
    lost = resting.copy()
    lost[:, looked_up] = resting[:, looked_up].all(1, keepdims=True)
    lost[:, looked_up] &= ~np.logical_and.accumulate(lost[:, looked_up], 0)
    stopped = lost.any(0) & (lost.mean(0) <= limits["share"]) & counted
    if data.promised is not None:
        varied = [bool(data.promised.features[name].edges) for name in NAMES if name in data.promised.features]
        if len(varied) == len(NAMES):
            stopped |= resting.all(0) & np.array(varied)
    names = [NAMES[at] for at in np.flatnonzero(stopped)]
    figures = {"missing": 0, "stopped": len(names)}
    if names:
        return Finding(False, f"{', '.join(names[:5])} did not vary for a quarter of a day or longer", figures)
    return Finding(True, "every feature is there, and varies as it did", figures)


def drift(data: Data, limits: Mapping[str, float]) -> Finding:
    """How far the features are from those that the live model was trained on."""
    if data.promised is None:
        return Finding(None, "no model is live yet")
    now = sampled(data.X, data.timely)
    indices = {
        name: stability(promise, now[:, NAMES.index(name)])
        for name, promise in data.promised.features.items()
        if name in NAMES and name not in CALENDAR
    }
    largest = max(indices, key=lambda name: indices[name])
    figures = {"psi": indices[largest]}
    share = float(data.human[data.timely].mean())
    if data.promised.human_share > 0:
        figures["human_share"] = share / data.promised.human_share
    return Finding(
        indices[largest] <= limits["psi"],
        f"{largest} has drifted most since the live model was trained, by a stability index of {indices[largest]:.3f}",
        figures,
    )


CHECKS = (
    Check(
        "features",
        "data",
        "a feature that is lost is a constant, and the model of it is wrong as soon as it comes back",
        features,
        {"share": 0.5},  # of the quarters of a day; what rests longer is as it is, see the module
    ),
    Check(
        "drift",
        "data",
        "a population that is another one needs a look before a model of it decides",
        drift,
        {"psi": 0.25},  # from one simulated week to the next it is .07 to .11
    ),
)


def promise_of(X: Float[np.ndarray, "n features"]) -> dict[str, FeaturePromise]:
    """The distribution of every feature."""
    promises: dict[str, FeaturePromise] = {}
    for at, name in enumerate(NAMES):
        column = X[:, at].astype(np.float64)
        edges = np.unique(np.quantile(column, np.arange(1, BINS) / BINS))
        edges = edges[edges < column.max(initial=-np.inf)]  # a feature that never varied has none
        promises[name] = FeaturePromise(edges.tolist(), _shares(edges, column).tolist())
    return promises


def stability(promise: FeaturePromise, column: Float[np.ndarray, " n"]) -> float:
    """The population stability index of a feature."""
    then = np.maximum(promise.shares, FLOOR)
    now = np.maximum(_shares(np.array(promise.edges), column), FLOOR)
    return float(((now - then) * np.log(now / then)).sum())


def sampled(X: Float[np.ndarray, "n features"], rows: np.ndarray) -> Float[np.ndarray, "m features"]:
    """At most `SAMPLE` of these rows, evenly taken."""
    at = np.flatnonzero(rows)
    return X[at[:: max(1, len(at) // SAMPLE)]]


def _shares(edges: np.ndarray, column: np.ndarray) -> Float[np.ndarray, " bins"]:
    """The share of a column in each bin; a bin holds its upper edge."""
    counts = np.bincount(np.searchsorted(edges, column, side="left"), minlength=len(edges) + 1)
    return counts / max(1, len(column))
