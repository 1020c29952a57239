"""A table of rows in one part, or in as many parts as cores step it at once.

Slices never touch each other. So events of different rows may be stepped in any order, or at the same time, and the
bits are the same. Row r lies in part (r - FIRST_ROW) mod n; the rows of no slice lie in every part. While calls are
small there is one part, since a call of a program costs as much as some ten events.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.arrays import placed
from onlineguard.engine.table import grown, put_rows, taken_rows

# The first rows of a table belong to no slice.
WASTE = 0  # takes the states that nobody needs, after events that are only scored
FRESH = 1  # the state before any event
TYPICAL = 2  # the pooled state of all slices, from which a new one starts
FIRST_ROW = 3


class Parts:
    """Rows (capacity, length), float32 bits, in `count` arrays of one size, dealt to the devices in turn."""

    __slots__ = ("arrays", "capacity", "devices")

    def __init__(self, capacity: int, length: int, devices: Sequence[Any] = (None,)):
        self.capacity = max(capacity, FIRST_ROW)
        self.devices = devices  # jax.Device, None for the one that JAX prefers
        self.arrays: list[Array] = [placed(np.zeros((self.capacity, length), np.float32), devices[0])]

    @classmethod
    def of(cls, table: np.ndarray, capacity: int, devices: Sequence[Any] = (None,)) -> "Parts":
        """A table of one part with these rows, and room for so many."""
        parts = cls(FIRST_ROW, table.shape[1], devices)
        parts.capacity = capacity
        whole = np.zeros((capacity, table.shape[1]), np.float32)
        whole[: len(table)] = table
        parts.arrays = [placed(whole, devices[0])]
        return parts

    @property
    def count(self) -> int:
        """How many parts there are."""
        return len(self.arrays)

    def reserve(self, rows: int) -> None:
        """Double the capacity until there are at least this many rows."""
        while rows > self.capacity:
            self.capacity *= 2
        size = self._size(self.count)
        if size > len(self.arrays[0]):
            self.arrays = [grown(array, size) for array in self.arrays]

    def divide(self, count: int, devices: Sequence[Any] = (None,)) -> None:
        """Copy the rows into so many parts on these devices, unless they are."""
        if count == self.count and devices == self.devices:
            return
        whole = self.fetch()
        self.devices = devices
        size, arrays = self._size(count), list[Array]()
        for part in range(count):
            array = np.zeros((size, whole.shape[1]), np.float32)
            rows = whole[FIRST_ROW + part :: count]
            array[:FIRST_ROW], array[FIRST_ROW : FIRST_ROW + len(rows)] = whole[:FIRST_ROW], rows
            arrays.append(placed(array, devices[part % len(devices)]))
        self.arrays = arrays

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The part of each row, 0 for a row of no slice, and its number within the part."""
        turn = (rows - FIRST_ROW) // self.count
        part, within = rows - FIRST_ROW - turn * self.count, turn + FIRST_ROW
        if rows.min(initial=FIRST_ROW) < FIRST_ROW:
            of_slices = rows >= FIRST_ROW
            part, within = np.where(of_slices, part, 0), np.where(of_slices, within, rows)
        return part, within

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copies of the rows, (n, length), in NumPy."""
        return self.taking(rows)()

    def taking(self, rows: np.ndarray) -> Callable[[], np.ndarray]:
        """Copy the rows as they are now; `take` of them later, from where they are."""
        part, within = self.places(rows)
        copies = [taken_rows(array, within) for array in self.arrays]

        def taken() -> np.ndarray:
            together = np.asarray(copies[0])
            for i, copy in enumerate(copies[1:], 1):
                together = np.where((part == i)[:, None], np.asarray(copy), together)
            return together

        return taken

    def put(self, rows: np.ndarray, values: Array) -> None:
        """Set the rows to values (n, length)."""
        if self.count == 1:
            self.arrays[0] = put_rows(self.arrays[0], values, rows)
            return
        part, within = self.places(rows)
        for i, array in enumerate(self.arrays):
            elsewhere = (part != i) & (rows >= FIRST_ROW)
            self.arrays[i] = put_rows(array, values, np.where(elsewhere, WASTE, within))

    def fetch(self) -> np.ndarray:
        """All rows in NumPy, (capacity, length); of one part at hand until it changes."""
        if self.count == 1:
            return np.asarray(self.arrays[0])
        whole = np.zeros((self.capacity, self.arrays[0].shape[1]), np.float32)
        for i, array in enumerate(self.arrays):
            rows = whole[FIRST_ROW + i :: self.count]
            rows[...] = np.asarray(array)[FIRST_ROW : FIRST_ROW + len(rows)]
        whole[:FIRST_ROW] = np.asarray(self.arrays[0])[:FIRST_ROW]
        return whole

    def _size(self, count: int) -> int:
        """Rows of each of so many parts."""
        return FIRST_ROW + -(-(self.capacity - FIRST_ROW) // count)


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once(calls: Sequence[Callable[[], None]], meanwhile: Callable[[], None]) -> None:
    """Run the calls in threads, and `meanwhile` in this one; then raise what one of them raised."""
    running = [_threads().submit(call) for call in calls]
    try:
        meanwhile()
    finally:
        for each in running:
            each.exception()  # wait: none may run on while its arrays are in use elsewhere
    for each in running:
        each.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), "onlineguard")
