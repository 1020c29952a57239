"""Opening a file of a source: its bytes, its format, and how it is written, told from its head."""

import re
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace

from onlineguard.errors import SourceError
from onlineguard.sources import blocks
from onlineguard.sources.aligned import awaits_rows, in_columns, told_alignment
from onlineguard.sources.delimited import Delimited
from onlineguard.sources.dialect import BLANKS, HEAD_BYTES, Choices, told_dialect, whole_lines
from onlineguard.sources.encodings import as_utf8, told_encoding
from onlineguard.sources.following import Followed
from onlineguard.sources.frames import excel_table, parquet_table
from onlineguard.sources.lines import Lines
from onlineguard.sources.ndjson import JsonLines
from onlineguard.sources.places import DELIMITERS, EXCEL, JSON_LINES, PARQUET, Place
from onlineguard.sources.rows import Table
from onlineguard.sources.unpacking import unpacked

_PAGE = re.compile(rb"(?i)\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|body)\b")
_TITLES = 5  # lines of a followed text that are waited for, where the first ones may be titles and a header


@contextmanager
def opened_table(
    place: Place,
    choices: Choices,
    asked: Collection[str],
    batch_rows: int,
    follow: bool,
    taken: Callable[[int], None],
) -> Generator[Table]:
    """The table in a file. `taken` is called with the bytes read since the last call.

    choices: what the user says. asked: the columns that are wanted, by name. follow: give each line as soon as it
    comes, and never end at the end of a file.
    """
    if place.suffix in PARQUET or place.suffix in EXCEL:
        done_before = 0

        def progress(done: int, of: int) -> None:
            nonlocal done_before
            now = (place.size or 0) * done // max(of, 1)
            taken(now - done_before)
            done_before = now

        with place.local() as path:
            if place.suffix in PARQUET:
                yield parquet_table(path, batch_rows, progress)
            else:
                yield excel_table(path, batch_rows, progress, choices.decimal)
        return
    with place.opened() as stream:
        followed = Followed(stream, place) if follow else None

        def counted() -> Iterator[bytes]:
            for block in followed or iter(lambda: blocks.read_block(stream), b""):
                taken(len(block))
                yield block

        try:
            yield _text(counted(), place, choices, asked, followed)
        finally:
            if followed is not None:
                followed.close()


def _text(
    packed: Iterator[bytes], place: Place, choices: Choices, asked: Collection[str], followed: Followed | None
) -> Delimited | JsonLines:
    """The table of a text: NDJSON by its name or its first sign, else delimited."""
    headed = place.suffix not in JSON_LINES and choices.header is not False
    needed = 1 + headed if followed else None  # lines
    text = packed if followed else unpacked(packed, place.name)
    raw, _, text = blocks.with_head(text, HEAD_BYTES, needed)
    encoding = choices.encoding or told_encoding(raw)
    utf8 = as_utf8(text, encoding)
    head, ended, utf8 = blocks.with_head(utf8, HEAD_BYTES, needed)
    while needed and headed and needed < _TITLES and not ended and awaits_rows(whole_lines(head, ended)):
        needed += 1
        head, ended, utf8 = blocks.with_head(utf8, HEAD_BYTES, needed)
    lines = Lines(utf8)
    if place.suffix in JSON_LINES or (place.suffix not in DELIMITERS and head.lstrip().startswith(b"{")):
        return JsonLines(lines)
    if _PAGE.match(head):
        raise SourceError(
            f"source {place.name} is a web page, not a table; name the address of the file itself, which a page often "
            "calls raw or download"
        )
    usual = DELIMITERS.get(place.suffix)
    told = whole_lines(head, ended)
    blanks = None
    if choices.delimiter in (None, BLANKS):
        blanks = told_alignment(told, choices.delimiter == BLANKS, choices.time_format)
    if blanks is not None:
        lines = Lines(in_columns(utf8, blanks))
        told = b"".join(in_columns(iter([told.encode()]), blanks)).decode()
        header = bool(blanks.header) if choices.header is None else choices.header
        choices = replace(choices, delimiter="\t", header=header)
    dialect = replace(told_dialect(told, encoding, choices, usual, asked), aligned=blanks is not None)
    if followed is not None and dialect.header:
        followed.opening = dialect.skipped + 1 + (blanks.before if blanks is not None else 0)
    return Delimited(lines, dialect, place.name)
