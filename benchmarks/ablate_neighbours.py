"""What each constant of `Neighbours` and of its river detector is worth: changed one by one, all else as it is.

    uv run --group dev python -m benchmarks.ablate_neighbours [--quick] [--data DIR]

One JSON line a change and a field:

    digits    MNIST whose normal digit switches, as in `experiments/mnist_drift` but with other seeds, compared by
              direction: AUC of settled images and of the first 300 after a switch, and the share of the anomalies that
              the best threshold of each segment misses at 1 % of false alarms
    words     counts of 200 words in documents of four topics; the anomalies are of others; by direction
    tabular   the labelled tabular sets, standardised

Without MNIST the digits are small ones. `benchmarks/README.md` has the table.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_tabular import SETS, ranked
from benchmarks.workloads import emit
from experiments.mnist_drift import measures, run, streams
from experiments.mnist_drift.data import load
from onlineguard import Neighbours, Standardised
from onlineguard.engine.schedules import scan
from onlineguard.estimators.neighbours import FARTHEST

SEEDS = (100, 101)  # none of the experiment's own
WARM_UP = 300
MOST = 4_000  # events of a tabular set
DIRECTIONS: dict[str, dict[str, float]] = {
    "as it is": {},
    "common 0": {"common": 0.0},
    "common .35": {"common": 0.35},
    "common .7": {"common": 0.7},
    "doubt 1": {"doubt": 1.0},
    "doubt 1.2": {"doubt": 1.2},
    "doubt 2": {"doubt": 2.0},
    "heard .8": {"heard": 0.8},
    "heard .95": {"heard": 0.95},
}
DISTANCES: dict[str, dict[str, float]] = {
    name: fields for name, fields in DIRECTIONS.items() if "common" not in fields
} | {f"farthest {scales:g}": {"farthest": scales} for scales in (2.5, 5.0, 20.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short streams, to see that it works")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("ONLINEGUARD_DATA"), help="folder of real data [ONLINEGUARD_DATA]"
    )
    options = parser.parse_args()
    streams = list(digits(options.data, options.quick))
    documents = [words(np.random.default_rng(seed), 500 if options.quick else 4_000) for seed in SEEDS]
    for change, fields in list(DIRECTIONS.items())[: 2 if options.quick else None]:
        found = [of_digits(fields, stream) for stream in streams]
        report(change, "digits", found)
        report(change, "words", [after_warm_up(scores(model(x, True, **fields), x), y) for x, y in documents])
    sets = list(tabular(options.data, options.quick))
    for change, fields in list(DISTANCES.items())[: 2 if options.quick else None]:
        if sets:
            report(change, "tabular", [after_warm_up(scores(model(x, False, **fields), x), y) for x, y in sets])


def report(change: str, field: str, found: list[dict[str, float]]) -> None:
    mean = {figure: round(float(np.mean([one[figure] for one in found])), 4) for figure in found[0]}
    emit(bench="neighbours", change=change, field=field, **mean)


def model(x: np.ndarray, direction: bool, farthest: float = FARTHEST, **fields: Any) -> Any:
    """The model of events like these, as `NeighboursDetector` makes it."""
    inner: Any = Neighbours(x.shape[1], direction=direction, **fields)
    return inner if direction else Standardised(inner, x.shape[1], farthest)


def scores(estimator: Any, x: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.asarray(scan(estimator, estimator.init(), x.astype(np.float32))[1], np.float64))


def after_warm_up(found: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return ranked(found[WARM_UP:], labels[WARM_UP:])


def of_digits(fields: dict[str, float], stream: streams.Stream) -> dict[str, float]:
    found = scores(model(stream.pixels, True, **fields), stream.pixels)
    measured = measures.measured(found, stream)
    return {
        "settled": measured["auroc settled"],
        "after switch": measured["auroc after switch"],
        "missed": measures.best_misses(found, stream)["misses of the best threshold at 0.01"],
    }


def digits(data: Path | None, quick: bool) -> Iterator[streams.Stream]:
    """The experiment's streams on other seeds."""
    folder = None if quick or data is None else data / "mnist"
    small = folder is None
    images = load(folder, small)
    for seed in SEEDS[: 1 if quick else None]:
        lengths = run.QUICK_LONG if small else np.random.default_rng(seed).permutation(run.LONG).tolist()
        yield streams.draw(images, seed, lengths, *run.USUAL)


def words(rng: np.random.Generator, n: int, width: int = 200, topics: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Counts of words that all documents share, and of one topic each."""
    laws, common = rng.dirichlet(np.full(width, 0.05), topics), rng.dirichlet(np.full(width, 0.3))
    odd = rng.random(n) < 0.05
    topic = np.where(odd, rng.integers(4, topics, n), rng.integers(0, 4, n))
    part = rng.uniform(0.3, 0.7, (n, 1))
    return rng.poisson(rng.lognormal(4.0, 0.7, (n, 1)) * (part * laws[topic] + (1.0 - part) * common)), odd


def tabular(data: Path | None, quick: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The labelled sets, shuffled; none without data."""
    for name in ["vowels"] if quick else SETS:
        if data is None or not (path := data / "tabular" / f"{name}.npz").is_file():
            continue
        with np.load(path) as file:
            order = np.random.default_rng(0).permutation(len(file["X"]))[:MOST]
            yield file["X"][order].astype(np.float64), file["y"][order] == 1


if __name__ == "__main__":
    main()
