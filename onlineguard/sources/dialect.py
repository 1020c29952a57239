"""Dialects: how a text of rows and fields is written, told from its head where the user does not say.

Each delimiter is tried. The one counts that cuts most rows to one width, and most fields to numbers and times. What
was asked for comes first: where the usual delimiter gives a header with every column that was named, it is that one,
and so are a header and its place.
"""

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import polars as pl

from onlineguard.errors import InvalidArgument
from onlineguard.sources.encodings import checked_encoding
from onlineguard.sources.fields import MISSING
from onlineguard.sources.formats import is_zone
from onlineguard.sources.numerals import PLAIN, Numerals, look_like_numbers, told_numerals

HEAD_BYTES = 1 << 18  # of a text, by which all is told
BLANKS = " "  # the delimiter of columns that are aligned, see `onlineguard.sources.aligned`
_ROWS, _CELLS = 1_000, 50_000  # of the head, at most
_DELIMITERS = (",", ";", "\t", "|")
_ANNOTATIONS = ("#group", "#datatype", "#default", "#constant")  # lines of InfluxDB before a header
_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:\D|$)|\d{1,2}[ /-][A-Z][a-z]{2}[a-z]*[ /-]\d{2,4}|\d{1,2}:\d{2}")
WORDS = MISSING | {  # that stand for a missing number, in small letters
    *("nan", "-", "--", "---", "—", "\u2013", "\\n", "?", ".", "*"),
    *("#n/a", "#na", "#null!", "#value!", "#div/0!", "#ref!", "#num!"),  # Excel's errors
    *("<na>", "<null>", "(null)", "n.a.", "k.a.", "nil", "missing", "undefined", "nat", "unknown", "not available"),
}


@dataclass(frozen=True)
class Choices:
    """What the user says about how a file is written; what is None is told from the file.

    encoding: as Python names it. delimiter: one character; a blank stands for any number of them, between aligned
    columns. header: whether there is one. decimal: "." or ",".
    time_format: as of `strptime`, e.g. "%d.%m.%Y %H:%M". time_zone: of times without one, e.g. "Europe/Berlin".
    missing: words or numbers for a missing value, besides the usual words.

    Raises InvalidArgument.
    """

    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    decimal: str | None = None
    time_format: str | None = None
    time_zone: str | None = None
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.encoding is not None:
            object.__setattr__(self, "encoding", checked_encoding(self.encoding))
        if self.delimiter is not None:
            delimiter = {"tab": "\t", "\\t": "\t", "blanks": BLANKS}.get(self.delimiter, self.delimiter)
            if len(delimiter) != 1 or not delimiter.isascii() or delimiter in "\"'\r\n" or delimiter.isalnum():
                raise InvalidArgument(
                    "delimiter", f"is {self.delimiter!r}; it must be one sign, e.g. ';', or the word tab or blanks"
                )
            object.__setattr__(self, "delimiter", delimiter)
        if self.decimal not in (None, ".", ","):
            raise InvalidArgument("decimal", f"is {self.decimal!r}; it must be '.' or ','")
        if self.time_zone is not None and not is_zone(self.time_zone):
            raise InvalidArgument("time_zone", f"is {self.time_zone!r}; it must be one such as Europe/Berlin or UTC")
        if self.time_format is not None and "%" not in self.time_format:
            raise InvalidArgument(
                "time_format", f"is {self.time_format!r}; it must have parts such as in '%d.%m.%Y %H:%M:%S'"
            )


@dataclass(frozen=True)
class Dialect:
    """How a text is written."""

    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    header: bool = True
    skipped: int = 0  # lines before the header, or before the first row where there is no header
    width: int = 0  # fields of most rows
    numerals: Numerals = PLAIN
    columns: Sequence[Sequence[str]] = field(default=(), repr=False, compare=False)  # fields of the head, by column
    aligned: bool = False  # by blanks; the delimiter is then that of the text that was made of it

    def describe(self) -> str:
        """In a few words, for one line on the screen."""
        delimiter = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", BLANKS: "blanks"}
        delimiter = delimiter.get(self.delimiter, repr(self.delimiter))
        parts = [self.encoding, "columns aligned by blanks" if self.aligned else f"{delimiter} between fields"]
        parts += [] if self.quote == '"' else [f"quotes {self.quote}"]
        parts += [f"{self.skipped} line{'s' * (self.skipped > 1)} skipped"] * bool(self.skipped)
        parts += ["header" if self.header else "no header"]
        return ", ".join([*parts, self.numerals.describe()])


def told_dialect(
    head: str, encoding: str, choices: Choices, usual: str | None = None, asked: Collection[str] = ()
) -> Dialect:
    """The dialect of a text by its first lines, all of them whole.

    usual: the delimiter that goes with its name. asked: names of columns that are wanted, without patterns.
    """
    lines = [line.removesuffix("\r") for line in head.split("\n")]
    lines = lines[:-1] if not lines[-1] else lines
    first = lines[0] if lines else ""
    said = first[4] if re.fullmatch(r"(?i)sep=.\s*", first) else None
    skipped = 1 if said else _annotated(lines)
    lines = lines[skipped:]
    quote = "'" if '"' not in head and head.count("'") >= 2 * max(len(lines), 1) and _quoted(lines) else '"'
    only = choices.delimiter or said
    candidates = (only,) if only else tuple(dict.fromkeys((usual or ",", *_DELIMITERS)))
    split = {delimiter: _Rows(lines, delimiter, quote) for delimiter in candidates}
    favourite = split[candidates[0]]
    if asked and set(asked) <= {name.strip() for row in favourite.rows[:1] for name in row}:
        best, at = favourite, 0
    else:
        best = max(split.values(), key=lambda rows: (rows.worth, rows is favourite))
        at = best.start
    rows = best.rows[at:]
    widths = Counter(map(len, rows[1:] or rows))
    width = max(widths, key=lambda width: widths[width]) if rows else 0
    body = [row for row in rows[1:] if len(row) == width]
    numerals = best.numerals(body, choices.decimal)
    header = choices.header
    if header is None:
        header = not rows or bool(asked and set(asked) <= {name.strip() for name in rows[0]})
        header = header or not _is_data(rows[0], body, numerals)
    if header and len(widths) > 1:  # only where all rows agree are they right, and not the header
        width = len(rows[0])
        body = [row for row in rows[1:] if len(row) == width]
    if not header:
        body = [row for row in rows if len(row) == width]
        numerals = best.numerals(body, choices.decimal)
    skipped += best.lines_before(at)
    columns = list(zip(*body, strict=True)) if body else [()] * width
    return Dialect(encoding, best.delimiter, quote, header, skipped, width, numerals, columns)


class _Rows:
    """The head as one delimiter cuts it, and what that is worth."""

    def __init__(self, lines: Sequence[str], delimiter: str, quote: str):
        self.delimiter = delimiter
        self.rows: list[list[str]] = []
        self._begin: list[int] = []  # the line where each row begins
        reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, quotechar=quote)
        cells = 0
        try:
            while len(self.rows) < _ROWS and cells < _CELLS:
                at = reader.line_num
                row = next(reader)
                if row:
                    self.rows.append(row)
                    self._begin.append(at)
                    cells += len(row)
        except (StopIteration, csv.Error):
            pass
        self.start, self.worth = 0, -1.0
        if self.rows:
            self._weigh()

    def lines_before(self, row: int) -> int:
        """Lines before a row, blank ones that come before the first row left out."""
        return self._begin[row] if row else 0

    def numerals(self, body: Sequence[Sequence[str]], decimal: str | None) -> Numerals:
        cells = [cell.strip() for row in body for cell in row]
        return told_numerals(pl.Series(cells, dtype=pl.String), self.delimiter, decimal)

    def _weigh(self) -> None:
        widths = Counter(map(len, self.rows))
        width = max(widths, key=lambda width: (widths[width] * (width > 1 or widths[width] == len(self.rows)), width))
        self.start = next(at for at, row in enumerate(self.rows) if abs(len(row) - width) <= (width > 2))
        while width > 2 and self.start + 2 < len(self.rows) and sum(map(bool, self.rows[self.start])) < 2:
            self.start += 1  # a title, with empty fields behind it
        few = [row for row in self.rows[self.start + 1 :] if len(row) == width][:20]
        cells = [cell.strip() for row in few for cell in row]
        numerals = self.numerals(few, None)
        numbers = look_like_numbers(cells, numerals)
        typed = sum(number or bool(_TIME.match(cell)) for number, cell in zip(numbers.tolist(), cells, strict=True))
        headless = self.start > 0 and (not few or _is_data(self.rows[self.start], few, numerals))
        share = widths[width] / (len(self.rows) - (0 if headless else self.start))
        self.worth = share + 0.3 * typed / max(len(cells), 1) + 0.2 * (width > 1) - 0.3 * headless


def _annotated(lines: Sequence[str]) -> int:
    """How many lines of annotations or remarks stand before the header; of the latter none that may be the header."""
    n = 0
    while n < len(lines) and (lines[n].startswith("#") or (n and not lines[n].strip())):
        n += 1
    if n and n < len(lines) and not lines[n - 1].startswith(_ANNOTATIONS):
        for delimiter in _DELIMITERS:
            if lines[n - 1].count(delimiter) == lines[n].count(delimiter) > 0:
                return n - 1
    return n if n < len(lines) else 0


def _quoted(lines: Sequence[str]) -> bool:
    """Whether fields stand in single quotes."""
    return sum(bool(re.search(r"(?:^|[,;\t|])'[^']*'(?:[,;\t|]|$)", line)) for line in lines) * 2 > len(lines)


def _is_data(first: Sequence[str], body: Sequence[Sequence[str]], numerals: Numerals) -> bool:
    """Whether a first row has numbers and times in every column in which the other rows have them."""
    cells = [cell.strip() for cell in first]
    if not body:
        numbers = look_like_numbers(cells, numerals)
        return bool(numbers.any()) and not _are_years(cells, numbers.tolist())
    told, fitting = 0, 0
    numbers = look_like_numbers(cells, numerals).tolist()
    for at, column in enumerate(zip(*body, strict=True)):
        filled = [cell.strip() for cell in column[:100] if cell.strip().lower() not in WORDS]
        typed = int(look_like_numbers(filled, numerals).sum()) + sum(bool(_TIME.match(cell)) for cell in filled)
        if at < len(cells) and filled and 2 * typed > len(filled) and cells[at].lower() not in WORDS:
            told += 1
            fitting += numbers[at] or bool(_TIME.match(cells[at]))
    return told > 0 and fitting == told and not _are_years(cells, numbers)


def _are_years(cells: Sequence[str], numbers: Sequence[bool]) -> bool:
    """Whether the numbers among the fields are years that ascend, as names of columns."""
    years = [cell for cell, number in zip(cells, numbers, strict=True) if number]
    whole = all(re.fullmatch(r"(?:19|20)\d\d", year) for year in years)
    return whole and len(years) > 1 and years == sorted(set(years))


def whole_lines(head: bytes, ended: bool) -> str:
    """The text of the head, without a last line that may go on behind it."""
    return (head if ended else head[: head.rfind(b"\n") + 1] or head).decode(errors="replace")
