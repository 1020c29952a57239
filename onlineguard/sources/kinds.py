"""Kinds of columns, told from their first cells: numbers, times, texts; and what a run may take each for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from onlineguard.sources.dialect import WORDS
from onlineguard.sources.fields import to_texts
from onlineguard.sources.formats import told_format
from onlineguard.sources.numerals import PLAIN, Numerals, parsed
from onlineguard.sources.times import NO_TIME, TimeParser

_UNIX = (9e8, 4e9)  # seconds of the years from 1998 to 2096
_COUNTER = re.compile(r"(?i)(?:index|idx|id|row|row_?(?:number|id|nr)|nr|no|unnamed:? ?\d*|column_1|table)$")
_MOST_CODES, _EACH_CODE, _GAPS = 12, 10, 4  # of codes at most, rows of each at least, and how wide their range is
_MOST_SLICES = 1 / 3  # of the cells that differ: beyond, a text is no name that comes again


@dataclass(frozen=True)
class Kind:
    """What a column holds, by its first cells.

    name: "number", "time", "text", "yes/no" or "empty". distinct: how many of them differ. missing: the words seen for
    a missing number. counter: whether it numbers the rows. codes: the first of a few whole numbers with gaps between
    them, such as 200, 404 and 500, which are names more often than amounts.
    """

    name: str
    distinct: int = 0
    missing: tuple[str, ...] = ()
    counter: bool = False
    codes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """What a run would take the columns for."""

    features: list[str]
    slices: list[str]  # the first that may tell slices apart, and others that may as well
    time: str | None
    codes: list[str]  # of the features those whose numbers may be codes


def kind_of(name: str, cells: pl.Series, numerals: Numerals = PLAIN, missing: Sequence[str] = ()) -> Kind:
    """The kind of a column of this name."""
    known = number_kind(name, cells, numerals, missing)
    if known is not None:
        return known
    filled = cells.cast(pl.String, strict=False).drop_nulls().str.strip_chars()
    filled = filled.filter(filled != "")
    if not filled.head(20).str.contains(r"\d").any():
        return Kind("text", filled.n_unique())
    some = filled.head(100)
    times, wrong = TimeParser().parse(some)
    if (2 * len(wrong) < len(some) and (times != NO_TIME).any()) or told_format(some) is not None:
        return Kind("time", filled.n_unique())
    return Kind("text", filled.n_unique())


def number_kind(name: str, cells: pl.Series, numerals: Numerals = PLAIN, missing: Sequence[str] = ()) -> Kind | None:
    """The kind of a column of this name, None if it is one of texts, of which some may be times."""
    if cells.dtype.is_temporal():
        return Kind("time", cells.n_unique())
    if cells.dtype == pl.Boolean:
        return Kind("yes/no", cells.n_unique())
    texts = cells.cast(pl.String, strict=False).fill_null("").str.strip_chars()
    words = texts.str.to_lowercase().is_in([*WORDS, *(word.lower() for word in missing)])
    filled = texts.filter(~words)
    if not len(filled):
        return Kind("empty")
    typed = cells.dtype.is_numeric()
    numbers = np.array(filled.cast(pl.Float64, strict=False), np.float64) if typed else parsed(filled, numerals)
    finite = numbers[np.isfinite(numbers)]
    if 2 * len(finite) <= len(filled):
        return Kind("text", filled.n_unique()) if typed else None
    if _are_unix(finite):
        return Kind("time", len(np.unique(finite)))
    seen = texts.filter(words & (texts != "")).unique(maintain_order=True).to_list()
    steps = np.diff(finite)
    counts = len(finite) == len(filled) > 1 and bool(((steps == 1) | (steps == 0)).all())
    unique = np.unique(finite)
    return Kind("number", len(unique), tuple(seen), counts and _COUNTER.match(name) is not None, _codes(unique, finite))


def _codes(unique: np.ndarray, numbers: np.ndarray) -> tuple[int, ...]:
    """The first numbers where they are few, whole and far apart; else none."""
    if not 2 <= len(unique) <= _MOST_CODES or len(numbers) < _EACH_CODE * len(unique):
        return ()
    if (unique != np.floor(unique)).any() or np.ptp(unique) < _GAPS * len(unique) or unique[0] < 0:
        return ()
    return tuple(int(number) for number in unique[:3])


def kinds_of(
    sample: Mapping[str, pl.Series], numerals: Numerals = PLAIN, missing: Sequence[str] = ()
) -> dict[str, Kind]:
    """The kind of every column."""
    return {name: kind_of(name, cells, numerals, missing) for name, cells in sample.items()}


def proposed(kinds: Mapping[str, Kind], rows: int) -> Proposal:
    """All numbers as features, the first time as the time, and a text that comes again and again as the slice."""
    features = [name for name, kind in kinds.items() if kind.name == "number" and not kind.counter]
    time = next((name for name, kind in kinds.items() if kind.name == "time"), None)
    slices = [name for name, kind in kinds.items() if _may_be_slice(kind, rows)]
    return Proposal(features, slices, time, [name for name in features if kinds[name].codes])


def slice_among(sample: Mapping[str, pl.Series]) -> tuple[str, int] | None:
    """The first column of texts that come again and again, and how many of them differ."""
    for name, cells in sample.items():
        if cells.dtype != pl.String or cells.head(20).str.contains(r"^\s*[-+]?[\d.,]*$").any():
            continue
        kind = kind_of(name, cells)
        if _may_be_slice(kind, len(cells)):
            return name, kind.distinct
    return None


def _may_be_slice(kind: Kind, rows: int) -> bool:
    return kind.name == "text" and 2 <= kind.distinct <= max(2, rows * _MOST_SLICES) and rows >= 2 * kind.distinct


def as_cells(values: Sequence[object]) -> pl.Series:
    """Values of JSON as cells: numbers as such, everything else as text."""
    if {type(value) for value in values} <= {int, float, type(None)}:
        return pl.Series(values, dtype=pl.Float64, strict=False)
    return to_texts([value if isinstance(value, str | None) else str(value) for value in values])


def _are_unix(numbers: np.ndarray) -> bool:
    """Whether whole numbers are Unix times of these decades, in s, ms, us or ns, most of them in order."""
    if len(numbers) < 2 or (numbers != np.floor(numbers)).any():
        return False
    within = any(
        ((numbers >= low) & (numbers < high)).all()
        for low, high in ((_UNIX[0] * factor, _UNIX[1] * factor) for factor in (1.0, 1e3, 1e6, 1e9))
    )
    return within and bool(2 * (np.diff(numbers) >= 0).sum() >= len(numbers) - 1)
