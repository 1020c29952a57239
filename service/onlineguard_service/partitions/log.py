"""What a shard needs of a log that is cut into partitions, whoever keeps it.

A log hands each of its partitions to one member of a group at a time. `Member.poll` says which partitions came and
went, and has their records in order. A member applies them and publishes what comes of them:

    turn = member.poll(1.0, 500)
    for each in turn.read: ...                          # apply its records to the shard of its partition
    member.publish([Done(owned, upto, outputs), ...])   # or Fenced

**Exactly once, in effect.** `publish` keeps the outputs of a partition and the offset `upto` in one step, and refuses
who does not own the partition any more. A member that comes to own a partition is told how far its outputs go,
`Owned.published`. It takes the newest snapshot of the shard, which may be older, reads from there, and publishes
nothing again for records up to `published`. So each record is applied once in the state that remains, and its outputs
are there once, whoever dies when.

**A log that goes back.** A failover may lose what was written last: records, outputs, and how far they go, in that
order from the end. A snapshot that is ahead of `Owned.published` then knows of records that may not be there, and an
older one is taken, from which all that is left is applied. A member that lives through it is told by `Turn.undone`.

A record has an offset, which grows along its partition and may jump, and the time at which the log took it. A shard
reads no clock but this one.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from onlineguard.errors import OnlineguardError

NOTHING = -1  # the offset before a partition's first record
OUTPUTS = ("decisions", "alarms", "dead")  # the topics of outputs


class Fenced(Exception):
    """Another member owns the partition now: what this one did since is not wanted."""

    def __init__(self, partition: int):
        super().__init__(f"another process owns partition {partition} now")
        self.partition = partition


class RecordsGone(OnlineguardError):
    """The log dropped records before they were applied. The message says which, and how to go on without them."""


class Record(NamedTuple):
    """One record of a partition."""

    offset: int  # grows along the partition, and may jump
    t: int  # ms since 1970, when the log took it
    value: bytes
    kind: str = "events"  # what the value is; see `records`


class Output(NamedTuple):
    """What one record led to; a consumer that saw (partition, offset, number) already can drop it."""

    offset: int  # of that record
    number: int  # among its outputs
    to: str  # the topic: "decisions", "alarms" or "dead"
    key: bytes  # of the topic's record, e.g. the slice
    value: bytes


class Owned(NamedTuple):
    """A partition, for as long as this member owns it."""

    partition: int
    generation: int  # larger for each next owner of the partition
    published: int = NOTHING  # outputs are there for records up to this offset
    follows: int | None = None  # the generation before, as the log knows it; None: it does not say


class Read(NamedTuple):
    """Records of one partition, in order."""

    owned: Owned
    records: Sequence[Record]


class Turn(NamedTuple):
    """What a poll found."""

    gained: Sequence[Owned] = ()  # read on from where `seek` says; nothing is read of them before
    lost: Sequence[Owned] = ()  # nothing more can be published for them; they come before those gained
    read: Sequence[Read] = ()
    undone: Sequence[Owned] = ()  # those lost whose log went back, e.g. in a failover: what was done is not wanted


class Done(NamedTuple):
    """What is published of a partition: all records up to an offset are dealt with."""

    owned: Owned
    upto: int
    outputs: Sequence[Output] = ()


class Member(Protocol):
    """One process in the group that shares a log. Its methods are called by one thread."""

    @property
    def partitions(self) -> int:
        """How many the log has."""
        ...

    def poll(self, seconds: float, most: int) -> Turn:
        """At most `most` records, waited for up to so many seconds; returns early with what there is.

        Nothing comes while the log is away, which is logged.
        """
        ...

    def seek(self, owned: Owned, after: int) -> None:
        """Read a partition from the record after this offset on. Called once for each partition that is gained.

        Records after it that the log has dropped are noticed here or by the next `poll`, which raise RecordsGone.
        """
        ...

    def pause(self, owned: Owned, paused: bool) -> None:
        """Read nothing of a partition for a while, or go on: a shard that is slow holds no records in memory."""
        ...

    def give_up(self, owned: Owned) -> None:
        """Let a partition go to its next owner, who may be this member, in a newer generation; `poll` names it as lost.

        It is for an owner that the store of snapshots refuses, though the log does not: a Redis that was cut off gave
        the partition to another process. Where generations come from one place it does nothing: who is refused there
        was replaced, and hears of it.
        """
        ...

    def publish(self, done: Sequence[Done]) -> None:
        """Keep the outputs of several partitions, each partition's with its offset in one step.

        Outputs of records that were published before are dropped, so that to publish again adds nothing. Raises Fenced
        where a partition belongs to another member by now: nothing of it was kept, and the next `poll` names it among
        those lost. The partitions before it in `done` may have been kept. Waits while the log is away, and raises
        JournalUnavailable only if the member is told to stop meanwhile.
        """
        ...

    def end(self, partition: int) -> int:
        """The offset of a partition's newest record, `NOTHING` where it has none: how far behind a shard is."""
        ...

    def close(self) -> None:
        """Leave the group, so that others own its partitions at once."""
        ...


class Writer(Protocol):
    """Appends records to a log."""

    def write(self, partition: int | None, key: bytes, value: bytes, kind: str = "events") -> None:
        """Append a record to a partition, or to that of its key. May return before it is durable; see `flush`."""
        ...

    def flush(self) -> None:
        """Return when everything written is durable. Raises JournalUnavailable where it is not."""
        ...

    def close(self) -> None:
        """Flush, and write no more."""
        ...
