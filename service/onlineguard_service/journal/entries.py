"""The entries of a journal's folder: segments, of which the last is open for more, and the snapshots that cover them.

Nothing here waits for the disk but opening and `replay`; `to_sync` and `covered_by` give what does. After a crash the
rest of the last entry is cut off. What else can be wrong is said in `onlineguard_service.journal.folder_journal`.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Never

from onlineguard import atomic
from onlineguard.errors import CheckpointError
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import segments, snapshots
from onlineguard_service.journal.fencing import Pinned
from onlineguard_service.journal.journal import TAKEN
from onlineguard_service.journal.segments import HEADER_BYTES, Segment

_log = logging.getLogger(__name__)


class Entries:
    """Finds the newest entry and cuts off what a crash left behind it.

    folder: how it is called; pinned: the folder that is meant; lock: a file that holds the number of the first entry of
        the last segment, see `folder_journal.locked`.

    Raises JournalUnavailable where the folder was taken over, CheckpointError where entries are damaged, and OSError.
    """

    def __init__(self, folder: Path, pinned: Pinned, lock: int):
        self._folder, self._inside, self._lock = folder, pinned.path, lock
        self._segments = segments.found(folder)
        self._snapshots = snapshots.found(folder)
        if pinned.taken_away:
            raise JournalUnavailable(f"the journal in {folder} cannot be opened: {TAKEN}")
        self.refusal: str | None = None  # why nothing is taken any more
        self.sequence = 0  # of the newest entry
        self.end = 0  # bytes of the last segment
        self._mark, self._file = 0, -1  # of the last segment
        self._fresh = False  # whether the folder lacks a sync since the segment was made
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of all entries that are kept."""
        return sum(segment.size for segment in self._segments[:-1]) + self.end

    @property
    def oldest(self) -> int:
        """The sequence number of the older of two snapshots; 0 where there are fewer."""
        return min(self._snapshots) if len(self._snapshots) > 1 else 0

    def refused(self) -> JournalUnavailable:
        """The error for whoever wants to write."""
        return JournalUnavailable(f"the journal in {self._folder} takes no entries: {self.refusal}")

    def write(self, entry: bytes) -> None:
        """Write the next entry, or raise JournalUnavailable: then what was written of it is cut off again."""
        if self.refusal is not None:
            raise self.refused()
        frame = segments.frame(self._mark, self.sequence + 1, entry)
        length = len(frame) + len(entry)
        try:
            written = os.writev(self._file, (frame, entry))
        except OSError as error:
            self._cut_off(error)
        if written != length:
            self._cut_off(None)
        self.end += length
        self.sequence += 1

    def to_sync(self) -> Callable[[], None]:
        """What makes all that is written until now durable, in any thread. It raises OSError."""
        folder, self._fresh = self._inside if self._fresh else None, False
        return partial(_sync, self._file, folder)

    def begin_segment(self) -> Callable[[], None]:
        """Begin a segment, and return what closes the one before, which must be synced.

        On failure JournalUnavailable is raised, and everything is as before.
        """
        old, size = self._file, self.end
        try:
            self._start_segment()
        except OSError as error:
            raise JournalUnavailable(
                f"the journal in {self._folder} cannot begin a segment: {error.strerror}; make room on its disk"
            ) from error
        self._segments[-2] = self._segments[-2]._replace(size=size)
        return partial(os.close, old)

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """See `Journal.replay`."""
        expected = after + 1
        for i, segment in enumerate(self._segments):
            last = i == len(self._segments) - 1
            end = self.sequence if last else self._segments[i + 1].first - 1
            if end < expected:
                continue
            if segment.first > expected:
                raise self._missing(expected, segment.first - 1)
            contents = segment.path.read_bytes()
            mark = segments.mark_of(segment, contents)
            stop = HEADER_BYTES
            for sequence, start, stop in segments.good(contents, mark, segment.first):
                if sequence == expected <= end:  # behind `end` are entries of a process whose journal was taken over
                    yield sequence, contents[start:stop]
                    expected += 1
            if expected <= end:
                cut = stop == len(contents)
                raise self._missing(expected, end) if cut else CheckpointError(segments.damage(segment.path, stop))
        if expected <= self.sequence:
            raise self._missing(expected, self.sequence)

    def newest_snapshot(self) -> tuple[int, dict[str, bytes]] | None:
        """See `Journal.newest_snapshot`."""
        while self._snapshots:
            path = snapshots.path_of(self._folder, self._snapshots[0])
            try:
                sequence, parts = snapshots.read(path)
            except snapshots.DamagedSnapshot as error:
                _log.warning("%s; taking the one before", error)
                self._snapshots.pop(0)
                continue
            self._reach_back_to(sequence)
            return sequence, parts
        self._reach_back_to(0)
        return None

    def covered_by(self, snapshot: int) -> Callable[[], None]:
        """Count on a snapshot that was written; returns what removes the files that nothing needs any more."""
        self._snapshots = sorted({snapshot, *self._snapshots}, reverse=True)[:2]
        older = self._snapshots[1] if len(self._snapshots) == 2 else 0
        covered: list[Path] = []
        while len(self._segments) > 1 and self._segments[1].first <= older + 1:
            covered.append(self._inside / self._segments.pop(0).path.name)
        return partial(_drop, self._inside, self._snapshots, covered)

    def sync_all(self) -> None:
        """Make the last segment durable with all that is known of it. Raises OSError."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the last segment; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        self._warn_of_the_gone()
        if self._segments and segments.is_torn(self._inside / self._segments[-1].path.name):
            segment = self._segments.pop()
            _log.warning("%s has no header, %d bytes: a crash left it; it is removed", segment.path, segment.size)
            (self._inside / segment.path.name).unlink()
        if self._segments:
            self._resume(self._segments[-1])
        newest = next((n for n in self._snapshots if n > self.sequence and self._is_whole(n)), None)
        if newest is not None:
            _log.warning("the snapshot of entry %d is newer than the last entry, %d", newest, self.sequence)
            self.sequence = newest
            self.close()
        if newest is not None or not self._segments:
            self._start_segment()
        os.fsync(self._file)
        atomic.sync_folder(self._inside)
        self._fresh = False

    def _warn_of_the_gone(self) -> None:
        noted = os.pread(self._lock, 32, 0)
        newest = int(noted) if noted.strip().isdigit() else 0  # of old it was empty
        if newest > max([self._segments[-1].first if self._segments else 0, *self._snapshots]):
            _log.warning(
                "%s is gone, and with it all entries from %d on; to have them back stop now and restore it from a "
                "backup, before new entries get their numbers",
                segments.path_of(self._folder, newest),
                newest,
            )

    def _resume(self, segment: Segment) -> None:
        """Take the last segment on where its last good entry ends."""
        inside = self._inside / segment.path.name
        contents = inside.read_bytes()
        self._mark = segments.mark_of(segment, contents)
        self.sequence, self.end = segment.first - 1, HEADER_BYTES
        for sequence, _, end in segments.good(contents, self._mark, segment.first):
            self.sequence, self.end = sequence, end
        if self.end < len(contents):
            if segments.good_behind(contents, self._mark, self.end, self.sequence):
                raise CheckpointError(segments.damage(segment.path, self.end))
            cut = len(contents) - self.end
            _log.warning("%s ends in %d bytes of an entry that a crash left; they are cut off", segment.path, cut)
        segments.write_again(inside, contents, self.end)
        self._file = os.open(inside, os.O_WRONLY | os.O_APPEND)

    def _start_segment(self) -> None:
        """On failure everything is as before."""
        first = self.sequence + 1
        path, inside = segments.path_of(self._folder, first), segments.path_of(self._inside, first)
        mark = int.from_bytes(os.urandom(4), "little")
        header = segments.header(mark, first)
        file = os.open(inside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            if os.write(file, header) != len(header):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.close(file)
            with suppress(OSError):
                inside.unlink()
            raise
        self._segments.append(Segment(first, path, 0))
        self._file, self.end, self._mark, self._fresh = file, len(header), mark, True
        with suppress(OSError):  # it is for a warning only
            os.pwrite(self._lock, b"%020d\n" % first, 0)

    def _cut_off(self, cause: OSError | None) -> Never:
        """Undo a write that failed or ended early."""
        reason = (cause.strerror or str(cause)) if cause else "there was room for a part of it only"
        try:
            os.ftruncate(self._file, self.end)
        except OSError as error:
            self.refusal = f"a part of an entry could not be cut off ({error.strerror}); restart the service"
        raise JournalUnavailable(
            f"the journal in {self._folder} cannot take an entry: {reason}; make room on its disk and send it again"
        ) from cause

    def _is_whole(self, sequence: int) -> bool:
        try:
            snapshots.read(snapshots.path_of(self._folder, sequence))
        except snapshots.DamagedSnapshot:
            return False
        return True

    def _reach_back_to(self, snapshot: int) -> None:
        """Raise CheckpointError unless the entries after that snapshot (0: the beginning) are still there."""
        first = self._segments[0].first
        if first > snapshot + 1:
            raise self._missing(snapshot + 1, first - 1)

    def _missing(self, first: int, last: int) -> CheckpointError:
        return CheckpointError(
            f"the journal in {self._folder} lacks entries {first} to {last}, and no whole snapshot covers them; "
            "restore the folder from a backup"
        )


def _sync(file: int, folder: Path | None) -> None:
    os.fdatasync(file)
    if folder is not None:
        atomic.sync_folder(folder)


def _drop(folder: Path, kept: list[int], covered: list[Path]) -> None:
    """Remove all snapshots but those kept, and segments, oldest first."""
    old = [snapshots.path_of(folder, n) for n in snapshots.found(folder) if n not in kept]
    for path in old + covered:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s is no longer needed and cannot be removed: %s", path, error.strerror)
