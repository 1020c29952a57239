"""Slices for a table: those whose key contains a text, sorted by a column, and of these a page.

A page of 100,000 slices takes some milliseconds, since no key is looked at but those of the page, and those of slices
that are not in the index of names yet. Whatever takes longer is done in parts, between which others are answered. What
comes or goes meanwhile may be missing in the list.
"""

import heapq
import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from onlineguard.wire.requests import Of, Sort
from onlineguard_service.figures import Figures, shown_key
from onlineguard_service.name_index import NameIndex, index_of
from onlineguard_service.patience import give_way

AT_ONCE = 500  # keys that are looked at before others get their turn; some tenths of a millisecond
ROWS_AT_ONCE = 100  # of a page, as well

type _Named = tuple[str, int, int, Of, Hashable]  # a slice by its name, then by its stream and its number


class _Found(NamedTuple):
    """The slices of one stream that contain a text."""

    stream: int
    of: Of
    figures: Figures
    names: NameIndex
    at: Int[np.ndarray, " n"]  # in the index
    late: list[list[_Named]]  # those that are not in it, in runs in order, of each as many as the page may need
    places: Int[np.ndarray, " m"]  # of all that are not in it, oldest first
    numbers: Int[np.ndarray, " m"]


async def listed(
    figures: Mapping[Of, Figures], sort: Sort, descending: bool, limit: int, offset: int, contains: str
) -> dict[str, Any]:
    """The page from `offset` on, how many slices there are, and in how many of them the text was found."""
    total = found = sum(map(len, figures.values()))
    page = slice(offset, offset + limit)
    if sort != "name" and not contains:
        shown = _by_number(figures, {of: each.held() for of, each in figures.items()}, sort, descending, page)
    else:
        text, wanted = contains.lower(), page.stop if sort == "name" else 0
        of_all = [
            await _containing(n, of, each, text, descending, wanted) for n, (of, each) in enumerate(figures.items())
        ]
        found = sum(len(one.names.held(one.figures, one.at)) + len(one.places) for one in of_all)
        if sort == "name":
            late = [run for one in of_all for run in one.late]
            shown = await _merged([*late, *(_named(one, descending) for one in of_all)], descending, page)
        else:
            shown = _by_number(figures, {one.of: _places(one) for one in of_all}, sort, descending, page)
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


async def _containing(stream: int, of: Of, figures: Figures, text: str, descending: bool, wanted: int) -> _Found:
    """The slices of a stream whose key contains the text, with turns for others in between."""
    index = await index_of(figures)
    at = await index.containing(text)
    late: list[list[_Named]] = []
    places = figures.born_since(index.upto)
    numbers, among = figures.numbers(places), np.zeros(len(places), bool)
    for start in range(0, len(places), AT_ONCE):
        await give_way()
        part = slice(start, start + AT_ONCE)
        run: list[_Named] = []
        held = figures.holds(places[part], numbers[part]).tolist()
        each = zip(itertools.count(start), held, places[part].tolist(), numbers[part].tolist())
        for n, is_held, place, number in each:
            if is_held and text in (shown := shown_key(name := figures.name(place))).lower():
                among[n] = True
                run.append((shown, stream, number, of, name))
        if wanted:
            late.append(sorted(run, reverse=descending)[:wanted])
    return _Found(stream, of, figures, index, at, late, places[among], numbers[among])


def _places(found: _Found) -> Int[np.ndarray, " n"]:
    """Where the slices stand in the figures, oldest first, of those that have not gone."""
    held = found.names.held(found.figures, found.at)
    late = found.places[found.figures.holds(found.places, found.numbers)]
    return np.concatenate([found.names.oldest_first(held), late])


def _named(found: _Found, descending: bool) -> Iterator[_Named]:
    """The slices that stand in the index in the order of their names; some are read at a time."""
    at = found.at[::-1] if descending else found.at
    for start in range(0, len(at), AT_ONCE):
        held = found.names.held(found.figures, at[start : start + AT_ONCE])
        numbers, places = found.names.numbers[held].tolist(), found.names.places[held].tolist()
        names = list(map(found.figures.name, places))  # all at once: a place may be another slice's later
        for name, number in zip(names, numbers, strict=True):
            yield shown_key(name), found.stream, number, found.of, name


async def _merged(runs: list[Iterable[_Named]], descending: bool, page: slice) -> list[tuple[Of, Hashable]]:
    """A page of the slices in runs that are in the order of their names. Empties those that are lists."""
    merged = itertools.islice(heapq.merge(*runs, reverse=descending), page.stop)
    shown: list[tuple[Of, Hashable]] = []
    seen = 0
    while part := list(itertools.islice(merged, AT_ONCE)):
        shown += [named[3:] for named in part[max(page.start - seen, 0) :]]
        seen += len(part)
        await give_way()
    for n, run in enumerate(runs):  # to free them takes milliseconds
        if isinstance(run, list):
            run.clear()
        if n % 8 == 7:
            await give_way()
    return shown
