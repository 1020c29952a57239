"""Worker processes of one group over a real log, and what must hold when they are done."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import closing, contextmanager
from itertools import islice

import msgspec
from onlineguard_service.entries import Options
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal.packing import unpack
from onlineguard_service.models import Models
from onlineguard_service.shards.beginning import Beginning
from onlineguard_service.shards.shard import Shard
from onlineguard_service.shards.snapshots import Snapshots

from onlineguard.slidr.registry.stores import opened
from tests.support.logs import PARTITIONS, Follower
from tests.support.shards import one_by_one, records

PATIENCE = 150.0  # seconds that a worker is waited for, which may have to compile


class Workers:
    """See this module. `reader` makes a member of another group, of a name that is given."""

    def __init__(self, world, url, reader, folder, model_folder, environment):
        self.world, self.url, self.reader, self.folder = world, url, reader, folder
        self.model_folder, self.environment = model_folder, environment
        self.running = {}
        self.models = Models(folder / "models")
        self.version = self.models.put(model_folder).version
        self.shard(0, Options(n_features=2, detector="marginal", max_slices=1_000)).warmup(1_000)  # for all processes
        self.writer = world.writer()
        self.streams = [iter(records(2_000, seed)) for seed in range(PARTITIONS)]
        self.readers = 0

    def shard(self, partition, options):
        return Shard(partition, PARTITIONS, options, self.version, self.models.get)

    def flags(self, url=None):
        """What every worker is started with; `url` is of the log, as this worker reaches it."""
        given = {
            "from": url or self.url,
            "snapshots": self.folder / "snapshots",
            "snapshot-every": 0.3,
            "most": 50,
            "max-slices": 1_000,
            "n-features": 2,
            "detector": "marginal",
            "model": self.model_folder,
        }
        return [part for name, value in given.items() for part in (f"--{name}", str(value))]

    def start(self, *names, url=None, within=()):
        """Start workers. `within` are words before the command, of what is to run it."""
        for name in names:
            command = [*within, sys.executable, "-m", "onlineguard", "worker", *self.flags(url)]
            with (self.folder / f"{name}.log").open("w") as log:
                self.running[name] = subprocess.Popen(
                    command, env=os.environ | self.environment, stdout=log, stderr=log
                )

    def write(self, n):
        """So many records to each partition; those that were written last."""
        for partition, stream in enumerate(self.streams):
            for record in islice(stream, n):
                self.writer.write(partition, b"", record.value, record.kind)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.writer.flush()
                break
            except JournalUnavailable:
                assert time.monotonic() < until

    @contextmanager
    def load(self):
        """Write records to every partition all the while."""
        done, self.written = threading.Event(), 0

        def write():
            while not done.wait(0.2):
                self.write(2)
                self.written += 2

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def go_on(self):
        """Wait until records are judged that are not written yet."""
        before = self.written
        self.until(lambda: self.written >= before + 10)
        self.settled()

    def told(self, name, text):
        """Wait until a worker's log says something."""
        self.until(lambda: text in (self.folder / f"{name}.log").read_text())

    def until(self, holds):
        end = time.monotonic() + PATIENCE
        while not holds():
            died = [name for name, process in self.running.items() if process.poll() is not None]
            if died or time.monotonic() > end:
                raise AssertionError("\n".join((self.folder / f"{name}.log").read_text() for name in self.running))
            time.sleep(0.2)

    def settled(self):
        """Wait until there are outputs of the records that were written last."""
        last = [[record.offset for record in given if record.kind == "events"][-1] for given in self.records()]

        def all_there():
            reached = dict.fromkeys(range(PARTITIONS), -1)
            for kept in self.world.outputs():
                reached[kept.partition] = max(reached[kept.partition], kept.offset)
            return all(reached[partition] >= offset for partition, offset in enumerate(last))

        self.until(all_there)

    def records(self):
        """The log, by partition."""
        self.readers += 1
        with closing(self.reader(f"reader-{self.readers}")) as member:
            follower, until = Follower(member), time.monotonic() + PATIENCE
            found = [[] for _ in range(PARTITIONS)]
            while len(follower.owned) < PARTITIONS or any(
                not found[partition] or found[partition][-1].offset < member.end(partition)
                for partition in range(PARTITIONS)
            ):
                assert time.monotonic() < until
                follower.poll(0.05, 5_000)
                found = [[record for of, record in follower.read if of == partition] for partition in range(PARTITIONS)]
            return found

    def end(self, name, how):
        process = self.running.pop(name)
        process.send_signal(how)
        return process.wait(PATIENCE)

    def stop(self):
        """Stop all as Kubernetes would."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        assert {name: process.wait(PATIENCE) for name, process in self.running.items()} == dict.fromkeys(
            self.running, 0
        )
        self.running.clear()

    def kill(self):
        """End what is left, however the test went."""
        for process in self.running.values():
            process.kill()
            process.wait()
        self.writer.close()

    def check(self):
        """Every record's outputs are there once, and each state is that of one shard that is fed the same log."""
        store = opened(self.folder / "snapshots")
        begun = msgspec.json.decode(store.read("begin"), type=Beginning)
        kept = defaultdict(list)
        for partition, *output in self.world.outputs():
            kept[partition].append(tuple(output))
        snapshots = Snapshots(store)
        for partition, given in enumerate(self.records()):
            at = snapshots.newest(partition)
            offset, parts = snapshots.read(partition, at)
            dump = {name: unpack(part) for name, part in parts.items()}
            again, one = (
                Shard.restored(partition, PARTITIONS, dump, self.models.get),
                self.shard(partition, begun.options),
            )
            outputs, _ = one_by_one(one, [record for record in given if record.offset <= offset])
            assert again.digest() == one.digest()
            found = Counter(kept[partition] if self.world.remembers else set(kept[partition]))
            upto = max(output[0] for output in found)  # a process that lost its lease may have left no last snapshot
            more, _ = one_by_one(one, [record for record in given if offset < record.offset <= upto])
            expected = Counter(map(tuple, [*outputs, *more]))
            if found != expected:
                raise AssertionError(
                    f"partition {partition}, whose newest snapshot is of {offset}: {expected - found} are missing, "
                    f"{found - expected} are too many"
                )
