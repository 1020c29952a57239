"""What holds for every partitioned log: in this process, in Redis, in Kafka.

Kafka is librdkafka's mock cluster, which speaks the protocol, but forgets the offsets of transactions, refuses nobody
and shows what was aborted; and the brokers that ONLINEGUARD_KAFKA names, if it is set.
"""

import pytest
from onlineguard_service.partitions.log import NOTHING, Done, Fenced, Output

from onlineguard.wire.placement import partition_of
from tests.support.logs import PARTITIONS, REAL, fill, followers, until, worlds

REMEMBER = ["memory", "redis", *([pytest.param("kafka", marks=pytest.mark.slow)] if REAL else [])]
KINDS = [*REMEMBER, pytest.param("kafka mock", marks=pytest.mark.slow)]
that_remembers = pytest.mark.parametrize("kind", REMEMBER, indirect=True)  # the offsets of transactions


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    with worlds(request.param, tmp_path_factory.mktemp("log")) as make:
        yield make


@pytest.fixture
def world(kind):
    return kind()


@pytest.fixture
def started(world):
    with followers(world) as start:
        yield start


def values(partition, n=5, first=0):
    return [b"%d of %d" % (i, partition) for i in range(first, n)]


def test_records_come_in_the_order_of_their_partition_with_offsets_that_grow(world, started):
    fill(world)
    one = started()
    until(lambda: len(one.read) >= 5 * PARTITIONS, one)
    for partition in range(PARTITIONS):
        assert one.values(partition) == values(partition)
        offsets = [record.offset for of, record in one.read if of == partition]
        assert offsets == sorted(set(offsets))
        assert min(offsets) > NOTHING
        assert one.member.end(partition) == offsets[-1]
    assert one.member.partitions == PARTITIONS


def test_a_record_has_its_kind_and_belongs_to_the_partition_of_its_key(world, started):
    writer = world.writer()
    keys = [b"a", b"b", b"c", b"slice 7"]
    for name in keys:
        writer.write(None, name, name, "clicks")
    writer.write(0, b"", b"usual")
    writer.close()
    one = started()
    until(lambda: len(one.read) >= 5, one)
    found = {(partition, record.value, record.kind) for partition, record in one.read}
    assert found == {(partition_of(name, PARTITIONS), name, "clicks") for name in keys} | {(0, b"usual", "events")}


def test_a_partition_without_records_has_no_end(world, started):
    fill(world, 1, [1])
    one = started()
    until(lambda: len(one.read) == 1, one)
    assert [one.member.end(partition) == NOTHING for partition in range(PARTITIONS)] == [True, False, True, True]


def test_nothing_is_read_before_a_place_is_sought(world, started):
    fill(world)
    member = started().member
    gained = []
    while len(gained) < PARTITIONS:
        turn = member.poll(0.1, 100)
        gained += turn.gained
        assert not turn.read
    for _ in range(3):
        assert not member.poll(0.1, 100).read
    member.seek(gained[2], NOTHING)
    found = []
    while len(found) < 5:
        for owned, records in member.poll(0.1, 100).read:
            assert owned == gained[2]
            found += records
    assert [record.value for record in found] == values(gained[2].partition)


def test_a_partition_is_read_on_from_the_record_after_a_place(world, started):
    fill(world)
    one = started()
    until(lambda: len(one.read) >= 5 * PARTITIONS, one)
    third = {partition: record.offset for partition, record in one.read if record.value.startswith(b"2 of")}
    one.member.close()
    other = started(third)
    until(lambda: len(other.read) >= 2 * PARTITIONS, other)
    assert [other.values(partition) for partition in range(PARTITIONS)] == [values(p, 5, 3) for p in range(PARTITIONS)]


def test_a_poll_brings_no_more_records_than_it_was_asked_for(world, started):
    fill(world)
    one = started()
    sizes = []
    while sum(sizes) < 5 * PARTITIONS:
        sizes.append(sum(len(read.records) for read in one.poll(0.2, 3).read))
    assert max(sizes) <= 3
    assert [one.values(partition) for partition in range(PARTITIONS)] == [values(p) for p in range(PARTITIONS)]


def test_a_paused_partition_is_read_on_later_without_loss(world, started):
    one = started()
    until(lambda: len(one.owned) == PARTITIONS, one)
    fill(world)
    until(lambda: len(one.values(1)) == 5, one)
    one.member.pause(one.owned[1], True)
    writer = world.writer()
    for partition in (1, 2):
        writer.write(partition, b"", b"later")
    writer.close()
    until(lambda: b"later" in one.values(2), one)
    for _ in range(3):
        one.poll(0.1)
    assert one.values(1) == values(1)
    one.member.pause(one.owned[1], False)
    until(lambda: b"later" in one.values(1), one)
    assert one.values(1) == [*values(1), b"later"]


def test_outputs_carry_the_place_of_their_record_and_go_to_their_topic(world, started):
    fill(world, 2)
    one = started()
    until(lambda: len(one.read) >= 2 * PARTITIONS, one)
    record = next(record for partition, record in one.read if partition == 3)
    outputs = [Output(record.offset, i, to, b"k%d" % i, b"v") for i, to in enumerate(("decisions", "alarms", "dead"))]
    one.member.publish([Done(one.owned[3], record.offset, outputs)])
    assert sorted(world.outputs()) == [
        (3, record.offset, i, to, b"k%d" % i, b"v") for i, (_, _, to, _, _) in enumerate(outputs)
    ]


def test_what_was_published_is_not_published_again(world, started):
    fill(world, 4)
    one = started()
    until(lambda: len(one.read) >= 4 * PARTITIONS, one)
    early = [each for each in one.read if each[1].value[:1] in b"01"]
    one.publish(early)
    one.publish(early)
    one.publish(one.read)
    found = world.outputs()
    assert sorted(kept.value for kept in found) == sorted(record.value for _, record in one.read)


def test_records_may_lead_to_nothing(world, started):
    fill(world, 2)
    one = started()
    until(lambda: len(one.read) >= 2 * PARTITIONS, one)
    one.member.publish([Done(owned, one.member.end(partition)) for partition, owned in one.owned.items()])
    one.publish(one.read)
    assert world.outputs() == []


def test_two_members_share_the_partitions_and_one_that_leaves_gives_its_own_back_at_once(world, started):
    one, two = started(), started()
    until(lambda: len(one.owned) == 2 and len(two.owned) == 2, one, two)
    assert not one.owned.keys() & two.owned.keys()
    two.member.close()
    before = dict(two.owned)
    until(lambda: len(one.owned) == PARTITIONS, one)
    for partition, owned in before.items():
        assert one.owned[partition].generation > owned.generation


@that_remembers
def test_each_record_is_published_once_while_partitions_move_from_one_member_to_two_and_back(world, started):
    places = {}  # what a store of snapshots would hold: the offset that each shard has applied

    def work(follower):
        """Apply what was read, publish it, and take the snapshot."""
        records, follower.read = follower.read, []
        for partition in {partition for partition, _ in records if partition in follower.owned}:
            those = [(of, record) for of, record in records if of == partition]
            follower.publish(those)
            places[partition] = those[-1][1].offset

    def go_on(n, *followers):
        fill(world, n)
        wanted = len(world.outputs()) + n * PARTITIONS
        for _ in range(200):
            for follower in followers:
                follower.poll()
                work(follower)
            if all(places.get(p, NOTHING) == followers[0].member.end(p) for p in range(PARTITIONS)):
                break
        assert len(world.outputs()) == wanted

    one = started(places)
    until(lambda: len(one.owned) == PARTITIONS, one)
    go_on(3, one)
    two = started(places)
    until(lambda: len(one.owned) == 2 and len(two.owned) == 2, one, two)
    go_on(3, one, two)
    one.member.close()
    until(lambda: len(two.owned) == PARTITIONS, two)
    go_on(3, two)
    found = world.outputs()
    assert len(set(found)) == len(found) == 9 * PARTITIONS


@that_remembers
def test_a_crash_between_applying_and_publishing_leaves_each_output_once(world, started):
    fill(world, 6)
    one = started()
    until(lambda: len(one.read) >= 6 * PARTITIONS, one)
    one.publish([each for each in one.read if each[1].value[:1] in b"012"])  # and it dies before it publishes 3 to 5
    snapshot = {partition: record.offset for partition, record in one.read if record.value[:1] == b"1"}
    world.bury(one.member)
    two = started(snapshot)
    until(lambda: len(two.read) >= 4 * PARTITIONS, two)
    third = {partition: record.offset for partition, record in one.read if record.value[:1] == b"2"}
    assert {partition: owned.published for partition, owned in two.owned.items()} == third
    two.publish(two.read)  # 2 to 5: of those 2 is dropped
    assert sorted(kept.value for kept in world.outputs()) == sorted(record.value for _, record in one.read)


def test_a_member_that_was_taken_for_dead_publishes_nothing_and_learns_of_it(world, started):
    fill(world, 2)
    one = started()
    until(lambda: len(one.read) >= 2 * PARTITIONS, one)
    had = dict(one.owned)
    world.bury(one.member)
    two = started()
    until(lambda: len(two.owned) == PARTITIONS, two)
    with pytest.raises(Fenced, match="another process owns partition"):
        one.publish(one.read)
    assert world.outputs() == []

    def read_by(follower):
        return [*dict.fromkeys(each for each in follower.read if each[0] in follower.owned)]

    # In Kafka it joins again as it learns of that, and the other one may be given up while outputs are looked at.
    until(lambda: len(one.lost) >= PARTITIONS and len(read_by(one) + read_by(two)) == 2 * PARTITIONS, one, two)
    for follower in (one, two):
        follower.publish(read_by(follower))
    assert {owned.partition: owned for owned in one.lost[:PARTITIONS]} == had
    assert len(world.outputs()) == 2 * PARTITIONS


def test_nothing_is_published_by_one_that_has_left(world, started):
    fill(world, 1)
    one = started()
    until(lambda: len(one.read) >= PARTITIONS, one)
    one.member.close()
    with pytest.raises(Fenced):
        one.publish(one.read)
    assert world.outputs() == []
