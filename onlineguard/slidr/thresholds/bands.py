"""How far the threshold of a slice may drift between two trainings; see `drift`.

A band goes from the threshold that would mark `WIDER` times the clicks that calibration marked, or the one at which the
slice reaches its cap if that is higher, to the one that would mark `1 / WIDER` of them.
"""

import numpy as np
from jaxtyping import Float, Int

WIDER = 2.0  # times the IVR at the low end of a band, and its inverse at the high end: beyond that a model is retrained
LEAST = 20  # marked clicks of a slice at calibration: half and twice of fewer are told by chance


def bands(
    scores: Float[np.ndarray, " n"],
    codes: Int[np.ndarray, " n"],
    thresholds: Float[np.ndarray, " slices"],
    floors: Float[np.ndarray, " slices"],
) -> Float[np.ndarray, "slices 2"]:
    """The lowest and the highest threshold that each slice may come to, by the clicks of its calibration.

    floors: below which none may go, since it would exceed its cap. A slice that may not move has its threshold twice.
    """
    n_slices = len(thresholds)
    ordered = scores[np.lexsort((-scores, codes))]  # slice by slice, the highest first
    size = np.bincount(codes, minlength=n_slices)
    marked = np.bincount(codes[scores > thresholds[codes]], minlength=n_slices)
    told = np.flatnonzero(marked >= LEAST)
    first, few, usual = (np.cumsum(size) - size)[told], marked[told], thresholds[told]
    low = ordered[first + np.minimum((WIDER * few).astype(np.int64), size[told] - 1)]
    high = ordered[first + (few / WIDER).astype(np.int64)]
    found = np.repeat(thresholds[:, None], 2, axis=1)
    found[told, 0] = np.minimum(np.maximum(low, floors[told]), usual)
    found[told, 1] = np.maximum(high, usual)
    return found
