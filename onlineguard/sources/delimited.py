"""Rows of delimited text in any dialect.

A block is first checked to be rectangular and plainly quoted, all bytes at once; if it is, polars splits it, and
Python's `csv` module otherwise. Both give the same fields.

Source: the format is that of RFC 4180; a line that opens a quote which is not closed within 1,000 lines or 1 MiB, or
after which the row has not the header's width, is set aside alone, so that one stray quote cannot swallow a file.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int

from onlineguard.errors import SourceError
from onlineguard.sources.dialect import Dialect
from onlineguard.sources.lines import MAX_LINE_BYTES, Lines
from onlineguard.sources.numerals import DECIMAL_COMMA, PLAIN
from onlineguard.sources.rejects import Reject
from onlineguard.sources.rows import Columns, FieldRows

MAX_ROW_LINES = 1_000  # a quoted field may span that many lines
MAX_FIELD = 131_072  # the csv module's own limit, which is global and so is left alone

_PART_BYTES = 1 << 16  # bytes that are split the slow way at a time, where a block holds a bad row


@dataclass(frozen=True)
class _Layout:
    """The layout of every row, as the header gives it."""

    separator: str
    quote: str
    width: int  # fields in a row
    wanted: dict[str, int]  # position of each column that is asked for
    numbers: set[int]  # positions of the columns that are features and nothing else
    decimal_comma: bool = False  # in their numbers


class Delimited:
    """A `Table` of delimited text. Raises SourceError for a header that cannot be read."""

    def __init__(self, lines: Lines, dialect: Dialect, source: str):
        self._lines, self.dialect, self.numerals = lines, dialect, dialect.numerals
        header, self._line_number = _header(lines, dialect, source)
        self.names = [name or f"column_{at}" for at, name in enumerate(header, 1)]
        self.sample: Mapping[str, pl.Series] = {
            name: pl.Series(cells, dtype=pl.String) for name, cells in zip(self.names, dialect.columns, strict=False)
        }

    def describe(self) -> str:
        return self.dialect.describe()

    def rows(self, columns: Columns) -> Iterator[FieldRows]:
        """The rows of each chunk of lines; nothing where there is not even a header."""
        if not self.names:
            return
        names, dialect = self.names, self.dialect
        written = f" ({dialect.describe()}: --delimiter, --encoding, --no-header and others change that)"
        wanted = {name: names.index(name) for name in columns.found_in(names, written)}
        others = {name for role, name in columns.roles if role != "feature"}
        numbers = {wanted[name] for name in columns.features or () if name not in {*others, *columns.categories}}
        decimal_comma = dialect.numerals == DECIMAL_COMMA and dialect.delimiter != ","
        if dialect.numerals != PLAIN and not decimal_comma:  # such numbers are read as text first
            numbers = set[int]()
        yield from _rows(
            self._lines,
            _Layout(dialect.delimiter, dialect.quote, len(names), wanted, numbers, decimal_comma),
            self._line_number,
        )


def _rows(lines: Lines, layout: _Layout, line_number: int) -> Iterator[FieldRows]:
    while chunk := lines.chunk():
        at, size, whole = 0, len(chunk), True
        while at < len(chunk):
            stop = chunk.rfind(b"\n", at, at + size) + 1 or chunk.find(b"\n", at) + 1
            part = chunk[at:stop]
            rows = _split_fast(part, layout, line_number)
            if rows is None and whole and size > _PART_BYTES:
                size, whole = _PART_BYTES, False  # go the slow way only where the bad rows are
                continue
            if rows is None:
                rows, unfinished = _split_slow(part, layout, line_number, lines.ended and stop == len(chunk))
                part = part[: len(part) - len(unfinished)]
                if not part and stop == len(chunk):
                    break
                size *= 1 if part else 2
            at += len(part)
            line_number += int(np.count_nonzero(np.frombuffer(part, np.uint8) == ord("\n")))
            yield rows
        lines.unread(chunk[at:])


def _header(lines: Lines, dialect: Dialect, source: str) -> tuple[list[str], int]:
    """The column names, none where there are only blank lines, and the number of the line after them."""
    line_number = 1 + _skip(lines, dialect.skipped)
    if not dialect.header:
        return [""] * dialect.width, line_number
    while chunk := lines.chunk():
        feed = _Feed(chunk)
        try:
            for fields in csv.reader(feed, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True):
                feed.start = feed.at
                if fields:
                    lines.unread(feed.rest(), enough=True)
                    return _fitting([name.strip() for name in fields], dialect), line_number + feed.at
        except csv.Error as error:
            raise SourceError(f"the header of source {source} cannot be read: {error}") from error
        line_number += chunk.count(b"\n")
    return [], line_number


def _skip(lines: Lines, n: int) -> int:
    """Read over so many lines; returns how many there were."""
    skipped = 0
    while skipped < n and (chunk := lines.chunk()):
        at = 0
        while skipped < n and (end := chunk.find(b"\n", at) + 1):
            at, skipped = end, skipped + 1
        lines.unread(chunk[at:], enough=True)
    return skipped


def _fitting(header: list[str], dialect: Dialect) -> list[str]:
    """The names, and one for a column that all rows have besides: an empty last, or the first, as R names its rows."""
    if len(header) + 1 != dialect.width:
        return header
    return [*header, ""] if not any(dialect.columns[-1]) else ["", *header]


def _split_fast(chunk: bytes, layout: _Layout, line_number: int) -> FieldRows | None:
    """Rows of a chunk in which each line is one row of the right width, quoted plainly or not at all; else None.

    Plainly quoted: each quote opens after a separator or closes before one, so that no two readers can differ.
    """
    if (b"\r" in chunk and chunk.count(b"\r") != chunk.count(b"\r\n")) or not _is_utf8(chunk):
        return None
    if layout.width == 1 and (b"\n\n" in chunk or b"\n\r" in chunk or chunk[:1] in b"\r\n"):  # perhaps a blank line
        return None
    ends = _row_ends(chunk, layout) if layout.quote.encode() in chunk or _may_have_long_fields(chunk) else None
    n = _plain_rows(chunk, layout) if ends is None else len(ends)
    table = _parsed(chunk, layout) if n else None
    if table is None or len(table) != n:
        return None

    def text(i: int) -> bytes:
        last = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) if ends is None else ends
        return chunk[int(last[i - 1]) + 1 if i else 0 : int(last[i])]

    columns = {name: table.get_column(f"column_{position + 1}") for name, position in layout.wanted.items()}
    return FieldRows(columns, np.arange(line_number, line_number + n), text, [])


def _plain_rows(chunk: bytes, layout: _Layout) -> int:
    """How many rows a chunk without quotes has; 0 where not every line has the right number of separators."""
    others = bytes(byte for byte in range(256) if byte not in layout.separator.encode() + b"\n")
    breaks = chunk.translate(None, others)
    row = layout.separator.encode() * (layout.width - 1) + b"\n"
    n = len(breaks) // len(row)
    return n if breaks == row * n else 0


def _may_have_long_fields(chunk: bytes) -> bool:
    """Whether a stretch of half a field's limit has no end of a line."""
    step = MAX_FIELD // 2
    return any(chunk.find(b"\n", at, at + step) < 0 for at in range(0, len(chunk) - step, step))


def _row_ends(chunk: bytes, layout: _Layout) -> Int[np.ndarray, " n"]:
    """Where each row of a plainly quoted, rectangular chunk ends; empty where it is no such chunk."""
    separator, width, none = layout.separator, layout.width, np.empty(0, np.int64)
    data = np.frombuffer(chunk, np.uint8)
    line_ends = data == ord("\n")
    breaks = np.flatnonzero((data == ord(separator)) | line_ends)
    quotes = np.flatnonzero(data == ord(layout.quote))
    if len(quotes) % 2:
        return none
    before, after = data[quotes[::2] - 1], data[quotes[1::2] + 1]  # -1 is the chunk's last byte, a newline
    around = [ord(separator), ord("\n")]
    if not (np.isin(before, around).all() and np.isin(after, [*around, ord("\r")]).all()):
        return none
    breaks = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    ends = breaks[width - 1 :: width]
    if len(breaks) != len(ends) * width or not line_ends[ends].all() or len(ends) != np.count_nonzero(line_ends):
        return none
    return none if np.diff(ends, prepend=-1).max() > MAX_FIELD + 1 else ends


def _parsed(chunk: bytes, layout: _Layout) -> pl.DataFrame | None:
    """The wanted columns of a chunk, `column_1` being the first of all; None where polars cannot read it.

    A column of numbers is parsed as such where all of it is finite numbers or empty, which spares making text of it.
    """
    for numbers in (layout.numbers, set[int]()):
        schema = {f"column_{i + 1}": pl.Float64() if i in numbers else pl.String() for i in range(layout.width)}
        wanted = [f"column_{i + 1}" for i in sorted(set(layout.wanted.values()))]
        try:
            table = pl.read_csv(
                chunk,
                has_header=False,
                schema=schema,
                separator=layout.separator,
                quote_char=layout.quote,
                columns=wanted,
                decimal_comma=layout.decimal_comma,
            )
        except pl.exceptions.PolarsError:
            continue
        finite = table.select(pl.col(pl.Float64).is_finite().all())
        if all(map(all, finite.rows())):
            return table
    return None


def _is_utf8(chunk: bytes) -> bool:
    if chunk.isascii():
        return True
    try:
        chunk.decode()
    except UnicodeDecodeError:
        return False
    return True


def _split_slow(chunk: bytes, layout: _Layout, line_number: int, ended: bool) -> tuple[FieldRows, bytes]:
    """Rows of any chunk, and the bytes of a last row that may go on in the next one."""
    feed = _Feed(chunk)
    reader = csv.reader(feed, delimiter=layout.separator, quotechar=layout.quote, strict=True)
    rows: list[list[str]] = []
    spans: list[tuple[int, int]] = []
    rejects: list[Reject] = []
    while True:
        feed.start = feed.at
        try:
            fields = next(reader, None)
            reason = f"the row has {_counted(len(fields or ()))}, the header has {layout.width}"
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
        if len(fields) == layout.width:
            rows.append(fields)
            spans.append((feed.start, feed.at))
        else:  # the row's first line is set aside alone: a stray quote must not take the lines after it along
            rejects.append((line_number + feed.start, reason, feed.lines[feed.start]))
            feed.at, feed.dry = feed.start + 1, False
            reader = csv.reader(feed, delimiter=layout.separator, quotechar=layout.quote, strict=True)
    columns = {
        column: pl.Series([row[position] for row in rows], dtype=pl.String)
        for column, position in layout.wanted.items()
    }
    numbers = np.asarray([line_number + start for start, _ in spans], np.int64)
    return FieldRows(columns, numbers, lambda i: b"\n".join(feed.lines[slice(*spans[i])]), rejects), feed.rest()


class _Feed:
    """Lines of a chunk for `csv.reader`, which takes as many as a row needs: decoded, and not without limit."""

    def __init__(self, chunk: bytes):
        self._chunk, self.lines = chunk, chunk.split(b"\n")[:-1]
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
        return self._chunk[sum(len(line) + 1 for line in self.lines[: self.start]) :]


def _counted(columns: int) -> str:
    return f"{columns:,} column" if columns == 1 else f"{columns:,} columns"
