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
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from jaxtyping import Int32, Int64

from onlineguard.engine.engine import aligned
from onlineguard.slidr.clicks.clicks import Click, prefix
from onlineguard.slidr.counting.click_clock import Clock
from onlineguard.slidr.counting.counter_step import FIELDS, GATEWAY_LANES, LANES, MOVED_ON, WIDTHS, Sheet, advance
from onlineguard.slidr.counting.entities import NOBODY, EntityTable, Ids
from onlineguard.slidr.counting.windows import BUCKET_MS, COLUMNS, HOUR_MS


class ClickKeys(NamedTuple):
    """What a store needs of n clicks, in order of arrival."""

    click_ids: Sequence[str]
    ts: Int64[np.ndarray, " n"]  # ms since 1970, from 0 to LATEST
    users: Sequence[str | None]  # None: unknown, with no counters; all its numbers are those of a user never seen
    sessions: Sequence[str | None]
    ips: Sequence[str]

    @classmethod
    def of(cls, clicks: Sequence[Click]) -> "ClickKeys":
        """Those of some clicks."""
        return cls(
            [click.click_id for click in clicks],
            np.array([click.ts for click in clicks], np.int64),
            [click.user_id for click in clicks],
            [click.session_id for click in clicks],
            [click.ip for click in clicks],
        )

    def part(self, start: int, end: int) -> "ClickKeys":
        """Those of the clicks from `start` up to `end`."""
        cut = slice(start, end)
        return ClickKeys(self.click_ids[cut], self.ts[cut], self.users[cut], self.sessions[cut], self.ips[cut])


class Store(Protocol):
    """Where counters are kept."""

    def count(self, keys: ClickKeys) -> Int32[np.ndarray, "n 26"]:
        """Count the clicks in order; row i holds the numbers that click i sees, named by `COLUMNS`.

        How a stream is cut into calls changes nothing.
        """
        ...


# Clicks that a call of the compiled loop takes, padded to the next of them; the service takes at most the second.
SIZES = (1, 64, 256, 2_048)
LARGE = SIZES[-1]
_TABLES = ("users", "sessions", "ips", "prefixes", "pairs")


class BatchMemory:
    """A batch of at most `size` clicks as the compiled loop takes it: one array, and views of its parts.

    numbers: the array, if it is to be longer than a `Sheet` is.
    """

    def __init__(self, size: int, numbers: Int32[np.ndarray, " numbers"] | None = None):
        self.sheet = Sheet(size)
        self.numbers = aligned(1, self.sheet.length)[0].view(np.int32) if numbers is None else numbers
        self.tables = self.tables_of(self.numbers)
        self.events = self.numbers[self.sheet.events : self.sheet.counts].reshape(FIELDS, size)
        self.counts = self.counts_of(self.numbers)

    def tables_of(self, numbers: Int32[np.ndarray, " numbers"]) -> list[Int32[np.ndarray, "size lanes"]]:
        """The rows of users, sessions, ips, prefixes and pairs in an array such as this."""
        ends = (*self.sheet.tables[1:], self.sheet.events)
        widths = (*WIDTHS, 1)
        return [
            numbers[start:end].reshape(-1, width)
            for start, end, width in zip(self.sheet.tables, ends, widths, strict=True)
        ]

    def counts_of(self, numbers: Int32[np.ndarray, " numbers"]) -> Int32[np.ndarray, "size 26"]:
        """What each click sees."""
        return numbers[self.sheet.counts : self.sheet.length].reshape(-1, len(COLUMNS))


def padded_size(n: int) -> int:
    """The size of the batch that n clicks are padded to."""
    return next(size for size in SIZES if n <= size)


class Turn(NamedTuple):
    """Clicks `start` up to `end` of those that a store was given, and where they belong in its tables."""

    start: int
    end: int
    rows: list[Int64[np.ndarray, " n"]]  # of users, sessions, ips, prefixes, pairs
    facts: list[Sequence[int]]  # times and what is counted, as `counter_step.FIELDS` describes them


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
        self._memories: dict[int, BatchMemory] = {}  # by size

    def _forget(self, era: int) -> None:
        self._era = era
        self._users, self._sessions, self._prefixes = (EntityTable(LANES) for _ in range(3))
        self._ips, self._pairs = (
            EntityTable(LANES + GATEWAY_LANES),
            EntityTable(1),
        )  # a pair: an ip, and a user or session there

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
            setattr(store, f"_{name}", EntityTable.restored(dump[name]))
        return store

    def warmup(self) -> None:
        """Compile the programs for batches of any size, so that no later call waits for a compiler."""
        for size in SIZES:
            ids = [""] * size
            ProcessStore().count(ClickKeys(ids, np.zeros(size, np.int64), ids, ids, ids))

    def __len__(self) -> int:
        """Entities now held."""
        return sum(map(len, (self._users, self._sessions, self._ips, self._prefixes)))

    def count(self, keys: ClickKeys) -> Int32[np.ndarray, "n 26"]:
        """See `Store.count`."""
        counts = np.empty((len(keys.ts), len(COLUMNS)), np.int32)
        for turn in self.turns(keys):
            n = turn.end - turn.start
            memory = self._memory(padded_size(n))
            self.gather(turn, memory)
            after = np.asarray(advance(memory.sheet, memory.numbers, np.int32(n)))
            self.scatter(turn, memory.tables_of(after))
            counts[turn.start : turn.end] = memory.counts_of(after)[:n]
        return counts

    def peek(self, keys: ClickKeys) -> Int32[np.ndarray, "1 26"]:
        """What `count` would give for a single click if it came next; nothing is counted."""
        time, counted, now, era = copy.copy(self._clock).take(int(keys.ts[0]))
        same = era == self._era  # else every counter would be forgotten
        counted = counted and not (same and self._ids.known(keys.click_ids[0], now // HOUR_MS))
        tables = (self._users, self._sessions, self._ips, self._prefixes)
        names = (keys.users[0], keys.sessions[0], keys.ips[0], prefix(keys.ips[0]))
        rows = [table.place(name) if same else 0 for table, name in zip(tables, names, strict=True)]
        user, session, ip, _ = rows
        pairs = [self._pairs.place(_pair(ip, 2 * at + k)) if ip and at else 0 for k, at in enumerate((user, session))]
        has = [counted and name is not None for name in names[:2]]
        at = [np.array(row) for row in (*([row] for row in rows), pairs)]
        facts = [[time // BUCKET_MS + MOVED_ON], [time % BUCKET_MS], *([known] for known in has), [counted]]
        memory = self._memory(1)
        self.gather(Turn(0, 1, at, facts), memory)
        return memory.counts_of(np.asarray(advance(memory.sheet, memory.numbers, np.int32(1))))

    def turns(self, keys: ClickKeys, most: int = LARGE) -> Iterator[Turn]:
        """The clicks in parts of at most `most`, each noted in the tables: the first half of `count`.

        Each turn must go through `gather`, `counter_step.counted` and `scatter` before the next is asked for.
        """
        for start in range(0, len(keys.ts), most):
            part = keys.part(start, start + most)
            reading = self._clock.read(part.ts.tolist())
            hours = [now // HOUR_MS for now in reading.now]
            duplicates = self._ids.seen(part.click_ids, hours, reading.era)
            counted = [counts and not duplicate for counts, duplicate in zip(reading.counted, duplicates, strict=True)]
            eras = reading.era
            cuts = [0, *(i for i in range(1, len(eras)) if eras[i] != eras[i - 1]), len(eras)]
            for first, end in itertools.pairwise(cuts):
                if eras[first] != self._era:
                    self._forget(eras[first])
                cut = slice(first, end)
                yield self._turn(
                    start + first,
                    part.part(first, end),
                    reading.times[cut],
                    counted[cut],
                    (hours[first], hours[end - 1]),
                )

    def _turn(
        self, start: int, keys: ClickKeys, times: Sequence[int], counted: list[bool], hours: tuple[int, int]
    ) -> Turn:
        users = self._users.find(keys.users, counted, *hours)
        sessions = self._sessions.find(keys.sessions, counted, *hours)
        ips = self._ips.find(keys.ips, counted, *hours)
        prefixes = self._prefixes.find(list(map(prefix, keys.ips)), counted, *hours)
        at_ips, members = ips.tolist(), (users.tolist(), sessions.tolist())
        there = [
            _pair(ip, 2 * member + k) if member else NOBODY
            for k, rows in enumerate(members)
            for ip, member in zip(at_ips, rows, strict=True)
        ]
        pairs = self._pairs.find(there, [*counted, *counted], *hours)
        known = [[counts and member > 0 for counts, member in zip(counted, rows, strict=True)] for rows in members]
        buckets, rest = [time // BUCKET_MS + MOVED_ON for time in times], [time % BUCKET_MS for time in times]
        return Turn(
            start, start + len(times), [users, sessions, ips, prefixes, pairs], [buckets, rest, *known, counted]
        )

    def gather(self, turn: Turn, memory: BatchMemory) -> None:
        """Write what the compiled loop needs of the clicks of a turn."""
        n, events = turn.end - turn.start, memory.events
        tables = (self._users, self._sessions, self._ips, self._prefixes)
        for j, (table, rows, out) in enumerate(zip(tables, turn.rows, memory.tables, strict=False)):
            events[j, :n] = table.take(rows, out[:n])
        pairs = self._pairs.take(turn.rows[-1], memory.tables[-1][: 2 * n])
        events[4, :n], events[5, :n] = pairs[:n], pairs[n:]
        events[6:, :n] = turn.facts

    def scatter(self, turn: Turn, tables: list[Int32[np.ndarray, "size lanes"]]) -> None:
        """Keep the rows that the compiled loop made of those that `gather` gave it."""
        mine = (self._users, self._sessions, self._ips, self._prefixes, self._pairs)
        for table, rows, states in zip(mine, turn.rows, tables, strict=True):
            table.put(rows, states[: len(rows)])

    def _memory(self, size: int) -> BatchMemory:
        memory = self._memories.get(size)
        if memory is None:
            memory = self._memories[size] = BatchMemory(size)
        return memory


def _pair(ip: int, member: int) -> int:
    """The key of a user or session at an ip, both given by their rows; those of sessions are odd."""
    return (ip << 33) + member
