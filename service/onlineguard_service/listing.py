"""Slices for a table: those whose key contains a text, sorted by a column, and of these a page.

Sorted by numbers and without a text, a page of 100,000 slices takes some milliseconds, since no key is looked at but
those of the page. Looking through 100,000 keys takes tenths of a second, so it is done in parts, between which others
are answered. What comes or goes meanwhile may be missing in the list.
"""

import heapq
import itertools
from collections.abc import AsyncGenerator, Hashable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from onlineguard.wire.requests import Of, Sort
from onlineguard_service.figures import Figures, shown_key
from onlineguard_service.patience import give_way

AT_ONCE = 500  # keys that are looked at before others get their turn; some tenths of a millisecond
ROWS_AT_ONCE = 100  # of a page, as well

type _Named = tuple[str, int, Of, Hashable]  # a slice with its text, by which it is sorted, and then by its place


async def listed(
    figures: Mapping[Of, Figures], sort: Sort, descending: bool, limit: int, offset: int, contains: str
) -> dict[str, Any]:
    """The page from `offset` on, how many slices there are, and in how many of them the text was found."""
    total = found = sum(map(len, figures.values()))
    page = slice(offset, offset + limit)
    if sort != "name" and not contains:
        shown = _by_number(figures, {of: each.held() for of, each in figures.items()}, sort, descending, page)
    else:
        texts: list[list[_Named]] = []
        places: dict[Of, list[np.ndarray]] = {of: [np.empty(0, np.int64)] for of in figures}
        found = 0
        async for of, keys in _containing(figures, contains.lower()):
            if sort == "name":
                run: list[_Named] = [(shown_key(key), n, of, key) for n, key in enumerate(keys, found)]
                texts.append(sorted(run, reverse=descending)[: page.stop])
            else:
                at = figures[of].places(keys)
                places[of].append(at[at >= 0])
            found += len(keys)
        if sort == "name":
            shown = await _merged(texts, descending, page)
        else:
            joined: dict[Of, np.ndarray] = {of: np.concatenate(at) for of, at in places.items()}
            shown = _by_number(figures, joined, sort, descending, page)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(shown), ROWS_AT_ONCE):
        await give_way()
        rows += _rows(figures, shown[start : start + ROWS_AT_ONCE])
    return {"slices": rows, "total": total, "found": found}


def _rows(figures: Mapping[Of, Figures], shown: list[tuple[Of, Hashable]]) -> list[dict[str, Any]]:
    """The entries of slices, without those that have gone."""
    entries = {of: _entries(each, of, [key for of_, key in shown if of_ == of]) for of, each in figures.items()}
    return [{"of": of, **row} for of, _ in shown if (row := next(entries[of])) is not None]


def _by_number(
    figures: Mapping[Of, Figures], places: Mapping[Of, Int[np.ndarray, " n"]], sort: Sort, descending: bool, page: slice
) -> list[tuple[Of, Hashable]]:
    """A page of the slices at these places in the order of a column; those that lack it come last."""
    columns = [_column(figures[of], of, sort, rows) for of, rows in places.items()]
    at = np.concatenate(list(places.values()))
    ofs = list(places)
    ends = np.cumsum([len(rows) for rows in places.values()])
    order = _first(np.concatenate(columns) * (-1.0 if descending else 1.0), page.stop)[page.start :]
    owners = np.searchsorted(ends, order, side="right").tolist()
    return [(ofs[owner], figures[ofs[owner]].name(row)) for owner, row in zip(owners, at[order].tolist(), strict=True)]


def _first(values: Float[np.ndarray, " n"], most: int) -> Int[np.ndarray, " m"]:
    """Where the `most` lowest values stand, lowest first; of equal ones the first, and NaN last."""
    near = np.arange(len(values))
    if 0 < most < len(values):
        last = np.partition(values, most - 1)[most - 1]
        absent = np.isnan(values)
        before, same = (~absent, absent) if np.isnan(last) else (values < last, values == last)
        near = np.flatnonzero(before)
        near = np.concatenate([near, np.flatnonzero(same)[: most - len(near)]])
    return near[np.argsort(values[near], kind="stable")][:most]


def _column(figures: Figures, of: Of, sort: Sort, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """What the slices are sorted by; NaN where there is nothing."""
    return np.full(len(rows), np.nan) if sort == "ivr" and of == "events" else figures.column(sort, rows)


def _entries(figures: Figures, of: Of, keys: list[Hashable]) -> Iterator[dict[str, Any] | None]:
    """The entry of each slice; None for one that has gone."""
    places = figures.places(keys)
    there = [key for key, place in zip(keys, places.tolist(), strict=True) if place >= 0]
    entries = iter(figures.entries(there, places[places >= 0], of == "clicks"))
    return (next(entries) if place >= 0 else None for place in places.tolist())


async def _containing(figures: Mapping[Of, Figures], part: str) -> AsyncGenerator[tuple[Of, list[Hashable]]]:
    """The slices whose key contains the text, some at a time, with turns for others in between."""
    for of, each in figures.items():
        names = each.names()
        for start in range(0, len(names), AT_ONCE):
            await give_way()
            yield of, [key for key in names[start : start + AT_ONCE] if part in shown_key(key).lower()]


async def _merged(runs: list[list[_Named]], descending: bool, page: slice) -> list[tuple[Of, Hashable]]:
    """A page of the slices in runs that are in the order of their texts. Empties the runs."""
    merged = itertools.islice(heapq.merge(*runs, reverse=descending), page.stop)
    shown: list[tuple[Of, Hashable]] = []
    seen = 0
    while part := list(itertools.islice(merged, AT_ONCE)):
        shown += [named[2:] for named in part[max(page.start - seen, 0) :]]
        seen += len(part)
        await give_way()
    for n, run in enumerate(runs):  # to free them takes milliseconds
        run.clear()
        if n % 8 == 7:
            await give_way()
    return shown
