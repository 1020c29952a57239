"""Slice keys to rows of a table: lookup, birth, least-recently-used eviction."""

from collections.abc import Hashable, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from onlineguard.errors import InvalidArgument

Keys = Sequence[Any] | np.ndarray

UNKNOWN = -1  # the row of a slice not seen before
DIRECT = 2**22  # whole numbers below this are looked up in an array, all other keys in a dictionary
FIRST_ROOM = 1_024  # rows kept account of to begin with; doubled when full
EVICTED_SHARE = 16  # a full table drops a sixteenth of its slices at once, so that eviction costs little an event


class SliceTable:
    """Which row belongs to which slice, and when each was last used.

    Rows are given out from `first_row` on; those of evicted slices are given out again.
    """

    def __init__(self, max_slices: int, first_row: int):
        self.max_slices = max_slices
        self.first_row = first_row
        self.rows: dict[Hashable, int] = {}  # in order of birth
        self.evicted = 0
        self.end = first_row  # one past the last row ever given out
        self._free: list[int] = []
        self._last_used = np.zeros(FIRST_ROOM + first_row, np.int64)  # by row
        self._used = np.zeros(FIRST_ROOM + first_row, bool)  # by row: it belongs to a slice
        self._direct = np.zeros(0, np.int32)  # by whole-number key: its row

    @property
    def room(self) -> int:
        """Slices that may be born before one must go."""
        return self.max_slices - len(self.rows)

    def lookup(self, keys: Keys) -> np.ndarray:
        """The row of every key, int32 (n,); UNKNOWN for a slice not seen before."""
        if isinstance(keys, np.ndarray):
            if keys.dtype.kind in "iu" and len(keys) and 0 <= keys.min() and keys.max() < DIRECT:
                self._cover(int(keys.max()))
                return self._direct[keys]
            keys = keys.tolist()
        return np.fromiter(map(self.rows.get, keys, repeat(UNKNOWN)), np.int32, len(keys))

    def birth(self, key: Hashable) -> int:
        """The row of a slice seen for the first time; there must be room."""
        row = self._free.pop() if self._free else self.end
        if row == self.end:
            self.end += 1
            if self.end > len(self._last_used):
                self._last_used = np.concatenate([self._last_used, np.zeros_like(self._last_used)])
                self._used = np.concatenate([self._used, np.zeros_like(self._used)])
        self._set(key, row)
        return row

    def forget(self, key: Hashable) -> int:
        """Free the row of a slice; raises KeyError where there is none."""
        key = int(key) if isinstance(key, np.integer) else key
        row = self.rows.pop(key)
        if _is_direct(key):
            self._direct[key] = UNKNOWN  # type: ignore[index]
        self._free.append(row)
        self._used[row] = False
        return row

    def touch(self, rows: Sequence[int] | np.ndarray, clock: int) -> None:
        """Note that the slice of rows[i] was used at event clock + i."""
        if len(rows) == 1:
            self._last_used[rows[0]] = clock  # in a tenth of the time
        else:
            self._last_used[rows] = np.arange(clock, clock + len(rows))

    def used(self) -> np.ndarray:
        """The rows that belong to a slice, lowest first."""
        return np.flatnonzero(self._used[: self.end])

    def evict(self) -> None:
        """Forget the least recently used sixteenth of the slices."""
        keys = list(self.rows)
        used = self._last_used[list(self.rows.values())]
        oldest = np.argsort(used, kind="stable")[: max(1, len(keys) // EVICTED_SHARE)]
        for i in oldest.tolist():
            self.forget(keys[i])
        self.evicted += len(oldest)

    def dump(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All of this for a checkpoint: what goes into JSON, and what goes into tensors."""
        rows = np.fromiter(self.rows.values(), np.int64, len(self.rows))
        plain = {"keys": list(self.rows), "end": self.end, "evicted": self.evicted}
        return plain, {"rows": rows, "last_used": self._last_used[rows], "free": np.array(self._free, np.int64)}

    def restore(self, plain: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        """Become the table that was dumped."""
        self.end, self.evicted, self._free = plain["end"], plain["evicted"], tensors["free"].tolist()
        self._last_used, self._used = np.zeros(FIRST_ROOM + self.end, np.int64), np.zeros(FIRST_ROOM + self.end, bool)
        self._last_used[tensors["rows"]] = tensors["last_used"]
        for key, row in zip(plain["keys"], tensors["rows"].tolist(), strict=True):
            self._set(tuple(key) if isinstance(key, list) else key, row)

    def _set(self, key: Hashable, row: int) -> None:
        self.rows[key] = row
        self._used[row] = True
        if _is_direct(key):
            self._cover(key)  # type: ignore[arg-type]
            self._direct[key] = row  # type: ignore[index]

    def _cover(self, largest: int) -> None:
        if largest >= len(self._direct):
            wider = np.full(1 << max(10, largest.bit_length()), UNKNOWN, np.int32)
            wider[: len(self._direct)] = self._direct
            self._direct = wider


def as_keys(slices: Any, n: int) -> Keys:
    """The slices of n events as an integer array or a list of Python objects.

    Takes a sequence or NumPy array of strings, ints or tuples of such, or a string, integer or categorical column of
    polars, pandas or Arrow.
    """
    if isinstance(slices, (str, bytes)) or not hasattr(slices, "__len__"):
        raise InvalidArgument(f"slices is {slices!r}; it must hold one key an event, e.g. ['mobile', 'desktop']")
    if len(slices) != n:
        raise InvalidArgument(f"slices has {len(slices)} keys for {n} events in X; it must hold one key an event")
    if isinstance(slices, np.ndarray):
        if slices.ndim != 1:
            raise InvalidArgument(f"slices has shape {slices.shape}; it must have one axis: one key an event")
        return slices
    for convert in ("to_list", "to_pylist", "tolist"):  # polars, Arrow, pandas
        if hasattr(slices, convert):
            return getattr(slices, convert)()
    return slices


def check_key(key: Any, index: int) -> Hashable:
    """The key as it is kept; raises InvalidArgument unless it is a string, an int or a tuple of such."""
    if isinstance(key, np.integer):
        return int(key)
    parts = key if isinstance(key, tuple) else (key,)
    if not parts or not all(isinstance(part, (str, int, np.integer)) and not isinstance(part, bool) for part in parts):
        raise InvalidArgument(
            f"slices[{index}] is {key!r}; a key must be a string, an int or a tuple of such, e.g. ('mobile', 'DE')"
        )
    return tuple(int(p) if isinstance(p, np.integer) else p for p in parts) if isinstance(key, tuple) else key


def _is_direct(key: Hashable) -> bool:
    return type(key) is int and 0 <= key < DIRECT
