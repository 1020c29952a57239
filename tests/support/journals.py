"""Journals of both kinds, each with what a test does to it: commit, replay, snapshot, damage and lose."""

import asyncio
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
import redis
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import snapshots
from onlineguard_service.journal.folder_journal import SEGMENT_BYTES, FolderJournal
from onlineguard_service.journal.journal import Durability, Journal
from onlineguard_service.journal.redis_journal import RedisJournal

LEVELS: tuple[Durability, ...] = get_args(Durability)
ENTRIES = [b"the first", b"", b"x" * 100, b"the last but one", b"the last"]

MEMORY = "/dev/shm"  # for the many examples of a property, whose syncs then cost nothing
GENEROUS = 60  # seconds; a test that takes as long hangs


class Place(ABC):
    """Where the entries of one journal are kept. It is opened there again and again, as after a restart."""

    opening: str  # the Python that opens `journal` in another process
    synced_later = False  # whether an entry that was answered still waits for its sync

    @abstractmethod
    def open(self) -> Journal:
        """A journal that writes there."""

    @abstractmethod
    def kept(self) -> list[int]:
        """The sequence numbers of the snapshots that are kept, whole or not, newest first."""

    @abstractmethod
    def damage_newest(self) -> str:
        """Damage the newest snapshot; how the log must name it."""

    @abstractmethod
    def lose(self, sequence: int) -> None:
        """Take one entry away."""

    @contextmanager
    def opened(self) -> Generator[Journal]:
        """A journal to read from, outside of any event loop."""
        journal = self.open()
        try:
            yield journal
        finally:
            run(journal.close())

    def commit(self, entries: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Commit entries one after another and close; what `apply` was called with."""

        async def committing():
            journal = self.open()
            applied = [await journal.commit(entry, lambda n, entry=entry: (n, entry)) for entry in entries]
            await journal.close()
            return applied

        return run(committing())

    def snapshotted(self, entries: Sequence[bytes], every: int, **more: bytes) -> int:
        """Commit entries, write a snapshot after every so many, and close; the size that the journal had in the end.

        A snapshot holds the last entry, its number, and more.
        """

        async def snapshotting():
            journal = self.open()
            for entry in entries:
                n = await journal.commit(entry, lambda n: n)
                if n % every == 0:
                    assert await journal.begin_snapshot({"n": str(n).encode(), "last": entry, **more}) == n
            size = journal.size
            await journal.close()
            return size

        return run(snapshotting())

    def replayed(self, after: int = 0) -> list[tuple[int, bytes]]:
        """What a journal that is opened anew replays."""
        with self.opened() as journal:
            return list(journal.replay(after))

    def recovered(self) -> tuple[tuple[int, dict[str, bytes]] | None, list[tuple[int, bytes]]]:
        """The newest snapshot and what is replayed after it, by a journal that is opened anew."""
        with self.opened() as journal:
            newest = journal.newest_snapshot()
            return newest, list(journal.replay(newest[0] if newest else 0))


class InFolder(Place):
    """Of a `FolderJournal`."""

    def __init__(self, folder: Path, durability: Durability = "group", segment_bytes: int = SEGMENT_BYTES):
        self.folder, self.durability, self.segment_bytes = folder, durability, segment_bytes
        self.synced_later = durability == "async"
        self.opening = (
            "from pathlib import Path\n"
            "from onlineguard_service.journal.folder_journal import FolderJournal\n"
            f"journal = FolderJournal(Path({str(folder)!r}), {durability!r}, {segment_bytes})\n"
        )

    def open(self) -> FolderJournal:
        return FolderJournal(self.folder, self.durability, self.segment_bytes)

    def kept(self) -> list[int]:
        return snapshots.found(self.folder)

    def damage_newest(self) -> str:
        path = snapshots.path_of(self.folder, self.kept()[0])
        path.write_bytes(path.read_bytes()[:-1])
        return str(path)

    def lose(self, sequence: int) -> None:
        """Its segment, which must hold nothing else: with a `segment_bytes` of 1."""
        (self.folder / f"segment-{sequence:020}").unlink()


class InRedis(Place):
    """Of a `RedisJournal`."""

    def __init__(self, port: int, name: str):
        self.port, self.name = port, name
        self.url = f"redis://127.0.0.1:{port}"
        self.opening = (
            "from onlineguard_service.journal.redis_journal import RedisJournal\n"
            f"journal = RedisJournal({self.url!r}, {name!r})\n"
        )

    def open(self) -> RedisJournal:
        return RedisJournal(self.url, self.name)

    def kept(self) -> list[int]:
        with redis.Redis(port=self.port) as client:
            listed = sorted(map(int, client.hkeys(self._key("snapshots"))), reverse=True)
            there = {key.decode() for key in client.keys(self._key("snapshot:*"))}
        assert there == {self._key(f"snapshot:{n}") for n in listed}
        return listed

    def damage_newest(self) -> str:
        key = self._key(f"snapshot:{self.kept()[0]}")
        with redis.Redis(port=self.port) as client:
            client.hset(key, "0", b"something else")
        return f"{key} in Redis"

    def lose(self, sequence: int) -> None:
        key = self._key("entries")
        with redis.Redis(port=self.port) as client:
            client.xdel(key, *(id for id, _ in client.xrange(key) if id.endswith(b"-%d" % sequence)))

    def _key(self, of: str) -> str:
        return f"{{{self.name}}}:{of}"


def run[T](coroutine: Coroutine[object, object, T]) -> T:
    """What it returns; it may take as long as `GENEROUS`."""
    return asyncio.run(asyncio.wait_for(coroutine, GENEROUS))


def numbered(entries: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Entries as a replay of all of them gives them."""
    return list(enumerate(entries, 1))


async def refused(journal: Journal, entry: bytes = b"refused") -> str:
    """Why the journal does not take an entry, which it must not apply either."""
    with pytest.raises(JournalUnavailable) as raised:
        await journal.commit(entry, lambda _: pytest.fail("an entry that was not kept was applied"))
    return str(raised.value)


@contextmanager
def folder_in_memory() -> Generator[Path]:
    """A folder for one example of a property; on the disk where the system has no folder in memory."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as path:
        yield Path(path)
