"""Actors of Ray over Redis Streams: killed, their node killed, more and fewer of them, while records come."""

import re
import shlex
from contextlib import contextmanager
from urllib.request import urlopen

import pytest
from onlineguard_service.partitions.redis_streams import RedisMember

from tests.support.logs import PARTITIONS, worlds
from tests.support.ray_cluster import Actors, ray_cluster

pytest.importorskip("ray", reason="of the group dev: 220 MB")
pytestmark = pytest.mark.slow


@contextmanager
def actors(kind, folder, model_folder, environment):
    with worlds("redis", folder) as world:
        one = world()
        url = f"{one.url}?stream={one.name}&partitions={PARTITIONS}&lease=4"
        reader = lambda name: RedisMember(one.url, one.name, name, partitions=PARTITIONS)  # noqa: E731
        known = {"RAY_REDIS_ADDRESS": one.url.split("/")[2]} if kind == "two nodes" else {}
        with ray_cluster(environment | known, folder, kind) as ask:
            found = Actors(ask, one, url, reader, folder, model_folder, environment)
            try:
                yield found
            finally:
                found.kill()


def got(url):
    with urlopen(url, timeout=30) as answer:
        return answer.read()


@pytest.fixture
def group(tmp_path, model_folder, environment):
    with actors("two nodes", tmp_path, model_folder, environment) as found:
        yield found


@pytest.fixture(scope="module")
def autoscaled(tmp_path_factory, model_folder, environment):
    with actors("autoscaled", tmp_path_factory.mktemp("autoscaled"), model_folder, environment) as found:
        yield found


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


def test_an_actor_that_was_given_a_gpu_which_jax_does_not_find_says_so(autoscaled):
    group = autoscaled
    code, _ = group.ask(shlex.join(["cluster", "start", "--gpus", "1", "--wait", "0", *group.flags()]))
    assert code == 1
    group.until(lambda: "gpus" in getattr(group.status().get("shards-0"), "reason", ""))
    assert re.fullmatch(
        r"--gpus is 1, and Ray gave GPU 0 of node [\d.]+, but JAX finds only: cpu; install a driver and "
        r"'onlineguard\[gpu\]' there, or start without --gpus",
        group.status()["shards-0"].reason,
    )
    group.command("stop")
    assert group.status() == {}


def test_the_autoscaler_adds_a_node_for_an_actor_that_finds_no_room_and_takes_it_away(autoscaled):
    group = autoscaled
    group.write(40)
    assert group.ask("nodes") == 1
    group.start_actors(2)  # of one CPU each, and the head has one
    assert group.ask("nodes") == 2
    assert len({told.node for told in group.shared(2).values()}) == 2
    group.write(40)
    group.settled()
    group.command("rescale", "--shards", "1")
    assert [*group.shared(1)] == ["shards-0"]
    group.until(lambda: group.ask("nodes") == 1)
    group.write(40)
    group.settled()
    group.command("stop")
    group.check()
