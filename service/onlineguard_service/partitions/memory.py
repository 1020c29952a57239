"""A partitioned log in this process, for tests and for a simulation.

It has no clock, no thread and no chance of its own: `MemoryLog.t` is the time at which records come, and who owns
which partition changes when it is told to, or when a member joins or leaves if it is `eager`. The same calls lead to
the same answers. `MemoryMember.poll` never waits.

A partition that moves does so at once: its new owner gains it at its next poll, and the old one, which has not been
told yet, is refused when it publishes. That is how a process behaves that was stopped for a while and wakes up.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from onlineguard_service.partitions.division import divided, placed
from onlineguard_service.partitions.log import NOTHING, Done, Fenced, Output, Owned, Read, Record, Turn


class Published(NamedTuple):
    """An output, and the partition whose record led to it."""

    partition: int
    output: Output


class MemoryLog:
    """Partitions of records, the group that shares them, and what was published.

    partitions: how many there are.
    eager: divide the partitions anew whenever a member joins or leaves. Otherwise only `rebalance` and `give` do.
    """

    def __init__(self, partitions: int, eager: bool = True):
        self.t = 0  # ms since 1970, moved by whoever tests
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.outputs: list[Published] = []  # in the order of publishing
        self.published = [NOTHING] * partitions
        self.owners: list[Owned | None] = [None] * partitions
        self._generations = [0] * partitions
        self._members: dict[str, MemoryMember] = {}
        self._holders: list[str | None] = [None] * partitions
        self._held: dict[str, set[int]] = {}  # partitions by holder
        self._eager = eager

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self.records)

    def append(self, partition: int, value: bytes, kind: str = "events", jump: int = 0) -> Record:
        """A record behind the others, at the time `t`. `jump`: offsets that are left out before it."""
        record = Record(self.end(partition) + 1 + jump, self.t, value, kind)
        self.records[partition].append(record)
        return record

    def end(self, partition: int) -> int:
        """The offset of the newest record, or `NOTHING`."""
        return self.records[partition][-1].offset if self.records[partition] else NOTHING

    def member(self, name: str = "member") -> "MemoryMember":
        """A member that joins the group. A name that is taken belongs to the newer one from now on."""
        if name in self._members:
            self._left(name)
        member = MemoryMember(self, name)
        self.join(member)
        return member

    def join(self, member: "MemoryMember") -> None:
        """Take a member into the group; one that was expelled does so itself at its next poll."""
        self._members[member.name] = member
        if self._eager:
            self.rebalance()

    def writer(self) -> "MemoryWriter":
        """Appends to this log."""
        return MemoryWriter(self)

    def expel(self, name: str) -> None:
        """The group takes a member for dead and gives its partitions to others. If it polls again, it joins anew."""
        self._left(name)
        if self._eager:
            self.rebalance()

    def rebalance(self) -> None:
        """Divide the partitions among the members; those that stay where they are keep their generation."""
        names = divided(self.partitions, list(self._members)) if self._members else [None] * self.partitions
        for partition, name in enumerate(names):
            if name != self._holders[partition]:
                self.give(partition, name)

    def give(self, partition: int, name: str | None) -> None:
        """Move a partition to a member, or away from all, at once; a new generation begins even if it stays."""
        if (before := self._holders[partition]) is not None:
            self._held[before].remove(partition)
        if name is not None:
            self._held.setdefault(name, set()).add(partition)
        self._holders[partition] = name
        self._generations[partition] += 1
        owned = Owned(partition, self._generations[partition], self.published[partition])
        self.owners[partition] = owned if name is not None else None

    def go_back(self, partition: int, end: int, published: int) -> None:
        """Forget a partition's records after one offset, and what was published after another, as a failover does."""
        del self.records[partition][bisect_right(self.records[partition], end, key=_offset) :]
        self.outputs = [each for each in self.outputs if each.partition != partition or each.output.offset <= published]
        self.published[partition] = published
        self.give(partition, self._holders[partition])

    def names(self) -> list[str]:
        """The members, in the order in which they joined."""
        return list(self._members)

    def owned_by(self, name: str) -> list[Owned]:
        """The partitions of a member, as they are since they came to it."""
        return [
            owned for partition in sorted(self._held.get(name, ())) if (owned := self.owners[partition]) is not None
        ]

    def holder(self, partition: int) -> str | None:
        """The member that has a partition."""
        return self._holders[partition]

    def owns(self, name: str, owned: Owned) -> bool:
        """Whether a partition is still this member's, in this generation."""
        return self._holders[owned.partition] == name and self.owners[owned.partition] == owned

    def _left(self, name: str) -> None:
        self._members.pop(name).expelled = True
        for partition in sorted(self._held.get(name, ())):
            self.give(partition, None)


class MemoryMember:
    """A `Member` of a `MemoryLog`."""

    def __init__(self, log: MemoryLog, name: str):
        self.log, self.name = log, name
        self.expelled = self._closed = False
        self._places: dict[Owned, int | None] = {}  # the offset read last; None before `seek`
        self._published: dict[Owned, int] = {}  # how far outputs go, as this member knows it
        self._paused: set[Owned] = set()
        self._first = 0  # which partition is read first: they take turns

    @property
    def partitions(self) -> int:
        """See `Member.partitions`."""
        return self.log.partitions

    def poll(self, seconds: float = 0.0, most: int = 500) -> Turn:
        """See `Member.poll`; never waits."""
        if self._closed:
            return Turn()
        if self.expelled:
            lost = list(self._places)
            undone = self._undone(lost)
            self._places.clear()
            self._paused.clear()
            self.expelled = False
            if self.name in self.log.names():  # another took the name meanwhile
                self._closed = True
            else:
                self.log.join(self)
            return Turn(lost=lost, undone=undone)
        has = self.log.owned_by(self.name)
        lost = [owned for owned in self._places if not self.log.owns(self.name, owned)]
        gained = [owned for owned in has if owned not in self._places]
        undone = self._undone(lost)
        for owned in lost:
            del self._places[owned]
            self._paused.discard(owned)
        self._places |= dict.fromkeys(gained)
        self._published |= {owned: owned.published for owned in gained}
        return Turn(gained, lost, self._read(most), undone)

    def seek(self, owned: Owned, after: int) -> None:
        """See `Member.seek`."""
        if owned in self._places:
            self._places[owned] = after

    def pause(self, owned: Owned, paused: bool) -> None:
        """See `Member.pause`."""
        if paused and owned in self._places:
            self._paused.add(owned)
        else:
            self._paused.discard(owned)

    def give_up(self, owned: Owned) -> None:
        """See `Member.give_up`: generations come from one place."""

    def publish(self, done: Sequence[Done]) -> None:
        """See `Member.publish`."""
        for each in done:
            if self.expelled or not self.log.owns(self.name, each.owned):
                raise Fenced(each.owned.partition)
        for (partition, *_), upto, outputs in done:
            before = self.log.published[partition]
            self.log.outputs += [Published(partition, output) for output in outputs if output.offset > before]
            self.log.published[partition] = max(before, upto)
        self._published |= {owned: self.log.published[owned.partition] for owned, *_ in done}

    def end(self, partition: int) -> int:
        """See `Member.end`."""
        return self.log.end(partition)

    def close(self) -> None:
        """See `Member.close`."""
        if not self._closed and not self.expelled:
            self.log.expel(self.name)
        self._closed = True

    def _undone(self, lost: Sequence[Owned]) -> list[Owned]:
        """Those whose outputs go less far than this member knows."""
        return [owned for owned in lost if self.log.published[owned.partition] < self._published.pop(owned, NOTHING)]

    def _read(self, most: int) -> list[Read]:
        """Records of the partitions, each in its turn, at most so many in all."""
        places = sorted(self._places)
        self._first += 1
        read: list[Read] = []
        for i in range(len(places)):
            owned = places[(self._first + i) % len(places)]
            after = self._places[owned]
            if after is None or owned in self._paused or most <= 0:
                continue
            records = _after(self.log.records[owned.partition], after, most)
            if records:
                self._places[owned] = records[-1].offset
                most -= len(records)
                read.append(Read(owned, records))
        return read


class MemoryWriter:
    """A `Writer` of a `MemoryLog`."""

    def __init__(self, log: MemoryLog):
        self.log = log

    @property
    def partitions(self) -> int:
        """How many the log has."""
        return self.log.partitions

    def write(self, partition: int | None, key: bytes, value: bytes, kind: str = "events") -> None:
        """See `Writer.write`."""
        self.log.append(placed(partition, key, self.log.partitions), value, kind)

    def flush(self) -> None:
        """See `Writer.flush`: all is as durable as this process."""

    def close(self) -> None:
        """See `Writer.close`."""


def _after(records: Sequence[Record], offset: int, most: int) -> Sequence[Record]:
    """The first records after an offset."""
    first = bisect_right(records, offset, key=_offset)
    return records[first : first + most]


def _offset(record: Record) -> int:
    return record.offset
