"""Batches of rows that are wider than events and more than memory holds, for `Engine.update` one after the other."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from onlineguard.engine.batches import LARGEST_BATCH
from onlineguard.engine.columns import as_frame
from onlineguard.errors import InvalidArgument
from onlineguard.extras import require

if TYPE_CHECKING:
    import polars as pl


@overload
def in_batches(
    source: Any, slices: str | Sequence[str], y: None = None, *, rows: int = LARGEST_BATCH
) -> "Iterator[tuple[pl.DataFrame, pl.DataFrame]]": ...
@overload
def in_batches(
    source: Any, slices: str | Sequence[str], y: str, *, rows: int = LARGEST_BATCH
) -> "Iterator[tuple[pl.DataFrame, pl.DataFrame, pl.Series]]": ...
def in_batches(
    source: Any, slices: str | Sequence[str], y: str | None = None, *, rows: int = LARGEST_BATCH
) -> Iterator[Any]:
    """The rows of a source in their order, as (slices, X) or (slices, X, y), for `Engine.update_stream`.

    X is a polars frame of all columns, among which an engine finds its features by name.

    >>> import polars as pl
    >>> from onlineguard import Engine
    >>> lazy = pl.LazyFrame({"host": ["a", "b"] * 300, "load": range(600)})
    >>> engine = Engine(features=["load"])
    >>> sum(len(verdicts) for verdicts in engine.update_stream(in_batches(lazy, "host", rows=250)))
    600

    source: a LazyFrame or frame of polars; what speaks Arrow's C interface, such as a record-batch reader, a table or a
        relation of DuckDB; an Arrow dataset or a scanner of one; or a frame of pandas, by way of Arrow.
    slices: the column of keys, or several, which make each key a tuple.
    y: the column of targets, for a supervised model.
    rows: at most so many in a batch. A reader and a LazyFrame are read as they are needed, so memory holds few batches,
        whatever their length.

    Raises InvalidArgument where there is no such column, and where the source is none of these; MissingExtra without
    the extra `polars`.
    """
    require("in_batches", "polars")
    if rows < 1:
        raise InvalidArgument("rows", f"is {rows!r}; it must be at least 1, e.g. 65_536")
    keys, lazy = [slices] if isinstance(slices, str) else list(slices), _lazy(source, rows)
    return _cut(lazy, _checked(keys, y, lazy.collect_schema().names()), y, rows)


def _cut(lazy: "pl.LazyFrame", keys: list[str], y: str | None, rows: int) -> Iterator[Any]:
    for frame in lazy.collect_batches(chunk_size=rows, maintain_order=True, lazy=True):
        for part in frame.iter_slices(rows):
            yield (part.select(keys), part) if y is None else (part.select(keys), part, part.get_column(y))


def _lazy(source: Any, rows: int) -> "pl.LazyFrame":
    import polars as pl

    if isinstance(source, pl.LazyFrame):
        return source
    if hasattr(source, "scanner"):  # an Arrow dataset
        source = source.scanner(batch_size=rows)
    if hasattr(source, "to_reader") and not hasattr(source, "__arrow_c_stream__"):  # a scanner
        source = source.to_reader()
    if isinstance(source, pl.DataFrame):
        return source.lazy()
    if hasattr(source, "__arrow_c_stream__"):
        return pl.scan_arrow_c_stream(source)
    found = as_frame(source)
    if isinstance(found, pl.DataFrame):
        return found.lazy()
    hint = f", e.g. polars.scan_parquet({source!r})" if isinstance(source, str) else ""
    raise InvalidArgument(
        "source",
        f"is {type(source).__name__}, which has no rows of named columns; give a frame, or a reader of Arrow{hint}",
    )


def _checked(keys: list[str], y: str | None, present: list[str]) -> list[str]:
    for name in keys if y is None else [*keys, y]:
        if name not in present:
            raise InvalidArgument(f"source has no column {name!r}; its columns are {', '.join(map(repr, present))}")
    if not keys:
        raise InvalidArgument("slices", "names no column; name at least one, e.g. 'host'")
    return keys
