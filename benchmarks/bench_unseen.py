"""What the defaults are worth on streams that none of them was chosen on: one line a stream.

    uv run --group dev python -m benchmarks.bench_unseen [--quick] [--only NAME ...] [--peers]

Points, by the default model at a target of 1 %, the mean of three seeds of 20,000 events:

    only_normal   share flagged of a stream without anomalies, once the slice is ready,
    worst         the largest of the seeds,
    start, late   and the shares in the events 100 to 1,000, and in the second half
    recall        share flagged of anomalies that are .5 % of the events from the 1,000th on,
    false         share flagged of the others beside them,
    auc           score of the anomalies against that of the others; `z`: of a running z-score, the largest of a feature
    of_20         recall where anomalies are one event in twenty

With `--peers` also the AUC of river's HalfSpaceTrees and of an IsolationForest that has seen all, of the first seed.

Bursts: the share flagged of each of four bursts of 2,000 events. Series: alarms in 10,000 events of the first feature
of a stream, and the share of its anomalies, 800 events apart, that raise one; one value each, by `Series` as it is.

Slices: 60 slices of 300 events, one after the other in one engine, each in units of its own. The share flagged from the
100th event on, and recall of one anomaly in 100; by the default and by `Detector`.

Regressions: a target that is a line of four features of some law, with a noise of a tenth of the line's deviation.
Anomalies, one in 200, lie six deviations of the noise off it. Share flagged, recall, and AP, by `linear_regression`.
"""

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.bench_cases import some
from benchmarks.bench_tabular import average_precision
from benchmarks.peers import ONLINE, isolation_forest, running_z
from benchmarks.streams import WARM_UP, roc_auc
from benchmarks.unseen_streams import POINTS, REGRESSIONS, SERIES, SLICES
from benchmarks.workloads import emit
from onlineguard import Detector, Engine, JointDetector, Series, linear_regression

LENGTH = 20_000
BURST = 2_000
APART = 800  # events between the anomalies of a series
SHORT = 300  # events of a slice among many
MODELS = {"JointDetector": JointDetector, "Detector": Detector}
Figures = dict[str, float]


def judged(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and flags of a stream (n, d) in a slice of a new engine; what is not ready scores 0."""
    verdicts = Engine(x.shape[1]).update(np.zeros(len(x), int), x)
    return np.where(verdicts.ready, verdicts.score, 0.0), verdicts.anomalous


def points(name: str, seed: int, n: int, peers: bool) -> Figures:
    """The figures of one stream."""
    rng = np.random.default_rng((seed, [*POINTS].index(name), 77))
    usual, strange = POINTS[name](rng, n)
    _, flagged = judged(usual)
    odd, many = some(rng, n, 0.005), some(rng, n, 0.05)
    x = np.where(odd[:, None], strange, usual)
    scores, found = judged(x)
    whole = np.nan_to_num(x)  # peers know no missing values
    figures = {
        "only_normal": float(flagged[WARM_UP:].mean()),
        "worst": float(flagged[WARM_UP:].mean()),
        "start": float(flagged[WARM_UP:1_000].mean()),
        "late": float(flagged[n // 2 :].mean()),
        "recall": float(found[odd].mean()),
        "false": float(found[1_000:][~odd[1_000:]].mean()),
        "auc": roc_auc(scores, odd),
        "z": roc_auc(np.nan_to_num(running_z(whole, lambda z: float(z.max()))), odd),
        "of_20": float(judged(np.where(many[:, None], strange, usual))[1][many].mean()),
    }
    if peers:
        figures["half_space_trees"] = roc_auc(ONLINE["river HalfSpaceTrees"](whole), odd)
        figures["isolation_forest"] = roc_auc(isolation_forest(whole), odd)
    return figures


BURSTS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "alike, among the usual": lambda rng: 0.5 + 0.05 * rng.standard_normal((BURST, 5)),
    "one event, repeated": lambda rng: np.tile(rng.standard_normal(5), (BURST, 1)),
    "far, and as wide as usual": lambda rng: 4.0 + rng.standard_normal((BURST, 5)),
}


def bursts(name: str, apart: int) -> Figures:
    """Four bursts of one kind among five normal features."""
    rng = np.random.default_rng(0)
    starts = 10_000 + apart * np.arange(4)
    x = rng.standard_normal((starts[-1] + apart, 5))
    for start in starts:
        x[start : start + BURST] = BURSTS[name](rng)
    _, flagged = judged(x)
    parts = {f"burst_{i}": float(flagged[start : start + BURST].mean()) for i, start in enumerate(starts, 1)}
    return {**parts, "before": float(flagged[WARM_UP : starts[0]].mean())}


def series(name: str, seed: int, n: int) -> Figures:
    """Alarms in a series and at its anomalies; the value before an anomaly is a usual one."""
    rng = np.random.default_rng((seed, [*SERIES].index(name), 78))
    usual, strange = (part[:, :1] for part in SERIES[name](rng, n))
    places = np.arange(2 * APART, n - 1, APART)
    x = usual.copy()
    x[places] = strange[places]
    keys = np.repeat([0, 1], n)
    alarms = Engine(1, estimator=Series()).update(keys, np.concatenate([usual, x])).anomalous
    return {"alarms_in_10,000": 1e4 * float(alarms[:n].mean()), "found": float(alarms[n:][places].mean())}


def slices(name: str, model: str, seed: int, count: int) -> Figures:
    """Alarms and recall in slices that are new to an engine, and unlike those it knows."""
    rng = np.random.default_rng((seed, [*SLICES].index(name), 79))
    usual, strange = (np.concatenate(x) for x in zip(*(SLICES[name](rng, SHORT) for _ in range(count)), strict=True))
    keys, ripe = np.repeat(np.arange(count), SHORT), np.tile(np.arange(SHORT) >= WARM_UP, count)
    odd = ripe & (rng.random(len(keys)) < 0.01)
    x = np.where(odd[:, None], strange, usual)

    def flagged(keys: np.ndarray, x: np.ndarray) -> np.ndarray:
        return Engine(x.shape[1], estimator=MODELS[model]()).update(keys, x).anomalous

    found = flagged(keys, x)
    return {"only_normal": float(flagged(keys, usual)[ripe].mean()), "recall": float(found[odd].mean())}


def regressions(name: str, seed: int, n: int) -> Figures:
    """Alarms of a linear regression, and recall and AP of targets off the line."""
    rng = np.random.default_rng((seed, [*REGRESSIONS].index(name), 80))
    x = REGRESSIONS[name](rng, (n, 4))
    line = x / x.std(axis=0) @ [1.0, 2.0, -1.0, 0.5]
    noise = 0.1 * line.std()
    y = line + noise * rng.standard_normal(n)
    odd = some(rng, n, 0.005)
    strange = y + 6.0 * noise * odd * rng.choice([-1.0, 1.0], n)
    usual, found = (
        Engine(4, estimator=linear_regression(4)).update(np.zeros(n, int), x, target) for target in (y, strange)
    )
    return {
        "only_normal": float(usual.anomalous[WARM_UP:].mean()),
        "recall": float(found.anomalous[odd].mean()),
        "ap": float(average_precision(found.score[WARM_UP:], odd[WARM_UP:])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one stream of points, one series: to see that it works")
    parser.add_argument("--only", nargs="+", default=[""], help="streams whose name begins so")
    parser.add_argument("--peers", action="store_true", help="peers that take minutes, too")
    options = parser.parse_args()
    seeds, n = (1, 3_000) if options.quick else (3, LENGTH)
    chosen = ["on and off"] if options.quick else POINTS
    for name in (name for name in chosen if name.startswith(tuple(options.only))):
        runs = [points(name, seed, n, options.peers and seed == 0) for seed in range(seeds)]
        mean = {key: float(np.mean([run[key] for run in runs if key in run])) for key in runs[0]}
        worst = max(run["worst"] for run in runs)
        emit(bench="unseen", points=name, **{key: round(v, 4) for key, v in {**mean, "worst": worst}.items()})
    for name in (name for name in BURSTS if not options.quick and name.startswith(tuple(options.only))):
        for apart in (5_000, 10_000):
            emit(bench="unseen", bursts=name, apart=apart, **{k: round(v, 3) for k, v in bursts(name, apart).items()})
    chosen = ["weekly work hours"] if options.quick else SERIES
    for name in (name for name in chosen if name.startswith(tuple(options.only))):
        runs = [series(name, seed, n) for seed in range(seeds)]
        emit(bench="unseen", series=name, **{key: round(float(np.mean([r[key] for r in runs])), 2) for key in runs[0]})
    for name in (name for name in SLICES if not options.quick and name.startswith(tuple(options.only))):
        for model in MODELS:
            runs = [slices(name, model, seed, 60) for seed in range(seeds)]
            means = {key: round(float(np.mean([run[key] for run in runs])), 4) for key in runs[0]}
            emit(bench="unseen", slices=name, model=model, **means)
    for name in (name for name in REGRESSIONS if not options.quick and name.startswith(tuple(options.only))):
        runs = [regressions(name, seed, n) for seed in range(seeds)]
        means = {key: round(float(np.mean([run[key] for run in runs])), 4) for key in runs[0]}
        emit(bench="unseen", regression=name, **means)


if __name__ == "__main__":
    main()
