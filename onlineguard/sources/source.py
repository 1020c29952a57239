"""The source: one file, several, or what is piped in, read from end to end."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.sources import blocks, frames
from onlineguard.sources.batches import Batch, in_batches
from onlineguard.sources.conversion import HEAD_ROWS, REASONS, Converter
from onlineguard.sources.dialect import WORDS, Choices
from onlineguard.sources.fields import Style
from onlineguard.sources.kinds import kind_of, number_kind, slice_among
from onlineguard.sources.opening import opened_table
from onlineguard.sources.places import WHOLE, Place, found_places, shown_name
from onlineguard.sources.rejects import RejectFile, shortened
from onlineguard.sources.rows import Columns, FieldRows, Table
from onlineguard.sources.times import TimeParser, told_time_format
from onlineguard.sources.units import UNITS, unit_among

_TOLD = Choices()
_TIMES = 50  # cells by which a column is told to hold times


class Source:
    """Events of the files that `path` names, or of standard input where that is "-", as batches of `batch_rows` rows.

    `path` is a file, a folder, a pattern such as logs/*.csv, or a URL, see `onlineguard.sources.places`. The format
    follows from the name: delimited text (.csv, .tsv, .txt), NDJSON (.ndjson, .jsonl), each also packed (.gz, .bz2,
    .xz, .zst, .lz4), Parquet and Excel; on standard input from the first byte: `{` for NDJSON, else delimited text. How
    the text is written is told from its head, as far as `choices` does not say; `described` has it in a few words.

    - `feature_columns` may be patterns such as load*; None is every column with numbers. The names, once a batch was
      read, are in `feature_columns`.
    - A feature is a number, or a category where it is among `category_columns` or most of its first 1,000 fields are
      texts; `categories` names those. A category becomes a code, see `onlineguard.engine.categories`.
    - An empty number, `null`, `NA`, `-`, `nan` or `inf` is missing; a finite number beyond float32
      becomes the largest float32, so that it stays absurd without vanishing.
    - A time is ISO 8601, a Unix time, whose unit (s, ms, us, ns) is told from its size, or of one more format.
    - A feature or a time that cannot be read is missing, and is counted by column in `bad_fields`.
    - A label is 0 or 1, true or false; an empty one is 0.
    - Any other row is counted in `rejected` and written to `rejects`, by default `path` + ".rejects.ndjson", as
      {"line", "reason", "text"}, and "file" where there are several. The file of an earlier run is replaced, and none
      is made when nothing was rejected. `reasons` are the first three, of bad fields and of rows.
      With `strict` the first such row, or row with such a field, is a SourceError instead.
    - `kept_columns` (patterns, too) are carried along as they are.
    - With `follow`, events come as soon as their line does, and the end of a file is not the end.

    Raises SourceError where nothing can be read at all, and after the last good row where the source breaks off.
    `bytes_read` of `total_bytes` (None where nobody knows) tells the progress, in bytes as they lie on the disk.
    """

    def __init__(
        self,
        path: str | Path,
        slice_columns: Sequence[str],
        feature_columns: Sequence[str] | None,
        time_column: str | None = None,
        label_column: str | None = None,
        batch_rows: int = 131_072,
        strict: bool = False,
        rejects: str | Path | None = None,
        category_columns: Sequence[str] = (),
        choices: Choices = _TOLD,
        kept_columns: Sequence[str] = (),
        follow: bool = False,
    ):
        if feature_columns is not None and not feature_columns:
            raise InvalidArgument("feature_columns", "is empty; name at least one column with numbers, e.g. ['value']")
        for name, columns in (("slice_columns", slice_columns), ("feature_columns", feature_columns or ())):
            if isinstance(columns, str) or len(set(columns)) != len(columns):
                raise InvalidArgument(name, f"is {columns!r}; it must be a list that names each column once")
        for column in category_columns:
            if feature_columns is not None and column not in feature_columns:
                raise InvalidArgument(
                    "category_columns", f"names {column!r}, which is no feature; name it there as well"
                )
        if batch_rows < 1:
            raise InvalidArgument(f"batch_rows is {batch_rows}; it must be at least 1, e.g. 131072")
        self.from_stdin = str(path) == "-"
        self.name = "stdin" if self.from_stdin else shown_name(str(path))
        self.path = Path(path)
        self.slice_columns = list(slice_columns)
        self.time_column, self.label_column = time_column, label_column
        self.batch_rows, self.strict, self.choices, self.follow = batch_rows, strict, choices, follow
        self.places = found_places(str(path))
        self.rejects = Path(rejects) if rejects is not None else _beside(self.name)
        self.rejected = self.bytes_read = 0
        self.bad_fields: Counter[str] = Counter()
        self.reasons: list[str] = []
        self.described = ""
        self.proposed_slice: tuple[str, int] | None = None  # a column that may tell slices apart, where none is named
        self.proposed_time: str | None = None  # a column that holds times, where none is named
        self.proposed_categories: dict[str, tuple[int, ...]] = {}  # features, where none is named, that may be codes
        self._style = _style(choices)
        self._request = self._columns = Columns(
            self.name,
            self.slice_columns,
            None if feature_columns is None else list(feature_columns),
            time_column,
            label_column,
            list(category_columns),
            list(kept_columns),
        )
        self._categories: list[str] | None = None
        self._begun: tuple[Batch | None, Iterator[Batch]] | None = None  # the first batch, where somebody peeked
        sizes = [place.size for place in self.places]
        self.total_bytes = None if None in sizes else sum(size or 0 for size in sizes)
        self._check_places()

    @property
    def feature_columns(self) -> list[str]:
        """The names of the features: all of them once a batch was read, before that those that were named."""
        return list(self._columns.features or ())

    @property
    def categories(self) -> list[str]:
        """The features that are categories; those that are not named as such are known once rows were read."""
        return self._columns.categories if self._categories is None else self._categories

    @property
    def kept_columns(self) -> list[str]:
        """The names of the columns that are carried along, all of them once a batch was read."""
        return list(self._columns.kept)

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

    def _check_places(self) -> None:
        for place in self.places:
            if place.path is not None and place.path.resolve() == self.rejects.resolve():
                raise InvalidArgument("rejects", f"is {self.rejects}, the source itself; name another file")
        if self.follow and (len(self.places) > 1 or self.places[0].suffix in WHOLE):
            raise InvalidArgument("follow", f"is for one text, not for {self.name}; name a text file or -")
        if self.follow and self.places[0].path is not None and self.places[0].size is None:
            raise SourceError(f"source {self.name} cannot be followed; pipe it in and name the source -")
        if self.total_bytes == 0 and not self.follow:
            raise self._empty()

    def _read(self) -> Iterator[Batch]:
        self.rejected = self.bytes_read = 0
        self.bad_fields, self.reasons, self._categories, self.described = Counter(), [], None, ""
        self._columns = self._request
        rejects = RejectFile(self.rejects)
        if not self.strict:
            rejects.remove()
        try:
            yield from in_batches(self._events(rejects), self.batch_rows, self.follow)
        finally:
            rejects.close()

    def _events(self, reject_file: RejectFile) -> Iterator[pl.DataFrame]:
        """All files, one after the other; one frame a block."""
        rows_seen = False
        for place in self.places:
            if place.size == 0 and not self.follow:
                continue
            for frame in self._events_of(place, reject_file):
                rows_seen = True
                yield frame
        if not rows_seen:
            raise self._empty()

    def _events_of(self, place: Place, reject_file: RejectFile) -> Iterator[pl.DataFrame]:
        """Read, set aside what cannot be read, convert."""
        any_read = False
        several = len(self.places) > 1
        try:
            with opened_table(
                place, self.choices, self._request.asked, self.batch_rows, self.follow, self._take
            ) as table:
                self._resolve(table)
                converter = self._converter(place, table)
                columns = replace(self._columns, source=place.name)
                for rows in self._told_apart(converter, table.rows(columns)):
                    any_read = True
                    events, rejects = converter.convert(rows)
                    self.bad_fields += converter.bad_fields
                    converter.bad_fields.clear()
                    if rejects and self.strict:
                        line, reason, _ = rejects[0]
                        yield events.filter(pl.col("line") < line)
                        raise SourceError(
                            f"{place.name}, line {line}: {reason}; mend it, or set such rows aside (not strict)"
                        )
                    if rejects:
                        reject_file.write(rejects, place.name if several else None)
                        self.rejected += len(rejects)
                    self._keep_reasons(place, [*converter.reasons, *(rejects[:REASONS])])
                    converter.reasons.clear()
                    if len(rows.line_numbers) or rows.rejects:
                        yield events.with_columns(file=pl.lit(place.name)) if several and len(events) else events
        except (*blocks.UNREADABLE, *frames.UNREADABLE) as error:
            if not any_read:
                raise self._unreadable(place, error) from error
            raise SourceError(f"source {place.name} breaks off after the rows read so far: {error}") from error

    def _resolve(self, table: Table) -> None:
        """Find the columns, in the first file."""
        if self._columns is not self._request:
            return

        def numbers() -> list[str]:
            missing = self.choices.missing
            found = {name: number_kind(name, cells, table.numerals, missing) for name, cells in table.sample.items()}
            taken = {*self.slice_columns, self.time_column, self.label_column, *self._request.categories}
            self.proposed_categories = {
                name: kind.codes for name, kind in found.items() if kind and kind.codes and name not in taken
            }
            return [name for name, kind in found.items() if kind and kind.name == "number" and not kind.counter]

        if table.names:
            self._columns = self._request.resolved(table.names, numbers)
            if not self.slice_columns:
                taken = {*(self._columns.features or ()), self.time_column, self.label_column}
                free = {name: cells for name, cells in table.sample.items() if name not in taken}
                self.proposed_slice = slice_among(free)
            if self.time_column is None:
                taken = {*(self._columns.features or ()), *self.slice_columns, self.label_column}
                some = {name: cells.head(_TIMES) for name, cells in table.sample.items() if name not in taken}
                kinds = ((name, kind_of(name, cells, table.numerals)) for name, cells in some.items())
                self.proposed_time = next((name for name, kind in kinds if kind.name == "time"), None)

    def _converter(self, place: Place, table: Table) -> Converter:
        columns, chosen = self._columns, self.choices
        cells = table.sample.get(columns.time or "")
        told = None
        if cells is not None and chosen.time_format is None and cells.dtype == pl.String:
            told = told_time_format(cells, table.numerals.decimal)
        if not self.described:
            self.described = _described(table, columns, chosen.time_format or told, chosen.missing)
        words = frozenset(WORDS | self._style.named)
        times = TimeParser(told, chosen.time_format, chosen.time_zone, words)
        return Converter(
            replace(columns, source=place.name), replace(self._style, numerals=table.numerals), times, self.strict
        )

    def _told_apart(self, converter: Converter, rows: Iterator[FieldRows]) -> Iterator[FieldRows]:
        """The rows, the first of them once there are enough to tell categories from numbers, or no more come."""
        head: list[FieldRows] = []
        failure: BaseException | None = None
        if self._categories is None:
            try:
                for block in rows:
                    head.append(block)
                    if self.follow or sum(len(block.line_numbers) for block in head) >= HEAD_ROWS:
                        break
            except (SourceError, *blocks.UNREADABLE, *frames.UNREADABLE) as error:  # what was read before it counts
                failure = error
            if failure is not None and not head:
                raise failure
            converter.tell_categories(head)
            self._categories = converter.categories
        converter.categories = self._categories
        yield from head
        if failure is not None:
            raise failure
        yield from rows

    def _keep_reasons(self, place: Place, reasons: Sequence[str | tuple[int, str, str | bytes]]) -> None:
        where = f"{place.name}, " if len(self.places) > 1 else ""
        for reason in reasons:
            if len(self.reasons) == REASONS:
                return
            text = reason if isinstance(reason, str) else f"line {reason[0]:,}: {reason[1]}"
            self.reasons.append(where + text)

    def _take(self, n_bytes: int) -> None:
        self.bytes_read += n_bytes

    def _unreadable(self, place: Place, error: BaseException) -> SourceError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return SourceError(f"source {place.name} cannot be read: {shortened(reason, 300)}")

    def _empty(self) -> SourceError:
        return SourceError(f"source {self.name} is empty; it must hold at least one row")


def _style(choices: Choices) -> Style:
    named = frozenset(word.strip().lower() for word in choices.missing)
    numbers: list[float] = []
    for word in choices.missing:
        with suppress(ValueError):
            numbers.append(float(word))
    return Style(words=frozenset(WORDS | named), named=named, numbers=tuple(numbers))


def _beside(name: str) -> Path:
    """Where the rejects of a source go: beside it, or here if it is elsewhere."""
    if "://" in name:
        name = Path(urlsplit(name).path).name or "source"
    parts = Path(name).parts
    plain = next((at for at, part in enumerate(parts) if set(part) & set("*?[") and not Path(name).exists()), None)
    return Path(f"{name}.rejects.ndjson") if plain is None else Path(*parts[:plain], "rejects.ndjson")


def _described(table: Table, columns: Columns, time_format: str | None, missing: Sequence[str]) -> str:
    """How a file is read, with the format of its times, and the words for missing numbers that its head has."""
    seen: dict[str, None] = {}
    units: dict[str, None] = {}
    for name in (columns.features or ())[:100]:
        cells = table.sample.get(name)
        if cells is not None and cells.dtype == pl.String:
            kind = number_kind(name, cells, table.numerals, missing)
            seen |= dict.fromkeys(kind.missing if kind else ())
            unit = unit_among(cells) if kind is not None and kind.name == "number" else None
            units |= {unit: None} if unit else {}
    parts = [table.describe()] + ([f"times {time_format}"] if time_format is not None else [])
    parts += [f"1 {unit} as {UNITS[unit]:g}" for unit in units if UNITS[unit] != 1.0]
    return ", ".join([*parts, f"missing {', '.join(map(repr, seen))}"] if seen else parts)
