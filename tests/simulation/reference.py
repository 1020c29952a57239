"""What a partition's records lead to, folded one by one without any of the code under test, and the same for pools."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from onlineguard_service.journal.packing import unpack
from onlineguard_service.partitions.log import NOTHING, Output, Record
from onlineguard_service.shards.pooling import MERGER
from onlineguard_service.shards.shard import Shard

from onlineguard.wire.answers import EventAnswer
from tests.simulation.guard import WIDTH, hashed, learned, verdict
from tests.simulation.sizes import POOL_EVERY, POOL_FIRST, SAMPLE

KEPT = 4_000  # hashes of a partition's past that are kept at least, to hold snapshots against


class Wanted(NamedTuple):
    """What a record led to."""

    outputs: list[tuple[int, str, bytes]]  # number, topic and value; of a dead letter no value
    sample: bool = False  # a sample is to be in the log
    pool: bool = False  # a pool is to be in the log


NONE = Wanted([])


class Fold(Protocol):
    """What a partition's records lead to, one by one."""

    @property
    def offset(self) -> int:
        """Of the record that was folded last."""
        ...

    @property
    def heads(self) -> Mapping[int, bytes]:
        """A hash of everything after each record, by its offset; of some records at least."""
        ...

    def apply(self, record: Record) -> Wanted:
        """Fold one record."""
        ...

    def differs(self, shard: Shard) -> str | None:
        """How a shard that was given the same records is another; None if it is not."""
        ...


class Reference:
    """The fold of one partition."""

    def __init__(self, partition: int, partitions: int):
        self.partition, self.most = partition, max(1, -(-SAMPLE // partitions))
        self.offset, self.t = NOTHING, 0
        self.head, self.start, self.n, self.version = b"", b"", 0, "0"
        self.slices: dict[str, bytes] = {}
        self.heads: dict[int, bytes] = {}  # after each record
        self._due = POOL_FIRST
        self._number, self._waiting = NOTHING, b""  # the newest pool
        self._sampled: dict[int, int] = {}  # offset of the newest sample, by partition
        self._news = 0

    def apply(self, record: Record) -> Wanted:
        """Fold one record."""
        found = self._of_kind.get(record.kind, Reference._dead)(self, record)
        self.offset, self.t = record.offset, record.t
        self.heads[record.offset] = self.head
        if len(self.heads) > 2 * KEPT:
            self.heads = dict(list(self.heads.items())[-KEPT:])
        return found

    def differs(self, shard: Shard) -> str | None:
        """See Fold."""
        guard: Any = shard.guard
        for name, found, wanted in (
            ("offset", shard.offset, self.offset),
            ("time", shard.t, self.t),
            ("events", guard.n, self.n),
            ("slices", guard.slices, self.slices),
            ("model", guard.model.version, self.version),
            ("the pool that slices start from", guard.start, self.start),
            ("the hash of all that it was given", guard.head, self.head),
        ):
            if found != wanted:
                return f"{name}: {found!r}, not {wanted!r}"
        return None

    def _events(self, record: Record) -> Wanted:
        try:
            given = json.loads(record.value)
        except json.JSONDecodeError:
            return self._dead(record)
        outputs = [
            (number, "decisions", msgspec.json.encode(self._learn(each["slice"], each["x"][0], record.t)))
            for number, each in enumerate(given)
        ]
        self._adopt()
        due = self.n >= self._due
        while self._due <= self.n:
            self._due += min(self._due, POOL_EVERY)
        return Wanted(outputs, sample=due)

    def _learn(self, key: str, x: float, t: int) -> EventAnswer:
        known = learned(self.slices.get(key, self.start), x, t)
        self.slices[key], self.head, self.n = known, hashed(self.head, known), self.n + 1
        return verdict(key, known)

    def _dead(self, record: Record) -> Wanted:
        return Wanted([(0, "dead", b"")])

    def _control(self, record: Record) -> Wanted:
        version = msgspec.msgpack.decode(record.value)[1]
        if version != self.version:
            self.version = version
            self.head = hashed(self.head, b"switch", version.encode())
        return NONE

    def _sample(self, record: Record) -> Wanted:
        _, partition, offset, *_ = unpack(record.value)
        if self.partition != MERGER or self._sampled.get(partition, NOTHING) >= offset:
            return NONE
        self._sampled[partition] = offset
        self._news += 1
        if 2 * self._news < len(self._sampled):
            return NONE
        self._news = 0
        return Wanted([], pool=True)

    def _pool(self, record: Record) -> Wanted:
        number, rows = opened(record.value)
        if number > self._number:
            self._number, self._waiting = number, rows
            if self.n:
                self._adopt()
        return NONE

    def _adopt(self) -> None:
        if self._waiting:
            self.start = hashed(self._waiting)
            self.head = hashed(self.head, b"adopt", self.start)
            self._waiting = b""

    _of_kind: dict[str, Callable[[Any, Record], Wanted]] = {  # noqa: RUF012  # what it holds never changes
        "events": _events,
        "control": _control,
        "sample": _sample,
        "pool": _pool,
    }


_opened: dict[bytes, tuple[int, bytes]] = {}  # a pool goes to every partition, and is read once


def opened(pool: bytes) -> tuple[int, bytes]:
    """The number of a pool, and its rows in a row."""
    if pool not in _opened:
        _opened.clear() if len(_opened) > 50 else None
        _, number, parts = unpack(pool)
        _opened[pool] = number, b"".join(np.asarray(part[4]).reshape(-1, WIDTH).tobytes() for part in parts)
    return _opened[pool]


def differences(wanted: list[tuple[int, Wanted]], found: list[Output]) -> str | None:
    """How outputs differ from what was wanted of records, by offset; None if they do not."""
    want = [(offset, *each) for offset, one in wanted for each in one.outputs]
    for i, (offset, number, to, value) in enumerate(want):
        if i >= len(found):
            return f"nothing was published of record {offset}, output {number}"
        one = found[i]
        if (one.offset, one.number, one.to) != (offset, number, to):
            return f"output {one.number} of record {one.offset} was published where {number} of {offset} was due"
        if to == "dead":
            letter = json.loads(one.value)
            if letter["offset"] != offset:
                return f"the dead letter of record {offset} tells of record {letter['offset']}"
        elif one.value != value:
            return f"output {number} of record {offset} is {one.value!r} and should be {value!r}"
    if len(found) > len(want):
        return f"output {found[len(want)].number} of record {found[len(want)].offset} is too much"
    return None
