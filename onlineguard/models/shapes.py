"""Has the series been on such a course before, and on such a level?

The latest 64 values are kept as they came, and of the time before them the means of 96 blocks of 16 values. Two
distances follow, each to the nearest place of the past that does not overlap with the latest values:

- **Course**: the means of the latest 16 values, of the 16 before them and of the 16 before those, against three blocks
  in a row: the sum of the three differences.
- **Level**: the mean of the latest 64 values against that of four blocks in a row.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace
from onlineguard.core.bits import least
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32, Float64, Int32
from onlineguard.core.spread import counted_from

BLOCK = 16  # values of a mean; a power of two
BLOCKS = 96  # means that are kept: 1,536 values, five days of five-minute data
LEVEL = 4  # blocks of a level
COURSE = 3  # blocks of a course
LATEST = LEVEL * BLOCK  # values that are kept as they came
WHOLE = 2 * LATEST  # values after which both distances have a past


class Course(NamedTuple):
    """The latest values of every column, and the means of earlier ones."""

    latest: Float32[Array, "d latest"]  # newest first; NaN where there is none yet
    blocks: Float32[Array, "d blocks"]  # newest first; infinite where there is none yet

    @classmethod
    def blank(cls, width: int) -> "Course":
        """Before any value, in NumPy."""
        return cls(np.full((width, LATEST), math.nan, np.float32), np.full((width, BLOCKS), math.inf, np.float32))

    def moved(self, by: Float64[np.ndarray, "slices d"]) -> "Course":
        """Many of them, stacked, when values are counted from `by` more; NumPy."""
        return Course(counted_from(self.latest, by[..., None]), counted_from(self.blocks, by[..., None]))


def means(course: Course, x: Float32[Array, " d"]) -> Float32[Array, "d level"]:
    """Means of the latest values, x the newest, in blocks, newest first."""
    xp = namespace(x)
    values = xp.concatenate((x[:, None], course.latest[:, :-1]), 1) * np.float32(1.0 / BLOCK)
    values = values.reshape(-1, LEVEL, BLOCK)
    size = BLOCK
    while size > 1:
        size //= 2
        values = values[..., :size] + values[..., size:]
    return values[..., 0]


def distances(course: Course, latest: Float32[Array, "d level"]) -> tuple[Float32[Array, " d"], Float32[Array, " d"]]:
    """Of course and level, from the `means` of the latest values; infinite where there is no past."""
    past = course.blocks[:, LEVEL:]  # what overlaps with the latest values is no past
    n = past.shape[1]
    differences = (abs(past[:, i : n - COURSE + 1 + i] - latest[:, i, None]) for i in range(COURSE))
    levels = _mean([past[:, i : n - LEVEL + 1 + i] for i in range(LEVEL)])
    level = _mean([latest[:, i, None] for i in range(LEVEL)])
    return least(sum(differences)), least(abs(levels - level))


def followed(
    course: Course,
    x: Float32[Array, " d"],
    latest: Float32[Array, "d level"],
    count: Int32[Array, " d"],
    present: Bool[Array, " d"],
) -> Course:
    """The course after x, whose `means` are the latest, in those columns where it is present."""
    xp = namespace(x)
    complete = present & (count % BLOCK == BLOCK - 1)
    return Course(
        xp.where(present[:, None], xp.concatenate((x[:, None], course.latest[:, :-1]), 1), course.latest),
        xp.where(complete[:, None], xp.concatenate((latest[:, :1], course.blocks[:, :-1]), 1), course.blocks),
    )


def _mean(parts: list[Array]) -> Array:
    """The mean of four, always summed in one order, so that equal values have equal means."""
    return ((parts[0] + parts[1]) + (parts[2] + parts[3])) * np.float32(1.0 / LEVEL)
