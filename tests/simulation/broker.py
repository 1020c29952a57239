"""The log as a process sees it: over a network that delays, loses and repeats, with records of some partitions late."""

from collections import deque
from collections.abc import Sequence

from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.partitions.log import NOTHING, Done, Fenced, Owned, Read, Record, Turn
from onlineguard_service.partitions.memory import MemoryLog, MemoryMember

from tests.simulation.faults import Faults
from tests.simulation.laws import Laws
from tests.simulation.sizes import LEASE
from tests.simulation.world import Process, World

SECONDS = 0.002  # of a message
LAG = 3.0  # seconds that a replica may be behind
AT_ONCE = 64  # records that a message of a writer carries


class Broker(MemoryLog):
    """The log itself, and the group: it takes members for dead that are silent, and divides partitions anew."""

    def __init__(self, world: World, laws: Laws, faults: Faults, partitions: int):
        super().__init__(partitions, eager=False)
        self.world, self.laws, self.faults = world, laws, faults
        self.away = 0.0  # until when nobody reaches it
        self.seen: dict[str, float] = {}  # when each member called last
        self._divided: list[str] = []
        # When each partition was published, how far its records went then, and how far its outputs went.
        self._past: list[list[tuple[float, int, int]]] = [[] for _ in range(partitions)]

    def append(self, partition: int, value: bytes, kind: str = "events", jump: int = 0) -> Record:
        """See MemoryLog."""
        record = super().append(partition, value, kind, jump)
        self.laws.appended(partition, record)
        return record

    def give(self, partition: int, name: str | None) -> None:
        """See MemoryLog."""
        super().give(partition, name)
        self.laws.given(self.owners[partition] or Owned(partition, self._generations[partition]))

    def keep(self, member: MemoryMember, done: Done) -> None:
        """A publication of one partition arrives. Raises Fenced."""
        before = self.published[done.owned.partition]
        member.publish([done])
        added = [each.output for each in self.outputs]
        self.outputs.clear()
        self.laws.published(done, before, added)
        partition = done.owned.partition
        self._past[partition].append((self.world.now, self.end(partition), self.published[partition]))

    def fail_over(self, partition: int) -> None:
        """A replica is promoted, which has what came to a partition up to a moment within the last seconds."""
        past = self._past[partition]
        while len(past) > 1 and past[0][0] < self.world.now - LAG:
            del past[0]
        if not past:  # a log that forgot the whole group is another matter
            return
        n = self.world.chance.randrange(len(past))
        del past[n + 1 :]
        _, end, published = past[n]
        ends = [record.offset for record in self.records[partition] if record.offset >= end]
        last = self.world.chance.choice(ends or [end])
        self.world.tell(f"partition {partition} forgets: it has records up to {last}, and outputs up to {published}")
        self.go_back(partition, last, published)
        self.laws.went_back(partition, self.records[partition], published)

    def watch(self) -> None:
        """Once a second: who is silent is dead, and who is new gets partitions."""
        for name in self.names():
            if self.world.now - self.seen[name] > LEASE:
                self.world.tell(f"the group takes {name} for dead")
                self.expel(name)
        if self.names() != self._divided:
            self._divided = self.names()
            self.world.tell(f"partitions are divided among {', '.join(self._divided)}")
            self.rebalance()
        self.world.at(1.0, self.watch)

    def hears(self, name: str) -> None:
        """A member calls."""
        self.seen[name] = self.world.now

    @property
    def is_away(self) -> bool:
        """Whether nobody reaches it now."""
        return self.world.now < self.away


class SimulatedMember:
    """A `Member`."""

    def __init__(self, broker: Broker, process: Process):
        broker.hears(process.name)
        self._broker, self._process, self._world = broker, process, broker.world
        self._inner = broker.member(process.name)
        self._late: dict[Owned, deque[Record]] = {}  # that were read, and are still under way
        self._handed: dict[Owned, int] = {}  # how far each was handed out
        self._paused: set[Owned] = set()

    @property
    def partitions(self) -> int:
        """See Member."""
        return self._broker.partitions

    def poll(self, seconds: float, most: int) -> Turn:
        """See Member."""
        self._process.wait(self._world.delay(SECONDS))
        if self._broker.is_away:
            self._process.wait(seconds)
            return Turn()
        self._broker.hears(self._process.name)
        turn = self._inner.poll(0.0, max(0, most - sum(map(len, self._late.values()))))
        for owned in turn.lost:
            self._late.pop(owned, None)
            self._handed.pop(owned, None)
            self._paused.discard(owned)
        for owned, records in turn.read:
            self._late.setdefault(owned, deque()).extend(records)
        read = self._arrived(most)
        self._process.wait(self._world.delay(SECONDS) if read or turn.gained or turn.lost else seconds)
        return turn._replace(read=read)

    def seek(self, owned: Owned, after: int) -> None:
        """See Member."""
        self._inner.seek(owned, after)

    def pause(self, owned: Owned, paused: bool) -> None:
        """See Member."""
        self._inner.pause(owned, paused)
        (self._paused.add if paused else self._paused.discard)(owned)

    def give_up(self, owned: Owned) -> None:
        """See Member."""
        self._inner.give_up(owned)

    def publish(self, done: Sequence[Done]) -> None:
        """See Member."""
        world, faults = self._world, self._broker.faults
        while True:
            self._process.wait(world.delay(SECONDS))
            if self._broker.is_away:
                if self._process.stop.is_set():
                    raise JournalUnavailable("the log is away")
                self._process.wait(0.5)
                continue
            self._broker.hears(self._process.name)
            if world.happens(faults.again):
                world.at(world.delay(5.0), lambda: self._again(done))
            apart = world.happens(0.1)  # others may come between two partitions
            for each in done:
                self._broker.keep(self._inner, each)
                if apart:
                    self._process.wait(world.delay(SECONDS))
            self._process.wait(world.delay(SECONDS))
            if not world.happens(faults.lost):
                return
            world.tell(f"{self._process.name}: the answer to a publication is lost")

    def end(self, partition: int) -> int:
        """See Member."""
        return self._inner.end(partition)

    def close(self) -> None:
        """See Member."""
        self._process.wait(self._world.delay(SECONDS))
        self._inner.close()

    def _again(self, done: Sequence[Done]) -> None:
        """A publication arrives a second time, whoever owns its partitions now."""
        self._world.tell(f"{self._process.name}: a publication arrives again")
        for each in done:
            try:
                self._broker.keep(self._inner, each)
            except Fenced:
                return

    def _arrived(self, most: int) -> list[Read]:
        """What of that which is under way has arrived: in order in each partition, in any order across them."""
        chance, owned_ = self._world.chance, sorted(self._late)
        chance.shuffle(owned_)
        read: list[Read] = []
        for owned in owned_:
            late = self._late[owned]
            if owned in self._paused or chance.random() < 0.2 or most <= 0:
                continue
            n = min(most, len(late) if chance.random() < 0.7 else chance.randint(1, len(late)))
            records = [late.popleft() for _ in range(n)]
            most -= n
            if not late:
                del self._late[owned]
            if most > 3 and self._world.happens(self._broker.faults.repeated):
                repeated = [r for r in self._broker.records[owned.partition][-50:] if self._was_handed(owned, r)][-3:]
                most -= len(repeated)
                records[:0] = repeated
            self._handed[owned] = records[-1].offset
            read.append(Read(owned, records))
        return read

    def _was_handed(self, owned: Owned, record: Record) -> bool:
        return record.offset <= self._handed.get(owned, NOTHING)


class SimulatedWriter:
    """A `Writer`."""

    def __init__(self, broker: Broker, process: Process):
        self._broker, self._process, self._world = broker, process, broker.world
        self._written: list[tuple[int, bytes, str]] = []

    def write(self, partition: int | None, key: bytes, value: bytes, kind: str = "events") -> None:
        """See Writer; of a record without a partition, none is written here."""
        assert partition is not None
        self._written.append((partition, value, kind))

    def flush(self) -> None:
        """See Writer: in any order across partitions."""
        written, self._written = self._written, []
        by_partition: dict[int, list[tuple[int, bytes, str]]] = {}
        for each in written:
            by_partition.setdefault(each[0], []).append(each)
        order = list(by_partition)
        self._world.chance.shuffle(order)
        in_order = [each for partition in order for each in by_partition[partition]]
        for start in range(0, len(in_order), AT_ONCE):
            self._process.wait(self._world.delay(SECONDS))
            if self._broker.is_away:
                raise JournalUnavailable("the log is away")
            for partition, value, kind in in_order[start : start + AT_ONCE]:
                self._broker.append(partition, value, kind)
        self._process.wait(self._world.delay(SECONDS))
        if self._world.happens(self._broker.faults.flush):
            self._world.tell(f"{self._process.name}: what was written is durable, and it is told that it is not")
            raise JournalUnavailable("the answer is lost")

    def close(self) -> None:
        """See Writer."""
