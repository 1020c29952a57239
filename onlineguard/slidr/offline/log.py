"""A log in Parquet files, read some clicks at a time: a file, or a folder of files in the order of their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.clicks.clicks import SCHEMA, Mapping, check_clicks, read_clicks
from onlineguard.slidr.history.layout import ROWS


class Block(NamedTuple):
    """Some clicks of a file, in their order."""

    path: Path
    start: int  # row of the file
    rows: int
    first: int  # number of its first click in the log, from 0


@dataclass(frozen=True)
class ParquetLog:
    """The files of a log in their order, and how many clicks each has."""

    files: tuple[Path, ...]
    rows: tuple[int, ...]
    mapping: Mapping | None = None
    most: int = ROWS  # clicks of a block

    @staticmethod
    def of(path: Path, mapping: Path | None = None) -> "ParquetLog":
        """The log at a path. Raises SourceError where there is none, or where a file cannot be read."""
        files = tuple(sorted(path.glob("*.parquet"))) if path.is_dir() else (path,)
        if not files:
            raise SourceError(f"{path} has no .parquet files; name a folder of such, e.g. one for each day")
        try:
            rows = tuple(int(pl.scan_parquet(file, glob=False).select(pl.len()).collect().item()) for file in files)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise SourceError(f"{path} cannot be read as Parquet: {error}") from error
        found = None if mapping is None else Mapping.load(mapping)
        if found is not None and not found.columns.keys() | found.constants.keys() >= {"click_id"}:
            raise InvalidArgument(f"mapping {mapping} names no column for click_id, which a log of several files needs")
        return ParquetLog(files, rows, found)

    def blocks(self) -> list[Block]:
        """All clicks, cut into blocks, none of which is of two files."""
        found: list[Block] = []
        first = 0
        for path, rows in zip(self.files, self.rows, strict=True):
            cuts = range(0, rows, self.most)
            found += [Block(path, at, min(self.most, rows - at), first + at) for at in cuts]
            first += rows
        return found

    def read(self, block: Block, fields: Sequence[str] = tuple(SCHEMA)) -> pl.DataFrame:
        """The clicks of a block, checked. Raises InvalidArgument for a row that is not a click, as `read_clicks`."""
        try:
            raw = pl.scan_parquet(block.path, glob=False).slice(block.start, block.rows)
            if self.mapping is None and set(raw.collect_schema().names()) >= set(fields):
                return check_clicks(raw.select(fields).collect(), tuple(fields))
            return read_clicks(raw.collect(), self.mapping).select(fields)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise SourceError(f"{block.path} cannot be read: {error}") from error
        except InvalidArgument as error:
            raise InvalidArgument(f"{block.path}, rows from {block.start + 1:,} on: {error}") from error
