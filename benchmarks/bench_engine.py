"""Events a second of the engine, beside a dict of river models and a plain compiled loop doing the same job.

    uv run --group dev python -m benchmarks.bench_engine [--quick]

One JSON line a figure; both sides of every ratio are measured in the same run. Compilation is apart: everything is
warmed up first.
"""

import argparse
import itertools
import platform
import statistics
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from river import anomaly, preprocessing

from benchmarks.plain_loop import plain_loop, tables
from benchmarks.workloads import emit, events, rate
from onlineguard import Detector, Engine, JointDetector, SliceModel
from onlineguard.core.quantiles import LEVELS, rms_quantile
from onlineguard.engine.parts import cores as cores_here
from onlineguard.estimators import ClippedMean, DriftRobustDetector, MarginalDetector, SeriesDetector

PEERS: dict[str, Callable[[], Any]] = {
    "StandardScaler | QuantileFilter(OneClassSVM)": lambda: (
        preprocessing.StandardScaler() | anomaly.QuantileFilter(anomaly.OneClassSVM(), q=0.99)
    ),
    "OneClassSVM": anomaly.OneClassSVM,
    "HalfSpaceTrees": lambda: anomaly.HalfSpaceTrees(seed=0),
}


def engine_rate(
    slices: np.ndarray, X: np.ndarray, batch: int, repeats: int, model: SliceModel | None = None
) -> dict[str, float]:
    """Update and score in batches of the given size on one core, verdicts read; by default the marginal Detector's."""
    engine = Engine(X.shape[1], estimator=model or Detector(), cores=1)
    cuts = [slice(i, i + batch) for i in range(0, len(X), batch)]

    def run() -> None:
        for cut in cuts:
            _ = engine.update(slices[cut], X[cut]).anomalous

    run()
    run()
    return rate(run, len(X), repeats)


def river_rate(make: Callable[[], Any], slices: np.ndarray, X: np.ndarray, repeats: int) -> dict[str, float]:
    """A dict of models: score, then learn, one event at a time; the dicts of features are made beforehand."""
    keys = slices.tolist()
    dicts = [dict(enumerate(row)) for row in X.astype(float).tolist()]
    models: dict[int, Any] = defaultdict(make)

    def run() -> None:
        for key, x in zip(keys, dicts, strict=True):
            model = models[key]
            model.score_one(x)
            model.learn_one(x)

    run()
    return rate(run, len(X), repeats)


def plain_rate(slices: np.ndarray, X: np.ndarray, n_slices: int, repeats: int) -> dict[str, float]:
    """The same arithmetic in a plain loop that numba compiles, slice numbers being rows already."""
    compiled = numba.njit(plain_loop)
    quantiles = [rms_quantile(level, X.shape[1]) for level in (*LEVELS, 0.01)]
    state = tables(n_slices, X.shape[1], quantiles, np.float32)
    scores, thresholds = np.empty(len(X), np.float32), np.empty(len(X), np.float32)

    def run() -> None:
        compiled(slices, X, np.float32(0.01), np.float32(5_000.0), *state, scores, thresholds)

    run()
    return rate(run, len(X), repeats)


def table_of_rates(quick: bool) -> None:
    """The engine at every width, number of slices, law of slices and batch size."""
    widths, counts, batches = (
        ([20], [1_000], [4_096]) if quick else ([1, 20, 50], [1, 1_000, 100_000], [1, 64, 4_096, 65_536])
    )
    for d, n_slices, zipf, batch in itertools.product(widths, counts, [None, 1.1], batches):
        if n_slices == 1 and zipf:
            continue
        n = min(131_072, max(2_000, batch * 512)) if not quick else 8_192
        slices, X = events(n, d, n_slices, zipf)
        emit(
            figure="engine",
            features=d,
            slices=n_slices,
            law="uniform" if zipf is None else f"Zipf {zipf}",
            batch=batch,
            **engine_rate(slices, X, batch, 3 if quick else 5),
        )


def against_river(quick: bool) -> None:
    """d = 20, 1,000 slices by Zipf 1.1: the engine in batches of 65,536 against dicts of river models."""
    for d in (20,) if quick else (20, 50):
        slices, X = events(16_384 if quick else 262_144, d, 1_000, 1.1)
        models = {"Detector": Detector(), "JointDetector": JointDetector()}
        rates = {name: engine_rate(slices, X, 65_536, 5, model) for name, model in models.items()}
        for name, make in PEERS.items():
            n = {"HalfSpaceTrees": 300 if quick else 4_000}.get(name, 2_000 if quick else 40_000)
            theirs = river_rate(make, slices[:n], X[:n], 3)
            for model, ours in rates.items():
                emit(
                    figure="engine / dict of river models",
                    features=d,
                    slices=1_000,
                    model=model,
                    peer=name,
                    ratio=round(ours["events_per_s"] / theirs["events_per_s"], 1),
                    ours=ours,
                    peer_rate=theirs,
                )


def against_plain_loop(quick: bool) -> None:
    """The engine in batches of 65,536 against the compiled loop: what keys, padding, verdicts and XLA cost."""
    for d in (50,) if quick else (1, 20, 50):
        slices, X = events(16_384 if quick else 262_144, d, 1_000, 1.1)
        ours, theirs = engine_rate(slices, X, 65_536, 5), plain_rate(slices, X, 1_000, 5)
        ratio = round(ours["events_per_s"] / theirs["events_per_s"], 2)
        emit(figure="engine / compiled plain loop", features=d, slices=1_000, ratio=ratio, ours=ours, peer_rate=theirs)


def one_at_a_time(quick: bool) -> None:
    """The river-style shells at d = 10, one event at a time, against HalfSpaceTrees; runs interleaved, medians."""
    n = 500 if quick else 10_000
    dicts = [dict(enumerate(row)) for row in np.random.default_rng(0).random((n, 10)).tolist()]
    models: dict[str, Any] = {
        "HalfSpaceTrees": anomaly.HalfSpaceTrees(seed=0),
        "ClippedMean": ClippedMean(),
        "DriftRobustDetector": DriftRobustDetector(),
        "MarginalDetector": MarginalDetector(),
        "SeriesDetector": SeriesDetector(),
    }
    times: dict[str, list[float]] = defaultdict(list)
    for name, model in [*models.items()] * 6:
        together = getattr(model, "score_learn_one", None)
        start = time.perf_counter()
        for x in dicts:
            if together:
                together(x)
            else:
                model.score_one(x)
                model.learn_one(x)
        times[name].append(time.perf_counter() - start)
    rates = {name: n / statistics.median(taken[1:]) for name, taken in times.items()}  # the first compiles
    for name, ours in rates.items():
        ratio = round(ours / rates["HalfSpaceTrees"], 2)
        emit(
            figure="one event at a time / HalfSpaceTrees",
            features=10,
            model=name,
            ratio=ratio,
            events_per_s=round(ours),
        )


def all_cores(quick: bool) -> None:
    """Whole updates of 65,536 events at d = 20 on one core and on all, in turns; medians."""
    for law, zipf in (("uniform", None), ("Zipf 1.1", 1.1)):
        slices, X = events(16_384 if quick else 65_536, 20, 1_000, zipf)
        for model in (JointDetector(), Detector()):
            engines = {cores: Engine(20, estimator=model, cores=cores) for cores in (1, None)}
            times: dict[int | None, list[float]] = defaultdict(list)
            for cores, engine in [*engines.items()] * (4 if quick else 12):
                start = time.perf_counter()
                _ = engine.update(slices, X).anomalous
                times[cores].append(time.perf_counter() - start)
            one, every = (len(X) / statistics.median(times[cores][2:]) for cores in (1, None))  # the first compile
            emit(
                figure="all cores / one core",
                features=20,
                slices=1_000,
                law=law,
                model=type(model).__name__,
                cores=cores_here(),
                ratio=round(every / one, 2),
                one_core=round(one),
                all_cores=round(every),
            )


def memory(quick: bool) -> None:
    """Bytes a slice: a row of the table and what the key costs; for river, one HalfSpaceTrees and one pipeline."""
    for d in (1, 20, 50):
        n_slices = 2_000 if quick else 20_000
        tracemalloc.start()
        engine = Engine(d, estimator=Detector())
        engine.update(np.arange(n_slices), np.zeros((n_slices, d), np.float32))
        keys = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        row = 4 * engine.layout.length
        joint = 4 * Engine(d).layout.length
        peers = {}
        for name, make in PEERS.items():
            tracemalloc.start()
            model = make()
            for x in np.random.default_rng(0).standard_normal((10, d)).tolist():
                model.score_one(dict(enumerate(x)))
                model.learn_one(dict(enumerate(x)))
            peers[name] = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
        emit(
            figure="bytes a slice",
            features=d,
            row=row,
            joint_row=joint,
            bookkeeping=round(keys / n_slices),
            peers=peers,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    quick = parser.parse_args().quick
    emit(figure="machine", processor=platform.processor() or platform.machine(), python=platform.python_version())
    against_river(quick)
    against_plain_loop(quick)
    one_at_a_time(quick)
    all_cores(quick)
    memory(quick)
    table_of_rates(quick)


if __name__ == "__main__":
    main()
