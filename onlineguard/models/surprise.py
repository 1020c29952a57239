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

from onlineguard.core.arrays import barrier, namespace, saturating_add
from onlineguard.core.bits import fraction, octave
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
LARGEST = 2.0**120  # units
TINY = 2.0**-126  # what is smaller counts as none, as on backends that know no smaller number

LOG10_E = np.float32(math.log10(math.e))


class Past(NamedTuple):
    """All distances so far, of as many kinds as there are rows."""

    unit: Float32[Array, " rows"]  # the first that was not 0, in which the others are counted; 0 until then
    largest: Float32[Array, "rows kept"]  # in falling order; -1 where there is none yet
    times: Int32[Array, "rows kept"]  # how many distances had come before each
    counts: Int32[Array, "rows octaves"]  # of distances in each octave; octave o lies in column o mod OCTAVES
    count: Int32[Array, " rows"]  # of all

    @classmethod
    def blank(cls, rows: int) -> "Past":
        """Before any distance, in NumPy."""
        zeros = np.zeros((rows, KEPT), np.int32)
        none = np.zeros((rows, OCTAVES), np.int32)
        return cls(np.zeros(rows, np.float32), np.full((rows, KEPT), -1.0, np.float32), zeros, none, zeros[:, 0])


def surprise(past: Past, y: Float32[Array, " rows"]) -> Float32[Array, " rows"]:
    """Decades of surprise of distances y >= 0, at most MOST; meaningless where the past is empty."""
    xp = namespace(y)
    y = _in_units(past.unit, y)
    m = past.count.astype(np.float32)
    old = xp.floor(FORGOTTEN * m)
    recent = past.times >= old.astype(np.int32)[:, None]
    reaching = past.largest >= y[:, None]
    n = xp.stack((m, m - old))
    k = xp.stack((_number(reaching), _number(reaching & recent)))
    best = xp.stack((past.largest[:, 0], xp.max(xp.where(recent, past.largest, 0.0), 1)))
    n, k, best = barrier(n, k, best)

    last = past.largest[:, -1]
    below = (y < last) | (y < TINY)
    most = xp.where(below, 1.0 / _share(past, y, m), math.inf)[None]
    decades = LOG10_E * xp.log(xp.minimum((n + 1.0) / (k + 0.5), most))
    logs = xp.log(xp.maximum(past.largest, TINY))
    tail = xp.maximum(xp.mean(logs[:, :-1], 1) - logs[:, -1], LEAST_TAIL)[None]
    known = (last > TINY)[None] & (best > TINY)
    ahead = xp.where(known, LOG10_E * xp.log(y[None] / xp.maximum(best, TINY)) / tail, UNKNOWN_TAIL)
    decades = decades + xp.where((k < 0.5) & ~below[None], ahead, 0.0)
    decades = decades - AGE * LOG10_E * xp.log(xp.maximum(n, LEAST_AGE) + 1.0)
    return xp.mean(xp.minimum(decades, MOST), 0)


def remembered(past: Past, y: Float32[Array, " rows"], present: Bool[Array, " rows"]) -> Past:
    """The past after distances y, of those rows where one is present."""
    xp = namespace(y)
    unit = xp.where((past.unit > 0.0) | ~present | (y < TINY), past.unit, y)
    y = xp.where(present, _in_units(unit, y), -1.0)
    above = past.largest > y[:, None]  # y comes before its equals, since it is younger
    above_it = xp.concatenate((xp.ones_like(above[:, :1]), above[:, :-1]), 1)
    shifted = (xp.concatenate((part[:, :1], part[:, :-1]), 1) for part in (past.largest, past.times))
    largest, times = (
        xp.where(above, old, xp.where(above_it, new[:, None], moved))
        for old, new, moved in zip((past.largest, past.times), (y, past.count), shifted, strict=True)
    )
    here = octave(xp.maximum(y, TINY))[:, None]
    before, after = _octaves(past.largest[:, 0]), _octaves(xp.maximum(past.largest[:, 0], y))
    counts = xp.where(before == after, past.counts, 0) + ((after == here) & (y >= TINY)[:, None])
    there = present[:, None]
    return Past(
        unit,
        xp.where(there, largest, past.largest),
        xp.where(there, times, past.times),
        xp.where(there, counts, past.counts),
        saturating_add(past.count, present),
    )


def _in_units(unit: Float32[Array, " rows"], y: Float32[Array, " rows"]) -> Float32[Array, " rows"]:
    """Distances without their unit, so that surprises do not depend on the scale of the series."""
    xp = namespace(y)
    return xp.minimum(xp.where(unit > 0.0, y / xp.maximum(unit, TINY), y), LARGEST)


def _number(some: Bool[Array, "rows kept"]) -> Float32[Array, " rows"]:
    return namespace(some).sum(some.astype(np.int32), 1).astype(np.float32)


def _octaves(top: Float32[Array, " rows"]) -> Int32[Array, "rows octaves"]:
    """The octave that each column counts when `top` is the largest distance."""
    highest = octave(namespace(top).maximum(top, TINY))[:, None]
    columns = np.arange(OCTAVES, dtype=np.int32)[None]
    return highest - ((highest - columns) & (OCTAVES - 1))


def _share(past: Past, y: Float32[Array, " rows"], m: Float32[Array, " rows"]) -> Float32[Array, " rows"]:
    """The share of the past that is larger than y, by octaves; those in its own are taken to lie evenly."""
    xp = namespace(y)
    y = xp.maximum(y, TINY)
    octaves, here = _octaves(past.largest[:, 0]), octave(y)
    beyond, beside = (xp.sum(past.counts * some, 1) for some in (octaves > here[:, None], octaves == here[:, None]))
    larger = beyond.astype(np.float32) + beside.astype(np.float32) * (1.0 - fraction(y))
    known = (y > TINY) & (here > octave(xp.maximum(past.largest[:, 0], TINY)) - OCTAVES)
    return xp.where(known, xp.minimum(larger / xp.maximum(m, 1.0), 1.0), 1.0)
