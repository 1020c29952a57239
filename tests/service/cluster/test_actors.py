"""Actors of Ray over Redis Streams: killed, their node killed, more and fewer of them, while records come."""

from contextlib import contextmanager

import pytest
from onlineguard_service.partitions.redis_streams import RedisMember

from tests.support.logs import PARTITIONS, worlds
from tests.support.ray_cluster import Actors, ray_cluster

pytestmark = pytest.mark.slow


@contextmanager
def actors(folder, model_folder, environment):
    with ray_cluster(environment, folder) as ask, worlds("redis", folder) as world:
        one = world()
        url = f"{one.url}?stream={one.name}&partitions={PARTITIONS}&lease=4"
        reader = lambda name: RedisMember(one.url, one.name, name, partitions=PARTITIONS)  # noqa: E731
        found = Actors(ask, one, url, reader, folder, model_folder, environment)
        try:
            yield found
        finally:
            found.kill()


def test_actors_that_are_killed_moved_and_rescaled_leave_every_output_once(tmp_path, model_folder, environment):
    with actors(tmp_path, model_folder, environment) as group:
        group.write(80)
        group.start_actors(2)
        group.shared(2)

        group.write(80)
        group.kill_actor("shards-0")
        assert group.shared(2)["shards-0"].restarts == 1
        group.settled()

        group.write(80)
        assert "shards-2" in group.command("rescale", "--shards", "3")
        group.shared(3)
        group.settled()

        lost = group.ask("node")
        assert lost in {told.node for told in group.status().values()}
        group.write(80)
        group.ask("kill node")
        group.ask("add node")
        assert lost not in {told.node for told in group.shared(3).values()}
        group.settled()

        group.write(80)
        group.command("rescale", "--shards", "1")
        assert [*group.shared(1)] == ["shards-0"]
        group.settled()
        group.command("stop")
        assert group.status() == {}
        group.check()
