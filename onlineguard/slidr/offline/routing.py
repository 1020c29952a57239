"""Clicks on their way to the partitions of their entities: a file of each block and kind, in order of partition.

An entity's partition is a hash of its name, so all of its clicks meet there, and each partition holds a small part of
all entities. Of a file only the part that is asked for is read.
"""

import io
import itertools
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from onlineguard import atomic
from onlineguard.slidr.clicks.clicks import prefix
from onlineguard.slidr.counting.entity_step import KINDS, Kind
from onlineguard.slidr.offline.log import Block, ParquetLog

Routed = Kind | Literal["id"]
ROUTED: tuple[Routed, ...] = ("id", *KINDS)
_FIELDS = ("click_id", "ts", "user_id", "session_id", "ip", "ad_id", "logged_in")
_NAMES: dict[Routed, str] = {
    **{"id": "click_id", "user": "user_id", "session": "session_id"},
    **{"ip": "ip", "prefix": "prefix", "ad": "ad_id"},
}
_BESIDE: dict[Routed, tuple[str, ...]] = {"ip": ("user_id", "session_id"), "ad": ("user_known", "logged_in")}


def route(log: ParquetLog, block: Block, first: int, parts: int, folder: Path) -> None:
    """Write a block's clicks for all kinds, and their times, into a new folder.

    first: the number of the piece's first click in the log; clicks are numbered from there. parts: partitions.
    """
    clicks = log.read(block, _FIELDS)
    names = clicks.select(pl.col("ip").unique())
    networks = names.with_columns(prefix=pl.Series([prefix(ip) for ip in names["ip"].to_list()], dtype=pl.String))
    clicks = clicks.join(networks, on="ip", how="left", maintain_order="left")
    number = block.first - first
    numbers = pl.Series("row", np.arange(number, number + block.rows, dtype=np.uint32))
    clicks = clicks.with_columns(numbers, user_known=pl.col("user_id").is_not_null())
    with atomic.replacing(folder) as temporary:
        temporary.mkdir()
        np.save(temporary / "ts.npy", clicks["ts"].to_numpy())
        for kind in ROUTED:
            name = _NAMES[kind]
            chosen = clicks.select("row", *_BESIDE.get(kind, ()), key=pl.col(name)).filter(pl.col("key").is_not_null())
            part = (chosen["key"].hash() % parts).cast(pl.UInt16)
            ordered = chosen.with_columns(part=part).sort("part", maintain_order=True)
            ends = np.searchsorted(ordered["part"].to_numpy(), np.arange(parts + 1))
            ordered = ordered.drop("part")
            places = [0]
            with (temporary / f"{kind}.parts").open("wb") as file:
                for start, end in itertools.pairwise(ends.tolist()):
                    ordered[start:end].write_ipc(file, compression="lz4")
                    places.append(file.tell())
            np.save(temporary / f"{kind}.places.npy", places)


def routed(folders: list[Path], kind: Routed, part: int) -> pl.DataFrame:
    """The clicks of a partition in all blocks, in their order: row, key, and what the kind needs besides."""
    found: list[pl.DataFrame] = []
    for folder in folders:
        start, end = np.load(folder / f"{kind}.places.npy")[part : part + 2].tolist()
        with (folder / f"{kind}.parts").open("rb") as file:
            file.seek(start)
            found.append(pl.read_ipc(io.BytesIO(file.read(end - start))))
    return pl.concat(found)
