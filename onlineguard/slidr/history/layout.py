"""How a history lies on the disk. The service writes it beside its journal; `reading` reads it.

    history/clicks/day=2026-03-09/00000000000000000001-00000000000000004200-3f2a91c0.parquet
    history/labels/day=2026-03-09/00000000000000000057-00000000000000004200-3f2a91c0.parquet

A file holds what came of the entries of the journal from the first number in its name to the second; the rest of the
name is the source: the journal that the numbers are of. The day, in UTC, is that on which the entries **arrived**, so a
past day never changes when a click or a label comes late, and a wrong clock of a sender makes no new folder. Files are
replaced as a whole and never changed, but for three reasons: a person is erased, a day is compacted into fewer files,
or a day is older than the operator keeps. A compacted file stands for all whose numbers lie within its own, should a
crash have left them beside it.

| clicks: column | |
|---|---|
| sequence, position | entry of the journal, place in the entry: the order in which clicks were judged |
| t | when it arrived, ms since 1970 UTC |
| the fields of a click | see `clicks`; purchase_ts and rfm only where they were sent with the click |
| a column a feature | float32, as counted when the click was judged; `logged_in` is the field and the feature |
| score, threshold, slice, robotic, model | p_robot, what it was held against, the decision, and the model's version |
| p_value | of the watch over the slice; null where it could not judge |

| labels: column | |
|---|---|
| sequence, position, t | as above: t is when it became known |
| click_id, purchase_ts, rfm | as it was sent |

| decisions: column | |
|---|---|
| sequence, position, t | as above: t is when it came |
| id, click_id, slice | as it was sent |
| score, threshold, robotic, model | of the decision that is in force since, as those of clicks |
| was_score, was_threshold, was_robotic, was_model | of the decision that it replaced |

A score that is no number is null. The metadata of each file have the format, the version of the features, and whether
personal data were replaced (`pseudonyms`).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from onlineguard.slidr.clicks.clicks import SCHEMA

FORMAT = 1
DAY = 86_400_000  # milliseconds
ROWS = 262_144  # of a file at most, so that reading one takes some 100 MB
GROUP = 65_536  # rows of a group in a file

Kind = Literal["clicks", "labels", "decisions"]
KINDS: tuple[Kind, ...] = ("clicks", "labels", "decisions")

PLACE = {"sequence": pl.Int64(), "position": pl.Int32(), "t": pl.Int64()}
DECISION = {
    "score": pl.Float32(),
    "threshold": pl.Float64(),
    "slice": pl.String(),
    "robotic": pl.Boolean(),
    "model": pl.String(),
    "p_value": pl.Float64(),
}
LABELS: dict[str, pl.DataType] = {**PLACE, **{name: SCHEMA[name] for name in ("click_id", "purchase_ts", "rfm")}}
REPLACED = ("score", "threshold", "robotic", "model")  # by a delayed decision, beside the slice
DECISIONS: dict[str, pl.DataType] = {
    **PLACE,
    "id": pl.String(),
    "click_id": pl.String(),
    "slice": pl.String(),
    **{name: DECISION[name] for name in REPLACED},
    **{f"was_{name}": DECISION[name] for name in REPLACED},
}

_NAME = re.compile(r"(\d{20})-(\d{20})(?:-(\w+))?\.parquet")


class Part(NamedTuple):
    """A file of a history."""

    first: int  # entry of the journal
    last: int
    source: str
    day: str  # of arrival, e.g. 2026-03-09
    path: Path


def clicks_schema(features: Sequence[str]) -> dict[str, pl.DataType]:
    """The columns of clicks with these features."""
    return {**PLACE, **SCHEMA, **{name: pl.Float32() for name in features if name not in SCHEMA}, **DECISION}


def path_of(root: Path, kind: Kind, day: str, first: int, last: int, source: str) -> Path:
    """Where the file of those entries lies."""
    return root / kind / f"day={day}" / f"{first:020}-{last:020}{f'-{source}' if source else ''}.parquet"


def parts(root: Path, kind: Kind) -> list[Part]:
    """The files of a kind, in the order of their entries, those of each source together."""
    found: list[Part] = []
    for path in (root / kind).glob("day=*/*.parquet"):
        if (match := _NAME.fullmatch(path.name)) is not None:
            day = path.parent.name.removeprefix("day=")
            found.append(Part(int(match[1]), int(match[2]), match[3] or "", day, path))
    return sorted(found, key=lambda part: (part.source, part.first, -part.last))


def standing(found: Sequence[Part]) -> list[Part]:
    """Those of `parts` that no other one contains: what a compaction was killed over is there twice."""
    kept: list[Part] = []
    for part in found:
        if not kept or kept[-1].source != part.source or part.last > kept[-1].last:
            kept.append(part)
    return kept


def day_of(t: int) -> str:
    """The day of a time in ms since 1970, in UTC.

    >>> day_of(1_773_014_400_000)
    '2026-03-09'
    """
    return str(pl.Series([t // DAY], dtype=pl.Int32).cast(pl.Date)[0])
