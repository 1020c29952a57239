"""Does the series repeat itself, and has it been on such a level at this time of its period?

**The period** is found in the means of blocks (`shapes`). For every lag l of 1 to 48 blocks the mean difference D of
two blocks that lie l apart is kept. Where a series repeats itself D rises to a peak at half the period, and falls to
next to nothing at the period. The peak is the first lag whose D is nine tenths of the largest of the first 24 lags. Let
l be the lag behind it where `D (1 + l / 96)` is least; the second factor prefers a day to two days. The period is l if
D there is at most a third of the largest, and three periods have been seen.

**The season's distance** is that of the mean of the latest 16 values to the nearest block that ended a whole number of
periods ago, give or take 1.25 blocks. So a flat midday is far from all middays, though every night was as flat.

Five-minute data has its day at 18 blocks, half-hourly data its week at 21. A period of no whole number of blocks is
found as a multiple of it; one of under 64 values, or over 768, is not.

Source: the average magnitude difference function of Ross et al., "Average magnitude difference function pitch
extractor", IEEE Transactions on Acoustics, Speech, and Signal Processing, 1974. The rest is ours.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace
from onlineguard.core.bits import least
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32, Int32
from onlineguard.models.shapes import BLOCK, LEVEL, Course

LONGEST = 48  # blocks
SHORTEST = 4  # blocks: fewer are no more than the latest values
MEMORY = 256.0  # blocks over which differences are averaged: two weeks of five-minute data
JUMP = 8.0  # most, in mean differences, that one difference counts for
PEAK = 0.9  # of the largest D: the first lag that comes so near counts as the peak, or a multiple would be the period
REPEATS = 1 / 3  # of the peak, that the difference over a period is at most; by .5 spikes in noise have periods
PERIODS = 3  # that have been seen
NEAR = 1.25  # blocks around the same time


class Season(NamedTuple):
    """What was learned of the period of every column."""

    differences: Float32[Array, "d longest"]  # mean difference of blocks that lie so many blocks apart, from 1 on
    period: Float32[Array, " d"]  # in blocks; 0 while there is none

    @classmethod
    def blank(cls, width: int) -> "Season":
        """Before any value, in NumPy."""
        return cls(np.zeros((width, LONGEST), np.float32), np.zeros(width, np.float32))


def distance(
    season: Season, course: Course, latest: Float32[Array, "d level"], count: Int32[Array, " d"]
) -> Float32[Array, " d"]:
    """From the latest mean to those of the same time in earlier periods; infinite where there is no period."""
    return least(_distances(season, course, latest, count))


def nearest(
    season: Season, course: Course, latest: Float32[np.ndarray, "d level"], count: Int32[np.ndarray, " d"]
) -> Float32[np.ndarray, " d"]:
    """The mean at the same time of an earlier period that is nearest to the latest; NaN without a period; NumPy."""
    distances = _distances(season, course, latest, count)
    at = LEVEL + distances.argmin(axis=1)
    found = np.take_along_axis(course.blocks, at[:, None], 1)[:, 0]
    return np.where(np.isfinite(distances).any(axis=1), found, math.nan)


def _distances(
    season: Season, course: Course, latest: Float32[Array, "d level"], count: Int32[Array, " d"]
) -> Float32[Array, "d past"]:
    """From the latest mean to each earlier one; infinite where that is of another time of the period."""
    xp = namespace(latest)
    past = course.blocks[:, LEVEL:]
    places = np.arange(LEVEL, LEVEL + past.shape[1], dtype=np.float32)[None]
    ages = places + ((count % BLOCK + 1).astype(np.float32) * np.float32(1 / BLOCK))[:, None]
    period = season.period[:, None]
    length = xp.maximum(period, 1.0)
    whole = xp.floor(ages / length + 0.5)
    same = (period > 0.0) & (whole > 0.5) & (abs(ages - length * whole) <= NEAR)
    return xp.where(same, abs(past - latest[:, :1]), math.inf)


def found(
    season: Season,
    course: Course,
    latest: Float32[Array, "d level"],
    count: Int32[Array, " d"],
    present: Bool[Array, " d"],
) -> Season:
    """The season after a value, the last of a block or not, in those columns where it is present."""
    xp = namespace(latest)
    complete = present & (count % BLOCK == BLOCK - 1)
    lags = np.arange(1, LONGEST + 1, dtype=np.float32)[None]
    pairs = xp.maximum((count // BLOCK + 1).astype(np.float32)[:, None] - lags, 0.0)
    known, before = pairs > 0.0, season.differences
    seen = xp.where(known, abs(course.blocks[:, :LONGEST] - latest[:, :1]), 0.0)
    seen = xp.where(pairs > JUMP, xp.minimum(seen, JUMP * before), seen)
    rate = 1.0 / xp.minimum(xp.maximum(pairs, 1.0), MEMORY)
    differences = before + xp.where(known, rate * (seen - before), 0.0)
    differences = xp.where(complete[:, None], differences, before)
    return Season(differences, xp.where(complete, _period(differences, pairs, lags), season.period))


def _period(
    differences: Float32[Array, "d longest"], pairs: Float32[Array, "d longest"], lags: Float32[Array, "1 longest"]
) -> Float32[Array, " d"]:
    """The period, in blocks; 0 where there is none."""
    xp = namespace(differences)
    first = xp.where((lags <= LONGEST / 2) & (pairs > 0.0), differences, 0.0)
    peak = xp.max(first, 1)[:, None]
    at = xp.min(xp.where(first >= PEAK * peak, lags, 2.0 * LONGEST), 1)[:, None]
    longer = 1.0 + lags / (2 * LONGEST)
    open_ = (lags > at) & (lags >= SHORTEST) & (pairs >= lags)
    weighed = xp.where(open_, differences * longer, math.inf)
    chosen = open_ & (weighed == xp.min(weighed, 1)[:, None])
    chosen = chosen & (differences <= REPEATS * peak) & (peak > 0.0) & (pairs >= (PERIODS - 1) * lags)
    shortest = xp.min(xp.where(chosen, lags, math.inf), 1)  # several where a series repeats itself exactly
    return xp.where(shortest < math.inf, shortest, 0.0)
