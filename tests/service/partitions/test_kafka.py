"""What a log in Kafka does beside what every log does, on librdkafka's mock cluster.

The mock shows that requests and errors are dealt with as the protocol wants. It cannot show that a broker hides what
was aborted or refuses a stale generation; here it is told to refuse.
"""

import threading
import time
from contextlib import closing

import pytest
from confluent_kafka import Producer
from onlineguard_service.partitions.kafka import KafkaMember
from onlineguard_service.partitions.kafka_writer import KafkaWriter
from onlineguard_service.partitions.log import Done, Fenced, RecordsGone
from onlineguard_service.partitions.urls import open_member, open_writer

from onlineguard.errors import InvalidArgument
from onlineguard.wire.placement import partition_of
from tests.support.logs import PARTITIONS, Follower, MockWorld, fill, followers, until
from tests.support.mock_kafka import mocked

pytestmark = pytest.mark.slow
QUIET = {"log_level": "0", "reconnect.backoff.max.ms": "200"}


@pytest.fixture(scope="module")
def mock():
    with mocked() as cluster:
        yield cluster


@pytest.fixture
def world(mock):
    return MockWorld(mock.servers, mock.create)


@pytest.fixture
def started(world):
    with followers(world) as start:
        yield start


def filled(world, started, **options):
    """A follower that owns all and has read two records of each partition."""
    fill(world, 2)
    follower = started(**options)
    until(lambda: len(follower.read) >= 2 * PARTITIONS, follower)
    return follower


def test_a_key_is_put_where_librdkafka_puts_it(world, mock, started):
    other = Producer({"bootstrap.servers": mock.servers, "partitioner": "murmur2", **QUIET})
    keys = [b"slice %d" % i for i in range(50)]
    for name in keys:
        other.produce(world.topic, name, name)
    other.flush(10)
    follower = started()
    until(lambda: len(follower.read) >= 50, follower)
    assert {record.value: of for of, record in follower.read} == {name: partition_of(name, PARTITIONS) for name in keys}


def test_a_coordinator_that_is_not_there_yet_is_asked_again(world, mock, started):
    follower = filled(world, started)
    mock.refuse("TxnOffsetCommit", "coordinator not available", "coordinator not available")
    follower.publish(follower.read)
    assert len(world.outputs()) == 2 * PARTITIONS


def test_a_member_whose_generation_is_refused_publishes_after_the_rebalance_what_it_still_owns(world, mock, started):
    follower = filled(world, started)
    mock.refuse("TxnOffsetCommit", "illegal generation")
    membership = follower.member._membership
    old = membership()
    # It may hear of the new generation before or after it loses partitions. Here it hears of it after.
    follower.member._membership = lambda: membership() if follower.member._lost else old
    told = []

    def publish():
        try:
            follower.publish(follower.read)
        except Fenced as error:
            told.append(error.partition)

    publishing = threading.Thread(target=publish)
    publishing.start()
    other = started()  # which begins another generation, and takes two partitions
    while publishing.is_alive():
        other.poll()
    follower.member._membership = membership
    until(lambda: len(follower.owned) == 2 and len(other.owned) == 2, follower, other)
    assert {owned.partition for owned in follower.lost} == other.owned.keys()
    assert told
    assert told[0] in other.owned
    mine = [each for each in follower.read if each[0] in follower.owned]
    mock.refuse("TxnOffsetCommit", "coordinator not available")
    follower.publish(mine)
    assert {kept.partition for kept in world.outputs()} >= follower.owned.keys()


def test_a_member_that_still_owns_all_in_the_next_generation_publishes_all(world, mock, started):
    follower = filled(world, started)
    mock.refuse("TxnOffsetCommit", "illegal generation")
    membership, asked = follower.member._membership, []

    def later():  # as if its consumer had joined the next generation by the second time that it is asked
        generation, metadata = membership()
        asked.append(generation)
        return generation + (len(asked) > 1), metadata

    follower.member._membership = later
    follower.publish(follower.read)
    assert len(asked) == 3
    assert {(kept.partition, kept.offset) for kept in world.outputs()} == {  # the mock hides nothing that was aborted
        (partition, record.offset) for partition, record in follower.read
    }


def test_partitions_that_come_when_the_group_has_given_the_member_up_are_not_gained(world, started):
    fill(world, 2)
    follower = started()
    membership = follower.member._membership
    follower.member._membership = lambda: (-1, membership()[1])  # as librdkafka tells outside of a generation
    assigned = follower.member._consumer.assignment
    until(lambda: len(assigned()) == PARTITIONS, follower)
    follower.poll(0.5)
    assert not follower.owned
    follower.member._membership = membership
    time.sleep(1.5 * world.lease)  # its lease runs out, so that it has to join anew
    until(lambda: len(follower.owned) == PARTITIONS and len(follower.read) == 2 * PARTITIONS, follower)
    assert min(owned.generation for owned in follower.owned.values()) > 0


def test_a_producer_that_was_fenced_is_opened_anew_and_publishes(world, mock, started):
    follower = filled(world, started)
    mock.refuse("EndTxn", "producer fenced")
    follower.publish(follower.read)
    assert {(kept.partition, kept.offset) for kept in world.outputs()} == {
        (partition, record.offset) for partition, record in follower.read
    }


def test_partitions_are_handed_over_with_the_eager_protocol_too(world, started):
    options = {"partition.assignment.strategy": "range"}
    one, two = filled(world, started, **options), started(**options)
    until(lambda: len(one.owned) == 2 and len(two.owned) == 2, one, two)
    two.member.close()
    until(lambda: len(one.owned) == PARTITIONS, one)
    generations = {owned.generation for owned in one.owned.values()}
    assert min(generations) > max(owned.generation for owned in one.lost)


def test_brokers_that_are_away_are_waited_for(world, mock, started):
    follower = filled(world, started, **{"max.poll.interval.ms": "60000", "session.timeout.ms": "30000"})
    for broker in (1, 2, 3):
        mock.down(broker)
    publishing = threading.Thread(target=follower.publish, args=[follower.read])
    publishing.start()
    time.sleep(1.0)
    assert publishing.is_alive()
    for broker in (1, 2, 3):
        mock.up(broker)
    publishing.join(60)
    assert not publishing.is_alive()
    fill(world, 1)
    until(lambda: len(follower.read) >= 3 * PARTITIONS, follower)
    assert len({(of, record.offset) for of, record in follower.read}) == len(follower.read) == 3 * PARTITIONS


def test_records_that_the_topic_dropped_before_they_were_applied_are_noticed(world, mock, started):
    fill(world, 10, [0])
    mock.drop(world.topic, 0, 8)
    follower = started({0: 4})
    with pytest.raises(RecordsGone, match=r"partition 0 of topic .* has no record after offset 4.*missing=skip"):
        until(lambda: bool(follower.read), follower)
    options = {"session.timeout.ms": "2000", "heartbeat.interval.ms": "200", **QUIET}
    with closing(KafkaMember(world.servers, world.topic, "other", skip_missing=True, options=options)) as member:
        skips = Follower(member, {0: 4})
        until(lambda: len(skips.read) >= 2, skips)
        assert [record.offset for _, record in skips.read] == [8, 9]


def test_a_topic_that_is_not_there_or_has_other_partitions_is_refused(world):
    with pytest.raises(InvalidArgument, match=r"topic nowhere is not to be had: .*create it"):
        KafkaMember(world.servers, "nowhere", options=QUIET)
    with pytest.raises(InvalidArgument, match=f"partitions is 9, but topic {world.topic} has 4; leave it out"):
        KafkaWriter(world.servers, world.topic, partitions=9, options=QUIET)


def test_a_log_in_kafka_is_opened_by_its_url(world):
    url = f"kafka://{world.servers}/{world.topic}"
    with closing(open_writer(url)) as writer:
        writer.write(3, b"", b"here", "clicks")
    with closing(open_member(f"{url}?group=by-url&dead={world.topic}.alarms")) as member:
        follower = Follower(member)
        until(lambda: len(follower.read) == 1, follower)
        ((partition, record),) = follower.read
        assert (partition, record.kind, abs(record.t - time.time() * 1_000) < 60_000) == (3, "clicks", True)
        member.publish([Done(follower.owned[3], record.offset)])
