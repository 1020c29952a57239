"""Event sources: CSV, NDJSON and Parquet files of any size, read in batches of a bounded number of rows.

`Source` turns a file, or what is piped in, into `Batch`es for the engine. A row that cannot be read is set aside, with
its line number and the reason, and the rest is read on. What is held at any time is a few blocks of 4 MiB and one
batch (of Parquet: a few row groups, of the named columns only), whatever the size of the file or of one line in it.

A block of CSV is first checked to be rectangular and plainly quoted, all bytes at once; if it is, polars splits it,
and Python's `csv` module otherwise. Both give the same fields, and what follows is the same code.

Source: the format is that of RFC 4180; a line that opens a quote which is not closed within 1,000 lines or 1 MiB, or
after which the row has not the header's width, is set aside alone, so that one stray quote cannot swallow a file.
"""

import csv
import difflib
import json
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import orjson
import polars as pl
from jaxtyping import Bool, Float, Int

from onlineguard.errors import InvalidArgument, SourceError

MAX_LINE_BYTES = 1 << 20  # a longer line, or row over several lines, is set aside
MAX_ROW_LINES = 1_000  # a quoted field may span that many lines
MAX_CSV_FIELD = 131_072  # the csv module's own limit, which is global and so is left alone
ALL = "all"  # the one slice where no column tells slices apart
NO_TIME = np.iinfo(np.int64).min  # NumPy's NaT: `times.view("datetime64[us]")` shows it as such

_BLOCK_BYTES = 4 << 20
_PART_BYTES = 1 << 16  # what goes the slow way where a block holds a bad row
_KEPT_TEXT = 2_000  # characters of a rejected row that are written down
_SUFFIXES = {".csv": ",", ".tsv": "\t", ".ndjson": None, ".jsonl": None, ".parquet": None, ".pq": None}
_MISSING = {"", "null", "none", "na", "n/a"}  # besides nan and inf, in any case
_WORDS = dict.fromkeys(_MISSING, np.nan) | {"true": 1.0, "false": 0.0}
_TIME_FORMATS = (  # no value fits two of them, so the order is only one of speed
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
)
_FLOAT32_MAX = float(np.finfo(np.float32).max)

Keys = pl.Series | list[tuple[str | int, ...]]
Reject = tuple[int, str, str | bytes]  # line number, reason, the row as it stands in the source


@dataclass(frozen=True)
class Batch:
    """Consecutive events of a source.

    `slices` is a polars Series for one slice column (strings; integers where a Parquet column is of integers) and a
    list of tuples for several. An empty or missing key is "". Without a slice column every event belongs to "all".
    `X` has NaN where a feature is missing. `times` are microseconds since 1970 in UTC, `NO_TIME` where missing, a time
    without a zone being taken as UTC. `labels` are 1 inside a label and 0 elsewhere, an empty one included.
    `line_numbers` count from 1 and include a header; in Parquet they are row numbers.
    """

    slices: Keys
    X: Float[np.ndarray, "n d"]
    times: Int[np.ndarray, " n"] | None
    labels: Int[np.ndarray, " n"] | None
    line_numbers: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.X)


class Source:
    """Events of the file `path`, or of standard input where that is "-", as batches of `batch_rows` rows.

    The format follows from the name (.csv, .tsv, .ndjson or .jsonl, each also with .gz, and .parquet), on standard
    input from the first byte: `{` for NDJSON, else CSV with a header, either of them gzipped or not.

    - A feature is a number; an empty one, `null`, `NA`, `nan` or `inf` is missing; a finite number beyond float32
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
        batch_rows: int = 65_536,
        strict: bool = False,
        rejects: str | Path | None = None,
    ):
        if not feature_columns:
            raise InvalidArgument("feature_columns is empty; name at least one column with numbers, e.g. ['value']")
        for name, columns in (("slice_columns", slice_columns), ("feature_columns", feature_columns)):
            if isinstance(columns, str) or len(set(columns)) != len(columns):
                raise InvalidArgument(f"{name} is {columns!r}; it must be a list that names each column once")
        if batch_rows < 1:
            raise InvalidArgument(f"batch_rows is {batch_rows}; it must be at least 1, e.g. 65536")
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
        self._format = "" if self.from_stdin else self._format_of_name()
        self._time_formats = list(_TIME_FORMATS)
        self._rejects_file: TextIO | None = None

    def __iter__(self) -> Iterator[Batch]:
        self.rejected = self.bytes_read = 0
        if not self.strict:
            try:
                self.rejects.unlink(missing_ok=True)
            except OSError as error:
                raise self._rejects_error(error) from error
        try:
            yield from _in_batches(self._pieces(), self.batch_rows)
        finally:
            if self._rejects_file is not None:
                self._rejects_file.close()
                self._rejects_file = None

    def _format_of_name(self) -> str:
        try:
            if self.path.is_dir():
                raise SourceError(f"source {self.name} is a directory; name one file in it")
            found = self.path.stat()
            self.total_bytes = found.st_size if stat.S_ISREG(found.st_mode) else None  # a named pipe has no size
        except OSError as error:
            raise self._cannot_read(error) from error
        if self.rejects.resolve() == self.path.resolve():
            raise InvalidArgument(f"rejects is {self.rejects}, the source itself; name another file")
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        zipped = suffixes[-1:] == [".gz"]
        suffix = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
        if suffix not in _SUFFIXES or (zipped and suffix in {".parquet", ".pq"}):
            raise SourceError(
                f"source {self.name} has the unknown extension {self.path.suffix!r}; it must end in .csv, .tsv, "
                ".ndjson or .jsonl (each also with .gz) or .parquet; or pipe the text in and name the source -"
            )
        if self.total_bytes == 0:
            raise self._is_empty()
        return suffix

    def _pieces(self) -> Iterator["_Piece"]:
        """Read, set aside what cannot be read, convert; one piece a block of the source."""
        rows_seen = False
        failure: SourceError | None = None
        rows = self._parquet() if self._format in {".parquet", ".pq"} else self._text()
        while True:
            try:
                block = next(rows, None)
            except _Broken as error:  # what was read before it is good, and goes first
                failure = SourceError(f"source {self.name} breaks off after the rows read so far: {error}")
                break
            if block is None:
                break
            rows_seen |= len(block.line_numbers) + len(block.rejects) > 0
            piece, rejects = self._convert(block)
            rejects = sorted(block.rejects + rejects, key=lambda reject: reject[0])
            if rejects and self.strict:
                line, reason, _ = rejects[0]
                piece = piece.cut(0, int(np.searchsorted(piece.line_numbers, line)))
                failure = SourceError(
                    f"{self.name}, line {line}: {reason}; mend it, or set such rows aside (not strict)"
                )
            elif rejects:
                self._set_aside(rejects)
            if len(piece.X):
                yield piece
            if failure is not None:
                break
        if failure is not None:
            raise failure
        if not rows_seen:
            raise self._is_empty()

    # Text: bytes to lines to fields

    def _text(self) -> Iterator["_Rows"]:
        stream = sys.stdin.buffer if self.from_stdin else self._open()
        try:
            blocks = self._blocks(stream.read)
            first = self._first(blocks)
            if first.startswith(b"\x1f\x8b"):
                blocks = _gunzip(_chain(first, blocks))
                first = self._first(blocks)
            elif self.path.suffix.lower() == ".gz":
                raise SourceError(f"source {self.name} is named .gz, but is not gzipped; take .gz off its name")
            if first.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise SourceError(f"source {self.name} is UTF-16; save it as UTF-8")
            first = first.removeprefix(b"\xef\xbb\xbf")
            if self._format in {".csv", ".tsv"} or (self.from_stdin and not first.lstrip().startswith(b"{")):
                yield from self._csv(_Lines(_chain(first, blocks)), _SUFFIXES.get(self._format) or ",")
            else:
                yield from self._ndjson(_Lines(_chain(first, blocks)))
        finally:
            if not self.from_stdin:
                stream.close()

    def _open(self) -> Any:
        try:
            return self.path.open("rb", buffering=0)
        except OSError as error:
            raise self._cannot_read(error) from error

    def _first(self, blocks: Iterator[bytes]) -> bytes:
        try:
            first = next(blocks, b"")
        except (OSError, EOFError, zlib.error) as error:
            raise self._cannot_read(error) from error
        if not first:
            raise self._is_empty()
        return first

    def _blocks(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        while block := read(_BLOCK_BYTES):
            self.bytes_read += len(block)
            yield block

    def _csv(self, lines: "_Lines", separator: str) -> Iterator["_Rows"]:
        header, line_number = self._header(lines, separator)
        wanted = {column: header.index(column) for column in self._columns(header)}
        while chunk := lines.chunk():
            at, size, whole = 0, len(chunk), True
            while at < len(chunk):
                stop = chunk.rfind(b"\n", at, at + size) + 1 or chunk.find(b"\n", at) + 1
                part = chunk[at:stop]
                rows = _split_fast(part, separator, len(header), wanted, line_number)
                if rows is None and whole and size > _PART_BYTES:
                    size, whole = _PART_BYTES, False  # go the slow way only where the bad rows are
                    continue
                if rows is None:
                    ended = lines.ended and stop == len(chunk)
                    rows, unfinished = _split_slow(part, separator, len(header), wanted, line_number, ended)
                    part = part[: len(part) - len(unfinished)]
                    if not part and stop == len(chunk):
                        break
                    size *= 1 if part else 2
                at += len(part)
                line_number += part.count(b"\n")
                yield rows
            lines.unread(chunk[at:])
        lines.check()

    def _header(self, lines: "_Lines", separator: str) -> tuple[list[str], int]:
        """The column names and the number of the line after them."""
        line_number = 1
        while chunk := lines.chunk():
            feed = _Feed(chunk)
            try:
                for fields in csv.reader(feed, delimiter=separator, strict=True):
                    feed.start = feed.at
                    if fields:
                        lines.unread(feed.rest())
                        return [name.strip() for name in fields], line_number + feed.at
            except csv.Error as error:
                raise SourceError(f"the header of source {self.name} cannot be read: {error}") from error
            line_number += chunk.count(b"\n")  # nothing but blank lines
        lines.check()
        raise self._is_empty()

    def _ndjson(self, lines: "_Lines") -> Iterator["_Rows"]:
        columns: list[str] = []
        line_number = 1
        while chunk := lines.chunk():
            objects, numbers, rejects = _objects(chunk, line_number)
            if objects and not columns:
                columns = self._columns(list(dict.fromkeys(name for row in objects for name in row)))
            texts = chunk.split(b"\n")
            yield _Rows(
                {column: [row.get(column) for row in objects] for column in columns},
                np.asarray(numbers, np.int64),
                lambda i, texts=texts, numbers=numbers, first=line_number: texts[numbers[i] - first],
                rejects,
            )
            line_number += len(texts) - 1
        lines.check()

    def _parquet(self) -> Iterator["_Rows"]:
        try:
            frame = pl.scan_parquet(self.path, glob=False)
            schema = frame.collect_schema()
            columns = self._columns(schema.names())
            for column in columns:
                self._check_type(column, schema[column])
            n_rows = int(frame.select(pl.len()).collect().item())
            batches = iter(frame.select(columns).collect_batches(chunk_size=self.batch_rows, maintain_order=True))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._cannot_read(error) from error
        done = 0
        while True:
            try:
                table = next(batches, None)
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
                raise _Broken(error) from error
            if table is None:
                return
            numbers = np.arange(done + 1, done + 1 + len(table))
            done += len(table)
            self.bytes_read = (self.total_bytes or 0) * done // max(n_rows, 1)
            yield _Rows(
                {column: table.get_column(column) for column in columns},
                numbers,
                lambda i, table=table: json.dumps(table.row(i, named=True), default=str, ensure_ascii=False),
                [],
            )

    def _check_type(self, column: str, dtype: pl.DataType) -> None:
        text = isinstance(dtype, pl.String | pl.Null)
        numeric = dtype.is_numeric() or text
        fits = {
            "slice": column not in self.slice_columns or not (dtype.is_nested() or isinstance(dtype, pl.Binary)),
            "feature": column not in self.feature_columns or numeric or isinstance(dtype, pl.Boolean),
            "time": column != self.time_column or numeric or isinstance(dtype, pl.Datetime | pl.Date),
            "label": column != self.label_column or numeric or isinstance(dtype, pl.Boolean),
        }
        for role, fit in fits.items():
            if not fit:
                noun = {"slice": "key", "feature": "number"}.get(role, role)
                raise SourceError(
                    f"{role} column {column!r} of {self.name} is of type {dtype}, which is no {noun}; "
                    "cast it or name another column"
                )

    def _columns(self, present: list[str]) -> list[str]:
        """The columns that are wanted, each once, all of them present."""
        roles = [("slice", column) for column in self.slice_columns]
        roles += [("feature", column) for column in self.feature_columns]
        roles += [(role, c) for role, c in (("time", self.time_column), ("label", self.label_column)) if c is not None]
        for role, column in roles:
            if column not in present:
                near = difflib.get_close_matches(column, present, 1, 0.5)
                hint = f"did you mean {near[0]!r}?" if near else "name one of these"
                listed = ", ".join(present[:20]) + (f" and {len(present) - 20:,} more" if len(present) > 20 else "")
                raise SourceError(f"{role} column {column!r} is not in {self.name}, whose columns are {listed}; {hint}")
            if present.count(column) > 1:
                raise SourceError(f"{role} column {column!r} is in {self.name} twice; rename one of the two")
        return list(dict.fromkeys(column for _, column in roles))

    # Fields to arrays

    def _convert(self, rows: "_Rows") -> tuple["_Piece", list[Reject]]:
        n = len(rows.line_numbers)
        if n == 0:
            return _Piece([], np.empty((0, len(self.feature_columns)), np.float32), None, None, rows.line_numbers), []
        bad: dict[int, str] = {}
        X = np.empty((n, len(self.feature_columns)), np.float32)
        for j, column in enumerate(self.feature_columns):
            values, wrong = _numbers(rows.columns[column])
            X[:, j] = np.clip(values, -_FLOAT32_MAX, _FLOAT32_MAX)
            for i, text in wrong.items():
                bad.setdefault(i, f"feature {column!r} is {text!r}, not a number")
        labels = None
        if self.label_column is not None:
            values, wrong = _numbers(rows.columns[self.label_column])
            wrong |= {int(i): f"{values[i]:g}" for i in np.flatnonzero(~np.isin(values, (0, 1)) & ~np.isnan(values))}
            labels = (values == 1).astype(np.int8)
            for i, text in wrong.items():
                bad.setdefault(i, f"label {self.label_column!r} is {text!r}, neither 0 nor 1")
        times = None
        if self.time_column is not None:
            times, wrong = self._times(rows.columns[self.time_column])
            for i, text in wrong.items():
                bad.setdefault(i, f"time {self.time_column!r} is {text!r}, neither ISO 8601 nor a Unix time")
        keys: list[pl.Series] = []
        for column in self.slice_columns:
            key, wrong = _keys(rows.columns[column])
            keys.append(key)
            for i, text in wrong.items():
                bad.setdefault(i, f"slice {column!r} is {text}, not one string or number")
        if not keys:
            keys.append(pl.repeat(ALL, n, dtype=pl.String, eager=True))
        piece = _Piece(keys, X, times, labels, rows.line_numbers)
        rejects = [(int(rows.line_numbers[i]), reason, rows.text(i)) for i, reason in bad.items()]
        return (piece.without(list(bad)) if bad else piece), rejects

    def _times(self, column: pl.Series | list[Any]) -> tuple[Int[np.ndarray, " n"], dict[int, str]]:
        """Microseconds since 1970, and the text of those that are no time, by position."""
        texts = column if isinstance(column, pl.Series) else _texts(column)
        if texts.dtype.is_temporal():
            return _microseconds(texts), {}
        if texts.dtype.is_numeric():
            times, failed = _unix_times(texts)
            return times, {int(i): str(texts[int(i)]) for i in np.flatnonzero(failed)}
        texts = texts.cast(pl.String)
        times = np.full(len(texts), NO_TIME)
        left = np.flatnonzero((texts.fill_null("") != "").to_numpy())
        for time_format in list(self._time_formats):
            if len(left) == 0:
                return times, {}
            some = texts if len(left) == len(texts) else texts.gather(left)
            zone = "UTC" if time_format.endswith("z") else None
            some = some.str.to_datetime(time_format, time_unit="us", strict=False, time_zone=zone)
            times[left] = _microseconds(some)
            if some.null_count() < len(left):
                self._time_formats.remove(time_format)
                self._time_formats.insert(0, time_format)  # the next block will most likely look the same
            left = left[some.is_null().to_numpy()]
        some = texts.gather(left).str.strip_chars()
        times[left], failed = _unix_times(some)
        wrong: dict[int, str] = {}
        for i in np.flatnonzero(failed):
            if some[int(i)].lower() in _MISSING:
                continue
            try:
                moment = datetime.fromisoformat(some[int(i)])
                moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
                times[left[i]] = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            except (ValueError, OverflowError):
                wrong[int(left[i])] = _shortened(texts[int(left[i])], 100)
        return times, wrong

    # What goes wrong

    def _set_aside(self, rejects: list[Reject]) -> None:
        try:
            self._rejects_file = self._rejects_file or self.rejects.open("w", encoding="utf-8")
            for line, reason, text in rejects:
                text = text.decode(errors="backslashreplace") if isinstance(text, bytes) else text
                record = {"line": line, "reason": reason, "text": _shortened(text.rstrip("\r\n"), _KEPT_TEXT)}
                self._rejects_file.write(json.dumps(record) + "\n")
            self._rejects_file.flush()
        except OSError as error:
            raise self._rejects_error(error) from error
        self.rejected += len(rejects)

    def _rejects_error(self, error: OSError) -> SourceError:
        return SourceError(
            f"rejects is {self.rejects}, which cannot be written ({error.strerror}); name a file that can, e.g. in /tmp"
        )

    def _cannot_read(self, error: BaseException) -> SourceError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return SourceError(f"source {self.name} cannot be read: {_shortened(reason, 300)}")

    def _is_empty(self) -> SourceError:
        return SourceError(f"source {self.name} is empty; it must hold at least one row")


class _Broken(Exception):
    """The source cannot be read beyond this point."""


@dataclass
class _Rows:
    """Rows of one block, by column, unconverted: text or JSON values, or what Parquet holds."""

    columns: Mapping[str, pl.Series | list[Any]]
    line_numbers: Int[np.ndarray, " n"]
    text: Callable[[int], str | bytes]  # row i as it stands in the source
    rejects: list[Reject]


@dataclass
class _Piece:
    """Rows of one block, converted; None stands for a column not asked for."""

    keys: list[pl.Series]
    X: Float[np.ndarray, "n d"]
    times: Int[np.ndarray, " n"] | None
    labels: Int[np.ndarray, " n"] | None
    line_numbers: Int[np.ndarray, " n"]

    def take(self, rows: Any, keys: list[pl.Series]) -> "_Piece":
        times = None if self.times is None else self.times[rows]
        labels = None if self.labels is None else self.labels[rows]
        return _Piece(keys, self.X[rows], times, labels, self.line_numbers[rows])

    def without(self, rows: list[int]) -> "_Piece":
        kept = np.ones(len(self.X), np.bool_)
        kept[rows] = False
        return self.take(kept, [key.filter(pl.Series(kept)) for key in self.keys])

    def cut(self, start: int, stop: int) -> "_Piece":
        return self.take(slice(start, stop), [key.slice(start, stop - start) for key in self.keys])


def _in_batches(pieces: Iterator[_Piece], n: int) -> Iterator[Batch]:
    """The same rows in batches of n; the last may be shorter, and comes also when the source breaks off."""
    held: list[_Piece] = []
    failure: SourceError | None = None
    while True:
        try:
            piece = next(pieces, None)
        except SourceError as error:
            failure, piece = error, None
        if piece is None:
            break
        start = 0
        while (room := n - sum(len(p.X) for p in held)) <= len(piece.X) - start:
            yield _joined([*held, piece.cut(start, start + room)])
            held, start = [], start + room
        if start < len(piece.X):
            held.append(piece.cut(start, len(piece.X)))
    if held:
        yield _joined(held)
    if failure is not None:
        raise failure


def _joined(pieces: list[_Piece]) -> Batch:
    keys = [pl.concat(list(column)) for column in zip(*(piece.keys for piece in pieces), strict=True)]
    times = [piece.times for piece in pieces if piece.times is not None]
    labels = [piece.labels for piece in pieces if piece.labels is not None]
    return Batch(
        keys[0] if len(keys) == 1 else list(zip(*(key.to_list() for key in keys), strict=True)),
        np.concatenate([piece.X for piece in pieces]),
        np.concatenate(times) if times else None,
        np.concatenate(labels) if labels else None,
        np.concatenate([piece.line_numbers for piece in pieces]),
    )


def _chain(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from blocks


def _gunzip(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The content of one or more gzip members, at most a block at a time, however well they are packed."""
    member, packed, fresh = zlib.decompressobj(31), b"", True
    while True:
        packed = packed or next(blocks, b"")
        if fresh:
            if not packed:
                return
            packed = packed.lstrip(b"\0")  # padding after a member is allowed
            if not packed:
                continue
        content = member.decompress(packed, _BLOCK_BYTES)
        if content:
            yield content
        if member.eof:
            member, packed, fresh = zlib.decompressobj(31), member.unused_data, True
        else:
            if not packed and not content:
                raise EOFError("the gzip file ends before its end marker; it was cut off")
            packed, fresh = member.unconsumed_tail, False


class _Lines:
    """Whole lines from blocks of bytes. Of an overlong line only the first `MAX_LINE_BYTES` + 1 bytes are kept."""

    def __init__(self, blocks: Iterator[bytes]):
        self._blocks, self._rest, self._failure = blocks, b"", None
        self.ended = False

    def chunk(self) -> bytes:
        """The next lines, the last one closed by a newline too; empty at the end."""
        while not self.ended and self._failure is None:
            try:
                block = next(self._blocks, b"")
            except (OSError, EOFError, zlib.error) as error:
                self._failure = error
                return self._rest[: self._rest.rfind(b"\n") + 1]  # half a line cannot be trusted
            if not block:
                self.ended = True
                return self._rest + b"\n" if self._rest and not self._rest.endswith(b"\n") else self._rest
            cut = block.rfind(b"\n") + 1
            if cut:
                whole, self._rest = self._rest + block[:cut], block[cut:]
                return whole
            rest = self._rest + block
            self._rest = rest[: rest.rfind(b"\n") + 1 + MAX_LINE_BYTES + 1]
        return b""

    def unread(self, lines: bytes) -> None:
        self._rest = lines + self._rest

    def check(self) -> None:
        """Raise what ended the source before its end."""
        if self._failure is not None:
            raise _Broken(self._failure) from self._failure


class _Feed:
    """Lines of a chunk for `csv.reader`, which takes as many as a row needs: decoded, and not without limit."""

    def __init__(self, chunk: bytes):
        self.lines = chunk.split(b"\n")[:-1]
        self.at = self.start = 0  # the next line, and the one where the row began
        self.dry = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if self.at == len(self.lines):
            self.dry = True
            raise StopIteration
        line = self.lines[self.at]
        if len(line) > MAX_LINE_BYTES:
            raise csv.Error(f"longer than {MAX_LINE_BYTES:,} bytes")
        if self.at == self.start:
            self._bytes = 0
        self._bytes += len(line)
        if self.at - self.start == MAX_ROW_LINES or self._bytes > MAX_LINE_BYTES:
            raise csv.Error(f"a quote is not closed within {MAX_ROW_LINES:,} lines and {MAX_LINE_BYTES:,} bytes")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise csv.Error(f"not UTF-8 at byte {error.start + 1}") from error
        self.at += 1
        return text + "\n"

    def rest(self) -> bytes:
        """The bytes from `start` on."""
        return b"".join(line + b"\n" for line in self.lines[self.start :])


def _split_fast(chunk: bytes, separator: str, width: int, wanted: dict[str, int], line_number: int) -> _Rows | None:
    """Rows of a chunk in which each line is one row of the right width, quoted plainly or not at all; else None.

    Plainly quoted: each quote opens after a separator or closes before one, so that no two readers can differ.
    """
    data = np.frombuffer(chunk, np.uint8)
    line_ends = data == ord("\n")
    breaks = np.flatnonzero((data == ord(separator)) | line_ends)
    if b'"' in chunk:
        quotes = np.flatnonzero(data == ord('"'))
        if len(quotes) % 2:
            return None
        before, after = data[quotes[::2] - 1], data[quotes[1::2] + 1]  # -1 is the chunk's last byte, a newline
        around = [ord(separator), ord("\n")]
        if not (np.isin(before, around).all() and np.isin(after, [*around, ord("\r")]).all()):
            return None
        breaks = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    ends = breaks[width - 1 :: width]
    if len(breaks) != len(ends) * width or not line_ends[ends].all() or len(ends) != np.count_nonzero(line_ends):
        return None
    lengths = np.diff(ends, prepend=-1) - 1
    if lengths.max() > MAX_CSV_FIELD or (width == 1 and lengths.min() <= 1):  # of one column: perhaps a blank line
        return None
    if chunk.count(b"\r") != chunk.count(b"\r\n") or not _is_utf8(chunk):
        return None
    positions = sorted(set(wanted.values()))
    try:
        table = pl.read_csv(chunk, has_header=False, infer_schema=False, separator=separator, columns=positions)
    except pl.exceptions.PolarsError:
        return None
    if len(table) != len(ends):
        return None
    columns = {column: table.to_series(positions.index(position)) for column, position in wanted.items()}
    return _Rows(
        columns, line_number + np.arange(len(ends)), lambda i: chunk[int(ends[i] - lengths[i]) : int(ends[i])], []
    )


def _is_utf8(chunk: bytes) -> bool:
    if chunk.isascii():
        return True
    try:
        chunk.decode()
    except UnicodeDecodeError:
        return False
    return True


def _split_slow(
    chunk: bytes, separator: str, width: int, wanted: dict[str, int], line_number: int, ended: bool
) -> tuple[_Rows, bytes]:
    """Rows of any chunk, and the bytes of a last row that may go on in the next one."""
    feed = _Feed(chunk)
    reader = csv.reader(feed, delimiter=separator, strict=True)
    rows: list[list[str]] = []
    spans: list[tuple[int, int]] = []
    rejects: list[Reject] = []
    while True:
        feed.start = feed.at
        try:
            fields = next(reader, None)
            reason = f"the row has {_counted(len(fields or ()), 'column')}, the header has {width}"
        except csv.Error as error:
            if feed.dry and not ended:
                break
            fields, reason = [], str(error)
        else:
            if fields is None:
                feed.start = feed.at
                break
            if not fields:  # a blank line
                continue
        if len(fields) == width:
            rows.append(fields)
            spans.append((feed.start, feed.at))
        else:  # the row's first line is set aside alone: a stray quote must not take the lines after it along
            rejects.append((line_number + feed.start, reason, feed.lines[feed.start]))
            feed.at, feed.dry = feed.start + 1, False
            reader = csv.reader(feed, delimiter=separator, strict=True)
    columns = {
        column: pl.Series([row[position] for row in rows], dtype=pl.String) for column, position in wanted.items()
    }
    numbers = np.asarray([line_number + start for start, _ in spans], np.int64)
    return _Rows(columns, numbers, lambda i: b"\n".join(feed.lines[slice(*spans[i])]), rejects), feed.rest()


def _objects(chunk: bytes, line_number: int) -> tuple[list[dict[str, Any]], list[int], list[Reject]]:
    """The JSON objects of a chunk, one a line, and their line numbers."""
    objects: list[dict[str, Any]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for number, line in enumerate(chunk.split(b"\n"), line_number):
        if not line or line.isspace():
            continue
        try:
            objects.append(_object(line))
            numbers.append(number)
        except UnicodeError as error:
            rejects.append(
                (number, f"not UTF-8 ({error.reason if isinstance(error, UnicodeDecodeError) else error})", line)
            )
        except (ValueError, RecursionError) as error:
            rejects.append((number, _shortened(str(error), 200), line))
    return objects, numbers, rejects


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:  # perhaps for NaN or Infinity, which Python's json writes; here they are null
        try:
            row = json.loads(line.decode(), parse_constant=lambda _: None)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}") from error
        json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
    if not isinstance(row, dict):
        raise ValueError("JSON, but not an object")
    return row  # pyright: ignore[reportUnknownVariableType]


def _numbers(column: pl.Series | list[Any]) -> tuple[Float[np.ndarray, " n"], dict[int, str]]:
    """Float64 with NaN where missing, and the text of those that are no number, by position."""
    if isinstance(column, list):
        if set(map(type, column)) <= {float, int, type(None)}:
            with suppress(OverflowError):  # an integer beyond float64
                values = np.array(column, np.float64)  # None becomes NaN
                return np.where(np.isinf(values), np.copysign(_FLOAT32_MAX, values), values), {}  # JSON has no infinity
        column = _texts(column)
    values = column.cast(pl.Float64, strict=False)
    numbers = np.array(values.to_numpy(), np.float64)
    if column.dtype != pl.String:
        return np.where(np.isinf(numbers), np.nan, numbers), {}
    wrong: dict[int, str] = {}
    unread = np.flatnonzero((values.is_null() & (column.fill_null("") != "")).to_numpy())
    if len(unread):
        texts = column.gather(unread).str.strip_chars()
        values = texts.cast(pl.Float64, strict=False)
        numbers[unread] = values.to_numpy()
        for i in np.flatnonzero(values.is_null().to_numpy()):
            number = _WORDS.get(texts[int(i)].lower())
            if number is None:
                wrong[int(unread[i])] = _shortened(column[int(unread[i])], 100)
            else:
                numbers[unread[i]] = number
    for i in np.flatnonzero(np.isinf(numbers)):  # 1e999 is a number, however absurd; inf is none
        overflow = any(character.isdigit() for character in column[int(i)])
        numbers[i] = np.copysign(_FLOAT32_MAX, numbers[i]) if overflow else np.nan
    return numbers, wrong


def _texts(values: list[Any]) -> pl.Series:
    """JSON values as text, None where null."""
    return pl.Series([v if v is None or type(v) is str else _text(v) for v in values], dtype=pl.String)


def _text(value: Any) -> str:
    return "1e999" if value == float("inf") else "-1e999" if value == -float("inf") else json.dumps(value)


def _keys(column: pl.Series | list[Any]) -> tuple[pl.Series, dict[int, str]]:
    """Strings with "" where missing, or integers; and what is no key, by position."""
    wrong: dict[int, str] = {}
    if isinstance(column, list):
        if not set(map(type, column)) <= {str, int, float, bool, type(None)}:
            wrong = {i: "a list or an object" for i, value in enumerate(column) if isinstance(value, list | dict)}
        column = _texts(column)
    if column.dtype.is_integer():
        wrong = {int(i): "null" for i in np.flatnonzero(column.is_null().to_numpy())}
        return column.cast(pl.Int64, strict=False) if column.dtype != pl.UInt64 else column, wrong
    return column.cast(pl.String).fill_null(""), wrong


def _microseconds(times: pl.Series) -> Int[np.ndarray, " n"]:
    return times.cast(pl.Datetime("us")).to_physical().fill_null(NO_TIME).to_numpy().astype(np.int64)


def _unix_times(values: pl.Series) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Microseconds from Unix times in s, ms, us or ns, told by size: in each unit 1973 to 5138 is one range.

    Also which are no number, or one beyond what 64 bits hold; a missing, NaN or infinite one is `NO_TIME`.
    """
    times = np.full(len(values), NO_TIME)
    whole = values.cast(pl.Int64, strict=False) if not values.dtype.is_float() else pl.Series([None] * len(values))
    exact = whole.is_not_null().to_numpy()  # floats hold a time in ns to 256 ns only
    integers = whole.cast(pl.Int64).fill_null(0).to_numpy()
    numbers = values.cast(pl.Float64, strict=False)
    reals = np.array(numbers.to_numpy(), np.float64)
    size = np.abs(reals)
    for low, high, factor in ((0, 1e11, 1_000_000), (1e11, 1e14, 1_000), (1e14, 1e17, 1), (1e17, 9.2e18, 0)):
        here = (size >= low) & (size < high)
        times[here & exact] = integers[here & exact] * factor if factor else integers[here & exact] // 1_000
        times[here & ~exact] = np.floor(reals[here & ~exact] * (factor or 1e-3)).astype(np.int64)
    return times, (values.is_not_null() & numbers.is_null()).to_numpy() | (np.isfinite(reals) & (size >= 9.2e18))


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
