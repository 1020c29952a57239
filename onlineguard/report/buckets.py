"""Buckets: equally long stretches of events, of which the extremes are kept.

When there are too many buckets, neighbours are merged in pairs. No spike is ever lost, whatever the stream's length.
"""

from typing import Any

import numpy as np

NO_TIME = np.iinfo(np.int64).min  # NumPy's NaT
BUCKET = np.dtype(
    {
        "names": "low_at low_time low high_at high_time high score threshold label".split(),
        "formats": "i8 i8 f8 i8 i8 f8 f8 f8 i1".split(),
    }
)
Buckets = np.ndarray[Any, Any]  # of BUCKET


def halved(buckets: Buckets, first: int) -> Buckets:
    """Buckets 2i and 2i + 1 merged into bucket i, where `first` is the number of the first one."""
    head = first % 2
    pairs = (len(buckets) - head) // 2
    even, odd = buckets[head : head + 2 * pairs : 2], buckets[head + 1 : head + 2 * pairs : 2]
    return np.concatenate([buckets[:head], merged(even, odd), buckets[head + 2 * pairs :]])


def merged(earlier: Buckets, later: Buckets) -> Buckets:
    """Each bucket of `earlier` merged with its neighbour in `later`: the extremes, and the last known threshold."""
    both = earlier.copy()
    for side, beyond in (("low", later["low"] < earlier["low"]), ("high", later["high"] > earlier["high"])):
        from_later = beyond | np.isnan(earlier[side])
        for name in (side, f"{side}_at", f"{side}_time"):
            both[name] = np.where(from_later, later[name], earlier[name])
    both["score"] = np.fmax(earlier["score"], later["score"])
    both["threshold"] = np.where(np.isnan(later["threshold"]), earlier["threshold"], later["threshold"])
    both["label"] = np.maximum(earlier["label"], later["label"])
    return both
