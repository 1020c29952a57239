"""Snapshots of shards: when they are written, and since when one is missing."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from onlineguard_service.partitions.log import Owned
from onlineguard_service.shards.held import Held, Progress
from onlineguard_service.shards.keeping import Keeping
from onlineguard_service.shards.snapshots import Snapshots

from onlineguard.slidr.registry.stores import opened

EVERY = 60.0


class Later:
    """Does what it is given when it is told to."""

    def __init__(self):
        self.given = []

    def submit(self, call, *args):
        self.given.append((call, args, future := Future()))
        return future

    def go_on(self):
        call, args, future = self.given.pop(0)
        try:
            future.set_result(call(*args))
        except Exception as error:
            future.set_exception(error)


class Kept:
    """One shard that counts its records, and the snapshots of it."""

    def __init__(self, folder):
        self.t, self.thread, self.snapshots = 0.0, Later(), Snapshots(opened(folder))
        self.progress = Progress()
        self.keeping = Keeping(self.snapshots, EVERY, 1_000, self.progress, lambda: self.t, self.thread)
        guard = SimpleNamespace(fetch=lambda: None)
        self.shard = SimpleNamespace(offset=-1, guard=guard, dump=lambda: {"applied": self.shard.offset})
        self.held = Held(Owned(0, 1), shard=self.shard)
        self.snapshots.begin(self.held.owned)

    def apply(self, t, n=1):
        """So many records at a time, which are published."""
        self.t, held = t, self.held
        self.shard.offset += n
        held.settled, held.since = self.shard.offset, held.since + n
        held.applied(t)

    def look(self, t):
        """Since when there is something that no snapshot holds, at a time."""
        self.t = t
        self.keeping.when_due([self.held])
        return self.keeping.behind({0: self.held})[0]


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path)


def test_it_is_told_since_when_no_snapshot_holds_what_was_applied(kept):
    assert kept.look(500.0) == 0.0  # it has been quiet, and nothing is missing
    kept.apply(510.0)
    kept.apply(520.0)
    assert kept.look(530.0) == 20.0  # since the first of them; the snapshot was due, and the thread has it
    kept.apply(535.0)
    kept.thread.go_on()
    assert kept.look(540.0) == 10.0  # the snapshot is of 530, and what was applied later is not in it
    kept.apply(590.0)
    kept.look(591.0)
    kept.thread.go_on()
    assert kept.look(600.0) == 0.0
    assert kept.progress.snapshots == 2


def test_a_snapshot_that_failed_does_not_count_and_is_tried_again(kept, monkeypatch):
    def away(*_):
        raise OSError("the store is away")

    monkeypatch.setattr(kept.snapshots, "write", away)
    kept.apply(100.0)
    kept.look(100.0)
    kept.thread.go_on()
    assert kept.look(130.0) == 30.0
    assert (kept.progress.failures, kept.progress.snapshots, kept.thread.given) == (1, 0, [])
    monkeypatch.undo()
    kept.look(100.0 + EVERY)
    kept.thread.go_on()
    assert kept.look(200.0) == 0.0
    assert kept.snapshots.newest(0).offset == 0


def test_enough_records_make_a_snapshot_due_before_its_time(kept):
    kept.held.kept_at = 10.0
    kept.apply(11.0, 999)
    kept.look(12.0)
    assert not kept.thread.given
    kept.apply(13.0, 1)
    kept.look(14.0)
    assert len(kept.thread.given) == 1


def test_what_is_not_published_is_in_no_snapshot(kept):
    kept.apply(100.0)
    kept.held.settled = -1
    kept.look(200.0)
    kept.keeping.now(kept.held)
    assert not kept.thread.given
    assert kept.snapshots.newest(0) is None


def test_a_shard_that_goes_leaves_a_snapshot_after_the_one_that_is_being_written(kept, monkeypatch):
    kept.apply(100.0)
    kept.look(100.0)
    kept.apply(101.0)
    monkeypatch.setattr(Future, "result", lambda future: kept.thread.go_on())  # whoever waits has the thread go on
    kept.keeping.now(kept.held)
    assert (kept.held.kept, kept.held.unkept_at, kept.progress.snapshots) == (1, None, 2)
