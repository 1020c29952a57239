"""Online regressions beside river's scaler and regression, on every stream that river ships and on synthetic ones.

    uv run --group dev python -m benchmarks.bench_regression [--quick]

The first lines say how long a prediction and learning take, one event at a time, in river's manner on both sides.

Then one JSON line a stream, a corruption and a figure: every event is predicted before it is learned. Classification
has AUC, log loss and accuracy, regression the mean absolute error and R^2, of the events that are not corrupted.
`targets` flips a tenth of the labels, or makes a tenth of the targets absurd; `features` makes half of the features of
5 % of the events absurd.
"""

import argparse
import datetime
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from river import datasets, linear_model, preprocessing
from sklearn.metrics import roc_auc_score

from benchmarks.workloads import emit
from onlineguard import linear_regression, logistic_regression
from onlineguard.core.pytree import pytree
from onlineguard.engine.schedules import scan
from onlineguard.estimators import ClippedLinearRegression, ClippedLogisticRegression

CORRUPTIONS = ("none", "targets", "features")
SHUTTLE = 20_000  # events of the longest stream
Stream = tuple[str, bool, np.ndarray, np.ndarray]  # name, whether of classes, features, targets


@pytree
class Predicting:
    """A regression whose score of an event is its prediction."""

    model: Any

    def step(self, state: Any, event: Any) -> tuple[Any, Any]:
        return self.model.step(state, event)[0], self.model.predict(state, event[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two short streams, to see that it works")
    quick = parser.parse_args().quick
    for classes in (True, False):
        medians = one_event(classes, 500 if quick else 5_000)
        emit(bench="regression", one_event="logistic" if classes else "linear", figure="us", **medians)
    for name, classes, x, y in streams(quick):
        for corruption in CORRUPTIONS[:2] if quick else CORRUPTIONS:
            given, told, whole = corrupted(x, y, classes, corruption)
            figures = {
                "onlineguard": measured(ours(given, told, classes)[whole], y[whole], classes),
                "river": measured(rivers(given, told, classes)[whole], y[whole], classes),
            }
            for figure in figures["river"]:
                both = {peer: round(found[figure], 4) for peer, found in figures.items()}
                emit(bench="regression", stream=name, corrupted=corruption, figure=figure, **both)


def one_event(classes: bool, n: int) -> dict[str, float]:
    """Median microseconds of a prediction and learning, the models in turns; after the first fifth of the events."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6))
    y = x.sum(1) + rng.normal(size=n)
    own = ClippedLogisticRegression() if classes else ClippedLinearRegression()
    peer = linear_model.LogisticRegression() if classes else linear_model.LinearRegression()
    models: dict[str, Any] = {"onlineguard": own, "river": preprocessing.StandardScaler() | peer}
    times: dict[str, list[int]] = {name: [] for name in models}
    for row, target in zip(x.tolist(), (y > 0.0).tolist() if classes else y.tolist(), strict=True):
        event = dict(enumerate(row))
        for name, model in models.items():
            begin = time.perf_counter_ns()
            model.predict_one(event)
            model.learn_one(event, target)
            times[name].append(time.perf_counter_ns() - begin)
    return {name: round(float(np.median(taken[n // 5 :])) / 1e3, 1) for name, taken in times.items()}


def streams(quick: bool) -> Iterator[Stream]:
    """The streams that river ships, then synthetic ones."""
    yield "Phishing", True, *arrays(datasets.Phishing())
    yield "AirlinePassengers", False, *arrays(datasets.AirlinePassengers(), monthly)
    if quick:
        return
    yield "Bananas", True, *arrays(datasets.Bananas())
    x, y = arrays(datasets.ImageSegments())
    for label in sorted(set(y.tolist())):
        yield f"ImageSegments, {label}", True, x, y == label
    x, y = arrays(datasets.Shuttle())
    yield "Shuttle", True, x[:SHUTTLE], y[:SHUTTLE]
    yield "TrumpApproval", False, *arrays(datasets.TrumpApproval())
    yield "ChickWeights", False, *arrays(datasets.ChickWeights())
    yield "WaterFlow", False, *arrays(datasets.WaterFlow(), hourly)
    x, y = arrays(datasets.SP500Stocks())
    yield "SP500Stocks", False, x, y
    rng = np.random.default_rng(5)
    for share in (0.01, 0.05, 0.3):
        yield f"mostly-zero counts, {share:g} frauds", True, *zeros(rng, 10_000, share)
    x = rng.normal(size=(10_000, 6))
    turn = np.arange(10_000) / 1_500
    logit = 3.0 * (x[:, 0] * np.cos(turn) + x[:, 1] * np.sin(turn))
    yield "classes, drifting", True, x, rng.random(10_000) < 1 / (1 + np.exp(-logit))
    yield "heavy-tailed noise", False, x, 50.0 + x @ np.arange(6.0) + rng.standard_t(2.5, 10_000)


def zeros(rng: np.random.Generator, n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Twelve counts that are mostly zero, else lognormal; five are more often above zero for a fraud."""
    y = rng.random(n) < share
    above = rng.uniform(0.02, 0.15, 12) * np.where(y[:, None] & (np.arange(12) < 5), 4.0, 1.0)
    return (rng.random((n, 12)) < above) * np.ceil(rng.lognormal(0.5, 2.0, (n, 12))), y


def arrays(stream: Any, encode: Callable[[Any], Any] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) in the order of their names, and targets; a date is its day."""
    pairs = [(encode(x) if encode else x, y) for x, y in stream]
    names = sorted(pairs[0][0])
    x = np.array([[number(event[name]) for name in names] for event, _ in pairs], np.float64)
    targets = [next(iter(y.values())) if isinstance(y, dict) else y for _, y in pairs]
    return x[:, np.isfinite(x).all(0)], np.array(targets)


def number(value: Any) -> float:
    if isinstance(value, datetime.date):
        return float(value.toordinal())
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def monthly(x: dict[str, Any]) -> dict[str, float]:
    month = next(iter(x.values()))
    return {"day": float(month.toordinal()), **{f"m{m:02}": float(month.month == m) for m in range(1, 12)}}


def hourly(x: dict[str, Any]) -> dict[str, float]:
    time = next(iter(x.values()))
    angle = 2 * np.pi * time.hour / 24
    return {"sin": float(np.sin(angle)), "cos": float(np.cos(angle)), "weekday": float(time.weekday())}


def corrupted(x: np.ndarray, y: np.ndarray, classes: bool, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features and targets as the models are told them, and which events are whole."""
    rng, y = np.random.default_rng(0), np.asarray(y, np.float64)
    if what == "targets":
        hit = rng.random(len(y)) < 0.1
        absurd = 1.0 - y if classes else rng.choice([-1e3, 1e3], len(y)) * (abs(y).max() + 1.0)
        return x, np.where(hit, absurd, y), ~hit
    if what == "features":
        hit = rng.random(len(y)) < 0.05
        absurd = 1e6 * (abs(x).max(0) + 1.0) * rng.choice([-1.0, 1.0], x.shape)
        return np.where(hit[:, None] & (rng.random(x.shape) < 0.5), absurd, x), y, ~hit
    return x, y, np.ones(len(y), bool)


def ours(x: np.ndarray, y: np.ndarray, classes: bool) -> np.ndarray:
    """Predictions before each event is learned."""
    model = (logistic_regression if classes else linear_regression)(x.shape[1])
    return np.asarray(scan(Predicting(model), model.init(), (x.astype(np.float32), y.astype(np.float32)))[1])


def rivers(x: np.ndarray, y: np.ndarray, classes: bool) -> np.ndarray:
    """The same of river's pipeline; NaN where it overflows."""
    regression = linear_model.LogisticRegression() if classes else linear_model.LinearRegression()
    model = preprocessing.StandardScaler() | regression
    found = np.full(len(y), np.nan)
    for i, (row, target) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        event = dict(enumerate(row))
        try:
            found[i] = model.predict_proba_one(event).get(True, 0.0) if classes else model.predict_one(event)
            model.learn_one(event, bool(target) if classes else target)
        except (OverflowError, ValueError):
            continue
    return found


def measured(found: np.ndarray, y: np.ndarray, classes: bool) -> dict[str, float]:
    """What is emitted of a stream."""
    y = np.asarray(y, np.float64)
    if classes:
        p = np.nan_to_num(found, nan=0.5)
        sure = np.clip(p, 1e-6, 1 - 1e-6)
        loss = -(y * np.log(sure) + (1 - y) * np.log(1 - sure)).mean()
        right = ((p > 0.5) == (y > 0.5)).mean()
        return {"auc": float(roc_auc_score(y, p)), "log loss": float(loss), "accuracy": float(right)}
    error = np.clip(np.nan_to_num(found), -1e12, 1e12) - y
    return {"mae": float(abs(error).mean()), "r2": float(1 - (error**2).mean() / y.var())}


if __name__ == "__main__":
    main()
