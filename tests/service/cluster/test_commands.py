"""`onlineguard cluster` without a cluster: what is refused, and what an actor tells that cannot work."""

import json
import time
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from onlineguard_service.config import load
from typer.testing import CliRunner

from onlineguard.cli import app as cli
from tests.support.redis_server import serving

pytest.importorskip("ray", reason="of the group dev: 220 MB")


@pytest.fixture
def names(monkeypatch):
    """A cluster that answers nothing but the names of its actors, which a test may change."""
    from onlineguard_service.cluster import placing

    found = []
    monkeypatch.setattr(placing.ray, "init", lambda *_, **__: None)
    monkeypatch.setattr(placing.ray.util, "list_named_actors", lambda: found)
    return found


def said(*flags):
    result = CliRunner().invoke(cli.app, ["cluster", *flags])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ([], "--from is not given"),
        (["--from", "redis://db"], "--snapshots is not given"),
        (["--from", "redis://db", "--snapshots", "s", "--most", "0"], "--most is 0; it must be more than 0"),
        (["--from", "redis://db", "--snapshots", "s", "--max-slices", "many"], "--max-slices is 'many'"),
    ],
)
def test_actors_are_not_started_with_what_no_worker_takes(flags, line):
    code, output = said("start", *flags)
    assert code == 2
    assert line in output


def test_where_there_is_no_cluster_one_line_says_how_to_start_one(monkeypatch):
    import ray

    def init(*_, **__):
        raise ConnectionError("Could not find any running Ray instance.\nMore of that.")

    monkeypatch.setattr(ray, "init", init)
    code, output = said("status", "--address", "head:6379")
    assert code == 2
    assert output.startswith("error: no cluster of Ray is found at head:6379: Could not find any running Ray instance.")
    assert "ray start --head" in output


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["stop"], "no actor of this deployment is there; `onlineguard cluster start` starts them"),
        (["rescale", "--shards", "2"], "no actor of this deployment is there"),
        (["rescale", "--shards", "0"], "--shards is 0; it must be at least 1"),
    ],
)
def test_a_deployment_that_is_not_there_is_neither_stopped_nor_rescaled(command, line, names):
    names.append("another")
    code, output = said(*command)
    assert code == 2
    assert line in output
    assert said("status") == (1, "no actor of this deployment is there")


def test_a_deployment_that_is_there_is_not_started_again(names, tmp_path):
    names += ["shards-10", "shards-9"]
    code, output = said("start", "--from", "redis://db", "--snapshots", str(tmp_path))
    assert code == 2
    assert "2 actors of this deployment are there; `onlineguard cluster rescale` changes their number" in output


def test_an_actor_tells_what_an_operator_has_to_mend_and_still_stops(tmp_path):
    from onlineguard_service.cluster.actor import Asked, ShardActor

    flags = {"source": "nothing", "snapshots": str(tmp_path)}
    actor = ShardActor(Asked(load({}, {}).settings, flags, {}))
    while actor._reason == "it is starting":
        assert actor._thread.is_alive()
        actor._thread.join(0.05)
    assert actor._reason.startswith("'nothing' is no log; name one as kafka://")
    actor.stop()
    assert not actor._thread.is_alive()


@pytest.fixture
def node(monkeypatch):
    """What an actor asks Ray of itself."""
    from onlineguard_service.cluster import actor

    monkeypatch.setattr(actor, "_restarts", lambda: 0)
    monkeypatch.setattr(actor.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "a" * 32))
    monkeypatch.setattr(actor.ray.util, "get_node_ip_address", lambda: "127.0.0.1")


def test_an_actor_serves_metrics_as_a_worker_does_at_the_port_of_its_number(tmp_path, model_folder, node):
    from onlineguard_service.cluster.actor import Asked, ShardActor

    options = load({"n_features": "2", "detector": "marginal", "max_slices": "100"}, {}).settings
    with serving(tmp_path) as port:
        log = f"redis://127.0.0.1:{port}/0?partitions=1"
        free = port + 10_000  # see `serving`
        flags = {"source": log, "snapshots": str(tmp_path / "s"), "model": model_folder, "metrics_port": free - 1}
        actor = ShardActor(Asked(options, flags, {}), 1)
        try:
            until(lambda: actor.told().partitions)
            assert actor.told().metrics == f"127.0.0.1:{free}"
            with urlopen(f"http://127.0.0.1:{free}/metrics", timeout=30) as answer:
                told = answer.read()
            assert b"onlineguard_worker_ready 1.0\n" in told
            assert b'onlineguard_shard_offset{partition="0"}' in told
        finally:
            actor.stop()
    assert actor.told().metrics is None


def test_prometheus_is_told_of_the_actors_that_serve_metrics(names, monkeypatch):
    from onlineguard_service.cluster import placing
    from onlineguard_service.cluster.actor import Told

    told = Told(1, "n", "10.0.0.4", 0, (0,), 0.0, 0.0, None)
    actors = [
        placing.Actor("shards-0", told._replace(metrics="10.0.0.4:9100")),
        placing.Actor("shards-1", None),
        placing.Actor("shards-2", told),
    ]
    monkeypatch.setattr(placing, "status", lambda: actors)
    code, output = said("status", "--targets")
    assert (code, json.loads(output)) == (0, [{"targets": ["10.0.0.4:9100"], "labels": {"actor": "shards-0"}}])


def until(holds):
    end = time.monotonic() + 120.0
    while not holds():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.05)
