"""A view answers as its shard did at that record, and knows how old it is."""

import time

import msgspec
import pytest
from onlineguard_service.digest import digest
from onlineguard_service.entries import Options, Tune
from onlineguard_service.journal.packing import Packed
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import Fenced, Owned
from onlineguard_service.replicas.views import Views
from onlineguard_service.shards.snapshots import Snapshots

from onlineguard.slidr.registry.stores import opened
from onlineguard.wire.requests import Event
from tests.support.shards import OPTIONS, records, shard

ASKED = [Event(f"s{i % 3}", [100.0 + 40.0 * i, 95.0]) for i in range(8)]  # s2 was never seen


@pytest.fixture(scope="module")
def models(tmp_path_factory, model_folder):
    found = Models(tmp_path_factory.mktemp("models"))
    found.first = found.put(model_folder).version
    return found


@pytest.fixture
def snapshots(tmp_path):
    return Snapshots(opened(tmp_path / "snapshots"))


def views_of(snapshots, models):
    return Views(snapshots, 1, Options(**OPTIONS), models.first)


def kept(snapshots, owned, one):
    snapshots.write(owned, one.offset, Packed(one.dump()))


def test_a_view_scores_as_its_shard_did_at_that_record(snapshots, models, clicks):
    one, owned, views = shard(models), Owned(0, 1), views_of(snapshots, models)
    snapshots.begin(owned)
    given = records(240, clicks=clicks)
    for part in (given[:120], given[120:]):
        one.apply(part)
        kept(snapshots, owned, one)
        views.look()
        assert views.now[0].offset == one.offset
        assert views.now[0].score(ASKED) == one.guard.score(ASKED)
        assert digest(list(views.now[0].watch.dump())) == digest(list(one.guard.watch.dump()))
    assert any(answer.ready for answer in views.now[0].score(ASKED))
    views.look()
    assert views.loaded == 2  # what is known already is not read again


def test_a_partition_of_which_nothing_is_known_is_missing_until_its_owner_says_that_it_is_empty(snapshots, models):
    views, owned = views_of(snapshots, models), Owned(0, 1)
    views.look()
    assert views.missing() == [0]
    snapshots.begin(owned)
    snapshots.say_current(owned, -1, time.time_ns() // 1_000_000)
    views.look()
    assert views.missing() == []
    assert views.now[0].age < 60.0
    assert not any(answer.ready for answer in views.now[0].score(ASKED))


def test_a_view_is_as_old_as_its_last_record_or_as_its_owner_said_that_none_came_after_it(snapshots, models):
    one, owned, views = shard(models), Owned(0, 1), views_of(snapshots, models)
    snapshots.begin(owned)
    given, now = records(20), time.time_ns() // 1_000_000
    one.apply([record._replace(t=now - 500_000) for record in given])
    kept(snapshots, owned, one)
    views.look()
    assert 500.0 <= views.now[0].age < 560.0
    snapshots.say_current(owned, one.offset - 1, now)  # of a snapshot before it
    views.look()
    assert views.now[0].age >= 500.0
    snapshots.say_current(owned, one.offset, now + 1)
    views.look()
    assert views.now[0].age < 60.0


def test_what_a_replaced_owner_says_and_writes_reaches_no_view(snapshots, models):
    one, views, now = shard(models), views_of(snapshots, models), time.time_ns() // 1_000_000
    snapshots.begin(Owned(0, 1))
    one.apply(records(20))
    kept(snapshots, Owned(0, 1), one)
    views.look()
    snapshots.begin(Owned(0, 2))
    with pytest.raises(Fenced):
        snapshots.say_current(Owned(0, 1), one.offset, now)
    views.look()
    assert (views.now[0].offset, views.now[0].at.generation) == (one.offset, 1)  # that the new owner began from
    assert views.now[0].age > 60.0


def test_a_damaged_snapshot_leaves_the_view_before_it(snapshots, models, tmp_path):
    one, owned, views = shard(models), Owned(0, 1), views_of(snapshots, models)
    snapshots.begin(owned)
    given = records(40)
    one.apply(given[:20])
    kept(snapshots, owned, one)
    views.look()
    before, at = views.now[0], one.offset
    one.apply(given[20:])
    kept(snapshots, owned, one)
    newest = max((tmp_path / "snapshots" / "shards" / "000000" / "snapshots").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    views.look()
    assert views.now[0].offset == at
    assert views.now[0].score(ASKED) == before.score(ASKED)
    assert "damaged" in views.trouble


def test_a_tuned_shard_is_scored_with_its_choices(snapshots, models):
    one, owned, views = shard(models), Owned(0, 1), views_of(snapshots, models)
    snapshots.begin(owned)
    one.apply(records(60))
    one.guard.apply(Tune(msgspec.structs.replace(one.guard.options, target_rate=0.1), 0), one.offset)
    kept(snapshots, owned, one)
    views.look()
    assert views.now[0].score(ASKED) == one.guard.score(ASKED)
