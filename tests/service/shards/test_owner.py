"""Owners of a log's partitions: whoever dies when, each record is applied once and its outputs are there once."""

import json
from concurrent.futures import Future
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onlineguard_service.entries import Options, Switch
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import NOTHING
from onlineguard_service.partitions.memory import MemoryLog
from onlineguard_service.partitions.records import controlled
from onlineguard_service.shards.choosing import Choosing
from onlineguard_service.shards.owner import Owner, Pace
from onlineguard_service.shards.shard import Shard
from onlineguard_service.shards.snapshots import Snapshots

from onlineguard.errors import CheckpointError
from onlineguard.slidr.registry.stores import opened
from onlineguard.wire.requests import Event
from tests.support.shards import NOON, OPTIONS, one_by_one, records, shard

PACE = Pace(most=40, wait=0.0, snapshot_every=0.0)


class Died(BaseException):
    """A process is killed here."""


@pytest.fixture(scope="module")
def models(model_folder, other_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first, kept.second = kept.put(model_folder).version, kept.put(other_folder).version
    return kept


class AtOnce:
    """Writes snapshots in the thread that asks for them, so that a test goes the same way each time."""

    def submit(self, call, *args):
        future = Future()
        try:
            future.set_result(call(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self):
        pass


def dying(call, which, before):
    """The call, at which, or after which, the process dies, the n-th time."""
    left = which

    def called(*args):
        nonlocal left
        left -= 1
        if left == 0 and before:
            raise Died
        call(*args)
        if left == 0:
            raise Died

    return called


class Deployment:
    """A log, a store of snapshots, and the processes that own partitions."""

    def __init__(self, models, store, partitions, get=None, **options):
        self.models, self.store, self.options, self.get = models, store, options, get or models.get
        self.log = MemoryLog(partitions, eager=False)
        self.log.t = NOON
        self.owners = {}

    def start(self, name, pace=PACE, choosing=None):
        def make(partition, dump):
            if dump is not None:
                one = Shard.restored(partition, self.log.partitions, dump, self.get)
            else:
                chosen = Options(**OPTIONS | self.options)
                one = Shard(partition, self.log.partitions, chosen, self.models.first, self.get)
            one.warmup(0)
            return one

        snapshots = Snapshots(opened(self.store))
        member, writer = self.log.member(name), self.log.writer()
        self.owners[name] = Owner(member, writer, snapshots, make, pace, choosing, thread=AtOnce())
        return self.owners[name]

    def append(self, partition, given):
        for record in given:
            self.log.t = record.t
            self.log.append(partition, record.value, record.kind)

    def drained(self, turns=500):
        """Turn all owners until every record is settled."""
        for _ in range(turns):
            for owner in self.owners.values():
                owner.turn()
            if all(self.log.published[p] == self.log.end(p) for p in range(self.log.partitions)):
                return
        raise AssertionError("it does not come to an end")

    def check(self):
        """Each partition's outputs and state are those of one shard that is fed its log."""
        for partition in range(self.log.partitions):
            one = shard(self.models, partition, self.log.partitions, **self.options)
            outputs, _ = one_by_one(one, self.log.records[partition])
            assert [each.output for each in self.log.outputs if each.partition == partition] == outputs
            held = next((owner.held[partition] for owner in self.owners.values() if partition in owner.held), None)
            assert held is not None
            assert held.shard.digest() == one.digest()


DEATHS = st.tuples(
    st.sampled_from(["publish", "published", "snapshot", "kept", "turn"]),
    st.integers(1, 5),  # at which call of that
)


@settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 3), deaths=st.lists(DEATHS, min_size=1, max_size=3))
def test_a_process_that_is_killed_anywhere_leaves_no_trace(models, clicks, tmp_path_factory, seed, deaths):
    deployment = Deployment(models, tmp_path_factory.mktemp("store"), 1)
    deployment.append(0, records(200, seed, clicks, (models.first, models.second)))
    for n, (at, which) in enumerate(deaths):
        owner = deployment.start(f"worker-{n}")
        deployment.log.rebalance()
        if at in ("publish", "published"):
            owner._member.publish = dying(owner._member.publish, which, at == "publish")
        elif at in ("snapshot", "kept"):
            owner._snapshots.write = dying(owner._snapshots.write, which, at == "snapshot")
        with suppress(Died):
            for _ in range(which):
                owner.turn()
        deployment.log.expel(f"worker-{n}")
        del deployment.owners[f"worker-{n}"]
    deployment.start("last")
    deployment.log.rebalance()
    deployment.drained()
    deployment.check()


def test_a_zombie_that_wakes_up_publishes_nothing_and_leaves_no_snapshot(models, clicks, tmp_path):
    deployment = Deployment(models, tmp_path, 1)
    deployment.append(0, records(120, 1, clicks))
    zombie = deployment.start("first")
    deployment.log.rebalance()
    zombie.turn()
    publish, snapshots = zombie._member.publish, zombie._snapshots

    def stopped(done):
        """While it was stopped its partition moved, and the next owner went on."""
        zombie._member.publish = publish
        deployment.start("second")
        deployment.log.give(0, "second")
        for _ in range(3):
            deployment.owners["second"].turn()
        publish(done)

    zombie._member.publish = stopped
    zombie.turn()
    assert zombie.held == {}
    assert zombie.progress.fenced == 1
    newest = snapshots.newest(0)
    zombie.close()
    assert snapshots.newest(0) == newest
    del deployment.owners["first"]
    deployment.drained()
    deployment.check()


def test_partitions_move_to_a_third_process_under_load(models, clicks, tmp_path):
    deployment = Deployment(models, tmp_path, 4)
    streams = [records(120, seed, clicks[seed * 50 : seed * 50 + 50]) for seed in range(4)]
    for name in ("first", "second"):
        deployment.start(name)
    deployment.log.rebalance()
    for at in range(0, 120, 30):
        for partition, stream in enumerate(streams):
            deployment.append(partition, stream[at : at + 30])
        for owner in list(deployment.owners.values()):
            owner.turn()
        if at == 30:
            deployment.start("third")
            deployment.log.rebalance()
    deployment.drained()
    assert len(deployment.owners["third"].held) >= 1
    deployment.check()


def test_a_turn_that_gets_long_leaves_records_for_the_next_one_and_changes_nothing(models, tmp_path, monkeypatch):
    monkeypatch.setattr("onlineguard_service.shards.owner.LONG", -1.0)  # every turn is
    monkeypatch.setattr("onlineguard_service.shards.owner.TOGETHER", 300)
    deployment = Deployment(models, tmp_path, 2)
    only = deployment.start("only")
    deployment.log.rebalance()
    for partition in (0, 1):
        deployment.append(partition, records(100, partition))
    for _ in range(10):
        only.turn()
        assert sum(len(held.unread) for held in only.held.values()) <= PACE.most
    assert any(held.unread for held in only.held.values())
    deployment.drained()
    deployment.check()


def test_pools_of_all_partitions_are_in_the_log_and_a_replay_repeats_them(models, tmp_path):
    deployment = Deployment(models, tmp_path, 2)
    deployment.start("only", Pace(most=200, wait=0.0, snapshot_every=0.0))
    deployment.log.rebalance()
    rng = np.random.default_rng(0)
    for partition, centre in enumerate((100.0, 5_000.0)):
        for _ in range(30):
            some = [Event(f"{partition}.{k % 4}", rng.normal(centre, 5.0, 2).tolist()) for k in range(80)]
            deployment.log.append(partition, msgspec.json.encode(some))
    deployment.drained()
    kinds = [[record.kind for record in given] for given in deployment.log.records]
    assert kinds[0].count("sample") == 4  # after 1,024 and 2,048 events of both
    assert kinds[0].count("pool") == kinds[1].count("pool") >= 2
    for partition, key in ((0, "new"), (1, "new")):
        for value in (101.0, 5_002.0):
            deployment.log.append(partition, msgspec.json.encode(Event(f"{key} {value}", [value, value])))
    deployment.drained()
    deployment.check()
    answers = [json.loads(each.output.value) for each in deployment.log.outputs[-4:]]
    assert [answer["score"] for answer in answers[:2]] == [answer["score"] for answer in answers[2:]]


def test_a_shard_that_waits_holds_few_records_and_the_others_go_on(models, tmp_path, monkeypatch):
    there = []

    def get(version):
        if version == models.second and not there:
            raise CheckpointError("it is not there yet")
        return models.get(version)

    deployment = Deployment(models, tmp_path, 2, get)
    owner = deployment.start("only")
    deployment.log.rebalance()
    deployment.log.append(0, controlled(Switch(models.second, 0)), "control")
    for partition in (0, 1):
        deployment.append(partition, records(300, partition))
    for _ in range(20):
        owner.turn()
    assert deployment.log.published[1] == deployment.log.end(1)
    assert deployment.log.published[0] == NOTHING
    assert len(owner.held[0].unread) <= PACE.most
    assert owner.reasons() == ["partition 0: record 0: it is not there yet"]
    owner.behind._looked = (-np.inf, 0)
    owner.turn()
    assert owner.behind.lags[0] > 0.0 == owner.behind.lags[1]  # nothing of it is applied, and it is behind all the same
    there.append(True)
    owner.held[0].again = 0.0
    deployment.drained()
    assert owner.reasons() == []
    deployment.check()


def test_a_log_that_is_away_is_waited_for_and_nothing_is_published_twice(models, tmp_path, monkeypatch):
    monkeypatch.setattr("onlineguard_service.shards.owner.AGAIN", 0.0)
    deployment = Deployment(models, tmp_path, 1)
    owner = deployment.start("only")
    deployment.log.rebalance()
    deployment.append(0, records(100, 2))
    publish, away = owner._member.publish, [True, True, False]

    def tried(done):
        if away and away.pop(0):
            raise JournalUnavailable("it is away")
        publish(done)

    owner._member.publish = tried
    deployment.drained()
    deployment.check()


def test_a_store_that_fails_when_a_partition_comes_ends_nobody(models, tmp_path):
    deployment = Deployment(models, tmp_path, 2)
    owner = deployment.start("only")
    begin, away = owner._snapshots.begin, [True, True]

    def tried(owned):
        if away and away.pop():
            raise OSError("the store is away")
        return begin(owned)

    owner._snapshots.begin = tried
    deployment.log.rebalance()
    for partition in (0, 1):
        deployment.append(partition, records(60, partition))
    owner.turn()
    assert owner.reasons() == [f"partition {partition}: the store is away" for partition in (0, 1)]
    for held in owner.held.values():
        held.again = 0.0
    deployment.drained()
    assert owner.reasons() == []
    deployment.check()


def test_what_operators_choose_is_said_in_the_log_of_every_partition(models, tmp_path):
    deployment = Deployment(models, tmp_path, 2)
    chosen = Options(**OPTIONS | {"target_rate": 0.05})
    shared = []
    choosing = Choosing(chosen, models.get(models.second), share=shared.append)
    owner = deployment.start("only", choosing=choosing)
    deployment.log.rebalance()
    for partition in (0, 1):
        deployment.append(partition, records(60, partition))
    deployment.drained()
    for _ in range(4):
        owner.turn()
    assert [[record.kind for record in given].count("control") for given in deployment.log.records] == [2, 2]
    assert [model.version for model in shared] == [models.second]
    for held in owner.held.values():
        assert held.shard.guard.model.version == models.second
        assert held.shard.guard.events.target_rate == np.float32(0.05)
    deployment.check()
