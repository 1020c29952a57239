"""A log in a Redis Cluster whose primaries die: what replicas have is applied once, and what they had not is told."""

import logging
import threading
from contextlib import closing, suppress

import pytest
from onlineguard_service.partitions.redis_names import key
from onlineguard_service.partitions.redis_streams import RedisMember
from onlineguard_service.redis.nodes import slot_of

from tests.support.logs import PARTITIONS, Follower, RedisWorld, until
from tests.support.redis_cluster import SLOTS, cluster
from tests.support.redis_failover import until as comes
from tests.support.workers import Workers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster"), replicated=True) as nodes:
        yield nodes


def held_by(nodes, name):
    """The partitions of a log that a node and its replica hold, by the number of the primary."""
    of = [slot_of(key(name, partition).encode()) * 3 // SLOTS for partition in range(PARTITIONS)]
    return [[partition for partition in range(PARTITIONS) if of[partition] == each] for each in range(3)]


def spread(nodes, port):
    """A log of which no primary holds all, and the first holds some."""
    while True:
        world = RedisWorld(f"redis://127.0.0.1:{port}/0")
        if 0 < len(held_by(nodes, world.name)[0]) < PARTITIONS:
            return world


def test_workers_of_a_cluster_go_on_when_a_primary_is_killed_and_every_record_that_was_taken_is_there_once(
    nodes, tmp_path, model_folder, environment
):
    first, second, _, replica, *_ = nodes
    world = spread(nodes, second.port)
    world.replicas = 1
    flags = f"?stream={world.name}&partitions={PARTITIONS}&lease=6&replicas=1"
    reader = lambda name: RedisMember(world.url, world.name, name, partitions=PARTITIONS)  # noqa: E731
    group = Workers(world, world.url + flags, reader, tmp_path, model_folder, environment)
    try:
        group.write(50)
        group.start("by the one that dies", url=f"redis://127.0.0.1:{first.port}/0{flags}")
        group.start("by another")
        for name in group.running:
            group.told(name, "is owned in generation")
        with group.load():
            group.go_on()
            first.kill()
            group.until(lambda: replica.role() == "master")
            first.start()  # as its replica, without which nothing counts as written
            group.go_on()
        group.settled()
        group.stop()
        group.check()
        assert group.writer.lost == 0
        assert [len(given) for given in group.records()] == [50 + group.written] * PARTITIONS
    finally:
        group.kill()


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_slot_that_moves_while_its_partition_is_read_and_written_loses_nothing(nodes, replicas):
    source, target = (node for node in nodes[1:3])
    world = RedisWorld(f"redis://127.0.0.1:{target.port}/0")
    while not held_by(nodes, world.name)[1]:
        world = RedisWorld(world.url)
    world.replicas, world.lease = replicas, 30.0
    partition = held_by(nodes, world.name)[1][0]
    slot = slot_of(key(world.name, partition).encode())
    with closing(world.writer()) as writer, closing(world.member()) as member:
        follower, moved = Follower(member), threading.Event()
        until(lambda: len(follower.owned) == PARTITIONS, follower)

        def write():
            while not moved.wait(0.02):
                writer.write(partition, b"", b"%d" % writer._next.get(partition, 1))
                writer.flush()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            goes_on(follower)
            target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
            source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
            while names := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
                source.ask("MIGRATE", "127.0.0.1", target.port, names[0], 0, 5_000)
                follower.poll(0.2)  # some keys are here and some are there
            for node in (target, source):
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)
            goes_on(follower)
        finally:
            moved.set()
            thread.join()
        assert target.ask("CLUSTER", "COUNTKEYSINSLOT", slot) >= 3
        until(lambda: len(follower.read) == writer._next[partition] - 1, follower)
        assert [int(value) for value in follower.values(partition)] == list(range(1, writer._next[partition]))
        follower.publish(follower.read)
        assert sorted(kept.value for kept in world.outputs()) == sorted(record.value for _, record in follower.read)


def goes_on(follower):
    """Read and publish more."""
    before = len(follower.read)
    until(lambda: len(follower.read) >= before + 10, follower)
    follower.publish(follower.read)


def test_records_that_a_promoted_replica_never_got_are_told_and_so_are_outputs(nodes, caplog):
    _, _, third, _, _, replica = nodes
    world = RedisWorld(f"redis://127.0.0.1:{nodes[1].port}/0")
    while not (of := held_by(nodes, world.name)[2]):
        world = RedisWorld(world.url)
    world.lease = 30.0
    with closing(world.writer()) as writer, closing(world.member()) as member:
        follower = Follower(member)
        until(lambda: len(follower.owned) == PARTITIONS, follower)
        for partition in range(PARTITIONS):
            writer.write(partition, b"", b"kept")
        writer.flush()
        until(lambda: len(follower.read) == PARTITIONS, follower)
        follower.publish(follower.read)
        with suppress(Exception):
            third.client.client_getname()  # connected before it asks for a password
        third.part()
        for partition in range(PARTITIONS):
            for _ in range(3):
                writer.write(partition, b"", b"maybe lost")
        writer.flush()
        until(lambda: len(follower.read) == 4 * PARTITIONS, follower)
        follower.publish(follower.read[PARTITIONS:])
        third.kill()
        comes(lambda: replica.role() == "master")
        follower.places = {partition: record.offset for partition, record in follower.read[:PARTITIONS]}
        until(lambda: {owned.partition for owned in follower.lost} == set(of), follower)
        until(lambda: len(follower.owned) == PARTITIONS, follower)
        assert {owned.partition: owned.published for owned in follower.owned.values() if owned.partition in of} == {
            partition: follower.places[partition] for partition in of
        }
        for partition in range(PARTITIONS):
            writer.write(partition, b"", b"after")
        with caplog.at_level(logging.WARNING):
            writer.flush()
        assert writer.lost == 3 * len(of)
        told = [text for text in caplog.messages if "that it had taken, e.g. in a failover" in text]
        assert len(told) == len(of)
        assert all(f"lost 3 records of partition {partition} " in "".join(told) for partition in of)
        until(lambda: sum(record.value == b"after" for _, record in follower.read) == PARTITIONS, follower)
