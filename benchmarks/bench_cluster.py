"""Shards over Redis Streams, as plain workers and as actors of Ray: how fast, and how long a change takes.

    uv run --group dev python -m benchmarks.bench_cluster [--quick] [--ray] [--workers 1 2 4]

Redis is a redis-server that the benchmark starts, workers and actors are processes of this machine, and all of them
share its cores. Eight partitions, events of two numbers in 5,000 slices, the default detector, a decision published for
each event. One JSON line a figure:

- `events`: the log is filled while the workers are stopped (SIGSTOP). The clock runs from a tenth of the decisions to
  the last. `per_cpu_s` counts the seconds that the workers' processors worked, which says more than the clock where
  others share the machine; Redis's own are apart. `fenced` are partitions that went to others meanwhile, since their
  worker came too late: what it did since was done twice.
- `recovery`, `rescale`: while records come at a modest rate, one of two workers is killed (SIGKILL), and a third joins.
  `worst_ms` is the longest that an event waited for its decision; `back_s` is when the new process has partitions.
- `latency`: from when an event was due to be sent to the arrival of the decision at another client, at a modest rate.
- `snapshot`: of one shard with many slices. `stops_s` is how long the shard stands still for it.
- `memory`: resident, of a process that has its shards.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis
from onlineguard_service.entries import Options
from onlineguard_service.journal.packing import Packed
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import Owned, Record
from onlineguard_service.partitions.records import parted
from onlineguard_service.partitions.redis_names import key, offset_of
from onlineguard_service.partitions.redis_writer import RedisWriter
from onlineguard_service.shards.shard import Shard
from onlineguard_service.shards.snapshots import Snapshots

from benchmarks.workloads import emit
from onlineguard.slidr.learning.network import NetworkConfig
from onlineguard.slidr.model import Model, Span, save_model
from onlineguard.slidr.pipeline import Config, calibrate_model, prepare, train_model
from onlineguard.slidr.registry.stores import opened
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from onlineguard.wire.placement import key_of_slice, partition_of
from onlineguard.wire.requests import Event

PARTITIONS, SLICES = 8, 5_000
LEASE = 10.0  # seconds after which a killed worker's partitions go to others
PATIENCE = 300.0  # seconds that anything is waited for
MOST = 512  # records of a turn, which must be over before the lease is, however many workers share a core
KEPT_EVERY = 10.0  # seconds between two snapshots of a shard: a new owner reads again what came since
RATE = 200  # events a second where the rate is modest


class Log:
    """A log in Redis, its writer, and who owns it."""

    def __init__(self, port: int, name: str):
        self.url = f"redis://127.0.0.1:{port}/0?stream={name}&partitions={PARTITIONS}&lease={LEASE:g}"
        self.client: Any = redis.Redis(port=port)
        self.port, self.name = port, name
        self.writer = RedisWriter(f"redis://127.0.0.1:{port}/0", name, partitions=PARTITIONS)

    def owners(self) -> list[str]:
        """The members that own partitions now, by partition."""
        now, held = time.time() * 1_000, list[str]()
        for partition in range(PARTITIONS):
            member, until = self.client.hmget(key(self.name, partition, "group:onlineguard"), "member", "until")
            if member is not None and float(until) > now:
                held.append(member.decode())
        return held

    def decided(self) -> int:
        """Decisions that were published."""
        return sum(self.client.xlen(key(self.name, partition, "decisions")) for partition in range(PARTITIONS))


class Plain:
    """Workers as processes."""

    kind = "plain workers"

    def __init__(self, log: Log, folder: Path, model: Path):
        self.log, self.folder, self.model = log, folder, model
        self.processes: list[subprocess.Popen[bytes]] = []

    def scale(self, n: int) -> None:
        """Have n, from fewer."""
        while len(self.processes) < n:
            command = [sys.executable, "-m", "onlineguard", "worker", *flags(self.log, self.folder, self.model)]
            with (self.folder / f"worker-{len(self.processes)}.log").open("w") as log:
                self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes if process.poll() is None]

    def fenced(self) -> int:
        """Partitions that went unnoticed, since a worker came too late: what it did since was done twice."""
        return sum(path.read_text().count("unnoticed") for path in self.folder.glob("worker-*.log"))

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


class OnRay:
    """Workers as actors of a cluster of one node here."""

    kind = "actors of Ray"

    def __init__(self, log: Log, folder: Path, model: Path):
        from onlineguard_service.cluster import placing
        from onlineguard_service.config import load

        options = load({"n_features": "2", "log_level": "warning"}, {}).settings
        given = {
            "source": log.url,
            "snapshots": str(folder / "snapshots"),
            "model": model,
            "snapshot_every": KEPT_EVERY,
        }
        self._placing, self._asked = placing, placing.Asked(options, given, {"num_cpus": 1})

    def scale(self, n: int) -> None:
        """Have n, from fewer."""
        if self._placing.status():
            self._placing.rescale(n)
        else:
            self._placing.start(n, self._asked)

    def pids(self) -> list[int]:
        return [actor.told.pid for actor in self._placing.status() if actor.told is not None]

    def fenced(self) -> int:
        return 0  # Ray's logs have it

    def close(self) -> None:
        with suppress(Exception):
            self._placing.stop()


Fleet = Plain | OnRay


def flags(log: Log, folder: Path, model: Path) -> list[str]:
    """What a worker is started with."""
    given = {
        "from": log.url,
        "snapshots": folder / "snapshots",
        "n-features": 2,
        "model": model,
        "log-level": "warning",
    }
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


def until(holds: Callable[[], bool], every: float = 0.05) -> float:
    """Wait until something holds; the seconds that it took."""
    began = time.perf_counter()
    while not holds():
        if time.perf_counter() - began > PATIENCE:
            raise TimeoutError("what is waited for does not come")
        time.sleep(every)
    return time.perf_counter() - began


def ready(log: Log, fleet: Fleet, n: int) -> float:
    """Start workers until there are n, and wait until each has partitions and has judged some events."""
    began = time.perf_counter()
    fleet.scale(n)
    until(lambda: len(owners := log.owners()) == PARTITIONS and len(set(owners)) == n)
    before = log.decided()
    write(log, encoded(events(2_000, seed=n), 100))
    until(lambda: log.decided() >= before + 2_000)
    return time.perf_counter() - began


def events(n: int, seed: int) -> list[Event]:
    """Events without ids, one in a hundred odd."""
    rng = np.random.default_rng(seed)
    X = rng.normal(100.0, 5.0, (n, 2)) * np.where(rng.random((n, 1)) < 0.01, 1.8, 1.0)
    return [
        Event(f"s{slice}", x) for slice, x in zip(rng.integers(0, SLICES, n).tolist(), X.round(3).tolist(), strict=True)
    ]


def encoded(given: Sequence[Event], together: int) -> list[tuple[int, bytes]]:
    """Records of so many events, each with its partition."""
    return [
        (partition, msgspec.json.encode(items[start : start + together]))
        for partition, items in parted(given, PARTITIONS).items()
        for start in range(0, len(items), together)
    ]


def write(log: Log, records: Sequence[tuple[int, bytes]]) -> None:
    """Append records to the log."""
    for partition, value in records:
        log.writer.write(partition, b"", value)
    log.writer.flush()


def throughput(log: Log, fleet: Fleet, n: int, given: Sequence[Event], together: int) -> None:
    """Drain a log that was filled beforehand."""
    pids, records, written = fleet.pids(), encoded(given, together), len(given)
    before, fenced = log.decided(), fleet.fenced()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    write(log, records)
    worked, redis_worked = sum(map(cpu, pids)), log.client.info("cpu")["used_cpu_user"]
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    until(lambda: log.decided() >= before + written // 10, 0.01)
    first, began = log.decided() - before, time.perf_counter()
    until(lambda: log.decided() >= before + written, 0.01)
    took = time.perf_counter() - began
    worked, redis_worked = sum(map(cpu, pids)) - worked, log.client.info("cpu")["used_cpu_user"] - redis_worked
    emit(
        figure="events",
        kind=fleet.kind,
        workers=n,
        events_a_record=together,
        events=written,
        per_s=round((written - first) / took),
        per_cpu_s=round(written / worked),
        redis_cpu_s_a_million=round(1e6 * redis_worked / written, 1),
        fenced=fleet.fenced() - fenced,
    )


@contextmanager
def traffic(log: Log, rate: float) -> Generator[list[tuple[float, float]]]:
    """Send events one by one at a rate; gives when each was due and how long its decision took, as they arrive."""
    sent: dict[tuple[int, int], float] = {}
    took: list[tuple[float, float]] = []
    done, client, reader = threading.Event(), log.client, redis.Redis(port=log.port)
    streams: dict[Any, Any] = {key(log.name, partition, "decisions"): "$" for partition in range(PARTITIONS)}
    for name in streams:
        newest: Any = client.xrevrange(name, count=1)
        streams[name] = newest[0][0] if newest else "0-0"

    def send() -> None:
        due, given = time.perf_counter(), events(100_000, seed=9)
        for event in given:
            due += 1 / rate
            if done.wait(max(0.0, due - time.perf_counter())):
                return
            partition = partition_of(key_of_slice(event.slice), PARTITIONS)
            value = {"value": msgspec.json.encode(event)}
            sent[partition, offset_of(client.xadd(key(log.name, partition), value))] = due  # also if it was late

    def receive() -> None:
        while not done.is_set() or sent:
            found: Any = reader.xread(streams, block=200)
            now = time.perf_counter()
            for name, entries in found or ():
                streams[name.decode()] = entries[-1][0]
                for _, fields in entries:
                    at = int(fields[b"partition"]), int(fields[b"offset"])
                    until(lambda at=at: at in sent, 0.0005)  # XADD's answer may come later than the decision
                    began = sent.pop(at)
                    took.append((began, now - began))

    threads = [threading.Thread(target=each) for each in (send, receive)]
    for thread in threads:
        thread.start()
    try:
        yield took
    finally:
        done.set()
        for thread in threads:
            thread.join()


def latency(log: Log, fleet: Fleet, seconds: float) -> None:
    with traffic(log, RATE) as took:
        time.sleep(seconds)
    ms = 1e3 * np.array([each for began, each in took if began > took[0][0] + 1.0])
    p50, p99, p999 = np.percentile(ms, [50, 99, 99.9]).round(1).tolist()
    emit(figure="latency", kind=fleet.kind, rate=RATE, events=len(ms), p50_ms=p50, p99_ms=p99, p999_ms=p999)


def recovery(log: Log, fleet: Fleet, n: int) -> None:
    """Kill one of n workers while events come. Ray starts it again; for plain workers that is done here."""
    with traffic(log, RATE) as took:
        time.sleep(PARTITIONS + KEPT_EVERY)  # a worker writes one snapshot at a time; now all are new
        pid, began = fleet.pids()[0], time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        if isinstance(fleet, Plain):
            fleet.processes[0].wait()
            del fleet.processes[0]
            fleet.scale(n)
        time.sleep(LEASE + 1.0)  # the dead one's lease has run out
        until(lambda: len(owners := log.owners()) == PARTITIONS and len(set(owners)) == n)
        back = time.perf_counter() - began
        time.sleep(1.0)
    worst = max(each for sent, each in took if sent > began - 1.0)
    emit(
        figure="recovery", kind=fleet.kind, workers=n, lease_s=LEASE, back_s=round(back, 1), worst_ms=round(1e3 * worst)
    )


def rescale(log: Log, fleet: Fleet, n: int) -> None:
    """One worker more while events come."""
    with traffic(log, RATE) as took:
        time.sleep(PARTITIONS + KEPT_EVERY)
        began = time.perf_counter()
        fleet.scale(n + 1)
        until(lambda: len(owners := log.owners()) == PARTITIONS and len(set(owners)) == n + 1)
        back = time.perf_counter() - began
        time.sleep(1.0)
    worst = max(each for sent, each in took if sent > began)
    emit(figure="rescale", kind=fleet.kind, workers=n + 1, back_s=round(back, 1), worst_ms=round(1e3 * worst))


def snapshot(folder: Path, models: Models, version: str, slices: int) -> None:
    """Of one shard: dump, write, read and restore."""
    shard = Shard(0, 1, Options(n_features=2, max_slices=max(slices, 1_000)), version, models.get)
    shard.warmup(slices)
    X = np.random.default_rng(0).normal(100.0, 5.0, (slices, 2)).round(3).tolist()
    for offset, start in enumerate(range(0, slices, 1_000)):
        value = msgspec.json.encode([Event(f"s{i}", X[i]) for i in range(start, min(start + 1_000, slices))])
        shard.apply([Record(offset, 1_700_000_000_000 + offset, value, "events")])
    snapshots, owned = Snapshots(opened(str(folder / "snapshot"))), Owned(0, 1, -1)
    snapshots.begin(owned)
    shard.guard.fetch()
    times = [time.perf_counter()]
    parts = Packed(shard.dump())
    times.append(time.perf_counter())
    snapshots.write(owned, shard.offset, parts)
    times.append(time.perf_counter())
    found = snapshots.begin(Owned(0, 2, -1))
    assert found is not None
    again = Shard.restored(0, 1, unpacked(found[1]), models.get)
    times.append(time.perf_counter())
    assert again.digest() == shard.digest()
    stops, writes, restores = np.diff(times).round(3).tolist()
    size = sum(path.stat().st_size for path in (folder / "snapshot").rglob("*") if path.is_file())
    emit(figure="snapshot", slices=slices, mb=round(size / 1e6, 1), stops_s=stops, writes_s=writes, restores_s=restores)


def unpacked(parts: dict[str, bytes]) -> dict[str, Any]:
    """A dump, from its parts."""
    from onlineguard_service.journal.packing import unpack

    return {name: unpack(part) for name, part in parts.items()}


def cpu(pid: int) -> float:
    """Seconds that a process worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(fleet: Fleet, n: int) -> None:
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in fleet.pids()]
    mb = [round(each * os.sysconf("SC_PAGE_SIZE") / 1e6) for each in pages]
    emit(figure="memory", kind=fleet.kind, workers=n, mb_each=round(sum(mb) / len(mb)))


@contextmanager
def redis_server(folder: Path, port: int) -> Generator[int]:
    """A redis-server that keeps nothing on the disk."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: answers(port))
            yield port
        finally:
            process.terminate()


def answers(port: int) -> bool:
    try:
        return bool(redis.Redis(port=port).ping())
    except redis.ConnectionError:
        return False


@contextmanager
def ray_here() -> Generator[None]:
    """A cluster of one node, and a connection to it."""
    from onlineguard_service.cluster import placing
    from ray.cluster_utils import Cluster

    began = time.perf_counter()
    head = {"num_cpus": 8, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    emit(figure="Ray's own processes", started_s=round(time.perf_counter() - began, 1))
    try:
        with placing.connected(cluster.address, "onlineguard"):
            yield
    finally:
        cluster.shutdown()


def small_model(folder: Path) -> Path:
    """A model of clicks, which the deployment begins with and these events do not need."""
    frame = simulate(Traffic(clicks=20_000, days=2), 0).clicks
    config = Config(network=NetworkConfig(hidden=(16, 8, 4), epochs=1))
    prepared = prepare(frame, config)
    rows, end = prepared.first, int(prepared.ts.max()) + 1
    scorer = train_model(prepared, rows, end, config)
    thresholds = calibrate_model(prepared, scorer, rows, end, config, budget=0.05, confidence=None)
    span = Span(0, end, end, int(rows.sum()), 1)
    save_model(folder, Model(config, scorer, span, thresholds, span, {}))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    parser.add_argument("--ray", action="store_true", help="two of them as actors of Ray, too")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    asked = parser.parse_args()
    numbers = [1] if asked.quick else asked.workers
    sizes = {1: 4_000, 100: 10_000} if asked.quick else {1: 100_000, 100: 400_000}
    if shutil.which("redis-server") is None:
        sys.exit("redis-server is not on PATH; install it")
    emit(figure="machine", cores=os.cpu_count(), load=[round(each, 1) for each in os.getloadavg()])
    given = {together: events(n, seed=0) for together, n in sizes.items()}
    with tempfile.TemporaryDirectory() as name, ExitStack() as ending:
        folder = Path(name)
        port = ending.enter_context(redis_server(folder, 20_000 + os.getpid() % 20_000))
        model, models = small_model(folder / "model"), Models(folder / "models")
        version = models.put(model).version
        snapshot(folder, models, version, 1_000 if asked.quick else 100_000)
        kinds: list[type[Fleet]] = [Plain]
        if asked.ray:
            ending.enter_context(ray_here())
            kinds.append(OnRay)
        for kind in kinds:
            for n in numbers if kind is Plain or asked.quick else [2]:  # more of them cost what plain ones do
                own = folder / f"{kind.__name__}-{n}"
                own.mkdir()
                log = Log(port, own.name)
                fleet = kind(log, own, model)
                try:
                    emit(figure="start", kind=kind.kind, workers=n, ready_s=round(ready(log, fleet, n), 1))
                    for together, those in given.items():
                        throughput(log, fleet, n, those, together)
                    memory(fleet, n)
                    if asked.quick or n == 2:
                        latency(log, fleet, 3.0 if asked.quick else 20.0)
                    if not asked.quick and n == 2:
                        recovery(log, fleet, n)
                        rescale(log, fleet, n)
                finally:
                    fleet.close()
                    log.client.flushdb()
    emit(figure="machine", cores=os.cpu_count(), load=[round(each, 1) for each in os.getloadavg()])


if __name__ == "__main__":
    main()
