"""Slices for a table: those whose key contains a text, sorted by a column, and of these a page.

Looking through 100,000 keys takes tenths of a second, so it is done in parts, between which others are answered. What
comes or goes meanwhile may be missing in the list.
"""

import heapq
import itertools
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np

from onlineguard.wire.requests import Of, Sort
from onlineguard_service.figures import Figures, shown_key
from onlineguard_service.patience import give_way

AT_ONCE = 1_000  # keys that are looked at before others get their turn; about a millisecond


async def listed(
    figures: Mapping[Of, Figures], sort: Sort, descending: bool, limit: int, offset: int, contains: str
) -> dict[str, Any]:
    """The page from `offset` on, how many slices there are, and in how many of them the text was found."""
    names: dict[Of, list[Hashable]] = {of: each.names() for of, each in figures.items()}
    total = sum(map(len, names.values()))
    if contains:
        names = {of: await _containing(keys, contains.lower()) for of, keys in names.items()}
    found = [(of, key) for of, keys in names.items() for key in keys]
    if sort == "name":
        order = await _by_name([key for _, key in found], descending, offset + limit)
    else:
        values = np.concatenate([_column(figures[of], of, sort, keys) for of, keys in names.items()])
        order = np.argsort(-values if descending else values, kind="stable").tolist()
    shown = [found[place] for place in order[offset : offset + limit]]
    entries = {of: _entries(each, of, [key for of_, key in shown if of_ == of]) for of, each in figures.items()}
    rows = [{"of": of, **row} for of, _ in shown if (row := next(entries[of])) is not None]
    return {"slices": rows, "total": total, "found": len(found)}


def _column(figures: Figures, of: Of, sort: Sort, keys: list[Hashable]) -> np.ndarray:
    """What the slices are sorted by, float64; NaN, which comes last, where there is nothing."""
    if sort == "ivr" and of == "events":
        return np.full(len(keys), np.nan)
    places = figures.places(keys)
    return np.where(places >= 0, figures.column(sort, places), np.nan)


def _entries(figures: Figures, of: Of, keys: list[Hashable]) -> Iterator[dict[str, Any] | None]:
    """The entry of each slice; None for one that has gone."""
    places = figures.places(keys)
    there = [key for key, place in zip(keys, places.tolist(), strict=True) if place >= 0]
    entries = iter(figures.entries(there, places[places >= 0], of == "clicks"))
    return (next(entries) if place >= 0 else None for place in places.tolist())


async def _containing(keys: list[Hashable], part: str) -> list[Hashable]:
    found: list[Hashable] = []
    for start in range(0, len(keys), AT_ONCE):
        if start:
            await give_way()
        found += [key for key in keys[start : start + AT_ONCE] if part in shown_key(key).lower()]
    return found


async def _by_name(keys: list[Hashable], descending: bool, most: int) -> list[int]:
    """The places of the first so many keys in the order of their texts."""
    runs: list[list[tuple[str, int]]] = []
    for start in range(0, len(keys), AT_ONCE):
        if start:
            await give_way()
        run = [(shown_key(key), start + i) for i, key in enumerate(keys[start : start + AT_ONCE])]
        runs.append(sorted(run, reverse=descending))
    merged = itertools.islice(heapq.merge(*runs, reverse=descending), most)
    order: list[int] = []
    while part := [place for _, place in itertools.islice(merged, AT_ONCE)]:
        order += part
        await give_way()
    return order
