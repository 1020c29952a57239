"""What each part of the joint detector is worth: left out, or changed, on the tabular sets and the cases.

    uv run --group dev python -m benchmarks.ablate_joint [--quick] [--only VARIANT ...] [--data DIR]

One JSON line a variant, the model as it is first: mean AUC and AP over the sets, the least and the largest only-normal
share flagged, the shares flagged of real bursts, of the rank-3 anomalies, of far values beside a binary feature, of a
flood and after it, AUC under drift, and events a second at 20 features. A part that is left out sees nothing.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import bench_cases
from benchmarks.bench_engine import engine_rate
from benchmarks.bench_tabular import SETS, of_model, stored
from benchmarks.workloads import emit, events
from onlineguard import JointDetector
from onlineguard.models.joint.regularity import Regular

ROOM = "onlineguard.models.joint"
Change = dict[tuple[str, str], Any]  # (module, name) to what stands there instead


def _same(state: Any, *_: Any) -> Any:
    return state


def _identity(_: Any, y: Any) -> Any:
    return y


def _no_distance(_: Any, y: Any, *__: Any) -> Any:
    return (y @ y * y.shape[-1]) ** 0.5


def _of_squares(rows: Any, y: Any, *_: Any) -> Any:
    return (((rows - y[None]) ** 2).sum(1) * y.shape[-1]) ** 0.5


def _not_constant(modes: Any) -> Any:
    return modes.share > 2.0


def _not_drawn(state: Any, u: Any, *_: Any) -> Any:
    return state, u[0] > np.inf


def _never_regular(state: Any, y: Any) -> Any:
    none = 0.0 * y[0]
    return Regular(none + state.median, none + 1.0, none > 0.0)


VARIANTS: dict[str, Change] = {
    "as it is": {},
    "Mahalanobis distance alone": {("detector", "sparsity"): lambda sample, y, *_: 0.0 * y[0] + 1.0},
    "neighbours alone": {("detector", "transformed"): lambda covariance, y: 0.0 * y},
    "root mean square in place of Mahalanobis": {
        ("detector", "transformed"): _identity,
        ("detector", "learned_covariance"): _same,
    },
    "root mean square in place of neighbours": {
        ("detector", "sparsity"): _no_distance,
        ("detector", "learned_sample"): _same,
    },
    "no modes": {("detector", "mostly_constant"): _not_constant, ("detector", "learned_modes"): _same},
    "no regularity": {("detector", "regular"): _never_regular},
    "no pull": {("detector", "drawn"): _not_drawn},
    "no valley": {("threshold", "BEYOND"): (2.0, 2.0)},
    "no pull of the histogram": {("threshold", "PULL"): (0.0, 0.0)},
    "slow memory always fast": {("detector", "pace"): lambda memories, patience: patience ** (-2 / 3)},
    "slow memory always slow": {("detector", "pace"): lambda memories, patience: 1.0 / patience},
    "neighbours by squared differences": {("neighbours", "distances"): _of_squares},
    "sample of 16": {("neighbours", "SAMPLE"): 16, ("neighbours", "GROUPS"): 1},
    "sample of 32": {("neighbours", "SAMPLE"): 32, ("neighbours", "GROUPS"): 2},
    "sample of 128": {("neighbours", "SAMPLE"): 128},
    "one group": {("neighbours", "GROUPS"): 1},
    "two groups": {("neighbours", "GROUPS"): 2},
    "ridge x 4": {("covariance", "RIDGE"): 0.08},
    "ridge / 4": {("covariance", "RIDGE"): 0.005},
    "clip of the covariance 1.5": {("covariance", "CLIP"): 1.5},
    "clip of the covariance 5": {("covariance", "CLIP"): 5.0},
    "far residuals from 3": {("detector", "FAR"): 3.0},
    "far residuals from 10": {("detector", "FAR"): 10.0},
    "mostly constant from .7": {("mostly_constant", "MOSTLY"): 0.7},
    "valley half as deep": {("threshold", "DEPTH"): 0.5},
    "valley twice as deep": {("threshold", "DEPTH"): 0.18},
}


@contextmanager
def changed(change: Change) -> Generator[None]:
    """The model with some names of its modules standing for something else; every program is compiled afresh."""
    modules = [(importlib.import_module(f"{ROOM}.{module}"), name) for module, name in change]
    before = [getattr(module, name) for module, name in modules]
    for (module, name), value in zip(modules, change.values(), strict=True):
        setattr(module, name, value)
    jax.clear_caches()
    try:
        yield
    finally:
        for (module, name), value in zip(modules, before, strict=True):
            setattr(module, name, value)
        jax.clear_caches()


def figures(data: Path, quick: bool) -> dict[str, float]:
    """All figures of the model as it now is."""
    judged = bench_cases.judge(JointDetector)
    found: dict[str, float] = {}
    sets: list[dict[str, float]] = []
    bursts: list[float] = []
    for name in ("vowels",) if quick else SETS:
        x, labels = stored(data, name)
        for seed in range(1 if quick else 2):
            order = np.random.default_rng(seed).permutation(len(x))
            sets.append(of_model(JointDetector, x[order], labels[order]))
        bursts.append(bench_cases.real_burst(judged, 0, x, labels)["during"])
    found["auc"], found["ap"] = (float(np.mean([s[key] for s in sets])) for key in ("auc", "ap"))
    found["least_normal"] = min(s["only_normal"] for s in sets)
    found["most_normal"] = max(s["only_normal"] for s in sets)
    found["real_bursts"] = float(np.mean(bursts))
    found["rank_3"] = bench_cases.low_rank(judged, 0, False)["recall"]
    if not quick:
        found["binary"] = bench_cases.with_binary(judged, 0, 0.1)["recall"]
        flood = bench_cases.flooded(judged, 0, 5, 0.5, 0.05, "flood")
        found["flood"], found["after_flood"] = flood["during"], flood["after"]
        found["drift"] = bench_cases.drifting(judged, 0, "sine of 5,000")["auc"]
    slices, X = events(8_192 if quick else 65_536, 20, 1_000, 1.1)
    found["events_per_s"] = engine_rate(slices, X, 65_536, 3, JointDetector())["fastest"]
    return {key: float(f"{value:.4g}") for key, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one set, the first variant: to see that it works")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="these variants only")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("ONLINEGUARD_DATA"), help="folder of real data [ONLINEGUARD_DATA]"
    )
    options = parser.parse_args()
    if options.data is None or not (options.data / "tabular").is_dir():
        print(f"no folder tabular in {options.data}: name the folder that holds it with --data or ONLINEGUARD_DATA")
        sys.exit(0 if options.quick else 2)
    names: list[str] = options.only or (["as it is"] if options.quick else list(VARIANTS))
    for name in names:
        with changed(VARIANTS[name]):
            emit(bench="ablate_joint", variant=name, **figures(options.data, options.quick))


if __name__ == "__main__":
    main()
