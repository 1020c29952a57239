"""Counters in Redis, shared by any number of machines; the numbers are those of `counters.ProcessStore`, bit for bit.

A single Redis takes a batch of clicks in one call of a script, which is atomic: batches of several machines are counted
in the order in which Redis sees them. The keys have the era of the stream's clock in their names, so the call says what
its machine thinks that the clock makes of the clicks. Where another machine has just set the clock, or a click is far
from its time, the script counts nothing and says what the clock makes of them, and the call is made again.

**Cluster.** Every key has a hash tag, `{<namespace>:<kind><group>}`, where the group is one of `GROUPS` by the hash of
the entity. With Redis Cluster a call is made for each group in a batch, so that no script touches keys of two slots, in
three round trips: the stream's clock (one call), the click ids, and the four kinds of entities and the ads. Each call
is atomic; a machine that dies between two calls leaves its clicks remembered and perhaps not counted, never counted
twice. Keys are the same with a single Redis.

**Keys and memory** (`<tag>:<era>:<16 bytes of the name's hash>`), as `MEMORY USAGE` counts them; a row takes more where
a count of it is above 255:

| key | holds | bytes |
|---|---|---|
| clock | newest time, run, era, number of batches; the only key that stays | 120 |
| id | hour in which a click id was first seen | 90 |
| user, session, prefix | 47 counts, head, pauses, sums | 170 to 310 |
| ip | 174 counts, the same, and since when it is kept | 350 to 860 |
| ad | 72 counts, sums, head | 190 to 410 |
| a user or session at an ip | its newest click there, and since when the ip is kept | 120 |

**Expiry.** A key expires `ttl_hours` of Redis's time after it was last written, and that of an ip, but not of its users
and sessions, `LONGER_HOURS` = 144 h later still. That only collects garbage: an entity not clicked for `KEEP_HOURS`
= 50 h of the stream's time reads like a new one anyway, and an ip after 194 h. It changes no number as long as clicks
are never handled more than `ttl_hours` - 50 h later than they happened, by default 46 h.

**A full Redis.** With `maxmemory` and the policy `volatile-lfu` the least used keys are dropped, and a flood of new
names pushes itself out. An entity whose key was dropped counts from zero, an ip with all its users and sessions; a user
or session at an ip whose key was dropped is counted there once more; a click whose id was dropped counts again if it is
sent again. The clock has no expiry, so it stays. With `noeviction` the script is refused, and so is the click. A policy
that begins with `allkeys` may drop the clock, and with it what it knows of wrong times: do not take one.

**Upgrades.** What the first version kept is read, and written anew when its entity is clicked. A service of that one
cannot read the clock any more: Redis refuses its clicks, and it answers them as if Redis were gone.

Needs Redis 6.2. Exact but for two names with the same hash, of 128 bits for entities and of 64 bits within one ip.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, UInt8

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.counting.counters import ClickKeys
from onlineguard.slidr.counting.redis_keys import KINDS, Key, KeyedClicks, Names
from onlineguard.slidr.counting.redis_scripts import CLICKS, CLOCK, ENTITIES, IDS, Script
from onlineguard.slidr.counting.windows import (
    COLUMNS,
    FIRST,
    HOUR_MS,
    KEEP_HOURS,
    LONGER_HOURS,
    OF_AD,
    OF_EACH,
    PRIOR_SPREAD,
)

BATCH = 256  # clicks in a call: Redis answers nobody else for the few milliseconds that it takes

_NEVER_SEEN = {"since": FIRST, "spread": PRIOR_SPREAD}
_UNKNOWN = np.array([_NEVER_SEEN.get(name.rpartition("_")[2], 0) for name in COLUMNS], np.int32)
_OF_IP = COLUMNS.index("ip_7d")  # where what only an ip has begins in `COLUMNS`
_READING = np.dtype([("time", "<f8"), ("counted", "u1"), ("era", "<u4")])  # what the clock makes of a click
_CLOCK = np.dtype([("now", "<f8"), ("run", "<i4"), ("era", "<u4"), ("serial", "<u4")])


class _Call(NamedTuple):
    script: Script
    keys: Sequence[bytes]
    arguments: Sequence[bytes | str | int]


_Steps = Generator[Sequence[_Call], list[Any], Int32[np.ndarray, "n 34"]]


class _Plan:
    """Which scripts are to be called for clicks, and what their answers mean; the stores call them."""

    def __init__(self, namespace: str, ttl_hours: int, cluster: bool):
        if not namespace or set(namespace) & set("{}"):
            raise InvalidArgument(f"namespace is {namespace!r}; it must be text without braces, e.g. 'clicks'")
        if ttl_hours <= KEEP_HOURS:
            raise InvalidArgument(f"ttl_hours is {ttl_hours}; it must be more than {KEEP_HOURS}, e.g. 96")
        self._namespace, self._cluster = namespace, cluster
        self._ttl, self._longer = ttl_hours * HOUR_MS, (ttl_hours + LONGER_HOURS) * HOUR_MS
        self._era, self._names = 0, Names(namespace, 0)  # of the newest batch
        self.clock = self._names.clock

    def counting(self, keys: ClickKeys) -> _Steps:
        """Count at most BATCH clicks: yields calls to be made, is sent their answers, and returns the counts."""
        return self._in_parts(keys) if self._cluster else self._at_once(keys)

    def user(self, user_id: str, clock: bytes) -> bytes:
        """The key of a user in the era that the clock, as it is kept, is in."""
        era = int(np.frombuffer(clock, _CLOCK)["era"][0])
        return self._named(era).kinds[KINDS.index("user")].of(user_id)

    def _named(self, era: int) -> Names:
        if era != self._era:
            self._era, self._names = era, Names(self._namespace, era)
        return self._names

    def _keyed(self, keys: ClickKeys, readings: bytes, era: int) -> KeyedClicks:
        """The clicks as the clock reads them, which is told as `redis_clock.lua` does it."""
        if not readings:
            return KeyedClicks(keys, keys.ts.tolist(), [self._named(era)] * len(keys.ts))
        read = np.frombuffer(readings, _READING)
        eras = read["era"].tolist()
        names = {its: self._named(its) for its in sorted(set(eras))}
        return KeyedClicks(keys, read["time"].astype(int).tolist(), [names[its] for its in eras])

    def _at_once(self, keys: ClickKeys) -> _Steps:
        """In one call, which is told what the clock is thought to make of the clicks; where it makes something else of
        them it answers that, and counts nothing."""
        readings, era, ts = b"", self._era, keys.ts.astype("<f8").tobytes()
        while True:
            keyed = self._keyed(keys, readings, era)
            names, clicks = keyed.packed(self.clock, *keyed.ids)
            (answer,) = yield [_Call(CLICKS, names, [ts, readings, era, clicks, self._ttl, self._longer])]
            if isinstance(answer, bytes):
                return np.frombuffer(answer, "<i4").reshape(-1, len(COLUMNS))
            readings, era = answer

    def _in_parts(self, keys: ClickKeys) -> _Steps:
        """In calls of which each stays in one hash slot."""
        ((readings, era, serial, hours),) = yield [_Call(CLOCK, [self.clock], [keys.ts.astype("<f8").tobytes()])]
        keyed = self._keyed(keys, readings, era)
        counted = yield from self._new(keyed.ids, np.frombuffer(hours, "<f8"))
        if readings:
            counted &= np.frombuffer(readings, _READING)["counted"]
        calls: list[_Call] = []
        places: list[tuple[list[int], str]] = []
        for number, kind in enumerate(KINDS):
            for which in _grouped(keyed.rows[number]):
                names, clicks = keyed.packed_of(number, which)
                arguments = [clicks, counted[which].tobytes(), serial, self._ttl, self._longer]
                calls.append(_Call(ENTITIES, names, arguments))
                places.append((which, kind))
        answers = yield calls
        counts = np.empty((len(keys.ts), len(COLUMNS)), np.int32)
        counts[:] = _UNKNOWN
        for (which, kind), answer in zip(places, answers, strict=True):
            numbers = np.frombuffer(answer, "<u4").reshape(len(which), -1)
            if kind == "ad":
                counts[which, -len(OF_AD) :] = numbers
                continue
            start = len(OF_EACH) * KINDS.index(kind)
            counts[which, start : start + len(OF_EACH)] = numbers[:, : len(OF_EACH)]
            if kind == "ip":
                counts[which, _OF_IP : -len(OF_AD)] = numbers[:, len(OF_EACH) :]
        return counts

    def _new(
        self, ids: Sequence[bytes], hours: Float64[np.ndarray, " n"]
    ) -> Generator[Sequence[_Call], list[Any], UInt8[np.ndarray, " n"]]:
        """1 for those of n clicks that are new, which are remembered, and 0 for duplicates."""
        groups = _grouped(ids)
        answers = yield [_Call(IDS, [ids[i] for i in which], [hours[which].tobytes(), self._ttl]) for which in groups]
        new = np.zeros(len(ids), np.uint8)
        for which, answer in zip(groups, answers, strict=True):
            new[which] = np.frombuffer(answer, np.uint8)
        return new


def _grouped(keys: Sequence[Key]) -> list[list[int]]:
    """Which of the keys are in one hash slot, for each slot; those that are None are in none."""
    groups: dict[bytes, list[int]] = {}
    for i, key in enumerate(keys):
        if key is not None:
            groups.setdefault(key[: key.index(b"}")], []).append(i)
    return list(groups.values())


class RedisStore:
    """A `Store` in Redis. Errors of the connection are those of `redis`; what was counted until then stays counted.

    client: a `redis.Redis`, or a `redis.RedisCluster`, without `decode_responses`.
    namespace: what the names of all keys begin with; one stream of clicks has one.
    ttl_hours: see this module's docstring.
    """

    def __init__(self, client: Any, namespace: str = "onlineguard", ttl_hours: int = 96):
        self._plan = _Plan(namespace, ttl_hours, cluster=hasattr(client, "nodes_manager"))
        if client.get_encoder().decode_responses:
            raise InvalidArgument("client has decode_responses=True; the counters are bytes, so it must be without")
        self._client = client

    def count(self, keys: ClickKeys) -> Int32[np.ndarray, "n 34"]:
        """See `Store.count`."""
        parts = [_driven(self._plan.counting(part), self._run) for part in _parts(keys)]
        return np.concatenate([np.empty((0, len(COLUMNS)), np.int32), *parts])

    def _run(self, calls: Sequence[_Call]) -> list[bytes]:
        """The answers to some calls that touch different keys; one round trip to each machine."""
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*_command(call))
        answers = pipeline.execute(raise_on_error=False)
        for i, call in _unknown(calls, answers):
            answers[i] = self._client.execute_command(*_command(call, whole=True))
        return answers


class AsyncRedisStore:
    """`RedisStore` for asyncio: awaits its answers, so that others get their turn meanwhile.

    execute: sends commands and gives their answers in order, errors of Redis in place of theirs.
    cluster: whether it sends each command to the node of a Redis Cluster that holds its first key, not to one Redis.
    """

    def __init__(
        self,
        execute: Callable[[Sequence[tuple[Any, ...]]], Awaitable[list[Any]]],
        namespace: str = "onlineguard",
        ttl_hours: int = 96,
        cluster: bool = False,
    ):
        self._plan = _Plan(namespace, ttl_hours, cluster)
        self._execute = execute

    async def count(self, keys: ClickKeys) -> Int32[np.ndarray, "n 34"]:
        """See `Store.count`. Raises what `execute` does, and the errors that it gives."""
        counts: list[np.ndarray] = []
        for part in _parts(keys):
            steps = self._plan.counting(part)
            answers: list[bytes] | None = None
            while True:
                try:
                    calls = next(steps) if answers is None else steps.send(answers)
                except StopIteration as stop:
                    counts.append(stop.value)
                    break
                answers = await self._run(calls) if calls else []
        return counts[0] if len(counts) == 1 else np.concatenate([np.empty((0, len(COLUMNS)), np.int32), *counts])

    async def erase(self, user_id: str) -> None:
        """Delete the counters of a user, who counts from zero if they come again. Raises as `count` does.

        What stays is a hash of 64 bits in the sets of ips that they clicked from, until those expire.
        """
        clock = await self._asked("GET", self._plan.clock)
        if clock is not None:
            await self._asked("DEL", self._plan.user(user_id, clock))

    async def _asked(self, *command: Any) -> Any:
        (answer,) = await self._execute([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _run(self, calls: Sequence[_Call]) -> list[bytes]:
        answers = await self._execute([_command(call) for call in calls])
        for i, call in _unknown(calls, answers):
            (answers[i],) = await self._execute([_command(call, whole=True)])
            if isinstance(answers[i], Exception):
                raise answers[i]
        return answers


def _parts(keys: ClickKeys) -> list[ClickKeys]:
    if 0 < len(keys.ts) <= BATCH:
        return [keys]
    return [keys.part(i, i + BATCH) for i in range(0, len(keys.ts), BATCH)]


def _driven[T](steps: Generator[Sequence[_Call], list[bytes], T], run: Callable[[Sequence[_Call]], list[bytes]]) -> T:
    """What the generator returns, once all that it yielded was answered by `run`."""
    try:
        calls = next(steps)
        while True:
            calls = steps.send(run(calls) if calls else [])
    except StopIteration as stop:
        return stop.value


def _command(call: _Call, whole: bool = False) -> tuple[Any, ...]:
    """The command that runs the script, by its hash, or by its whole text for a machine that has not seen it yet."""
    script = ("EVAL", call.script.text) if whole else ("EVALSHA", call.script.sha)
    return (*script, len(call.keys), *call.keys, *call.arguments)


def _unknown(calls: Sequence[_Call], answers: Sequence[Any]) -> list[tuple[int, _Call]]:
    """The calls whose script was not known, with their places; raises what any other met."""
    unknown: list[tuple[int, _Call]] = []
    for i, (call, answer) in enumerate(zip(calls, answers, strict=True)):
        if isinstance(answer, Exception):
            _check_unknown(answer)
            unknown.append((i, call))
    return unknown


def _check_unknown(error: Exception) -> None:
    if type(error).__name__ != "NoScriptError" and not str(error).startswith("NOSCRIPT"):  # redis-py's, or hiredis's
        raise error
