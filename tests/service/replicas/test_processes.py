"""A worker and a replica as processes of their own, over a real Redis: what the replica says is what the owner has."""

import os
import signal
import subprocess
import sys
import time

import httpx2
import msgspec
import pytest
from onlineguard_service import fleet
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import NOTHING
from onlineguard_service.partitions.redis_streams import RedisMember
from onlineguard_service.shards.beginning import beginning
from onlineguard_service.shards.shard import Shard

from onlineguard.slidr.registry.stores import opened
from onlineguard.wire.answers import ClickAnswer, EventAnswer
from onlineguard.wire.placement import key_of, partition_of
from onlineguard.wire.requests import Event
from tests.support.logs import PARTITIONS, Follower, RedisWorld
from tests.support.real import Service
from tests.support.redis_server import serving

pytestmark = pytest.mark.slow

PATIENCE = 120.0  # seconds
JSON = {"content-type": "application/json"}
ASKED = [Event(f"s{i % 9}", [100.0 + 30.0 * i, 95.0]) for i in range(18)]


class Deployment:
    """A log, one worker, and one replica."""

    def __init__(self, folder, port, model_folder, environment):
        self.url, self.folder, self.environment = f"redis://127.0.0.1:{port}/0", folder, environment
        self.world, self.model_folder = RedisWorld(self.url), model_folder
        self.log = f"{self.url}?stream={self.world.name}&partitions={PARTITIONS}&lease=4"
        self.writer = self.world.writer()
        shared = ("--replica-of", str(folder / "snapshots"), "--redis", self.url, "--replica-log", self.log)
        soon = ("--replica-every", "0.2", "--replica-age", "12")
        self.replica = Service(folder, environment, *shared, *soon)
        self.metrics = Service(folder, environment).url  # a free port
        self.worker = None

    def start(self):
        command = [sys.executable, "-m", "onlineguard", "worker", "--from", self.log, "--counted"]
        command += ["--snapshots", str(self.folder / "snapshots"), "--snapshot-every", "0.5", "--n-features", "2"]
        command += ["--detector", "marginal", "--max-slices", "1000", "--model", str(self.model_folder)]
        command += ["--metrics-port", self.metrics.rpartition(":")[2]]
        with (self.folder / "worker.log").open("w") as told:
            self.worker = subprocess.Popen(command, env=os.environ | self.environment, stdout=told, stderr=told)
        self.replica.begin()
        self.replica.wait(200)

    def events(self, n, seed):
        for i in range(n):
            event = Event(
                f"s{i % 9}", [100.0 + 7.0 * ((i * 37 + seed) % 5), 95.0 + (i * 13 + seed) % 7], id=f"{seed}.{i}"
            )
            self.writer.write(None, key_of(event), msgspec.json.encode(event))
        self.writer.flush()

    def ask(self, path, body):
        return httpx2.post(f"{self.replica.url}{path}", content=msgspec.json.encode(body), headers=JSON, timeout=30)

    def records(self):
        """The log, by partition."""
        follower = Follower(RedisMember(self.url, self.world.name, f"reader-{time.monotonic()}", partitions=PARTITIONS))
        until = time.monotonic() + PATIENCE
        while len(follower.owned) < PARTITIONS or any(
            last(follower.read, partition) < follower.member.end(partition) for partition in range(PARTITIONS)
        ):
            assert time.monotonic() < until
            follower.poll(0.05, 5_000)
        follower.member.close()
        return [[record for of, record in follower.read if of == partition] for partition in range(PARTITIONS)]

    def stop(self):
        for process in (self.worker, self.replica.process):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.writer.close()

    def scored(self):
        """The answers of the replica, and the offset of each partition that they are from."""
        answer = self.until(lambda: (answer := self.ask("/v1/score", ASKED)).status_code == 200 and answer)
        told = answer.headers["onlineguard-snapshots"].split(", ")
        offsets = {int(partition): int(offset) for partition, _, offset in (each.partition("@") for each in told)}
        assert 0 <= int(answer.headers["age"]) <= 12
        return msgspec.json.decode(answer.content, type=list[EventAnswer]), offsets

    def until(self, holds):
        end = time.monotonic() + PATIENCE
        while not (found := holds()):
            assert time.monotonic() < end, (self.folder / "worker.log").read_text() + self.replica.log.read_text()
            time.sleep(0.1)
        return found


@pytest.fixture
def deployment(tmp_path, model_folder, environment):
    with serving(tmp_path) as port:
        found = Deployment(tmp_path, port, model_folder, environment)
        try:
            yield found
        finally:
            found.stop()


def test_a_replica_scores_as_the_owner_at_that_offset_and_stops_when_the_owner_has_died(deployment, clicks):
    deployment.events(600, 0)
    deployment.start()
    seen = [deployment.scored()]
    deployment.events(600, 1)
    ends = [given[-1].offset if given else NOTHING for given in deployment.records()]
    seen.append(deployment.until(lambda: caught_up(deployment.scored(), ends)))

    sent = clicks[:300]
    decided = []
    for start in range(0, 300, 50):
        answer = deployment.ask("/v1/clicks", sent[start : start + 50])
        assert answer.status_code == 200, answer.text
        decided += msgspec.json.decode(answer.content, type=list[ClickAnswer])

    def published():
        told = [
            kept.value for kept in deployment.world.outputs() if kept.to == "decisions" and b"click_id" in kept.value
        ]
        return told if len(told) == len(sent) else None

    theirs = {
        answer.click_id: answer
        for answer in (msgspec.json.decode(v, type=ClickAnswer) for v in deployment.until(published))
    }
    for answer in decided:
        assert msgspec.structs.replace(theirs[answer.click_id], anomaly=None) == msgspec.structs.replace(
            answer, anomaly=None
        )

    found = fleet.status([deployment.metrics, deployment.replica.url])
    assert (found.overall.clicks, found.overall.robotic) == (300, sum(each.decision == "robotic" for each in decided))
    assert [process.replica for process in found.processes] == [False, True]
    assert found.versions == [decided[0].model_version]

    refused = deployment.ask("/v1/update", ASKED)
    assert (refused.status_code, "append them to their log" in refused.text) == (421, True)

    store, models = opened(deployment.folder / "snapshots"), Models(deployment.folder / "models")
    models.put(deployment.model_folder)
    begun = beginning(store)
    for answers, offsets in seen:
        for partition, offset in offsets.items():
            shard = Shard(partition, PARTITIONS, begun.options, begun.version, models.get)
            shard.apply([record for record in deployment.records()[partition] if record.offset <= offset])
            mine = [
                (event, a)
                for event, a in zip(ASKED, answers, strict=True)
                if partition_of(key_of(event), PARTITIONS) == partition
            ]
            assert [answer for _, answer in mine] == shard.guard.score([event for event, _ in mine])

    deployment.worker.send_signal(signal.SIGKILL)
    stale = deployment.until(lambda: (a := deployment.ask("/v1/score", ASKED)).status_code == 503 and a)
    assert "older than replica_age, 12 s" in stale.text
    assert deployment.ask("/v1/clicks", clicks[300:310]).status_code == 200  # the log keeps them for the next owner
    assert deployment.replica.terminate() == 0


def last(read, partition):
    """The offset of the last record that was read of a partition."""
    return max((record.offset for of, record in read if of == partition), default=NOTHING)


def caught_up(found, ends):
    """What was scored, once it is from the end of the log."""
    return found if all(ends[partition] == offset for partition, offset in found[1].items()) else None
