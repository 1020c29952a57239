"""What a partition keeps from one piece to the next: its entities with their rows, or the ids of clicks.

Rows are mostly zeros, so what is kept are their other numbers. Entities are kept as long as `ProcessStore` keeps them:
whoever was not clicked for so long reads like somebody never seen.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int32, Int64

from onlineguard.slidr.counting.entity_step import WIDTH, Kind
from onlineguard.slidr.counting.windows import DUPLICATE_HOURS, KEEP_HOURS, LASTING, LONGER_HOURS

_COMPRESSION = "lz4"


@dataclass
class Kept:
    """Entities of a kind in a partition."""

    era: int = 0  # of the stream's clock
    keys: pl.Series = field(default_factory=lambda: pl.Series("key", [], pl.String))
    touched: Int64[np.ndarray, " entities"] = field(default_factory=lambda: np.zeros(0, np.int64))  # hour of the clock
    table: Int32[np.ndarray, "entities lanes"] | None = None
    # Of ips: place (in `keys`) of the ip, kind of the member (0: user, 1: session), its name, hour, newest click.
    pairs: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PAIRS))

    def save(self, folder: Path, kind: Kind, hour: int) -> None:
        """Write what is still of use at this hour of the clock."""
        keep = KEEP_HOURS + LONGER_HOURS * (kind in LASTING)
        stays = self.touched >= hour - keep
        place = np.cumsum(stays) - 1
        table = np.zeros((0, WIDTH[kind]), np.int32) if self.table is None else self.table[stays]
        at = np.flatnonzero(table)
        entity, lane = np.divmod(at, WIDTH[kind])
        n = np.bincount(entity, minlength=len(table))
        entities = pl.DataFrame({"key": self.keys.filter(pl.Series(stays)), "touched": self.touched[stays], "n": n})
        entities = entities.with_columns(era=pl.lit(self.era))
        entities.write_ipc(folder / "entities.arrow", compression=_COMPRESSION)
        numbers = pl.DataFrame({"lane": lane.astype(np.uint8), "value": table.ravel()[at]})
        numbers.write_ipc(folder / "numbers.arrow", compression=_COMPRESSION)
        if kind == "ip":
            alive = self.pairs.filter(pl.col("touched") >= hour - KEEP_HOURS)
            alive = alive.with_columns(ip=pl.Series(place[alive["ip"].to_numpy()], dtype=pl.UInt32))
            alive.write_ipc(folder / "pairs.arrow", compression=_COMPRESSION)

    @staticmethod
    def load(folder: Path | None, kind: Kind) -> "Kept":
        """What `save` wrote; nothing where there is no folder."""
        if folder is None:
            return Kept()
        entities = pl.read_ipc(folder / "entities.arrow")
        numbers = pl.read_ipc(folder / "numbers.arrow")
        table = np.zeros((entities.height, WIDTH[kind]), np.int32)
        entity = np.repeat(np.arange(entities.height), entities["n"].to_numpy())
        table[entity, numbers["lane"].to_numpy()] = numbers["value"].to_numpy()
        pairs = pl.read_ipc(folder / "pairs.arrow") if kind == "ip" else pl.DataFrame(schema=PAIRS)
        era = int(entities["era"][0]) if entities.height else 0
        return Kept(era, entities["key"], entities["touched"].to_numpy(), table, pairs)


PAIRS = {"ip": pl.UInt32(), "kind": pl.UInt8(), "key": pl.String(), "touched": pl.Int64(), "newest": pl.Int32()}
IDS = {"key": pl.String(), "hour": pl.Int64(), "era": pl.Int64()}  # the hour at which an id was first seen


def save_ids(ids: pl.DataFrame, folder: Path, hour: int) -> None:
    """Write the ids that can still make a duplicate."""
    ids.filter(pl.col("hour") > hour - DUPLICATE_HOURS).write_ipc(folder / "ids.arrow", compression=_COMPRESSION)


def load_ids(folder: Path | None) -> pl.DataFrame:
    """What `save_ids` wrote; nothing where there is no folder."""
    return pl.DataFrame(schema=IDS) if folder is None else pl.read_ipc(folder / "ids.arrow")
