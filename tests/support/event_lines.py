"""Events as lines of JSON, as the examples of Flink and Spark read them."""

import json
from collections.abc import Iterator

import numpy as np


def event_lines(n: int, n_slices: int) -> Iterator[str]:
    """Events of two features, numbered from 0, some of them odd, and some with a feature missing."""
    rng = np.random.default_rng(0)
    x = rng.normal([0.5, 12.0], [0.1, 3.0], (n, 2))
    x[rng.random(n) < 0.02] *= 30.0
    slices, missing = rng.integers(n_slices, size=n), rng.random(n) < 0.02
    for i in range(n):
        yield json.dumps({"id": i, "slice": f"web-{slices[i]}", "x": [x[i, 0], None if missing[i] else x[i, 1]]})
