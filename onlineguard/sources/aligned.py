"""Aligned columns: tables for the eye, as df, ps, sar, vmstat and kubectl print them, with blanks between the columns.

They become text with tabs between the fields, line by line, so that a line keeps its number and all that is known of
delimited text holds for them too. Titles above the first header become blank lines, and so do these titles and the
header when they come again. A line that is not of the table is one field, so that it is set aside.

The fields of a row are told apart in one of these ways, the first that suits nearly all rows of the head:

- each run of blanks parts two fields, as in vmstat;
- columns begin where the names of the header do, since fields are empty or have blanks in them, as in docker ps;
- the last field is all that is left of the line, as the command in ps aux;
- quotes and brackets hold a field together, as in the log of a web server.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from onlineguard.sources.days import DATE, Days

_LINES = 1_000  # of the head, at most
_MOST = 0.9  # of the rows must be told apart in the same way
_DIGITS = r"(?:\d{1,3}(?:[.,]\d{3})+|\d+)(?:[.,]\d+)?"
_NUMBER = re.compile(rf"[-+]?{_DIGITS}(?:[eE][-+]?\d+)?(?:%|m|[KMGTP]?i?B?)$")
_COMMA = re.compile(r"-?\d+,\d{2}$")
_SIZE = re.compile(rf"{_DIGITS}[KMGTP]i?$")  # as df -h and Kubernetes write them
_PLAIN = re.compile(rf"{_DIGITS}$|-$|$")
_THOUSANDTHS = re.compile(r"\d+m$")  # of a processor, as Kubernetes writes them
_CLOCK = re.compile(r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: [AaPp][Mm])?$")
_BEHIND = re.compile(r"(?:[AaPp][Mm]|[-+]\d\d:?\d\d|UTC|GMT|CES?T|Z)$")  # a clock
_HELD = re.compile(r'"((?:[^"\\]|\\.)*)"|\[([^\]]*)\]|(\S+)')
_QUOTED = re.compile(r'"[^"]*"')
_WORD, _NAME = re.compile(r"\S+"), re.compile(r"\S+(?: \S+)*")
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Alignment:
    """How the rows of an aligned table are told apart.

    before: lines before the header, or before the first row. titles: those lines, which may come again as the header
    may. header: its words, none where there is no header.
    """

    width: int
    before: int
    titles: frozenset[str]
    header: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    held: bool = False  # by quotes and brackets
    starts: tuple[int, ...] = ()  # of columns that go by their places
    rest: bool = False  # the last field is all that is left
    sections: bool = False  # after a blank line, rows count only below another header
    clock: bool = False  # the first column is a time of the day
    day: str = ""  # of the first of those times, as a title has it
    day_first: bool = False  # in dates that may be read in two ways
    sizes: frozenset[int] = frozenset()  # columns such as 12G, which stands for 12 GiB
    thousandths: frozenset[int] = frozenset()  # columns such as 250m, which stands for 0.250

    def fields(self, line: str) -> list[str] | None:
        """The fields of a line; None where it is no row."""
        if self.starts:
            return _cut(line, self.starts)
        words = _words(line, self.held)
        if self.rest and len(words) > self.width:
            words = [*words[: self.width - 1], " ".join(words[self.width - 1 :])]
        if self.clock and not _CLOCK.match(words[0]):
            return None
        return words


def told_alignment(text: str, asked: bool = False, time_format: str | None = None) -> Alignment | None:
    """How the columns of a text are aligned, by its first lines; None where they are not.

    asked: the user says that they are; then it is None only where there are no two rows. time_format: that of the
    times, if the user said it. Without it, 07/08/2026 is in August where numbers have decimal commas, else in July.
    """
    lines = [line.rstrip("\r") for line in text.split("\n")[:_LINES]]
    (best, share), (held, share_held) = _told(lines, False), _told(lines, True)
    if best is None or (held is not None and share_held >= share and held.width < best.width):
        best, share = held, share_held
    if best is None or not (asked or (share >= _MOST and _tells_more(lines, best))):
        return None
    rows = [fields for line in _inside(lines, best) if (fields := best.fields(line)) and len(fields) == best.width]
    columns = list(enumerate(zip(*rows, strict=True)))
    sizes = frozenset(at for at, cells in columns if _are_sizes(cells))
    thousandths = frozenset(at for at, cells in columns if all(map(_THOUSANDTHS.match, cells)))
    clock = 2 * sum(_CLOCK.match(row[0]) is not None for row in rows) > len(rows)
    titles = [word for line in lines[: best.before] for word in line.split() if DATE.match(word)]
    day = titles[0] if clock and titles else ""
    first = time_format.startswith("%d") if time_format else any(_COMMA.match(cell) for row in rows for cell in row)
    found = replace(best, sizes=sizes, thousandths=thousandths, clock=clock, day=day, day_first=first)
    return replace(found, names=_unlike(best.names))


def in_columns(blocks: Iterator[bytes], alignment: Alignment) -> Iterator[bytes]:
    """The blocks of an aligned text in UTF-8, damaged or not, as text with tabs between the fields."""
    table, rest = _Table(alignment), b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        if lines:
            yield b"".join(map(table.line, lines))
    if rest:
        yield table.line(rest)


class _Table:
    """Lines of an aligned text, one after the other, as lines with tabs."""

    def __init__(self, alignment: Alignment):
        self._way, self._at, self._inside = alignment, 0, True
        self._days = Days(alignment.day, alignment.day_first)
        self._dated = next((title.split()[0] for title in alignment.titles if alignment.day in title.split()), None)

    def line(self, line: bytes) -> bytes:
        text = line.decode(errors="surrogateescape").rstrip("\r")
        self._at += 1
        fields = self._fields(text)
        fields = map(_quoted, fields) if '"' in text or "\t" in text else fields
        return "\t".join(fields).encode(errors="surrogateescape") + b"\n"

    def _fields(self, text: str) -> Sequence[str]:
        way = self._way
        if self._at <= way.before:
            return ()
        if not text.strip():
            self._inside = not way.sections
            return ()
        if self._is_title(text):
            return ()
        if way.header and text.rstrip().endswith(way.header[-1]) and _header_words(text) == way.header:
            self._inside = True
            return way.names if self._at == way.before + 1 else ()
        fields = way.fields(text) if self._inside else None
        if fields is None:
            return (text,)
        if way.day:
            fields[0] = f"{self._days.at(fields[0])} {fields[0]}"
        for at in way.sizes:
            if at < len(fields) and _SIZE.match(fields[at]):
                fields[at] = fields[at].removesuffix("i") + "iB"
        for at in way.thousandths:
            if at < len(fields) and _THOUSANDTHS.match(fields[at]):
                fields[at] = fields[at].removesuffix("m") + "e-3"
        return fields

    def _is_title(self, text: str) -> bool:
        """Whether a line is a title that comes again; where it has another day, that one holds."""
        if self._dated and text.startswith(self._dated):
            days = [word for word in text.split() if DATE.match(word)]
            if days:
                self._days.titled(days[0])
                return True
        return text in self._way.titles


def _told(lines: Sequence[str], held: bool) -> tuple[Alignment | None, float]:
    """The best way to tell the rows apart, and the share of the rows that it suits."""
    words = [_words(line, held) for line in lines]
    numbered = [len(some) > 1 and any(map(_NUMBER.match, some)) for some in words]
    at = next((i for i, (one, two) in enumerate(pairwise(numbered)) if not one and two and len(words[i]) > 1), None)
    if at is None:  # no header
        counts = Counter(len(words[i]) for i, is_row in enumerate(numbered) if is_row)
        if counts.total() < 2:
            return None, 0.0
        width = counts.most_common(1)[0][0]
        first = next(i for i, is_row in enumerate(numbered) if is_row and len(words[i]) == width)
        way = Alignment(width, first, frozenset(lines[:first]), held=held)
        return way, counts[width] / sum(bool(line.strip()) for line in lines[first:])
    header = _header_words(lines[at])
    again = any(_header_words(line) == header for line in lines[at + 1 :])
    sections = again or (at > 1 and not lines[at - 1].strip())
    way = Alignment(len(header), at, frozenset(lines[:at]), header, header, held, sections=sections)
    rows = [_words(line, held) for line in _inside(lines, way)]
    if len(rows) < 2:
        return None, 0.0
    counts = Counter(map(len, rows))
    most, share = counts.most_common(1)[0][0], counts.most_common(1)[0][1] / len(rows)
    plain = counts[len(header)] / len(rows)
    if plain >= _MOST:
        return way, plain
    placed = _by_places(lines, way)
    if placed is not None:
        return placed, 1.0
    if most == len(header) + 1 and share >= _MOST and _has_row_names(lines[at], lines[at + 1]):
        return replace(way, width=most, names=("", *header)), share
    if most == len(header) - 1 and share >= _MOST and _has_row_names(lines[at + 1], lines[at]):  # iostat's avg-cpu:
        return replace(way, width=most, names=header[1:]), share
    if most == len(header) - 1 and share >= _MOST:  # a name of two words: that of a date and a clock, or the last one
        two = next((i for i, some in enumerate(rows[0]) if " " in some and not held), most - 1)
        names = (*header[:two], " ".join(header[two : two + 2]), *header[two + 2 :])
        return replace(way, width=most, names=names), share
    more = sum(n for count, n in counts.items() if count >= len(header)) / len(rows)
    return (replace(way, rest=True), more) if more > plain else (way, plain)


def _words(line: str, held: bool) -> list[str]:
    """Words between blanks; those of one time are one."""
    if held:
        return ["".join(groups) for groups in _HELD.findall(line)]
    words = line.split()
    if ":" not in line:
        return words
    joined: list[str] = []
    for word in words:
        last = joined[-1] if joined else ""
        if (_CLOCK.match(word) and DATE.match(last)) or (_BEHIND.match(word) and _CLOCK.match(last.split(" ")[-1])):
            joined[-1] = f"{last} {word}"
        else:
            joined.append(word)
    return joined


def _header_words(line: str) -> tuple[str, ...]:
    """The words of a header. A clock, as sar has it before the names, is called time."""
    words = _words(line.removeprefix("#"), False)
    return tuple("time" if not at and _CLOCK.match(word) else word for at, word in enumerate(words))


def _inside(lines: Sequence[str], way: Alignment) -> list[str]:
    """The lines that are rows by where they stand."""
    rows: list[str] = []
    inside = True
    for line in lines[way.before :]:
        if not line.strip():
            inside = not way.sections
        elif way.header and _header_words(line) == way.header:
            inside = True
        elif inside and line not in way.titles:
            rows.append(line)
    return rows


def _by_places(lines: Sequence[str], way: Alignment) -> Alignment | None:
    """Columns that begin where the names do, between which two blanks or more stand; None where a row disagrees."""
    found = list(_NAME.finditer(lines[way.before]))
    starts, names = tuple(name.start() for name in found), tuple(name.group() for name in found)
    rows = _inside(lines, way)
    if len(names) < 3 or sum(_cut(line, starts) is not None for line in rows) < _MOST * len(rows):
        return None
    return replace(way, width=len(names), names=names, starts=starts)


def _cut(line: str, starts: Sequence[int]) -> list[str] | None:
    """The fields that begin at these places; None where one stands across a place, or begins behind it."""
    fields: list[str] = []
    for start, end in zip(starts, (*starts[1:], None), strict=True):
        cell = line[start:end]
        if (start and line[start - 1 : start].strip()) or (cell.strip() and cell[0].isspace()):
            return None
        fields.append(cell.strip())
    return fields


def _has_row_names(header: str, row: str) -> bool:
    """Whether the first word of a row stands before all words of the header."""
    first, name = _WORD.search(row), _WORD.search(header)
    return first is not None and name is not None and first.end() <= name.start()


def awaits_rows(head: str) -> bool:
    """Whether these first lines may be titles of an aligned table, or its header, so that more should be seen."""
    lines = head.split("\n")
    if len(lines[0].split()) == 1 or lines[0].startswith("{") or any(sign in lines[0] for sign in ",;|"):
        return False
    numbers = [(sum(map(bool, map(_NUMBER.match, words))), len(words)) for words in map(str.split, lines)]
    titled = 2 * numbers[0][0] < numbers[0][1]  # a title may have a number in it
    return titled and not any(n and of > 1 for n, of in numbers[1:])


def _tells_more(lines: Sequence[str], way: Alignment) -> bool:
    """Whether the fields are numbers more often than those between signs would be, below no names between signs."""
    if not way.header and " " not in lines[0].strip() and any(sign in lines[0] for sign in _DELIMITERS):
        return False
    rows = _inside(lines, way)
    fields = [row for line in rows if (row := way.fields(line)) is not None and len(row) == way.width]
    share = _numbers([cell for row in fields for cell in row])
    numbers = [2 * sum(map(bool, map(_NUMBER.match, cells))) > len(cells) for cells in zip(*fields, strict=True)]
    if not (any(numbers) or way.starts):
        return False
    apart = sum("  " in line.strip() or line[:1].isspace() for line in rows)
    bare = [_QUOTED.sub("", line) if '"' in line else line for line in rows]
    for delimiter in _DELIMITERS:
        counts = Counter(line.count(delimiter) for line in bare)
        parts, n = counts.most_common(1)[0]
        cells = [cell.strip() for line in bare if line.count(delimiter) == parts for cell in line.split(delimiter)]
        if parts and n >= _MOST * len(rows) and (2 * apart < len(rows) or _numbers(cells) >= share):
            return False
    return bool(apart) or bool(way.header) or way.width > 2


def _numbers(cells: Sequence[str]) -> float:
    return sum(map(bool, map(_NUMBER.match, cells))) / max(len(cells), 1)


def _are_sizes(cells: Sequence[str]) -> bool:
    return any(map(_SIZE.match, cells)) and all(_SIZE.match(cell) or _PLAIN.match(cell) for cell in cells)


def _unlike(names: Sequence[str]) -> tuple[str, ...]:
    """The names; one that comes again is numbered."""
    seen: Counter[str] = Counter()
    made: list[str] = []
    for name in names:
        seen[name] += 1
        made.append(f"{name}_{seen[name]}" if name and seen[name] > 1 else name)
    return tuple(made)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if '"' in text or "\t" in text else text
