"""Microseconds of a commit to the journal, by durability level, beside SQLite.

    uv run --group dev python -m benchmarks.bench_journal [--quick] [--folder FOLDER]

An entry has 300 bytes, which is a click and what was decided about it. At 1,000 commits a second (Poisson arrivals, in
one event loop) the time runs from the call to the answer, and `late_p99_us` says how late the calls came: a millisecond
is the loop's timer, more is a loop that commits have blocked. "closed" are 1 and 16 tasks that commit again and again.
The peer is a table in SQLite, WAL mode, one transaction an entry, in the same loop: `synchronous=NORMAL` promises what
level async does, `FULL` what group and sync do. The rounds of all are interleaved, so that a busy disk meets each of
them. `sync of an entry` is what the disk itself takes, by how the file was made beforehand. `during a snapshot` is a
run at 1,000 a second while a snapshot of 100 MB is written, and a new one begun three seconds later. Redis is a
redis-server that the benchmark starts on a free port; without one on PATH its figures are left out.
"""

import argparse
import asyncio
import gc
import os
import platform
import random
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from onlineguard_service.journal.folder_journal import FolderJournal
from onlineguard_service.journal.redis_journal import RedisJournal

from benchmarks.bench_features import redis_server
from benchmarks.workloads import emit

ENTRY = bytes(range(250)) + bytes(50)
RATE = 1_000  # commits a second

Commit = Callable[[bytes, Callable[[int], None]], Awaitable[None]]


class Committing(Protocol):
    async def commit(self, entry: bytes, apply: Callable[[int], None]) -> None: ...
    async def close(self) -> None: ...


class Sqlite:
    """The peer."""

    def __init__(self, path: Path, synchronous: str):
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA synchronous={synchronous}")
        self._db.execute("CREATE TABLE IF NOT EXISTS entries (sequence INTEGER PRIMARY KEY, entry BLOB)")

    async def commit(self, entry: bytes, apply: Callable[[int], None]) -> None:
        cursor = self._db.execute("INSERT INTO entries (entry) VALUES (?)", (entry,))
        apply(cursor.lastrowid or 0)

    async def close(self) -> None:
        self._db.close()


async def at_a_rate(journal: Committing, seconds: float, seed: int) -> tuple[list[float], list[float]]:
    """Seconds of each commit, and how long after it was due it could be called."""
    took: list[float] = []
    late: list[float] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        start = time.perf_counter()
        late.append(start - due)
        await journal.commit(ENTRY, nothing)
        took.append(time.perf_counter() - start)

    chance = random.Random(seed)
    begin = due = time.perf_counter()
    while due < begin + seconds:
        due += chance.expovariate(RATE)
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return took, late


async def closed(journal: Committing, tasks: int, seconds: float) -> tuple[list[float], float]:
    """Seconds of each commit, and commits a second."""
    took: list[float] = []
    begin = time.perf_counter()

    async def again() -> None:
        while (start := time.perf_counter()) < begin + seconds:
            await journal.commit(ENTRY, nothing)
            took.append(time.perf_counter() - start)
            if tasks == 1 and len(took) % 100 == 0:
                await asyncio.sleep(0)  # what never waits would let nothing else run, not even the syncs

    await asyncio.gather(*(again() for _ in range(tasks)))
    return took, len(took) / (time.perf_counter() - begin)


def nothing(_: int) -> None:
    """What a commit applies here."""


def percentiles(took: list[float]) -> dict[str, float]:
    micros = np.array(took) * 1e6
    names = {"p50_us": 50, "p99_us": 99, "p999_us": 99.9, "max_us": 100}
    return {name: round(float(np.percentile(micros, p)), 1) for name, p in names.items()}


def peers(folder: Path, url: str | None) -> dict[str, Callable[[], Any]]:
    """Opens each of them, where the round before left it."""
    makers: dict[str, Callable[[], Any]] = {
        "journal async": lambda: FolderJournal(folder / "async", "async"),
        "journal group": lambda: FolderJournal(folder / "group", "group"),
        "journal sync": lambda: FolderJournal(folder / "sync", "sync"),
        "SQLite WAL NORMAL": lambda: Sqlite(folder / "normal.db", "NORMAL"),
        "SQLite WAL FULL": lambda: Sqlite(folder / "full.db", "FULL"),
    }
    if url is not None:
        makers["journal in Redis, async"] = lambda: RedisJournal(url, "bench")
    return makers


async def compare(folder: Path, url: str | None, seconds: float, rounds: int) -> None:
    makers = peers(folder, url)
    paced: dict[str, list[float]] = defaultdict(list)
    late: dict[str, list[float]] = defaultdict(list)
    singles: dict[tuple[str, int], list[float]] = defaultdict(list)
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    for i in range(rounds):
        for name, make in makers.items():
            journal = make()
            os.sync()  # what others wrote is not paid for here
            gc.collect()
            await closed(journal, 1, 0.02)  # warms up
            took, waited = await at_a_rate(journal, seconds / rounds, i)
            paced[name] += took
            late[name] += waited
            await journal.close()
    for _ in range(rounds):
        for name, make in makers.items():
            journal = make()
            for tasks in (1, 16):
                os.sync()
                took, rate = await closed(journal, tasks, seconds / rounds / 8)
                singles[name, tasks] += took
                rates[name, tasks].append(rate)
            await journal.close()
    for name, took in paced.items():
        late_us = round(float(np.percentile(late[name], 99)) * 1e6)
        emit(figure="commit", journal=name, load=f"{RATE}/s", **percentiles(took), late_p99_us=late_us)
    for (name, tasks), took in singles.items():
        per_second = round(float(np.median(rates[name, tasks])))
        emit(figure="commit", journal=name, load=f"closed, {tasks}", **percentiles(took), per_s=per_second)


async def during_snapshots(folder: Path, seconds: float, size: int) -> None:
    journal = FolderJournal(folder / "snapshots", "group")
    parts = {"state": bytes(size)}
    written: list[float] = []

    async def again() -> None:
        while True:
            start = time.perf_counter()
            await journal.begin_snapshot(parts)
            written.append(time.perf_counter() - start)
            await asyncio.sleep(3)  # a minute, in service

    await journal.commit(ENTRY, nothing)
    snapshots = asyncio.create_task(again())
    took, _ = await at_a_rate(journal, seconds, 0)
    snapshots.cancel()
    with suppress(asyncio.CancelledError):
        await snapshots
    await journal.close()
    emit(figure="commit", journal="journal group", load=f"{RATE}/s during a snapshot", **percentiles(took))
    if written:
        emit(figure="snapshot", mb=round(size / 1e6), seconds=round(float(np.median(written)), 2), written=len(written))


def syncs(folder: Path, n: int) -> None:
    """What the disk takes for one entry, by how the file was made beforehand; the ways take turns."""
    room = (n + 1) * len(ENTRY)

    def zeroed(file: int) -> None:
        os.pwrite(file, bytes(room), 0)

    ways: dict[str, tuple[Callable[[int], None], int]] = {
        "appended": (lambda file: None, 0),
        "room reserved": (lambda file: os.posix_fallocate(file, 0, room), 0),
        "zeros overwritten": (zeroed, 0),
        "zeros overwritten, O_DSYNC": (zeroed, os.O_DSYNC),
    }
    files: dict[str, int] = {}
    for way, (prepare, flags) in ways.items():
        files[way] = os.open(folder / way, os.O_WRONLY | os.O_CREAT | flags)
        prepare(files[way])
        os.fsync(files[way])
    took: dict[str, list[float]] = defaultdict(list)
    for i in range(n):
        for way, file in files.items():
            start = time.perf_counter()
            os.pwrite(file, ENTRY, i * len(ENTRY))
            if not ways[way][1]:
                os.fdatasync(file)
            took[way].append(time.perf_counter() - start)
    for way, file in files.items():
        os.close(file)
        emit(figure="sync of an entry", file=way, **percentiles(took[way]))


def recovery(folder: Path, n: int) -> None:
    """Opening and replaying a journal of n entries."""

    async def fill() -> None:
        journal = FolderJournal(folder / "replay", "async")
        for _ in range(n):
            await journal.commit(ENTRY, nothing)
        await journal.close()

    asyncio.run(fill())
    start = time.perf_counter()
    journal = FolderJournal(folder / "replay", "async")
    opened = time.perf_counter()
    count = sum(1 for _ in journal.replay(0))
    done = time.perf_counter()
    asyncio.run(journal.close())
    emit(
        figure="recovery", entries=count, open_s=round(opened - start, 3), entries_per_s=round(count / (done - opened))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default a temporary one")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    emit(figure="machine", processor=platform.processor() or platform.machine(), python=platform.python_version())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name, redis_server() as client:
        folder = Path(name)
        syncs(folder, 100 if quick else 2_000)
        url = None
        if client is None:
            emit(figure="commit", journal="journal in Redis, async", skipped="no redis-server on PATH")
        else:
            url = f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}"
        asyncio.run(compare(folder, url, 0.2 if quick else 12.0, 1 if quick else 4))
        asyncio.run(during_snapshots(folder, 0.3 if quick else 10.0, 1_000_000 if quick else 100_000_000))
        recovery(folder, 10_000 if quick else 500_000)


if __name__ == "__main__":
    main()
