"""A journal in a folder: segments of entries, snapshots, and a lock that keeps a second process out.

`journal.entries` writes and reads the segments. Here is when they are synced, and what is answered when.

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
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from onlineguard import locks
from onlineguard.errors import InvalidArgument
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import fencing, snapshots
from onlineguard_service.journal.entries import Entries
from onlineguard_service.journal.fencing import Pinned
from onlineguard_service.journal.journal import TAKEN, Durability
from onlineguard_service.journal.segments import HEADER_BYTES, LONGEST
from onlineguard_service.journal.sync_times import SyncTimes
from onlineguard_service.tracing import span

SEGMENT_BYTES = 64 << 20
SYNC_EVERY = 0.1  # seconds, at level "async"
POSTPONED = 60.0  # seconds for which it is waited that the disk is quick again: some disks never are
BEAT = "beat"  # the file that shows others that this process is there
CLOSED = "it is closed"

_log = logging.getLogger(__name__)


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
        self._waiting: list[asyncio.Future[None]] = []  # for the next sync
        self._syncing: list[asyncio.Future[None]] = []  # for the one under way
        self._sync_planned = False  # or under way
        self._dirty_since = self._syncing_since = 0.0  # monotonic seconds; 0: nothing
        self._times = SyncTimes(folder)
        self.seconds = self._times.seconds
        self._rotate_since = 0.0  # when a segment should have begun; 0: none should
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._snapshotting = asyncio.Lock()
        self._tasks: set[asyncio.Task[int]] = set()
        self._beats, self._token = 0, secrets.token_hex(8)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as opened:
                self._pinned = Pinned(folder)
                opened.callback(self._pinned.close)
                lock = locked(self._pinned.path, folder)
                opened.callback(os.close, lock)
                fencing.complete(self._pinned.path, folder.parent)
                self._entries = Entries(folder, self._pinned, lock)
                opened.callback(self._entries.close)
                self._beat = os.open(self._pinned.path / BEAT, os.O_RDWR | os.O_CREAT, 0o640)
                opened.callback(os.close, self._beat)
                self._show()
                self._opened = opened.pop_all()
        except OSError as error:
            why = error.strerror or error
            raise JournalUnavailable(
                f"the journal in {folder} cannot be opened: {why}; name a folder that can be written to"
            ) from error

    async def commit[T](self, entry: bytes, apply: Callable[[int], T]) -> T:
        """See `Journal.commit`."""
        with span("journal.write"):
            self._write(entry)
        if self._durability == "sync":
            with span("journal.sync"):
                self._sync_now()
            self._check_still_ours()
            return apply(self._entries.sequence)
        loop = asyncio.get_running_loop()
        if not self._dirty_since:
            self._dirty_since = time.monotonic()
        if self._durability == "async":
            if not self._sync_planned:
                self._sync_planned = True
                loop.call_later(SYNC_EVERY, self._sync, loop)
            self._check_still_ours()
            return apply(self._entries.sequence)
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        if not self._sync_planned:
            self._sync_planned = True
            loop.call_soon(self._sync, loop)  # after all that is ready now, so that it shares this sync
        result = apply(self._entries.sequence)
        with span("journal.sync"):
            await waiter
        return result

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """See `Journal.replay`."""
        return self._entries.replay(after)

    def newest_snapshot(self) -> tuple[int, dict[str, bytes]] | None:
        """See `Journal.newest_snapshot`."""
        return self._entries.newest_snapshot()

    def begin_snapshot(self, parts: Mapping[str, bytes | memoryview]) -> Awaitable[int]:
        """See `Journal.begin_snapshot`."""
        self._rotate_soon()
        task = asyncio.get_running_loop().create_task(self._snapshot(self._entries.sequence, parts))
        self._tasks.add(task)  # the loop itself keeps no reference
        task.add_done_callback(self._tasks.discard)
        return task

    async def beat(self) -> None:
        """See `Journal.beat`."""
        self._show()

    async def forget_covered(self) -> None:
        """See `Journal.forget_covered`: their files are gone."""

    @property
    def sequence(self) -> int:
        """See `Journal.sequence`."""
        return self._entries.sequence

    @property
    def oldest(self) -> int:
        """See `Journal.oldest`."""
        return self._entries.oldest

    @property
    def refusal(self) -> str | None:
        """Why nothing is taken now; None where entries are."""
        if self._entries.refusal is None and self._pinned.taken_away:
            self._entries.refusal = TAKEN
        return self._entries.refusal

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
        return self._times.trouble(self.waiting)

    @property
    def size(self) -> int:
        """See `Journal.size`."""
        return self._entries.size

    async def close(self) -> None:
        """See `Journal.close`; a second call does nothing."""
        if self._beat < 0:
            return
        await asyncio.gather(*self._tasks, return_exceptions=True)
        waiting = [waiter for waiter in (*self._syncing, *self._waiting) if not waiter.done()]
        await asyncio.gather(*waiting, return_exceptions=True)
        failed, self._entries.refusal = self._entries.refusal is not None, CLOSED
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
            await asyncio.sleep(0)  # how its last sync went
        try:
            if not failed and self._entries.refusal == CLOSED:
                self._entries.sync_all()
        except OSError as error:
            raise JournalUnavailable(f"the journal in {self._folder} could not be synced: {error.strerror}") from error
        finally:
            self._dirty_since = self._syncing_since = 0.0
            self._beat = -1
            self._opened.close()

    def _write(self, entry: bytes) -> None:
        if self._entries.refusal is not None:
            raise self._entries.refused()
        if len(entry) > LONGEST:
            raise InvalidArgument(f"entry has {len(entry)} bytes; it must have at most {LONGEST}")
        if self._entries.end >= self._segment_bytes:
            self._rotate_soon()
        self._entries.write(entry)

    def _rotate_soon(self) -> None:
        """Begin a new segment now, or, if the disk is slow, once it is quick again: it takes a sync in this thread."""
        if self._thread is None or self._times.quick:
            self._rotate()
        elif not self._rotate_since:
            self._rotate_since = time.monotonic()

    def _rotate(self) -> None:
        """Begin a new segment, unless this one is empty. The old one is synced first: a power cut can then tear the
        last segment only."""
        if self._entries.refusal is not None:
            raise self._entries.refused()
        self._rotate_since = 0.0
        if self._entries.end == HEADER_BYTES:
            return
        self._sync_now()
        close = self._entries.begin_segment()
        if self._thread is None:
            close()
        else:
            self._jobs.put(close)  # a sync of the old one may be under way

    def _sync_now(self) -> None:
        began = time.monotonic()
        try:
            self._entries.to_sync()()
        except OSError as error:
            raise self._failed(error) from error
        self._times.add(time.monotonic() - began)

    def _sync(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the thread sync what has been written until now."""
        if self._entries.refusal is not None:
            return
        self._syncing, self._waiting = self._waiting, []
        self._syncing_since, self._dirty_since = self._dirty_since, 0.0
        sync = self._entries.to_sync()
        self._times.begin()

        def job() -> None:
            failure: OSError | None = None
            began = time.monotonic()
            try:
                sync()
            except OSError as error:
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._synced, loop, failure, time.monotonic() - began)

        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name="journal-sync", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _synced(self, loop: asyncio.AbstractEventLoop, failure: OSError | None, seconds: float) -> None:
        self._times.end(seconds)
        if failure is not None:
            self._failed(failure)
        elif self._pinned.taken_away:
            self._taken_away()
        done, self._syncing = self._syncing, []
        self._syncing_since = 0.0
        for waiter in done:
            if not waiter.done():
                waiter.set_result(None)
        if self._rotate_since and (self._times.quick or time.monotonic() - self._rotate_since > POSTPONED):
            with suppress(JournalUnavailable):  # the next commit that finds the segment full tries again, and is told
                self._rotate()
        if self._waiting:
            self._sync(loop)
        elif self._dirty_since and self._durability == "async":
            loop.call_later(SYNC_EVERY, self._sync, loop)
        else:
            self._sync_planned = False

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
        self._entries.refusal = why
        refused = self._entries.refused()
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
                await loop.run_in_executor(None, snapshots.write, self._pinned.path, sequence, parts)
            except OSError as error:
                raise JournalUnavailable(
                    f"no snapshot could be written to {self._folder}: {error.strerror or error}; make room on its disk"
                ) from error
            await loop.run_in_executor(None, self._entries.covered_by(sequence))
        return sequence


def locked(inside: Path, folder: Path) -> int:
    """The descriptor that holds the folder's lock until it is closed, or the process ends in whatever way.

    inside: how its files are named; folder: how it is named. Raises JournalUnavailable where another process holds it.
    """
    try:
        return locks.hold(inside / "lock", 0.0)
    except BlockingIOError as error:
        raise JournalUnavailable(
            f"the journal in {folder} is open in another process; stop that one or name another folder"
        ) from error


def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
