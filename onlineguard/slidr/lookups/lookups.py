"""The lookups of clicks: versions in a folder, and which of them is in force for a click.

    lookups = Lookups("lookups")
    lookups.of_clicks(clicks, t)                 (n, columns) float32, live
    lookups.of_frame(frame)                      the same of a log, to the last bit

A folder holds a file for each night, `2026-03-09.safetensors`; a second one for the same day is `2026-03-09.2`. Files
are made at once and never changed, so half of one is never seen, and of two builders one makes it.

**In force** for a click is the version with the largest `since` that is not after the click's own time; where that is
said to be after the click's arrival, the arrival counts. `since` lies `SOON` or more in the future when a file is made,
and services look at the folder more often. So no entry of a journal and no lock is needed for all of them to change at
the same click: it follows from the click, live as in a log of years ago. A click of before the first version finds
nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32

from onlineguard.errors import CheckpointError, SourceError
from onlineguard.slidr.clicks.clicks import Click
from onlineguard.slidr.lookups.columns import COLUMNS, keys_of
from onlineguard.slidr.lookups.file import SUFFIX, Version

SOON = 600_000  # ms from when a version is made until it is in force: services see it within the time


class Lookups:
    """See this module. A folder that is not there yet holds no versions."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._versions: tuple[Version, ...] = ()
        self.damaged: dict[Path, str] = {}  # files that are passed over, and why
        self.look()

    @property
    def versions(self) -> tuple[Version, ...]:
        """Those that were there at the last look, in the order in which they come into force."""
        return self._versions

    def look(self) -> bool:
        """Take up versions that are new and let go of those that were removed; whether there were any.

        It may run in another thread than the other methods.
        """
        known = {version.path: version for version in self._versions}
        paths = {path for path in self.folder.glob(f"*{SUFFIX}") if not path.name.startswith(".")}
        if paths == known.keys() | self.damaged.keys():
            return False
        found: list[Version] = []
        damaged: dict[Path, str] = {}
        for path in sorted(paths):
            try:
                found.append(known.get(path) or Version(path).check())
            except CheckpointError as error:
                damaged[path] = str(error)
        found.sort(key=lambda version: (version.about.since, version.name))
        self._versions, self.damaged = tuple(found), damaged
        return True

    def in_force(self, at: int) -> Version | None:
        """The version for clicks of that time, ms since 1970 UTC."""
        for version in reversed(self._versions):  # most clicks are looked up in the newest
            if version.about.since <= at:
                return version
        return None

    def of_clicks(self, clicks: Sequence[Click], t: int) -> Float32[np.ndarray, "n columns"]:
        """The numbers of clicks that arrived at `t`, ms since 1970 UTC."""
        rows: list[list[float]] = []
        for click in clicks:
            version = self.in_force(min(click.ts, t))
            rows.append(_NOTHING if version is None else version.single.numbers(click))
        return np.array(rows, np.float32).reshape(-1, len(COLUMNS))

    def of_frame(self, clicks: pl.DataFrame, arrived: pl.Series | None = None) -> Float32[np.ndarray, "n columns"]:
        """The numbers of the clicks of a frame; without `arrived`, ms since 1970 UTC, they came at their own times."""
        times = clicks["ts"].to_numpy()
        if arrived is not None:
            times = np.minimum(times, arrived.to_numpy())
        out = np.zeros((clicks.height, len(COLUMNS)), np.float32)
        versions = self._versions
        which = np.searchsorted([version.about.since for version in versions], times, side="right") - 1
        for at in np.unique(which[which >= 0]):
            rows = np.flatnonzero(which == at)
            out[rows] = versions[at].numbers_of(keys_of(clicks[rows]))
        return out


_NOTHING = [0.0] * len(COLUMNS)


def opened(folder: str | Path) -> Lookups:
    """The lookups of a folder. Raises SourceError where it has none, and CheckpointError where one is damaged."""
    lookups = Lookups(folder)
    for why in lookups.damaged.values():
        raise CheckpointError(why)
    if not lookups.versions:
        raise SourceError(f"{folder} has no lookups; make some with onlineguard slidr lookups build")
    return lookups
