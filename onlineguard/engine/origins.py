"""Origins that events are counted from, so that float32 keeps the digits of values far from zero.

A feature of a slice is counted from zero until its first value that float32 cannot hold exactly. That value becomes the
feature's origin, and the state learned so far is moved to it. The move loses nothing, since float32 held every earlier
value exactly. A stream of float32 numbers therefore never gets an origin. An origin never changes: if it lies far from
all later values, their distance from it is known to seven digits only.
"""

import numpy as np

from onlineguard.core.spread import difference
from onlineguard.engine.events import as_float32

ABSURD = 2.0**63  # no clock or counter reaches this, so a value as large is no origin
LOST = np.int64((1 << 29) - 1)  # the bits of a float64 that float32 has no room for
BLOCK = 1_024  # events at a time, so that intermediate results stay in the cache


def inexact(values: np.ndarray) -> np.ndarray:
    """True where a float64 value has more digits than float32 and can be an origin; false if missing or absurd."""
    return ((values.view(np.int64) & LOST) != 0) & (abs(values) < ABSURD)


class Origins:
    """The origins of each row of a table, in float64; 0 where there is none yet.

    The table takes no memory and no time while all origins are 0. They stay 0 for a model that is not `shiftable`.
    """

    def __init__(self, n_features: int, shiftable: bool):
        self.table = np.zeros((0, n_features))
        self._shiftable = shiftable

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Origins (n, d) of the rows."""
        if not len(self.table):
            return np.zeros((len(rows), self.table.shape[1]))
        self.cover(rows)
        return self.table[rows]

    def first(self, events: np.ndarray) -> np.ndarray:
        """Origins (n, d) of slices that begin with these events."""
        if not self._shiftable:
            return np.zeros(events.shape)
        values = events.astype(np.float64)
        return np.where(inexact(values), values, 0.0)

    def put(self, rows: np.ndarray, origins: np.ndarray) -> None:
        """Set the origins of the rows."""
        if len(self.table) or origins.any():
            self.cover(rows)
            self.table[rows] = origins

    def needed(self, rows: np.ndarray, events: np.ndarray) -> np.ndarray | None:
        """True for each value (n, d) that is to be the origin of its feature in its row; None if no value is."""
        if events.dtype != np.float64 or not self._shiftable:
            return None
        if not np.bitwise_or.reduce(events.view(np.int64), axis=None) & LOST:
            return None
        self.cover(rows)
        needed = np.zeros(events.shape, bool)
        for part in _blocks(len(events)):
            lacking = self.table.take(rows[part], axis=0) == 0.0
            if lacking.any():
                np.logical_and(lacking, inexact(events[part]), out=needed[part])
        return needed if needed.any() else None

    def relative(self, rows: np.ndarray, events: np.ndarray, out: np.ndarray, at: np.ndarray | None = None) -> None:
        """Write events (n, d), counted from the origins of the rows, into float32 (n, d): those with the numbers `at`.

        Without `at` all are written.
        """
        if at is None and not len(self.table):
            as_float32(events, out)
            return
        if len(self.table):
            self.cover(rows)
        for part in _blocks(len(out)):
            values = events[part] if at is None else events.take(at[part], axis=0)
            if len(self.table):
                own = rows[part] if at is None else rows.take(at[part])
                values = difference(values, self.table.take(own, axis=0))
            as_float32(values, out[part])

    def cover(self, rows: np.ndarray) -> None:
        """Make room for the origins of these rows; without it the next call that reads them does."""
        needed = int(rows.max(initial=0)) + 1
        if needed > len(self.table):
            grown = np.zeros((1 << needed.bit_length(), self.table.shape[1]))
            grown[: len(self.table)] = self.table
            self.table = grown


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
