"""Counters of clicks: what is counted, exactly, and the store that keeps them in this process.

Every number below is an integer that follows from the clicks alone, so that every store gives the same ones to the
last bit. All time comes from the clicks; no store looks at a clock of its own.

**Windows.** Time is cut into buckets that start at 1970-01-01 UTC. An entity (a user, session, ip or ip prefix) has a
*head*, the newest time among its counted clicks. A window is a number of buckets ending with the one that holds the
head, and its count is the number of the entity's counted clicks whose own time lies in those buckets:

| window | buckets | reaches back |
|---|---|---|
| 1 min | 6 of 10 s | 50 s to 1 min |
| 5 min | 5 of 1 min | 4 to 5 min |
| 1 h | 12 of 5 min | 55 min to 1 h |
| 24 h | 24 of 1 h | 23 to 24 h |

A click sees its entities with itself included. Each window's buckets lie within the next longer window's, so a shorter
count is never above a longer one.

**Since the last click:** milliseconds from the head before the click; 0 for a click older than it; `FIRST` (24 h) if
that is more, or if the entity has no click in its 24 h window.

**Distinct users and sessions of an ip** in 1 h and 24 h: those whose newest counted click there lies in the window;
never more than `CAP`, which so means "256 or more". **The largest hour** is the largest 1 h number that any counted
click of the ip saw in the 24 buckets of its 24 h window.

**A late click** counts into its own bucket where that is still in the window, and does not move the head.

**The stream's clock** guards the counters against wrong times. It reads the newest time of any click of the stream that
was not far ahead of it. A click is *far ahead* if it is more than 30 min ahead of the clock, and *far behind* if it is
24 h or more behind it. One far ahead counts at the time that the clock reads; one far behind is not counted, and sees
its entities as they stand. If such clicks on the same side follow each other without any other in between, the n-th of
them sets the clock to its own time where that is at most 2^n minutes away (n = 8 after a silence of 4 hours): a
stream that was silent catches up within a few clicks, and one wrong click, or a machine whose clock is wrong among
others, changes nothing. A clock set back forgets every counter: what was counted after its new time cannot be right.

**A duplicate** is a click whose id was first seen less than 24 hours ago, by the full hours of the stream's clock. It
gets its features and is not counted again.

**Forgetting.** All windows of an entity are empty for a click 25 h after its head, so an entity not clicked for
`KEEP_HOURS` of the stream's clock reads like one never seen, however late the next click; only such are dropped. No
number ever changes by it.
"""

import functools
import itertools
from collections import deque
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int32, Int64

from onlineguard.slidr.clicks import prefix
from onlineguard.types import Array

jax.config.update("jax_cpu_enable_async_dispatch", False)  # halves a call with one click; see `onlineguard.packed`

ENTITIES = ("user", "session", "ip", "prefix")
BUCKET_MS = 10_000  # the shortest bucket; all others are whole numbers of it
RINGS = ((1, 6), (6, 5), (30, 12), (360, 24))  # a window's buckets: length in shortest buckets, number
WINDOWS = ("1m", "5m", "1h", "24h")
HOUR_MS = 3_600_000
FIRST = 24 * HOUR_MS  # milliseconds since the last click where there is none
CAP = 256  # distinct users or sessions of an ip, at most
LATEST = 2**31 * BUCKET_MS - 96 * HOUR_MS  # ms since 1970 that the shortest buckets can be numbered to: the year 2650

AHEAD_MS = HOUR_MS // 2  # a time zone mistaken by an hour is far ahead
BEHIND_MS = 24 * HOUR_MS
STEP_MS = 60_000  # the n-th far click in a row moves the clock by at most 2^n of it
DUPLICATE_HOURS = 24
KEEP_HOURS = 50  # 24 h that a click may be behind, 25 h until windows are empty, and half an hour ahead; see `_Rows`

COLUMNS = (
    *(f"{entity}_{what}" for entity in ENTITIES for what in (*WINDOWS, "since")),
    *("ip_users_1h", "ip_users_24h", "ip_sessions_1h", "ip_sessions_24h", "ip_users_largest", "ip_sessions_largest"),
)


class Keys(NamedTuple):
    """What a store needs of n clicks, in order of arrival."""

    click_ids: Sequence[str]
    ts: Int64[np.ndarray, " n"]  # ms since 1970, from 0 to LATEST
    users: Sequence[str | None]  # None: unknown, with no counters; all its numbers are those of a user never seen
    sessions: Sequence[str | None]
    ips: Sequence[str]

    def part(self, start: int, end: int) -> "Keys":
        """Those of the clicks from `start` up to `end`."""
        cut = slice(start, end)
        return Keys(self.click_ids[cut], self.ts[cut], self.users[cut], self.sessions[cut], self.ips[cut])


class Store(Protocol):
    """Where counters are kept."""

    def count(self, keys: Keys) -> Int32[np.ndarray, "n 26"]:
        """Count the clicks in order; row i holds the numbers that click i sees, named by `COLUMNS`.

        How a stream is cut into calls changes nothing.
        """
        ...


class Reading(NamedTuple):
    """What the stream's clock makes of n clicks."""

    times: Int64[np.ndarray, " n"]  # ms since 1970 at which they count
    counted: Bool[np.ndarray, " n"]  # false: far behind
    now: Int64[np.ndarray, " n"]  # what the clock reads after each
    era: Int64[np.ndarray, " n"]  # how often the clock was set back until then


class Clock:
    """The stream's clock, as this module's docstring defines it."""

    def __init__(self) -> None:
        self.now: int | None = None  # before the first click
        self.run = 0  # clicks in a row that were far ahead, or as a negative number far behind
        self.era = 0  # how often it was set back

    def read(self, ts: Int64[np.ndarray, " n"]) -> Reading:
        """Take n clicks in order; any number of them at a time gives the same."""
        before = np.maximum.accumulate(np.concatenate([ts[:1] if self.now is None else [self.now], ts]))
        usual = (ts <= before[:-1] + AHEAD_MS) & (ts > before[:-1] - BEHIND_MS)
        if len(ts) and usual.all():
            self.now, self.run = int(before[-1]), 0
            return Reading(ts, usual, before[1:], np.full(len(ts), self.era))
        read = [self.take(t) for t in ts.tolist()]
        times, counted, now, era = zip(*read, strict=True) if read else ((), (), (), ())
        return Reading(np.array(times, np.int64), np.array(counted, bool), np.array(now, np.int64), np.array(era, int))

    def take(self, t: int) -> tuple[int, bool, int, int]:
        """`read` of one click."""
        now = t if self.now is None else self.now
        side = 1 if t > now + AHEAD_MS else -1 if t <= now - BEHIND_MS else 0
        self.run = self.run + side if self.run * side > 0 else side
        counted, time = side >= 0, now
        if side == 0 or abs(t - now) <= STEP_MS << min(abs(self.run), 40):
            self.now, self.run, self.era = max(now, t) if side == 0 else t, 0, self.era + (side < 0)
            counted, time = True, t
        return time, counted, self.now or 0, self.era


# A row of one entity: the counts of all buckets of all rings, each ring turned so that bucket b is at b modulo its
# length; then the head, as its shortest bucket and the milliseconds within. A row of zeros is an entity never seen:
# times are moved on by two days, so that a head of 0 is always too old to matter.
LANES = 64
_HEAD, _HEAD_MS = 47, 48
_RING = np.repeat(np.arange(5), [n for _, n in RINGS] + [LANES - 47])  # by lane; 4 is no ring
_PLACE = np.concatenate([np.arange(n) for _, n in RINGS] + [np.full(LANES - 47, 10**6)]).astype(np.int32)
_SLOTS = np.array([n for _, n in RINGS] + [0], np.int32)[_RING]
MOVED_ON = 2 * 24 * 360

# What an ip has besides: rings of the distinct users and sessions by their newest click, and of the 1 h numbers' peaks.
_GATEWAY_LANES = 128
_PART = np.repeat(np.arange(7), [12, 12, 24, 24, 24, 24, 8])  # 1 h users, sessions; 24 h; peaks; nothing
_PART_PLACE = np.concatenate([np.arange(n) for n in (12, 12, 24, 24, 24, 24)] + [np.full(8, 10**6)]).astype(np.int32)
_PART_SLOTS = np.array([12, 12, 24, 24, 24, 24, 0], np.int32)[_PART]

SMALL, LARGE = 32, 2_048  # clicks that a call of the compiled loop takes; XLA makes slower code for fewer than 32
FIRST_ROOM = 1_024
_NOBODY = -1  # the key of a pair of which one is not known
_SHARDS = 64  # a power of two; a dictionary of two million keys stalls for 200 ms when it grows, one of 64 does not
_SHARD = _SHARDS - 1


class ProcessStore:
    """Counters in this process.

    Holds the entities of the last two days: about 360 bytes for a user, session or prefix, 920 for an ip, 130 for each
    user or session at an ip, and 40 for the id of each click of the last day, the texts of names not counted. Room
    grows by doubling, so it may be up to twice that. Not safe under threads.
    """

    def __init__(self) -> None:
        self._forget(0)
        self._clock = Clock()
        self._ids = _Ids()

    def _forget(self, era: int) -> None:
        self._era = era
        self._users, self._sessions, self._prefixes = _Rows(LANES), _Rows(LANES), _Rows(LANES)
        self._ips, self._pairs = _Rows(LANES + _GATEWAY_LANES), _Rows(1)  # a pair: an ip, and a user or session there

    def __len__(self) -> int:
        """Entities now held."""
        return sum(map(len, (self._users, self._sessions, self._ips, self._prefixes)))

    def count(self, keys: Keys) -> Int32[np.ndarray, "n 26"]:
        """See `Store.count`."""
        if len(keys.ts) == 1:
            return self._count_one(keys)
        reading = self._clock.read(keys.ts)
        counted = reading.counted & ~self._ids.seen(keys.click_ids, reading.now // HOUR_MS, reading.era)
        counts = np.empty((len(keys.ts), len(COLUMNS)), np.int32)
        cuts = {*range(0, len(keys.ts), LARGE), *(np.flatnonzero(np.diff(reading.era)) + 1).tolist(), len(keys.ts)}
        ends = sorted(cuts)
        for start, end in itertools.pairwise(ends):
            part = slice(start, end)
            if reading.era[start] != self._era:
                self._forget(int(reading.era[start]))
            counts[part] = self._count(
                keys.part(start, end), reading.times[part], counted[part], reading.now[[start, end - 1]] // HOUR_MS
            )
        return counts

    def _count_one(self, keys: Keys) -> Int32[np.ndarray, "1 26"]:
        """`count` of a single click, in a third of the time."""
        time, counted, now, era = self._clock.take(int(keys.ts[0]))
        hour = now // HOUR_MS
        counted = not self._ids.seen_at(keys.click_ids, hour, era)[0] and counted
        if era != self._era:
            self._forget(era)
        tables = (self._users, self._sessions, self._ips, self._prefixes)
        names = (keys.users[0], keys.sessions[0], keys.ips[0], prefix(keys.ips[0]))
        places = [rows.find_one(name, counted, hour) for rows, name in zip(tables, names, strict=True)]
        user, session, ip, _ = places
        pairs = [
            self._pairs.find_one((ip << 33) + 2 * user if user else _NOBODY, counted, hour),
            self._pairs.find_one((ip << 33) + 2 * session + 1 if session else _NOBODY, counted, hour),
        ]
        pair = self._pairs.table
        event = (
            pair[pairs[0], 0],
            pair[pairs[1], 0],
            time // BUCKET_MS + MOVED_ON,
            time % BUCKET_MS,
            counted and user > 0,
            counted and session > 0,
            counted,
            1,
        )
        states = [rows.table[place] for rows, place in zip(tables, places, strict=True)]
        flat = np.asarray(_advance_one(np.concatenate([*states, np.array(event, np.int32), _NO_NUMBERS])))
        for state, start, width in zip(states, _STARTS, _WIDTHS, strict=True):
            state[:] = flat[start : start + width]  # a view of the table
        pair[pairs[0], 0], pair[pairs[1], 0] = flat[_PAIRS], flat[_PAIRS + 1]
        return flat[None, _NUMBERS:]

    def _count(
        self, keys: Keys, times: Int64[np.ndarray, " n"], counted: Bool[np.ndarray, " n"], hours: Int64[np.ndarray, "2"]
    ) -> Int32[np.ndarray, "n 26"]:
        users = self._users.find(keys.users, counted, hours)
        sessions = self._sessions.find(keys.sessions, counted, hours)
        ips = self._ips.find(keys.ips, counted, hours)
        prefixes = self._prefixes.find([prefix(ip) for ip in keys.ips], counted, hours)
        places = ips.astype(np.int64) << 33
        at_ip = np.concatenate([places + 2 * users, places + 2 * sessions + 1])
        at_ip[np.concatenate([users, sessions]) == 0] = _NOBODY
        pairs = self._pairs.find(at_ip.tolist(), np.concatenate([counted, counted]), hours)

        n, size = len(times), SMALL if len(times) <= SMALL else LARGE
        work = [
            (self._users, users),
            (self._sessions, sessions),
            (self._ips, ips),
            (self._prefixes, prefixes),
            (self._pairs, pairs),
        ]
        events = np.zeros((size, 11), np.int32)
        tables: list[np.ndarray] = []
        for j, (rows, at) in enumerate(work[:4]):
            events[:n, j] = rows.slots(at)
            tables.append(_padded(rows.table[at], size))
        events[:n, 4], events[:n, 5] = np.split(self._pairs.slots(pairs), 2)
        tables.append(_padded(self._pairs.table[pairs], 2 * size))
        events[:n, 6] = times // BUCKET_MS + MOVED_ON
        events[:n, 7] = times % BUCKET_MS
        events[:n, 8], events[:n, 9], events[:n, 10] = counted & (users > 0), counted & (sessions > 0), counted
        tables, counts = _advance(tables, events, np.int32(n))
        for j, ((rows, at), table) in enumerate(zip(work, tables, strict=True)):
            slots = events[:n, j] if j < 4 else np.concatenate([events[:n, 4], events[:n, 5]])
            rows.table[at] = np.asarray(table)[slots]
        return np.asarray(counts)[:n]


class _Rows:
    """A table with one row of int32 an entity; row 0 stands for none, and stays zero."""

    def __init__(self, lanes: int):
        self.table = np.zeros((FIRST_ROOM, lanes), np.int32)
        self._shards: list[dict[Hashable, int]] = [{} for _ in range(_SHARDS)]
        self._keys: list[Hashable] = [None]  # by row
        self._touched = np.zeros(FIRST_ROOM, np.int64)  # by row: hour of the stream's clock
        self._places = np.zeros(FIRST_ROOM, np.int32)  # scratch of `slots`
        self._free: list[int] = []
        for nothing in (None, _NOBODY):
            self._shards[hash(nothing) & _SHARD][nothing] = 0

    def __len__(self) -> int:
        return len(self._keys) - 1 - len(self._free)

    def find(
        self, keys: Sequence[Hashable], born: Bool[np.ndarray, " n"], hours: Int64[np.ndarray, "2"]
    ) -> Int32[np.ndarray, " n"]:
        """The rows of n keys; where `born`, a key not known gets one, and elsewhere it reads 0.

        `hours` are those of the stream's clock at the first and the last of the clicks.
        """
        shards = self._shards
        found = [shards[hash(key) & _SHARD].get(key, -1) for key in keys]
        rows = np.fromiter(found, np.int32, len(keys))
        self._touched[rows] = hours[
            1
        ]  # before any birth, which may drop what was not touched; -1 is the last row, unused
        if (unknown := rows < 0).any():
            for i in np.flatnonzero(unknown).tolist():
                shard = shards[hash(keys[i]) & _SHARD]
                row = shard.get(keys[i], 0)  # perhaps born by now
                if not row and born[i]:
                    row = shard[keys[i]] = self._birth(keys[i], int(hours[0]), int(hours[1]))
                rows[i] = row
        return rows

    def find_one(self, key: Hashable, born: bool, hour: int) -> int:
        """`find` of one key."""
        shard = self._shards[hash(key) & _SHARD]
        row = shard.get(key)
        if row is None:
            row = 0
            if born:
                row = shard[key] = self._birth(key, hour, hour)
        self._touched[row] = hour
        return row

    def slots(self, rows: Int32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
        """For each of n rows the place in `rows` where its state is kept while they are worked on."""
        self._places[rows] = np.arange(len(rows), dtype=np.int32)
        return self._places[rows]

    def _birth(self, key: Hashable, hour: int, touched: int) -> int:
        if not self._free and len(self._keys) == len(self.table) - 1:
            self._make_room(hour)
        if self._free:
            row = self._free.pop()
            self._keys[row] = key
        else:
            row = len(self._keys)
            self._keys.append(key)
        self._touched[row] = touched
        return row

    def _make_room(self, hour: int) -> None:
        """Drop the entities that read like new ones, and double the table if few do.

        Their rows need no cleaning, for that very reason. An entity last touched in hour h of the clock has its head
        before h + 1.5 h. A click to be counted, from an hour of the clock beyond h + 50 on, is less than 24 h behind
        it, so more than 25 h after the head: every bucket of the row is out of its window.
        """
        dead = np.flatnonzero(self._touched[: len(self._keys)] < hour - KEEP_HOURS)[1:].tolist()
        for row in dead:
            del self._shards[hash(self._keys[row]) & _SHARD][self._keys[row]]
        self._free = dead
        if len(dead) < max(1, len(self.table) // 8):
            room = len(self.table)
            self.table = np.concatenate([self.table, np.zeros_like(self.table)])
            self._touched = np.concatenate([self._touched, np.zeros(room, np.int64)])
            self._places = np.zeros(2 * room, np.int32)


class _Ids:
    """The click ids of the last 24 hours, each with the hour of the stream's clock at which it was first seen."""

    def __init__(self) -> None:
        self._forget(0)

    def _forget(self, era: int) -> None:
        self._era = era
        self._hours: list[dict[str, int]] = [{} for _ in range(_SHARDS)]
        self._order: deque[tuple[int, list[str]]] = deque()  # by hour, the oldest first

    def seen(
        self, ids: Sequence[str], hours: Int64[np.ndarray, " n"], eras: Int64[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """Which of n clicks are duplicates; the others are remembered."""
        duplicates = np.zeros(len(ids), bool)
        turns = np.flatnonzero((np.diff(hours) != 0) | (np.diff(eras) != 0)) + 1
        for start, end in itertools.pairwise([0, *turns.tolist(), len(ids)]):
            if start < end:
                duplicates[start:end] = self.seen_at(ids[start:end], int(hours[start]), int(eras[start]))
        return duplicates

    def seen_at(self, ids: Sequence[str], hour: int, era: int) -> list[bool]:
        """`seen` of clicks of one hour of the clock."""
        if era != self._era:
            self._forget(era)
        shards, longest = self._hours, hour - DUPLICATE_HOURS
        duplicates: list[bool] = []
        for id_ in ids:
            shard = shards[hash(id_) & _SHARD]
            seen = shard.get(id_, longest)
            duplicates.append(seen > longest)
            if seen <= longest:
                shard[id_] = hour
        if not self._order or self._order[-1][0] != hour:
            self._order.append((hour, []))
        self._order[-1][1].extend(ids)
        self._drop(hour, 2 * len(ids))
        return duplicates

    def _drop(self, hour: int, at_most: int) -> None:
        """Drop some of the ids that are too old to make a duplicate, so that no call waits for all to be dropped."""
        for _ in range(at_most):
            oldest, ids = self._order[0]
            if hour - oldest < DUPLICATE_HOURS:
                return
            if ids:
                id_ = ids.pop()
                shard = self._hours[hash(id_) & _SHARD]
                if hour - shard.get(id_, hour) >= DUPLICATE_HOURS:  # else it was seen again since
                    del shard[id_]
            else:
                self._order.popleft()


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    padded = np.empty((size, rows.shape[1]), np.int32)
    padded[: len(rows)] = rows
    return padded


@functools.partial(jax.jit, donate_argnums=(0,))
def _advance(tables: list[Array], events: Array, n: Array) -> tuple[list[Array], Array]:
    """Take the first n events in order; returns the tables and the counts, of which n rows are filled.

    An event is the places of its user, session, ip and prefix in their tables, those of its two pairs in theirs, and
    what `_step` takes.
    """

    def body(i: Array, carry: tuple[list[Array], Array]) -> tuple[list[Array], Array]:
        (*tables, pairs), counts = carry
        event = jax.lax.dynamic_index_in_dim(events, i, keepdims=False)
        # Without the barrier a row is read once per use, and XLA must copy the table to keep the old one alive.
        rows, last = jax.lax.optimization_barrier(
            (
                [jax.lax.dynamic_index_in_dim(tables[j], event[j], keepdims=False) for j in range(4)],
                [jax.lax.dynamic_index_in_dim(pairs, event[4 + k], keepdims=False)[0] for k in range(2)],
            )
        )
        rows, newest, numbers = _step(rows, last, event[6:])
        tables = [jax.lax.dynamic_update_index_in_dim(tables[j], rows[j], event[j], 0) for j in range(4)]
        for k in range(2):
            pairs = jax.lax.dynamic_update_index_in_dim(pairs, newest[k][None], event[4 + k], 0)
        return [*tables, pairs], jax.lax.dynamic_update_index_in_dim(counts, numbers, i, 0)

    counts = jnp.zeros((events.shape[0], len(COLUMNS)), jnp.int32)
    return jax.lax.fori_loop(0, n, body, (tables, counts))


# One click's rows one after the other, what `_step` takes of its event, and the numbers that come back.
_WIDTHS = (LANES, LANES, LANES + _GATEWAY_LANES, LANES)
_STARTS = (0, LANES, 2 * LANES, 3 * LANES + _GATEWAY_LANES)
_PAIRS = _STARTS[3] + LANES
_EVENT = _PAIRS + 2
_TIMES = _EVENT + 5  # how often the loop runs: once
_NUMBERS = _TIMES + 1
_NO_NUMBERS = np.zeros(len(COLUMNS), np.int32)


@jax.jit
def _advance_one(flat: Array) -> Array:
    """`_advance` for one click. In a loop it is one function; without, XLA hands its parts to a pool of threads."""

    def body(_: Array, flat: Array) -> Array:
        rows = [flat[start : start + width] for start, width in zip(_STARTS, _WIDTHS, strict=True)]
        rows, newest, numbers = _step(rows, [flat[_PAIRS], flat[_PAIRS + 1]], flat[_EVENT:_TIMES])
        return jnp.concatenate([*rows, jnp.stack(newest), flat[_EVENT:_NUMBERS], numbers])

    return jax.lax.fori_loop(0, flat[_TIMES], body, flat)


def _step(rows: list[Array], last: list[Array], event: Array) -> tuple[list[Array], list[Array], Array]:
    """The rows of user, session, ip and prefix and the newest clicks of the two pairs after a click; its numbers.

    The event is its time as shortest bucket and milliseconds within, and 1 or 0 for whether its user, its session, and
    it at all are counted.
    """
    time, ms, user, session, any_ = (event[k] for k in range(5))
    after, numbers = zip(
        *(
            _count_click(row[:LANES], time, ms, counted)
            for row, counted in zip(rows, (user, session, any_, any_), strict=True)
        ),
        strict=True,
    )
    newest = [jnp.maximum(last[k], jnp.where(event[2 + k] > 0, time // 30, 0)) for k in range(2)]
    there, distinct = _count_distinct(rows[2], time, (user, session, any_), last, newest)
    gateway = jnp.concatenate([after[2], there])
    return [after[0], after[1], gateway, after[3]], newest, jnp.concatenate([*numbers, distinct])


def _count_click(row: Array, time: Array, ms: Array, counted: Array) -> tuple[Array, Array]:
    """An entity's row after the click, and its four counts and milliseconds since the last click."""
    head, head_ms = row[_HEAD], row[_HEAD_MS]
    end = jnp.maximum(head, time)  # the bucket that the windows end with
    ages, passed = _ages(end, head, _RING, _PLACE, _SLOTS)
    late = _by_ring(_RING, [end // length - time // length for length, _ in RINGS])
    rings = jnp.where(ages >= passed, row, 0) + jnp.where(ages == late, counted, 0)
    sums = [jnp.sum(jnp.where(_RING == k, rings, 0)) for k in range(len(RINGS))]
    gap = jnp.clip((time - head) * BUCKET_MS + ms - head_ms, 0, FIRST)
    since = jnp.where(end // 360 - head // 360 >= 24, FIRST, gap)
    later = (time > head) | ((time == head) & (ms > head_ms))
    lane = np.arange(LANES)
    rings = jnp.where(lane == _HEAD, end, jnp.where(lane == _HEAD_MS, jnp.where(later, ms, head_ms), rings))
    return jnp.where(counted > 0, rings, row), jnp.stack([*sums, since])


def _count_distinct(
    row: Array, time: Array, counted: tuple[Array, Array, Array], last: list[Array], newest: list[Array]
) -> tuple[Array, Array]:
    """What an ip's row holds besides its counts, after the click, and its six numbers.

    `last` and `newest` are the 5 min buckets of the newest click of this user, and of this session, at this ip, before
    the click and with it: each is counted in one bucket of each ring, and moves from the one to the other.
    """
    head, there = row[_HEAD], row[LANES:]
    end = jnp.maximum(head, time)
    rings = np.array([2, 2, 3, 3, 3, 3, 4])[_PART]
    ages, passed = _ages(end, head, rings, _PART_PLACE, _PART_SLOTS)
    was = [end // 30 - last[0], end // 30 - last[1], end // 360 - last[0] // 12, end // 360 - last[1] // 12]
    now = [end // 30 - newest[0], end // 30 - newest[1], end // 360 - newest[0] // 12, end // 360 - newest[1] // 12]
    gained = (ages == _by_ring(_PART, now)).astype(jnp.int32) - (ages == _by_ring(_PART, was)).astype(jnp.int32)
    moves = _by_ring(_PART, [counted[0], counted[1], counted[0], counted[1]])
    kept = jnp.where(ages >= passed, there, 0)
    after = kept + jnp.where(_PART < 4, gained * moves, 0)
    sums = [jnp.minimum(jnp.sum(jnp.where(_PART == k, after, 0)), CAP) for k in range(4)]
    peak = jnp.where(_PART == 4, sums[0], jnp.where(_PART == 5, sums[1], 0)) * counted[2]
    after = jnp.where((_PART > 3) & (ages == 0), jnp.maximum(after, peak), after)
    largest = [jnp.max(jnp.where(_PART == k, after, 0)) for k in (4, 5)]
    numbers = jnp.stack([sums[0], sums[2], sums[1], sums[3], *largest])
    return jnp.where(counted[2] > 0, after, there), numbers


def _ages(end: Array, head: Array, ring: np.ndarray, place: np.ndarray, slots: np.ndarray) -> tuple[Array, Array]:
    """By lane: how many buckets before that of `end` its bucket is, and how many buckets have passed since `head`."""
    turned = _by_ring(ring, [end // length % n for length, n in RINGS])
    passed = _by_ring(ring, [end // length - head // length for length, _ in RINGS])
    return turned - place + jnp.where(place > turned, slots, 0), passed


def _by_ring(ring: np.ndarray, values: list[Array]) -> Array:
    """The value of each lane's ring; the last of them for lanes of none."""
    lanes = values[-1]
    for k in range(len(values) - 1):
        lanes = jnp.where(ring == k, values[k], lanes)
    return lanes
