"""One partition of one kind: its duplicates found, or its entities counted, in the order of the clicks.

Each click sees what it would see in one pass over the whole log, bit for bit: the stream's clock and the duplicates are
those of the whole, and no number of an entity depends on the clicks of others.
"""

import itertools
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Int32, Int64
from numpy.lib.format import open_memmap

from onlineguard import atomic
from onlineguard.slidr.counting.entity_step import Kind, Tally, columns_of
from onlineguard.slidr.counting.windows import DUPLICATE_HOURS
from onlineguard.slidr.offline.kept import IDS, PAIRS, Kept, load_ids, save_ids
from onlineguard.slidr.offline.routing import routed

NO_HOUR = -(10**9)  # of an entity that the clock has forgotten


class Clocked(NamedTuple):
    """What the stream's clock says of each click of a piece."""

    times: Int64[np.ndarray, " n"]  # ms at which it counts
    counted: Bool[np.ndarray, " n"]  # false: far behind, and later on of duplicates too
    hours: Int64[np.ndarray, " n"]  # that the clock reads
    eras: Int64[np.ndarray, " n"]

    @staticmethod
    def made(folder: Path, n: int) -> "Clocked":
        """Files for n clicks, mapped into memory, to be filled."""
        kinds = zip(Clocked._fields, (np.int64, bool, np.int64, np.int64), strict=True)
        return Clocked(*(open_memmap(folder / f"{name}.npy", "w+", kind, (n,)) for name, kind in kinds))

    @staticmethod
    def mapped(folder: Path) -> "Clocked":
        """What `made` made."""
        return Clocked(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Clocked._fields))


def find_duplicates(blocks: list[Path], part: int, clock: Path, before: Path | None, state: Path, found: Path) -> None:
    """Write the rows of the duplicates among the clicks whose ids are in this partition, and the ids to remember.

    before: the folder with the state after the last piece, if there was one. state: that after this piece.
    """
    clocked = Clocked.mapped(clock)
    clicks = routed(blocks, "id", part)
    rows = clicks["row"].to_numpy()
    mine = clicks.select(
        "key", hour=pl.Series(clocked.hours[rows], dtype=pl.Int64), era=pl.Series(clocked.eras[rows], dtype=pl.Int64)
    )
    known = load_ids(before)
    both = pl.concat([known, mine]).with_columns(at=pl.int_range(pl.len()) - known.height)
    repeated = both.filter(pl.col("key").is_duplicated())
    duplicates: list[int] = []
    first: dict[tuple[str, int], int] = {}  # hour at which an id was seen first, by id and era
    for key, hour, era, at in repeated.iter_rows():
        if first.get((key, era), hour - DUPLICATE_HOURS) > hour - DUPLICATE_HOURS:
            duplicates.append(at)
        else:
            first[key, era] = hour
    remembered = pl.DataFrame([(key, hour, era) for (key, era), hour in first.items()], schema=IDS, orient="row")
    once = both.filter(pl.col("key").is_unique()).select(list(IDS))
    last_era, last_hour = int(clocked.eras[-1]), int(clocked.hours[-1])
    ids = pl.concat([once, remembered]).filter(pl.col("era") == last_era)
    with _replacing(state) as temporary:
        save_ids(ids, temporary, last_hour)
    with atomic.replacing(found) as temporary, temporary.open("wb") as file:
        np.save(file, rows[np.array(duplicates, np.int64)])


def count(kind: Kind, blocks: list[Path], part: int, clock: Path, before: Path | None, state: Path, to: Path) -> None:
    """Count the clicks of a partition; write what each sees into the folder `to`, and then what is kept of it.

    `clock` has the clicks that count, without duplicates; the other folders are as in `find_duplicates`.
    """
    clocked = Clocked.mapped(clock)
    clicks = routed(blocks, kind, part)
    rows, kept = clicks["row"].to_numpy(), Kept.load(before, kind)
    keys = pl.concat([kept.keys, clicks["key"]]).unique(maintain_order=True)
    entities = _places(clicks.select("key"), keys.to_frame())
    members = _members(clicks, entities, kept) if kind == "ip" else None
    tally = Tally(kind, len(keys), 0 if members is None else members.known.height)
    if kept.table is not None:
        tally.table[: len(kept.table)] = kept.table
        tally.newest[: kept.pairs.height] = kept.pairs["newest"].to_numpy()
    touched = np.full(len(keys), NO_HOUR)
    touched[: len(kept.touched)] = kept.touched
    pair_touched = np.full(len(tally.newest), NO_HOUR)
    pair_touched[: kept.pairs.height] = kept.pairs["touched"].to_numpy()

    times, counted, hours, eras = (array[rows] for array in clocked)
    flags = _flags(kind, clicks, counted)
    numbers = np.empty((len(rows), len(columns_of(kind))), np.int32)
    turns = [0, *(np.flatnonzero(np.diff(eras)) + 1).tolist(), len(rows)]
    era = kept.era
    for start, end in itertools.pairwise(turns):
        if start == end:
            continue
        if eras[start] != era:  # the clock was set back, and forgets everything
            tally.forget()
            touched[:], pair_touched[:] = NO_HOUR, NO_HOUR
        era, here = int(eras[start]), slice(start, end)
        pairs = None if members is None else members.places[:, here]
        numbers[here] = tally.count(entities[here], times[here], [flag[here] for flag in flags], pairs)
        touched[entities[here]] = hours[here]
        if pairs is not None:
            for each in pairs:
                pair_touched[each] = hours[here]
    if era != int(clocked.eras[-1]):
        touched[:], pair_touched[:], era = NO_HOUR, NO_HOUR, int(clocked.eras[-1])

    after = Kept(era, keys, touched, tally.table)
    if members is not None:
        after.pairs = members.known.with_columns(
            touched=pl.Series(pair_touched[:-1]), newest=pl.Series(tally.newest[:-1])
        )
    with _replacing(state) as temporary:
        after.save(temporary, kind, int(clocked.hours[-1]))
    with _replacing(to) as temporary:
        np.save(temporary / "rows.npy", rows)
        np.save(temporary / "numbers.npy", numbers)


@contextmanager
def _replacing(folder: Path) -> Generator[Path]:
    """A temporary folder that takes the place of what an earlier process may have left when it was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    with atomic.replacing(folder) as temporary:
        temporary.mkdir()
        yield temporary


class _Members(NamedTuple):
    """The users and sessions at ips."""

    known: pl.DataFrame  # as `kept.PAIRS`, those kept from before first
    places: Int32[np.ndarray, "2 n"]  # of each click's user and session at its ip; -1 for none


def _members(clicks: pl.DataFrame, ips: Int32[np.ndarray, " n"], kept: Kept) -> _Members:
    by = ["ip", "kind", "key"]
    asked = pl.concat(
        clicks.select(ip=pl.Series(ips).cast(pl.UInt32), kind=pl.lit(number, pl.UInt8), key=pl.col(name))
        for number, name in enumerate(("user_id", "session_id"))
    )
    named = asked.filter(pl.col("key").is_not_null())
    known = pl.concat([kept.pairs.select(by), named]).unique(maintain_order=True)
    places = _places(asked, known)
    return _Members(
        known.with_columns(touched=pl.lit(0, pl.Int64), newest=pl.lit(0, pl.Int32)).select(list(PAIRS)),
        places.reshape(2, -1),
    )


def _places(asked: pl.DataFrame, known: pl.DataFrame) -> Int32[np.ndarray, " n"]:
    """Where the rows of a frame stand among the known ones, which are distinct; -1 for one that has a null."""
    numbered = known.with_row_index("place_")
    found = asked.join(numbered, on=known.columns, how="left", maintain_order="left")["place_"]
    return found.cast(pl.Int32).fill_null(-1).to_numpy()


def _flags(kind: Kind, clicks: pl.DataFrame, counted: Bool[np.ndarray, " n"]) -> list[Bool[np.ndarray, " n"]]:
    """Those of `Tally.count`, as far as the kind asks for them."""
    user = session = counted
    signed = np.zeros(len(counted), bool)
    if kind == "ip":
        user, session = (counted & clicks[name].is_not_null().to_numpy() for name in ("user_id", "session_id"))
    elif kind == "ad":
        user, signed = counted & clicks["user_known"].to_numpy(), clicks["logged_in"].to_numpy()
    return [user, session, counted, signed]
