"""When shards leave snapshots: one that is due is written by a thread, one that is to go by whoever asks."""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future

from onlineguard_service.journal.packing import Packed
from onlineguard_service.partitions.log import Fenced, Owned
from onlineguard_service.shards.held import Held, Progress
from onlineguard_service.shards.snapshots import Snapshots

log = logging.getLogger("onlineguard.worker")


class Keeping:
    """See this module. Nothing is in a snapshot that is not published.

    every, records: seconds, and records of a shard, after which a snapshot of it is due.
    clock: seconds, that never go back.
    thread: writes snapshots, one at a time.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        every: float,
        records: int,
        progress: Progress,
        clock: Callable[[], float],
        thread: Executor,
    ):
        self.every, self.thread = every, thread
        self._snapshots, self._records, self._progress, self._clock = snapshots, records, progress, clock
        self._writing: tuple[Held, int, Future[None]] | None = None
        self.refused: list[Owned] = []  # by the store, where another process had claimed the partition

    def when_due(self, all_held: Iterable[Held]) -> None:
        """Have the thread write the snapshot that is due longest, one at a time."""
        if self._writing is not None and self._writing[2].done():
            self._written()
        if self._writing is not None:
            return
        now = self._clock()
        for held in sorted(all_held, key=lambda held: held.kept_at):
            due = now - held.kept_at >= self.every or held.since >= self._records
            if due and (parts := self._parts(held)) is not None:
                offset, held.kept_at, held.since = parts[0], now, 0
                self._writing = held, offset, self.thread.submit(self._snapshots.write, held.owned, *parts)
                return
            shard = held.shard
            quiet = shard is not None and held.caught_up and held.kept == shard.offset and not held.unread
            if quiet and now - held.said_at >= self.every:
                held.said_at = now
                self.thread.submit(self._say_current, held.owned, held.kept, held.caught_up)

    def now(self, held: Held) -> None:
        """Write a snapshot of a shard that is to go, if there is something new. What fails is logged."""
        if self._writing is not None and self._writing[0] is held:
            self._written()
        if (parts := self._parts(held)) is not None:
            self._note(held, parts[0], lambda: self._snapshots.write(held.owned, *parts))

    def behind(self, all_held: Mapping[int, Held]) -> dict[int, float]:
        """Seconds since a shard applied the first record that is in no snapshot, by partition; 0: there is none."""
        now = self._clock()
        return {
            partition: 0.0 if held.unkept_at is None else max(0.0, now - held.unkept_at)
            for partition, held in sorted(all_held.items())
            if held.shard is not None
        }

    def close(self) -> None:
        """Wait for the thread to end."""
        self.thread.shutdown()

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

    def _note(self, held: Held, offset: int, write: Callable[[], None]) -> None:
        try:
            write()
        except Fenced:  # what is done next is not published either
            log.info("partition %d has another owner: it gets no snapshot of this one", held.owned.partition)
            self.refused.append(held.owned)
        except Exception as error:
            self._progress.failures += 1
            log.error("no snapshot of partition %d could be written: %s", held.owned.partition, error)
        else:
            held.kept = offset
            has_more = held.shard is not None and held.shard.offset > offset
            held.unkept_at = held.kept_at if has_more else None
            self._progress.snapshots += 1
            log.info("a snapshot of partition %d is kept, up to %d", held.owned.partition, offset)
