"""A partitioned log in Redis: one stream a partition. Needs Redis 7, alone or as a cluster.

Of a log named `clicks` that a group `guards` reads:

| key | holds |
|---|---|
| `{clicks}:partitions` | how many there are; given once, and checked from then on |
| `{clicks}:group:guards` | the members, and until when each counts as alive |
| `{clicks:3}:events` | the records of partition 3: `value`, `kind` (none: events), `key` |
| `{clicks:3}:group:guards` | who owns it, until when, by which token, and up to where outputs are published |
| `{clicks:3}:decisions`, `:alarms`, `:dead` | outputs: `partition`, `offset`, `number`, `key`, `value` |
| `{clicks:3}:writer:…` | how much of a writer is there, for a day after its last record |

**Offsets.** An entry's id is `<ms>-<number>`. Its offset is ms · 2²¹ + number, and its time is ms. Records that come by
a plain `XADD … *` are as good as those of a `RedisWriter`.

**Members and leases.** A member says that it is alive when `poll` or `publish` is called, about once a second. All
members divide the partitions by the same rule (`division`). Each gives up what is no longer its own and takes what is
free. A member that did not call for `lease` seconds counts as dead, so a lease must be longer than the longest pause
between two calls, e.g. for compiling. One that leaves hands over at once.

**Fencing.** A partition comes with a token, which is larger than all before. It is also at least the clock of Redis in
ms, so that a failover that forgets a token gives it to nobody else. `publish` is one script for each partition: it
checks owner and token, does nothing if `upto` was published before, and else adds the outputs and moves `published`. A
member that was taken for dead is refused whenever it wakes up.

**What goes wrong.** While Redis is away, `poll` finds nothing and `publish` waits, with backoff. The outputs of a
partition and how far they go are lost together or not at all. The log is as durable as Redis: with `appendfsync
everysec` a crash may take the last second, and a failover takes what was not replicated yet, unless `replicas` had to
have it first. A member compares how far outputs go with what it knows itself, about once a second and whenever it
publishes. Where Redis knows less, it lost something: the partition is lost as in `Turn.undone`, and taken anew.

**Memory.** Streams of outputs keep about their newest `keep` entries. Records stay until a writer's `keep_records`
drops them. It must be more than what comes between two snapshots and while no worker runs. Where the record that was
applied last is gone, others may be that were not applied, and RecordsGone is raised.
"""

import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from threading import Event
from typing import Any

from onlineguard.errors import InvalidArgument
from onlineguard_service.partitions.division import divided
from onlineguard_service.partitions.log import NOTHING, Done, Fenced, Owned, Read, Record, RecordsGone, Turn
from onlineguard_service.partitions.redis_names import checked, count, digits, id_of, key, key_of_all, offset_of
from onlineguard_service.redis.patient import REDIS_GONE, PatientRedis

BEAT_EVERY, TAKE_EVERY = 1.0, 0.2  # seconds between two beats; the same while a partition is waited for
IDLE = 0.01  # seconds between two looks at the streams of a cluster, whose Redises cannot be waited for together
LONGEST_WAIT = 5.0  # seconds for a record; well within the socket's timeout

_log = logging.getLogger(__name__)

_NOW = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)"

# KEYS members. ARGV member, lease in ms (0: it leaves). The members that are alive.
_BEAT = f"""{_NOW}
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""

# KEYS owner. ARGV member, lease. {token, published, the token before}, or {0} while another owns it.
_TAKE = f"""{_NOW}
local held = redis.call('HMGET', KEYS[1], 'member', 'until', 'token', 'published')
if held[1] and held[1] ~= ARGV[1] and tonumber(held[2]) > now then return {{0}} end
local token = math.max(now, 1 + (held[3] or 0))
redis.call('HSET', KEYS[1], 'member', ARGV[1], 'until', now + ARGV[2], 'token', string.format('%.0f', token))
return {{token, held[4] or '', held[3] or ''}}
"""

# KEYS owner. ARGV member, token, lease (0: gives it up), published as the member knows it. 2: outputs go less far than
# that, whoever owns it; else 1: it was this member's; 0: it was not.
_HOLD = f"""{_NOW}
local held = redis.call('HMGET', KEYS[1], 'member', 'token', 'published')
local is_less = (held[3] or '') < ARGV[4]
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return is_less and 2 or 0 end
redis.call('HSET', KEYS[1], 'until', now + ARGV[3])
return is_less and 2 or 1
"""

# KEYS owner, streams of outputs. ARGV member, token, lease, upto, entries to keep, published as the member knows it;
# then of each output the number of its stream's key, and partition, offset, number, key, value. What may fail comes
# before `published` moves. Returns as `_HOLD`.
_PUBLISH = f"""{_NOW}
local held = redis.call('HMGET', KEYS[1], 'member', 'token', 'published')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return 0 end
if held[3] and held[3] >= ARGV[4] then
  redis.call('HSET', KEYS[1], 'until', now + ARGV[3])
  return 1
end
if (held[3] or '') ~= ARGV[6] then return 2 end
for i = 7, #ARGV, 6 do
  redis.call('XADD', KEYS[tonumber(ARGV[i])], 'MAXLEN', '~', ARGV[5], '*', 'partition', ARGV[i + 1],
    'offset', ARGV[i + 2], 'number', ARGV[i + 3], 'key', ARGV[i + 4], 'value', ARGV[i + 5])
end
redis.call('HSET', KEYS[1], 'until', now + ARGV[3], 'published', ARGV[4])
return 1
"""

# KEYS records. ARGV id, count. Whether the entry is still there, and those after it; where neither is, the last id that
# the stream gave.
_READ = """
local is_there = #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
local last = '0-0'
if is_there + #entries == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  local about = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #about, 2 do if about[i] == 'last-generated-id' then last = about[i + 1] end end
end
return {is_there, entries, last}
"""


class RedisMember:
    """A `Member` of a log in Redis; see this module's docstring.

    url: of Redis, of a node of its cluster, or of Sentinels, see `redis.patient`.
    stream, group: names of the log and of the group that shares it.
    partitions: of the log, if it is new; must be as many as it has otherwise. None: those it has.
    lease: seconds without a call after which the member's partitions go to others.
    keep: about how many entries each stream of outputs keeps.
    topics: other names than "decisions", "alarms" and "dead" for the streams of outputs.
    skip_missing: go on without records that were dropped before they were applied, instead of raising RecordsGone.
    replicas: of Redis, that must have it before a partition counts as taken, or outputs as published.
    stop: `publish` no longer waits for Redis once this is set.

    Waits until Redis is there. Raises InvalidArgument where the log is another than the arguments say.
    """

    def __init__(
        self,
        url: str,
        stream: str = "onlineguard",
        group: str = "onlineguard",
        *,
        partitions: int | None = None,
        lease: float = 30.0,
        keep: int = 1_000_000,
        topics: Mapping[str, str] | None = None,
        skip_missing: bool = False,
        replicas: int = 0,
        stop: Event | None = None,
    ):
        for name, value in (("lease", lease), ("keep", keep)):
            if not value > 0:
                raise InvalidArgument(name, f"is {value}; it must be more than 0")
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._redis = PatientRedis(url, stop or Event(), longest=min(lease / 4, 5.0))
        self._stream, self._topics = stream, topics or {}
        self._owner, self._members = f"group:{group}", key_of_all(stream, f"group:{group}")
        self._lease, self._keep, self._skip_missing = int(lease * 1_000), keep, skip_missing
        self._replicas = checked(replicas)
        self._owned: dict[int, Owned] = {}
        self._published: dict[int, int] = {}
        self._places: dict[int, int] = {}  # the offset that was read last of each partition that is read
        self._paused: set[int] = set()
        self._gained: list[Owned] = []  # to be told
        self._lost: list[Owned] = []
        self._undone: list[Owned] = []
        self._next_beat, self._turn, self._closed = 0.0, 0, False
        self._partitions = self._redis.patiently(lambda: count(self._redis.client, stream, partitions))

    @property
    def partitions(self) -> int:
        """See `Member.partitions`."""
        return self._partitions

    def poll(self, seconds: float, most: int) -> Turn:
        """See `Member.poll`."""
        until = time.monotonic() + seconds
        read: list[Read] = []
        try:
            while not self._closed:
                self._beat()
                read = self._read(most)
                self._redis.is_there()
                if read or self._gained or self._lost or (left := until - time.monotonic()) <= 0:
                    break
                self._wait(max(min(left, self._next_beat - time.monotonic()), 0.001))
        except REDIS_GONE as error:
            self._redis.wait(error, max(until - time.monotonic(), 0.0))
        gained, lost, self._gained, self._lost = self._gained, self._lost, [], []
        undone, self._undone = self._undone, []
        both = {owned for owned in gained if owned in lost}  # that came and went while Redis was away
        gained, lost = ([each for each in some if each not in both] for some in (gained, lost))
        return Turn(gained, lost, read, undone)

    def seek(self, owned: Owned, after: int) -> None:
        """See `Member.seek`."""
        if self._owned.get(owned.partition) == owned:
            self._places[owned.partition] = after

    def pause(self, owned: Owned, paused: bool) -> None:
        """See `Member.pause`."""
        if paused and self._owned.get(owned.partition) == owned:
            self._paused.add(owned.partition)
        else:
            self._paused.discard(owned.partition)

    def give_up(self, owned: Owned) -> None:
        """See `Member.give_up`."""
        if self._owned.get(owned.partition) == owned:
            try:
                self._hold({owned.partition: 0})
            except REDIS_GONE as error:
                _log.warning("partition %d cannot be given up now: %s", owned.partition, error)

    def publish(self, done: Sequence[Done]) -> None:
        """See `Member.publish`."""
        new = [each for each in done if self._is_new(each)]
        calls = [self._published_by(each) for each in new]
        kept = self._redis.patiently(lambda: self._redis.run(_PUBLISH, calls, self._replicas)) if calls else []
        refused = {each.owned.partition: was for each, was in zip(new, kept, strict=True) if was != 1}
        self._published |= {each.owned.partition: each.upto for each in new}
        for partition, was in refused.items():
            self._lose(partition, undone=was == 2)
        if refused:
            raise Fenced(min(refused))
        if time.monotonic() >= self._next_beat:
            self._redis.patiently(self._beat)

    def end(self, partition: int) -> int:
        """See `Member.end`."""
        name = key(self._stream, partition)
        newest: Any = self._redis.patiently(lambda: self._redis.client.xrevrange(name, count=1))
        return offset_of(newest[0][0]) if newest else NOTHING

    def close(self) -> None:
        """See `Member.close`. Where Redis is away, its leases run out instead."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._owned:
                self._hold({partition: 0 for partition in self._owned})
            self._redis.run(_BEAT, [([self._members], [self.name, 0])])
        except REDIS_GONE as error:
            _log.warning("Redis is away: %s; others take over after %g s", error, self._lease / 1_000)
        self._owned.clear()
        self._redis.close()

    # --- who owns what

    def _beat(self) -> None:
        """Say that this member is alive, give up partitions and take some, if it is time to."""
        if time.monotonic() < self._next_beat:
            return
        (alive,) = self._redis.run(_BEAT, [([self._members], [self.name, self._lease])])
        names = divided(self._partitions, [name.decode() for name in alive])
        wanted = [partition for partition, name in enumerate(names) if name == self.name]
        if self._owned:
            self._hold({partition: self._lease if partition in wanted else 0 for partition in self._owned})
        if missing := [partition for partition in wanted if partition not in self._owned]:
            calls = [([key(self._stream, partition, self._owner)], [self.name, self._lease]) for partition in missing]
            taken = self._redis.run(_TAKE, calls, self._replicas)
            for partition, (token, *before) in zip(missing, taken, strict=True):
                if token:
                    published, follows = before
                    owned = Owned(partition, token, int(published or NOTHING), int(follows) if follows else None)
                    self._owned[partition], self._published[partition] = owned, owned.published
                    self._gained.append(owned)
        waiting = len(wanted) > len(self._owned)
        self._next_beat = time.monotonic() + min(TAKE_EVERY if waiting else BEAT_EVERY, self._lease / 4_000)

    def _hold(self, leases: Mapping[int, int]) -> None:
        """Renew the leases of partitions; those of 0 ms are given up. What another took meanwhile is lost."""
        calls = [
            (
                [key(self._stream, partition, self._owner)],
                [self.name, self._owned[partition].generation, lease, _known(self._published[partition])],
            )
            for partition, lease in leases.items()
        ]
        for (partition, lease), held in zip(leases.items(), self._redis.run(_HOLD, calls), strict=True):
            if held != 1 or not lease:
                self._lose(partition, undone=held == 2)

    def _lose(self, partition: int, undone: bool = False) -> None:
        owned = self._owned.pop(partition)
        self._lost.append(owned)
        if undone:
            self._undone.append(owned)
            _log.warning("Redis lost what was published last of partition %d: it is done anew", partition)
        self._places.pop(partition, None)
        self._paused.discard(partition)

    # --- records and outputs

    def _read(self, most: int) -> list[Read]:
        """Records that are there. Partitions take turns in being the first."""
        partitions = self._readable()
        if not partitions or most <= 0:
            return []
        self._turn += 1
        first = self._turn % len(partitions)
        partitions = partitions[first:] + partitions[:first]
        each = max(most // len(partitions), 1)
        calls = [([key(self._stream, partition)], [id_of(self._places[partition]), each]) for partition in partitions]
        read: list[Read] = []
        found = self._redis.run(_READ, calls)
        for partition, (is_there, entries, last) in zip(partitions, found, strict=True):  # before any counts as read
            if not is_there:
                self._check_gone(partition, bool(entries), offset_of(last))
        for partition, (_, entries, _) in zip(partitions, found, strict=True):
            if partition not in self._owned:  # Redis lost something of it
                continue
            records = [_record(*entry) for entry in entries[:most]]
            if records:
                most -= len(records)
                self._places[partition] = records[-1].offset
                read.append(Read(self._owned[partition], records))
        return read

    def _readable(self) -> list[int]:
        return sorted(self._places.keys() - self._paused)

    def _wait(self, seconds: float) -> None:
        """Until there may be a record of a partition that is read."""
        names = {key(self._stream, partition): id_of(self._places[partition]) for partition in self._readable()}
        if names and self._redis.alone:
            self._redis.client.xread(names, count=1, block=max(int(min(seconds, LONGEST_WAIT) * 1_000), 1))
        else:
            time.sleep(min(seconds, IDLE) if names else seconds)

    def _check_gone(self, partition: int, others: bool, last: int) -> None:
        """The record that was read last is gone, and so others may be that were not read.

        others: whether there are records after it; else `last` is the newest that ever was, as Redis knows it.
        """
        place = self._places[partition]
        if place <= NOTHING or not (others or last < place):
            return
        self._hold({partition: self._lease})
        if partition not in self._owned:
            return
        if not others:
            raise RecordsGone(
                f"stream {key(self._stream, partition)} ends before {id_of(place)}, the record that was applied last: "
                "Redis lost it, e.g. in a failover or a crash, and does not know what was published. Name another "
                "--snapshots folder and another group=... in the URL to begin anew"
            )
        if not self._skip_missing:
            raise RecordsGone(
                f"stream {key(self._stream, partition)} dropped {id_of(place)}, the record that was applied last, and "
                "maybe others after it. Let writers keep more (keep_records); to go on with what is there, add "
                "missing=skip to the URL"
            )

    def _is_new(self, done: Done) -> bool:
        """Whether there is something to publish. Raises Fenced where it is known to be another's."""
        partition = done.owned.partition
        if self._owned.get(partition) != done.owned:
            raise Fenced(partition)
        return done.upto > self._published[partition]

    def _published_by(self, done: Done) -> tuple[list[str], list[Any]]:
        """The keys and arguments of `_PUBLISH`."""
        (partition, generation, *_), upto, outputs = done
        names = sorted({output.to for output in outputs})
        streams = [key(self._stream, partition, self._topics.get(name, name)) for name in names]
        published = _known(self._published[partition])
        arguments: list[Any] = [self.name, generation, self._lease, digits(upto), self._keep, published]
        for offset, number, to, of, value in outputs:
            if offset > self._published[partition]:
                arguments += [names.index(to) + 2, partition, offset, number, of, value]
        return [key(self._stream, partition, self._owner), *streams], arguments


def _known(published: int) -> str:
    """How far outputs go, as the owner's hash has it."""
    return digits(published) if published > NOTHING else ""


def _record(id: bytes, pairs: Sequence[bytes]) -> Record:
    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
    kind = fields.get(b"kind", b"events").decode(errors="replace")
    return Record(offset_of(id), int(id.partition(b"-")[0]), fields.get(b"value", b""), kind)
