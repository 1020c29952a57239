"""How a stream is cut and slices are born: the table changes at the same events, wherever calls begin and end."""

from collections.abc import Callable
from typing import Any

import numpy as np

from onlineguard.engine.keys import SliceKeys, check_key
from onlineguard.engine.slices import SliceTable, first_unknown

# Slices are pooled after POOL_FIRST events, whenever that number has doubled, and from POOL_EVERY on at its multiples.
POOL_FIRST, POOL_EVERY = 1_024, 65_536
NEVER = 2**62  # events before the first pooling of a model that cannot be pooled


class Admission:
    """The events taken so far, and when the slices are pooled next."""

    def __init__(self, slices: SliceTable, pools: bool):
        self._slices = slices
        self.n_events = 0
        self.pooling_at = POOL_FIRST if pools else NEVER

    def admit(
        self,
        keys: SliceKeys,
        start: int,
        most: int,
        begin: Callable[[list[int], np.ndarray], np.ndarray],
        known: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows to read from and write to, for the events from `start` to the next point where the table must change.

        The table must change when it is full, and when slices are pooled. Both happen at fixed events of the stream. A
        pooling may be left out if no slice is born before the next one in the same call, which takes its place.

        most: events that are run at once.
        begin: is given the events that are the first of a slice, and the rows of these slices. It returns the rows that
            hold their starting states.
        known: the rows of all keys, if they have been looked up.
        """
        end = min(len(keys), start + most)
        part = keys[start:end]
        rows = self._slices.lookup(part) if known is None else known[start:end]
        unknown = first_unknown(part, rows)
        rows = rows[: self._until_pooling(len(rows), unknown)]
        born: list[int] = []
        for i in unknown:
            if i >= len(rows):
                break
            key = check_key(part[i], start + i)
            if key not in self._slices.rows:
                if not self._slices.capacity_left and i == 0:
                    self._slices.evict()
                    return self.admit(keys, start, most, begin)
                if not self._slices.capacity_left:
                    rows = rows[:i]
                    break
                self._slices.birth(key)
                born.append(i)
        if not born:
            return rows, rows
        rows = self._slices.lookup(part[: len(rows)])
        reads = rows.copy()
        reads[born] = begin([start + i for i in born], rows[born])
        return reads, rows

    def count(self, rows: Any) -> None:
        """Count the events that these rows have learned."""
        self._slices.touch(rows, self.n_events)
        self.n_events += len(rows)

    def pooling_due(self) -> bool:
        """Whether the slices are to be pooled now, after the events counted so far."""
        due = False
        while self.pooling_at <= self.n_events:
            due = self.pooling_at == self.n_events
            self.pooling_at = _after(self.pooling_at)
        return due

    def stop_pooling(self) -> None:
        """The slices are pooled elsewhere from now on."""
        self.pooling_at = NEVER

    def _until_pooling(self, n: int, unknown: list[int]) -> int:
        """How many of the next n events come before a pooling that cannot be left out."""
        at, end = self.pooling_at, self.n_events + n
        births = np.array(unknown, np.int64) + self.n_events
        while at < end:
            following = _after(at)
            first = np.searchsorted(births, at)
            if following > end or (first < len(births) and births[first] < following):
                return at - self.n_events
            at = following
        return n


def _after(pooling_at: int) -> int:
    """When slices are pooled after that."""
    return pooling_at + min(pooling_at, POOL_EVERY)
