"""What shards keep in a simulation: something cheap, for thousands of shards, or real guards, for a few."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any, Protocol

from onlineguard_service.entries import Options
from onlineguard_service.journal.packing import unpack
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import Record
from onlineguard_service.shards.shard import Shard

from tests.simulation.guard import CheapShard
from tests.simulation.reference import Fold, Reference, Wanted

Get = Callable[[str], Any]


class Kind(Protocol):
    """What shards keep, what they are given, and what they are held against."""

    def version(self, n: int) -> str:
        """The n-th model that decides, from 0 on."""
        ...

    def model(self, version: str) -> Any:
        """That model."""
        ...

    def shard(self, partition: int, partitions: int, dump: dict[str, Any] | None, get: Get) -> Shard:
        """A new shard, or the one that was dumped."""
        ...

    def fold(self, partition: int, partitions: int) -> Fold:
        """What a shard of the partition is held against."""
        ...

    def written(self, chance: Random, partition: int) -> tuple[bytes, str]:
        """Value and kind of the next record that a producer writes."""
        ...

    def head(self, parts: Mapping[str, bytes]) -> bytes | None:
        """The hash of all that a shard was given, from its snapshot; None where there is none."""
        ...


class Cheap:
    """Hashes, see `guard`."""

    def __init__(self) -> None:
        self._keys: dict[int, int] = {}  # slices of each partition

    def version(self, n: int) -> str:
        """See Kind."""
        return str(n)

    def model(self, version: str) -> Any:
        """See Kind."""
        return SimpleNamespace(version=version, looks_up=None)

    def shard(self, partition: int, partitions: int, dump: dict[str, Any] | None, get: Get) -> Shard:
        """See Kind."""
        if dump is None:
            return CheapShard(partition, partitions, Options(), "0", get)
        return CheapShard.restored(partition, partitions, dump, get)

    def fold(self, partition: int, partitions: int) -> Fold:
        """See Kind."""
        return Reference(partition, partitions)

    def written(self, chance: Random, partition: int) -> tuple[bytes, str]:
        """See Kind: one event or a few, of slices that come and go; now and then poison."""
        if chance.random() < 0.01:
            return b'[{"slice": "cut off', "events"
        events = list[dict[str, Any]]()
        for _ in range(chance.choice([1, 1, 2, 5])):
            newest = self._keys.get(partition, 1) + (chance.random() < 0.1)
            self._keys[partition] = newest
            key = max(1, newest - chance.randrange(12))
            events.append({"slice": f"{partition}.{key}", "x": [chance.random()]})
        return json.dumps(events).encode(), "events"

    def head(self, parts: Mapping[str, bytes]) -> bytes | None:
        """See Kind."""
        return unpack(parts["cheap"])[0]


class Real:
    """Guards with engines and models of clicks.

    versions: two of `models`.
    streams: records of each partition, to be written in order.
    """

    def __init__(self, models: Models, versions: Sequence[str], options: Options, streams: Sequence[Sequence[Record]]):
        self._models, self._versions, self._options = models, versions, options
        self._streams: list[Iterator[Record]] = [iter(stream) for stream in streams]

    def version(self, n: int) -> str:
        """See Kind."""
        return self._versions[n % 2]

    def model(self, version: str) -> Any:
        """See Kind."""
        return self._models.get(version)

    def shard(self, partition: int, partitions: int, dump: dict[str, Any] | None, get: Get) -> Shard:
        """See Kind."""
        if dump is None:
            one = Shard(partition, partitions, self._options, self._versions[0], get)
        else:
            one = Shard.restored(partition, partitions, dump, get)
        one.warmup(0)
        return one

    def fold(self, partition: int, partitions: int) -> Fold:
        """See Kind."""
        return OneByOne(self.shard(partition, partitions, None, self._models.get))

    def written(self, chance: Random, partition: int) -> tuple[bytes, str]:
        """See Kind; an empty value, which is poison, where the stream has ended."""
        record = next(self._streams[partition], None)
        return (b"", "events") if record is None else (record.value, record.kind)

    def head(self, parts: Mapping[str, bytes]) -> bytes | None:
        """See Kind."""
        return None


class OneByOne:
    """A real shard that never moves, and takes one record at a time."""

    heads: Mapping[int, bytes] = {}  # none is known

    def __init__(self, shard: Shard):
        self._shard = shard

    @property
    def offset(self) -> int:
        """See Fold."""
        return self._shard.offset

    def apply(self, record: Record) -> Wanted:
        """See Fold."""
        outcome = self._shard.apply([record])
        kinds = {each.kind for each in outcome.appended}
        return Wanted(
            [(each.number, each.to, each.value) for each in outcome.outputs], "sample" in kinds, "pool" in kinds
        )

    def differs(self, shard: Shard) -> str | None:
        """See Fold."""
        return (
            None if shard.digest() == self._shard.digest() else f"digest {shard.digest()}, not {self._shard.digest()}"
        )
