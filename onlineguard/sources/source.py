"""The source: one file, or what is piped in, read from end to end."""

import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.sources import blocks, parquet
from onlineguard.sources.batches import Batch, in_batches
from onlineguard.sources.conversion import HEAD_ROWS, Converter
from onlineguard.sources.delimited import read_delimited
from onlineguard.sources.lines import Lines
from onlineguard.sources.ndjson import read_ndjson
from onlineguard.sources.rejects import RejectFile, shortened
from onlineguard.sources.rows import Columns, FieldRows

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_PARQUET = {".parquet", ".pq"}
_SUFFIXES = {*_SEPARATORS, ".ndjson", ".jsonl", *_PARQUET}


class Source:
    """Events of the file `path`, or of standard input where that is "-", as batches of `batch_rows` rows.

    The format follows from the name (.csv, .tsv, .ndjson or .jsonl, each also with .gz, and .parquet), on standard
    input from the first byte: `{` for NDJSON, else CSV with a header, either of them gzipped or not.

    - A feature is a number, or a category where it is among `category_columns` or most of its first 1,000 fields are
      texts; `categories` names those. A category becomes a code, see `onlineguard.engine.categories`.
    - An empty number, `null`, `NA`, `nan` or `inf` is missing; a finite number beyond float32
      becomes the largest float32, so that it stays absurd without vanishing.
    - A time is ISO 8601 or a Unix time, whose unit (s, ms, us, ns) is told from its size.
    - A label is 0 or 1, true or false; an empty one is 0.
    - Any other row is counted in `rejected` and written to `rejects`, by default `path` + ".rejects.ndjson", as
      {"line", "reason", "text"}. The file of an earlier run is replaced, and none is made when nothing was rejected.
      With `strict` the first such row is a SourceError instead.

    Raises SourceError where nothing can be read at all, and after the last good row where the source breaks off.
    `bytes_read` of `total_bytes` (None on standard input) tells the progress, in bytes as they lie on the disk.
    """

    def __init__(
        self,
        path: str | Path,
        slice_columns: Sequence[str],
        feature_columns: Sequence[str],
        time_column: str | None = None,
        label_column: str | None = None,
        batch_rows: int = 131_072,
        strict: bool = False,
        rejects: str | Path | None = None,
        category_columns: Sequence[str] = (),
    ):
        if not feature_columns:
            raise InvalidArgument("feature_columns", "is empty; name at least one column with numbers, e.g. ['value']")
        for name, columns in (("slice_columns", slice_columns), ("feature_columns", feature_columns)):
            if isinstance(columns, str) or len(set(columns)) != len(columns):
                raise InvalidArgument(name, f"is {columns!r}; it must be a list that names each column once")
        for column in category_columns:
            if column not in feature_columns:
                raise InvalidArgument(
                    "category_columns", f"names {column!r}, which is no feature; name it there as well"
                )
        if batch_rows < 1:
            raise InvalidArgument(f"batch_rows is {batch_rows}; it must be at least 1, e.g. 131072")
        self.from_stdin = str(path) == "-"
        self.name = "stdin" if self.from_stdin else str(path)
        self.path = Path(path)
        self.slice_columns, self.feature_columns = list(slice_columns), list(feature_columns)
        self.time_column, self.label_column = time_column, label_column
        self.batch_rows, self.strict = batch_rows, strict
        self.rejects = Path(rejects) if rejects is not None else Path(f"{self.name}.rejects.ndjson")
        self.rejected = 0
        self.bytes_read = 0
        self.total_bytes: int | None = None
        self._columns = Columns(
            self.name, self.slice_columns, self.feature_columns, time_column, label_column, list(category_columns)
        )
        self._converter = Converter(self._columns)
        self._begun: tuple[Batch | None, Iterator[Batch]] | None = None  # the first batch, where somebody peeked
        self._suffix = "" if self.from_stdin else self._suffix_of_name()

    @property
    def categories(self) -> list[str]:
        """The features that are categories; those that are not named as such are known once rows were read."""
        return self._columns.categories if self._converter.categories is None else self._converter.categories

    def peek(self) -> Batch | None:
        """The first batch, which the next iteration begins with all the same; None where no row can be read.

        Raises SourceError where nothing can be read at all.
        """
        if self._begun is None:
            batches = self._read()
            self._begun = next(batches, None), batches
        return self._begun[0]

    def __iter__(self) -> Iterator[Batch]:
        if self._begun is None:
            yield from self._read()
            return
        (first, batches), self._begun = self._begun, None
        if first is not None:
            yield first
        yield from batches

    def _read(self) -> Iterator[Batch]:
        self.rejected = self.bytes_read = 0
        rejects = RejectFile(self.rejects)
        if not self.strict:
            rejects.remove()
        try:
            yield from in_batches(self._events(rejects), self.batch_rows)
        finally:
            rejects.close()

    def _suffix_of_name(self) -> str:
        try:
            if self.path.is_dir():
                raise SourceError(f"source {self.name} is a directory; name one file in it")
            found = self.path.stat()
            self.total_bytes = found.st_size if stat.S_ISREG(found.st_mode) else None  # a named pipe has no size
        except OSError as error:
            raise self._unreadable(error) from error
        if self.rejects.resolve() == self.path.resolve():
            raise InvalidArgument("rejects", f"is {self.rejects}, the source itself; name another file")
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        zipped = suffixes[-1:] == [".gz"]
        suffix = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
        if suffix not in _SUFFIXES or (zipped and suffix in _PARQUET):
            raise SourceError(
                f"source {self.name} has the unknown extension {self.path.suffix!r}; it must end in .csv, .tsv, "
                ".ndjson or .jsonl (each also with .gz) or .parquet; or pipe the text in and name the source -"
            )
        if self.total_bytes == 0:
            raise self._empty()
        return suffix

    def _events(self, reject_file: RejectFile) -> Iterator[pl.DataFrame]:
        """Read, set aside what cannot be read, convert; one frame a block of the source."""
        converter = self._converter = Converter(self._columns)
        rows_seen = False
        for rows in self._told_apart(converter):
            rows_seen |= len(rows.line_numbers) + len(rows.rejects) > 0
            events, rejects = converter.convert(rows)
            if rejects and self.strict:
                line, reason, _ = rejects[0]
                yield events.filter(pl.col("line") < line)
                raise SourceError(f"{self.name}, line {line}: {reason}; mend it, or set such rows aside (not strict)")
            if rejects:
                reject_file.write(rejects)
                self.rejected += len(rejects)
            yield events
        if not rows_seen:
            raise self._empty()

    def _told_apart(self, converter: Converter) -> Iterator[FieldRows]:
        """The rows, the first of them once there are enough to tell categories from numbers, or no more come."""
        head: list[FieldRows] = []
        failure: SourceError | None = None
        rows = self._rows()
        try:
            for block in rows:
                head.append(block)
                if sum(len(block.line_numbers) for block in head) >= HEAD_ROWS:
                    break
        except SourceError as error:  # what was read before it counts
            failure = error
        converter.tell_categories(head)
        yield from head
        if failure is not None:
            raise failure
        yield from rows

    def _rows(self) -> Iterator[FieldRows]:
        """The rows of the source, a block at a time; raises SourceError for what ends them before the end."""
        any_read = False
        try:
            for rows in self._parquet() if self._suffix in _PARQUET else self._text():
                any_read = True
                yield rows
        except (*blocks.UNREADABLE, *parquet.UNREADABLE) as error:
            if not any_read:
                raise self._unreadable(error) from error
            raise SourceError(f"source {self.name} breaks off after the rows read so far: {error}") from error

    def _parquet(self) -> Iterator[FieldRows]:
        def progress(done: int, of: int) -> None:
            self.bytes_read = (self.total_bytes or 0) * done // max(of, 1)

        return parquet.read_parquet(self.path, self._columns, self.batch_rows, progress)

    def _text(self) -> Iterator[FieldRows]:
        # A thread that waits for a buffered stdin would keep the interpreter from ending; the raw one does not.
        stdin = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer) if self.from_stdin else None
        with self.path.open("rb", buffering=0) if stdin is None else nullcontext(stdin) as stream:
            text = blocks.text_blocks(self._blocks(stream), self.name)
            first = next(text, b"")
            separator = _SEPARATORS.get(self._suffix)
            if self.from_stdin and not first.lstrip().startswith(b"{"):
                separator = ","
            lines = Lines(chain([first], text))
            if separator is None:
                yield from read_ndjson(lines, self._columns)
            else:
                yield from read_delimited(lines, separator, self._columns)

    def _blocks(self, stream: Any) -> Iterator[bytes]:
        while block := blocks.read_block(stream):
            self.bytes_read += len(block)
            yield block

    def _unreadable(self, error: BaseException) -> SourceError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return SourceError(f"source {self.name} cannot be read: {shortened(reason, 300)}")

    def _empty(self) -> SourceError:
        return SourceError(f"source {self.name} is empty; it must hold at least one row")
