"""What each click sees of all its entities, put together by the click's number and written as rows of a history."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int32

from onlineguard import atomic
from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.counting.entity_step import NEVER, Kind, columns_of
from onlineguard.slidr.counting.windows import COLUMNS
from onlineguard.slidr.features import NAMES, Featuriser
from onlineguard.slidr.history.layout import DECISION, clicks_schema
from onlineguard.slidr.history.writing import write_part
from onlineguard.slidr.lookups.lookups import Lookups
from onlineguard.slidr.model import FEATURES
from onlineguard.slidr.offline.log import Block, ParquetLog

SOURCE = "log"  # in the names of the files: the journal that the clicks are numbered by
ABOUT = {"features": str(FEATURES), "pseudonyms": "no"}


def assemble(
    log: ParquetLog,
    block: Block,
    first: int,
    counts: Sequence[tuple[Kind, Path]],
    clock: Path,
    lookups: Path | None,
    out: Path,
) -> None:
    """Write the clicks of a block with their features into the history `out`.

    first: the number of the piece's first click in the log. counts: the folders of all partitions, of all kinds.
    """
    clicks, start = log.read(block), block.first - first
    numbers = _numbers(counts, start, start + block.rows)
    found = None if lookups is None else Lookups(lookups).of_frame(clicks)
    ts, logged_in = clicks["ts"].to_numpy(), clicks["logged_in"].to_list()
    X = Featuriser().of_counts(numbers, ts, clicks["marketplace"].to_list(), logged_in, found)
    arrived = np.load(clock / "arrived.npy", mmap_mode="r")[start : start + block.rows]
    sequence = np.arange(block.first + 1, block.first + 1 + block.rows)
    undecided = [pl.lit(None, kind).alias(name) for name, kind in DECISION.items()]
    rows = clicks.with_columns(
        pl.Series("sequence", sequence),
        pl.Series("t", arrived),
        pl.lit(0, pl.Int32).alias("position"),
        *(pl.Series(name, X[:, at]) for at, name in enumerate(NAMES) if name not in SCHEMA),
        *undecided,
    ).select(pl.col(name).cast(kind) for name, kind in clicks_schema(NAMES).items())
    write_part(out, "clicks", rows, int(sequence[0]), int(sequence[-1]), SOURCE, ABOUT)


def _numbers(counts: Sequence[tuple[Kind, Path]], start: int, end: int) -> Int32[np.ndarray, "n 34"]:
    """What the clicks from `start` up to `end` see, in the order of `COLUMNS`."""
    seen = np.empty((end - start, len(COLUMNS)), np.int32)
    seen[:, columns_of("user") + columns_of("session")] = NEVER + NEVER  # they may be unknown
    for kind, folder in counts:
        rows = np.load(folder / "rows.npy", mmap_mode="r")
        at = slice(*np.searchsorted(rows, (start, end)).tolist())
        mine = np.load(folder / "numbers.npy", mmap_mode="r")[at]
        columns = columns_of(kind)
        where = rows[at] - start
        if kind == "ip":
            seen[where[:, None], columns] = mine
        else:
            seen[where, columns[0] : columns[-1] + 1] = mine
    return seen


def mark(path: Path) -> None:
    """Say that a block was assembled."""
    atomic.write(path, b"")
