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

import copy
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from jaxtyping import Bool, Int32, Int64

from onlineguard.slidr.clicks.clicks import prefix
from onlineguard.slidr.counting.click_clock import Clock
from onlineguard.slidr.counting.counter_step import (
    GATEWAY_LANES,
    LANES,
    MOVED_ON,
    NUMBERS,
    PAIRS,
    STARTS,
    WIDTHS,
    advance,
    advance_one,
)
from onlineguard.slidr.counting.entities import NOBODY, Ids, Rows
from onlineguard.slidr.counting.windows import BUCKET_MS, COLUMNS, HOUR_MS


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


OneKey = tuple[str, int, str | None, str | None, str]  # the same of one click


class Store(Protocol):
    """Where counters are kept."""

    def count(self, keys: Keys) -> Int32[np.ndarray, "n 26"]:
        """Count the clicks in order; row i holds the numbers that click i sees, named by `COLUMNS`.

        How a stream is cut into calls changes nothing.
        """
        ...


# Clicks that a call of the compiled loop takes, padded to the next of them; the service takes the least at once.
SIZES = (64, 256, 2_048)
LARGE = SIZES[-1]
_TABLES = ("users", "sessions", "ips", "prefixes", "pairs")


class Places(NamedTuple):
    """The rows of the entities of a click, and of its user and session at its ip."""

    user: int
    session: int
    ip: int
    prefix: int
    user_there: int
    session_there: int


class ProcessStore:
    """Counters in this process.

    Holds the entities of the last two days: about 360 bytes for a user, session or prefix, 920 for an ip, 130 for each
    user or session at an ip, and 40 for the id of each click of the last day, the texts of names not counted. Room
    grows by doubling, so it may be up to twice that. Not safe under threads.
    """

    def __init__(self) -> None:
        self._forget(0)
        self._clock = Clock()
        self._ids = Ids()

    def _forget(self, era: int) -> None:
        self._era = era
        self._users, self._sessions, self._prefixes = Rows(LANES), Rows(LANES), Rows(LANES)
        self._ips, self._pairs = Rows(LANES + GATEWAY_LANES), Rows(1)  # a pair: an ip, and a user or session there

    def dump(self) -> dict[str, Any]:
        """A copy of everything counted: nested dictionaries of arrays, and of lists that MessagePack holds."""
        tables = {name: getattr(self, f"_{name}").dump() for name in _TABLES}
        clock = [self._clock.now, self._clock.run, self._clock.era]
        return {"era": self._era, "clock": clock, "ids": self._ids.dump(), **tables}

    @classmethod
    def restored(cls, dump: dict[str, Any]) -> Self:
        """The store that was dumped: it counts on as that one would, to the last bit."""
        store = cls()
        store._era = dump["era"]
        store._clock.now, store._clock.run, store._clock.era = dump["clock"]
        store._ids = Ids.restored(dump["ids"])
        for name in _TABLES:
            setattr(store, f"_{name}", Rows.restored(dump[name]))
        return store

    def warmup(self) -> None:
        """Compile the programs for batches of any size, so that no later call waits for a compiler."""
        for size in (1, *SIZES):
            ids = [""] * size
            ProcessStore().count(Keys(ids, np.zeros(size, np.int64), ids, ids, ids))

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

    def peek(self, keys: Keys) -> Int32[np.ndarray, "1 26"]:
        """What `count` would give for a single click if it came next; nothing is counted."""
        clock = copy.copy(self._clock)
        time, counted, now, era = clock.take(int(keys.ts[0]))
        same = era == self._era  # else every counter would be forgotten
        counted = counted and not (same and self._ids.known(keys.click_ids[0], now // HOUR_MS))
        tables = (self._users, self._sessions, self._ips, self._prefixes)
        names = (keys.users[0], keys.sessions[0], keys.ips[0], prefix(keys.ips[0]))
        places = [rows.place(name) if same else 0 for rows, name in zip(tables, names, strict=True)]
        user, session, ip, _ = places
        pairs = [self._pairs.place((ip << 33) + 2 * at + k) if ip and at else 0 for k, at in enumerate((user, session))]
        event = (
            *(self._pairs.table[pair, 0] for pair in pairs),
            time // BUCKET_MS + MOVED_ON,
            time % BUCKET_MS,
            counted and names[0] is not None,
            counted and names[1] is not None,
            counted,
            1,
        )
        states = [rows.table[place] for rows, place in zip(tables, places, strict=True)]
        flat = np.concatenate([*states, np.array(event, np.int32), np.zeros(len(COLUMNS), np.int32)])
        return np.asarray(advance_one(flat))[None, NUMBERS:]

    def begin_one(self, click: OneKey, flat: Int32[np.ndarray, " numbers"]) -> "Places":
        """Note one click, and write what `counter_step.after_one` needs to `flat[:NUMBERS]`; `end_one` must follow.

        The two are `count` for a caller who has the step in between in a program of its own.
        """
        click_id, ts, user_id, session_id, ip = click
        time, counted, now, era = self._clock.take(ts)
        hour = now // HOUR_MS
        counted = not self._ids.seen_at((click_id,), hour, era)[0] and counted
        if era != self._era:
            self._forget(era)
        user = self._users.find_one(user_id, counted, hour)
        session = self._sessions.find_one(session_id, counted, hour)
        gateway = self._ips.find_one(ip, counted, hour)
        network = self._prefixes.find_one(prefix(ip), counted, hour)
        user_there = self._pairs.find_one((gateway << 33) + 2 * user if user else NOBODY, counted, hour)
        session_there = self._pairs.find_one((gateway << 33) + 2 * session + 1 if session else NOBODY, counted, hour)
        places = Places(user, session, gateway, network, user_there, session_there)
        tables = (self._users, self._sessions, self._ips, self._prefixes)
        for rows, place, start, width in zip(tables, places, STARTS, WIDTHS, strict=False):
            flat[start : start + width] = rows.table[place]
        pairs = self._pairs.table
        flat[PAIRS:NUMBERS] = (
            pairs[user_there, 0],
            pairs[session_there, 0],
            time // BUCKET_MS + MOVED_ON,
            time % BUCKET_MS,
            counted and user > 0,
            counted and session > 0,
            counted,
            1,
        )
        return places

    def end_one(self, places: "Places", flat: Int32[np.ndarray, " numbers"]) -> None:
        """Keep the rows that `counter_step.after_one` made, which lie in `flat` where they were."""
        tables = (self._users, self._sessions, self._ips, self._prefixes)
        for rows, place, start, width in zip(tables, places, STARTS, WIDTHS, strict=False):
            rows.table[place] = flat[start : start + width]
        self._pairs.table[places.user_there, 0] = flat[PAIRS]
        self._pairs.table[places.session_there, 0] = flat[PAIRS + 1]

    def _count_one(self, keys: Keys) -> Int32[np.ndarray, "1 26"]:
        """`count` of a single click, in a third of the time."""
        flat = np.empty(NUMBERS + len(COLUMNS), np.int32)
        ts = int(keys.ts[0])
        places = self.begin_one((keys.click_ids[0], ts, keys.users[0], keys.sessions[0], keys.ips[0]), flat)
        after = np.asarray(advance_one(flat))
        self.end_one(places, after)
        return after[None, NUMBERS:]

    def _count(
        self, keys: Keys, times: Int64[np.ndarray, " n"], counted: Bool[np.ndarray, " n"], hours: Int64[np.ndarray, "2"]
    ) -> Int32[np.ndarray, "n 26"]:
        users = self._users.find(keys.users, counted, hours)
        sessions = self._sessions.find(keys.sessions, counted, hours)
        ips = self._ips.find(keys.ips, counted, hours)
        prefixes = self._prefixes.find([prefix(ip) for ip in keys.ips], counted, hours)
        places = ips.astype(np.int64) << 33
        at_ip = np.concatenate([places + 2 * users, places + 2 * sessions + 1])
        at_ip[np.concatenate([users, sessions]) == 0] = NOBODY
        pairs = self._pairs.find(at_ip.tolist(), np.concatenate([counted, counted]), hours)

        n = len(times)
        size = next(size for size in SIZES if n <= size)
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
            tables.append(_taken(rows.table, at, size))
        events[:n, 4], events[:n, 5] = np.split(self._pairs.slots(pairs), 2)
        tables.append(_taken(self._pairs.table, pairs, 2 * size))
        events[:n, 6] = times // BUCKET_MS + MOVED_ON
        events[:n, 7] = times % BUCKET_MS
        events[:n, 8], events[:n, 9], events[:n, 10] = counted & (users > 0), counted & (sessions > 0), counted
        tables, counts = advance(tables, events, np.int32(n))
        for j, ((rows, at), table) in enumerate(zip(work, tables, strict=True)):
            slots = events[:n, j] if j < 4 else np.concatenate([events[:n, 4], events[:n, 5]])
            rows.table[at] = np.asarray(table).take(slots, 0)
        return np.asarray(counts)[:n]


def _taken(table: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
    """Rows of a table, with others of any content up to `size`."""
    taken = np.empty((size, table.shape[1]), np.int32)
    table.take(at, 0, taken[: len(at)], "clip")
    return taken
