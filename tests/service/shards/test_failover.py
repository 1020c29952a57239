"""A Redis fails over to its replica: what that holds is applied once, and what vanished leaves no trace."""

import time
from contextlib import closing

import pytest
from onlineguard_service.entries import Options
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import Done, Fenced, Output, Owned, RecordsGone
from onlineguard_service.partitions.redis_streams import RedisMember
from onlineguard_service.shards.held import Held
from onlineguard_service.shards.owner import Owner, Pace
from onlineguard_service.shards.shard import Shard
from onlineguard_service.shards.snapshots import Snapshots

from onlineguard.slidr.registry.stores import opened
from tests.support.logs import PARTITIONS, Follower, RedisWorld, until
from tests.support.redis_failover import failing_over
from tests.support.shards import OPTIONS, one_by_one, records
from tests.support.workers import Workers

EACH = 40  # records between two snapshots


@pytest.fixture
def servers(tmp_path):
    with failing_over(tmp_path) as found:
        yield found


@pytest.fixture
def models(model_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first = kept.put(model_folder).version
    return kept


class One:
    """A log of four partitions, of which the first has records, and the owners of it."""

    def __init__(self, servers, models, store):
        self.servers, self.models, self.store = servers, models, store
        self.world = RedisWorld(servers.url)
        self.world.lease = 4.0
        self.writer, self.left = self.world.writer(), iter(records(400))

    def make(self, partition, dump):
        if dump is not None:
            return Shard.restored(partition, PARTITIONS, dump, self.models.get)
        return Shard(partition, PARTITIONS, Options(**OPTIONS), self.models.first, self.models.get)

    def owner(self):
        pace = Pace(most=EACH, wait=0.05, snapshot_every=3_600.0, snapshot_records=EACH)
        return Owner(self.world.member(), self.world.writer(), Snapshots(opened(self.store)), self.make, pace)

    def write(self, n=EACH):
        for _, record in zip(range(n), self.left, strict=False):
            self.writer.write(0, b"", record.value, record.kind)
        self.writer.flush()

    def settled(self, owner):
        """Turn until all is published, and a snapshot holds all of it."""
        until(lambda: held_of(owner).settled == held_of(owner).kept == owner._member.end(0), Turns(owner))

    def check(self, owner):
        """All that the log holds was applied once, and nothing else."""
        follower = Follower(RedisMember(self.servers.url, self.world.name, "reader"))
        with closing(follower.member):
            until(lambda: follower.read and follower.read[-1][1].offset == follower.member.end(0), follower)
        one = self.make(0, None)
        outputs, _ = one_by_one(one, [record for _, record in follower.read])
        assert sorted(Output(*each[1:]) for each in self.world.outputs()) == sorted(outputs)
        assert owner.held[0].shard.digest() == one.digest()


class Turns:
    """An owner as `until` has it take turns."""

    def __init__(self, owner):
        self.poll = owner.turn


def held_of(owner):
    return owner.held.get(0) or Held(Owned(0, 0))


@pytest.mark.parametrize("lives_on", [True, False])
def test_a_shard_that_is_ahead_of_the_log_goes_on_from_a_snapshot_that_is_not(servers, models, tmp_path, lives_on):
    one = One(servers, models, tmp_path / "store")
    owner = one.owner()
    one.write()
    one.settled(owner)
    servers.part()
    one.write()
    one.settled(owner)
    one.write(EACH // 4)  # of which no snapshot may come to be, or it would take the place of the one before the last
    until(lambda: owner.held[0].settled == owner._member.end(0), Turns(owner))
    assert owner.progress.snapshots == 2
    ahead = owner.held[0].shard.offset
    servers.kill_primary()
    servers.promote()
    if not lives_on:
        owner._member.close()
        owner = one.owner()
    one.write()
    until(lambda: held_of(owner).settled > ahead, Turns(owner))
    one.settled(owner)
    one.check(owner)
    assert owner.progress.undone == lives_on
    assert owner.progress.fenced == 0
    owner.close()


def test_a_partition_that_is_claimed_for_a_later_generation_is_taken_anew_until_its_own_is_later(
    servers, models, tmp_path, caplog
):
    """As where the clock of the Redis that was cut off, which gave it to another process, was ahead."""
    one = One(servers, models, tmp_path / "store")
    snapshots = Snapshots(opened(one.store))
    snapshots.begin(Owned(0, 1))
    snapshots.begin(Owned(0, int(1_000 * time.time()) + 1_500, follows=1))
    owner = one.owner()
    one.write()
    one.settled(owner)
    one.check(owner)
    assert owner.progress.fenced > 0
    assert "which the log does not know: what was learned beside a Redis that was cut off is passed over" in caplog.text
    owner.close()


def test_a_log_that_forgot_a_record_and_what_was_published_ends_its_worker_with_a_reason(servers, tmp_path):
    world = RedisWorld(servers.url)
    writer, follower = world.writer(), Follower(world.member())
    servers.part()
    writer.write(0, b"", b"lost")
    writer.close()
    until(lambda: follower.read, follower)
    places = {0: follower.read[-1][1].offset}
    servers.kill_primary()
    servers.promote()
    again = Follower(world.member(skip_missing=True), places)  # as one that begins from a snapshot
    with pytest.raises(RecordsGone, match=r"ends before \d+-\d+, the record that was applied last: Redis lost it"):
        until(lambda: False, again)
    for each in (follower, again):
        each.member.close()


def test_what_is_published_after_a_failover_that_lost_some_is_refused(servers):
    world = RedisWorld(servers.url)
    world.lease = 30.0
    world.writer().close()
    follower = Follower(world.member())
    until(lambda: len(follower.owned) == PARTITIONS, follower)
    first, second = (follower.owned[partition] for partition in (0, 1))
    servers.part()
    follower.member.publish([Done(first, 5, [Output(5, 0, "decisions", b"", b"lost")])])
    servers.kill_primary()
    servers.promote()
    with pytest.raises(Fenced) as fenced:
        follower.member.publish([Done(first, 9, [Output(9, 0, "decisions", b"", b"9")]), Done(second, 9)])
    assert fenced.value.partition == 0
    turn = follower.poll()
    assert (list(turn.lost), list(turn.undone)) == ([first], [first])
    until(lambda: len(follower.owned) == PARTITIONS, follower)
    assert follower.owned[0].generation > first.generation
    assert follower.owned[1] == second
    assert world.outputs() == []
    follower.member.close()


def test_a_member_whose_partitions_another_took_after_a_failover_that_lost_some_is_told_so(servers):
    world = RedisWorld(servers.url)
    one = Follower(world.member())
    until(lambda: len(one.owned) == PARTITIONS, one)
    before = one.owned[0]
    servers.part()
    one.member.publish([Done(before, 5, [Output(5, 0, "decisions", b"", b"lost")])])
    servers.kill_primary()
    servers.promote()
    world.bury(one.member)
    other = Follower(world.member())
    until(lambda: len(other.owned) == PARTITIONS, other)
    turn = one.poll(1.0)
    assert set(turn.undone) == {before} < set(turn.lost)  # it leaves no snapshot of that one
    for each in (one, other):
        each.member.close()


@pytest.mark.slow
def test_workers_go_on_with_the_replica_when_their_redis_is_killed_under_load(
    servers, tmp_path, model_folder, environment
):
    world = RedisWorld(servers.url)
    url = f"{servers.url}?stream={world.name}&partitions={PARTITIONS}&lease=4"
    reader = lambda name: RedisMember(servers.url, world.name, name, partitions=PARTITIONS)  # noqa: E731
    group = Workers(world, url, reader, tmp_path, model_folder, environment)
    try:
        group.write(50)
        group.start("first", "second")
        for name in ("first", "second"):
            group.told(name, "is owned in generation")
        with group.load():
            group.go_on()
            servers.replicated()  # from here on there may be losses
            servers.kill_primary()
            group.until(lambda: servers.named() == servers.replica)
            group.go_on()
        group.settled()
        group.stop()
        group.check()
    finally:
        group.kill()
