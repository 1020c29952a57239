"""Conversion of rows of fields to events, with a reason for each row that is no event.

A feature is a number or a category. Those that are not named as categories are told apart by the first `HEAD_ROWS`
rows: where most of the fields that are not empty are no numbers, the feature is a category.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from onlineguard.sources.fields import FLOAT32_MAX, count_texts, to_codes, to_keys, to_numbers
from onlineguard.sources.rejects import Reject
from onlineguard.sources.rows import Columns, FieldRows
from onlineguard.sources.times import TimeParser

ALL = "all"  # the one slice where no column tells slices apart
HEAD_ROWS = 1_000  # enough for a vote; a given number, so that it does not matter how a source is cut into blocks


class Converter:
    """Makes events of the rows of one source."""

    def __init__(self, columns: Columns):
        self._columns, self._times = columns, TimeParser()
        self.categories: list[str] | None = None  # the features that are categories, in order; None until they are told

    def tell_categories(self, head: Sequence[FieldRows]) -> None:
        """Decide by the first rows of the source which features are categories."""
        named = set(self._columns.categories)
        votes = {column: [0, 0] for column in self._columns.features}
        left = HEAD_ROWS
        for rows in filter(lambda rows: len(rows.line_numbers), head):
            for column, vote in votes.items():
                texts, present = count_texts(rows.columns[column][:left])
                vote[0] += texts
                vote[1] += present
            left = max(left - len(rows.line_numbers), 0)
        self.categories = [c for c, (texts, present) in votes.items() if c in named or 2 * texts > present]

    def convert(self, rows: FieldRows) -> tuple[pl.DataFrame, list[Reject]]:
        """The events; and the rejected rows, those of the reader among them, by line number.

        Only after `tell_categories`.

        An event has the columns "slice 0", "slice 1", ..., "x 0", "x 1", ..., "time" and "label" where these are asked
        for, and "line".
        """
        n = len(rows.line_numbers)
        if n == 0:
            return pl.DataFrame({"line": rows.line_numbers}), rows.rejects
        wanted = self._columns
        categories = self.categories or ()
        events: dict[str, pl.Series | np.ndarray] = {}
        bad: dict[int, str] = {}  # the first reason found counts
        for j, column in enumerate(wanted.features):
            is_category = column in categories
            values, wrong = (to_codes if is_category else to_numbers)(rows.columns[column])
            events[f"x {j}"] = np.clip(values, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)
            lacking = "not one text or number" if is_category else "not a number"
            bad = {i: f"feature {column!r} is {text!r}, {lacking}" for i, text in wrong.items()} | bad
        if wanted.label is not None:
            values, wrong = to_numbers(rows.columns[wanted.label])
            wrong |= {int(i): f"{values[i]:g}" for i in np.flatnonzero(~np.isin(values, (0, 1)) & ~np.isnan(values))}
            events["label"] = (values == 1).astype(np.int8)
            bad = {i: f"label {wanted.label!r} is {text!r}, neither 0 nor 1" for i, text in wrong.items()} | bad
        if wanted.time is not None:
            events["time"], wrong = self._times.parse(rows.columns[wanted.time])
            bad = {
                i: f"time {wanted.time!r} is {t!r}, neither ISO 8601 nor a Unix time" for i, t in wrong.items()
            } | bad
        for j, column in enumerate(wanted.slices):
            events[f"slice {j}"], wrong = to_keys(rows.columns[column])
            bad = {i: f"slice {column!r} is {text}, not one string or number" for i, text in wrong.items()} | bad
        if not wanted.slices:
            events["slice 0"] = pl.repeat(ALL, n, dtype=pl.String, eager=True)
        events["line"] = rows.line_numbers
        frame = pl.DataFrame(events)
        if bad:
            good = np.ones(n, np.bool_)
            good[list(bad)] = False
            frame = frame.filter(pl.Series(good))
        rejects = rows.rejects + [(int(rows.line_numbers[i]), reason, rows.text(i)) for i, reason in bad.items()]
        return frame, sorted(rejects, key=lambda reject: reject[0])
