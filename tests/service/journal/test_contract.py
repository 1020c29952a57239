"""What both journals promise, in a folder at every level of durability and in Redis."""

import asyncio
import functools
import itertools
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onlineguard_service.journal import snapshots

from onlineguard.errors import CheckpointError
from tests.support.journals import ENTRIES, LEVELS, InFolder, InRedis, folder_in_memory, numbered, refused, run
from tests.support.redis_server import serving


@pytest.fixture(scope="module", params=[*LEVELS, "redis"], ids=[*map("folder-{}".format, LEVELS), "redis"])
def anew(request, tmp_path_factory):
    """Makes an empty place for a journal: in the folder that it is given, or under a name of its own in Redis.

    `segment_bytes` is for a folder; Redis has no segments.
    """
    if request.param == "redis":
        names = map("journal{}".format, itertools.count())
        with serving(tmp_path_factory.mktemp("redis")) as port:
            yield lambda folder, segment_bytes=None: InRedis(port, next(names))
    else:
        yield functools.partial(InFolder, durability=request.param)


@pytest.fixture
def place(anew, tmp_path):
    return anew(tmp_path)


@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(1, 200), st.data())
@settings(max_examples=20)
def test_replay_gives_what_was_committed_after_any_entry_and_any_restart(anew, entries, segment_bytes, data):
    cut, after = data.draw(st.integers(0, len(entries))), data.draw(st.integers(0, len(entries)))
    with folder_in_memory() as folder:
        place = anew(folder, segment_bytes=segment_bytes)
        assert place.commit(entries[:cut]) + place.commit(entries[cut:]) == numbered(entries)
        with place.opened() as journal:
            assert journal.sequence == len(entries)
            assert list(journal.replay(after)) == numbered(entries)[after:]


@pytest.mark.parametrize(
    ("many", "seconds"),
    [
        (1100, 0.0),  # all at once, and more than a replay asks Redis for at a time
        (100, 0.01),  # some while others are written
    ],
)
def test_entries_of_many_at_once_are_applied_in_the_order_of_the_journal(place, many, seconds):
    async def committing():
        journal = place.open()
        applied = []

        async def one(i):
            await asyncio.sleep(seconds * random.Random(i).random())
            entry = str(i).encode() * (10_000 if i % 7 == 0 else 1)  # more than one call to Redis takes
            return await journal.commit(entry, lambda n: applied.append((n, entry)) or i)

        assert await asyncio.gather(*map(one, range(many))) == list(range(many))
        assert place.synced_later or journal.lag == 0.0
        await journal.close()
        return applied

    applied = run(committing())
    assert len(applied) == many
    assert place.recovered() == (None, applied)


def test_an_apply_that_raises_leaves_its_entry_and_the_journal_goes_on(place):
    async def raising():
        journal = place.open()
        with pytest.raises(ZeroDivisionError):
            await journal.commit(b"raises", lambda n: n / 0)
        assert await journal.commit(b"fine", lambda n: n) == 2
        results = await asyncio.gather(
            journal.commit(b"raises", lambda n: n / 0), journal.commit(b"fine", lambda n: n), return_exceptions=True
        )
        assert isinstance(results[0], ZeroDivisionError)
        assert results[1] == 4
        await journal.close()

    run(raising())
    assert place.recovered() == (None, numbered([b"raises", b"fine"] * 2))


def test_a_cancelled_commit_leaves_the_others_alone(place):
    async def cancelling():
        journal = place.open()
        tasks = [asyncio.create_task(journal.commit(b"entry", lambda n: n)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        assert await asyncio.gather(*tasks[::2]) == [1, 3]
        await journal.close()

    run(cancelling())
    assert place.recovered() == (None, numbered([b"entry"] * 3))


def test_an_entry_that_is_missing_is_an_error_that_says_which(anew, tmp_path):
    place = anew(tmp_path, segment_bytes=1)
    place.commit(ENTRIES)
    place.lose(3)
    with pytest.raises(CheckpointError, match="lacks entries 3 to 3"):
        place.recovered()
    assert place.replayed(3) == numbered(ENTRIES)[3:]


def test_close_waits_for_what_is_under_way_and_nothing_is_taken_after_it(place):
    large = {"large": bytes(5 << 20)}

    async def closing():
        journal = place.open()
        tasks = [asyncio.create_task(journal.commit(b"entry", lambda n: n)) for _ in range(5)]
        await asyncio.sleep(0)
        begun = journal.sequence  # Redis has applied none yet
        snapshot = asyncio.ensure_future(journal.begin_snapshot(large))
        await journal.close()
        assert snapshot.done()
        assert snapshot.result() == begun
        assert await asyncio.gather(*tasks) == [1, 2, 3, 4, 5]
        assert "closed" in await refused(journal)
        await journal.close()
        return begun

    begun = run(closing())
    assert place.recovered() == ((begun, large), numbered([b"entry"] * 5)[begun:])


# Snapshots


def test_the_two_newest_snapshots_are_kept_with_all_entries_after_the_older(anew, tmp_path):
    place = anew(tmp_path, segment_bytes=300)
    entries = [str(n).encode() for n in range(1, 351)]  # Redis drops them by the hundred
    large = bytes(3_000_000)
    assert 0 < place.snapshotted(entries, 100, large=large) < 1_000_000  # without the snapshots
    assert place.kept() == [300, 200]
    assert place.recovered() == ((300, {"n": b"300", "last": b"300", "large": large}), numbered(entries)[300:])
    assert place.replayed(200) == numbered(entries)[200:]
    with pytest.raises(CheckpointError, match="lacks entries 1 to") as raised:
        place.replayed()
    assert int(re.search(r"1 to (\d+)", str(raised.value))[1]) <= 200


@pytest.mark.parametrize("more", [[], [b"33"]], ids=["at-once", "after-one-more"])
def test_a_damaged_newest_snapshot_falls_back_to_the_older_and_is_then_replaced(place, caplog, more):
    entries = [str(n).encode() for n in range(1, 33)]
    place.snapshotted(entries, 10)
    damaged = place.damage_newest()
    assert place.recovered() == ((20, {"n": b"20", "last": b"20"}), numbered(entries)[20:])
    assert f"{damaged} is damaged" in caplog.text
    entries += more

    async def replacing():
        journal = place.open()
        assert journal.newest_snapshot() == (20, {"n": b"20", "last": b"20"})
        for entry in more:
            await journal.commit(entry, lambda n: n)
        assert await journal.begin_snapshot({"last": entries[-1]}) == len(entries)
        await journal.close()

    run(replacing())
    assert place.kept() == [len(entries), 20]  # the damaged one is not what entries are kept for
    assert place.replayed(20) == numbered(entries)[20:]


def test_a_snapshot_of_a_newer_format_is_never_passed_over(place, monkeypatch):
    place.snapshotted(ENTRIES, 2)
    monkeypatch.setattr(snapshots, "VERSION", snapshots.VERSION + 1)
    place.snapshotted([b"more"], 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="upgrade"):
        place.recovered()


def test_a_snapshot_may_come_before_the_first_entry(place):
    async def snapshotting():
        journal = place.open()
        assert await journal.begin_snapshot({"n": b"0"}) == 0
        assert await journal.commit(b"first", lambda n: n) == 1
        await journal.close()

    run(snapshotting())
    assert place.recovered() == ((0, {"n": b"0"}), [(1, b"first")])


def test_commits_go_on_while_a_snapshot_is_written_and_two_of_them_wait_for_each_other(place):
    async def snapshotting():
        journal = place.open()
        await journal.commit(b"first", lambda n: n)
        large = journal.begin_snapshot({"large": bytes(20 << 20)})
        await journal.commit(b"second", lambda n: n)
        small = journal.begin_snapshot({"small": b""})
        await journal.commit(b"third", lambda n: n)
        assert await asyncio.gather(large, small) == [1, 2]
        await journal.close()

    run(snapshotting())
    assert place.recovered() == ((2, {"small": b""}), [(3, b"third")])


# Kills

CHILD = """
import asyncio, os

async def main():
    newest = journal.newest_snapshot()
    for _ in journal.replay(newest[0] if newest else 0):
        pass

    async def writer(i):
        while True:
            entry = os.urandom(2) * (7 + 60 * i)
            n = await journal.commit(entry, lambda n: n)
            os.write(1, n.to_bytes(8) + entry[:2])

    async def snapshots():
        while True:
            await journal.begin_snapshot({"n": str(journal.sequence).encode()})
            await asyncio.sleep(0.02)

    await asyncio.gather(*map(writer, range(4)), snapshots())

asyncio.run(main())
"""


@pytest.mark.slow
def test_after_kill_9_at_any_moment_all_that_was_answered_is_there_in_order(anew, tmp_path):
    place = anew(tmp_path, segment_bytes=30_000)
    moments, answered, before = random.Random(0), 0, 0
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", place.opening + CHILD], stdout=subprocess.PIPE) as child:
            first = child.stdout.read(10)  # it runs
            time.sleep(moments.uniform(0.0, 0.06))
            child.send_signal(signal.SIGKILL)
            told = first + child.stdout.read()
        whole = len(told) - len(told) % 10
        acknowledged = {int.from_bytes(told[i : i + 8]): told[i + 8 : i + 10] for i in range(0, whole, 10)}
        newest, entries = place.recovered()
        start = newest[0] if newest else 0
        assert newest is None or newest[1] == {"n": str(newest[0]).encode()}
        assert [n for n, _ in entries] == list(range(start + 1, start + 1 + len(entries)))
        assert start + len(entries) >= max(acknowledged)
        assert min(acknowledged) > before
        there = dict(entries)
        assert all(there[n][:2] == begin for n, begin in acknowledged.items() if n > start)
        answered, before = answered + len(acknowledged), max(acknowledged)
    assert answered > 12


def test_the_journals_are_imported_without_jax():
    script = (
        "import sys, onlineguard_service.journal.folder_journal, onlineguard_service.journal.redis_journal; "
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
