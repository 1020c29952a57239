"""Days of clicks, more than memory holds, as a history with the features of every click, counted by entity.

    recorded = record(ParquetLog.of("days"), "history", workers=2)

The history is that of a service that saw each click when its clock did, so `retrain`, `train` and `calibrate` read it
as they read a service's. Its features are those of one pass over the whole log (`Featuriser`), bit for bit. Purchases
and RFM scores stand with the clicks, as in the log; nothing was decided, so the columns of decisions are null.

**By entity.** The stream's clock reads all times in order, which takes no time. Then the clicks are divided by a hash
of their ids, users, sessions, ips, networks and ads into `parts` partitions for each of the six. A partition is counted
by itself, in order, several at once in processes of their own, and the numbers of a click are joined by its number.

**In pieces.** `PIECE` clicks at a time are divided, counted and written. Between two pieces the folder `counting` keeps
what each partition has counted, without what no window asks for any more. A kill loses at most the partition or block
that each worker was at: what is finished is found and not done again. So a day that is added to the log later goes on
from there too.

**Memory.** A worker holds one partition of a piece and of its entities, or one block of 262,144 clicks; this process
holds some 40 bytes for each click of a piece. More partitions take less memory, and more pieces less disk.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

import onlineguard
from onlineguard import atomic
from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.clicks.order import LATE_MS, MOST_LATE, check_order, plausible
from onlineguard.slidr.counting.click_clock import Clock
from onlineguard.slidr.counting.entity_step import KINDS, Kind
from onlineguard.slidr.counting.windows import HOUR_MS
from onlineguard.slidr.history.keeping import alone
from onlineguard.slidr.model import FEATURES
from onlineguard.slidr.offline.assembling import assemble, mark
from onlineguard.slidr.offline.log import Block, ParquetLog
from onlineguard.slidr.offline.partitions import Clocked, count, find_duplicates
from onlineguard.slidr.offline.routing import ROUTED, route
from onlineguard.slidr.offline.workers import Run, Task, pool

PARTS = 16  # partitions of a kind
PIECE = 40  # blocks of a piece: 10,485,760 clicks
READ = 65_536  # clicks that the clock reads at once

Progress = Callable[[int], None]  # clicks done


class Recorded(NamedTuple):
    """What was done."""

    clicks: int  # in the history
    new: int  # of them, recorded by this call


class _Made(msgspec.Struct, kw_only=True):
    """`counting/made.json`: what the history is made of so far."""

    version: str  # of onlineguard
    features: int
    hashes: str  # the version of polars, whose hashes divide the entities
    parts: int
    lookups: bool
    mapping: str
    files: list[tuple[str, int]] = []  # name and clicks of each
    blocks: int = 0  # that are done
    clicks: int = 0
    piece: int = 0  # the number of the piece that comes next
    clock: tuple[int | None, int, int] = (None, 0, 0)  # of the stream: its time, clicks in a row far off, era


def record(
    log: ParquetLog,
    out: str | Path,
    *,
    lookups: Path | None = None,
    workers: int = 1,
    parts: int | None = None,
    piece: int = PIECE,
    progress: Progress | None = None,
) -> Recorded:
    """Write the clicks of a log with their features into the history `out`, or what is not there yet; see this module.

    workers: processes that count; with 1, this one does. parts: by default `PARTS`, or those of the history that is
    there. piece: blocks that are done together.

    Raises InvalidArgument where `out` holds something else, or was made of other files or in another way, or where the
    clicks are not in order of time; Conflict where another process is at it.
    """
    if workers < 1:
        raise InvalidArgument("workers", f"is {workers}; it must be 1 or more")
    root = Path(out)
    work = root / "counting"
    if (root / "clicks").exists() and not work.exists():
        raise InvalidArgument(f"{root} holds a history that was not counted from a log; name another folder")
    work.mkdir(parents=True, exist_ok=True)
    (root / "clicks").mkdir(exist_ok=True)
    with alone(work, "another process is counting into"), pool(workers) as run:
        _remove_rests(root)
        made = _begun(log, work / "made.json", lookups is not None, parts)
        before = made.clicks
        blocks = log.blocks()
        while made.blocks < len(blocks):
            some = blocks[made.blocks : made.blocks + piece]
            made = _Piece(log, root, work, made, some, lookups, run, progress).done()
        return Recorded(made.clicks, made.clicks - before)


class _Piece:
    """Some blocks of the log: what is done with them, step by step; steps that are done already are passed over."""

    def __init__(
        self,
        log: ParquetLog,
        root: Path,
        work: Path,
        made: _Made,
        blocks: list[Block],
        lookups: Path | None,
        run: Run,
        progress: Progress | None,
    ):
        self.log, self.root, self.work, self.made, self.blocks, self.lookups = log, root, work, made, blocks, lookups
        self._run, self._progress = run, progress
        self.first, self.clicks = blocks[0].first, sum(block.rows for block in blocks)
        self.folder = work / f"piece-{made.piece}-{_digest(blocks)}"
        self._steps, self._all = 0, 2 * len(blocks) + made.parts * len(ROUTED)

    def done(self) -> _Made:
        """What is made when it is finished."""
        self._remove_others()
        self.folder.mkdir(exist_ok=True)
        routed = [self.folder / f"block-{block.first}" for block in self.blocks]
        route_one = partial(route, self.log, first=self.first, parts=self.made.parts)
        pairs = zip(self.blocks, routed, strict=True)
        self._all_of((folder, partial(route_one, block, folder=folder)) for block, folder in pairs)
        clock = self._read_clock(routed)
        self._find_duplicates(routed)
        counts = self._count(routed)
        clocked, marks = self.folder / "clock", [self.folder / f"made-{block.first}" for block in self.blocks]
        self._all_of(
            (at, partial(_assembled, self.log, block, self.first, counts, clocked, self.lookups, self.root, at))
            for block, at in zip(self.blocks, marks, strict=True)
        )
        made = msgspec.structs.replace(
            self.made,
            files=[(path.name, rows) for path, rows in zip(self.log.files, self.log.rows, strict=True)],
            blocks=self.made.blocks + len(self.blocks),
            clicks=self.made.clicks + self.clicks,
            piece=self.made.piece + 1,
            clock=clock,
        )
        atomic.write(self.work / "made.json", msgspec.json.encode(made))
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._state(self.made.piece - 1), ignore_errors=True)
        return made

    def _read_clock(self, routed: list[Path]) -> tuple[int | None, int, int]:
        """Write what the stream's clock makes of all clicks; the clock afterwards."""
        folder, after = self.folder / "clock", self.folder / "clock" / "after.json"
        if not folder.exists():
            clock = Clock()
            clock.now, clock.run, clock.era = self.made.clock
            ts = np.concatenate([np.load(path / "ts.npy") for path in routed])
            _check_order(ts, clock.now, self.blocks[0])
            with atomic.replacing(folder) as temporary:
                temporary.mkdir()
                clocked = Clocked.made(temporary, len(ts))
                arrived = np.lib.format.open_memmap(temporary / "arrived.npy", "w+", np.int64, ts.shape)
                for start in range(0, len(ts), READ):
                    part = slice(start, start + READ)
                    reading = clock.read(ts[part])
                    clocked.times[part], clocked.counted[part] = reading.times, reading.counted
                    clocked.hours[part], clocked.eras[part] = reading.now // HOUR_MS, reading.era
                    arrived[part] = reading.now
                (temporary / after.name).write_text(json.dumps([clock.now, clock.run, clock.era]))
        now, run, era = json.loads(after.read_bytes())
        return now, run, era

    def _find_duplicates(self, routed: list[Path]) -> None:
        found = [self.folder / f"duplicates-{part}.npy" for part in range(self.made.parts)]
        self._state(self.made.piece).mkdir(exist_ok=True)
        clock = self.folder / "clock"
        self._all_of(
            (path, partial(find_duplicates, routed, part, clock, *self._states(f"id-{part}"), path))
            for part, path in enumerate(found)
        )
        counted, marked = np.load(clock / "counted.npy"), self.folder / "counted"
        if not marked.exists():
            for path in found:
                counted[np.load(path)] = False
            with atomic.replacing(clock / "counted.npy") as temporary, temporary.open("wb") as file:
                np.save(file, counted)
            mark(marked)

    def _count(self, routed: list[Path]) -> list[tuple[Kind, Path]]:
        """The folders with what each click sees, of every kind and partition."""
        asked: list[tuple[Kind, int, Path]] = [
            (kind, part, self.folder / f"{kind}-{part}") for kind in KINDS for part in range(self.made.parts)
        ]
        clock = self.folder / "clock"
        self._all_of(
            (folder, partial(count, kind, routed, part, clock, *self._states(folder.name), folder))
            for kind, part, folder in asked
        )
        return [(kind, folder) for kind, _, folder in asked]

    def _all_of(self, tasks: Iterable[tuple[Path, Task]]) -> None:
        """Do those tasks whose result is not there yet."""
        lacking = [task for result, task in tasks if not result.exists() or self._step()]
        self._run(lacking, self._step)

    def _step(self) -> None:
        self._steps += 1
        if self._progress is not None:
            self._progress(self.made.clicks + self.clicks * self._steps // self._all)

    def _state(self, piece: int) -> Path:
        return self.work / f"state-{piece}"

    def _states(self, name: str) -> tuple[Path | None, Path]:
        """What a partition kept after the last piece, if there was one, and where it is kept after this one."""
        before = self._state(self.made.piece - 1) / name
        return before if self.made.piece else None, self._state(self.made.piece) / name

    def _remove_others(self) -> None:
        """Remove what earlier pieces left when they were killed, or this one when the log was shorter."""
        for path in self.work.glob("piece-*"):
            if path != self.folder:
                shutil.rmtree(path, ignore_errors=True)
        if not self.folder.exists():
            shutil.rmtree(self._state(self.made.piece), ignore_errors=True)
        for path in self.work.glob("state-*"):
            if path not in (self._state(self.made.piece), self._state(self.made.piece - 1)):
                shutil.rmtree(path, ignore_errors=True)


def _digest(blocks: list[Block]) -> str:
    """Of the rows that are read, and of the state of their files."""
    files = {block.path: block.path.stat() for block in blocks}
    read = [[str(path.name), stat.st_size, stat.st_mtime_ns] for path, stat in files.items()]
    rows = [[block.start, block.rows, block.first] for block in blocks]
    return hashlib.sha256(json.dumps([read, rows]).encode()).hexdigest()[:12]


def _assembled(
    log: ParquetLog,
    block: Block,
    first: int,
    counts: Sequence[tuple[Kind, Path]],
    clock: Path,
    lookups: Path | None,
    root: Path,
    done: Path,
) -> None:
    assemble(log, block, first, counts, clock, lookups, root)
    mark(done)


def _begun(log: ParquetLog, path: Path, lookups: bool, parts: int | None) -> _Made:
    """What is made so far. Raises InvalidArgument where it was made of other files or in another way."""
    mapping = "" if log.mapping is None else msgspec.json.encode(log.mapping).decode()
    asked = _Made(
        version=onlineguard.__version__,
        features=FEATURES,
        hashes=pl.__version__,
        parts=parts or PARTS,
        lookups=lookups,
        mapping=mapping,
    )
    if not path.exists():
        return asked
    try:
        made = msgspec.json.decode(path.read_bytes(), type=_Made)
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{path} is damaged: {error}; count the log into another folder") from error
    for name, what in _SETTINGS.items():
        before, now = getattr(made, name), getattr(asked, name)
        if before != now and not (name == "parts" and parts is None):
            raise InvalidArgument(
                f"{path.parent.parent} was counted with {what} {before!r}, and this would be with {now!r}; count the "
                "log into another folder"
            )
    for (name, rows), file, n in zip(made.files, log.files, log.rows, strict=False):
        if (name, rows) != (file.name, n):
            raise InvalidArgument(
                f"{path.parent.parent} was counted from {name} with {rows:,} clicks, where the log now has {file.name} "
                f"with {n:,}; files may be added after the last one, but not changed. Count the log into another folder"
            )
    if len(made.files) > len(log.files):
        raise InvalidArgument(f"{path.parent.parent} was counted from {len(made.files)} files, of which some are gone")
    return made


_SETTINGS = {
    "features": "version",
    "hashes": "polars",
    "parts": "partitions",
    "lookups": "lookups",
    "mapping": "the mapping",
}


def _check_order(ts: np.ndarray, now: int | None, block: Block) -> None:
    """Raises InvalidArgument where clicks are not in order of time, or not after those of the pieces before."""
    check_order(pl.DataFrame({"ts": ts}))
    behind = 0 if now is None else int((now - ts[plausible(ts)] > LATE_MS).sum())
    if behind > MOST_LATE * len(ts):
        raise InvalidArgument(
            f"clicks are not in order of time: from {block.path}, row {block.start + 1:,} on, {behind:,} of "
            f"{len(ts):,} are over an hour behind clicks that come before; name the files so that their names are in "
            "order of time"
        )


def _remove_rests(root: Path) -> None:
    """Remove what processes were at when they were killed."""
    for rest in root.rglob(".*.tmp"):
        shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
