"""Slice keys in any form that callers give them (lists, columns, frames, streams of Arrow), as plain keys.

A key is kept as a string, an int or a tuple of these, so that JSON can hold it. What else has one obvious name becomes
that: a date and a time the text of ISO 8601, a UUID its text, and a whole float an int. Other floats are no keys: they
are events in the wrong place more often than names.
"""

import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from onlineguard.engine import arrow
from onlineguard.engine.arrays import there
from onlineguard.engine.columns import PLAIN, as_frame
from onlineguard.errors import InvalidArgument

if TYPE_CHECKING:
    import polars as pl

NAMED = (date, time, UUID, float, np.floating)  # what becomes a text or an int; a datetime is a date
ONE_KEY = (str, int, np.integer, tuple, *NAMED)


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


def as_keys(slices: Any, n: int) -> SliceKeys:
    """The slices of n events as an integer array, coded keys or a sequence of Python objects; not checked yet.

    Takes one key for all events (a string, an int or a tuple of these); a list or an array of keys; a column or a frame
    of polars or pandas, or an index of the latter; what speaks Arrow's C interface, such as a relation of DuckDB; or a
    dict of columns. Several columns make each key a tuple, and a column of structs counts as its fields.
    """
    found = there(slices)
    slices = slices if found is None else np.asarray(found)
    if isinstance(slices, CodedKeys):
        return slices
    if isinstance(slices, ONE_KEY):
        return CodedKeys([slices], np.zeros(n, np.uint8))
    if isinstance(slices, Mapping):
        columns = [as_keys(column, n) for column in slices.values()]
        return _joined(columns, n)
    columns = _columns(slices)
    if columns is not None:
        return _joined(columns, n)
    if isinstance(slices, bytes) or not hasattr(slices, "__len__"):
        raise InvalidArgument(
            f"slices is {slices!r}; it must hold one key an event, e.g. ['mobile', 'desktop'], or be one key for all"
        )
    _check_length(len(slices), n)
    if isinstance(slices, np.ndarray):
        if slices.ndim != 1:
            raise InvalidArgument(f"slices has shape {slices.shape}; it must have one axis: one key an event")
        return _of_array(slices)
    return slices.tolist() if hasattr(slices, "tolist") else slices


def kept(key: Any) -> Any:
    """The key as it is kept. What is a key already comes back as it is, and so does what cannot be one.

    >>> kept(("de", date(2026, 7, 1), 3.0))
    ('de', '2026-07-01', 3)
    """
    if isinstance(key, (str, int)):
        return key
    if isinstance(key, tuple):
        parts = tuple(map(kept, key))
        return key if all(map(_is, parts, key)) else parts
    if isinstance(key, np.integer):
        return int(key)
    if not isinstance(key, NAMED) or key != key:
        return key  # NaN and NaT are no keys
    if isinstance(key, datetime):
        return datetime.isoformat(key)  # also of pandas, whose own has nanoseconds
    if isinstance(key, (date, time)):
        return key.isoformat()
    if isinstance(key, UUID):
        return str(key)
    return int(key) if key.is_integer() else key


def check_key(key: Any, index: int) -> Hashable:
    """The key as it is kept; raises InvalidArgument where `kept` finds no string, no int and no tuple of these."""
    if type(key) is str or type(key) is int:
        return key  # the usual case
    found = kept(key)
    parts = found if isinstance(found, tuple) else (found,)
    if not parts or not all(isinstance(part, (str, int)) and not isinstance(part, bool) for part in parts):
        raise InvalidArgument(
            f"slices[{index}] is {key!r}; a key must be a string, an int or a tuple of these, e.g. ('mobile', 'DE'); "
            "dates and UUIDs become texts, whole floats ints; fill what is missing, e.g. with '?'"
        )
    return found


def kept_keys(keys: SliceKeys, unknown: Sequence[int]) -> SliceKeys:
    """The keys as they are kept, of which those at `unknown` belong to no slice yet; see `first_unknown`.

    Raises InvalidArgument, naming the index, for one that is no key.
    """
    if isinstance(keys, np.ndarray) and keys.dtype.kind in "iu":
        return keys
    others: dict[int, Hashable] = {}  # by event, those that are kept as something else
    for i in unknown:
        key = keys[i]
        if (found := check_key(key, i)) is not key:
            others[i] = found
    if not others:
        return keys  # the usual case
    if not isinstance(keys, CodedKeys):
        return list(map(kept, keys))
    unique = list(keys.unique)
    for i, found in others.items():
        unique[int(keys.codes[i])] = found
    return CodedKeys(unique, keys.codes)


def coded_integers(keys: np.ndarray) -> CodedKeys:
    """Whole numbers, each stored once."""
    unique, codes = np.unique(keys, return_inverse=True)
    return CodedKeys(unique.tolist(), codes)


def _is(one: object, other: object) -> bool:
    return one is other


def _check_length(found: int, n: int) -> None:
    if found != n:
        raise InvalidArgument(f"slices has {found} keys for {n} events in X; it must hold one key an event")


def _joined(columns: list[SliceKeys], n: int) -> SliceKeys:
    if not columns:
        raise InvalidArgument("slices is a frame without columns; it must have at least one, e.g. frame[['host']]")
    _check_length(len(columns[0]), n)
    return columns[0] if len(columns) == 1 else _paired(columns)


def _columns(slices: Any) -> list[SliceKeys] | None:
    """The keys in each column of a frame, or in a single column; None if `slices` is neither."""
    if isinstance(slices, PLAIN):
        return None
    if hasattr(slices, "get_level_values"):  # an index of pandas
        return [_of_pandas(slices.get_level_values(i).to_series()) for i in range(slices.nlevels)]
    if hasattr(slices, "iloc"):  # pandas
        if slices.ndim == 1:
            return [_of_pandas(slices)]
        return [_of_pandas(slices.iloc[:, i]) for i in range(slices.shape[1])]
    found = as_frame(slices)
    if isinstance(found, arrow.Table | arrow.Column):
        return [_of_arrow(part) for part in found.parts()]
    return None if found is None else [_of_polars(part) for part in _parts(found)]


def _parts(held: "pl.DataFrame | pl.Series") -> "list[pl.Series]":
    """The columns of a frame, or a column; in the place of a struct its fields."""
    import polars as pl

    if isinstance(held, pl.DataFrame):
        return [part for column in held.get_columns() for part in _parts(column)]
    return _parts(held.struct.unnest()) if isinstance(held.dtype, pl.Struct) else [held]


def _of_array(keys: np.ndarray) -> SliceKeys:
    """The keys of an array (n,) of NumPy, in which None, NaT and masked ones are missing."""
    if keys.dtype.kind == "M":
        keys = keys.astype("datetime64[us]" if np.datetime_data(keys.dtype)[0] not in ("Y", "M", "W", "D") else "M8[D]")
        return keys.tolist()
    if isinstance(keys, np.ma.MaskedArray):
        return keys.tolist() if np.ma.is_masked(keys) else np.asarray(keys)
    return keys


def _of_polars(column: "pl.Series") -> SliceKeys:
    import polars as pl

    if column.dtype.is_integer() and not column.has_nulls():
        return column.to_numpy()
    if column.dtype.is_float() or column.dtype.is_temporal():
        unique = column.drop_nulls().unique().sort()
        codes = column.rank("dense").cast(pl.Int64).fill_null(len(unique) + 1) - 1
        return CodedKeys([*unique.to_list(), None], codes.to_numpy())
    if not isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
        return column.to_list()
    # These categories are freed with the column. Polars' global ones would grow for as long as the stream flows.
    codes = column.cast(pl.String).cast(pl.Categorical(pl.Categories.random())).to_physical()
    n_unique = int(np.max(codes.drop_nulls().to_numpy().astype(np.int64), initial=-1)) + 1
    codes = codes.fill_null(n_unique).to_numpy()  # a null is no key, so `check_key` refuses it
    first = np.zeros(n_unique + 1, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return CodedKeys(column.gather(first).to_list() if len(codes) else [], codes)


def _of_arrow(column: arrow.Column) -> SliceKeys:
    coded = column.coded()
    return column.to_numpy() if coded is None else CodedKeys(*coded)


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
    columns = [_coded(column) if isinstance(column, np.ndarray) else column for column in columns]
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


def _coded(keys: np.ndarray) -> SliceKeys:
    return coded_integers(keys) if keys.dtype.kind in "iuU" else keys.tolist()


def _distinct(numbers: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct whole numbers, all below `end`, ascending; and the position of each number among them."""
    if end > 4 * len(numbers):
        return np.unique(numbers, return_inverse=True)
    present = np.bincount(numbers, minlength=end) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[numbers]
