"""A partition that a process owns, and what the process did so far."""

from dataclasses import dataclass, field

from onlineguard_service.partitions.log import NOTHING, Owned, Record
from onlineguard_service.shards.shard import Shard


@dataclass
class Held:
    """A partition that this process owns."""

    owned: Owned
    claimed: bool = False
    found: tuple[int, dict[str, bytes]] | None = None  # the snapshot that it begins from, until it is restored
    shard: Shard | None = None  # None until it is restored
    unread: list[Record] = field(default_factory=list)  # that were polled and not applied
    settled: int = NOTHING  # up to which record outputs are published
    kept: int = NOTHING  # the offset of the newest snapshot
    kept_at: float = 0.0  # when the last one was tried, by the monotonic clock
    since: int = 0  # records since
    unkept_at: float | None = None  # since when it has applied what is in no snapshot; None: the newest has all
    caught_up: int = 0  # when it had applied all records last, ms since 1970; 0 if there are some now
    said_at: float = 0.0  # when the store was told so, by the monotonic clock
    waits: str | None = None  # why it does not go on
    again: float = 0.0  # when that is tried again

    def applied(self, now: float) -> None:
        """Take note that records were applied, if they were."""
        if self.unkept_at is None and self.shard is not None and self.shard.offset > self.kept:
            self.unkept_at = now


@dataclass
class Progress:
    """What a process did so far."""

    records: int = 0
    outputs: dict[str, int] = field(default_factory=dict)  # by topic
    snapshots: int = 0
    failures: int = 0  # of snapshots
    gained: int = 0
    lost: int = 0
    fenced: int = 0  # partitions that went to another process, unnoticed
    undone: int = 0  # partitions whose log went back

    def __str__(self) -> str:
        told = ", ".join(f"{n} {topic}" for topic, n in sorted(self.outputs.items())) or "nothing"
        return (
            f"{self.records} records, {told} published, {self.snapshots} snapshots, {self.gained} partitions gained, "
            f"{self.lost} lost, {self.fenced} of them fenced"
        )
