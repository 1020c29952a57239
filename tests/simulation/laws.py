"""The laws of a deployment of shards, each checked where it could be broken.

| law | when it is checked |
|---|---|
| one owner publishes | at each publication: by the newest generation of its partition, and by no other |
| outputs are there once, in order, and right | at each publication: those of the plain fold since the last |
| what is published was read | a publication goes as far as the log, and never back |
| samples and pools are durable first | at each publication: those of its records are in the log already, or were |
| snapshots hold what is published | at each snapshot: no further than outputs go, and the plain fold's state |
| replaced owners leave no snapshot | one that begins to write one after its successor's claim is refused |
| memory is bounded | after each turn: records that are held |
| partitions make progress | every five seconds: none stands still while its owner, the log and the store are well |
| workers live on | only who is killed or told to stop ends |
| every record is applied once, every pool at its place | at the end: each state is the plain fold of a partition |
| nothing is dropped | at the end: every record of every partition is published |
| all partitions catch up | when faults have ended, within simulated time |

Where the log goes back, the laws go back with it: the fold is begun anew of what is left. A snapshot of an owner from
before that may hold what is lost, and its successor must not rely on it.
"""

from collections.abc import Callable, Sequence

from onlineguard_service.journal.packing import unpack
from onlineguard_service.partitions.log import NOTHING, Done, Output, Owned, Record
from onlineguard_service.shards.shard import Shard

from tests.simulation.reference import Fold, Wanted, differences, opened
from tests.simulation.world import Broken


class Laws:
    """See this module. It knows of the log what happened there, and asks nobody."""

    def __init__(self, partitions: int, fold: Callable[[int], Fold]):
        self._fold, self.references = fold, [fold(partition) for partition in range(partitions)]
        self.partitions = partitions
        self.generations = [0] * partitions  # the newest owner of each
        self.ends = [NOTHING] * partitions
        self.outputs = self.records = self.snapshots = self.publications = 0
        self._unread: list[list[Record]] = [[] for _ in range(partitions)]  # that the fold has not taken
        self._samples: set[tuple[int, int]] = set()  # partition and offset of those in the log
        self._pools: dict[int, set[int]] = {}  # partitions that have one, by its number
        self._undone = [0] * partitions  # the newest generation from before each went back

    def given(self, owned: Owned) -> None:
        """A partition came to another owner."""
        self.generations[owned.partition] = owned.generation

    def appended(self, partition: int, record: Record) -> None:
        """The log took a record."""
        self.ends[partition] = record.offset
        self._unread[partition].append(record)
        if record.kind == "sample":
            _, of, offset, *_ = unpack(record.value)
            self._samples.add((of, offset))
        elif record.kind == "pool":
            self._pools.setdefault(opened(record.value)[0], set()).add(partition)

    def went_back(self, partition: int, records: Sequence[Record], published: int) -> None:
        """The log has just these records now, and outputs up to an offset; a new generation has begun."""
        self.references[partition] = self._fold(partition)
        self.ends[partition] = records[-1].offset if records else NOTHING
        self._unread[partition] = list(records)
        self.records -= sum(record.offset <= published for record in records)
        self._folded(partition, published)
        self._undone[partition] = self.generations[partition] - 1

    def published(self, done: Done, before: int, found: Sequence[Output]) -> None:
        """The log kept a publication. `before`: how far the partition's outputs went; found: what was added."""
        partition, generation, *_ = done.owned
        where = f"partition {partition}, generation {generation}"
        if generation != self.generations[partition]:
            raise Broken("one owner publishes", f"{where}, where {self.generations[partition]} owns it")
        if done.upto > self.ends[partition]:
            raise Broken("what is published was read", f"{where}, up to {done.upto} of {self.ends[partition]}")
        wanted = self._folded(partition, done.upto)
        if (different := differences(wanted, list(found))) is not None:
            raise Broken("outputs are there once, in order, and right", f"{where}, after {before}: {different}")
        for offset, each in wanted:
            if each.sample and (partition, offset) not in self._samples:
                raise Broken("samples and pools are durable first", f"{where}: there is no sample of record {offset}")
            if each.pool and len(self._pools.get(offset, ())) < self.partitions:
                raise Broken(
                    "samples and pools are durable first",
                    f"{where}: pool {offset} is in {len(self._pools.get(offset, ()))} of {self.partitions} partitions",
                )
        self.outputs += len(found)
        self.publications += 1

    def snapshot(self, owned: Owned, offset: int, head: bytes | None, claimed: int, published: int) -> None:
        """A snapshot was written. `claimed`, `published`: the newest claim and output when its owner began to do so."""
        where = f"partition {owned.partition}, generation {owned.generation}, up to {offset}"
        if claimed != owned.generation:
            raise Broken("replaced owners leave no snapshot", f"{where}, when {claimed} had claimed it")
        self.snapshots += 1
        if owned.generation <= self._undone[owned.partition]:
            return  # it may hold what the log has lost, and who comes next must see to that
        reference = self.references[owned.partition]
        if offset > published:
            raise Broken("snapshots hold what is published", f"{where}, published up to {published}")
        if head is not None and reference.heads.get(offset, head) != head:
            raise Broken("snapshots hold what is published", f"{where}: another state than the fold's")

    def held(self, who: str, waiting: int, others: int, most: int, waiting_partitions: int) -> None:
        """The records that a process holds after a turn, of partitions that wait and of all others."""
        if others > most or waiting > most * waiting_partitions:
            raise Broken("memory is bounded", f"{who} holds {others} records, and {waiting} of partitions that wait")

    def state(self, partition: int, shard: Shard) -> None:
        """At the end: a shard is the plain fold of its partition."""
        if (different := self.references[partition].differs(shard)) is not None:
            raise Broken("every record is applied once, every pool at its place", f"partition {partition}: {different}")

    def ended(self, published: Sequence[int], ends: Sequence[int]) -> None:
        """At the end: nothing is missing of what was there when all had come to rest."""
        for partition, (upto, end) in enumerate(zip(published, ends, strict=True)):
            if upto < end:
                raise Broken("nothing is dropped", f"partition {partition} is published up to {upto} of {end}")

    def _folded(self, partition: int, upto: int) -> list[tuple[int, Wanted]]:
        unread, reference, n = self._unread[partition], self.references[partition], 0
        wanted: list[tuple[int, Wanted]] = []
        while n < len(unread) and unread[n].offset <= upto:
            wanted.append((unread[n].offset, reference.apply(unread[n])))
            n += 1
        del unread[:n]
        self.records += n
        return wanted
