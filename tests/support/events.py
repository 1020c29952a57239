"""Events for a guard, and its answers decoded."""

import msgspec
import numpy as np

from onlineguard.wire.requests import Event


def told(answers):
    """Answers as a client gets them."""
    return msgspec.json.decode(msgspec.json.encode(answers))


def events(n, seed=0, slices=3, ids=False):
    rng = np.random.default_rng(seed)
    return [
        Event(f"s{rng.integers(slices)}", rng.normal(100.0, 5.0, 2).tolist(), id=f"{seed}.{i}" if ids else None)
        for i in range(n)
    ]
