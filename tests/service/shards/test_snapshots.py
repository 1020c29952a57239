"""Snapshots of shards: the newest that counts is found, and an owner that was replaced changes nothing."""

import logging

import pytest
from onlineguard_service.partitions.log import Fenced, Owned
from onlineguard_service.shards.snapshots import At, Snapshots

from onlineguard.errors import CheckpointError
from onlineguard.slidr.registry.stores import opened


@pytest.fixture(params=["folder", "memory"])
def snapshots(request, tmp_path):
    return Snapshots(opened(tmp_path if request.param == "folder" else f"memory://{tmp_path}"))


def owned(generation, partition=3):
    return Owned(partition, generation)


def names(snapshots):
    return snapshots._store.names("shards/000003/snapshots"), snapshots._store.names("shards/000003/claims")


def test_a_new_owner_goes_on_from_the_newest_snapshot(snapshots):
    assert snapshots.begin(owned(1)) is None
    for offset in (4, 9):
        snapshots.write(owned(1), offset, {"a": b"%d" % offset})
    assert snapshots.begin(owned(2)) == (9, {"a": b"9"})
    assert snapshots.begin(owned(3)) == (9, {"a": b"9"})
    assert snapshots.begin(owned(1, partition=4)) is None


def test_a_snapshot_that_a_replaced_owner_writes_late_does_not_count(snapshots):
    snapshots.begin(owned(1))
    snapshots.write(owned(1), 4, {"a": b"4"})
    late, looked = Snapshots(snapshots._store), [[1]]  # it looked before the next owner began, and was stopped then
    late._check = lambda one: looked.pop() if looked else snapshots._check(one)
    snapshots.begin(owned(2))
    with pytest.raises(Fenced):
        late.write(owned(1), 7, {"a": b"late"})
    assert At(1, 7).name in names(snapshots)[0]
    with pytest.raises(Fenced):
        snapshots.write(owned(1), 9, {"a": b"late"})
    assert snapshots.begin(owned(5)) == (4, {"a": b"4"})


def test_nobody_begins_where_a_later_owner_has(snapshots, caplog):
    snapshots.begin(owned(7))
    for generation in (6, 7):
        with pytest.raises(Fenced), caplog.at_level(logging.ERROR):
            snapshots.begin(owned(generation))
    assert "name another folder of snapshots" in caplog.text


@pytest.mark.parametrize("call", ["create", "remove"])
def test_a_claim_whose_answer_was_lost_is_this_process_s_own_and_no_other_s(snapshots, call, monkeypatch):
    snapshots.begin(owned(1))
    for offset in (4, 9, 12):
        snapshots.write(owned(1), offset, {"a": b"%d" % offset})
    snapshots._store.create(f"shards/000003/snapshots/{At(1, 2).name}", b"to be removed")
    done = getattr(snapshots._store, call)

    def lost(*given):
        done(*given)
        raise OSError("the answer is lost")

    with monkeypatch.context() as patched:
        patched.setattr(snapshots._store, call, lost)
        with pytest.raises(OSError, match="lost"):
            snapshots.begin(owned(2))
    with pytest.raises(Fenced):
        Snapshots(snapshots._store).begin(owned(2))
    assert snapshots.begin(owned(2)) == (12, {"a": b"12"})
    with pytest.raises(Fenced):
        snapshots.begin(owned(2))


def test_a_damaged_snapshot_is_passed_over_with_a_warning(snapshots, caplog):
    snapshots.begin(owned(1))
    snapshots.write(owned(1), 4, {"a": b"4"})
    snapshots._store.create(f"shards/000003/snapshots/{At(1, 5).name}", b"cut off")
    assert snapshots.begin(owned(2)) == (4, {"a": b"4"})
    assert "is passed over" in caplog.text


def test_a_snapshot_that_is_ahead_of_what_was_published_does_not_count(snapshots, caplog):
    snapshots.begin(owned(1))
    for offset in (4, 9):
        snapshots.write(owned(1), offset, {"a": b"%d" % offset})
    assert snapshots.begin(Owned(3, 2, published=8)) == (4, {"a": b"4"})
    assert "the log lost records: the snapshot of partition 3 at 9 is passed over" in caplog.text
    assert snapshots.newest(3) == At(1, 4)
    before = names(snapshots)
    with pytest.raises(
        CheckpointError, match=r"published up to 3 while the oldest snapshot is at 4.*learn this partition"
    ):
        snapshots.begin(Owned(3, 3, published=3))
    assert names(snapshots) == before
    assert snapshots.begin(owned(4)) == (4, {"a": b"4"})  # of a log that says nothing


def test_what_an_owner_left_that_the_log_does_not_know_does_not_count(snapshots, caplog):
    """Generation 8 was given by a Redis that was cut off; the log that is left knows 5, and 9 after it."""
    snapshots.begin(owned(5))
    for offset in (4, 6):
        snapshots.write(owned(5), offset, {"a": b"%d" % offset})
    cut_off = Owned(3, 8, follows=5)
    assert snapshots.begin(cut_off) == (6, {"a": b"6"})
    for offset in (7, 8, 11):
        snapshots.write(cut_off, offset, {"a": b"lost"})
    with pytest.raises(Fenced):
        snapshots.write(owned(5), 9, {"a": b"9"})
    left = Owned(3, 9, published=20, follows=5)
    assert snapshots.begin(left) == (6, {"a": b"6"})
    assert "claimed for generation 8, which the log does not know: what was learned beside a Redis" in caplog.text
    snapshots.write(left, 13, {"a": b"13"})
    assert snapshots.begin(Owned(3, 12, published=20, follows=9)) == (13, {"a": b"13"})
    assert names(snapshots)[0] == [At(5, 6).name, At(9, 13).name]


def test_each_side_of_a_cut_leaves_the_other_what_it_goes_on_from(snapshots):
    snapshots.begin(owned(5))
    snapshots.write(owned(5), 6, {})
    one = Owned(3, 8, follows=5)
    snapshots.begin(one)
    snapshots.write(one, 7, {})
    other = Owned(3, 9, follows=5)
    assert snapshots.begin(other)[0] == 6
    for offset in (10, 12, 14):
        snapshots.write(other, offset, {})
    assert snapshots.begin(Owned(3, 10, follows=8))[0] == 7
    assert snapshots.begin(Owned(3, 11, follows=9))[0] == 14


def test_a_partition_of_which_nothing_that_the_log_knows_is_left_is_not_begun_anew_silently(snapshots):
    snapshots.begin(owned(8))
    before = names(snapshots)
    with pytest.raises(CheckpointError, match=r"generation 8, which the log does not know.*Remove the files in shards"):
        snapshots.begin(Owned(3, 9, follows=5))
    assert names(snapshots) == before


def test_the_two_newest_are_kept_over_many_owners(snapshots):
    for generation in range(1, 6):
        snapshots.begin(owned(generation))
        snapshots.write(owned(generation), generation, {})
    snapshots.begin(owned(9))
    assert names(snapshots) == (
        [At(4, 4).name, At(5, 5).name],
        [f"{generation:020}" for generation in (4, 5, 9)],
    )


def test_owners_that_never_wrote_leave_one_claim(snapshots):
    for generation in range(1, 6):
        snapshots.begin(owned(generation))
    assert names(snapshots)[1] == [f"{5:020}"]
