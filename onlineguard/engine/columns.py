"""Columns as callers hold them: frames of polars and pandas, streams of Arrow, and dicts of arrays."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from onlineguard.engine import arrow

if TYPE_CHECKING:  # an extra; who gives arrays or frames of pandas does without it
    import polars as pl

    Frame = pl.DataFrame | pl.Series | arrow.Table | arrow.Column

PLAIN = (list, tuple, np.ndarray)  # what most callers give: no columns, and not looked at any further


def as_frame(held: Any) -> "Frame | None":
    """A frame or a column of polars, or what speaks Arrow's C interface as one; None for all else, and for pandas.

    That interface is spoken by Arrow's tables, batches, arrays and readers, and by DuckDB's relations. A reader is read
    to its end. Where polars is not installed, pyarrow reads them; raises MissingExtra where neither is.
    """
    if isinstance(held, arrow.Table | arrow.Column):
        return held
    if hasattr(held, "iloc") or not (hasattr(held, "__arrow_c_stream__") or hasattr(held, "__arrow_c_array__")):
        return None
    if find_spec("polars") is None:
        return arrow.read(held)
    import polars as pl

    if isinstance(held, pl.DataFrame | pl.Series):
        return held
    column = pl.Series(held)
    return column.struct.unnest() if isinstance(column.dtype, pl.Struct) else column


def as_columns(X: Any) -> Any:
    """A dict of columns, or a frame of polars or pandas, which is read like one; None for what has no named columns."""
    if isinstance(X, PLAIN):
        return None
    if isinstance(X, Mapping) or hasattr(X, "iloc"):
        return None if getattr(X, "ndim", 2) == 1 else X  # a column of pandas by itself has no columns
    found = as_frame(X)
    return found if hasattr(found, "columns") else None  # a single column has none


def as_numpy(column: Any) -> np.ma.MaskedArray[Any, Any]:
    """A column as an array (n,) of NumPy, of whatever type."""
    found = as_frame(column)
    return np.ma.asarray(column if found is None else found.to_numpy())


def names_at_hand(X: Any) -> list[Any]:
    """The names of the columns of X as far as nothing must be read for them; none where it has no columns."""
    if isinstance(X, list | tuple):
        return list(X[0]) if X and isinstance(X[0], Mapping) else []
    if isinstance(X, Mapping):
        return list(X)
    if type(X).__name__ == "LazyFrame":
        return []
    return list(getattr(X, "column_names", None) or getattr(X, "columns", ()))


def names_of(columns: Any) -> list[str]:
    """The names of the columns."""
    return list(columns if isinstance(columns, Mapping) else columns.columns)
