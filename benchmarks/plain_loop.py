"""The default detector as a plain loop over events and features: what a programmer would write without the library.

Runs as Python (the tests compare the library with it in float64) and compiled by numba (the benchmarks compare speeds,
in float32). The arithmetic is that of `onlineguard.models.detector`, constants included; nothing else is
shared with it.
"""

import math

import numpy as np

K, B, START = 2.5, 0.9775598, 4.0


Tables = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def tables(n_slices: int, n_features: int, quantiles: list[float], dtype: type) -> Tables:
    """Location, scale and floor (slices, 2, d); quantiles (slices, 4); seen, age, run and lasted (slices, 4)."""
    unknown = np.full((n_slices, 2, n_features), math.nan, dtype)
    return (
        unknown,
        unknown.copy(),
        np.zeros_like(unknown),
        np.tile(np.array(quantiles, dtype), (n_slices, 1)),
        np.zeros((n_slices, 4), dtype),
    )


def plain_loop(
    rows: np.ndarray,
    X: np.ndarray,
    target_rate: float | np.floating,
    patience: float | np.floating,
    location: np.ndarray,
    scale: np.ndarray,
    floor: np.ndarray,
    quantiles: np.ndarray,
    counts: np.ndarray,
    scores: np.ndarray,
    thresholds: np.ndarray,
) -> None:
    """Judge and learn X (n, d) in order, event i in slice rows[i]; fills scores and thresholds (n,) in place."""
    d = X.shape[1]
    levels = np.array([0.5, 0.2, 0.05, target_rate])
    usual = patience ** (-2.0 / 3.0)
    steps = math.log(0.05 / (target_rate / 20.0)) / math.log(4.0)
    new_quantiles = np.empty(4, X.dtype)
    for i in range(len(rows)):
        row = rows[i]
        q, (seen, age, run, lasted) = quantiles[row], counts[row]
        total = 0.0
        known = present = 0
        for j in range(d):
            x = X[i, j]
            if not math.isfinite(x):
                continue
            present += 1
            if scale[row, 0, j] > 0.0:
                z = min(max((x - location[row, 0, j]) / scale[row, 0, j], -1e15), 1e15)
                total += z * z
                known += 1
        score = math.sqrt(total / known) if known else 0.0
        scores[i] = score if known else math.nan
        thresholds[i] = q[3]
        if present == 0:
            continue
        odd = known > 0 and seen >= 100.0 and score > q[3]

        early = START / (seen + START)
        if seen < 8.0:
            for j in range(d):
                x = X[i, j]
                if not math.isfinite(x):
                    continue
                gap = abs(x - location[row, 1, j])
                if 0.0 < gap < math.inf and not gap >= scale[row, 0, j]:
                    location[row, 0, j] = x
                    scale[row, 0, j] = gap
                if math.isnan(location[row, 1, j]):
                    location[row, 0, j] = x
                location[row, 1, j] = x if seen < 7.0 else location[row, 0, j]
                scale[row, 1, j] = scale[row, 0, j]
        fast_rate = max(usual, early)
        slow_rate = 0.05 / patience if run >= (2.0 if odd else 20.0) else fast_rate
        for memory in range(2 if seen >= 8.0 else 0):
            rate = fast_rate if memory else slow_rate
            decay = 1.0 - fast_rate if memory else 1.0 - 0.02 / patience
            for j in range(d):
                x = X[i, j]
                if not math.isfinite(x):
                    continue
                m, s = location[row, memory, j], scale[row, memory, j]
                if math.isnan(m):
                    location[row, memory, j] = x
                    continue
                least = 2.0**-18 * abs(m) + 1e-30
                new_location, new_scale = m, abs(x - m)
                if s > 0.0:
                    u = min(max((x - m) / s, -K), K)
                    if s > (1.0 + 1e-6) * least:  # a scale that was set to it may have been rounded up
                        new_location, new_scale = m + rate * u * s, s * (1.0 + rate * (u * u - B))
                f = max(floor[row, memory, j] * decay, 1e-3 * new_scale, least)
                location[row, memory, j], scale[row, memory, j] = new_location, max(new_scale, f)
                floor[row, memory, j] = f

        rate = max(0.01, 20.0 / (age + 200.0))
        if run >= 20.0:
            rate *= 0.001
        reach = max(q[2] * (q[2] / q[1]) ** steps, 2.0 * q[3])
        for k in range(4):
            step = rate * 0.01 if k == 3 and score > reach else rate
            new_quantiles[k] = max(q[k] * (1.0 + step * ((1.0 if score > q[k] else 0.0) - levels[k])), 0.1)
        if target_rate < 0.05:
            new_quantiles[3] = max(new_quantiles[3], new_quantiles[2])
        quantiles[row] = new_quantiles

        run = min(max(run + (1.0 if odd else -1.0), 0.0), 100.0)
        lasted = lasted + 1.0 if run > 0.0 else 0.0
        age = age + 1.0
        if lasted >= min(patience, max(100.0, 0.5 * seen)) and run >= 20.0:
            for j in range(d):
                location[row, 0, j], scale[row, 0, j] = location[row, 1, j], scale[row, 1, j]
                floor[row, 0, j] = 0.0
            run, lasted, age = 0.0, 0.0, min(age, 200.0)
        counts[row, 0] = min(seen + 1.0, 2.0**23)
        counts[row, 1] = min(age, 2.0**23)
        counts[row, 2] = run
        counts[row, 3] = lasted
