"""A Redis that is cut from its Sentinels goes on, with clients of its own: two owners, and one log that is left."""

from contextlib import closing

import pytest
from onlineguard_service.entries import Options
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import Output
from onlineguard_service.partitions.redis_streams import RedisMember
from onlineguard_service.shards.owner import Owner, Pace
from onlineguard_service.shards.shard import Shard
from onlineguard_service.shards.snapshots import Snapshots

from onlineguard.slidr.registry.stores import opened
from tests.support.logs import PARTITIONS, Follower, RedisWorld, until
from tests.support.redis_failover import NAME, failing_over
from tests.support.shards import OPTIONS, one_by_one, records

EACH = 40  # records between two snapshots
LEASE = 1.5  # seconds


class Side:
    """Who reaches one of two Redises alone: its world, by the Sentinel that names it, its writer and its owner."""

    def __init__(self, port, name, seed, store, models):
        self.world = RedisWorld(f"redis+sentinel://127.0.0.1:{port}/{NAME}/0")
        self.world.name, self.world.lease = name, LEASE
        self.store, self.models = store, models
        self.left = iter(records(400, seed))
        self.owner = None

    def make(self, partition, dump):
        if dump is not None:
            return Shard.restored(partition, PARTITIONS, dump, self.models.get)
        return Shard(partition, PARTITIONS, Options(**OPTIONS), self.models.first, self.models.get)

    def start(self):
        pace = Pace(most=EACH, wait=0.05, snapshot_every=3_600.0, snapshot_records=EACH)
        self.owner = Owner(self.world.member(), self.world.writer(), Snapshots(opened(self.store)), self.make, pace)

    def poll(self):
        """As `until` has it take turns."""
        self.owner.turn()

    def write(self, n=EACH):
        with closing(self.world.writer()) as writer:
            for _, record in zip(range(n), self.left, strict=False):
                writer.write(0, b"", record.value, record.kind)

    @property
    def held(self):
        return self.owner.held.get(0)

    def published(self):
        return self.held is not None and self.held.shard is not None and self.held.settled == self.owner._member.end(0)

    def kept(self):
        return self.published() and self.held.kept == self.held.settled

    def check(self):
        """All that the log holds was applied once, and nothing else."""
        follower = Follower(RedisMember(self.world.url, self.world.name, "reader"))
        with closing(follower.member):
            until(lambda: follower.read and follower.read[-1][1].offset == follower.member.end(0), follower)
        one = self.make(0, None)
        outputs, _ = one_by_one(one, [record for _, record in follower.read])
        assert sorted(Output(*each[1:]) for each in self.world.outputs()) == sorted(outputs)
        assert self.held.shard.digest() == one.digest()


@pytest.mark.slow
def test_what_was_learned_on_the_side_that_is_given_up_leaves_no_trace(tmp_path, model_folder):
    models = Models(tmp_path / "models")
    models.first = models.put(model_folder).version
    with failing_over(tmp_path, sentinels=2) as servers:
        old, new = (Side(port, "log", seed, tmp_path / "store", models) for seed, port in enumerate(servers.sentinels))
        new.write()
        new.start()
        until(new.kept, new)
        servers.part()
        servers.name(servers.sentinels[1], servers.replica)
        servers.ask(servers.primary, "CLIENT KILL TYPE normal")
        new.write()
        until(new.published, new)
        before = new.held.owned.generation
        old.start()
        for _ in range(3):  # once the lease of the other ran out here
            old.write()
            until(old.kept, old)
        assert old.held.owned.generation > before
        for side in (new, old, new):  # though the other has claimed the partition meanwhile
            side.write()
            until(side.published, side)
            until(side.kept, side)
        servers.kill_primary()
        servers.promote()
        new.write()
        # They share one Redis again, and their names say whose the partition is: it is one's, who has done all of it.
        until(lambda: [side.published() for side in (old, new) if side.held is not None] == [True], old, new)
        old.owner.close()
        new.owner.close()
        new.start()
        new.write()
        until(new.kept, new)
        new.check()
        new.owner.close()
