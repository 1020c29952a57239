"""Where new slices start, in a deployment of several shards: a pool of slices of all of them.

An engine pools some of its slices for the slices that come later. A shard has a part of the slices only, so a part of
them teaches all shards, on a schedule that stands in the log:

1. After 1,024 events, whenever that has doubled, and then every 65,536, a shard takes a *sample*: the states of some
   slices. It goes to partition 0 as a record.
2. The shard of partition 0 keeps the newest sample of each partition. It merges them when half as many have come as
   there are partitions that send any. The *pool* goes to every partition as a record. So of n partitions the first
   samples lead to some log2(n) pools, not to n, of which each would be n records.
3. Each shard adopts a pool where it reads it, and from the first one on its engines pool no more by themselves.

Samples and pools are records like all others: whoever reads a partition again adopts the same pools at the same places.
One that is written twice, by a process that died before it could say that it had written it, changes nothing the
second time, since both have numbers that only rise.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from onlineguard.engine.admission import POOL_EVERY, POOL_FIRST
from onlineguard.engine.states import SAMPLE, Sample
from onlineguard.wire.requests import Of
from onlineguard_service.guard import Guard
from onlineguard_service.journal.packing import pack, unpack
from onlineguard_service.partitions.log import NOTHING, Record
from onlineguard_service.partitions.records import Poison

MERGER = 0  # the partition whose shard merges
SAMPLES, POOLS = "sample", "pool"  # kinds of records
STREAMS: tuple[Of, ...] = ("events", "clicks")


class Append(NamedTuple):
    """A record that a shard has appended to the log."""

    offset: int  # of the record that led to it
    partition: int | None  # None: every one
    kind: str
    value: bytes


class Sampled(NamedTuple):
    """The states of some slices of a shard."""

    of: Of
    partition: int
    offset: int  # of the record that they were taken after
    stream: list[Any]  # features, their names and categories: only equal ones are pooled together
    rows: np.ndarray
    origins: np.ndarray


class Pool(NamedTuple):
    """Samples that are pooled together."""

    of: Of
    number: int  # of the record of partition `MERGER` that led to it
    parts: list[Sampled]


class Pooling:
    """What a shard knows of pools. `partitions` are those of the log."""

    def __init__(self, partition: int, partitions: int):
        self._partition, self._most = partition, max(1, -(-SAMPLE // partitions))
        self._due: dict[Of, int] = dict.fromkeys(STREAMS, POOL_FIRST)  # events after which a sample is taken
        self._pools: dict[Of, bytes] = {}  # the newest record of each stream, until it is adopted
        self._number: dict[Of, int] = dict.fromkeys(STREAMS, NOTHING)  # of the newest
        self._samples: dict[Of, dict[int, Sampled]] = {of: {} for of in STREAMS}  # those of partition `MERGER`
        self._news: dict[Of, int] = dict.fromkeys(STREAMS, 0)  # samples since they were merged

    def left(self, of: Of, guard: Guard) -> int:
        """How many events may come before something must be done."""
        return self._due[of] - guard.n_learned(of)

    def after(self, of: Of, offset: int, guard: Guard) -> list[Append]:
        """Take a sample if it is time, after the events of a record."""
        n, appended = guard.n_learned(of), list[Append]()
        if n >= self._due[of]:
            while self._due[of] <= n:
                self._due[of] += min(self._due[of], POOL_EVERY)
            sample, stream = guard.sample(of, self._most), guard.stream(of)
            if sample is not None and stream is not None and len(sample.rows):
                told = Sampled(of, self._partition, offset, list(stream), *sample)
                appended.append(Append(offset, MERGER, SAMPLES, pack(list(told))))
        return appended

    def merged(self, record: Record) -> list[Append]:
        """Keep a sample, and pool all of them if it is time. Raises Poison for a record that holds none."""
        sampled = _sampled(_unpacked(record.value))
        if self._partition != MERGER:
            raise Poison(f"a sample belongs to partition {MERGER}")
        known = self._samples[sampled.of]
        before = known.get(sampled.partition)
        if before is not None and before.offset >= sampled.offset:
            return []
        known[sampled.partition] = sampled
        self._news[sampled.of] += 1
        if 2 * self._news[sampled.of] < len(known):
            return []
        self._news[sampled.of] = 0
        parts = [list(each) for each in merge([known[partition] for partition in sorted(known)])]
        return [Append(record.offset, None, POOLS, pack([sampled.of, record.offset, parts]))]

    def take(self, record: Record, guard: Guard) -> None:
        """Adopt a pool, or keep it until the stream has begun. Raises Poison for a record that holds none."""
        of, number, _ = _pool(record.value)
        if number > self._number[of]:
            self._number[of] = number
            self._pools[of] = record.value
            self.adopt(of, guard)

    def adopt(self, of: Of, guard: Guard) -> None:
        """Adopt the newest pool, if there is one that waits and the stream has begun."""
        stream = guard.stream(of)
        if of in self._pools and stream is not None:
            parts = [part for part in _pool(self._pools.pop(of)).parts if part.stream == plain(stream)]
            if parts:
                rows, origins = (np.concatenate(arrays) for arrays in zip(*(part[4:] for part in parts), strict=True))
                guard.adopt(of, Sample(rows, origins))

    def waits(self, of: Of) -> bool:
        """Whether there is a pool for a stream that has not begun."""
        return of in self._pools

    def dump(self) -> dict[str, Any]:
        """A copy of everything."""
        return {
            "due": dict(self._due),
            "pools": dict(self._pools),
            "number": dict(self._number),
            "samples": {of: [list(known[each]) for each in sorted(known)] for of, known in self._samples.items()},
            "news": dict(self._news),
        }

    def restore(self, dump: dict[str, Any]) -> None:
        """Become what was dumped."""
        self._due, self._pools, self._number = dump["due"], dump["pools"], dump["number"]
        self._samples = {
            of: {each.partition: each for each in map(_sampled, samples)} for of, samples in dump["samples"].items()
        }
        self._news = dump["news"]


def merge(samples: Sequence[Sampled]) -> list[Sampled]:
    """At most SAMPLE slices of these samples, as many of each as possible: the first ones of each."""
    shares, left = [0] * len(samples), SAMPLE
    for i in range(SAMPLE):
        for j, sample in enumerate(samples):
            if i < len(sample.rows) and left:
                shares[j] += 1
                left -= 1
    return [
        sample._replace(rows=sample.rows[:share], origins=sample.origins[:share])
        for sample, share in zip(samples, shares, strict=True)
        if share
    ]


def plain(stream: Any) -> list[Any]:
    """A stream as it comes back from a record."""
    return [list(part) if isinstance(part, tuple) else part for part in stream]


def _unpacked(value: bytes) -> Any:
    try:
        return unpack(value)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise Poison(f"the record is no sample and no pool: {error}") from None


def _sampled(found: Any) -> Sampled:
    if not _is(found, str, int, int, list, np.ndarray, np.ndarray) or found[0] not in STREAMS:
        raise Poison("the record is no sample; only shards write those")
    sampled = Sampled(*found)
    if not sampled.rows.ndim == sampled.origins.ndim == 2 or len(sampled.rows) != len(sampled.origins):
        raise Poison("the record is no sample; only shards write those")
    return sampled


def _pool(value: bytes) -> Pool:
    found = _unpacked(value)
    if not _is(found, str, int, list) or found[0] not in STREAMS:
        raise Poison("the record is no pool; only shards write those")
    return Pool(found[0], found[1], [_sampled(part) for part in found[2]])


def _is(found: Any, *kinds: type) -> bool:
    """Whether it is a list of values of these kinds."""
    return isinstance(found, list) and list(map(type, found)) == list(kinds)
