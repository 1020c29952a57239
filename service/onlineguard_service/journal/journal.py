"""The journal: an entry is written before it is applied, so that what was answered survives a crash.

`FolderJournal` keeps it in a folder: segments of entries in the format of `onlineguard_service.journal.segments`, the
snapshots of `onlineguard_service.journal.snapshots`, and a lock that keeps a second process out.

**Durability**, the operator's choice:

| level | an answer means | survives |
|---|---|---|
| async | the operating system has the entry; it is synced within `SYNC_EVERY` | kill -9, not a power cut |
| group | an fdatasync, shared by all that wait for one, is done | a power cut |
| sync | an fdatasync of its own is done, during which nothing else runs | a power cut |

**What goes wrong, and what then**

- The disk is full, or a file-size limit is reached: what was written of the entry is cut off again, the commit raises
  JournalUnavailable and nothing is applied; the next commits work as soon as there is room.
- A sync fails: what is on the disk is unknown, so this and all later commits raise JournalUnavailable until a restart.
  At level `group` entries that waited for that sync had been applied; a restart goes by what can be read, and writes
  the last segment again, since the system may show what never reached the disk.
- The process was killed while it wrote: the rest of the last entry is cut off when the journal is next opened, with a
  warning that says how many bytes. It was never answered.
- A bad entry with good ones behind it, or a bad segment that is not the last: CheckpointError, naming file and offset.
  A power cut can leave that too, where the disk kept later bytes of the unsynced tail and lost earlier ones.
- The last segment is gone: a warning that names it. The lock's file holds the number of its first entry.
- The newest snapshot is damaged: a warning, and the one before is taken. Entries are kept back to the older of two.
- Another process takes the folder over (`onlineguard_service.journal.fencing`): whatever is not answered then raises
  JournalUnavailable, as does all that comes later.
- A newer format: CheckpointError.
"""

import asyncio
import errno
import fcntl
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Never, Protocol

from onlineguard import atomic
from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.histogram import Histogram
from onlineguard_service.journal import fencing, segments, snapshots
from onlineguard_service.journal.fencing import Pinned
from onlineguard_service.journal.segments import HEADER_BYTES, LONGEST, Segment
from onlineguard_service.tracing import span

Durability = Literal["async", "group", "sync"]

SEGMENT_BYTES = 64 << 20
SYNC_EVERY = 0.1  # seconds, at level "async"
SYNCS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
QUICK = 0.1  # seconds of a sync; after a slower one no segment begins, since the loop would wait for its sync
POSTPONED = 60.0  # seconds for which it is waited that the disk is quick again: some disks never are
SLOW = 1.0  # seconds of a sync that are told as a fault of the disk; one in a thousand takes 0.02 s
TOLD = 60.0  # seconds for which it is told
BEAT = "beat"  # the file that shows others that this process is there
TAKEN = "another process has taken it over; stop this one"

_log = logging.getLogger(__name__)


class Journal(Protocol):
    """Where entries are kept in order; of one event loop, but for what is called before it runs."""

    sequence: int  # of the newest entry; 0 before the first
    seconds: Histogram  # that syncs of the disk took, or calls of Redis

    async def commit[T](self, entry: bytes, apply: Callable[[int], T]) -> T:
        """Write the entry, apply it, and return what `apply` returned once the entry is as durable as promised.

        `apply` gets the sequence number. It is called in the order of the journal, never twice at once, and must not
        await. If it raises, the entry stays written, and a replay will meet it again. A commit that is cancelled may
        have been written and applied.

        Raises JournalUnavailable where the entry cannot be kept. It was then neither applied nor written, except as
        the journals say where a disk or a server failed at the wrong moment.
        """
        ...

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """The entries with a higher sequence number, in order; before the first commit only.

        Raises CheckpointError where one of them is missing or damaged.
        """
        ...

    def newest_snapshot(self) -> tuple[int, dict[str, bytes]] | None:
        """The sequence number and the parts of the newest whole snapshot; None where all entries are still there.

        Raises CheckpointError where entries after it are missing, or where the newest has a newer format.
        """
        ...

    def begin_snapshot(self, parts: Mapping[str, bytes | memoryview]) -> Awaitable[int]:
        """Write the state after the newest entry, in the background; then drop entries that two snapshots cover.

        Resolves to the sequence number that the parts belong to. Raises JournalUnavailable where it cannot be written;
        older snapshots then stay.
        """
        ...

    async def beat(self) -> None:
        """Show a standby that this process is there; it takes the journal over where that is not seen for too long."""
        ...

    async def forget_covered(self) -> None:
        """Let go of every byte of the entries that both snapshots cover, where `begin_snapshot` leaves some."""
        ...

    @property
    def oldest(self) -> int:
        """The sequence number of the older of two snapshots; 0 where there are fewer. No entry before it is kept."""
        ...

    @property
    def refusal(self) -> str | None:
        """Why nothing is taken now; None where entries are."""
        ...

    @property
    def lag(self) -> float:
        """Seconds that the oldest entry not yet durable has waited; 0 where there is none."""
        ...

    @property
    def waiting(self) -> int:
        """Commits that wait until their entries are durable."""
        ...

    @property
    def trouble(self) -> str | None:
        """What is slow now, in a sentence; None where nothing is."""
        ...

    @property
    def size(self) -> int:
        """Bytes of all entries that are kept."""
        ...

    async def close(self) -> None:
        """Wait for what is under way and make all of it durable."""
        ...


class FolderJournal:
    """A `Journal` in a folder of this machine; see this module's docstring.

    folder: made where it is missing.
    segment_bytes: a segment that has reached it is followed by a new one; all are kept until snapshots cover them.

    Raises JournalUnavailable where another process has the folder open, or it cannot be written, and CheckpointError.
    """

    def __init__(self, folder: Path, durability: Durability = "group", segment_bytes: int = SEGMENT_BYTES):
        if durability not in ("async", "group", "sync"):
            raise InvalidArgument(f"durability is {durability!r}; it must be 'async', 'group' or 'sync'")
        if segment_bytes < 1:
            raise InvalidArgument(f"segment_bytes is {segment_bytes}; it must be positive, e.g. {SEGMENT_BYTES}")
        self._folder, self._durability, self._segment_bytes = folder, durability, segment_bytes
        self._refusal: str | None = None  # why nothing is taken any more
        self._waiting: list[asyncio.Future[None]] = []  # for the next sync
        self._syncing: list[asyncio.Future[None]] = []  # for the one under way
        self._sync_planned = False  # or under way
        self._dirty_since = self._syncing_since = 0.0  # monotonic seconds; 0: nothing
        self.seconds = Histogram(SYNCS)
        self._began = 0.0  # the sync under way, in monotonic seconds; 0: there is none
        self._last = 0.0  # seconds that the last sync took
        self._slowest = (0.0, 0.0)  # when the last slow one ended, and its seconds
        self._rotate_since = 0.0  # when a segment should have begun; 0: none should
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._snapshotting = asyncio.Lock()
        self._tasks: set[asyncio.Task[int]] = set()
        self._file, self._lock, self._beat = -1, -1, -1
        self._beats, self._token = 0, secrets.token_hex(8)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._pinned = Pinned(folder)
            try:
                self._inside = self._pinned.path
                self._lock = locked(self._inside, folder)
                fencing.complete(self._inside, folder.parent)
                self._open()
                self._beat = os.open(self._inside / BEAT, os.O_RDWR | os.O_CREAT, 0o640)
                self._show()
            except BaseException:
                for descriptor in (self._file, self._lock, self._beat):
                    if descriptor >= 0:
                        os.close(descriptor)
                self._pinned.close()
                raise
        except OSError as error:
            raise JournalUnavailable(f"the journal in {folder} cannot be opened: {error.strerror or error}") from error

    async def commit[T](self, entry: bytes, apply: Callable[[int], T]) -> T:
        """See `Journal.commit`."""
        with span("journal.write"):
            self._write(entry)
        if self._durability == "sync":
            with span("journal.sync"):
                self._sync_now()
            self._check_still_ours()
            return apply(self.sequence)
        loop = asyncio.get_running_loop()
        if not self._dirty_since:
            self._dirty_since = time.monotonic()
        if self._durability == "async":
            if not self._sync_planned:
                self._sync_planned = True
                loop.call_later(SYNC_EVERY, self._sync, loop)
            self._check_still_ours()
            return apply(self.sequence)
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        if not self._sync_planned:
            self._sync_planned = True
            loop.call_soon(self._sync, loop)  # after all that is ready now, so that it shares this sync
        result = apply(self.sequence)
        with span("journal.sync"):
            await waiter
        return result

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """See `Journal.replay`."""
        expected = after + 1
        for i, segment in enumerate(self._segments):
            last = i == len(self._segments) - 1
            end = self.sequence if last else self._segments[i + 1].first - 1
            if end < expected:
                continue
            if segment.first > expected:
                raise CheckpointError(_missing(self._folder, expected, segment.first - 1))
            contents = segment.path.read_bytes()
            mark = segments.mark_of(segment, contents)
            stop = HEADER_BYTES
            for sequence, start, stop in segments.good(contents, mark, segment.first):
                if sequence == expected <= end:  # behind `end` are entries of a process whose journal was taken over
                    yield sequence, contents[start:stop]
                    expected += 1
            if expected <= end:
                cut = stop == len(contents)
                raise CheckpointError(
                    _missing(self._folder, expected, end) if cut else segments.damage(segment.path, stop)
                )
        if expected <= self.sequence:
            raise CheckpointError(_missing(self._folder, expected, self.sequence))

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

    def begin_snapshot(self, parts: Mapping[str, bytes | memoryview]) -> Awaitable[int]:
        """See `Journal.begin_snapshot`."""
        self._rotate_soon()
        task = asyncio.get_running_loop().create_task(self._snapshot(self.sequence, parts))
        self._tasks.add(task)  # the loop itself keeps no reference
        task.add_done_callback(self._tasks.discard)
        return task

    async def beat(self) -> None:
        """See `Journal.beat`."""
        self._show()

    async def forget_covered(self) -> None:
        """See `Journal.forget_covered`: their files are gone."""

    @property
    def oldest(self) -> int:
        """See `Journal.oldest`."""
        return min(self._snapshots) if len(self._snapshots) > 1 else 0

    @property
    def refusal(self) -> str | None:
        """Why nothing is taken now; None where entries are."""
        if self._refusal is None and self._pinned.taken_away:
            self._refusal = TAKEN
        return self._refusal

    @property
    def lag(self) -> float:
        """See `Journal.lag`; before a sync at level "async" up to `SYNC_EVERY`, which is no fault."""
        since = self._syncing_since or self._dirty_since
        return time.monotonic() - since if since else 0.0

    @property
    def waiting(self) -> int:
        """See `Journal.waiting`; at level "group" only do commits wait for anything."""
        return len(self._waiting) + len(self._syncing)

    @property
    def trouble(self) -> str | None:
        """See `Journal.trouble`: a sync that takes, or took within the last minute, a second or more."""
        now = time.monotonic()
        if self._began and (seconds := now - self._began) >= SLOW:
            waits = f"{self.waiting} answers wait for it" if self.waiting else "no answer waits for it"
            return f"a sync of the disk has taken {seconds:.1f} s and goes on; {waits}"
        ended, seconds = self._slowest
        if seconds and now - ended < TOLD:
            return f"a sync of the disk took {seconds:.1f} s, {now - ended:.0f} s ago"
        return None

    @property
    def size(self) -> int:
        """See `Journal.size`."""
        return sum(segment.size for segment in self._segments[:-1]) + self._end

    async def close(self) -> None:
        """See `Journal.close`; a second call does nothing."""
        if self._lock < 0:
            return
        await asyncio.gather(*self._tasks, return_exceptions=True)
        waiting = [waiter for waiter in (*self._syncing, *self._waiting) if not waiter.done()]
        await asyncio.gather(*waiting, return_exceptions=True)
        failed, self._refusal = self._refusal is not None, "it is closed"
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
            await asyncio.sleep(0)  # how its last sync went
        try:
            if not failed and self._refusal == "it is closed":
                os.fsync(self._file)
        except OSError as error:
            raise JournalUnavailable(f"the journal in {self._folder} could not be synced: {error.strerror}") from error
        finally:
            self._dirty_since = self._syncing_since = 0.0
            for descriptor in (self._file, self._beat, self._lock):
                os.close(descriptor)
            self._pinned.close()
            self._lock = self._beat = -1

    def _open(self) -> None:
        """Find the newest entry and cut off what a crash left behind it."""
        self._segments = segments.found(self._folder)
        self._snapshots = snapshots.found(self._folder)
        if self._pinned.taken_away:
            raise JournalUnavailable(f"the journal in {self._folder} cannot be opened: {TAKEN}")
        self.sequence, self._end, self._mark = 0, 0, 0
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
            if self._file >= 0:
                os.close(self._file)
        if newest is not None or not self._segments:
            self._start_segment()
        os.fsync(self._file)
        atomic.sync_folder(self._inside)
        self._fresh = False  # whether the folder lacks a sync since the segment was made

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
        self.sequence, self._end = segment.first - 1, HEADER_BYTES
        for sequence, _, end in segments.good(contents, self._mark, segment.first):
            self.sequence, self._end = sequence, end
        if self._end < len(contents):
            if segments.good_behind(contents, self._mark, self._end, self.sequence):
                raise CheckpointError(segments.damage(segment.path, self._end))
            cut = len(contents) - self._end
            _log.warning("%s ends in %d bytes of an entry that a crash left; they are cut off", segment.path, cut)
        segments.write_again(inside, contents, self._end)
        self._file = os.open(inside, os.O_WRONLY | os.O_APPEND)

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
            raise CheckpointError(_missing(self._folder, snapshot + 1, first - 1))

    def _write(self, entry: bytes) -> None:
        if self._refusal is not None:
            raise JournalUnavailable(f"the journal in {self._folder} takes no entries: {self._refusal}")
        if len(entry) > LONGEST:
            raise InvalidArgument(f"entry has {len(entry)} bytes; it must have at most {LONGEST}")
        if self._end >= self._segment_bytes:
            self._rotate_soon()
        frame = segments.frame(self._mark, self.sequence + 1, entry)
        length = len(frame) + len(entry)
        try:
            written = os.writev(self._file, (frame, entry))
        except OSError as error:
            self._cut_off(error)
        if written != length:
            self._cut_off(None)
        self._end += length
        self.sequence += 1

    def _cut_off(self, cause: OSError | None) -> Never:
        """Undo a write that failed or ended early."""
        reason = (cause.strerror or str(cause)) if cause else "there was room for a part of it only"
        try:
            os.ftruncate(self._file, self._end)
        except OSError as error:
            self._refusal = f"a part of an entry could not be cut off ({error.strerror}); restart the service"
        raise JournalUnavailable(
            f"the journal in {self._folder} cannot take an entry: {reason}; make room on its disk and send it again"
        ) from cause

    def _rotate_soon(self) -> None:
        """Begin a new segment now, or, if the disk is slow, once it is quick again: it takes a sync in this thread."""
        now = time.monotonic()
        if self._thread is None or (self._last <= QUICK and (not self._began or now - self._began <= QUICK)):
            self._rotate()
        elif not self._rotate_since:
            self._rotate_since = now

    def _rotate(self) -> None:
        """Begin a new segment, unless this one is empty. The old one is synced first: a power cut can then tear the
        last segment only."""
        if self._refusal is not None:
            raise JournalUnavailable(f"the journal in {self._folder} takes no entries: {self._refusal}")
        self._rotate_since = 0.0
        if self._end == HEADER_BYTES:
            return
        self._sync_now()
        old, size = self._file, self._end
        try:
            self._start_segment()
        except OSError as error:
            raise JournalUnavailable(
                f"the journal in {self._folder} cannot begin a segment: {error.strerror}; make room on its disk"
            ) from error
        self._segments[-2] = self._segments[-2]._replace(size=size)
        if self._thread is None:
            os.close(old)
        else:
            self._jobs.put(lambda: os.close(old))  # a sync of it may be under way

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
        self._file, self._end, self._mark, self._fresh = file, len(header), mark, True
        with suppress(OSError):  # it is for a warning only
            os.pwrite(self._lock, b"%020d\n" % first, 0)

    def _sync_now(self) -> None:
        began = time.monotonic()
        try:
            os.fdatasync(self._file)
            if self._fresh:
                atomic.sync_folder(self._inside)
                self._fresh = False
            self._took(time.monotonic() - began)
        except OSError as error:
            raise self._failed(error) from error

    def _sync(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the thread sync what has been written until now."""
        if self._refusal is not None:
            return
        self._syncing, self._waiting = self._waiting, []
        self._syncing_since, self._dirty_since = self._dirty_since, 0.0
        file, folder = self._file, self._inside if self._fresh else None
        self._fresh = False
        self._began = time.monotonic()

        def job() -> None:
            failure: OSError | None = None
            began = time.monotonic()
            try:
                os.fdatasync(file)
                if folder is not None:
                    atomic.sync_folder(folder)
            except OSError as error:
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._synced, loop, failure, time.monotonic() - began)

        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name="journal-sync", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _synced(self, loop: asyncio.AbstractEventLoop, failure: OSError | None, seconds: float) -> None:
        self._began = 0.0
        self._took(seconds)
        if failure is not None:
            self._failed(failure)
        elif self._pinned.taken_away:
            self._taken_away()
        done, self._syncing = self._syncing, []
        self._syncing_since = 0.0
        for waiter in done:
            if not waiter.done():
                waiter.set_result(None)
        if self._rotate_since and (seconds <= QUICK or time.monotonic() - self._rotate_since > POSTPONED):
            with suppress(JournalUnavailable):  # the next commit that finds the segment full tries again, and is told
                self._rotate()
        if self._waiting:
            self._sync(loop)
        elif self._dirty_since and self._durability == "async":
            loop.call_later(SYNC_EVERY, self._sync, loop)
        else:
            self._sync_planned = False

    def _took(self, seconds: float) -> None:
        """Note a sync that has ended."""
        self.seconds.add(seconds)
        self._last = seconds
        if seconds >= SLOW:
            self._slowest = time.monotonic(), seconds
            _log.warning("a sync of the disk of %s took %.1f s", self._folder, seconds)

    def _failed(self, error: OSError) -> JournalUnavailable:
        """A sync failed: the error for everybody who waits, and for whoever comes later."""
        return self._give_up(
            f"a sync failed ({error.strerror or error}); restart the service, which goes by what is there"
        )

    def _taken_away(self) -> JournalUnavailable:
        """The folder is another process's now: the same."""
        return self._give_up(TAKEN)

    def _check_still_ours(self) -> None:
        """Raises JournalUnavailable where an entry that is durable may not be answered."""
        if self._pinned.taken_away:
            raise self._taken_away()

    def _give_up(self, why: str) -> JournalUnavailable:
        self._refusal = why
        refused = JournalUnavailable(f"the journal in {self._folder} takes no entries: {self._refusal}")
        for waiter in (*self._syncing, *self._waiting):
            if not waiter.done():
                waiter.set_exception(refused)
        self._waiting = []
        _log.error("%s", refused)
        return refused

    def _show(self) -> None:
        """Write who this is and how often it has said so."""
        if self._beat < 0:  # closed
            return
        self._beats += 1
        with suppress(OSError):  # a disk that is full: it is for a standby only
            os.pwrite(self._beat, f"{self._token} {self._beats:020}".encode(), 0)

    async def _snapshot(self, sequence: int, parts: Mapping[str, bytes | memoryview]) -> int:
        loop = asyncio.get_running_loop()
        async with self._snapshotting:
            try:
                await loop.run_in_executor(None, snapshots.write, self._inside, sequence, parts)
            except OSError as error:
                raise JournalUnavailable(
                    f"no snapshot could be written to {self._folder}: {error.strerror or error}; make room on its disk"
                ) from error
            self._snapshots = sorted({sequence, *self._snapshots}, reverse=True)[:2]
            older = self._snapshots[1] if len(self._snapshots) == 2 else 0
            covered: list[Path] = []
            while len(self._segments) > 1 and self._segments[1].first <= older + 1:
                covered.append(self._inside / self._segments.pop(0).path.name)
            await loop.run_in_executor(None, _drop, self._inside, self._snapshots, covered)
        return sequence


def locked(inside: Path, folder: Path) -> int:
    """The descriptor that holds the folder's lock until it is closed, or the process ends in whatever way.

    inside: how its files are named; folder: how it is named. Raises JournalUnavailable where another process holds it.
    """
    lock = os.open(inside / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise JournalUnavailable(
            f"the journal in {folder} is open in another process; stop that one or name another folder"
        ) from error
    return lock


def _missing(folder: Path, first: int, last: int) -> str:
    return (
        f"the journal in {folder} lacks entries {first} to {last}, and no whole snapshot covers them; restore the "
        f"folder from a backup"
    )


def _drop(folder: Path, kept: list[int], covered: list[Path]) -> None:
    """Remove all snapshots but those kept, and segments, oldest first."""
    old = [snapshots.path_of(folder, n) for n in snapshots.found(folder) if n not in kept]
    for path in old + covered:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s is no longer needed and cannot be removed: %s", path, error.strerror)


def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
