"""How surprising is a distance, given all the distances before it?

With m distances in the past, of which k are at least as large as y, the chance of one as large is about

    p = (k + 1/2) / (m + 1).

The 16 largest are kept, with the times at which they came, and the others are counted by octaves, from which p is read
below the kept ones. A record, which nothing in the past reaches, is surprising by how far it is ahead: with g Hill's
index of the largest, and `top` the largest of all,

    p = 1/2 / (m + 1) (y / top)^(-1 / g).

The surprise is `-log10 p - log10(m + 1) / 2`. Every past has a record; the second term asks more of one the longer
the past, yet not so much that a long series is never surprised. It is the mean over two pasts: the whole one, and the
one without its oldest 30 %, so that what was usual once and has not come again is odd again in time.

Source: Hill, "A simple general approach to inference about the tail of a distribution", Annals of Statistics, 1975.
The mean of two pasts, the second term and all constants are ours.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace, saturating_add
from onlineguard.core.bits import octave
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32, Int32

# Halved and doubled, each by itself: `benchmarks/ablate_series.py`.
KEPT = 16  # largest distances
OCTAVES = 16  # below the largest, in which the others are counted; a power of two
FORGOTTEN = 0.3  # share of the past that the second past is without
AGE = 0.5  # weight of log10 m: by .4 false alarms double, and by .6 nothing short of a catastrophe is one
LEAST_AGE = 1_000.0  # a younger past asks for as much as one of this age, since the first days are all novelty
LEAST_TAIL = 0.1  # Hill's index, at least
UNKNOWN_TAIL = 1.0  # decades of surprise of a record where fewer than KEPT distances are positive
MOST = 12.0  # decades of surprise
TINY = 2.0**-126  # what is smaller counts as none, as on backends that know no smaller number


class Past(NamedTuple):
    """The distances of every column so far."""

    largest: Float32[Array, "kept d"]  # in falling order; -1 where there is none yet
    times: Int32[Array, "kept d"]  # how many distances had come before each
    counts: Int32[Array, "octaves d"]  # of distances in each octave; octave o lies in row o mod OCTAVES
    count: Int32[Array, " d"]  # of all

    @classmethod
    def blank(cls, width: int) -> "Past":
        """Before any distance, in NumPy."""
        zeros = np.zeros((KEPT, width), np.int32)
        return cls(np.full((KEPT, width), -1.0, np.float32), zeros, np.zeros((OCTAVES, width), np.int32), zeros[0])


def surprise(past: Past, y: Float32[Array, " d"]) -> Float32[Array, " d"]:
    """Decades of surprise of distances y >= 0, at most MOST; meaningless where the past is empty."""
    xp = namespace(y)
    m = past.count.astype(np.float32)
    rows = past.largest >= y
    top, last = past.largest[0], past.largest[-1]
    logs = xp.log(xp.maximum(past.largest, TINY))
    tail = xp.where(last > TINY, xp.maximum(xp.mean(logs[:-1], 0) - logs[-1], LEAST_TAIL), 0.0)
    below = (y < last) | (y < TINY)
    share = _share(past, y, m)

    def decades(n: Array, k: Array, best: Array) -> Array:
        ahead = xp.where((tail > 0.0) & (best > TINY), xp.log(y / xp.maximum(best, TINY)) / tail, UNKNOWN_TAIL * LN10)
        record = xp.log((n + 1.0) / 0.5) + ahead
        p = (k + 0.5) / (n + 1.0)
        ordinary = -xp.log(xp.where(below, xp.maximum(p, share), p))
        log_p = xp.where((k < 0.5) & ~below, record, ordinary)
        return xp.minimum(log_p / LN10 - AGE * xp.log(xp.maximum(n, LEAST_AGE) + 1.0) / LN10, MOST)

    old = xp.floor(FORGOTTEN * m)
    recent = past.times.astype(np.float32) >= old
    k, k_recent = (xp.sum(some.astype(np.int32), 0).astype(np.float32) for some in (rows, rows & recent))
    best_recent = xp.max(xp.where(recent, past.largest, 0.0), 0)
    return (decades(m, k, top) + decades(m - old, k_recent, best_recent)) * np.float32(0.5)


def remembered(past: Past, y: Float32[Array, " d"], present: Bool[Array, " d"]) -> Past:
    """The past after distances y, of those columns where one is present."""
    xp = namespace(y)
    y = xp.where(present, y, -1.0)
    above = past.largest > y  # y comes before its equals, since it is younger
    above_it = xp.concatenate((xp.ones_like(above[:1]), above[:-1]))
    shifted = (xp.concatenate((part[:1], part[:-1])) for part in (past.largest, past.times))
    largest, times = (
        xp.where(above, old, xp.where(above_it, new, moved))
        for old, new, moved in zip((past.largest, past.times), (y, past.count), shifted, strict=True)
    )
    here = octave(xp.maximum(y, TINY))
    before, after = _octaves(past.largest[0], xp), _octaves(largest[0], xp)
    counts = xp.where(before == after, past.counts, 0) + ((after == here) & (y >= TINY))
    return Past(
        xp.where(present, largest, past.largest),
        xp.where(present, times, past.times),
        xp.where(present, counts, past.counts),
        saturating_add(past.count, present),
    )


LN10 = np.float32(math.log(10.0))


def _octaves(top: Float32[Array, " d"], xp: object) -> Int32[Array, "octaves d"]:
    """The octave that each row counts when `top` is the largest distance."""
    highest = octave(namespace(top).maximum(top, TINY))
    rows = np.arange(OCTAVES, dtype=np.int32)[:, None]
    return highest - ((highest - rows) & (OCTAVES - 1))


def _share(past: Past, y: Float32[Array, " d"], m: Float32[Array, " d"]) -> Float32[Array, " d"]:
    """The share of the past that is larger than y, by octaves; half of its own octave is taken to be."""
    xp = namespace(y)
    octaves, here = _octaves(past.largest[0], xp), octave(xp.maximum(y, TINY))
    twice = xp.sum(past.counts * ((octaves > here).astype(np.int32) + (octaves >= here)), 0)
    known = (y >= TINY) & (here > octave(xp.maximum(past.largest[0], TINY)) - OCTAVES)
    return xp.where(known, xp.minimum(0.5 * twice.astype(np.float32) / xp.maximum(m, 1.0), 1.0), 1.0)
