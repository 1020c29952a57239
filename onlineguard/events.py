"""What callers call events, as one array: numbers, frames, lists of dicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onlineguard.errors import InvalidArgument

LARGEST = float(np.finfo(np.float32).max)


def as_events(X: Any, n_features: int, features: Sequence[str] | None) -> np.ndarray:
    """X as an array (n, d) of float32 or float64; an absent, null or None feature becomes NaN.

    X may be anything `np.asarray` takes to numbers of shape (n, d), or (n,) where d is 1; a polars or pandas frame or
    an Arrow table with the named features; or a list of dicts. Raises InvalidArgument, naming the index, for all else.
    """
    if hasattr(X, "columns") or hasattr(X, "column_names"):
        return _from_frame(X, _names(features, "a frame"))
    if isinstance(X, Sequence) and len(X) and isinstance(X[0], Mapping):
        return _from_dicts(X, _names(features, "dicts"))
    try:
        array = np.asarray(X)
        if array.dtype != np.float32:
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"X cannot be read as numbers: {error}; give an array of shape (n, {n_features})"
        ) from error
    if array.ndim == 1 and (n_features == 1 or array.size == 0):
        array = array.reshape(-1, n_features)
    if array.ndim != 2 or array.shape[-1] != n_features:
        raise InvalidArgument(f"X has shape {array.shape}; it must be (n, {n_features}), one row an event")
    return array


def as_float32(events: np.ndarray, out: np.ndarray) -> None:
    """Write events into float32; what is too large for it becomes the largest float32 there is, not infinite."""
    if events.dtype == np.float32:
        out[...] = events
        return
    with np.errstate(over="ignore"):
        out[...] = events
    overflown = np.isinf(out)
    if overflown.any():
        overflown &= np.isfinite(events)
        out[overflown] = np.copysign(LARGEST, events[overflown])


def _names(features: Sequence[str] | None, kind: str) -> Sequence[str]:
    if features is None:
        raise InvalidArgument(f"X holds {kind}, but this engine's features have no names; say Engine(features=[...])")
    return features


def _from_frame(X: Any, features: Sequence[str]) -> np.ndarray:
    present = list(X.columns if hasattr(X, "column_names") is False else X.column_names)
    missing = [name for name in features if name not in present]
    if missing:
        raise InvalidArgument(f"X has no column {missing[0]!r}; its columns are {', '.join(map(repr, present))}")
    columns = [_column(X[name], name) for name in features]
    return np.column_stack(columns) if columns[0].size else np.empty((0, len(features)))


def _column(column: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(column.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"column {name!r} of X cannot be read as numbers: {error}") from error


def _from_dicts(X: Sequence[Mapping[str, Any]], features: Sequence[str]) -> np.ndarray:
    array = np.empty((len(X), len(features)))
    for i, event in enumerate(X):
        for j, name in enumerate(features):
            value = event.get(name)
            try:
                array[i, j] = np.nan if value is None else value
            except (TypeError, ValueError) as error:
                raise InvalidArgument(f"X[{i}][{name!r}] is {value!r}; it must be a number, or absent") from error
    return array
