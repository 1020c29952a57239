"""The clock of a stream of clicks, which guards the counters against wrong times; `counters` defines it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from onlineguard.slidr.counting.windows import AHEAD_MS, BEHIND_MS, STEP_MS


class Reading(NamedTuple):
    """What the stream's clock makes of n clicks."""

    times: Int64[np.ndarray, " n"]  # ms since 1970 at which they count
    counted: Bool[np.ndarray, " n"]  # false: far behind
    now: Int64[np.ndarray, " n"]  # what the clock reads after each
    era: Int64[np.ndarray, " n"]  # how often the clock was set back until then


class Clock:
    """The stream's clock, as the docstring of `counters` defines it."""

    def __init__(self) -> None:
        self.now: int | None = None  # before the first click
        self.run = 0  # clicks in a row that were far ahead, or as a negative number far behind
        self.era = 0  # how often it was set back

    def read(self, ts: Int64[np.ndarray, " n"]) -> Reading:
        """Take n clicks in order; any number of them at a time gives the same."""
        before = np.maximum.accumulate(np.concatenate([ts[:1] if self.now is None else [self.now], ts]))
        usual = (ts <= before[:-1] + AHEAD_MS) & (ts > before[:-1] - BEHIND_MS)
        if len(ts) and usual.all():
            self.now, self.run = int(before[-1]), 0
            return Reading(ts, usual, before[1:], np.full(len(ts), self.era))
        read = [self.take(t) for t in ts.tolist()]
        times, counted, now, era = zip(*read, strict=True) if read else ((), (), (), ())
        return Reading(np.array(times, np.int64), np.array(counted, bool), np.array(now, np.int64), np.array(era, int))

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
