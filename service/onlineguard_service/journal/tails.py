"""A journal that another process writes, read as it grows, and taken over.

What is read may not be answered yet, and then may never be: a writer that failed may cut its last entries off and give
their numbers to others. A tail notices that and raises `Astray`; whoever follows then begins anew from a snapshot.

**In a folder** a tail keeps the segment open that it reads, so that it does not mind when the writer removes it after a
snapshot. A writer that was started anew shows another name in the file `beat`, and then nothing that was read is
certain.

**In Redis** the id of every entry has the epoch of its writer, and whatever is written anew has a higher one. So an
entry that takes the place of another comes behind it, with a number that was there already.
"""

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import fencing, segments, snapshots
from onlineguard_service.journal.folder_journal import BEAT, FolderJournal, locked
from onlineguard_service.journal.journal import Durability, Journal
from onlineguard_service.journal.segments import HEADER_BYTES, Segment

CHUNK = 4 << 20  # bytes that are read of a segment at a time


class Astray(Exception):
    """The journal does not go on from what was read of it."""


class Tail(ABC):
    """See this module. `begin` comes first."""

    sequence = 0  # of the newest entry that was read

    @abstractmethod
    def begin(self) -> dict[str, bytes] | None:
        """The parts of the newest whole snapshot; None without one. `entries` then gives what comes after it."""

    @abstractmethod
    def entries(self) -> list[bytes]:
        """Those that follow, some at a time; none where nothing new is there. Raises Astray, or OSError for now."""

    @abstractmethod
    def beat(self) -> str:
        """A text that is another one whenever the writer has shown that it is there; empty where it has left."""

    @abstractmethod
    def is_gone(self) -> bool:
        """Whether the writer's process has certainly ended."""

    @abstractmethod
    def take_over(self) -> tuple[Journal, bool]:
        """The journal, from now on written by this process and never again by the one that wrote it; and whether all
        that was read is in it. Raises JournalUnavailable or OSError where it cannot be had."""

    @abstractmethod
    def snapshot(self) -> int:
        """The sequence number of the newest snapshot; 0 without one. Also after `take_over`."""

    @abstractmethod
    def part(self, sequence: int, name: str) -> bytes | None:
        """One part of that snapshot, None where it has none of that name. Raises DamagedSnapshot, also where the
        snapshot was removed meanwhile."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open; a second call does nothing."""


class FolderTail(Tail):
    """Of a `FolderJournal`. Raises InvalidArgument where its folder could not be taken over."""

    def __init__(self, folder: Path, durability: Durability):
        fencing.check(folder)
        self._folder = folder
        self._durability: Durability = durability
        self._first = self._mark = self._at = 0  # of the segment that is read
        self._writer = ""  # whose entries are read
        self._lock = self._file = -1

    def begin(self) -> dict[str, bytes] | None:
        """See `Tail.begin`."""
        self.close()
        self._writer, self.sequence = self.beat().partition(" ")[0], 0
        for number in snapshots.found(self._folder):
            with suppress(snapshots.DamagedSnapshot):  # or it was removed meanwhile
                self.sequence, parts = snapshots.read(snapshots.path_of(self._folder, number))
                return parts
        return None

    def entries(self) -> list[bytes]:
        """See `Tail.entries`."""
        if (writer := self.beat().partition(" ")[0]) != self._writer:
            raise Astray(f"the journal in {self._folder} is written by another process now, {writer or 'none yet'}")
        found = self._more()
        if not found:
            there = segments.found(self._folder)
            found = self._more()  # which came before a segment that is there now
            if not found and self._open_next(there):
                found = self._more()
        return found

    def beat(self) -> str:
        """See `Tail.beat`."""
        with suppress(FileNotFoundError):
            return (self._folder / BEAT).read_text()
        return ""

    def is_gone(self) -> bool:
        """See `Tail.is_gone`: its lock is free, and then kept by this process until it takes over."""
        if self._lock < 0:
            with suppress(JournalUnavailable):
                self._lock = locked(self._folder, self._folder)
        return self._lock >= 0

    def take_over(self) -> tuple[FolderJournal, bool]:
        """See `Tail.take_over`."""
        old = fencing.take_away(self._folder)
        writer = (old / BEAT).read_text().partition(" ")[0] if (old / BEAT).exists() else ""
        self.close()
        journal = FolderJournal(self._folder, self._durability)
        return journal, writer == self._writer and journal.sequence >= self.sequence

    def snapshot(self) -> int:
        """See `Tail.snapshot`."""
        return max(snapshots.found(self._folder), default=0)

    def part(self, sequence: int, name: str) -> bytes | None:
        """See `Tail.part`."""
        return snapshots.part_of(snapshots.path_of(self._folder, sequence), name)

    def close(self) -> None:
        """See `Tail.close`."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _more(self) -> list[bytes]:
        """What follows in the segment that is read."""
        found: list[bytes] = []
        size = CHUNK
        while self._file >= 0 and not found:
            contents, end = os.pread(self._file, size, self._at), 0
            for _, start, end in segments.good(contents, self._mark, self.sequence + 1, 0):
                found.append(contents[start:end])
            self.sequence, self._at = self.sequence + len(found), self._at + end
            if len(contents) < size:
                break
            size *= 4  # for an entry that is longer
        return found

    def _open_next(self, there: list[Segment]) -> bool:
        """Open the segment that has the next entry; False where that is read already, or is not there yet."""
        reached = [segment for segment in there if segment.first <= self.sequence + 1]
        if not reached or (self._file >= 0 and reached[-1].first == self._first):
            if there and there[-1].first > self.sequence + 1:
                raise Astray(f"entries of the journal in {self._folder} were removed before they were read")
            return False
        segment = reached[-1]
        file = os.open(segment.path, os.O_RDONLY)
        lead = os.pread(file, HEADER_BYTES, 0)
        if len(lead) < HEADER_BYTES:  # it is being made
            os.close(file)
            return False
        if self._file >= 0:
            os.close(self._file)
        self._file, self._first = file, segment.first
        self._mark, self._at = segments.mark_of(segment, lead), HEADER_BYTES
        if segment.first <= self.sequence:  # what the snapshot has is skipped
            for sequence, _, end in segments.good(segment.path.read_bytes(), self._mark, segment.first):
                if sequence <= self.sequence:
                    self._at = end
        return True
