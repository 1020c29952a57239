"""Events in any form that callers give them (numbers, frames, lists of dicts), as one array."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.engine.arrays import there
from onlineguard.engine.categories import as_codes, code
from onlineguard.engine.columns import as_columns, as_numpy, names_of
from onlineguard.engine.keys import CodedKeys, as_keys
from onlineguard.errors import InvalidArgument

LARGEST = float(np.finfo(np.float32).max)
UNREADABLE = (
    TypeError,
    ValueError,
    OverflowError,
    NotImplementedError,
)  # the errors that libraries raise for values that are no numbers
NO_NUMBERS = (
    "cmMV"  # kinds that NumPy casts to floats, though they are no numbers here: complex, durations, dates, records
)
_NOT_NUMBERS = (np.complexfloating, np.datetime64, np.timedelta64)


class CodedEvents(NamedTuple):
    """Events (n, d) as numbers, in which categories are codes already, see `code`."""

    numbers: np.ndarray


def as_events(X: Any, n_features: int, features: Sequence[str] | None, categories: Sequence[int] = ()) -> np.ndarray:
    """X as an array (n, d) of float32 or float64; an absent, null or None feature becomes NaN.

    categories: the features that are categories, counted from 0; they become codes, see `as_codes`.

    X may be anything that `np.asarray` turns into numbers of shape (n, d), or (n,) where d is 1; named columns, see
    `as_columns`, among which the features are; or a list of dicts. Masked values of a masked array are missing.
    Raises InvalidArgument, naming the index, for anything else, which includes dates and complex numbers.
    """
    if isinstance(X, CodedEvents):
        return X.numbers
    if type(X).__name__ == "LazyFrame" or hasattr(X, "scanner"):
        kind = type(X).__name__
        whole = "X.collect()" if kind == "LazyFrame" else "X.to_table()"
        way_out = f"give {whole}, or judge it batch by batch: for keys, rows in in_batches(X, 'host')"
        raise InvalidArgument("X", f"is a {kind}, which holds no rows yet; {way_out}")
    if hasattr(X, "iloc") and X.ndim == 1:
        return _from_one_column(X, n_features, categories)
    if (columns := as_columns(X)) is not None:
        return _from_columns(columns, _names(features, "named columns"), categories)
    if isinstance(X, Sequence) and len(X) and isinstance(X[0], Mapping):
        return _from_dicts(X, _names(features, "dicts"), categories)
    try:
        found = there(X)
        array = np.asarray(X if found is None else found, object if categories and not hasattr(X, "dtype") else None)
        if array.ndim == 2 and array.shape[-1] == n_features:
            array = _with_codes(array, categories)
        if array.dtype == jnp.bfloat16:
            array = array.astype(np.float32)
        if array.dtype != np.float32:
            array = _as_float64(array)
        if isinstance(X, np.ma.MaskedArray):
            array = np.where(np.ma.getmaskarray(X), array.dtype.type(np.nan), array)
    except UNREADABLE as error:
        raise InvalidArgument(
            f"X cannot be read as numbers: {error}; give an array of shape (n, {n_features})"
        ) from error
    if array.ndim == 1 and (n_features == 1 or array.size == 0):
        array = array.reshape(-1, n_features)
    if array.ndim != 2 or array.shape[-1] != n_features:
        one = "; a single event is [X]" if array.shape == (n_features,) else ""
        raise InvalidArgument(f"X has shape {array.shape}; it must be (n, {n_features}), one row an event{one}")
    return array


def as_event(x: Any, n_features: int, features: Sequence[str] | None) -> Any:
    """One event as X of `as_events`: numbers, a dict, or a row of a frame, be it a Series of pandas or a frame.

    Raises InvalidArgument for a frame of several rows.
    """
    if hasattr(x, "iloc") and x.ndim == 1:
        return [x.tolist() if features is None else x.to_dict()]
    if isinstance(x, Mapping) or (columns := as_columns(x)) is None:
        return [x]
    if len(columns) != 1:
        raise InvalidArgument("x", f"has {len(columns)} rows; it must be one event, e.g. x[:1]")
    return columns


def events_there(X: Any, n_features: int) -> jax.Array | None:
    """X (n, d) where it lies, if it is an array of JAX, or one of another library on an accelerator; else None.

    Only float32, bfloat16 and float16 are taken so; the last becomes float32.
    """
    try:
        array = there(X)
    except (TypeError, ValueError, RuntimeError):  # of a type that JAX has not
        return None
    if array is None or array.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
        return None
    if array.ndim != 2 or array.shape[1] != n_features or len(array.devices()) > 1:
        return None
    return array.astype(jnp.float32) if array.dtype == jnp.float16 else array


def texts_among(X: Any, n_features: int, features: Sequence[str] | None) -> tuple[int, ...]:
    """The features, counted from 0, that hold texts which are no numbers. X is anything that `as_events` takes."""
    names: Sequence[Any] = range(n_features) if features is None else features
    if (held := as_columns(X)) is not None:
        present = names_of(held)
        whole = [name in present and hasattr(held[name], "__len__") for name in names]
        columns = [
            as_keys(held[name], len(held[name])) if is_one else [] for name, is_one in zip(names, whole, strict=True)
        ]
    elif isinstance(X, Sequence) and len(X) and isinstance(X[0], Mapping):
        columns = [[event.get(name) for event in X if isinstance(event, Mapping)] for name in names]
    else:
        array = np.asarray(X, object)
        columns = array.T.tolist() if array.ndim == 2 and array.shape[-1] == n_features else []
    return tuple(j for j, column in enumerate(columns) if any(map(_is_text, _distinct(column))))


def as_targets(y: Any, n: int) -> np.ndarray:
    """The targets of n events, float32 (n,); NaN where a target is unknown, and everywhere if y is None.

    Raises InvalidArgument, naming the index, unless y holds n numbers.
    """
    if y is None:
        return np.full(n, np.nan, np.float32)
    try:
        found = there(y)
        y = y if found is None else np.asarray(found)
        values = np.array([np.nan if value is None else float(value) for value in y], np.float64)
    except UNREADABLE as error:
        raise InvalidArgument(
            f"y cannot be read as numbers: {error}; give one number an event, NaN where it is not known"
        ) from error
    if values.shape != (n,):
        raise InvalidArgument(f"y has shape {values.shape} for {n} events in X; it must hold one number an event")
    targets = np.empty(n, np.float32)
    as_float32(values, targets)
    return targets


def as_float32(events: np.ndarray, out: np.ndarray) -> None:
    """Write events into `out`. A finite value too large for float32 becomes the largest float32, not infinity."""
    if events.dtype == np.float32:
        if events.ndim > 1 and events.strides[-1] == events.itemsize:
            events, out = whole_rows(events), whole_rows(out)
        out[...] = events
        return
    with np.errstate(over="ignore"):
        out[...] = events
    overflown = np.isinf(out)
    if overflown.any():
        overflown &= np.isfinite(events)
        out[overflown] = np.copysign(LARGEST, events[overflown])


def whole_rows(array: np.ndarray) -> np.ndarray:
    """The rows (n, d) of an array, each contiguous, as n elements, which NumPy copies in a third of the time."""
    return array.view(f"V{array.shape[1] * array.itemsize}")[:, 0]


def _with_codes(array: np.ndarray, categories: Sequence[int]) -> np.ndarray:
    """The array with the codes of categories in their columns."""
    if not categories:
        return array
    with_codes = np.array(array, object if array.dtype.kind in "OU" else np.float64)
    for j in categories:
        with_codes[:, j] = as_codes(array[:, j], f"column {j} of X")
    return with_codes


def _as_float64(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in NO_NUMBERS:
        raise TypeError(f"{array.dtype} is no type of numbers")
    return array.astype(np.float64, copy=False)


def _from_one_column(X: Any, n_features: int, categories: Sequence[int]) -> np.ndarray:
    """A column of pandas by itself."""
    if n_features != 1:
        raise InvalidArgument(
            "X",
            f"is a Series of {len(X)} values, but an event has {n_features} features; give a frame, which a single row "
            "is as X.to_frame().T",
        )
    name = str(X.name)
    column = as_codes(X, f"column {name!r} of X") if categories else _column(X, name)
    return np.asarray(column).reshape(-1, 1)


def _names(features: Sequence[str] | None, kind: str) -> Sequence[str]:
    if features is None:
        raise InvalidArgument(f"X holds {kind}, but this engine's features have no names; say Engine(features=[...])")
    return features


def _distinct(column: Any) -> Any:
    return column.unique if isinstance(column, CodedKeys) else column


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


def _from_columns(X: Any, features: Sequence[str], categories: Sequence[int]) -> np.ndarray:
    if isinstance(X, Mapping) and X and all(isinstance(value, str) or not np.ndim(value) for value in X.values()):
        raise InvalidArgument("X", "is a single event; put it in a list, [X]")
    present = names_of(X)
    missing = [name for name in features if name not in present]
    if missing:
        raise InvalidArgument(f"X has no column {missing[0]!r}; its columns are {', '.join(map(repr, present))}")
    twice = [name for name in features if present.count(name) > 1]
    if twice:
        raise InvalidArgument(f"X has the column {twice[0]!r} more than once; rename or drop the others")
    columns = [
        as_codes(X[name], f"column {name!r} of X") if j in categories else _column(X[name], name)
        for j, name in enumerate(features)
    ]
    if len(lengths := {len(column) for column in columns}) > 1:
        raise InvalidArgument(
            f"X has columns of {min(lengths)} and of {max(lengths)} values; all must have one an event"
        )
    return np.column_stack(columns) if columns[0].size else np.empty((0, len(features)))


def _column(column: Any, name: str) -> np.ndarray:
    try:
        if (
            hasattr(column, "iloc") and column.dtype.kind not in NO_NUMBERS
        ):  # pandas, which must be told to turn NA into NaN
            return column.to_numpy(np.float64, na_value=np.nan)
        values = as_numpy(column)
        if values.ndim != 1:
            raise TypeError(f"it has shape {values.shape}, and must hold one value an event")
        return np.ma.filled(_as_float64(values), np.nan)
    except UNREADABLE as error:
        raise InvalidArgument(
            f"column {name!r} of X cannot be read as numbers: {error}; cast it, e.g. to float64, or make it a category "
            f"with Engine(categories=[{name!r}])"
        ) from error


def _from_dicts(X: Sequence[Any], features: Sequence[str], categories: Sequence[int]) -> np.ndarray:
    array = np.empty((len(X), len(features)))
    for i, event in enumerate(X):
        if not isinstance(event, Mapping):
            raise InvalidArgument(f"X[{i}] is {event!r}, but X[0] is a dict; make each event a dict, an empty one {{}}")
        for j, name in enumerate(features):
            value = event.get(name)
            if j in categories:
                array[i, j] = code(value, f"X[{i}][{name!r}]")
                continue
            try:
                if isinstance(value, _NOT_NUMBERS):
                    raise TypeError
                array[i, j] = np.nan if value is None else float(value)
            except OverflowError as error:
                raise InvalidArgument(f"X[{i}][{name!r}] is beyond 1.8e308; it must fit a float") from error
            except (TypeError, ValueError) as error:
                raise InvalidArgument(
                    f"X[{i}][{name!r}] is {value!r}; it must be a number, or absent, or the feature a category: "
                    f"Engine(categories=[{name!r}])"
                ) from error
    return array
