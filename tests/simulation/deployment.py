"""A deployment in a simulated world: real owners, shards, snapshots and pools, and everything that may befall them."""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from onlineguard_service.entries import Switch
from onlineguard_service.journal.packing import unpack
from onlineguard_service.partitions.log import Owned
from onlineguard_service.partitions.records import controlled
from onlineguard_service.shards import pooling
from onlineguard_service.shards.held import Progress as OwnersProgress
from onlineguard_service.shards.owner import Owner, Pace
from onlineguard_service.shards.shard import Shard
from onlineguard_service.shards.snapshots import Snapshots

from onlineguard.errors import CheckpointError
from tests.simulation import sizes
from tests.simulation.broker import Broker, SimulatedMember, SimulatedWriter
from tests.simulation.faults import NONE, Faults
from tests.simulation.files import Files, SimulatedStore
from tests.simulation.kinds import Cheap, Kind
from tests.simulation.laws import Laws
from tests.simulation.world import Broken, Process, Thread, World

NOON = 1_700_000_000_000
PACE = Pace(sizes.MOST, 0.5, sizes.SNAPSHOT_EVERY, sizes.SNAPSHOT_RECORDS)
TICK = 0.02  # seconds between two times at which producers write
CALM = 600.0  # seconds after the last fault in which all must have caught up
PATIENCE = 45.0  # seconds, and one a partition, after which a partition that does not move stands still
EVERY = 5.0  # seconds between two looks at that
FEWEST, MOST = 3, 14  # processes


class Deployment:
    """See this module.

    steps: how many there are faults in; then it comes to rest.
    rate: records that come in a second of simulated time.
    """

    def __init__(
        self,
        seed: int,
        steps: int,
        partitions: int,
        faults: Faults | None = None,
        rate: float = 400.0,
        kind: Kind | None = None,
    ):
        self.seed, self.steps, self.partitions, self.rate = seed, steps, partitions, rate
        self.kind = kind or Cheap()
        self.faults = replace(faults or Faults())
        self.world = World(seed)
        with small():
            self.laws = Laws(partitions, lambda partition: self.kind.fold(partition, partitions))
        self.files = Files()
        self.broker = Broker(self.world, self.laws, self.faults, partitions)
        self.broker.t = NOON
        self.processes: dict[str, tuple[Process, Owner]] = {}
        self.wanted = 6  # processes that whoever places them keeps up
        self.counts: dict[str, int] = {}  # of faults
        self.progress: list[OwnersProgress] = []  # of every process
        self._still: list[tuple[Any, ...]] = [(0.0, None, None)] * partitions  # since when, and where, each stands
        self._started = 0
        self._versions = 0
        self._there: dict[str, float] = {}  # when each model can be had

    def run(self, progress: Callable[["Deployment"], None] = lambda deployment: None) -> None:
        """Until all has come to rest. Raises Broken for a law that does not hold."""
        world = self.world
        with small():
            for _ in range(self.wanted):
                self.start()
            self.broker.watch()
            self._produce()
            self._place()
            self._watch_progress()
            self._mend()
            for name in ("kill", "freeze", "rescale", "move", "away", "outage", "clock", "failover", "model"):
                self._befall(name)
            while world.step < self.steps:
                world.go_on()
                progress(self)
            world.tell("faults end")
            for name in vars(NONE):
                setattr(self.faults, name, 0.0)
            end = world.now + CALM
            while not self._at_rest():
                looked = world.now
                while world.now < looked + 5.0:
                    world.go_on()
                    progress(self)
                if world.now > end:
                    raise Broken("all partitions catch up", self._behind())
            self._check_states()
            ends = list(self.laws.ends)  # who stood still may append a sample yet, which nobody is left to read
            self.wanted = 0
            for process, _ in self.processes.values():
                process.stop.set()
            while not all(process.ended for process, _ in self.processes.values()):
                world.go_on()
                progress(self)
        self.laws.ended(self.broker.published, ends)

    def start(self) -> None:
        """Start a process."""
        self._started += 1
        process = Process(self.world, f"w{self._started}", self.world.chance.choice([1.0, 1.0, 1.0, 0.5, 4.0]))
        self.world.tell(f"{process.name} starts")
        member = SimulatedMember(self.broker, process)
        snapshots = CheckedSnapshots(self, SimulatedStore(self.files, process, self.faults), process.name)
        owner = WatchedOwner(
            member,
            SimulatedWriter(self.broker, process),
            snapshots,
            self._make,
            PACE,
            clock=lambda: self.world.now,
            thread=Thread(process),
        )
        owner.watch = lambda: self._held(process.name, owner)
        self.processes[process.name] = process, owner
        self.progress.append(owner.progress)
        process.run(lambda: owner.run(process.stop))  # type: ignore[arg-type]

    def _make(self, partition: int, dump: dict[str, Any] | None) -> Shard:
        return self.kind.shard(partition, self.partitions, dump, self._model)

    def _model(self, version: str) -> Any:
        if self.world.now < self._there.get(version, 0.0):
            raise CheckpointError(f"model {version} cannot be had yet")
        return self.kind.model(version)

    # What befalls it.

    def _befall(self, name: str) -> None:
        """Have something happen now and then."""
        mean = getattr(self.faults, name)
        if mean > 0.0:

            def happen() -> None:
                if getattr(self.faults, name) > 0.0:
                    self.counts[name] = self.counts.get(name, 0) + 1
                    getattr(self, f"_befell_{name}")()
                    self._befall(name)

            self.world.at(self.world.chance.expovariate(1.0 / mean), happen)

    def _some_process(self) -> Process | None:
        running = [process for process, _ in self.processes.values() if not process.ended]
        return self.world.chance.choice(running) if running else None

    def _befell_kill(self) -> None:
        if (process := self._some_process()) is not None:
            self.world.tell(f"{process.name} is killed")
            process.kill()
            if self.world.happens(0.5) and process.name in self.broker.names():  # the group hears of it at once
                self.broker.expel(process.name)

    def _befell_freeze(self) -> None:
        if (process := self._some_process()) is not None:
            seconds = self.world.chance.choice([1.0, 10.0, 2.0 * sizes.LEASE])
            self.world.tell(f"{process.name} stands still for {seconds:.0f} s")
            process.freeze(seconds)

    def _befell_rescale(self) -> None:
        self.wanted = self.world.chance.randint(FEWEST, MOST)
        self.world.tell(f"{self.wanted} processes are wanted")

    def _befell_move(self) -> None:
        if names := self.broker.names():
            partition, name = self.world.chance.randrange(self.partitions), self.world.chance.choice(names)
            self.world.tell(f"partition {partition} moves to {name}")
            self.broker.give(partition, name)

    def _befell_away(self) -> None:
        seconds = self.world.chance.uniform(0.5, 20.0)
        self.world.tell(f"the log is away for {seconds:.0f} s")
        self.broker.away = self.world.now + seconds

    def _befell_outage(self) -> None:
        seconds = self.world.chance.uniform(0.5, 20.0)
        self.world.tell(f"the store is away for {seconds:.0f} s")
        self.files.away = self.world.now + seconds

    def _befell_clock(self) -> None:
        self.broker.t += self.world.chance.choice([-5_000, -1, 1, 3_600_000])

    def _befell_failover(self) -> None:
        for partition in self.world.chance.sample(range(self.partitions), self.world.chance.randint(1, 3)):
            self.broker.fail_over(partition)

    def _befell_model(self) -> None:
        self._versions += 1
        version = self.kind.version(self._versions)
        self.world.tell(f"model {version} is to decide")
        self._there[version] = self.world.now + self.world.chance.choice([0.0, 3.0])
        for partition in range(self.partitions):
            self.broker.append(partition, controlled(Switch(version, 0)), "control")

    # What is there anyway.

    def _place(self) -> None:
        """As many processes run as are wanted; once a second."""
        for name in [name for name, (process, _) in self.processes.items() if process.ended]:
            del self.processes[name]
        staying = [process for process, _ in self.processes.values() if not process.stop.is_set()]
        for process in staying[self.wanted :]:
            self.world.tell(f"{process.name} is told to stop")
            process.stop.set()
        for _ in range(len(staying), self.wanted):
            self.start()
        self.world.at(1.0, self._place)

    def _mend(self) -> None:
        """Operators do what a shard that waits for it says."""
        for _, owner in self.processes.values():
            for partition, held in owner.held.items():
                if held.waits and "Remove the files in" in held.waits:
                    self.world.tell(f"the snapshots of partition {partition} are removed")
                    self.counts["mended"] = self.counts.get("mended", 0) + 1
                    self.files.folders[f"shards/{partition:06}/snapshots"].clear()
        self.world.at(1.0, self._mend)

    def _produce(self) -> None:
        """Producers write; some partitions get much more than others."""
        chance = self.world.chance
        if self.world.step < self.steps:
            for _ in range(chance.randint(0, round(2 * self.rate * TICK))):
                partition = min(int(chance.paretovariate(0.7)) - 1, chance.randrange(self.partitions))
                self._write(partition)
            self.world.at(TICK, self._produce)
        self.broker.t += int(1_000 * TICK)

    def _write(self, partition: int) -> None:
        value, kind = self.kind.written(self.world.chance, partition)
        self.broker.append(partition, value, kind, self.world.chance.choice([0, 0, 0, 2]))

    # What is looked at.

    def _held(self, who: str, owner: Owner) -> None:
        waiting = [len(held.unread) for held in owner.held.values() if held.waits]
        others = sum(len(held.unread) for held in owner.held.values() if not held.waits)
        self.laws.held(who, sum(waiting), others, sizes.MOST, len(waiting))

    def _watch_progress(self) -> None:
        """No partition stands still for long while its owner, the log and the store are well."""
        world, well = self.world, self.world.now >= max(self.broker.away, self.files.away)
        frozen = {name for name, (process, _) in self.processes.items() if world.now < process.frozen + EVERY}
        for partition, owned in enumerate(self.broker.owners):
            holder = self.broker.holder(partition)
            upto = self.broker.published[partition]
            since, *state = self._still[partition]
            moves = state != [owned, upto] or upto == self.laws.ends[partition]
            if moves or not well or holder not in self.processes or holder in frozen:
                self._still[partition] = (world.now, owned, upto)
            elif world.now - since > PATIENCE + self.partitions:
                raise Broken(
                    "partitions make progress", f"for {world.now - since:.0f} s none: {self._place_of(partition)}"
                )
        world.at(EVERY, self._watch_progress)

    def _at_rest(self) -> bool:
        return self.broker.published == self.laws.ends and len(self._owners()) == self.partitions

    def _owners(self) -> dict[int, Shard]:
        """The shards of all partitions, at those who own them, where they have read all."""
        found: dict[int, Shard] = {}
        for name, (process, owner) in self.processes.items():
            for partition, held in owner.held.items():
                mine = not process.ended and self.broker.owns(name, held.owned)
                if mine and held.shard is not None and held.shard.offset == self.laws.ends[partition]:
                    found[partition] = held.shard
        return found

    def _check_states(self) -> None:
        for partition, shard in self._owners().items():
            self.laws.state(partition, shard)

    def _behind(self) -> str:
        behind = [p for p in range(self.partitions) if self.broker.published[p] < self.laws.ends[p]]
        some = behind[:3] or sorted(set(range(self.partitions)) - self._owners().keys())[:3]
        told = "; ".join(map(self._place_of, some))
        return f"{len(behind)} partitions are behind after {CALM:.0f} s: {told}"

    def _place_of(self, p: int) -> str:
        return f"partition {p} at {self.broker.published[p]} of {self.laws.ends[p]}, {self._whose(p)}"

    def _whose(self, partition: int) -> str:
        for name, (_, owner) in self.processes.items():
            held = owner.held.get(partition)
            if held is not None and self.broker.owns(name, held.owned):
                return f"{name} has it, {'restored' if held.shard else 'not restored'}, {held.waits or 'waits not'}"
        return f"owned by {self.broker.owners[partition]}, held by nobody"


class WatchedOwner(Owner):
    """The real owner; after each turn its memory is looked at."""

    watch: Callable[[], None] = staticmethod(lambda: None)

    def turn(self, stop: Any = None) -> None:
        """See Owner."""
        super().turn(stop)
        self.watch()


class CheckedSnapshots(Snapshots):
    """The real snapshots; each that is written is held against the laws."""

    def __init__(self, deployment: Deployment, store: SimulatedStore, by: str):
        super().__init__(store, by)
        self._deployment = deployment

    def write(self, owned: Owned, offset: int, parts: Any) -> None:
        """See Snapshots."""
        claims = self._deployment.files.folders[f"shards/{owned.partition:06}/claims"]
        claimed = max(map(int, claims), default=0)
        published = self._deployment.broker.published[owned.partition]
        super().write(owned, offset, parts)
        said = unpack(parts["shard"])[0]
        if said != offset:
            raise Broken("snapshots hold what is published", f"{owned} says {offset} of a state after {said}")
        head = self._deployment.kind.head(parts)
        self._deployment.laws.snapshot(owned, offset, head, claimed, published)


@contextmanager
def small() -> Generator[None]:
    """Pools that come often, and no lines of logging."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with mock.patch.multiple(
            pooling, SAMPLE=sizes.SAMPLE, POOL_FIRST=sizes.POOL_FIRST, POOL_EVERY=sizes.POOL_EVERY
        ):
            yield
    finally:
        logging.disable(level)


def simulated(deployment: Deployment, progress: Callable[[Deployment], None] = lambda deployment: None) -> Deployment:
    """A run; of a law that is broken, the seed, the step, the last events and the command that repeats it are told."""
    try:
        deployment.run(progress)
    except Broken as broken:
        raise LawBroken(
            f"{broken}\nseed {deployment.seed}, step {deployment.world.step}; the last events:\n"
            f"{deployment.world.trace()}\nagain: {command(deployment)}",
            broken.law,
        ) from broken
    return deployment


class LawBroken(AssertionError):
    """A law that does not hold, and all that is needed to see it again."""

    def __init__(self, told: str, law: str):
        super().__init__(told)
        self.law = law


class Progress:
    """A line a second. `until`: faults end then, by the monotonic clock; None: when the steps are done."""

    def __init__(self, until: float | None = None) -> None:
        self._last, self._until, self._step = time.monotonic(), until, 0

    def __call__(self, deployment: Deployment) -> None:
        world = deployment.world
        if world.step % 64 or (now := time.monotonic()) - self._last < 1.0:
            return
        if self._until is not None and now > self._until:
            deployment.steps = min(deployment.steps, world.step + 1)
        rate = (world.step - self._step) / (now - self._last)
        self._last, self._step = now, world.step
        print(summary(deployment), f"{rate:,.0f} steps/s", sep=", ", flush=True)


def command(deployment: Deployment) -> str:
    """The command that repeats a run."""
    it = deployment
    return f"python -m tests.simulation --seed {it.seed} --steps {it.steps} --shards {it.partitions}"


def summary(deployment: Deployment) -> str:
    """How far it came."""
    laws, world = deployment.laws, deployment.world
    return (
        f"step {world.step:,}, {world.now:,.0f} s simulated, {laws.records:,} records, applied "
        f"{sum(each.records for each in deployment.progress):,} times, {laws.outputs:,} outputs, "
        f"{laws.snapshots:,} snapshots"
    )
