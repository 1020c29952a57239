"""A journal in Redis: a stream of entries, snapshots beside it, and a head that says who writes and where.

Its keys and scripts are in `redis_layout`.

**One writer.** Whoever opens the journal becomes its owner and begins an epoch, a number above all before (the time in
milliseconds); every reconnection begins another. An entry is taken only with the current epoch, and only right after
the entry that its writer saw as the newest; the script that writes it checks both. So a writer whose journal was
opened elsewhere is refused from then on, and so is what is still on its way from a connection that was given up.

**What goes wrong, and what then**

- The connection is lost, or nothing comes back within `PATIENCE` = 1 s: it is not known whether the entries under way
  were written. The journal connects anew and, in one step, raises the epoch and deletes those it had no answer for;
  then it writes them again, once. Where that does not succeed within `PATIENCE`, their commits raise
  JournalUnavailable, as do all that follow, at once, until Redis is back; nothing was applied. Only if the process
  ends before Redis is back can a refused entry be met again, by the replay of the next process: a client that sends it
  again must give the same id, as always.
- Redis comes back without entries that were applied (it restarted empty, or with an older file, or a replica took over
  that had not got them, or has others in their place): commits raise JournalUnavailable until `begin_snapshot` has put
  the state of this process there. `on_lost` is called once, so that the owner can do that at once; where it fails, it
  must be tried again while `lost` is true. A process that starts with such a Redis cannot know of it: it goes on from
  what is there, from nothing with an empty one. Where nothing was written since, the next snapshot finds it out, and
  puts the state there at once.
- A Redis that was the primary goes on unseen, e.g. cut off from its Sentinels: it takes entries of this process until
  it hears that it is a replica, while another process may write to the new primary. With `replicas` it takes none.
- Redis is out of memory (`maxmemory`): commits raise JournalUnavailable while it is. What the journal has does not
  expire, so that no policy that begins with `volatile` drops it.
- A newer format: CheckpointError.

**Durability.** "async": an answer means that Redis has the entry; what survives a crash of Redis is what its own
`appendfsync` keeps. "group" and "sync" are the same here, entries that come together share a write; they are refused
at the start unless Redis has `appendonly yes` and `appendfsync always`, with which it answers after its fsync.

With `replicas` an entry is answered once so many replicas have it in memory too. Too few of them: commits raise
JournalUnavailable until they are there again.

**Memory.** Some 140 bytes an entry and its own length, for all entries back to the older of two snapshots, and both.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.sentinels import connected, connected_async
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import snapshots
from onlineguard_service.journal.journal import Durability
from onlineguard_service.journal.redis_calls import Calls, Unclear
from onlineguard_service.journal.redis_layout import (
    APPEND,
    BEAT,
    MAKE_ANEW,
    OPEN,
    RESUME,
    SNAPSHOT,
    VERSION,
    Keys,
    pieces_of,
)
from onlineguard_service.tracing import span

PATIENCE = 1.0  # seconds until a commit is refused
BULK_TIMEOUT = 10.0  # seconds without an answer to a piece of a snapshot, or to what is read at the start
STAGED = 3600  # seconds after which Redis drops a snapshot that was never completed
ENTRY_BYTES = 140  # what an entry takes in Redis beside its own bytes, about
RECONNECT_EVERY = 0.2  # seconds
TOGETHER = 256  # entries, and
TOGETHER_BYTES = 1 << 20  # bytes, of one call; Redis answers nobody else meanwhile

_log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    entry: bytes
    apply: Callable[[int], Any]
    future: "asyncio.Future[Any]"
    since: float  # monotonic seconds


class RedisJournal:
    """A `Journal` in Redis; see this module's docstring. Opening it makes this process its writer.

    url: of one Redis, e.g. "redis://localhost:6379/0", of Sentinels (`onlineguard.sentinels`), or of a node that holds
        the hash slot of `{name}`.
    name: what its keys begin with; one service has one.
    on_lost: called in the event loop when Redis turns out to lack entries that were applied. May be set later.
    replicas: how many of Redis must have an entry before it is applied and answered.

    Raises JournalUnavailable where Redis cannot be reached, and CheckpointError where the format is newer.
    """

    def __init__(
        self,
        url: str,
        name: str = "onlineguard",
        durability: Durability = "async",
        on_lost: Callable[[], None] | None = None,
        replicas: int = 0,
    ):
        if not name or set(name) & set("{}"):
            raise InvalidArgument(f"name is {name!r}; it must be text without braces, e.g. 'clicks'")
        if durability not in ("async", "group", "sync"):
            raise InvalidArgument(f"durability is {durability!r}; it must be 'async', 'group' or 'sync'")
        self.on_lost = on_lost
        self._name = name
        self._keys = Keys.of(name)
        self._owner, self._beats = secrets.token_hex(8), 0
        options: dict[str, Any] = {"socket_connect_timeout": PATIENCE, "socket_timeout": BULK_TIMEOUT}
        self._reader = connected(url, **options, retry=Retry(NoBackoff(), 0))
        self._calls = Calls(url, replicas)
        self.seconds = self._calls.seconds  # of round trips
        self._bulk = connected_async(url, **options, retry=AsyncRetry(NoBackoff(), 0))  # no silent second try
        self._queue: list[_Waiting] = []
        self._under_way: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._refusal: str | None = None  # why nothing is taken now
        self._lost = self._closed = self._fenced = False
        self._snapshotting = asyncio.Lock()
        self._tasks: set[asyncio.Task[int]] = set()
        self._told: str | None = None  # the last reason of a refusal that was logged
        try:
            if durability != "async":
                self._require_fsync(durability)
            self._open()
        except redis.RedisError as error:
            self._reader.close()
            why = str(error).rstrip(".")
            raise JournalUnavailable(
                f"the journal {name!r} in Redis cannot be opened: {why}; start that Redis or name another"
            ) from error
        except BaseException:
            self._reader.close()
            raise

    async def commit[T](self, entry: bytes, apply: Callable[[int], T]) -> T:
        """See `Journal.commit`."""
        if self._refusal is not None:
            raise JournalUnavailable(f"the journal {self._name!r} in Redis takes no entries: {self._refusal}")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(entry, apply, future, time.monotonic()))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        self._wake.set()
        with span("journal.write"):  # the guard's span lies within it
            return await future

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """See `Journal.replay`."""
        expected, start = after + 1, "-"
        while True:
            chunk: Any = self._reader.xrange(self._keys.entries, min=start, count=1000)
            for place, fields in chunk:
                sequence = int(place.decode().partition("-")[2])
                if sequence > self.sequence or sequence < expected:
                    continue
                if sequence != expected:
                    raise self._missing(expected, sequence - 1)
                yield sequence, fields[b"e"]
                expected += 1
            if not chunk:
                break
            start = f"({chunk[-1][0].decode()}"
        if expected <= self.sequence:
            raise self._missing(expected, self.sequence)

    def newest_snapshot(self) -> tuple[int, dict[str, bytes]] | None:
        """See `Journal.newest_snapshot`; entries that are missing are found by `replay`."""
        for number in sorted(self._snapshots, reverse=True):
            key = self._keys.snapshot(number)
            try:
                return snapshots.whole(pieces_of(self._reader, key), f"{key} in Redis")
            except snapshots.DamagedSnapshot as error:
                _log.warning("%s; taking the one before", error)
                del self._snapshots[number]
                self._damaged.append(number)
        return None

    def begin_snapshot(self, parts: Mapping[str, bytes | memoryview]) -> Awaitable[int]:
        """See `Journal.begin_snapshot`. After Redis has lost entries, commits are taken again once this is done."""
        task = asyncio.get_running_loop().create_task(self._snapshot(self.sequence, self._id, parts))
        self._tasks.add(task)  # the loop itself keeps no reference
        task.add_done_callback(self._tasks.discard)
        return task

    async def beat(self) -> None:
        """See `Journal.beat`."""
        if self._closed:
            return
        self._beats += 1
        with suppress(redis.RedisError, OSError):  # a standby that reaches Redis does not, then, either
            await self._show(f"{self._owner} {self._beats}")

    async def forget_covered(self) -> None:
        """See `Journal.forget_covered`: Redis marks entries as deleted while others of their node are there."""
        try:
            newest = self._snapshots[self.oldest]
            answer: Any = await self._bulk.eval(MAKE_ANEW, 2, *self._keys[:2], self._owner, newest)  # type: ignore[misc]
        except (redis.RedisError, OSError) as error:
            raise JournalUnavailable(
                f"entries of the journal {self._name!r} could not be forgotten: {error}"
            ) from error
        if answer != b"yes":
            raise JournalUnavailable(f"another process writes the journal {self._name!r} now; stop one of the two")

    def lacks(self, sequence: int, newest: str) -> None:
        """This process has applied entries up to that one, of that id, which Redis lost: it takes none until
        `begin_snapshot` has put the state there."""
        self.sequence, self._id = sequence, newest
        self._refusal = self._found_lost()

    @property
    def newest(self) -> str:
        """The id of the newest entry, `<epoch>-<sequence>`; 0-0 without one."""
        return self._id

    @property
    def oldest(self) -> int:
        """See `Journal.oldest`."""
        return min(self._snapshots) if len(self._snapshots) > 1 else 0

    @property
    def refusal(self) -> str | None:
        """Why nothing is taken now; None where entries are."""
        return self._refusal

    @property
    def lag(self) -> float:
        """See `Journal.lag`."""
        waiting = self._under_way or self._queue
        return time.monotonic() - waiting[0].since if waiting else 0.0

    @property
    def waiting(self) -> int:
        """See `Journal.waiting`."""
        return len(self._under_way) + len(self._queue)

    @property
    def trouble(self) -> str | None:
        """See `Journal.trouble`: nothing is slow, since after `PATIENCE` all is refused."""
        return None

    @property
    def size(self) -> int:
        """See `Journal.size`: bytes of memory in Redis, as estimated at the start, of entries added since, less what
        snapshots let go."""
        return self._size

    @property
    def failures(self) -> int:
        """Round trips that failed."""
        return self._calls.failures

    @property
    def lost(self) -> bool:
        """Whether Redis lacks entries that were applied, and a snapshot of this process is waited for."""
        return self._lost

    @property
    def fenced(self) -> bool:
        """Whether this process was told that another one writes the journal now."""
        return self._fenced

    async def close(self) -> None:
        """See `Journal.close`; a second call does nothing."""
        if self._closed:
            return
        await asyncio.gather(*self._tasks, return_exceptions=True)
        waiting = [waiting.future for waiting in (*self._under_way, *self._queue)]
        await asyncio.gather(*waiting, return_exceptions=True)
        self._closed, self._refusal = True, "it is closed"
        if self._writer is not None:
            self._writer.cancel()
            with suppress(asyncio.CancelledError):
                await self._writer
        with suppress(redis.RedisError, OSError):
            await self._show("")
        await self._calls.close()
        await self._bulk.aclose()
        self._reader.close()

    def _open(self) -> None:
        answer: Any = self._reader.eval(OPEN, 3, *self._keys[:3], VERSION, self._owner)
        if answer[0] < 0:
            raise CheckpointError(
                f"the journal {self._name!r} in Redis has format {answer[1]} and this version of onlineguard reads up "
                f"to {VERSION}; upgrade it"
            )
        self._epoch, self.sequence, self._id = int(answer[0]), int(answer[1]), answer[2].decode()
        self.epoch_before = int(answer[3])  # in which Redis was when this process opened it
        held: Any = self._reader.hgetall(self._keys.snapshots)
        self._snapshots = {int(n): held[n].decode() for n in held}  # sequence number: id of its newest entry
        self._damaged: list[int] = []
        self._size = int(self._reader.memory_usage(self._keys.entries) or 0)  # type: ignore[arg-type]

    async def _show(self, beat: str) -> None:
        await self._bulk.eval(BEAT, 2, self._keys.head, self._keys.beat, self._owner, beat)  # type: ignore[misc]

    def _require_fsync(self, durability: str) -> None:
        try:
            config: Any = self._reader.config_get("append*")
        except redis.ResponseError:
            config = {}
        if (config.get("appendonly"), config.get("appendfsync")) != ("yes", "always"):
            raise InvalidArgument(
                f"durability is {durability!r}, for which Redis must have `appendonly yes` and `appendfsync always`, "
                f"and it does not, or does not tell; set them, or take 'async'"
            )

    async def _write(self) -> None:
        """Write what is queued, as much as fits at a time; the only place where entries are sent and applied."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                self._under_way = self._taken()
                try:
                    await self._append_until(self._under_way[0].since + PATIENCE)
                except redis.ResponseError as error:  # e.g. out of memory: nothing was written
                    self._fail(f"Redis answers: {error}")
                    continue
                except Unclear as error:
                    self._refusal = str(error)
                    self._fail(self._refusal)
                    await self._return()
                    continue
                self._apply()

    def _taken(self) -> list[_Waiting]:
        size = count = 0
        for waiting in self._queue[:TOGETHER]:
            size += len(waiting.entry)
            if count and size > TOGETHER_BYTES:
                break
            count += 1
        taken, self._queue = self._queue[:count], self._queue[count:]
        return taken

    async def _append_until(self, deadline: float) -> None:
        """Write the entries under way; where that is not answered, connect anew and write them once more."""
        try:
            await self._append(deadline)
        except Unclear as error:
            _log.warning("the journal %r in Redis: %s; connecting anew", self._name, error)
            await self._resume(deadline)
            await self._append(deadline)

    async def _append(self, deadline: float) -> None:
        entries = [waiting.entry for waiting in self._under_way]
        answer = await self._calls.run(APPEND, deadline, self._keys[:3], self._epoch, self.sequence, *entries)
        if answer != b"yes":
            raise Unclear("its newest entry is not the one written last")

    async def _resume(self, deadline: float) -> None:
        """Begin the next epoch at the newest entry that was applied. Raises Unclear where that is not possible."""
        await self._calls.disconnect()
        with suppress(redis.RedisError, OSError):
            await self._bulk.connection_pool.disconnect(inuse_connections=False)  # that Redis may be a replica now
        self._epoch += 1  # with every attempt, so that one that arrives late does nothing
        answer = await self._calls.run(
            RESUME, deadline, self._keys[:3], self._owner, self._epoch, self.sequence, self._id
        )
        if answer == b"yours":
            return
        if answer == b"fenced":
            self._fenced = True
            raise Unclear("another process has opened the journal and writes it now; stop one of the two")
        if answer == b"late":
            raise Unclear("Redis answers out of order")
        raise Unclear(self._found_lost())

    def _found_lost(self) -> str:
        """Redis lacks entries that were applied: tell the owner, once; the reason for refusals."""
        if not self._lost:
            self._lost = True
            if self.on_lost is not None:
                asyncio.get_running_loop().call_soon(self.on_lost)
        return f"Redis lacks entries up to {self.sequence}, which were applied; a snapshot must be written"

    async def _return(self) -> None:
        """Wait until Redis is back, holds what was applied, and lets this process write."""
        while self._refusal is not None:
            try:
                if not self._lost and not self._fenced:
                    await self._resume(time.monotonic() + PATIENCE)
                    self._refusal = None
                    _log.warning("the journal %r in Redis takes entries again", self._name)
                    return
            except (Unclear, redis.ResponseError) as error:
                self._refusal = str(error)
            await asyncio.sleep(RECONNECT_EVERY)

    def _apply(self) -> None:
        done, self._under_way, self._told = self._under_way, [], None
        for waiting in done:
            self.sequence += 1
            self._id = f"{self._epoch}-{self.sequence}"
            self._size += len(waiting.entry) + ENTRY_BYTES
            try:
                result = waiting.apply(self.sequence)
            except Exception as error:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            else:
                if not waiting.future.done():
                    waiting.future.set_result(result)

    def _fail(self, reason: str) -> None:
        """Refuse what is under way and what is queued."""
        refused = [*self._under_way, *self._queue]
        self._under_way, self._queue = [], []
        error = JournalUnavailable(f"the journal {self._name!r} in Redis takes no entries: {reason}")
        if reason != self._told:  # not for each of a thousand a second
            _log.error("%s", error)
            self._told = reason
        for waiting in refused:
            if not waiting.future.done():
                waiting.future.set_exception(error)

    async def _snapshot(self, sequence: int, newest: str, parts: Mapping[str, bytes | memoryview]) -> int:
        async with self._snapshotting:
            staged = f"{self._keys.snapshot(sequence)}:{secrets.token_hex(8)}"
            with suppress(redis.RedisError, OSError):  # a new connection: the last one may be of a Redis that is gone
                await self._bulk.connection_pool.disconnect()
            try:
                answer = await self._stage_and_place(staged, sequence, newest, parts)
            except (redis.RedisError, OSError) as error:
                raise JournalUnavailable(
                    f"no snapshot could be written to the journal {self._name!r} in Redis: {error}"
                ) from error
            if not answer:
                raise JournalUnavailable(
                    f"no snapshot could be written to the journal {self._name!r} in Redis: it lost entries "
                    f"or pieces of it meanwhile, or another process writes it now"
                )
        return sequence

    async def _stage_and_place(
        self, staged: str, sequence: int, newest: str, parts: Mapping[str, bytes | memoryview]
    ) -> bool:
        """Send the pieces to a key of their own, then put it into its place together with all that follows from it."""
        loop = asyncio.get_running_loop()
        pieces = snapshots.pieces(sequence, parts)
        count = 0
        while (piece := await loop.run_in_executor(None, next, pieces, None)) is not None:  # hashing takes a moment
            await self._bulk.hset(staged, str(count), piece)  # type: ignore[arg-type]
            await self._bulk.expire(staged, STAGED)
            count += 1
        lost = self._lost
        if lost and sequence != self.sequence:
            return False
        epoch: int | str = ""
        if lost:
            self._epoch += 1
            epoch = self._epoch
        numbers = sorted({*self._snapshots, sequence}, reverse=True)
        kept = [sequence] if lost else numbers[:2]
        dropped = [number for number in (*numbers, *self._damaged) if number not in kept]
        ids = self._snapshots | {sequence: newest}
        keys = [*self._keys[:3], staged, self._keys.snapshot(sequence), *map(self._keys.snapshot, dropped)]
        first = ids[kept[1]] if len(kept) == 2 else ""
        answer: Any = await self._bulk.eval(  # type: ignore[misc]
            SNAPSHOT, len(keys), *keys, self._owner, sequence, newest, first, epoch, VERSION, count, *dropped
        )
        if answer == b"lost" and not self._fenced:  # which nobody has known: nothing was committed since
            self._refusal = self._found_lost()
            return await self._stage_and_place(staged, sequence, newest, parts)
        if answer != b"yes":
            return False
        self._snapshots, self._damaged = {number: ids[number] for number in kept}, []
        if lost:
            self._lost, self._refusal = False, None
            _log.warning("the journal %r in Redis has the state of this process and takes entries again", self._name)
        self._size = int(await self._bulk.memory_usage(self._keys.entries) or 0)
        return True

    def _missing(self, first: int, last: int) -> CheckpointError:
        return CheckpointError(
            f"the journal {self._name!r} in Redis lacks entries {first} to {last}, and no whole snapshot covers them; "
            f"restore Redis from a backup, or delete its keys to start anew"
        )
