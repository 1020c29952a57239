"""Frames: a Parquet file, of the columns that are asked for and no others; and the sheet of an Excel file.

A field of a struct is a column whose name has a dot: service.name.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from onlineguard.errors import SourceError
from onlineguard.extras import require
from onlineguard.sources.numerals import PLAIN, Numerals, parsed, told_numerals
from onlineguard.sources.rows import HEAD_ROWS, Columns, FieldRows

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)  # the errors that polars raises


class Frames:
    """A `Table` of typed columns. `progress` is called with the rows read and all rows. Raises one of `UNREADABLE`."""

    def __init__(
        self,
        frame: pl.LazyFrame,
        batch_rows: int,
        progress: Callable[[int, int], None],
        described: str,
        first_line: int = 1,
    ):
        self._frame, self._batch_rows, self._progress = _flat(frame), batch_rows, progress
        self._described, self._first_line, self.numerals = described, first_line, PLAIN
        self._schema = self._frame.collect_schema()
        self.names = self._schema.names()
        self._sample: dict[str, pl.Series] | None = None

    @property
    def sample(self) -> dict[str, pl.Series]:
        """The first cells, read when they are asked for."""
        if self._sample is None:
            simple = [name for name, dtype in self._schema.items() if not (dtype.is_nested() or dtype == pl.Binary)]
            head = self._frame.select(simple).head(HEAD_ROWS).collect()
            self._sample = {name: head.get_column(name) for name in simple}
        return self._sample

    def describe(self) -> str:
        return self._described

    def rows(self, columns: Columns) -> Iterator[FieldRows]:
        """The rows in their order."""
        names = columns.found_in(self.names)
        for role, column in columns.roles:
            _check_type(role, column, self._schema[column], columns.source)
        n_rows = int(self._frame.select(pl.len()).collect().item())
        done = 0
        for table in self._frame.select(names).collect_batches(chunk_size=self._batch_rows, maintain_order=True):
            first = self._first_line + done
            done += len(table)
            self._progress(done, n_rows)
            yield FieldRows(
                {name: table.get_column(name) for name in names},
                np.arange(first, first + len(table)),
                lambda i, table=table: json.dumps(table.row(i, named=True), default=str, ensure_ascii=False),
                [],
            )


def parquet_table(path: Path, batch_rows: int, progress: Callable[[int, int], None]) -> Frames:
    """The table of a Parquet file."""
    return Frames(pl.scan_parquet(path, glob=False), batch_rows, progress, "Parquet")


def excel_table(
    path: Path, batch_rows: int, progress: Callable[[int, int], None], decimal: str | None = None
) -> Frames:
    """The table of the first sheet of an Excel file that has one; all of it is in memory. Needs the extra `excel`."""
    require("reading Excel", "excel")
    import fastexcel

    try:
        book = fastexcel.read_excel(path)
        sheets = [book.load_sheet(name) for name in book.sheet_names]
        sheet = next((sheet for sheet in sheets if sheet.height), None)
        if sheet is None:
            raise SourceError(f"source {path} has no sheet with rows")
        frame = sheet.to_polars()
    except fastexcel.FastExcelError as error:
        raise OSError(str(error).splitlines()[0]) from error
    texts = [cell for name in frame.columns if frame.schema[name] == pl.String for cell in frame[name].head(HEAD_ROWS)]
    numerals = told_numerals(pl.Series(texts, dtype=pl.String).drop_nulls(), decimal=decimal)
    described = f"Excel, sheet {sheet.name!r}"
    if numerals != PLAIN:
        frame = frame.with_columns(_plain(frame[name], numerals) for name in frame.columns)
        described += f", texts with {numerals.describe()}"
    return Frames(frame.lazy(), batch_rows, progress, described, 2)


def _flat(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The frame with the fields of structs as columns, at any depth; a name that is there already stays."""
    schema = frame.collect_schema()
    structs = {name: dtype for name, dtype in schema.items() if isinstance(dtype, pl.Struct)}
    if not structs:
        return frame
    columns: list[pl.Expr] = []
    for name in schema:
        within = structs[name].fields if name in structs else ()
        columns += [
            pl.col(name).struct.field(field.name).alias(f"{name}.{field.name}")
            for field in within
            if f"{name}.{field.name}" not in schema
        ] or [pl.col(name)] * (name not in structs)
    return _flat(frame.select(columns))


def _plain(cells: pl.Series, numerals: Numerals) -> pl.Series:
    """Texts that are numbers of this style, and not of the plain one that Excel's own numbers have, as plain ones."""
    if cells.dtype != pl.String:
        return cells
    numbers = pl.Series(parsed(cells, numerals), nan_to_null=True)
    told = numbers.is_not_null() & cells.cast(pl.Float64, strict=False).is_null()
    return numbers.cast(pl.String).zip_with(told, cells).alias(cells.name)


def _check_type(role: str, column: str, dtype: pl.DataType, source: str) -> None:
    number = dtype.is_numeric() or isinstance(dtype, pl.String | pl.Null)
    fits = {
        "slice": not (dtype.is_nested() or isinstance(dtype, pl.Binary)),
        "feature": number or isinstance(dtype, pl.Boolean),
        "time": number or isinstance(dtype, pl.Datetime | pl.Date),
        "label": number or isinstance(dtype, pl.Boolean),
        "kept": not (dtype.is_nested() or isinstance(dtype, pl.Binary)),
    }
    if not fits[role]:
        noun = {"slice": "key", "feature": "number", "kept": "column of a verdict file"}.get(role, role)
        raise SourceError(
            f"{role} column {column!r} of {source} is of type {dtype}, which is no {noun}; "
            "cast it or name another column"
        )
