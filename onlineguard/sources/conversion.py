"""Conversion of rows of fields to events, with a reason for each row that is no event.

A feature is a number or a category. Those that are not named as categories are told apart by the first rows: where most
of the fields that are not empty are no numbers, the feature is a category.
"""

import numpy as np
import polars as pl

from onlineguard.sources.fields import FLOAT32_MAX, mostly_texts, to_codes, to_keys, to_numbers
from onlineguard.sources.rejects import Reject
from onlineguard.sources.rows import Columns, FieldRows
from onlineguard.sources.times import TimeParser

ALL = "all"  # the one slice where no column tells slices apart


class Converter:
    """Makes events of the rows of one source."""

    def __init__(self, columns: Columns):
        self._columns, self._times = columns, TimeParser()
        self.categories: list[str] | None = None  # the features that are categories, in order; None before any row

    def convert(self, rows: FieldRows) -> tuple[pl.DataFrame, list[Reject]]:
        """The events; and the rejected rows, those of the reader among them, by line number.

        An event has the columns "slice 0", "slice 1", ..., "x 0", "x 1", ..., "time" and "label" where these are asked
        for, and "line".
        """
        n = len(rows.line_numbers)
        if n == 0:
            return pl.DataFrame({"line": rows.line_numbers}), rows.rejects
        wanted = self._columns
        if self.categories is None:
            named = [column for column in wanted.features if column in wanted.categories]
            texts = [column for column in wanted.features if column not in named and mostly_texts(rows.columns[column])]
            self.categories = [column for column in wanted.features if column in (*named, *texts)]
        events: dict[str, pl.Series | np.ndarray] = {}
        bad: dict[int, str] = {}  # the first reason found counts
        for j, column in enumerate(wanted.features):
            is_category = column in self.categories
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
