"""Seeded streams for the benchmarks, and how they are timed."""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np


def events(
    n: int, n_features: int, n_slices: int, zipf: float | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Slice numbers (n,) int64, uniform or with Zipf's law of that exponent, and normal events (n, d) float32."""
    rng = np.random.default_rng(seed)
    if zipf is None:
        slices = rng.integers(0, n_slices, n)
    else:
        shares = np.arange(1, n_slices + 1) ** -zipf
        slices = rng.choice(n_slices, n, p=shares / shares.sum())
    X = rng.standard_normal((n, n_features)).astype(np.float32)
    X[rng.random(n) < 0.01] *= 10.0
    return slices, X


def rate(run: Callable[[], None], n_events: int, repeats: int) -> dict[str, float]:
    """Events a second of a run that has been warmed up: the median of the repeats, the slowest and the fastest."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {
        "events_per_s": round(n_events / statistics.median(times)),
        "slowest": round(n_events / max(times)),
        "fastest": round(n_events / min(times)),
    }


def emit(**figure: object) -> None:
    """Print one figure as a line of JSON."""
    print(json.dumps(figure), flush=True)
