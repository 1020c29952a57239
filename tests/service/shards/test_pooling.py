"""Pooling across shards: new slices of one start from slices of all, at places that stand in the log."""

import msgspec
import numpy as np
import pytest
from onlineguard_service.journal.packing import pack, unpack
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import Record
from onlineguard_service.shards.pooling import Pooling, Sampled, merge
from onlineguard_service.shards.shard import Shard

from onlineguard import Engine
from onlineguard.engine.admission import NEVER
from onlineguard.models.detector import Detector
from onlineguard.wire.requests import Event
from tests.support.shards import NOON, shard


@pytest.fixture(scope="module")
def models(model_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first = kept.put(model_folder).version
    return kept


def learned(models, partition, centre, n=1_100):
    """A shard of two, with records of 20 events each, and the samples that it wants appended."""
    rng, one = np.random.default_rng(partition), shard(models, partition, 2)
    X = rng.normal(centre, 5.0, (n, 2)).tolist()
    given = [
        Record(i, NOON, msgspec.json.encode([Event(f"s{k % 3}", x) for k, x in enumerate(X[i * 20 : i * 20 + 20])]))
        for i in range(n // 20)
    ]
    return one, one.apply(given).appended


def first_verdict(one, x):
    return one.guard.score([Event("new", x)])[0]


def test_a_new_slice_starts_from_slices_of_the_other_shard(models):
    (zero, of_zero), (one, of_one) = learned(models, 0, 100.0), learned(models, 1, 103.0)
    assert [(each.partition, each.kind) for each in (*of_zero, *of_one)] == [(0, "sample")] * 2
    pools = []
    for i, sample in enumerate((*of_zero, *of_one)):
        pools += zero.apply([Record(100 + i, NOON, sample.value, sample.kind)]).appended
    assert [(each.partition, each.kind) for each in pools] == [(None, "pool")] * 2  # the first sample of each partition
    # each knows three slices, too few to say what is typical
    assert [first_verdict(each, [101.0, 98.0]).score for each in (zero, one)] == [None, None]
    for each in (zero, one):
        each.apply([Record(200 + i, NOON, pool.value, pool.kind) for i, pool in enumerate(pools)])
    after = [first_verdict(each, [101.0, 98.0]) for each in (zero, one)]
    assert after[0] == after[1]  # one pool, in both
    assert after[0].score is not None
    typical = one.guard.events._learner.states.of(2)  # the state that new slices start from
    np.testing.assert_equal(msgspec.to_builtins(str(typical)), str(zero.guard.events._learner.states.of(2)))


def test_a_pool_that_comes_twice_or_late_changes_nothing(models):
    zero, samples = learned(models, 0, 100.0)
    (pool,) = zero.apply([Record(100, NOON, samples[0].value, "sample")]).appended
    zero.apply([Record(101, NOON, pool.value, "pool")])
    before = zero.dump()
    assert zero.apply([Record(102, NOON, samples[0].value, "sample")]).appended == []  # written twice
    zero.apply([Record(103, NOON, pool.value, "pool")])
    after = zero.dump()
    for part in ("pooling", "events", "watch"):
        assert pack(before[part]) == pack(after[part])


def test_the_sample_is_taken_after_the_same_event_however_records_are_cut(models):
    found = []
    for step in (1, 7, 300):
        one, given = shard(models), []
        for i in range(300):
            given.append(Record(i, NOON, msgspec.json.encode([Event(f"s{i % 5}", [float(i % 7), 1.0])] * 5)))
        appended = []
        for at in range(0, 300, step):
            appended += one.apply(given[at : at + step]).appended
        found.append((one.digest(), [tuple(each) for each in appended]))
    assert len(found[0][1]) == 1
    assert found[0][1][0][0] == 204  # after 1,025 events
    assert found[0] == found[1] == found[2]


def test_a_shard_without_events_adopts_the_pool_when_they_begin(models):
    zero, samples = learned(models, 0, 100.0)
    (pool,) = zero.apply([Record(100, NOON, samples[0].value, "sample")]).appended
    late = shard(models, 1, 2, n_features=0)
    late.apply([Record(0, NOON, pool.value, "pool")])
    late = Shard.restored(1, 2, unpack(pack(late.dump())), models.get)
    late.apply([Record(1, NOON, msgspec.json.encode(Event("a", [100.0, 100.0])))])
    assert late.guard.events._learner.admission.pooling_at == NEVER
    other = shard(models, 1, 2, n_features=0)
    other.apply([Record(0, NOON, pool.value, "pool")])
    other.apply([Record(1, NOON, msgspec.json.encode(Event("a", features={"ms": 100.0, "bytes": 100.0})))])
    assert other.guard.events._learner.admission.pooling_at != NEVER  # it judges another stream


def test_a_pool_has_at_most_64_slices_and_some_of_each_shard():
    samples = [
        Sampled("events", p, 0, [], np.zeros((n, 3), np.int32), np.zeros((n, 2))) for p, n in ((0, 60), (1, 2), (2, 40))
    ]
    assert [(each.partition, len(each.rows)) for each in merge(samples)] == [(0, 31), (1, 2), (2, 31)]


def test_pools_of_many_partitions_are_few():
    merger, pools = Pooling(0, 100), 0
    for offset in (0, 1):
        for partition in range(100):
            sample = Sampled("events", partition, offset, [], np.zeros((1, 3), np.int32), np.zeros((1, 2)))
            pools += len(merger.merged(Record(partition, NOON, pack(list(sample)), "sample")))
    assert pools == 9  # after 1, 2, 4, 8, 16, 32 and 64 first samples, and then after every 50


def test_an_engine_adopts_nothing_of_another_model():
    one = Engine(2, estimator=Detector())
    one.update("a", np.random.default_rng(0).normal(size=(300, 2)))
    sample = one.sample()
    assert len(sample.rows) == 1
    assert one.adopt(sample._replace(rows=sample.rows[:, 1:])) is False
    assert one.adopt(sample._replace(origins=np.zeros((1, 3)))) is False
    assert one._learner.admission.pooling_at != NEVER
    assert one.adopt(sample) is True


def test_an_engine_that_adopted_goes_on_after_a_restart_as_before():
    rng = np.random.default_rng(0)
    one, X = Engine(2, estimator=Detector()), rng.normal(size=(2_000, 2))
    one.update([f"s{i % 9}" for i in range(1_000)], X[:1_000])
    one.adopt(one.sample(5))
    again = Engine.restored(one.dump()[0], one.model, one.dump()[1])
    keys = [f"t{i % 11}" for i in range(1_000)]
    whole = one.update(keys, X[1_000:]).score
    halves = [again.update(keys[:333], X[1_000:1_333]).score, again.update(keys[333:], X[1_333:]).score]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
