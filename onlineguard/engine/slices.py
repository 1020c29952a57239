"""The rows of a table that slice keys belong to: lookup, birth, least-recently-used eviction."""

import sys
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import numpy as np
import polars as pl

from onlineguard.engine.arrays import there
from onlineguard.errors import InvalidArgument

UNKNOWN = -1  # the row, and the number, of a slice not seen before
DIRECT = 2**22  # whole numbers below this are looked up in an array, all other keys in a dictionary
FIRST_CAPACITY = 1_024  # rows at first; doubled when full
EVICTED_SHARE = 16  # a full table drops a sixteenth of its slices at once, so that eviction costs little per event
FEW = 64  # fewer keys than this are looked up in a dictionary faster than they are sorted


@dataclass(frozen=True)
class CodedKeys:
    """The keys of n events, each key stored once: event i belongs to slice `unique[codes[i]]`."""

    unique: list[Any]
    codes: np.ndarray  # (n,), whole numbers

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, at: Any) -> Any:
        """The key of one event, or the coded keys of some events."""
        codes = self.codes[at]
        return CodedKeys(self.unique, codes) if np.ndim(codes) else self.unique[int(codes)]

    def __iter__(self) -> Iterator[Any]:
        return map(self.unique.__getitem__, self.codes.tolist())


SliceKeys = Sequence[Any] | np.ndarray | CodedKeys  # the keys of n events, as `as_keys` returns them


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
            keys = keys.tolist() if len(keys) < FEW else _coded_integers(keys)
        if isinstance(keys, CodedKeys):
            present = np.flatnonzero(np.bincount(keys.codes, minlength=len(keys.unique)))
            rows = np.full(len(keys.unique), UNKNOWN, np.int32)
            rows[present] = self.lookup([keys.unique[code] for code in present.tolist()])
            return rows[keys.codes]
        if isinstance(keys, np.ndarray):
            keys = keys.tolist()
        return np.fromiter(map(self.rows.get, keys, repeat(UNKNOWN)), np.int32, len(keys))

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
            self._last_used[rows[0]] = clock  # this takes a tenth of the time
        else:
            self._last_used[rows] = np.arange(clock, clock + len(rows))

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


def as_keys(slices: Any, n: int) -> SliceKeys:
    """The slices of n events as an integer array, coded keys or a sequence of Python objects.

    Takes one key for all events (a string, an int or a tuple of these); a list or an array of keys; or a column or a
    frame of polars, pandas or Arrow. Several columns make each key a tuple.
    """
    found = there(slices)
    slices = slices if found is None else np.asarray(found)
    if isinstance(slices, CodedKeys):
        return slices
    if isinstance(slices, (str, int, np.integer, tuple)):
        return CodedKeys([slices], np.zeros(n, np.uint8))
    if isinstance(slices, bytes) or not hasattr(slices, "__len__"):
        raise InvalidArgument(
            f"slices is {slices!r}; it must hold one key an event, e.g. ['mobile', 'desktop'], or be one key for all"
        )
    if len(slices) != n:
        raise InvalidArgument(f"slices has {len(slices)} keys for {n} events in X; it must hold one key an event")
    if isinstance(slices, np.ndarray):
        if slices.ndim != 1:
            raise InvalidArgument(f"slices has shape {slices.shape}; it must have one axis: one key an event")
        return slices
    columns = _columns(slices)
    if columns is None:
        return slices
    if not columns:
        raise InvalidArgument("slices is a frame without columns; it must have at least one, e.g. frame[['host']]")
    return columns[0] if len(columns) == 1 else _paired(columns)


def check_key(key: Any, index: int) -> Hashable:
    """The key as it is kept; raises InvalidArgument unless it is a string, an int or a tuple of these."""
    if isinstance(key, np.integer):
        return int(key)
    parts = key if isinstance(key, tuple) else (key,)
    if not parts or not all(isinstance(part, (str, int, np.integer)) and not isinstance(part, bool) for part in parts):
        raise InvalidArgument(
            f"slices[{index}] is {key!r}; a key must be a string, an int or a tuple of these, e.g. ('mobile', 'DE')"
        )
    return tuple(int(p) if isinstance(p, np.integer) else p for p in parts) if isinstance(key, tuple) else key


def first_unknown(keys: SliceKeys, rows: np.ndarray) -> list[int]:
    """Events whose row is UNKNOWN, in order; for coded keys and integers only the first event of each slice."""
    if rows.min(initial=0) != UNKNOWN:
        return []  # the usual case
    unknown = np.flatnonzero(rows == UNKNOWN)
    codes = keys.codes if isinstance(keys, CodedKeys) else keys
    if isinstance(codes, np.ndarray) and codes.dtype.kind in "iu" and len(unknown) > 1:
        unknown = unknown[np.sort(np.unique(codes[unknown], return_index=True)[1])]
    return unknown.tolist()


def _columns(slices: Any) -> list[SliceKeys] | None:
    """The keys in each column of a frame, or in a single column; None if `slices` is neither."""
    if isinstance(slices, pl.DataFrame):
        return [_of_polars(column) for column in slices.get_columns()]
    if isinstance(slices, pl.Series):
        return [_of_polars(slices)]
    if hasattr(slices, "iloc"):  # pandas
        if slices.ndim == 1:
            return [_of_pandas(slices)]
        return [_of_pandas(slices.iloc[:, i]) for i in range(slices.shape[1])]
    if hasattr(slices, "column_names"):  # an Arrow table
        return [_of_polars(pl.Series(slices.column(i))) for i in range(slices.num_columns)]
    if hasattr(slices, "to_pylist"):  # an Arrow array
        return [_of_polars(pl.Series(slices))]
    return [slices.tolist()] if hasattr(slices, "tolist") else None


def _of_polars(column: pl.Series) -> SliceKeys:
    if column.dtype.is_integer() and not column.has_nulls():
        return column.to_numpy()
    if not isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
        return column.to_list()
    # These categories are freed with the column. Polars' global ones would grow for as long as the stream flows.
    codes = column.cast(pl.String).cast(pl.Categorical(pl.Categories.random())).to_physical()
    n_unique = int(np.max(codes.drop_nulls().to_numpy().astype(np.int64), initial=-1)) + 1
    codes = codes.fill_null(n_unique).to_numpy()  # a null is no key, so `check_key` refuses it
    first = np.zeros(n_unique + 1, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return CodedKeys(column.gather(first).to_list() if len(codes) else [], codes)


def _of_pandas(column: Any) -> SliceKeys:
    if column.dtype.kind in "iu" and not column.hasnans:
        return column.to_numpy()
    pandas = sys.modules["pandas"]
    if not isinstance(column.dtype, pandas.StringDtype | pandas.CategoricalDtype):
        return column.tolist()
    codes, unique = column.factorize(use_na_sentinel=False)
    return CodedKeys(unique.tolist(), codes)


def _paired(columns: list[SliceKeys]) -> SliceKeys:
    """Tuples of the keys in several columns, coded where every column is."""
    columns = [_coded_integers(column) if isinstance(column, np.ndarray) else column for column in columns]
    coded = [column for column in columns if isinstance(column, CodedKeys)]
    if len(coded) < len(columns):
        return list(zip(*columns, strict=True))
    unique: list[Any] = [()]
    codes = np.zeros(len(columns[0]), np.int64)
    for column in coded:
        pairs = codes * len(column.unique) + column.codes
        present, codes = _distinct(pairs, len(unique) * len(column.unique))
        left, right = np.divmod(present, len(column.unique))
        unique = [(*unique[i], column.unique[j]) for i, j in zip(left.tolist(), right.tolist(), strict=True)]
    return CodedKeys(unique, codes)


def _coded_integers(keys: np.ndarray) -> CodedKeys:
    unique, codes = np.unique(keys, return_inverse=True)
    return CodedKeys(unique.tolist(), codes)


def _distinct(numbers: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct whole numbers, all below `end`, ascending; and the position of each number among them."""
    if end > 4 * len(numbers):
        return np.unique(numbers, return_inverse=True)
    present = np.bincount(numbers, minlength=end) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[numbers]


def _is_direct(key: Hashable) -> bool:
    return type(key) is int and 0 <= key < DIRECT
