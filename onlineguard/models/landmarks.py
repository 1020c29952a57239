"""How far is a value from all the values before it? 128 landmarks stand for these.

Every new value becomes a landmark. From 129 on the inner one goes whose neighbours lie closest to each other, the new
one included. So the landmarks spread over all that was ever seen, however often: a level that a series was at once,
a year ago, keeps its landmark, and ten thousand values in between do not crowd it out.
"""

import math

import numpy as np

from onlineguard.core.arrays import barrier, namespace
from onlineguard.core.bits import bits, least
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32

LANDMARKS = 128  # 64 find as much in most series; in the widest ones a gap then is as wide as an anomaly


def blank(width: int) -> Float32[np.ndarray, "d landmarks"]:
    """No landmarks yet: infinity, so that they stay in rising order."""
    return np.full((width, LANDMARKS), math.inf, np.float32)


def distance(landmarks: Float32[Array, "d landmarks"], x: Float32[Array, " d"]) -> Float32[Array, " d"]:
    """From x to the nearest landmark; infinite where there is none."""
    return least(abs(x[:, None] - landmarks))


def placed(
    landmarks: Float32[Array, "d landmarks"], x: Float32[Array, " d"], new: Bool[Array, " d"]
) -> Float32[Array, "d landmarks"]:
    """The landmarks after x, of those columns where it is `new`: present and none of them yet."""
    xp, places = namespace(x), np.arange(LANDMARKS, dtype=np.int32)[None]
    edge = xp.full_like(landmarks[:, :1], math.inf)
    lower = xp.concatenate((landmarks < x[:, None], xp.zeros_like(new)[:, None]), 1)
    lower_it = xp.concatenate((xp.ones_like(new)[:, None], lower[:, :-1]), 1)
    here, shifted = xp.concatenate((landmarks, edge), 1), xp.concatenate((edge, landmarks), 1)
    (more,) = barrier(xp.where(lower, here, xp.where(lower_it, x[:, None], shifted)))
    gaps = bits(xp.where(more[:, 2:] < math.inf, more[:, 2:] - more[:, :-2], math.inf))
    dropped = xp.min(xp.where(gaps == xp.min(gaps, 1)[:, None], places[:, 1:], np.int32(LANDMARKS)), 1)
    dropped = xp.where(more[:, -1] < math.inf, dropped, LANDMARKS)[:, None]  # while there is room, the last one
    return xp.where(new[:, None], xp.where(places < dropped, more[:, :-1], more[:, 1:]), landmarks)
