"""Online peers for points, short and in NumPy: each scores an event by the events before it, then learns it.

A peer is made for d features, and `scores` runs it over a stream (n, d). Parameters are those that its authors name, or
the commonest ones; none was chosen on the sets that `bench_tabular` shows.

Source: Pevny, "Loda", Machine Learning, 2016; Manzoor, Lamba and Akoglu, "xStream", KDD 2018.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from river import anomaly, preprocessing

MEMORY = 1.0 / 1_000.0  # rate at which the running peers forget, once 1 / n is below it
TINY = 1e-9


def running_z(x: np.ndarray, join: Callable[[np.ndarray], float]) -> np.ndarray:
    """|z| of a running mean and variance of every feature, joined to one number."""
    mean, variance, scores = x[0].copy(), np.ones(x.shape[1]), np.zeros(len(x))
    for i in range(1, len(x)):
        away = x[i] - mean
        scores[i] = join(abs(away) / np.sqrt(variance + TINY))
        rate = max(MEMORY, 1.0 / (i + 1))
        variance = (1.0 - rate) * (variance + rate * away * away) if i > 1 else away * away / 2.0
        mean = mean + rate * away
    return scores


def running_mahalanobis(x: np.ndarray) -> np.ndarray:
    """The Mahalanobis distance of a running mean and covariance, with a ridge; the inverse is as of 50 events ago."""
    d = x.shape[1]
    mean, covariance, inverse, scores = x[0].copy(), np.eye(d), np.eye(d), np.zeros(len(x))
    for i in range(1, len(x)):
        away = x[i] - mean
        scores[i] = away @ inverse @ away
        rate = max(MEMORY, 1.0 / (i + 1))
        covariance = (1.0 - rate) * (covariance + rate * np.outer(away, away))
        mean = mean + rate * away
        if i % 50 == 0 or i < 50:
            variance = np.diag(covariance)
            ridge = np.diag(1e-3 * variance + TINY + d / (i + d) * variance)
            inverse = np.linalg.inv(covariance + ridge)
    return np.sqrt(np.maximum(scores, 0.0))


def loda(x: np.ndarray, count: int = 100, bins: int = 40, window: int = 256) -> np.ndarray:
    """The mean of -ln(density) over sparse random projections, their histograms forgotten with MEMORY."""
    rng = np.random.default_rng(0)
    d = x.shape[1]
    weights = rng.standard_normal((count, d))
    keep = max(1, round(math.sqrt(d)))
    for row in weights:
        row[rng.permutation(d)[keep:]] = 0.0
    mean, variance = x[0].copy(), np.ones(d)
    histogram, rows = np.zeros((count, bins)), np.arange(count)
    first, edges, scores = np.zeros((window, count)), None, np.zeros(len(x))
    for i in range(len(x)):
        away = x[i] - mean
        z = np.clip(away / np.sqrt(variance + TINY), -10.0, 10.0)  # or one far event would stretch every bin
        t = weights @ z
        if edges is None:
            first[i] = t
            spread = first[: i + 1].std(axis=0) + TINY
            scores[i] = np.mean(0.5 * ((t - first[: i + 1].mean(axis=0)) / spread) ** 2)
            if i + 1 == min(window, len(x)):
                low, high = first[: i + 1].min(axis=0), first[: i + 1].max(axis=0)
                edges = (low, (high - low + TINY) / (bins - 2))
                for row in first[: i + 1]:
                    histogram[rows, _bin(row, edges, bins)] += 1.0
        else:
            place = _bin(t, edges, bins)
            total = histogram.sum(axis=1)
            scores[i] = -np.log((histogram[rows, place] + 0.1) / (total + 0.1 * bins)).mean()
            histogram *= 1.0 - MEMORY
            histogram[rows, place] += 1.0
        rate = max(MEMORY, 1.0 / (i + 2))
        variance = (1.0 - rate) * (variance + rate * away * away) if i > 1 else away * away / 2.0 + (i == 0)
        mean = mean + rate * away
    return scores


def _bin(t: np.ndarray, edges: tuple[np.ndarray, np.ndarray], bins: int) -> np.ndarray:
    low, width = edges
    return np.clip((t - low) / width + 1.0, 0, bins - 1).astype(int)


def xstream(x: np.ndarray, size: int = 50, chains: int = 50, depth: int = 10, window: int = 256) -> np.ndarray:
    """Half-space chains over a sparse random projection to `size` numbers; counts of the window before, by cell."""
    rng = np.random.default_rng(0)
    d = x.shape[1]
    weights = rng.choice([-1.0, 0.0, 1.0], (size, d), p=[1 / 6, 2 / 3, 1 / 6]) * math.sqrt(3.0 / size)
    t = x @ weights.T
    feature = rng.integers(0, size, (chains, depth))
    shift = rng.random((chains, size))
    times = np.zeros((chains, depth))  # how often a chain has cut the feature before
    for level in range(depth):
        times[:, level] = (feature[:, :level] == feature[:, level : level + 1]).sum(axis=1)
    rows = np.arange(chains)[:, None]
    hashing = rng.integers(1, 2**31 - 1, (chains, depth))
    tables = 1 << 14
    seen, building = (np.zeros((chains, depth, tables), np.float32) for _ in range(2))
    width, scores = np.ones(size), np.zeros(len(x))
    levels = np.arange(depth)[None, :]
    for i in range(len(x)):
        if i % window == 0:
            recent = t[max(0, i - window) : i]
            if len(recent):
                width = (recent.max(axis=0) - recent.min(axis=0)) / 2.0 + TINY
                seen, building = (building, seen) if i > window else (building, np.zeros_like(building))
                building[:] = 0.0
        cut = (t[i][feature] / width[feature] + shift[rows, feature]) * 2.0**times
        cells = np.floor(np.clip(cut, -1e9, 1e9)).astype(np.int64)
        place = (np.cumsum(cells * hashing, axis=1) % tables + tables) % tables
        counts = seen[rows, levels, place] * 2.0 ** (levels + 1)
        scores[i] = -np.log2(counts.min(axis=1) + 1.0).mean()
        building[rows, levels, place] += 1.0
    return scores - scores.min()


def by_river(make: Callable[[], Any], x: np.ndarray) -> np.ndarray:
    """A river model, score then learn."""
    model, scores = make(), np.zeros(len(x))
    for i, row in enumerate(x.astype(float).tolist()):
        event = dict(enumerate(row))
        scores[i] = model.score_one(event)
        model.learn_one(event)
    return scores


ONLINE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "running z, largest": lambda x: running_z(x, lambda z: float(z.max())),
    "running z, root mean square": lambda x: running_z(x, lambda z: math.sqrt(z @ z / len(z))),
    "running Mahalanobis": running_mahalanobis,
    "LODA": loda,
    "xStream": xstream,
    "river HalfSpaceTrees": lambda x: by_river(
        lambda: preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(seed=1), x
    ),
    "river OneClassSVM": lambda x: by_river(lambda: preprocessing.StandardScaler() | anomaly.OneClassSVM(), x),
}
SLOW = ("xStream", "river HalfSpaceTrees")  # minutes over all sets


def isolation_forest(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """scikit-learn's IsolationForest, trained on the whole set at once: what a batch method reaches."""
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=seed).fit(x).score_samples(x)
