"""The rows of a table that slice keys belong to: lookup, birth, least-recently-used eviction."""

from collections.abc import Hashable, Sequence
from itertools import islice, repeat
from typing import Any

import numpy as np

from onlineguard.engine.keys import CodedKeys, SliceKeys, coded_integers, kept

UNKNOWN = -1  # the row, and the number, of a slice not seen before
DIRECT = 2**22  # whole numbers below this are looked up in an array, all other keys in a dictionary
FIRST_CAPACITY = 1_024  # rows at first; doubled when full
EVICTED_SHARE = 16  # a full table drops a sixteenth of its slices at once, so that eviction costs little per event
PIECE = 65_536  # keys that are looked up before other threads have a turn
FEW = 64  # fewer keys than this are looked up in a dictionary faster than they are sorted


class SliceTable:
    """Which row belongs to which slice, and when each was last used.

    Rows are given out from `first_row` on; those of evicted slices are given out again. Each slice also has a number,
    its order of birth over the life of the table, which no other slice ever gets.
    """

    def __init__(self, max_slices: int, first_row: int):
        self.max_slices = max_slices
        self.first_row = first_row
        self.rows: dict[Hashable, int] = {}  # in order of birth
        self.evicted = 0
        self.born = 0  # slices ever born: the number of the next one
        self.end = first_row  # one past the last row ever given out
        self._free: list[int] = []
        self._last_used = np.zeros(FIRST_CAPACITY + first_row, np.int64)  # by row
        self._used = np.zeros(FIRST_CAPACITY + first_row, bool)  # by row: it belongs to a slice
        # By row: the number of its slice. The extra last entry is for UNKNOWN, since index -1 is the last one.
        self._numbers = np.full(FIRST_CAPACITY + first_row + 1, UNKNOWN, np.int64)
        self._direct = np.zeros(0, np.int32)  # by whole-number key: its row

    @property
    def capacity_left(self) -> int:
        """Slices that may be born before one must be evicted."""
        return self.max_slices - len(self.rows)

    def lookup(self, keys: SliceKeys) -> np.ndarray:
        """The row of every key, int32 (n,); UNKNOWN for a slice not seen before."""
        if isinstance(keys, np.ndarray) and keys.dtype.kind in "iu" and len(keys):
            if 0 <= keys.min() and keys.max() < DIRECT:
                self._cover(int(keys.max()))
                return self._direct[keys]
            keys = keys.tolist() if len(keys) < FEW else coded_integers(keys)
        if isinstance(keys, CodedKeys):
            present = np.flatnonzero(np.bincount(keys.codes, minlength=len(keys.unique)))
            rows = np.full(len(keys.unique), UNKNOWN, np.int32)
            rows[present] = self.lookup([keys.unique[code] for code in present.tolist()])
            return rows[keys.codes]
        if isinstance(keys, np.ndarray):
            keys = keys.tolist()
        if len(keys) <= PIECE:
            return np.fromiter(map(self.rows.get, keys, repeat(UNKNOWN)), np.int32, len(keys))
        return np.concatenate([self.lookup(keys[start : start + PIECE]) for start in range(0, len(keys), PIECE)])

    def row(self, key: Hashable) -> int:
        """The row of a slice; raises KeyError where there is none."""
        row = self.rows.get(kept(key))
        if row is None:
            raise KeyError(_unknown(key))
        return row

    def admitted(self, keys: SliceKeys) -> tuple[np.ndarray, list[int]]:
        """The row of every key, and the rows of the slices born for it. Without capacity a new key gets UNKNOWN."""
        rows = self.lookup(keys)
        born: list[int] = []
        for i in first_unknown(keys, rows):
            key = keys[i].item() if isinstance(keys, np.ndarray) else keys[i]
            if self.capacity_left and key not in self.rows:
                born.append(self.birth(key))
        return (self.lookup(keys) if born else rows), born

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the slices in these rows, int64 (n,); UNKNOWN where the row is UNKNOWN."""
        return self._numbers.take(rows)

    def holds(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Whether each of these rows still belongs to the slice with this number, bool (n,)."""
        return self._used[rows] & (self._numbers[rows] == numbers)

    def key_of(self, number: int) -> Hashable:
        """The key of the slice with this number; raises KeyError if no slice has it now."""
        used = self.used()
        numbers = self._numbers[used]
        if not (numbers == number).any():
            raise KeyError(number)
        return next(islice(self.rows, int((numbers < number).sum()), None))  # both are in order of birth

    def birth(self, key: Hashable) -> int:
        """The row of a slice seen for the first time; `capacity_left` must not be 0."""
        row = self._free.pop() if self._free else self.end
        if row == self.end:
            self.end += 1
            if self.end > len(self._last_used):
                self._numbers = np.concatenate([self._numbers, np.full_like(self._last_used, UNKNOWN)])
                self._last_used = np.concatenate([self._last_used, np.zeros_like(self._last_used)])
                self._used = np.concatenate([self._used, np.zeros_like(self._used)])
        self._set(key, row, self.born)
        self.born += 1
        return row

    def forget(self, key: Hashable) -> int:
        """Free the row of a slice; raises KeyError where there is none."""
        row = self.row(key)
        key = kept(key)
        del self.rows[key]
        if _is_direct(key):
            self._direct[key] = UNKNOWN  # type: ignore[index]
        self._free.append(row)
        self._used[row] = False
        return row

    def touch(self, rows: Sequence[int] | np.ndarray, clock: int) -> None:
        """Note that the slice of rows[i] was used at event clock + i."""
        if len(rows) == 1:
            self._last_used[rows[0]] = clock  # this takes a tenth of the time
        else:
            self._last_used[rows] = np.arange(clock, clock + len(rows))

    def use(self, rows: np.ndarray, at: np.ndarray) -> None:
        """Note that the slice of rows[i] was last used at event at[i]."""
        self._last_used[rows] = at

    def delay(self, events: int) -> None:
        """Count so many events between those that used the slices last and the next one."""
        self._last_used += events

    def last_used(self, row: int) -> int:
        """The number of the event that last used the row's slice, counted from 0."""
        return int(self._last_used[row])

    def used(self) -> np.ndarray:
        """The rows that belong to a slice, lowest first."""
        return np.flatnonzero(self._used[: self.end])

    def evict(self) -> np.ndarray:
        """Forget the least recently used sixteenth of the slices; returns the rows that they had, int64."""
        keys = list(self.rows)
        rows = np.fromiter(self.rows.values(), np.int64, len(keys))
        used = self._last_used[rows]  # no two are the same, so it does not matter that the partition keeps no order
        count = max(1, len(keys) // EVICTED_SHARE)
        oldest = np.argpartition(used, count - 1)[:count]
        oldest = oldest[np.argsort(used[oldest])]
        for i in oldest.tolist():
            self.forget(keys[i])
        self.evicted += count
        return rows[oldest]

    def dump(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The table for a checkpoint: a part for JSON, and a part for tensors."""
        rows = np.fromiter(self.rows.values(), np.int64, len(self.rows))
        plain = {"keys": list(self.rows), "end": self.end, "evicted": self.evicted, "born": self.born}
        tensors = {"rows": rows, "last_used": self._last_used[rows], "numbers": self._numbers[rows]}
        return plain, tensors | {"free": np.array(self._free, np.int64)}

    def restore(self, plain: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        """Become the table that was dumped. If the dump has no slice numbers, the slices are numbered anew."""
        self.end, self.evicted, self._free = plain["end"], plain["evicted"], tensors["free"].tolist()
        self.born = plain.get("born", len(plain["keys"]))
        size = FIRST_CAPACITY + self.end
        self._last_used, self._used = np.zeros(size, np.int64), np.zeros(size, bool)
        self._numbers = np.full(size + 1, UNKNOWN, np.int64)
        rows = tensors["rows"]
        self._last_used[rows], self._used[rows] = tensors["last_used"], True
        self._numbers[rows] = tensors.get("numbers", np.arange(len(rows)))
        keys = [tuple(key) if isinstance(key, list) else key for key in plain["keys"]]
        self.rows = dict(zip(keys, rows.tolist(), strict=True))
        self._direct = np.zeros(0, np.int32)
        for key, row in self.rows.items():
            if _is_direct(key):
                self._set_direct(key, row)  # type: ignore[arg-type]

    def _set(self, key: Hashable, row: int, number: int) -> None:
        self.rows[key] = row
        self._used[row] = True
        self._numbers[row] = number
        if _is_direct(key):
            self._set_direct(key, row)  # type: ignore[arg-type]

    def _set_direct(self, key: int, row: int) -> None:
        self._cover(key)
        self._direct[key] = row

    def _cover(self, largest: int) -> None:
        if largest >= len(self._direct):
            wider = np.full(1 << max(10, largest.bit_length()), UNKNOWN, np.int32)
            wider[: len(self._direct)] = self._direct
            self._direct = wider


def first_unknown(keys: SliceKeys, rows: np.ndarray) -> list[int]:
    """Events whose row is UNKNOWN, in order; for coded keys and integers only the first event of each slice."""
    if rows.min(initial=0) != UNKNOWN:
        return []  # the usual case
    unknown = np.flatnonzero(rows == UNKNOWN)
    codes = keys.codes if isinstance(keys, CodedKeys) else keys
    if isinstance(codes, np.ndarray) and codes.dtype.kind in "iu" and len(unknown) > 1:
        unknown = unknown[np.sort(np.unique(codes[unknown], return_index=True)[1])]
    return unknown.tolist()


def _is_direct(key: Hashable) -> bool:
    return type(key) is int and 0 <= key < DIRECT


def _unknown(key: Hashable) -> str:
    return f"{key!r} is no slice of this engine, or no longer; `slices` lists those that are"
