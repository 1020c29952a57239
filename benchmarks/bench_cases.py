"""Cases that a detector of points must get right, each a synthetic stream from a seed, or bursts of real sets.

    uv run --group dev python -m benchmarks.bench_cases [--quick] [--data DIR]

One JSON line a case and model. What the figures say:

    auc           score of the anomalies against that of the others
    recall        share of the anomalies flagged
    false         share of the other events flagged, the target is 1 %
    during        share flagged of a flood or a burst of 2,000 events
    just_after    share flagged of the normal events in the 500 after it
    after         and in the 2,000 from then on

A flood is 2,000 nearly identical events among normal ones: `at` a point, with `spread` standard deviations; the same
one again and again (`repeat`); two that alternate (`two`); mixed one to one with honest events (`mixed`).
"""

import argparse
import os
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np

from benchmarks.bench_tabular import OURS, SETS, shares_flagged, stored
from benchmarks.streams import roc_auc
from benchmarks.workloads import emit
from onlineguard import Engine, SliceModel

SETTLED = 2_000  # events after which the flagged share is counted
LENGTH = 2_000  # events of a flood or a burst
Figures = dict[str, float]
Judge = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def judge(make: Callable[[], SliceModel]) -> Judge:
    """Scores and flags of a stream (n, d) in one slice."""

    def judged(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        verdicts = Engine(x.shape[1], estimator=make()).update(np.zeros(len(x), int), x)
        return np.where(verdicts.ready, verdicts.score, 0.0), verdicts.anomalous

    return judged


def scattered(x: np.ndarray, odd: np.ndarray, judged: Judge) -> Figures:
    """Of anomalies scattered over the stream."""
    scores, flagged = judged(x)
    return {"auc": roc_auc(scores, odd), **shares_flagged(flagged, odd, SETTLED)}


def some(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """Which events are anomalies; none of the first 1,000."""
    odd = rng.random(n) < share
    odd[:1_000] = False
    return odd


def low_rank(judged: Judge, seed: int, single: bool) -> Figures:
    """Normal events of rank 3 among 20 features; anomalies keep every marginal law, in all features or in one."""
    rng = np.random.default_rng(seed)
    n, d = 12_000, 20
    x = rng.standard_normal((n, 3)) @ rng.standard_normal((3, d)) + 0.05 * rng.standard_normal((n, d))
    odd = some(rng, n, 0.02)
    others = np.stack([rng.permutation(column) for column in x.T], axis=1)
    feature = rng.integers(0, d, n)
    if single:
        x[odd, feature[odd]] = others[odd, feature[odd]]
    else:
        x[odd] = others[odd]
    return scattered(x, odd, judged)


def with_binary(judged: Judge, seed: int, ones: float) -> Figures:
    """Nine normal features and a binary one; anomalies lie 50 standard deviations away in a normal one."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((20_000, 10))
    x[:, 9] = rng.random(len(x)) < ones
    odd = some(rng, len(x), 0.005)
    x[odd, 0] += 50.0
    return scattered(x, odd, judged)


DRIFTS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "line": lambda _, n: np.arange(n)[:, None] / 300.0,
    "sine of 5,000": lambda _, n: 10.0 * np.sin(2.0 * np.pi * np.arange(n)[:, None] / 5_000),
    "sine of 20,000": lambda _, n: 10.0 * np.sin(2.0 * np.pi * np.arange(n)[:, None] / 20_000),
    "walk": lambda rng, n: np.cumsum(0.05 * rng.standard_normal((n, 5)), axis=0),
}


def drifting(judged: Judge, seed: int, drift: str) -> Figures:
    """Five normal features whose mean moves; anomalies lie five standard deviations away in each."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((20_000, 5)) + DRIFTS[drift](rng, 20_000)
    odd = some(rng, len(x), 0.01)
    x[odd] += rng.choice([-5.0, 5.0], (odd.sum(), 5))
    return scattered(x, odd, judged)


def flooded(judged: Judge, seed: int, d: int, at: float, spread: float, kind: str) -> Figures:
    """A flood among normal events; see this module."""
    rng = np.random.default_rng(seed)
    n, start = 20_000, 10_000
    x = rng.standard_normal((n, d))
    flood = at + spread * rng.standard_normal((LENGTH, d))
    robot = np.ones(LENGTH, bool)
    if kind == "repeat":
        flood = np.tile(rng.standard_normal(d), (LENGTH, 1))
    if kind == "two":
        flood = rng.standard_normal((2, d))[np.arange(LENGTH) % 2]
    if kind == "mixed":
        robot = rng.random(LENGTH) < 0.5
    x[start : start + LENGTH][robot] = flood[robot]
    return around(judged(x)[1], start, robot)


def around(flagged: np.ndarray, start: int, robot: np.ndarray) -> Figures:
    """Shares flagged during a burst that begins at `start`, and after it."""
    end = start + len(robot)
    return {
        "during": float(flagged[start:end][robot].mean()),
        "just_after": float(flagged[end : end + 500].mean()),
        "after": float(flagged[end + 500 : end + 2_500].mean()),
        "before": float(flagged[SETTLED:start].mean()),
    }


def real_burst(judged: Judge, seed: int, x: np.ndarray, labels: np.ndarray) -> Figures:
    """2,000 draws of a set's anomalies in a row, among draws of its normal events."""
    rng = np.random.default_rng(seed)
    usual, odd = x[~labels], x[labels]
    before, burst, after = (
        part[rng.integers(0, len(part), n)] for part, n in ((usual, 6_000), (odd, LENGTH), (usual, 4_000))
    )
    scores, flagged = judged(np.concatenate([before, burst, after]))
    inside = (np.arange(len(scores)) >= 6_000) & (np.arange(len(scores)) < 6_000 + LENGTH)
    return {"auc": roc_auc(scores, inside), **around(flagged, 6_000, np.ones(LENGTH, bool))}


def cases(quick: bool, data: Path | None) -> Generator[tuple[str, Callable[[Judge, int], Figures]]]:
    """Every case, by name."""
    yield "rank 3", lambda judged, seed: low_rank(judged, seed, False)
    if quick:
        return
    yield "rank 3, one feature", lambda judged, seed: low_rank(judged, seed, True)
    for ones in (0.05, 0.1):
        yield f"binary feature, {ones:.0%} ones", lambda judged, seed, ones=ones: with_binary(judged, seed, ones)
    floods = [(d, 0.5, spread, "flood") for d in (5, 10) for spread in (0.05, 0.2)]
    floods += [(5, 0.0, 0.05, "flood"), (5, 2.0, 0.05, "flood"), (20, 0.5, 0.2, "flood")]
    floods += [(d, 0.5, 0.05, kind) for d in (5, 10) for kind in ("repeat", "two", "mixed")]
    for d, at, spread, kind in floods:
        yield (
            f"{kind}, d = {d}, at {at}, spread {spread}",
            lambda judged, seed, case=(d, at, spread, kind): flooded(judged, seed, *case),
        )
    for drift in DRIFTS:
        yield f"drift, {drift}", lambda judged, seed, drift=drift: drifting(judged, seed, drift)
    if data is not None and (data / "tabular").is_dir():
        for name in SETS:
            real = stored(data, name)
            yield f"burst, {name}", lambda judged, seed, real=real: real_burst(judged, seed, *real)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first case, one seed: to see that it works")
    parser.add_argument("--only", help="cases whose name begins so")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("ONLINEGUARD_DATA"), help="folder of real data [ONLINEGUARD_DATA]"
    )
    options = parser.parse_args()
    for name, case in cases(options.quick, options.data):
        if options.only and not name.startswith(options.only):
            continue
        for model, make in OURS.items():
            runs = [case(judge(make), seed) for seed in range(1 if options.quick else 2)]
            mean = {key: round(float(np.mean([run[key] for run in runs])), 4) for key in runs[0]}
            emit(bench="cases", case=name, detector=model, **mean)


if __name__ == "__main__":
    main()
