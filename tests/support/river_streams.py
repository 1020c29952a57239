"""Streams of events as river passes them: a dict of features, and what is told of it."""

import math
import random

import numpy as np

NAMES = ["a", "b", "c", "d", "e"]


def labelled(n: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0):
    """(x, y): five features, three of them correlated; y marks the 5 % of events that lie 6 sigma out."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) @ np.array(
        [[1, 0.5, 0.5, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    )
    y = (rng.random(n) < 0.05) & (np.arange(n) > 100)
    X[y] += 6.0
    return [
        (dict(zip(NAMES, row, strict=True)), label)
        for row, label in zip((X * scale + shift).tolist(), y.tolist(), strict=True)
    ]


def regression(n: int, seed: int = 0):
    """(x, y): y linear in features of very different scales, with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) * [1.0, 1e3, 1e-3, 1.0, 10.0] + [0.0, 5e3, 0.0, 100.0, 0.0]
    y = 50.0 + 3.0 * X[:, 0] - 2e-3 * X[:, 1] + 1e3 * X[:, 2] + rng.normal(size=n) * 0.1
    return [(dict(zip(NAMES, row, strict=True)), target) for row, target in zip(X.tolist(), y.tolist(), strict=True)]


def classification(n: int, seed: int = 0):
    """(x, y): y more likely than not where a linear function of the features is positive."""
    return [(x, y + random.Random(i + seed).gauss(0, 1) > 35.0) for i, (x, y) in enumerate(regression(n, seed))]


def events(n: int, seed: int = 0):
    return [x for x, _ in labelled(n, seed)]


def vanishing(stream, seed=0):
    """Each event without some of its features, which come and go; some are None, NaN or infinite instead.

    Two features come later than the others, at once: models compile for every number of features that they meet.
    """
    rng = random.Random(seed)
    for i, x in enumerate(stream):
        names = NAMES[:3] if i < 50 else NAMES
        if i in (0, 50):
            yield {name: x[name] for name in names}
            continue
        gone = {name: rng.choice([None, math.nan, math.inf]) for name in names if rng.random() < 0.05}
        yield {**{name: x[name] for name in names if rng.random() < 0.9}, **gone}
