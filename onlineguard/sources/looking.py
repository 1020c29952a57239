"""A look at a source: what would be read of it, and what its columns may be taken for."""

from dataclasses import dataclass

import polars as pl

from onlineguard.errors import SourceError
from onlineguard.sources import blocks, frames
from onlineguard.sources.dialect import Choices
from onlineguard.sources.kinds import Kind, Proposal, kinds_of, proposed
from onlineguard.sources.opening import opened_table
from onlineguard.sources.places import found_places
from onlineguard.sources.rejects import shortened


@dataclass(frozen=True)
class Look:
    """What the head of a source shows."""

    files: list[str]  # all of them; the first was looked at
    described: str  # how it is read
    kinds: dict[str, Kind]  # of the columns, in order
    sample: dict[str, pl.Series]  # their first cells
    proposal: Proposal


def look(source: str, choices: Choices | None = None) -> Look:
    """Look at the first file of a source; nothing of it is kept. Raises SourceError where it cannot be read."""
    choices = choices or Choices()
    places = found_places(source)
    place = next((place for place in places if place.size != 0), places[0])
    try:
        with opened_table(place, choices, (), 1_000, False, lambda n_bytes: None) as table:
            sample = dict(table.sample)
            if not sample or not max(map(len, sample.values())):
                raise SourceError(f"source {place.name} is empty; it must hold at least one row")
            kinds = kinds_of(sample, table.numerals, choices.missing)
            described = table.describe()
    except (*blocks.UNREADABLE, *frames.UNREADABLE) as error:
        raise SourceError(f"source {place.name} cannot be read: {shortened(str(error), 300)}") from error
    rows = max(map(len, sample.values()))
    return Look([place.name for place in places], described, kinds, sample, proposed(kinds, rows))
