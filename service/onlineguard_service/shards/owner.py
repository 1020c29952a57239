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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from onlineguard.errors import OnlineguardError
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal.packing import Packed, unpack
from onlineguard_service.partitions.log import NOTHING, Done, Fenced, Member, Output, Owned, Record, Writer
from onlineguard_service.shards.choosing import Choosing
from onlineguard_service.shards.pooling import MERGER, Append
from onlineguard_service.shards.shard import Shard
from onlineguard_service.shards.snapshots import Snapshots

AGAIN = 5.0  # seconds until what failed is tried again
LOOK_EVERY = 1.0  # seconds between two looks at how far the log goes
REPORT_EVERY = 10.0  # seconds between two lines of progress
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
    kept_at: float = 0.0  # when that was taken, by the monotonic clock
    since: int = 0  # records since
    caught_up: int = 0  # when it had applied all records last, ms since 1970; 0 if there are some now
    said_at: float = 0.0  # when the store was told so, by the monotonic clock
    waits: str | None = None  # why it does not go on
    again: float = 0.0  # when that is tried again


@dataclass
class Progress:
    """What a process did so far."""

    records: int = 0
    outputs: dict[str, int] = field(default_factory=dict)  # by topic
    snapshots: int = 0
    failures: int = 0  # of snapshots
    gained: int = 0
    lost: int = 0
    fenced: int = 0  # partitions that went unnoticed
    undone: int = 0  # partitions whose log went back

    def __str__(self) -> str:
        told = ", ".join(f"{n} {topic}" for topic, n in sorted(self.outputs.items())) or "nothing"
        return (
            f"{self.records} records, {told} published, {self.snapshots} snapshots, {self.gained} partitions gained, "
            f"{self.lost} lost, {self.fenced} of them fenced"
        )


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
        self._clock, self._thread = clock, thread or ThreadPoolExecutor(1, "snapshots")
        self.held: dict[int, Held] = {}
        self.progress = Progress()
        self.turned = self._clock()  # when the last turn ended
        self.lags: Mapping[int, float] = {}  # seconds, by partition; see `_look_behind`
        self.rate = 0.0  # records a second, of late
        self._looked = self._clock(), 0
        self._member, self._writer, self._snapshots, self._make = member, writer, snapshots, make
        self._pace, self._choosing = pace or Pace(), choosing
        self._most = self._pace.most
        self._pending: list[Append] = []  # that the log does not have yet
        self._writing: tuple[Held, int, Future[None]] | None = None
        self._reported = self._clock(), 0

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
        turn = self._member.poll(0.0 if unread else self._pace.wait, max(self._most - unread, 1))
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
        self._snapshot_when_due()
        self._choose()
        self._adapt(self._clock() - applying, sum(len(each.records) for each in turn.read))
        self._look_behind()
        self._report()
        self.turned = self._clock()

    def close(self) -> None:
        """Leave a snapshot of every shard, and the group, so that others go on at once."""
        try:
            for held in list(self.held.values()):
                self._snapshot_now(held)
            self.held.clear()
        finally:
            self._thread.shutdown()
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

    def stuck(self) -> str | None:
        """Why it counts as stuck; None: it does not."""
        silent = self._clock() - self.turned
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
            self._drop(owned.partition)
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
            self._snapshot_now(held)
            del self.held[owned.partition]
            self.progress.lost += 1
            log.info("partition %d went to another process", owned.partition)

    def _drop(self, partition: int, why: str = "it went to another process, unnoticed") -> None:
        """Forget a shard with what was done since."""
        if self.held.pop(partition, None) is not None:
            self.progress.lost += 1
            self.progress.fenced += 1
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
                self._drop(error.partition)
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

    def _snapshot_when_due(self) -> None:
        """Have a thread write the snapshot that is due longest, one at a time."""
        if self._writing is not None and self._writing[2].done():
            self._written()
        if self._writing is not None:
            return
        now, pace = self._clock(), self._pace
        for held in sorted(self.held.values(), key=lambda held: held.kept_at):
            due = now - held.kept_at >= pace.snapshot_every or held.since >= pace.snapshot_records
            if due and (parts := self._parts(held)) is not None:
                offset, held.kept_at, held.since = parts[0], now, 0
                self._writing = held, offset, self._thread.submit(self._snapshots.write, held.owned, *parts)
                return
            shard = held.shard
            quiet = shard is not None and held.caught_up and held.kept == shard.offset and not held.unread
            if quiet and now - held.said_at >= pace.snapshot_every:
                held.said_at = now
                self._thread.submit(self._say_current, held.owned, held.kept, held.caught_up)

    def _say_current(self, owned: Owned, offset: int, t: int) -> None:
        """Tell replicas that the newest snapshot is as new as the log."""
        try:
            self._snapshots.say_current(owned, offset, t)
        except Fenced:
            pass
        except Exception as error:
            log.warning("it could not be said that the snapshot of partition %d is current: %s", owned.partition, error)

    def _parts(self, held: Held) -> tuple[int, Packed] | None:
        """The offset and the state of a shard, if there is something new and all of it is published."""
        shard = held.shard
        if shard is None or shard.offset <= held.kept or shard.offset > held.settled:
            return None
        shard.guard.fetch()
        return shard.offset, Packed(shard.dump())

    def _written(self) -> None:
        """Take note of the snapshot that the thread has written; waits for it."""
        if self._writing is None:
            return
        (held, offset, future), self._writing = self._writing, None
        self._note(held, offset, future.result)

    def _snapshot_now(self, held: Held) -> None:
        if self._writing is not None and self._writing[0] is held:
            self._written()
        if (parts := self._parts(held)) is not None:
            self._note(held, parts[0], lambda: self._snapshots.write(held.owned, *parts))

    def _note(self, held: Held, offset: int, write: Callable[[], None]) -> None:
        try:
            write()
        except Fenced:  # what is done next is not published either
            log.info("partition %d has another owner: it gets no snapshot of this one", held.owned.partition)
        except Exception as error:
            self.progress.failures += 1
            log.error("no snapshot of partition %d could be written: %s", held.owned.partition, error)
        else:
            held.kept = offset
            self.progress.snapshots += 1
            log.info("a snapshot of partition %d is kept, up to %d", held.owned.partition, offset)

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

    def _look_behind(self) -> None:
        """How fast it goes, and how many seconds ago the log took the record that each shard applied last.

        The latter is 0 where a shard has applied all. Before the first one, it goes by the record that comes next.
        """
        now, (last, before) = self._clock(), self._looked
        if now - last < LOOK_EVERY:
            return
        self.rate = (self.progress.records - before) / (now - last)
        self._looked, found = (now, self.progress.records), dict[int, float]()
        for partition, held in sorted(self.held.items()):
            if held.shard is not None:
                behind = self._member.end(partition) > held.shard.offset
                since = held.shard.t or (held.unread[0].t if held.unread else 0)
                found[partition] = max(0.0, time.time() - since / 1_000) if behind and since else 0.0
                held.caught_up = 0 if behind else time.time_ns() // 1_000_000
        self.lags = found

    def _adapt(self, took: float, n: int) -> None:
        """Read fewer records at once where a turn takes long, so that the group does not take this process for dead."""
        if took > LONG:
            self._most = max(1, self._most // 2)
        elif took < SHORT and n >= self._most:
            self._most = min(self._pace.most, 2 * self._most)

    def _report(self) -> None:
        now, (last, before) = self._clock(), self._reported
        if now - last >= REPORT_EVERY and self.progress.records > before:
            rate, lag = (self.progress.records - before) / (now - last), max(self.lags.values(), default=0.0)
            log.info("%s; %.0f records/s, %.1f s behind", self.progress, rate, lag)
            self._reported = now, self.progress.records


def _first(records: Sequence[Record]) -> Sequence[Record]:
    """The first of them, up to `TOGETHER` bytes; at least one."""
    size = 0
    for n, record in enumerate(records):
        size += len(record.value)
        if n and size > TOGETHER:
            return records[:n]
    return records
