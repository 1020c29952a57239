"""The network between a worker and its log is cut for longer than its lease, and heals: what comes late is refused."""

from contextlib import closing
from threading import Event

import pytest
from onlineguard_service.partitions.redis_names import key
from onlineguard_service.partitions.redis_streams import RedisMember
from onlineguard_service.redis.patient import PatientRedis

from tests.support.logs import PARTITIONS, RedisWorld
from tests.support.network import network
from tests.support.workers import Workers

pytestmark = pytest.mark.slow


@pytest.fixture
def machines():
    with network() as found:
        yield found


def owned(world, process):
    """The partitions that Redis says are a worker's."""
    with closing(PatientRedis(world.url, Event())) as redis:
        names = [redis.client.hget(key(world.name, each, "group:onlineguard"), "member") for each in range(PARTITIONS)]
    return [each for each, name in enumerate(names) if name is not None and f"-{process.pid}-".encode() in name]


def test_a_worker_that_is_cut_off_under_load_and_comes_back_leaves_every_output_once(
    machines, tmp_path, model_folder, environment
):
    world = RedisWorld(machines.beside)
    flags = f"?stream={world.name}&partitions={PARTITIONS}&lease=4"
    reader = lambda name: RedisMember(machines.beside, world.name, name, partitions=PARTITIONS)  # noqa: E731
    told_by = lambda name: (tmp_path / f"{name}.log").read_text()  # noqa: E731
    group = Workers(world, machines.beside + flags, reader, tmp_path, model_folder, environment)
    try:
        group.write(50)
        group.start("afar", url=machines.url + flags, within=machines.within)
        group.start("beside")
        for name in ("afar", "beside"):
            group.told(name, "is owned in generation")
        with group.load():
            group.go_on()
            group.until(lambda: len(owned(world, group.running["afar"])) == PARTITIONS // 2)
            before = told_by("afar")
            machines.cut()
            group.go_on()  # by the other, who has all partitions by then
            assert not owned(world, group.running["afar"])
            machines.heal()
            group.until(lambda: owned(world, group.running["afar"]))
            group.go_on()
        since = told_by("afar").removeprefix(before)
        assert since.count("went to another process") == PARTITIONS // 2
        group.settled()
        group.stop()
        group.check()
    finally:
        group.kill()
