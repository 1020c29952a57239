"""The clock of a stream of clicks, which guards the counters against wrong times; `counters` defines it."""

from collections.abc import Sequence
from itertools import accumulate
from operator import sub
from typing import NamedTuple

from onlineguard.slidr.counting.windows import AHEAD_MS, BEHIND_MS, STEP_MS


class Reading(NamedTuple):
    """What the stream's clock makes of n clicks."""

    times: Sequence[int]  # ms since 1970 at which they count
    counted: Sequence[bool]  # false: far behind
    now: Sequence[int]  # what the clock reads after each
    era: Sequence[int]  # how often the clock was set back until then


class Clock:
    """The stream's clock, as the docstring of `counters` defines it."""

    def __init__(self) -> None:
        self.now: int | None = None  # before the first click
        self.run = 0  # clicks in a row that were far ahead, or as a negative number far behind
        self.era = 0  # how often it was set back

    def read(self, ts: Sequence[int]) -> Reading:
        """Take n clicks in order, one at least; any number of them at a time gives the same."""
        before, *after = accumulate(ts, max, initial=ts[0] if self.now is None else self.now)
        steps = list(map(sub, ts, (before, *after)))
        if max(steps) <= AHEAD_MS and min(steps) > -BEHIND_MS:  # none is far from the clock
            self.now, self.run = after[-1], 0
            return Reading(ts, [True] * len(ts), after, [self.era] * len(ts))
        return Reading(*zip(*map(self.take, ts), strict=True))

    def take(self, t: int) -> tuple[int, bool, int, int]:
        """`read` of one click."""
        now = t if self.now is None else self.now
        side = 1 if t > now + AHEAD_MS else -1 if t <= now - BEHIND_MS else 0
        self.run = self.run + side if self.run * side > 0 else side
        counted, time = side >= 0, now
        if side == 0 or abs(t - now) <= STEP_MS << min(abs(self.run), 40):
            self.now, self.run, self.era = max(now, t) if side == 0 else t, 0, self.era + (side < 0)
            counted, time = True, t
        return time, counted, self.now or 0, self.era
