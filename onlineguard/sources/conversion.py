"""Conversion of rows of fields to events, with a reason for each row that is no event.

A feature is a number or a category. Those that are not named as categories are told apart by the first `HEAD_ROWS`
rows: where most of the fields that are not empty are no numbers, the feature is a category. A field of a feature or of
the time that cannot be read is missing, and is counted; a bad slice or label costs its row.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl

from onlineguard.errors import SourceError
from onlineguard.sources.fields import FLOAT32_MAX, Style, count_texts, to_codes, to_keys, to_numbers
from onlineguard.sources.rejects import Reject
from onlineguard.sources.rows import Columns, FieldRows
from onlineguard.sources.times import NO_TIME, TimeParser

ALL = "all"  # the one slice where no column tells slices apart
HEAD_ROWS = 1_000  # enough for a vote; a given number, so that it does not matter how a source is cut into blocks
REASONS = 3  # that are kept to be shown
_EARLIEST = 100_000_000_000_000  # microseconds: Unix times before 1973 are such only if they ascend
_FEW = 8  # numbers that tell whether they ascend


class Converter:
    """Makes events of the rows of one source.

    strict: a field that cannot be read costs its row, too.
    """

    def __init__(
        self, columns: Columns, style: Style | None = None, times: TimeParser | None = None, strict: bool = False
    ):
        self._columns, self._style, self._times = columns, style or Style(), times or TimeParser()
        self._strict = strict
        self.categories: list[str] | None = None  # the features that are categories, in order; None until they are told
        self.bad_fields: Counter[str] = Counter()  # fields that could not be read and are missing, by column
        self.reasons: list[str] = []  # of the first of them

    def tell_categories(self, head: Sequence[FieldRows]) -> None:
        """Decide by the first rows which features are categories; raises SourceError if the time is no time."""
        named = set(self._columns.categories)
        votes = {column: [0, 0] for column in self._columns.features or ()}
        left = HEAD_ROWS
        for rows in filter(lambda rows: len(rows.line_numbers), head):
            for column, vote in votes.items():
                texts, present = count_texts(rows.columns[column][:left], self._style)
                vote[0] += texts
                vote[1] += present
            left = max(left - len(rows.line_numbers), 0)
        self.categories = [c for c, (texts, present) in votes.items() if c in named or 2 * texts > present]
        if self._columns.time is not None:
            self._check_times([rows.columns[self._columns.time] for rows in head if len(rows.line_numbers)])

    def convert(self, rows: FieldRows) -> tuple[pl.DataFrame, list[Reject]]:
        """The events; and the rejected rows, those of the reader among them, by line number.

        Only after `tell_categories`.

        An event has the columns "slice 0", "slice 1", ..., "x 0", "x 1", ..., "time" and "label" where these are asked
        for, "kept NAME", and "line".
        """
        n = len(rows.line_numbers)
        if n == 0:
            return pl.DataFrame({"line": rows.line_numbers}), rows.rejects
        wanted = self._columns
        categories = self.categories or ()
        events: dict[str, pl.Series | np.ndarray] = {}
        bad: dict[int, str] = {}  # the first reason found counts
        unread: list[tuple[int, str]] = []  # the first of each column
        for j, column in enumerate(wanted.features or ()):
            is_category = column in categories
            values, wrong = (to_codes if is_category else to_numbers)(rows.columns[column], self._style)
            events[f"x {j}"] = np.clip(values, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)
            lacking = "not one text or number" if is_category else "not a number"
            self._note(column, wrong, f"feature {column!r} is {{!r}}, {lacking}", unread, bad)
        if wanted.label is not None:
            values, wrong = to_numbers(rows.columns[wanted.label], self._style)
            wrong |= {int(i): f"{values[i]:g}" for i in np.flatnonzero(~np.isin(values, (0, 1)) & ~np.isnan(values))}
            events["label"] = (values == 1).astype(np.int8)
            bad = {i: f"label {wanted.label!r} is {text!r}, neither 0 nor 1" for i, text in wrong.items()} | bad
        if wanted.time is not None:
            events["time"], wrong = self._times.parse(rows.columns[wanted.time])
            self._note(wanted.time, wrong, f"time {wanted.time!r} is {{!r}}, {self._times.rule}", unread, bad)
        for j, column in enumerate(wanted.slices):
            events[f"slice {j}"], wrong = to_keys(rows.columns[column])
            bad = {i: f"slice {column!r} is {text}, not one string or number" for i, text in wrong.items()} | bad
        if not wanted.slices:
            events["slice 0"] = pl.repeat(ALL, n, dtype=pl.String, eager=True)
        for column in wanted.kept:
            values = rows.columns[column]
            if column in (wanted.features or ()) and column not in categories:
                events[f"kept {column}"] = pl.Series(to_numbers(values, self._style)[0], nan_to_null=True)
                continue
            events[f"kept {column}"] = values if isinstance(values, pl.Series) else to_keys(values)[0]
        events["line"] = rows.line_numbers
        for i, reason in sorted(unread)[: REASONS - len(self.reasons)]:
            self.reasons.append(f"line {rows.line_numbers[i]:,}: {reason}")
        frame = pl.DataFrame(events)
        if bad:
            good = np.ones(n, np.bool_)
            good[list(bad)] = False
            frame = frame.filter(pl.Series(good))
        rejects = rows.rejects + [(int(rows.line_numbers[i]), reason, rows.text(i)) for i, reason in bad.items()]
        return frame, sorted(rejects, key=lambda reject: reject[0])

    def _note(
        self, column: str, wrong: dict[int, str], reason: str, unread: list[tuple[int, str]], bad: dict[int, str]
    ) -> None:
        """Count what could not be read of a column; with `strict` it costs the rows."""
        if self._strict:
            for i, text in wrong.items():
                bad.setdefault(i, reason.format(text))
        elif wrong:
            self.bad_fields[column] += len(wrong)
            unread += [(i, reason.format(wrong[i])) for i in list(wrong)[:REASONS]]

    def _check_times(self, blocks: list[pl.Series | list[object]]) -> None:
        column, source = self._columns.time, self._columns.source
        parsed = [self._times.parse(block[:HEAD_ROWS]) for block in blocks]
        times = np.concatenate([times for times, _ in parsed])[:HEAD_ROWS] if parsed else np.empty(0, np.int64)
        wrong = {i: text for _, some in parsed for i, text in some.items()}
        known = times[times != NO_TIME]
        way_out = "name another column, or say how times are written with --time-format '%d.%m.%Y %H:%M'"
        if len(wrong) > len(known):
            example = next(iter(wrong.values()))
            raise SourceError(
                f"time column {column!r} of {source} holds no times, but {example!r} and the like; {way_out}"
            )
        small = known[np.abs(known) < _EARLIEST]
        if len(small) == len(known) >= _FEW and 10 * (np.diff(small) >= 0).sum() < 9 * (len(small) - 1):
            example = small[0] / 1e6
            raise SourceError(
                f"time column {column!r} of {source} holds numbers such as {example:g}, which neither are times of "
                f"these decades nor ascend; {way_out}"
            )
