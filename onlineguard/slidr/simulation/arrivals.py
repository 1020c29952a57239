"""Simulated clicks as columns, in the order in which they arrive or in none."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Num

from onlineguard.slidr.simulation.world import DAY, HOUR, UNKNOWN, Sessions, joined

_FRONT_ENDS = 8  # one of them has the clock fault


@dataclass(frozen=True)
class Arrivals:
    """Clicks of some sessions as they arrive, arrays (n,); a click that arrives twice is there twice."""

    sessions: Sessions
    arrival: Int[np.ndarray, " n"]  # milliseconds since 1970
    ts: Int[np.ndarray, " n"]
    row: Int[np.ndarray, " n"]  # position of its session
    ad: Int[np.ndarray, " n"]
    purchase: Int[np.ndarray, " n"]  # milliseconds since 1970, or UNKNOWN
    number: Int[np.ndarray, " n"]  # from which its id is made
    twice: Num[np.ndarray, " n"]  # whether this is its second arrival

    def take(self, rows: Int[np.ndarray, " m"]) -> "Arrivals":
        """Those at some positions, with the sessions of all."""
        columns = (self.arrival, self.ts, self.row, self.ad, self.purchase, self.number, self.twice)
        return Arrivals(self.sessions, *(column[rows] for column in columns))

    def alone(self, rows: Int[np.ndarray, " m"]) -> "Arrivals":
        """Those at some positions, with only their own sessions, so that all others can be freed."""
        taken = self.take(rows)
        return replace(taken, sessions=self.sessions.take(taken.row), row=np.arange(len(rows), dtype=np.int32))

    def stamped(self, fault: tuple[int, int]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """`ts` and `purchase` as the front ends write them, one of which has a wrong clock during the `fault`."""
        first, last = fault
        session = self.sessions.session[self.row]
        wrong = np.flatnonzero((self.ts >= first) & (self.ts < last) & (session % _FRONT_ENDS == 0))
        if not len(wrong):
            return self.ts, self.purchase
        ts, purchase = self.ts.copy(), self.purchase.copy()
        shift = np.where(ts[wrong] < first + HOUR, -first, 7 * DAY)
        ts[wrong] += shift
        purchase[wrong] = np.where(purchase[wrong] == UNKNOWN, UNKNOWN, purchase[wrong] + shift)
        return ts, purchase


def together(a: Arrivals, b: Arrivals) -> Arrivals:
    """Those of both, with the sessions of both."""
    row = np.concatenate([a.row, b.row + np.int32(len(a.sessions))])
    pairs = ((getattr(a, name), getattr(b, name)) for name in ("arrival", "ts", "ad", "purchase", "number", "twice"))
    arrival, ts, ad, purchase, number, twice = map(np.concatenate, pairs)
    return Arrivals(joined([a.sessions, b.sessions]), arrival, ts, row, ad, purchase, number, twice)
