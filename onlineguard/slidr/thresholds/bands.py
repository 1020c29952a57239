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
    found = np.repeat(thresholds[:, None], 2, axis=1)
    order = np.lexsort((-scores, codes))
    ends = np.cumsum(np.bincount(codes, minlength=len(thresholds)))
    for slice_, end in enumerate(ends.tolist()):
        mine = scores[order[(ends[slice_ - 1] if slice_ else 0) : end]]  # the highest first
        marked = int((mine > thresholds[slice_]).sum())
        if marked >= LEAST:
            low = max(float(mine[min(int(WIDER * marked), len(mine) - 1)]), float(floors[slice_]))
            high = float(mine[int(marked / WIDER)])
            found[slice_] = min(low, thresholds[slice_]), max(high, thresholds[slice_])
    return found
