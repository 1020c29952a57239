"""Real workers over real logs: killed, stopped and woken, and joined by others, while records come."""

import signal
from contextlib import contextmanager

import pytest
from onlineguard_service.partitions.kafka import KafkaMember
from onlineguard_service.partitions.redis_streams import RedisMember

from tests.support.logs import PARTITIONS, REAL, worlds
from tests.support.workers import Workers

pytestmark = pytest.mark.slow


@contextmanager
def workers(kind, folder, model_folder, environment):
    with worlds(kind, folder) as world:
        one = world()
        if kind == "redis":
            url = f"{one.url}?stream={one.name}&partitions={PARTITIONS}&lease=4"
            reader = lambda name: RedisMember(one.url, one.name, name, partitions=PARTITIONS)  # noqa: E731
        else:
            lease = "group.protocol=consumer" if one.protocol == "consumer" else "session.timeout.ms=6000"
            url = f"kafka://{one.servers}/{one.topic}?group={one.group}&{lease}"
            reader = lambda name: KafkaMember(one.servers, one.topic, name, options={"log_level": "0"})  # noqa: E731
        found = Workers(one, url, reader, folder, model_folder, environment)
        try:
            yield found
        finally:
            found.kill()


@pytest.mark.parametrize("kind", ["redis", "kafka mock", *(["kafka"] if REAL else [])])
def test_workers_that_are_killed_stopped_and_joined_leave_every_output_once(kind, tmp_path, model_folder, environment):
    with workers(kind, tmp_path, model_folder, environment) as group:
        group.write(100)
        group.start("first", "second")
        for name in ("first", "second"):
            group.told(name, "is owned in generation")
        group.start("third")
        group.write(100)
        group.end("first", signal.SIGKILL)
        group.told("third", "is owned in generation")
        group.settled()
        second = group.running["second"]
        second.send_signal(signal.SIGSTOP)
        group.write(100)
        group.settled()  # all partitions are the third's
        second.send_signal(signal.SIGCONT)
        group.write(100)
        group.settled()
        group.stop()
        group.check()
