"""Owners of a log's partitions: whoever dies when, each record is applied once and its outputs are there once."""

import json
import logging
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
from onlineguard_service.partitions.log import NOTHING, Owned
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
        self.owners[name] = Owner(self.log.member(name), self.log.writer(), snapshots, make, pace, choosing)
        self.owners[name]._thread = AtOnce()
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


@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])
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
