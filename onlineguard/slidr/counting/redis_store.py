"""Counters in Redis, shared by any number of machines; the numbers are those of `counters.ProcessStore`, bit for bit.

A single Redis takes a batch of clicks in one call of a script, which is atomic: batches of several machines are counted
in the order in which Redis sees them.

**Cluster.** Every key has a hash tag, `{<namespace>:<kind><group>}`, where the group is one of `GROUPS` by the hash of
the entity. With Redis Cluster a call is made for each group in a batch, so that no script touches keys of two slots, in
three round trips: the stream's clock (one call), the click ids, and the four kinds of entities and the ads. Each call
is atomic; a machine that dies between two calls leaves its clicks remembered and perhaps not counted, never counted
twice. Keys are the same with a single Redis.

**Keys and memory** (`<tag>:<era>:<16 bytes of the name's hash>`), as `MEMORY USAGE` counts them:

| key | holds | bytes |
|---|---|---|
| clock | newest time, run, era; the only key that stays | 100 |
| id | hour in which a click id was first seen | 90 |
| user, session, prefix | 54 counts, head, pauses | 410 |
| ip | the same and 48 peaks | 600 |
| ad | 72 counts, head, sums | 410 |
| its users, its sessions | sorted sets of at most 256 hashes of 8 bytes, by newest click | 100 to 35,000 |

**Expiry.** A key expires `ttl_hours` of Redis's time after it was last written, and that of an ip, but not of its users
and sessions, `LONGER_HOURS` = 144 h later still. That only collects garbage: an entity not clicked for `KEEP_HOURS`
= 50 h of the stream's time reads like a new one anyway, and an ip after 194 h. It changes no number as long as clicks
are never handled more than `ttl_hours` - 50 h later than they happened, by default 46 h.

**A full Redis.** With `maxmemory` and the policy `volatile-lfu` the least used keys are dropped, and a flood of new
names pushes itself out. An entity whose key was dropped counts from zero; an ip whose sets of users and sessions were
dropped counts these from zero and keeps its largest hours; a click whose id was dropped counts again if it is sent
again. The clock has no expiry, so it stays. With `noeviction` the script is refused, and so is the click. A policy that
begins with `allkeys` may drop the clock, and with it what it knows of wrong times: do not take one.

Needs Redis 6.2. Exact but for two names with the same hash, of 128 bits for entities and of 64 bits within one ip.
"""

import hashlib
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.clicks import prefix
from onlineguard.slidr.counting.counter_step import MOVED_ON
from onlineguard.slidr.counting.counters import ClickKeys
from onlineguard.slidr.counting.windows import (
    AHEAD_MS,
    BEHIND_MS,
    BUCKET_MS,
    CAP,
    COLUMNS,
    DUPLICATE_HOURS,
    ENTITIES,
    FIRST,
    HOUR_MS,
    KEEP_HOURS,
    LASTING,
    LONGER_HOURS,
    OCTAVE,
    OF_AD,
    OF_EACH,
    PAUSE_MS,
    PAUSES,
    PRIOR_PAUSES,
    PRIOR_SPREAD,
    STEP_MS,
)

GROUPS = 64  # a batch of 64 clicks takes at most that many calls a kind under Cluster; enough for ten nodes
BATCH = 256  # clicks in a call: Redis answers nobody else for the few milliseconds that it takes

_EVENT = np.dtype([("entity", "<u4"), ("time", "<u4"), ("ms", "<u2"), ("counted", "u1")])
_NEVER_SEEN = {"since": FIRST, "spread": PRIOR_SPREAD}
_UNKNOWN = np.array([_NEVER_SEEN.get(name.rpartition("_")[2], 0) for name in COLUMNS], np.int32)
_HOUR = HOUR_MS // BUCKET_MS
_EACH, _WEEKS = len(OF_EACH), len(OF_EACH) * len(ENTITIES)  # where the weeks begin in `COLUMNS`
_PAUSING = (PAUSE_MS, PAUSES, OCTAVE, PRIOR_PAUSES, PRIOR_SPREAD)
_IP_EVENT = np.dtype([*_EVENT.descr, ("has_user", "u1"), ("user", "S8"), ("has_session", "u1"), ("session", "S8")])
_AD_EVENT = np.dtype([("ad", "<u4"), ("hour", "<u4"), ("counted", "u1"), ("signed", "u1"), ("unknown", "u1")])
_NOBODY = bytes(16)


class _Script(NamedTuple):
    text: str
    sha: str

    @staticmethod
    def of(text: str) -> "_Script":
        return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_TEXTS = {
    name: files("onlineguard.slidr.counting").joinpath(f"redis_{name}.lua").read_text("utf-8")
    for name in ("clock", "ids", "entities", "ads", "clicks")
}
_PARTS = ("clock", "ids", "entities", "ads")
_CLOCK, _IDS, _ENTITIES, _ADS = (_Script.of(_TEXTS[name]) for name in _PARTS)
_CLICKS = _Script.of(
    "".join(f"local function {name}(KEYS, ARGV)\n{_TEXTS[name]}end\n" for name in _PARTS) + _TEXTS["clicks"]
)


class _Call(NamedTuple):
    script: _Script
    keys: Sequence[bytes]
    arguments: Sequence[bytes | int]


class _Plan:
    """Which scripts are to be called for clicks, and what their answers mean; the stores call them."""

    def __init__(self, namespace: str, ttl_hours: int, cluster: bool):
        if not namespace or set(namespace) & set("{}"):
            raise InvalidArgument(f"namespace is {namespace!r}; it must be text without braces, e.g. 'clicks'")
        if ttl_hours <= KEEP_HOURS:
            raise InvalidArgument(f"ttl_hours is {ttl_hours}; it must be more than {KEEP_HOURS}, e.g. 96")
        self._namespace = namespace
        self._ttl, self._longer = ttl_hours * HOUR_MS, (ttl_hours + LONGER_HOURS) * HOUR_MS
        self._cluster = cluster
        self.clock = self._key("clock", 0, b"")
        self._constants = [
            *(f"{{{namespace}:".encode(), GROUPS, AHEAD_MS, BEHIND_MS, STEP_MS, HOUR_MS, DUPLICATE_HOURS),
            *(BUCKET_MS, MOVED_ON, self._ttl, self._longer, FIRST, CAP, *_PAUSING),
        ]

    def counting(self, keys: ClickKeys) -> Generator[Sequence[_Call], list[bytes], Int32[np.ndarray, "n 34"]]:
        """Count at most BATCH clicks: yields calls to be made, is sent their answers, and returns the counts."""
        if not self._cluster:
            return (yield from self._counting_at_once(keys))
        packed = keys.ts.astype("<f8").tobytes()
        (answer,) = yield [_Call(_CLOCK, [self.clock], [packed, AHEAD_MS, BEHIND_MS, STEP_MS])]
        times, in_time, now, eras = np.frombuffer(answer, "<f8").reshape(-1, 4).T.astype(np.int64)
        seen = yield from self._seen(keys.click_ids, now // HOUR_MS, eras)
        counted = in_time.astype(bool) & ~seen

        events = np.zeros(len(keys.ts), _IP_EVENT)
        events["time"] = times // BUCKET_MS + MOVED_ON
        events["ms"] = times % BUCKET_MS
        for name, members in (("user", keys.users), ("session", keys.sessions)):
            events[f"has_{name}"] = [member is not None for member in members]
            events[name] = [b"" if member is None else _digest(member)[:8] for member in members]
        names = {"user": keys.users, "session": keys.sessions, "ip": keys.ips, "prefix": list(map(prefix, keys.ips))}
        counts = np.empty((len(events), len(COLUMNS)), np.int32)
        counts[:] = _UNKNOWN

        calls: list[_Call] = []
        places: list[tuple[np.ndarray, str]] = []
        for kind in ENTITIES:
            for rows, called in self._grouped(kind, names[kind], eras):
                entities, which = _numbered(called)
                mine = events[rows]
                mine["entity"], mine["counted"] = which, counted[rows]
                if kind == "ip":
                    entities = [key + part for key in entities for part in (b"", b":u", b":s")]
                else:
                    mine = mine[list(_EVENT.names or ())].astype(_EVENT)
                ttl = self._longer if kind in LASTING else self._ttl
                arguments = [mine.tobytes(), ttl, int(kind == "ip"), FIRST, CAP, *_PAUSING, self._ttl]
                calls.append(_Call(_ENTITIES, entities, arguments))
                places.append((rows, kind))
        visits = np.zeros(len(events), _AD_EVENT)
        visits["hour"], visits["counted"], visits["signed"] = events["time"] // _HOUR, counted, keys.signed_in
        visits["unknown"] = events["has_user"] == 0
        for rows, called in self._grouped("ad", keys.ads, eras):
            entities, which = _numbered(called)
            mine = visits[rows]
            mine["ad"] = which
            calls.append(_Call(_ADS, entities, [mine.tobytes(), self._ttl]))
            places.append((rows, "ad"))
        answers = yield calls
        for (rows, kind), answer in zip(places, answers, strict=True):
            numbers = np.frombuffer(answer, "<u4").reshape(len(rows), -1)
            if kind == "ad":
                counts[rows, -len(OF_AD) :] = numbers
                continue
            start = _EACH * ENTITIES.index(kind)
            counts[rows, start : start + _EACH] = numbers[:, :_EACH]
            if kind in LASTING:
                counts[rows, _WEEKS + LASTING.index(kind)] = numbers[:, _EACH]
            if kind == "ip":
                counts[rows, _WEEKS + len(LASTING) : -len(OF_AD)] = numbers[:, _EACH + 1 :]
        return counts

    def user(self, user_id: str, clock: bytes) -> bytes:
        """The key of a user in the era that the clock, as it is kept, is in."""
        era = int(np.frombuffer(clock, "<f8")[2])
        return self._key("user", era, _digest(user_id))

    def _counting_at_once(self, keys: ClickKeys) -> Generator[Sequence[_Call], list[bytes], Int32[np.ndarray, "n 34"]]:
        """`counting` in one call."""
        members: list[bytes] = []
        for click_id, user, session, ip, ad, signed_in in zip(keys.click_ids, *keys[2:], strict=True):
            for name in (click_id, user, session, ip, prefix(ip), ad):
                members.append(_NOBODY if name is None else _digest(name))
            members.append(bytes((user is not None, session is not None, signed_in)))
        arguments = [keys.ts.astype("<f8").tobytes(), b"".join(members), *self._constants]
        (answer,) = yield [_Call(_CLICKS, [self.clock], arguments)]
        return np.frombuffer(answer, "<i4").reshape(-1, len(COLUMNS))

    def _seen(
        self, ids: Sequence[str], hours: Int64[np.ndarray, " n"], eras: Int64[np.ndarray, " n"]
    ) -> Generator[Sequence[_Call], list[bytes], Bool[np.ndarray, " n"]]:
        """Which of n clicks are duplicates; the others are remembered."""
        groups = list(self._grouped("id", ids, eras))
        calls = [
            _Call(_IDS, keys, [hours[rows].astype("<f8").tobytes(), DUPLICATE_HOURS, self._ttl])
            for rows, keys in groups
        ]
        duplicates = np.zeros(len(ids), bool)
        answers = yield calls
        for (rows, _), answer in zip(groups, answers, strict=True):
            duplicates[rows] = np.frombuffer(answer, "u1") == ord("1")
        return duplicates

    def _grouped(
        self, kind: str, names: Sequence[str | None], eras: Int64[np.ndarray, " n"]
    ) -> Iterable[tuple[np.ndarray, list[bytes]]]:
        """The rows of one call, and their keys: all of them, or under Cluster those of one hash slot."""
        rows = [i for i, name in enumerate(names) if name is not None]
        digests = {i: _digest(names[i] or "") for i in rows}
        keys = {i: self._key(kind, int(eras[i]), digests[i]) for i in rows}
        groups: dict[int, list[int]] = {}
        for i in rows:
            groups.setdefault(_group(digests[i]) if self._cluster else 0, []).append(i)
        for members in groups.values():
            yield np.array(members), [keys[i] for i in members]

    def _key(self, kind: str, era: int, digest: bytes) -> bytes:
        return f"{{{self._namespace}:{kind}{_group(digest)}}}:{era}:".encode() + digest


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


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _group(digest: bytes) -> int:
    return int.from_bytes(digest[:2]) % GROUPS


def _numbered(keys: Sequence[bytes]) -> tuple[list[bytes], list[int]]:
    """The different keys, in order of appearance, and the number of each."""
    numbers: dict[bytes, int] = {}
    which = [numbers.setdefault(key, len(numbers)) for key in keys]
    return list(numbers), which
