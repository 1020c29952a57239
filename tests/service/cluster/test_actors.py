"""Actors of Ray over Redis Streams: killed, their node killed, more and fewer of them, while records come."""

from urllib.request import urlopen

import pytest
from onlineguard_service.partitions.redis_streams import RedisMember

from tests.support.logs import PARTITIONS, worlds
from tests.support.ray_cluster import Actors, ray_cluster

pytest.importorskip("ray", reason="of the group dev: 220 MB")
pytestmark = pytest.mark.slow


@pytest.fixture
def group(tmp_path, model_folder, environment):
    with worlds("redis", tmp_path) as world:
        one = world()
        url = f"{one.url}?stream={one.name}&partitions={PARTITIONS}&lease=4"
        reader = lambda name: RedisMember(one.url, one.name, name, partitions=PARTITIONS)  # noqa: E731
        with ray_cluster(environment | {"RAY_REDIS_ADDRESS": one.url.split("/")[2]}, tmp_path) as ask:
            found = Actors(ask, one, url, reader, tmp_path, model_folder, environment)
            try:
                yield found
            finally:
                found.kill()


def got(url):
    with urlopen(url, timeout=30) as answer:
        return answer.read()


def test_actors_leave_every_output_once_whatever_is_killed_and_however_many_they_become(group):
    assert "0.0 s" in group.start_actors(2)
    with group.load():
        for told in group.shared(2).values():
            assert b"onlineguard_worker_ready 1.0" in got(f"http://{told.metrics}/metrics")
        assert len(group.targets()) == 2
        group.kill_actor("shards-0")
        assert "shards-2" in group.command("rescale", "--shards", "3")
        assert group.shared(3)["shards-0"].restarts == 1

        lost = group.ask("node")
        assert lost in {told.node for told in group.status().values()}
        group.ask("kill node")
        group.until(lambda: lost not in {told.node for told in group.status().values() if told})
        group.shared(3)

        group.ask("kill head")
        group.go_on()  # nobody needs the head for that
        group.ask("start head")
        group.command("rescale", "--shards", "1")
        assert [*group.shared(1)] == ["shards-0"]
    group.settled()
    group.command("stop")
    assert group.status() == {}
    group.check()
