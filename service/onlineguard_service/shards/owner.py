"""The loop of one process: it owns some partitions of a log for a while, and keeps their shards.

A turn polls the log, applies the records to their shards, and publishes what comes of them, all in one thread. So at
most `most` records are in memory, and the log is read no faster than the slowest shard goes. A turn that gets long
leaves the rest for the next one, so that the group does not take the process for dead.

- A partition that comes is claimed, its shard restored from the newest snapshot, and read on from there. What was
  published before is applied and not published again.
- A partition that goes leaves a snapshot, unless its next owner has begun already.
- `Fenced` means that it went unnoticed: its shard is dropped, with all that was done since. So it is where the log went
  back, and the partition is restored from a snapshot that knows only what is still there.
- A shard that waits, e.g. for a model that cannot be had now, is paused; the others go on.

Nothing is in a snapshot that is not published. What shards append to the log is durable before what is published says
that it was done.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import Any

from onlineguard.errors import OnlineguardError
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal.packing import unpack
from onlineguard_service.partitions.log import Done, Fenced, Member, Output, Owned, Record, Writer
from onlineguard_service.shards.behind import Behind
from onlineguard_service.shards.choosing import Choosing
from onlineguard_service.shards.held import Held, Progress
from onlineguard_service.shards.keeping import Keeping
from onlineguard_service.shards.pooling import MERGER, Append
from onlineguard_service.shards.shard import Shard
from onlineguard_service.shards.snapshots import Snapshots

AGAIN = 5.0  # seconds until what failed is tried again
STUCK = 300.0  # seconds without the end of a turn after which a process counts as stuck
LONG, SHORT = 2.0, 0.5  # seconds of a turn after which fewer, or more, records are read at once
TOGETHER = 1 << 20  # bytes of records that are applied before a look at the clock

log = logging.getLogger("onlineguard.worker")


@dataclass(frozen=True)
class Pace:
    """How much at once, and how often."""

    most: int = 4_096  # records of a turn
    wait: float = 0.5  # seconds for records, if there are none
    snapshot_every: float = 60.0  # seconds
    snapshot_records: int = 1_000_000  # since the last snapshot, after which there is one before that time


class Owner:
    """See this module.

    make: the shard of a partition, new or from what was dumped.
    clock: seconds, that never go back.
    thread: writes snapshots, one at a time.
    """

    def __init__(
        self,
        member: Member,
        writer: Writer,
        snapshots: Snapshots,
        make: Callable[[int, dict[str, Any] | None], Shard],
        pace: Pace | None = None,
        choosing: Choosing | None = None,
        clock: Callable[[], float] = time.monotonic,
        thread: Executor | None = None,
    ):
        pace = pace or Pace()
        self._clock, self._wait, self._choosing = clock, pace.wait, choosing
        self._member, self._writer, self._snapshots, self._make = member, writer, snapshots, make
        self._most, self._most_ever = pace.most, pace.most
        self._pending: list[Append] = []  # that the log does not have yet
        self.held: dict[int, Held] = {}
        self.progress = Progress()
        self.turned = clock()  # when the last turn ended
        self.behind = Behind(member.end, self.progress, clock)
        thread = thread or ThreadPoolExecutor(1, "snapshots")
        self.keeping = Keeping(snapshots, pace.snapshot_every, pace.snapshot_records, self.progress, clock, thread)

    def run(self, stop: Event) -> Progress:
        """Turn until told to stop, leave snapshots, and leave the group."""
        try:
            while not stop.is_set():
                try:
                    self.turn(stop)
                except JournalUnavailable as error:
                    log.warning("the log cannot be read now: %s", error)
                    stop.wait(AGAIN)
        finally:
            self.close()
        return self.progress

    def turn(self, stop: Event | None = None) -> None:
        """Poll, apply, publish. Raises JournalUnavailable where the log cannot be read."""
        unread = sum(len(held.unread) for held in self.held.values() if held.waits is None)
        turn = self._member.poll(0.0 if unread else self._wait, max(self._most - unread, 1))
        began = self._clock()
        self.progress.undone += len(turn.undone)
        for owned in turn.undone:
            self._drop(owned.partition, "the log lost what was published last: it is restored from an older snapshot")
        for owned in turn.lost:
            self._lose(owned)
        for owned in turn.gained:
            self._gain(owned)
        for held in list(self.held.values()):
            if held.shard is None and began >= held.again:
                self._restore(held)
                if self._clock() - began > LONG:
                    break  # the group is to hear of this process, and what was restored goes on
        applying = self._clock()
        for owned, records in turn.read:
            held = self.held.get(owned.partition)
            if held is not None and held.owned == owned:
                held.unread.extend(records)
        done = [each for held in self.held.values() for each in self._applied(held, began)]
        self._publish(done, stop or Event())
        self.keeping.when_due(self.held.values())
        while self.keeping.refused:
            self._member.give_up(self.keeping.refused.pop())
        self._choose()
        self._adapt(self._clock() - applying, sum(len(each.records) for each in turn.read))
        self.behind.look(self.held)
        self.behind.report()
        self.turned = self._clock()

    def close(self) -> None:
        """Leave a snapshot of every shard, and the group, so that others go on at once."""
        try:
            for held in list(self.held.values()):
                self.keeping.now(held)
            self.held.clear()
        finally:
            self.keeping.close()
            self._member.close()
            with suppress(JournalUnavailable):
                self._writer.close()

    def reasons(self) -> list[str]:
        """Why it is not ready: partitions that are not restored, or that wait."""
        return [
            f"partition {partition}: {held.waits or 'its shard is being restored'}"
            for partition, held in sorted(self.held.copy().items())
            if held.shard is None or held.waits
        ]

    @property
    def partitions(self) -> int:
        """How many the log has."""
        return self._member.partitions

    @property
    def silent(self) -> float:
        """Seconds since the last turn ended."""
        return self._clock() - self.turned

    def stuck(self) -> str | None:
        """Why it counts as stuck; None: it does not."""
        silent = self.silent
        return f"no turn has ended for {silent:.0f} s" if silent > STUCK else None

    def _gain(self, owned: Owned) -> None:
        self.progress.gained += 1
        self.held[owned.partition] = Held(owned, settled=owned.published)

    def _restore(self, held: Held) -> None:
        """Claim a partition, make its shard and read on; what prevents that is tried again."""
        owned = held.owned
        try:
            if not held.claimed:
                held.found, held.claimed = self._snapshots.begin(owned), True
            dump = None if held.found is None else {name: unpack(part) for name, part in held.found[1].items()}
            held.shard = self._make(owned.partition, dump)
        except Fenced:
            self._fence(owned.partition)
            self._member.give_up(owned)
            return
        except (OnlineguardError, OSError) as error:
            held.waits, held.again = str(error), self._clock() + AGAIN
            log.error("the shard of partition %d cannot be restored now: %s", owned.partition, error)
            return
        held.found, held.waits, held.kept, held.kept_at = None, None, held.shard.offset, self._clock()
        self._member.seek(owned, held.shard.offset)
        log.info(
            "partition %d is owned in generation %d: applied up to %d, published up to %d",
            *(owned.partition, owned.generation, held.shard.offset, owned.published),
        )

    def _lose(self, owned: Owned) -> None:
        held = self.held.get(owned.partition)
        if held is not None and held.owned == owned:
            self.keeping.now(held)
            del self.held[owned.partition]
            self.progress.lost += 1
            log.info("partition %d went to another process", owned.partition)

    def _fence(self, partition: int) -> None:
        """Drop a partition that went unnoticed."""
        self.progress.fenced += partition in self.held
        self._drop(partition, "it went to another process, unnoticed")

    def _drop(self, partition: int, why: str) -> None:
        """Forget a shard with what was done since."""
        if self.held.pop(partition, None) is not None:
            self.progress.lost += 1
            log.warning("what was done since of partition %d is dropped: %s", partition, why)

    def _applied(self, held: Held, now: float) -> list[Done]:
        """Apply what was read of a partition, or a part of it if the turn gets long; what is to be published."""
        shard, outputs, waits = held.shard, list[Output](), None
        if shard is None or not held.unread or now < held.again:
            return []
        while held.unread and waits is None:
            found, appended, waits = shard.apply(_first(held.unread))
            left = [record for record in held.unread if record.offset > shard.offset]
            self.progress.records += len(held.unread) - len(left)
            held.since += len(held.unread) - len(left)
            held.unread = left
            outputs += [each for each in found if each.offset > held.settled]
            self._pending += [each for each in appended if each.offset > held.settled]
            if self._clock() - now > LONG:  # the group may not take this process for dead
                break
        held.applied(now)
        self._hold(held, waits)
        return [Done(held.owned, shard.offset, outputs)] if shard.offset > held.settled else []

    def _hold(self, held: Held, waits: str | None) -> None:
        """Read nothing of a partition whose shard waits, and go on when it does not."""
        if waits is not None:
            held.again = self._clock() + AGAIN
            if waits != held.waits:
                log.error("partition %d waits before %s", held.owned.partition, waits)
        if (waits is None) != (held.waits is None):
            self._member.pause(held.owned, waits is not None)
        held.waits = waits

    def _publish(self, done: list[Done], stop: Event) -> None:
        """Append what shards have appended, then publish."""
        while done or self._pending:
            try:
                self._append()
                if done:
                    self._member.publish(done)
                break
            except Fenced as error:
                self._fence(error.partition)
                done = [each for each in done if each.owned.partition != error.partition]
            except JournalUnavailable as error:
                log.warning("what was done cannot be published now: %s", error)
                if stop.wait(AGAIN):
                    return  # and leave no snapshot that says it was published
        for owned, upto, outputs in done:
            self.held[owned.partition].settled = upto
            for output in outputs:
                self.progress.outputs[output.to] = self.progress.outputs.get(output.to, 0) + 1

    def _append(self) -> None:
        """Returns when what was to be appended is durable. What is appended twice, after a failure, changes nothing."""
        if self._pending:
            for each in self._pending:
                for partition in range(self._member.partitions) if each.partition is None else [each.partition]:
                    self._writer.write(partition, b"", each.value, each.kind)
            self._writer.flush()
            self._pending.clear()

    def _choose(self) -> None:
        """Have the log say what the operator chose anew, where this process owns the first partition."""
        held = self.held.get(MERGER)
        if self._choosing is None or not self._choosing.is_due():
            return
        if held is None or held.shard is None or held.waits:
            return
        if held.unread or self._member.end(MERGER) > held.shard.offset:
            return  # it may be in the log already
        self._pending += self._choosing.look(held.shard)

    def _adapt(self, took: float, n: int) -> None:
        """Read fewer records at once where a turn takes long, so that the group does not take this process for dead."""
        if took > LONG:
            self._most = max(1, self._most // 2)
        elif took < SHORT and n >= self._most:
            self._most = min(self._most_ever, 2 * self._most)


def _first(records: Sequence[Record]) -> Sequence[Record]:
    """The first of them, up to `TOGETHER` bytes; at least one."""
    size = 0
    for n, record in enumerate(records):
        size += len(record.value)
        if n and size > TOGETHER:
            return records[:n]
    return records
