"""Seconds to split a false-positive budget over slices, beside a generic convex solver, and to choose the thresholds.

    uv run --group dev python -m benchmarks.bench_calibration [--quick]

One JSON line a figure. The generic solver is Clarabel through cvxpy, at fewer slices; its time is that of the solver,
without cvxpy's own. Ours is that of preparing a problem and solving it once, from arrays.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, cast

import cvxpy as cp
import numpy as np

from benchmarks.workloads import emit
from onlineguard.slidr.thresholds.allocation import Allocation, Envelope, Quadratic
from onlineguard.slidr.thresholds.calibration import calibrate

POINTS = 31  # of every curve: 0 to 30 purchasing clicks
BUDGET = 0.01  # of all purchasing clicks


def quadratics(n_slices: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """(a, b, clicks, purchases, lower, upper) of rising concave quadratics, half of them with a lower bound."""
    rng = np.random.default_rng(seed)
    b = rng.uniform(0.5, 5.0, n_slices)
    a = -0.5 * b * rng.uniform(0.1, 1.0, n_slices)
    lower = 0.005 * rng.random(n_slices) * (rng.random(n_slices) < 0.5)
    clicks, purchases = rng.integers(1_000, 100_000, n_slices), rng.integers(30, 1_000, n_slices)
    return a, b, clicks.astype(float), purchases.astype(float), lower, np.ones(n_slices)


def curves(n_slices: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(slices, cost, gain) of rising curves that are concave but for noise."""
    rng = np.random.default_rng(seed)
    steps = rng.exponential(1.0, (n_slices, POINTS)) * rng.uniform(10.0, 1_000.0, (n_slices, 1))
    gain = np.cumsum(steps / np.arange(1, POINTS + 1), axis=1)
    return np.repeat(np.arange(n_slices), POINTS), np.tile(np.arange(float(POINTS)), n_slices), gain.ravel()


def generic_quadratic(problem: tuple[np.ndarray, ...], budget: float) -> tuple[float, float]:
    """(gain, seconds) of the generic solver."""
    a, b, clicks, purchases, lower, upper = problem
    f = cp.Variable(len(a))
    gain = cp.sum(cp.multiply(clicks * a, cp.square(f))) + (clicks * b) @ f
    return solved(cp.Problem(cp.Maximize(gain), [f >= lower, f <= upper, purchases @ f <= budget]))


def generic_envelope(problem: tuple[np.ndarray, np.ndarray, np.ndarray], budget: float) -> tuple[float, float]:
    """(gain, seconds) of the generic solver, a slice being a mixture of its points."""
    _, cost, gain = problem
    weight = cp.Variable((len(cost) // POINTS, POINTS), nonneg=True)
    spent = cp.sum(cp.multiply(cost.reshape(-1, POINTS), weight))
    gained = cp.sum(cp.multiply(gain.reshape(-1, POINTS), weight))
    constraints: list[Any] = [cp.sum(weight, axis=1) == 1, spent <= budget]  # their types say bool as well
    return solved(cp.Problem(cp.Maximize(gained), constraints))


def solved(problem: cp.Problem) -> tuple[float, float]:
    problem.solve(solver=cp.CLARABEL)
    gain, seconds = cast(float | None, problem.value), problem.solver_stats.solve_time
    assert gain is not None, problem.status
    assert seconds is not None, problem.status
    return float(gain), float(seconds)


def ours(method: str, problem: tuple[np.ndarray, ...], budget: float) -> Allocation:
    return (Quadratic if method == "quadratic" else Envelope)(*problem).at(budget)


def seconds(run: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median, fastest and slowest of the repeats, after one run that is not counted."""
    times: list[float] = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    times = times[1:]
    return {
        "seconds": round(statistics.median(times), 5),
        "fastest": round(min(times), 5),
        "slowest": round(max(times), 5),
    }


def splitting(quick: bool) -> None:
    """Both methods by the number of slices; at the smallest number beside the generic solver."""
    repeats, sizes = (3, [100, 1_000]) if quick else (7, [1_000, 10_000, 100_000])
    methods: list[tuple[str, Callable[[int], Any], Callable[[Any, float], tuple[float, float]]]] = [
        ("quadratic", quadratics, generic_quadratic),
        ("envelope", curves, generic_envelope),
    ]
    for method, make, generic in methods:
        for n_slices in sizes:
            problem = make(n_slices)
            purchases = problem[3].sum() if method == "quadratic" else (POINTS - 1) * n_slices
            budget = BUDGET * float(purchases)
            figures: dict[str, object] = dict(seconds(partial(ours, method, problem, budget), repeats))
            if n_slices == sizes[0]:
                gain, taken = generic(problem, budget)
                figures["generic_seconds"] = round(taken, 5)
                figures["relative_difference"] = ours(method, problem, budget).gain / gain - 1.0
            emit(bench="calibration", figure="split a budget", method=method, slices=n_slices, **figures)


def choosing(quick: bool) -> None:
    """From clicks to thresholds; a tenth of the clicks are purchases."""
    n = 20_000 if quick else 1_000_000
    rng = np.random.default_rng(0)
    for n_slices in (24, 1_000):
        codes, robot = rng.integers(0, n_slices, n), rng.random(n) < 0.2
        scores = (rng.standard_normal(n) + np.where(robot, 1.5, -1.5)).astype(np.float32)
        human = ~robot & (rng.random(n) < 0.125)
        for method in ("envelope", "quadratic", "global"):
            for confidence in (None, 0.95):
                run = partial(calibrate, scores, codes, human, method=method, confidence=confidence, budget=0.02)
                emit(
                    bench="calibration",
                    figure="choose thresholds",
                    method=method,
                    confidence=confidence,
                    clicks=n,
                    slices=n_slices,
                    **seconds(run, 1 if quick else 3),
                )


def many_slices(quick: bool) -> None:
    """From so many clicks to thresholds of ever more slices, each number in a process of its own for its memory."""
    n, sizes = (20_000, (100, 10_000)) if quick else (4_000_000, (10_000, 100_000, 1_000_000))
    for n_slices in sizes:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            figures = pool.submit(_of_many, n, n_slices).result()
        emit(bench="calibration", figure="many slices", method="envelope", clicks=n, slices=n_slices, **figures)


def _of_many(n: int, n_slices: int) -> dict[str, float]:
    """Seconds of the clock and of a processor, and the most memory of the process, its clicks included."""
    rng = np.random.default_rng(0)
    codes, robot = rng.integers(0, n_slices, n, dtype=np.int32), rng.random(n) < 0.2
    scores = (rng.standard_normal(n, np.float32) + np.where(robot, 1.5, -1.5)).astype(np.float32)
    human = ~robot & (rng.random(n) < 0.125)
    names = [str(code) for code in range(n_slices)]
    calibrate(scores[:1_000], codes[:1_000], human[:1_000], confidence=None, names=names, budget=0.02)  # imports
    begun, used = time.perf_counter(), time.process_time()
    calibrate(scores, codes, human, names=names, budget=0.02)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    return {"seconds": round(seconds, 1), "cpu_seconds": round(used, 1), "peak_mb": round(_most_mb())}


def _most_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    quick = parser.parse_args().quick
    splitting(quick)
    choosing(quick)
    many_slices(quick)


if __name__ == "__main__":
    main()
