"""Rows of a Parquet file, of the columns that are asked for and no others."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from onlineguard.errors import SourceError
from onlineguard.sources.rows import Columns, FieldRows

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)  # the errors that polars raises


def read_parquet(
    path: Path, columns: Columns, batch_rows: int, progress: Callable[[int, int], None]
) -> Iterator[FieldRows]:
    """The rows in their order; `progress` is called with the rows read and all rows. Raises one of `UNREADABLE`."""
    frame = pl.scan_parquet(path, glob=False)
    schema = frame.collect_schema()
    names = columns.found_in(schema.names())
    for role, column in columns.roles:
        _check_type(role, column, schema[column], columns.source)
    n_rows = int(frame.select(pl.len()).collect().item())
    done = 0
    for table in frame.select(names).collect_batches(chunk_size=batch_rows, maintain_order=True):
        numbers = np.arange(done + 1, done + 1 + len(table))
        done += len(table)
        progress(done, n_rows)
        yield FieldRows(
            {name: table.get_column(name) for name in names},
            numbers,
            lambda i, table=table: json.dumps(table.row(i, named=True), default=str, ensure_ascii=False),
            [],
        )


def _check_type(role: str, column: str, dtype: pl.DataType, source: str) -> None:
    number = dtype.is_numeric() or isinstance(dtype, pl.String | pl.Null)
    fits = {
        "slice": not (dtype.is_nested() or isinstance(dtype, pl.Binary)),
        "feature": number or isinstance(dtype, pl.Boolean),
        "time": number or isinstance(dtype, pl.Datetime | pl.Date),
        "label": number or isinstance(dtype, pl.Boolean),
    }
    if not fits[role]:
        noun = {"slice": "key", "feature": "number"}.get(role, role)
        raise SourceError(
            f"{role} column {column!r} of {source} is of type {dtype}, which is no {noun}; "
            "cast it or name another column"
        )
