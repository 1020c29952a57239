"""What events are counted from, so that float32 keeps the digits of values far from zero.

A feature of a slice is counted from zero until its first value that float32 cannot hold; from then on from that value,
and what was learned before is moved along. Nothing is lost by it: until then float32 held every value exactly. So a
stream of float32 numbers is never moved. An origin stays where it is: if the value it came from lies far from all later
ones, these are known to its seven digits only.
"""

from typing import Any

import numpy as np

from onlineguard.engine.events import as_float32
from onlineguard.models.detector import FLOOR_SHARE, RESOLUTION, TINY, Memory
from onlineguard.models.series import State as SeriesState

FLOAT64_NOISE = 2.0**-50  # relative difference that is rounding, not news: four times the spacing of float64
ABSURD = 2.0**63  # no clock or counter gets there: such a value is no origin
LOST = np.int64((1 << 29) - 1)  # the bits of a float64 that float32 has no room for
BLOCK = 1_024  # events at a time, so that what is in between stays in the cache


def inexact(values: np.ndarray) -> np.ndarray:
    """Where float64 values have more digits than float32 and can be an origin; false where missing or absurd."""
    return ((values.view(np.int64) & LOST) != 0) & (abs(values) < ABSURD)


def counted_from(values: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Values relative to their origins, with what is rounding of float64 taken for none."""
    relative = values - origins
    np.copyto(relative, 0.0, where=abs(relative) <= FLOAT64_NOISE * abs(origins))
    return relative


def moved(state: Any, by: np.ndarray) -> Any:
    """Stacked states when events are counted from `by` (slices, width) more, in NumPy.

    A scale held up only by the resolution of float32 at the old location falls to that at the new one.
    """

    def memory_moved(memory: Any) -> Any:
        if not isinstance(memory, Memory):
            return memory
        location = _counted_from(memory.location, by)
        here, there = (RESOLUTION * abs(x) + TINY for x in (memory.location, location))
        by_resolution = (memory.floor > 0.0) & (memory.floor <= 2.0 * here) & (location != memory.location)
        scale = np.where(by_resolution & (memory.scale <= 2.0 * here), there, memory.scale)
        floor = np.where(by_resolution, np.fmax(FLOOR_SHARE * scale, there), memory.floor)
        return Memory(location, np.float32(scale), np.float32(floor))

    if isinstance(state, SeriesState):
        return state._replace(detector=moved(state.detector, by), past=_counted_from(state.past, by[..., None, :]))
    return type(state)(*map(memory_moved, state))


def _counted_from(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """float32 values (..., m width), m blocks of columns, less `by` (..., width)."""
    wide = np.tile(by, values.shape[-1] // by.shape[-1])
    return np.where(wide == 0.0, values, np.float32(counted_from(values.astype(np.float64), wide)))


class Origins:
    """The origins of each row of a table, in float64; 0 where there is none yet.

    Takes no memory and no time as long as all are 0.
    """

    def __init__(self, n_features: int):
        self.table = np.zeros((0, n_features))

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Origins (n, d) of the rows."""
        if not len(self.table):
            return np.zeros((len(rows), self.table.shape[1]))
        self._cover(rows)
        return self.table[rows]

    def put(self, rows: np.ndarray, origins: np.ndarray) -> None:
        """Set the origins of the rows."""
        if len(self.table) or origins.any():
            self._cover(rows)
            self.table[rows] = origins

    def due(self, rows: np.ndarray, events: np.ndarray) -> np.ndarray | None:
        """Which values (n, d) would be the first of their row that float32 cannot hold; None if there is none."""
        if events.dtype == np.float32:
            return None
        if not np.bitwise_or.reduce(events.view(np.int64), axis=None) & LOST:
            return None
        self._cover(rows)
        due = np.zeros(events.shape, bool)
        for part in _blocks(len(events)):
            lacking = self.table.take(rows[part], axis=0) == 0.0
            if lacking.any():
                np.logical_and(lacking, inexact(events[part]), out=due[part])
        return due if due.any() else None

    def relative(self, rows: np.ndarray, events: np.ndarray, out: np.ndarray) -> None:
        """Write the events (n, d), counted from the origins of the rows, into float32 (n, d)."""
        if not len(self.table):
            as_float32(events, out)
            return
        self._cover(rows)
        for part in _blocks(len(events)):
            as_float32(counted_from(events[part], self.table.take(rows[part], axis=0)), out[part])

    def _cover(self, rows: np.ndarray) -> None:
        needed = int(rows.max(initial=0)) + 1
        if needed > len(self.table):
            grown = np.zeros((1 << needed.bit_length(), self.table.shape[1]))
            grown[: len(self.table)] = self.table
            self.table = grown


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
