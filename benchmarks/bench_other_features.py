"""False alarms after a feature comes to slices that have learned, or goes from them.

    uv run --group dev python -m benchmarks.bench_other_features [--quick]

Streams of four features that depend on each other, normal, lognormal or counts, have no anomaly in them, so whatever is
flagged is a false alarm; the target is 1 %. One JSON line for each model, stream and way:

- `had all`: the four features all along.
- `one came`: the fourth comes after 2,000 events of a slice, by `Engine.with_features`.
- `one went`: the fourth goes then.
- `begun anew`: a new engine with four features, which is what it saves.

The line `as old` is `one came` with slices, and quantiles of the score, that count as old as they were; `new quantiles`
is the same with quantiles from their start. Shares are of the events that come then, by how many of the slice came
before; `worst` is the largest share of one slice in the first 1,000.
"""

import argparse
import copy
import itertools
from typing import Any

import jax
import numpy as np

from benchmarks.workloads import emit
from onlineguard import Detector, Engine, JointDetector
from onlineguard.engine.parts import FRESH

NAMES = ["a", "b", "c", "d"]
MIXING = np.array([[1.0, 0.6, 0.0, 0.5], [0.0, 0.8, 0.0, 0.0], [0.0, 0.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.7]])
BEFORE = 2_000  # events of a slice
EDGES = (0, 100, 300, 1_000, 3_000, 6_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few slices, to see that it works")
    slices = 5 if parser.parse_args().quick else 100
    for model in (Detector(), JointDetector()):
        for law in ("normal", "lognormal", "counts"):
            for way, engine, x in ways(model, stream(law, slices), slices):
                keys = np.tile(np.arange(slices), EDGES[-1])
                odd = engine.update(keys, x).anomalous.reshape(EDGES[-1], slices)
                shares = {
                    f"{start}-{end}": round(100.0 * float(odd[start:end].mean()), 2)
                    for start, end in itertools.pairwise(EDGES)
                }
                worst = round(100.0 * float(odd[:1_000].mean(axis=0).max()), 1)
                name = type(model).__name__
                emit(bench="other_features", model=name, stream=law, way=way, percent=shares, worst=worst)


def stream(law: str, slices: int) -> np.ndarray:
    """Events (n, 4), one of each slice in turn."""
    rng = np.random.default_rng(1)
    normal = rng.standard_normal(((BEFORE + EDGES[-1]) * slices, 4)) @ MIXING
    if law == "normal":
        return normal * [1.0, 10.0, 0.1, 5.0] + [0.0, 100.0, 5.0, 50.0]
    return np.exp(normal) if law == "lognormal" else rng.poisson(np.exp(normal / 2.0 + 1.0)).astype(np.float64)


def ways(model: Any, x: np.ndarray, slices: int) -> list[tuple[str, Engine, np.ndarray]]:
    """Each way, its engine after the first events, and the events to come."""
    n = BEFORE * slices
    before, later, keys = x[:n], x[n:], np.tile(np.arange(slices), BEFORE)
    four, three = (Engine(features=NAMES[:d], estimator=model) for d in (4, 3))
    four.update(keys, before)
    three.update(keys, before[:, :3])
    came = three.with_features(NAMES)
    return [
        ("had all", copy.copy(four), later),
        ("one came", came, later),
        ("one went", four.with_features(NAMES[:3]), later[:, :3]),
        ("begun anew", Engine(features=NAMES, estimator=model), later),
        ("as old", with_other_start(came, three), later),
        ("new quantiles", with_other_start(came, None), later),
    ]


def with_other_start(engine: Engine, old: Engine | None) -> Engine:
    """A copy whose slices and quantiles are as old as those of another engine, or whose quantiles begin anew."""
    config, tensors = engine.dump()
    rows = np.concatenate([[FRESH], tensors["rows"]])
    states = engine.layout.unpack(tensors["table"][rows].view(np.float32))
    if old is not None:
        before = old.layout.unpack(old.dump()[1]["table"][rows].view(np.float32))
        states = states._replace(age=before.age, seen=before.seen)
    else:
        blank = jax.tree.map(lambda leaf: np.repeat(leaf[None], len(rows), 0), engine.model.init(engine.n_features))
        names = ("scores",) if hasattr(states, "scores") else ("median", "fifth", "twentieth", "threshold")
        states = states._replace(age=blank.age, **{name: getattr(blank, name) for name in names})
    tensors["table"][rows] = np.asarray(engine.layout.pack(states)).view(np.int32)
    return Engine.restored(config, engine.model, tensors)


if __name__ == "__main__":
    main()
