"""Slices for a table: those whose key contains a text, sorted by a column, and of these a page.

Sorted by numbers and without a text, a page of 100,000 slices takes some milliseconds, since no key is looked at but
those of the page. Looking through 100,000 keys takes tenths of a second, so it is done in parts, between which others
are answered. What comes or goes meanwhile may be missing in the list.
"""

import heapq
import itertools
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from onlineguard.wire.requests import Of, Sort
from onlineguard_service.figures import Figures, shown_key
from onlineguard_service.patience import give_way

AT_ONCE = 1_000  # keys that are looked at before others get their turn; about a millisecond


async def listed(
    figures: Mapping[Of, Figures], sort: Sort, descending: bool, limit: int, offset: int, contains: str
) -> dict[str, Any]:
    """The page from `offset` on, how many slices there are, and in how many of them the text was found."""
    total = found = sum(map(len, figures.values()))
    if sort != "name" and not contains:
        shown = _by_number(figures, {of: each.held() for of, each in figures.items()}, sort, descending, offset + limit)
    else:
        names: dict[Of, list[Hashable]] = {
            of: await _containing(each.names(), contains.lower()) for of, each in figures.items()
        }
        found = sum(map(len, names.values()))
        if sort == "name":
            shown = await _by_name([(of, key) for of in names for key in names[of]], descending, offset + limit)
        else:
            places: dict[Of, np.ndarray] = {of: figures[of].places(keys) for of, keys in names.items()}
            there: dict[Of, np.ndarray] = {of: at[at >= 0] for of, at in places.items()}
            shown = _by_number(figures, there, sort, descending, offset + limit)
    shown = shown[offset:]
    entries = {of: _entries(each, of, [key for of_, key in shown if of_ == of]) for of, each in figures.items()}
    rows = [{"of": of, **row} for of, _ in shown if (row := next(entries[of])) is not None]
    return {"slices": rows, "total": total, "found": found}


def _by_number(
    figures: Mapping[Of, Figures], places: Mapping[Of, Int[np.ndarray, " n"]], sort: Sort, descending: bool, most: int
) -> list[tuple[Of, Hashable]]:
    """The first so many of the slices at these places in the order of a column; those that lack it come last."""
    columns = [_column(figures[of], of, sort, rows) for of, rows in places.items()]
    at = np.concatenate(list(places.values()))
    ofs = list(places)
    ends = np.cumsum([len(rows) for rows in places.values()])
    order = _first(np.concatenate(columns) * (-1.0 if descending else 1.0), most)
    owners = np.searchsorted(ends, order, side="right").tolist()
    return [(ofs[owner], figures[ofs[owner]].name(row)) for owner, row in zip(owners, at[order].tolist(), strict=True)]


def _first(values: Float[np.ndarray, " n"], most: int) -> Int[np.ndarray, " m"]:
    """Where the `most` lowest values stand, lowest first; of equal ones the first, and NaN last."""
    near = np.arange(len(values))
    if 0 < most < len(values):
        near = np.flatnonzero(~(values > np.partition(values, most - 1)[most - 1]))
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


async def _containing(keys: list[Hashable], part: str) -> list[Hashable]:
    found: list[Hashable] = []
    if not part:
        return keys
    for start in range(0, len(keys), AT_ONCE):
        if start:
            await give_way()
        found += [key for key in keys[start : start + AT_ONCE] if part in shown_key(key).lower()]
    return found


async def _by_name(found: list[tuple[Of, Hashable]], descending: bool, most: int) -> list[tuple[Of, Hashable]]:
    """The first so many slices in the order of their texts."""
    runs: list[list[tuple[str, int]]] = []
    for start in range(0, len(found), AT_ONCE):
        if start:
            await give_way()
        run = [(shown_key(key), start + i) for i, (_, key) in enumerate(found[start : start + AT_ONCE])]
        runs.append(sorted(run, reverse=descending))
    merged = itertools.islice(heapq.merge(*runs, reverse=descending), most)
    order: list[int] = []
    while part := [place for _, place in itertools.islice(merged, AT_ONCE)]:
        order += part
        await give_way()
    return [found[place] for place in order]
