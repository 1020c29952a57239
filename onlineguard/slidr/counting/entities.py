"""Tables of entities and of click ids: which row a name has, and when it may be dropped."""

import hashlib
import itertools
import math
from collections import deque
from collections.abc import Collection, Hashable, Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Int32, Int64

from onlineguard.slidr.counting.pages import Pages
from onlineguard.slidr.counting.windows import DUPLICATE_HOURS

FIRST_ROOM = 1_024
NOBODY = -1  # the key of a pair of which one is not known
_SHARDS = 64  # a power of two; a dictionary of two million keys stalls for 200 ms when it grows, one of 64 does not
_SHARD = _SHARDS - 1
_DROPPED_AT_ONCE = 4_096  # entities, so that no click waits for all to be dropped
LONGEST_NAME = 64  # characters; of a longer name a hash is kept, so that nobody fills the memory with names
FREE = -1  # when a row was born that no entity has


def kept_name(name: Any) -> Any:
    """What is kept of a key: itself, or 16 bytes for a long text."""
    if type(name) is str and len(name) > LONGEST_NAME:
        return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return name


class EntityTable:
    """A table with one row of int32 an entity; row 0 stands for none, and stays zero.

    keep: hours of the stream's clock without a click after which an entity may be dropped.
    """

    def __init__(self, lanes: int, keep: int):
        self._keep = keep
        self._tables, self._times = Pages(lanes, dtype=np.int32), Pages(dtype=np.int64)
        self._births_pages = Pages(dtype=np.int64)
        self.table = self._tables.array(FIRST_ROOM)
        self._shards: list[dict[Hashable, int]] = [{} for _ in range(_SHARDS)]
        self._keys: list[Hashable] = [None]  # by row
        self._touched = self._times.array(FIRST_ROOM)  # by row: hour of the stream's clock
        self.born = self._births_pages.array(FIRST_ROOM)  # by row: the epoch of its birth, or FREE
        self.epoch = 0  # in which what is born now is born; see `eviction`
        self._hand = 0  # where the next sample begins
        self._places = np.zeros(FIRST_ROOM, np.int32)  # scratch of `copy_to`
        self._free: list[int] = []
        for nothing in (None, NOBODY):
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
        self._touched[rows] = hours[1]  # before any birth, which may drop what was not; -1 is the last row, unused
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            names = [keys[i] for i in unknown.tolist()]
            first, last = hours.tolist()
            if born[unknown].all() and not any(kept_name(name) is not name for name in names):
                rows[unknown] = self._births(names, first, last)
            else:  # one that is not born may come before its birth, and then reads 0
                rows[unknown] = [
                    self.find_one(name, is_born, last, first)
                    for name, is_born in zip(names, born[unknown].tolist(), strict=True)
                ]
        return rows

    def place(self, key: Hashable) -> int:
        """The row of a key, 0 where it has none; nothing is noted."""
        key = kept_name(key)
        return self._shards[hash(key) & _SHARD].get(key, 0)

    def find_one(self, key: Hashable, born: bool, hour: int, first: int | None = None) -> int:
        """`find` of one key at an hour; `first` is that of the first click of its call, if it is another."""
        shard = self._shards[hash(key) & _SHARD]
        row = shard.get(key)
        if row is None:
            if (name := kept_name(key)) is not key:
                return self.find_one(name, born, hour, first)
            row = 0
            if born:
                row = shard[key] = self._birth(key, hour if first is None else first, hour)
        self._touched[row] = hour
        return row

    def dump(self) -> dict[str, Any]:
        """A copy of all that was counted: arrays, and lists of what JSON and MessagePack hold."""
        used = len(self._keys)
        return {
            "table": self.table[:used].copy(),
            "touched": self._touched[:used].copy(),
            "room": len(self.table),
            "keys": self._keys.copy(),
            "free": self._free.copy(),
            "born": self.born[:used].copy(),
            "hand": self._hand,
        }

    @classmethod
    def restored(cls, dump: dict[str, Any], keep: int) -> Self:
        """The table that was dumped; it goes on as that one would."""
        rows = cls(dump["table"].shape[1], keep)
        used, room = len(dump["keys"]), dump["room"]
        if room > FIRST_ROOM:
            rows._grow(room)
        rows.table[:used], rows._touched[:used] = dump["table"], dump["touched"]
        rows._keys, rows._free = [kept_name(key) for key in dump["keys"]], list(dump["free"])
        if "born" in dump:  # of old nothing was evicted
            rows.born[:used], rows._hand = dump["born"], dump["hand"]
        else:
            rows.born[rows._free] = FREE
        unused = {0, *rows._free}
        for row, key in enumerate(rows._keys):
            if row in unused:
                rows._keys[row] = None
            else:
                rows._shards[hash(key) & _SHARD][key] = row
        return rows

    def sample(self, about: int) -> Int32[np.ndarray, " rows"]:
        """About so many entities from all over the table; after as many calls as it takes, each was among them once."""
        step = max(1, (len(self._keys) - 1) // about)
        self._hand = (self._hand + 1) % step
        rows = np.arange(1 + self._hand, len(self._keys), step, dtype=np.int32)
        return rows[self.born[rows] != FREE]

    def keys(self, rows: Int32[np.ndarray, " n"]) -> list[Any]:
        """What these rows are known under."""
        return [self._keys[row] for row in rows.tolist()]

    def drop(self, rows: list[int]) -> None:
        """Forget these entities, which had been counted: their rows are zeros."""
        self.table[rows] = 0
        self._forget(rows)
        self._free += rows

    def _forget(self, rows: list[int]) -> None:
        for row in rows:
            del self._shards[hash(self._keys[row]) & _SHARD][self._keys[row]]
            self._keys[row] = None
        self.born[rows] = FREE

    def copy_to(self, numbers: Int32[np.ndarray, " numbers"], start: int, rows: Sequence[int]) -> Any:
        """Copy n rows, some of them perhaps the same, one behind the other; say where each one's state is to be kept.

        That is the last place that it was copied to, so that `copy_from`, which copies in order, ends with it.
        """
        width = self.table.shape[1]
        at = np.asarray(rows)
        self.table.take(at, 0, numbers[start : start + width * len(at)].reshape(-1, width), "clip")
        self._places[at] = start + width * np.arange(len(at), dtype=np.int32)
        return self._places[at]

    def copy_from(self, numbers: Int32[np.ndarray, " numbers"], start: int, rows: Sequence[int]) -> None:
        """Copy n rows back that `copy_to` gave."""
        width = self.table.shape[1]
        self.table[np.asarray(rows)] = numbers[start : start + width * len(rows)].reshape(-1, width)

    def _birth(self, key: Hashable, hour: int, touched: int) -> int:
        if not self._free and len(self._keys) == len(self.table) - 1:
            self._make_room(hour)
        if self._free:
            row = self._free.pop()
            self._keys[row] = key
        else:
            row = len(self._keys)
            self._keys.append(key)
        self._touched[row], self.born[row] = touched, self.epoch
        return row

    def _births(self, keys: list[Hashable], hour: int, touched: int) -> list[int]:
        """The rows of keys not known, some of them perhaps more than once; all get one."""
        new = dict.fromkeys(keys, 0)
        rows: list[int] = []
        while (lacking := len(new) - len(rows)) > 0:
            if self._free:
                more = self._free[: -lacking - 1 : -1]
                del self._free[-len(more) :]
            else:
                more = list(range(len(self._keys), min(len(self._keys) + lacking, len(self.table) - 1)))
                self._keys.extend(more)  # places; the keys come below
            if not more:
                self._make_room(hour)
            self._touched[more], self.born[more] = touched, self.epoch
            rows += more
        for key, row in zip(new, rows, strict=True):
            new[key] = self._shards[hash(key) & _SHARD][key] = row
            self._keys[row] = key
        return [new[key] for key in keys]

    def _make_room(self, hour: int) -> None:
        """Drop the entities that read like new ones, and double the table if few do.

        Their rows need no cleaning, for that very reason. An entity last touched in hour h of the clock has its head
        before h + 1.5 h. A click to be counted, from an hour of the clock beyond h + 50 on, is less than 24 h behind
        it, so more than 25 h after the head: every bucket up to 24 h is out of its window. What else the row
        holds is never read. Rows of ips are kept for six days more, until their week is out, too.
        """
        dead = np.flatnonzero(self._touched[: len(self._keys)] < hour - self._keep)[1:]
        self._free = dead[:_DROPPED_AT_ONCE].tolist()
        self._forget(self._free)
        if len(dead) < max(1, len(self.table) // 8):
            self._grow(2 * len(self.table))

    def _grow(self, room: int) -> None:
        del self.table, self._touched, self.born  # `Pages` wants none left
        self.table, self._touched, self.born = (
            pages.array(room) for pages in (self._tables, self._times, self._births_pages)
        )
        self._places = np.zeros(room, np.int32)


class Ids:
    """The click ids of the last 24 hours, each with the hour of the stream's clock at which it was first seen.

    most: that are remembered; of more, those seen longest ago are forgotten.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.most = most
        self._forget(0)

    def _forget(self, era: int) -> None:
        self._era = era
        self._hours: list[dict[str, int]] = [{} for _ in range(_SHARDS)]
        self._order: deque[tuple[int, deque[Any]]] = deque()  # by hour, the oldest first
        self._listed = 0  # in all of `_order`

    def dump(self) -> dict[str, Any]:
        """A copy of all ids that are remembered, as lists of what JSON and MessagePack hold."""
        return {
            "era": self._era,
            "hours": [shard.copy() for shard in self._hours],
            "order": [[hour, list(ids)] for hour, ids in self._order],
        }

    @classmethod
    def restored(cls, dump: dict[str, Any], most: float = math.inf) -> Self:
        """The ids that were dumped."""
        ids = cls(most)
        ids._era = dump["era"]
        for shard in dump["hours"]:
            for id_, hour in shard.items():
                name = kept_name(id_)
                ids._hours[hash(name) & _SHARD][name] = hour
        ids._order = deque((hour, deque(map(kept_name, listed))) for hour, listed in dump["order"])
        ids._listed = sum(len(listed) for _, listed in ids._order)
        return ids

    def forget(self, gone: Collection[str]) -> None:
        """Forget these ids, which takes longer the more are remembered."""
        names = set(map(kept_name, gone))
        for shard in self._hours:
            for name in names & shard.keys():
                del shard[name]
        self._order = deque((hour, deque(id_ for id_ in listed if id_ not in names)) for hour, listed in self._order)
        self._listed = sum(len(listed) for _, listed in self._order)

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

    def known(self, id_: str, hour: int) -> bool:
        """Whether a click would be a duplicate; it is not remembered."""
        longest, name = hour - DUPLICATE_HOURS, kept_name(id_)
        return self._hours[hash(name) & _SHARD].get(name, longest) > longest

    def seen_at(self, ids: Sequence[str], hour: int, era: int) -> list[bool]:
        """`seen` of clicks of one hour of the clock."""
        if era != self._era:
            self._forget(era)
        shards, longest = self._hours, hour - DUPLICATE_HOURS
        duplicates: list[bool] = []
        if not self._order or self._order[-1][0] != hour:
            self._order.append((hour, deque()))
        listed = self._order[-1][1]
        for id_ in ids:
            if len(id_) > LONGEST_NAME:
                id_ = kept_name(id_)
            listed.append(id_)
            shard = shards[hash(id_) & _SHARD]
            seen = shard.get(id_, longest)
            duplicates.append(seen > longest)
            if seen <= longest:
                shard[id_] = hour
        self._listed += len(ids)
        self._drop(hour, 2 * len(ids))
        return duplicates

    def _drop(self, hour: int, at_most: int) -> None:
        """Drop some of the ids that are too old to make a duplicate, or too many, so that no call waits for all to be
        dropped."""
        for _ in range(at_most):
            oldest, ids = self._order[0]
            if hour - oldest < DUPLICATE_HOURS and self._listed <= self.most:
                return
            if ids:
                id_ = ids.popleft()
                self._listed -= 1
                shard = self._hours[hash(id_) & _SHARD]
                if shard.get(id_) == oldest:  # else it was seen again since, or stood here twice
                    del shard[id_]
            else:
                self._order.popleft()
