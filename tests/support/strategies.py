"""Streams of events for property tests."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# XLA flushes subnormal numbers to zero, so no strategy makes them
ANY = st.floats(width=32, allow_subnormal=False)
PRESENT = st.floats(-100.0, 100.0, width=32, allow_subnormal=False).map(lambda x: 0.0 if abs(x) < 1e-3 else x)


def streams(features: int = 3, most: int = 12) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """(events, features) of any float32 a caller can send: NaN, infinities and 3e38 too."""
    absurd = st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-30, 0.0])
    return _arrays(ANY | PRESENT | absurd.map(lambda x: float(np.float32(x))), features, most)


def tame_streams(features: int = 3, most: int = 12) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """(events, features) of ordinary numbers, some of them missing."""
    return _arrays(PRESENT | PRESENT | PRESENT | st.just(float("nan")), features, most)


def _arrays(elements: st.SearchStrategy[float], features: int, most: int) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    return st.integers(1, most).flatmap(lambda n: hnp.arrays(np.float32, (n, features), elements=elements))
