"""A worker between a Redis stream of clicks and the service: reads clicks, asks, publishes what was decided.

It keeps nothing of its own: what is not finished is pending in the stream's consumer group, so a worker may be killed
at any moment, and as many may run as one likes. Needs Redis 7.

**In.** Each entry of the stream is a click: its JSON in the field `click`, or the click's fields as fields of the
entry, where one that is absent is null. Clicks are asked about in the stream's order, except those that are delivered
again; two workers of a group keep no order between them.

**Out.** One entry a click in the output stream: `click_id`, `answer` (the service's JSON) and `entry` (the id of the
entry it answers). An entry is published and acknowledged by one script, which does so only if the entry is still
pending: when two workers answer the same entry, because the slower one was taken for dead, the second publishes
nothing. So each entry is answered exactly once, as long as Redis keeps what it was told (see its persistence: a Redis
that restarts from an older state asks again, and the service answers a known click_id as before). All three
streams keep about the newest `keep` entries; of the clicks none goes that a group of the stream still has to answer. A
click that someone else trims before it is answered is lost, which is logged.

**What does not work.**

| | |
|---|---|
| no click: not JSON, a field wrong | to the dead letters with the reason, never sent to the service |
| the service refuses the click (400, 409, 413, 422) | the batch is sent one by one, and this one is a dead letter |
| the service fails at it (another status from 500) | the same, but left pending and delivered again |
| the answer is degraded, e.g. the counters are gone | left pending and delivered again; nobody judged or learned it |
| the worker dies | another claims its entries `claim_after` seconds after they were delivered |
| an entry was delivered `deliveries` times | a dead letter with the last reason |
| the service is down, not ready, or too busy | the worker keeps its batch, asks again with backoff, reads no more |
| Redis is down | the worker waits with backoff; it publishes the batch in its hands afterwards |
| the key is refused (401, 403), or the URL is wrong (404) | the worker ends with the error; its batch stays pending |

While all answers of a batch are degraded, the worker pauses with the same backoff, up to 30 s, before it takes another,
so that an outage of a part sends a trickle of clicks towards the dead letters and leaves the rest in the stream: a
click becomes one after `deliveries` times `claim_after`, by default 10 minutes. A service that is down counts for no
delivery while its workers wait, and a new worker reads nothing before the service is ready.

A dead letter has the fields `reason`, `deliveries`, `entry`, and the original fields (at most 1,000 of them) with
`field:` before their names; to answer it after all, add the original fields to the stream of clicks again.

**Stopping.** On SIGTERM or SIGINT the worker finishes its batch and leaves the group. If the service is down then, the
batch stays pending for another worker.

**Cluster.** The script touches all three streams, so that in Redis Cluster their names must share a hash tag, as the
default names do: `{onlineguard}:clicks`.
"""

import asyncio
import logging
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ReadOnlyError, ResponseError

from onlineguard.client import AsyncClient
from onlineguard.errors import InvalidArgument, ServiceError, ServiceUnavailable
from onlineguard.sentinels import connected_async
from onlineguard.slidr.clicks.clicks import Click, decode_click
from onlineguard.wire.answers import ClickAnswer
from onlineguard_service.redis.patient import FIRST_BACKOFF, LONGEST_BACKOFF, REDIS_GONE, what_passes

log = logging.getLogger("onlineguard.worker")

REFUSED = frozenset({400, 409, 413, 422})  # the click is wrong, and will be whenever it is sent
BLOCK = 250  # ms to wait for a click; a worker without any stops within that
REPORT_EVERY = 10.0  # seconds between two lines of progress
MOST_FIELDS = 1_000  # of a dead letter: a script's call takes no more than some thousand texts
GONE_AFTER = 3_600.0  # seconds that a consumer without entries was silent before it is taken off the group
_WORDS = {b"true": True, b"True": True, b"1": True, b"false": False, b"False": False, b"0": False}

# KEYS: clicks, output, dead letters. ARGV: group, most entries to keep; then for each entry its id, the number of the
# key it goes to, how many texts follow, and these. Published before acknowledged: an XADD that fails ends the script,
# and must not leave an entry that is neither pending nor answered.
_SETTLE = """
local at, settled = 3, {}
while at <= #ARGV do
  local id, to, n = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) == 1 then
    redis.call('XADD', KEYS[to], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, at + 3, at + 2 + n))
    redis.call('XACK', KEYS[1], ARGV[1], id)
    settled[#settled + 1] = id
  end
  at = at + 3 + n
end
return settled
"""

# Take a consumer off the group unless entries are pending for it, which would be lost with it.
_LEAVE = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
"""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker reads, asks and writes. Raises InvalidArgument for what cannot work."""

    redis: str = "redis://127.0.0.1:6379/0"
    url: str | None = None  # of the service; None: ONLINEGUARD_URL, else http://127.0.0.1:8080
    api_key: str | None = field(default=None, repr=False)  # with scope update; None: ONLINEGUARD_API_KEY, else none
    stream: str = "{onlineguard}:clicks"
    output: str = "{onlineguard}:decisions"
    dead: str = "{onlineguard}:dead"
    group: str = "onlineguard"
    consumer: str | None = None  # this worker's name in the group, no other's; None makes one up
    batch: int = 64  # most clicks in a request
    claim_after: float = 60.0  # seconds after which another's entry is taken over
    deliveries: int = 10  # how often an entry is tried
    keep: int = 1_000_000  # about how many entries each stream keeps
    timeout: float = 10.0  # seconds to wait for an answer of the service

    def __post_init__(self) -> None:
        for name in ("batch", "claim_after", "deliveries", "keep", "timeout"):
            if not getattr(self, name) > 0:
                raise InvalidArgument(name, f"is {getattr(self, name)}; it must be more than 0")
        if self.batch > 1_000:
            raise InvalidArgument("batch", f"is {self.batch}; it must be at most 1000, so that a script stays short")
        if len({self.stream, self.output, self.dead}) < 3:
            raise InvalidArgument(
                "stream",
                f"is {self.stream!r}, output {self.output!r} and dead {self.dead!r}; they must be three streams",
            )


@dataclass
class Progress:
    """What a worker did so far, in entries."""

    answered: int = 0  # published
    robotic: int = 0  # of those
    dead: int = 0
    later: int = 0  # left pending, to be delivered again
    claimed: int = 0  # taken over from another
    taken: int = 0  # settled by another worker before this one was done
    lost: int = 0  # trimmed from the stream before they were answered
    waits: int = 0  # pauses because the service or Redis was gone

    def __str__(self) -> str:
        return ", ".join(f"{counter.name} {getattr(self, counter.name)}" for counter in fields(self))


class Entry(NamedTuple):
    """One entry of the stream of clicks, and how often it was delivered."""

    id: bytes
    fields: Mapping[bytes, bytes]
    deliveries: int = 1


class Later(NamedTuple):
    """Why an entry was not answered now, though it may be."""

    reason: str


class Refusal(NamedTuple):
    """Why an entry will never be answered."""

    reason: str


Outcome = ClickAnswer | Later | Refusal


def run(settings: WorkerSettings) -> Progress:
    """Work until SIGTERM or SIGINT, and return what was done. Raises ServiceError if the key or the URL is wrong."""
    return asyncio.run(_until_signalled(settings))


async def _until_signalled(settings: WorkerSettings) -> Progress:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return await Worker(settings, stop).work()


class Worker:
    """One consumer of the group; `stop` ends it after the batch in its hands."""

    def __init__(self, settings: WorkerSettings, stop: asyncio.Event):
        self.settings, self.stop = settings, stop
        self.progress = Progress()
        self.name = settings.consumer or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._redis: Any = None  # until it is connected
        self._backoff = FIRST_BACKOFF
        self._cursor, self._next_claim = b"0-0", 0.0  # where in the pending entries to look for old ones, and when
        self._next_report = time.monotonic() + REPORT_EVERY

    async def work(self) -> Progress:
        """Until `stop` is set."""
        s = self.settings
        async with AsyncClient(s.url, api_key=s.api_key, timeout=s.timeout, retries=0, batch=s.batch) as self._service:
            log.info("worker %s: clicks of %s, asked at %s", self.name, s.stream, self._service.base_url)
            redis = await self._patiently(self._connect) if await self._ready() else None
            if redis is not None:
                self._redis = redis
                try:
                    while not self.stop.is_set():
                        await self._batch()
                    await self._patiently(lambda: self._leave(self.name))
                finally:
                    await redis.aclose()
        log.info("worker %s stopped: %s", self.name, self.progress)
        return self.progress

    async def _batch(self) -> None:
        """Take entries, have them answered, settle them."""
        entries = await self._patiently(self._take)
        if not entries:
            self._backoff = FIRST_BACKOFF
            return
        if (outcomes := await self._judge(entries)) is None:
            return
        await self._patiently(lambda: self._settle(entries, outcomes))
        if all(isinstance(outcome, Later) for outcome in outcomes):
            await self._pause(f"no click of a batch could be judged, {outcomes[0]}")
        else:
            self._backoff = FIRST_BACKOFF
        if time.monotonic() > self._next_report:
            log.info("worker %s: %s", self.name, self.progress)
            self._next_report = time.monotonic() + REPORT_EVERY

    # --- the service

    async def _ready(self) -> bool:
        """Once the service is ready, True; False if the worker was stopped before that."""
        while not await self._service.ready():
            await self._pause(f"the service at {self._service.base_url} is not ready")
            if self.stop.is_set():
                return False
        self._backoff = FIRST_BACKOFF
        return True

    async def _judge(self, entries: Sequence[Entry]) -> list[Outcome] | None:
        """What becomes of each entry; None if the worker was stopped while the service was away."""
        outcomes: dict[bytes, Outcome] = {}
        clicks: dict[bytes, Click] = {}
        for entry in entries:
            if entry.deliveries > self.settings.deliveries:
                outcomes[entry.id] = Later("no worker came to an end with it")
                continue
            try:
                clicks[entry.id] = click_of(entry.fields)
            except InvalidArgument as error:
                outcomes[entry.id] = Refusal(str(error))
        while clicks:
            try:
                outcomes |= zip(clicks, await self._ask(list(clicks.values())), strict=True)
                break
            except ServiceUnavailable as error:
                if self.stop.is_set():
                    return None
                await self._pause(f"the service is away: {error}")
        return [outcomes[entry.id] for entry in entries]

    async def _ask(self, clicks: Sequence[Click]) -> list[Outcome]:
        """The service's answers; if it refuses them together, one by one."""
        try:
            answers = await self._service.clicks(clicks)
            return [Later(f"degraded: {', '.join(a.degraded)}") if a.degraded else a for a in answers]
        except ServiceUnavailable:
            raise
        except ServiceError as error:
            if error.status not in REFUSED and (error.status is None or error.status < 500):
                raise  # the key or the URL is wrong, which is not the clicks' fault
            if len(clicks) == 1:
                return [Refusal(str(error)) if error.status in REFUSED else Later(str(error))]
        return [outcome for click in clicks for outcome in await self._ask([click])]

    # --- Redis

    async def _connect(self) -> Any:
        """A client of the Redis at the URL, which has the group and can be published to."""
        s = self.settings
        options: dict[str, Any] = {"protocol": 2, "socket_timeout": 10.0, "socket_connect_timeout": 5.0}
        redis: Any = connected_async(s.redis, **options)
        try:
            if (await redis.info("cluster")).get("cluster_enabled"):
                await redis.aclose()
                if len({key_slot(name.encode()) for name in (s.stream, s.output, s.dead)}) > 1:
                    raise InvalidArgument(
                        f"stream {s.stream!r}, output {s.output!r} and dead {s.dead!r} lie in several slots of the "
                        f"cluster; give them one hash tag, as in {{clicks}}:in and {{clicks}}:out"
                    )
                redis = RedisCluster.from_url(s.redis, **options, retry=Retry(NoBackoff(), 0))  # a second try is ours
            for name in (s.stream, s.output, s.dead):
                if (kind := await redis.type(name)) not in (b"stream", b"none"):
                    raise InvalidArgument(name, f"is a {kind.decode()} in Redis; name a stream, or no key yet")
            await self._make_group(redis)
        except BaseException:
            await redis.aclose()
            raise
        return redis

    async def _make_group(self, redis: Any) -> None:
        """The group, from the stream's first entry on, unless there is one."""
        try:
            await redis.xgroup_create(self.settings.stream, self.settings.group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _take(self) -> list[Entry]:
        """Entries of workers that died, else new ones, waited for a moment."""
        if time.monotonic() >= self._next_claim and (entries := await self._claim()):
            return entries
        s = self.settings
        read = await self._redis.xreadgroup(s.group, self.name, {s.stream: ">"}, count=s.batch, block=BLOCK)
        return [Entry(id, fields) for _, found in read or [] for id, fields in found]

    async def _claim(self) -> list[Entry]:
        """Entries that were delivered too long ago. The pending ones are gone through in parts, then again later."""
        s = self.settings
        self._cursor, found, *gone = await self._redis.xautoclaim(
            s.stream, s.group, self.name, int(s.claim_after * 1_000), self._cursor, count=s.batch
        )
        if self._cursor == b"0-0":
            self._next_claim = time.monotonic() + s.claim_after / 2 * random.uniform(0.5, 1.0)
            await self._forget_the_gone()
            await self._trim()
        if gone and gone[0]:
            self.progress.lost += len(gone[0])
            log.error("%d entries were trimmed from %s before they were answered", len(gone[0]), s.stream)
        entries: list[Entry] = []
        for id, original in found:
            pending = await self._redis.xpending_range(s.stream, s.group, id, id, 1, self.name)
            if pending:  # else another worker settled it between the two calls
                entries.append(Entry(id, original, pending[0]["times_delivered"]))
        self.progress.claimed += len(entries)
        return entries

    async def _settle(self, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        """Publish and acknowledge what is answered or dead; leave the rest pending."""
        s = self.settings
        arguments: list[bytes | str | int] = [s.group, s.keep]
        ends: dict[bytes, Outcome] = {}
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, Later) and entry.deliveries < s.deliveries:
                continue
            ends[entry.id] = outcome
            if isinstance(outcome, ClickAnswer):
                to = 2
                texts = ["click_id", outcome.click_id, "answer", msgspec.json.encode(outcome), "entry", entry.id]
            else:
                to = 3
                texts = ["reason", outcome.reason, "deliveries", entry.deliveries, "entry", entry.id]
                for name, value in islice(entry.fields.items(), MOST_FIELDS):
                    texts += [b"field:" + name, value]
                log.warning("dead letter: entry %s, delivered %d times: %s", entry.id, entry.deliveries, outcome.reason)
            arguments += [entry.id, to, len(texts), *texts]
        settled = await self._redis.eval(_SETTLE, 3, s.stream, s.output, s.dead, *arguments) if ends else []
        answers = [end for end in map(ends.__getitem__, settled) if isinstance(end, ClickAnswer)]
        self.progress.answered += len(answers)
        self.progress.robotic += sum(answer.decision == "robotic" for answer in answers)
        self.progress.dead += len(settled) - len(answers)
        self.progress.later += len(entries) - len(ends)
        self.progress.taken += len(ends) - len(settled)

    async def _forget_the_gone(self) -> None:
        """Workers that died leave their names in the group."""
        for consumer in await self._redis.xinfo_consumers(self.settings.stream, self.settings.group):
            if not consumer["pending"] and consumer["idle"] > 1_000 * max(GONE_AFTER, 10 * self.settings.claim_after):
                await self._leave(consumer["name"])

    async def _trim(self) -> None:
        """Drop the oldest clicks beyond `keep` that no group has to answer any more."""
        stream = self.settings.stream
        beyond = await self._redis.xlen(stream) - self.settings.keep
        if beyond <= 0:
            return
        needed: list[bytes] = []  # of each group the first entry that it may still ask for
        for group in await self._redis.xinfo_groups(stream):
            pending = await self._redis.xpending(stream, group["name"])
            needed.append(pending["min"] or group["last-delivered-id"])
        oldest = min(needed, key=lambda id: tuple(map(int, id.split(b"-"))))
        await self._redis.xtrim(stream, minid=oldest, approximate=True, limit=beyond)

    async def _leave(self, name: str | bytes) -> None:
        await self._redis.eval(_LEAVE, 1, self.settings.stream, self.settings.group, name)

    # --- patience

    async def _patiently[T](self, call: Callable[[], Awaitable[T]]) -> T | None:
        """What the call returns, tried again while Redis is away; None if the worker was stopped meanwhile."""
        while True:
            try:
                with what_passes():
                    return await call()
            except REDIS_GONE as error:
                if self.stop.is_set():
                    return None
                if isinstance(error, ReadOnlyError) and isinstance(self._redis, Redis):
                    await self._redis.connection_pool.disconnect()  # it is a replica now
                await self._pause(f"Redis is away: {error}")
            except ResponseError as error:
                if str(error).startswith("UNBLOCKED"):  # a failover while it waited for entries
                    continue
                if not str(error).startswith("NOGROUP"):
                    raise
                log.error("Redis lost the group %s of %s; made again", self.settings.group, self.settings.stream)
                await self._patiently(lambda: self._make_group(self._redis))

    async def _pause(self, reason: str) -> None:
        """Wait, longer each time, or until the worker is stopped."""
        self.progress.waits += 1
        seconds = self._backoff * random.uniform(0.5, 1.0)
        self._backoff = min(2 * self._backoff, LONGEST_BACKOFF)
        log.warning("%s; waiting %.1f s", reason, seconds)
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            pass


def click_of(entry: Mapping[bytes, bytes]) -> Click:
    """The click in the fields of an entry. Raises InvalidArgument with the field, its value and the rule."""
    if (body := entry.get(b"click")) is not None:
        return decode_click(body)
    try:
        values: dict[str, Any] = {name.decode(): value.decode() for name, value in entry.items()}
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"click is not text in UTF-8 ({error})") from error
    for name in ("ts", "purchase_ts", "rfm"):
        try:
            values[name] = msgspec.json.decode(values[name])
        except (KeyError, msgspec.DecodeError):
            pass  # absent, or refused below with its own text
    if "logged_in" in values:
        values["logged_in"] = _WORDS.get(entry[b"logged_in"], values["logged_in"])
    return decode_click(msgspec.json.encode(values))
