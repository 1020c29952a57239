"""Does the series move less than it ever did?

Every value may have been seen before, and a line through them may still be new: a sensor that is stuck, a beat that is
missing, a wave that becomes flat where it crosses its mean. These are near to all that was seen, so no distance is
large. But the series moves less than usual. With e the change over 16 values, clean of what only flickers,

    moves <- moves + (e - moves) / 16.

A stretch of 64 values is as still as the least `moves` in it. The eight stillest stretches are kept. The rarity of one
that is stiller than all m of them, in decades, is that of a record with Hill's index g of the eight:

    log10(2 (m + 1)) + log10(stillest / moves) / g.

A stretch counts as past only once the next one is over as well: otherwise the beginning of a stillness would be the
past in which the rest of it is nothing new. A series that is often still has runs of many lengths, so g is large, and
only a far longer run is rare. Where the least is 0, as in a series that stands for thousands of values, nothing is
stiller.

Source: Hill's index as in `surprise`; the measure and its constants are ours.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import barrier, namespace
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32, Int32
from onlineguard.models.shapes import BLOCK, LATEST, Course

# Halved and doubled, each by itself: `benchmarks/ablate_series.py`.
SPAN = BLOCK  # values over which a change is measured, and that it is averaged over
STRETCH = LATEST  # values, a power of two
STILLEST = 8  # stretches that are kept; before there are as many, none is rare
LEAST_SPREAD = 0.1  # Hill's index, at least
MOST = 12.0  # decades
TINY = 2.0**-100  # a smaller change counts as this one
LOG10_E = np.float32(math.log10(math.e))


class Stillness(NamedTuple):
    """What was learned of the changes of every column."""

    moves: Float32[Array, " d"]  # mean change over SPAN values; infinite where there is none yet
    least: Float32[Array, " d"]  # of them in the stretch that is not over,
    before: Float32[Array, " d"]  # and in the one before it
    stillest: Float32[Array, "d stillest"]  # of all earlier stretches, in rising order; infinite where there is none

    @classmethod
    def blank(cls, width: int) -> "Stillness":
        """Before any value, in NumPy."""
        none = np.full(width, math.inf, np.float32)
        return cls(none, none, none, np.full((width, STILLEST), math.inf, np.float32))


def moved(still: Stillness, course: Course, x: Float32[Array, " d"]) -> Float32[Array, " d"]:
    """How much the series moves, x the newest value; infinite where it is too short to say."""
    xp = namespace(x)
    change = abs(x - course.latest[:, SPAN - 1])
    mean = xp.where(still.moves < math.inf, still.moves + np.float32(1.0 / SPAN) * (change - still.moves), change)
    return barrier(xp.where(change < math.inf, xp.maximum(mean, TINY), still.moves))[0]


def rarity(still: Stillness, moves: Float32[Array, " d"], count: Int32[Array, " d"]) -> Float32[Array, " d"]:
    """Decades by which stretches that are as still as `moves` are rare; -MOST where an earlier one was as still."""
    xp = namespace(moves)
    last = still.stillest[:, -1]
    known = last < math.inf
    ratios = xp.where(known[:, None], last[:, None] / still.stillest[:, :-1], 1.0)
    spread = xp.maximum(xp.mean(xp.log(ratios), 1), LEAST_SPREAD)
    ahead = xp.where(known, still.stillest[:, 0] / moves, 1.0)
    stretches = xp.maximum(count // STRETCH - 1, 1).astype(np.float32)  # those that are past
    decades = LOG10_E * (xp.log(2.0 * (stretches + 1.0)) + xp.log(ahead) / spread)
    return xp.where(ahead > 1.0, xp.minimum(decades, MOST), -MOST)


def followed(
    still: Stillness, moves: Float32[Array, " d"], count: Int32[Array, " d"], present: Bool[Array, " d"]
) -> Stillness:
    """The stillness after a value, in those columns where it is present."""
    xp = namespace(moves)
    over = present & (count % STRETCH == STRETCH - 1)
    least = xp.where(present, xp.minimum(still.least, moves), still.least)
    new = xp.where(over, still.before, math.inf)[:, None]
    lower = still.stillest <= new
    lower_it = xp.concatenate((xp.ones_like(lower[:, :1]), lower[:, :-1]), 1)
    shifted = xp.concatenate((still.stillest[:, :1], still.stillest[:, :-1]), 1)
    return Stillness(
        xp.where(present, moves, still.moves),
        xp.where(over, math.inf, least),
        xp.where(over, least, still.before),
        xp.where(lower, still.stillest, xp.where(lower_it, new, shifted)),
    )
