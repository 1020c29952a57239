"""Has the series made this jump before, and stayed where it landed?

A counter that starts again, a saw's tooth, a machine that is switched on and off: such a jump follows from nothing, so
its residual is large each time, and it belongs to the series all the same. An anomaly that comes back has no size of
its own, or it goes as it came. So the latest 16 jumps are kept that

- were large when they came: a residual of at least 2.5 decades of rarity, and
- lasted: in the 32 values after it the series was always nearer to where it had landed than to where it had come from,
  and never twice as far away. To look at the last of them alone is not enough: a wave may have come up by then to where
  a spike had been.

A jump is **usual** if three of these have its sign and differ from it by a quarter of its size at most.

Source: ours.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32, Int32
from onlineguard.models.forecast import LAGS
from onlineguard.models.shapes import LATEST, Course

LARGE = 2.5  # decades of rarity of the residual
LASTED = LATEST // 2  # values
KEPT = 16  # jumps: eight each way of a series that goes up and down
ALIKE = 0.25  # of the size
USUAL = 3  # jumps that are alike


class Steps(NamedTuple):
    """Jumps of every column."""

    kept: Float32[Array, "d kept"]  # newest first; NaN where there is none yet
    latest: Float32[Array, " d"]  # the one of which it is not known whether it lasts; 0 if there is none
    origin: Float32[Array, " d"]  # the value before it
    age: Int32[Array, " d"]  # values since
    broken: Int32[Array, " d"]  # values of which the forecast still holds a usual jump

    @classmethod
    def blank(cls, width: int) -> "Steps":
        """Before any value, in NumPy."""
        zeros, none = np.zeros(width, np.float32), np.zeros(width, np.int32)
        return cls(np.full((width, KEPT), math.nan, np.float32), zeros, zeros, none, none)


def usual(steps: Steps, course: Course, x: Float32[Array, " d"]) -> Bool[Array, " d"]:
    """Whether the jump to x is one that the series has made, and stayed."""
    xp = namespace(x)
    jump = (x - course.latest[:, 0])[:, None]
    alike = abs(steps.kept - jump) <= ALIKE * abs(jump)
    return xp.sum(alike.astype(np.int32), 1) >= USUAL


def followed(
    steps: Steps,
    course: Course,
    x: Float32[Array, " d"],
    rarity: Float32[Array, " d"],
    usual: Bool[Array, " d"],
    present: Bool[Array, " d"],
) -> Steps:
    """The jumps after x, whose residual has this rarity, in those columns where it is present."""
    xp = namespace(x)
    open_ = steps.latest != 0.0
    since, size = (x - steps.origin) * xp.sign(steps.latest), abs(steps.latest)
    stays = (since >= 0.5 * size) & (since <= 2.0 * size)
    over = present & open_ & (~stays | (steps.age == LASTED - 1))
    lasted = (over & stays)[:, None]
    begins = present & ~open_ & (rarity >= LARGE)
    before = course.latest[:, 0]
    latest = xp.where(begins, x - before, xp.where(over, 0.0, steps.latest))
    pushed = xp.concatenate((steps.latest[:, None], steps.kept[:, :-1]), 1)
    return Steps(
        xp.where(lasted, pushed, steps.kept),
        latest,
        xp.where(begins, before, steps.origin),
        xp.where(begins | over, 0, steps.age + (present & open_)),
        xp.where(present, xp.where(usual, LAGS, xp.maximum(steps.broken - 1, 0)), steps.broken),
    )
