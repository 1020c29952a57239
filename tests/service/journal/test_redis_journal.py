"""The journal in Redis: what was committed is there once, whatever happens to the connection, Redis or the process."""

import asyncio
import itertools
import random
import signal
import subprocess
import sys
import time

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import redis_journal as module
from onlineguard_service.journal import snapshots
from onlineguard_service.journal.redis_journal import RedisJournal

from onlineguard.errors import CheckpointError, InvalidArgument
from tests.support.line import lined
from tests.support.redis_server import serving

_names = map("journal{}".format, itertools.count())  # every example has keys of its own
GENEROUS = 30  # seconds; a test that takes as long hangs


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
def client(port):
    with redis.Redis(port=port) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.flushall()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "RECONNECT_EVERY", 0.02)


def at(port):
    return f"redis://127.0.0.1:{port}"


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, GENEROUS))


def commit(port, name, entries):
    """Commit entries one after another and close; what `apply` was called with."""

    async def all_of_them():
        journal = RedisJournal(at(port), name)
        applied = [await journal.commit(entry, lambda n, entry=entry: (n, entry)) for entry in entries]
        await journal.close()
        return applied

    return run(all_of_them())


def recovered(port, name):
    """The newest snapshot and what is replayed after it, by a journal that is opened anew."""
    journal = RedisJournal(at(port), name)
    newest = journal.newest_snapshot()
    entries = list(journal.replay(newest[0] if newest else 0))
    asyncio.run(journal.close())
    return newest, entries


def replayed(port, name):
    newest, entries = recovered(port, name)
    assert newest is None
    return entries


def numbered(entries):
    return list(enumerate(entries, 1))


async def refused(journal, entry=b"refused"):
    with pytest.raises(JournalUnavailable) as raised:
        await journal.commit(entry, lambda _: pytest.fail("an entry that was not kept was applied"))
    return str(raised.value)


async def until_taken(journal, entry):
    while True:
        try:
            return await journal.commit(entry, lambda n: n)
        except JournalUnavailable:
            await asyncio.sleep(0.01)


async def opened(line, name):
    """In a thread, since opening blocks and the line is of this loop."""
    return await asyncio.to_thread(RedisJournal, at(line.port), name)


@given(st.lists(st.binary(max_size=60), max_size=12), st.data())
@settings(max_examples=20)
def test_replay_gives_what_was_committed_after_any_entry_and_any_restart(port, entries, data):
    cut, after = data.draw(st.integers(0, len(entries))), data.draw(st.integers(0, len(entries)))
    name = next(_names)
    assert commit(port, name, entries[:cut]) + commit(port, name, entries[cut:]) == numbered(entries)
    journal = RedisJournal(at(port), name)
    assert journal.sequence == len(entries)
    assert list(journal.replay(after)) == numbered(entries)[after:]
    asyncio.run(journal.close())


def test_entries_of_many_at_once_are_applied_in_the_order_of_the_journal(port, client):
    async def many():
        journal = RedisJournal(at(port), "many")
        applied = []

        async def one(i):
            entry = str(i).encode() * (10_000 if i % 7 == 0 else 1)
            return await journal.commit(entry, lambda n: applied.append((n, entry)) or i)

        assert await asyncio.gather(*map(one, range(1000))) == list(range(1000))
        assert journal.lag == 0.0
        await journal.close()
        return applied

    assert run(many()) == replayed(port, "many")


def test_an_apply_that_raises_leaves_its_entry_and_the_journal_goes_on(port, client):
    async def raising():
        journal = RedisJournal(at(port), "raising")
        results = await asyncio.gather(
            journal.commit(b"raises", lambda n: n / 0), journal.commit(b"fine", lambda n: n), return_exceptions=True
        )
        assert isinstance(results[0], ZeroDivisionError)
        assert results[1] == 2
        await journal.close()

    run(raising())
    assert replayed(port, "raising") == [(1, b"raises"), (2, b"fine")]


def test_a_cancelled_commit_leaves_the_others_alone(port, client):
    async def cancelling():
        journal = RedisJournal(at(port), "cancelling")
        tasks = [asyncio.create_task(journal.commit(b"entry", lambda n: n)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        assert await asyncio.gather(*tasks[::2]) == [1, 3]
        await journal.close()

    run(cancelling())


def test_a_redis_that_forgot_the_scripts_is_given_them_again(port, client):
    client.script_flush()
    commit(port, "scripts", [b"first"])
    client.script_flush()
    commit(port, "scripts", [b"second"])
    assert replayed(port, "scripts") == [(1, b"first"), (2, b"second")]


# The connection


@pytest.mark.parametrize("fate", ["cut", "unanswered"])
def test_an_entry_whose_connection_is_lost_is_written_once_and_answered(port, client, fate):
    async def losing():
        async with lined(port) as line:
            journal = await opened(line, fate)
            await journal.commit(b"before", lambda n: n)
            line.fates = [fate]
            applied = []
            assert await journal.commit(b"entry", lambda n: applied.append(n) or n) == 2
            assert applied == [2]
            assert await journal.commit(b"after", lambda n: n) == 3
            await journal.close()

    run(losing())
    assert replayed(port, fate) == [(1, b"before"), (2, b"entry"), (3, b"after")]


def test_an_entry_that_arrives_after_it_was_refused_is_not_taken(port, client, impatient):
    async def late():
        async with lined(port) as line:
            journal = await opened(line, "late")
            await journal.commit(b"before", lambda n: n)
            line.fates = ["held"]
            assert "does not answer" in await refused(journal, b"late")
            line.release()
            assert await until_taken(journal, b"after") == 2
            await journal.close()

    run(late())
    assert replayed(port, "late") == [(1, b"before"), (2, b"after")]


def test_an_entry_that_was_written_but_refused_is_taken_out_again(port, client, impatient):
    async def withdrawn():
        async with lined(port) as line:
            journal = await opened(line, "withdrawn")
            await journal.commit(b"before", lambda n: n)
            line.fates = ["unanswered", "held"]
            await refused(journal, b"written")
            assert await until_taken(journal, b"after") == 2
            line.release()  # a reconnection from before, too late
            assert await journal.commit(b"and on", lambda n: n) == 3
            await journal.close()

    run(withdrawn())
    assert replayed(port, "withdrawn") == [(1, b"before"), (2, b"after"), (3, b"and on")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_connection_does_what_was_applied_is_what_is_in_the_journal(port, client, monkeypatch, seed):
    """And in that order, once; what was refused is not there."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "RECONNECT_EVERY", 0.005)
    chance, name = random.Random(seed), f"chance{seed}"

    async def chances():
        async with lined(port) as line:
            journal = await opened(line, name)
            applied, refusals = [], []

            async def writer(i):
                left = 40
                for attempt in itertools.count():
                    entry = f"{i} {attempt}".encode()
                    try:
                        await journal.commit(entry, lambda n, entry=entry: applied.append((n, entry)))
                    except JournalUnavailable:
                        refusals.append(entry)
                        await asyncio.sleep(chance.random() / 50)
                        continue
                    left -= 1
                    if not left:
                        return

            async def trouble():
                line.fates = ["held"]
                while not refusals:
                    await asyncio.sleep(0.01)
                while True:
                    line.fates = chance.choices(["cut", "unanswered", "held", "fine"], k=chance.randint(1, 4))
                    await asyncio.sleep(chance.random() / 50)
                    if chance.random() < 0.3:
                        line.release()

            troubled = asyncio.create_task(trouble())
            await asyncio.gather(*map(writer, range(5)))
            troubled.cancel()
            line.fates = []
            await until_taken(journal, b"end")
            await journal.close()
            return applied

    applied = run(chances())
    assert len(applied) == 200
    assert replayed(port, name) == [*applied, (201, b"end")]


def test_while_redis_is_gone_commits_are_refused_and_queue_nowhere_and_then_they_work_again(port, client, impatient):
    async def gone():
        async with lined(port) as line:
            journal = await opened(line, "gone")
            await journal.commit(b"before", lambda n: n)
            await line.hang_up()
            results = await asyncio.gather(
                *(journal.commit(b"refused", lambda _: pytest.fail("it was applied")) for _ in range(50)),
                return_exceptions=True,
            )
            assert all(isinstance(result, JournalUnavailable) for result in results)
            for _ in range(50):
                assert "does not answer" in await refused(journal)
            assert journal.lag == 0.0  # nothing waits
            with pytest.raises(JournalUnavailable, match="no snapshot"):
                await journal.begin_snapshot({})
            line.down = False
            assert await until_taken(journal, b"after") == 2
            await journal.close()

    run(gone())
    assert replayed(port, "gone") == [(1, b"before"), (2, b"after")]


def test_a_real_redis_that_is_killed_and_started_anew_with_its_file_goes_on(tmp_path, impatient):
    kept = ("--appendonly", "yes", "--appendfsync", "always")

    async def killed():
        async with lined(0) as line:
            with serving(tmp_path, *kept) as line.upstream:
                journal = await opened(line, "killed")
                assert await journal.commit(b"before", lambda n: n) == 1
            await refused(journal)
            with serving(tmp_path, *kept) as line.upstream:
                assert await until_taken(journal, b"after") == 2
                await journal.close()
                return await asyncio.to_thread(redis.Redis(port=line.upstream).xlen, "{killed}:entries")

    assert run(killed()) == 2


# A Redis that lost entries


def test_a_redis_that_restarted_empty_takes_nothing_until_it_has_the_state(port, client):
    async def emptied():
        called = asyncio.Event()
        journal = RedisJournal(at(port), "emptied", on_lost=called.set)
        for i in range(5):
            await journal.commit(str(i).encode(), lambda n: n)
        client.flushall()
        assert "lacks entries up to 5" in await refused(journal)
        await called.wait()
        assert journal.lost
        assert "snapshot" in await refused(journal)
        assert client.xlen("{emptied}:entries") == 0
        assert await journal.begin_snapshot({"state": b"of five"}) == 5
        assert not journal.lost
        assert await journal.commit(b"sixth", lambda n: n) == 6
        await journal.close()

    run(emptied())
    assert recovered(port, "emptied") == ((5, {"state": b"of five"}), [(6, b"sixth")])


def test_a_redis_that_restarted_with_an_older_file_takes_nothing_until_it_has_the_state(port, client):
    async def set_back():
        journal = RedisJournal(at(port), "back")
        await journal.commit(b"first", lambda n: n)
        await journal.begin_snapshot({"state": b"of one"})
        older = {key: client.dump(key) for key in client.keys("{back}*")}
        await journal.commit(b"second", lambda n: n)
        for key, value in older.items():
            client.restore(key, 0, value, replace=True)
        assert "lacks entries up to 2" in await refused(journal)
        await journal.begin_snapshot({"state": b"of two"})
        assert await journal.commit(b"third", lambda n: n) == 3
        await journal.close()

    run(set_back())
    assert recovered(port, "back") == ((2, {"state": b"of two"}), [(3, b"third")])
    assert not client.exists("{back}:snapshot:1")


@pytest.mark.parametrize("emptied", [False, True])
def test_a_snapshot_begun_before_the_loss_was_known_brings_the_journal_back_too(port, client, emptied):
    async def before():
        journal = RedisJournal(at(port), "before")
        older = client.dump("{before}:head")
        await journal.commit(b"first", lambda n: n)
        client.flushall()
        if not emptied:
            client.restore("{before}:head", 0, older)
        assert await journal.begin_snapshot({"state": b"of one"}) == 1
        assert await journal.commit(b"second", lambda n: n) == 2
        await journal.close()

    run(before())
    assert recovered(port, "before") == ((1, {"state": b"of one"}), [(2, b"second")])


# Two writers


@pytest.mark.parametrize("emptied", [False, True])
def test_a_writer_whose_journal_was_opened_elsewhere_is_refused_from_then_on(port, client, emptied):
    async def two():
        first = RedisJournal(at(port), "two")
        await first.commit(b"by the first", lambda n: n)
        if emptied:
            client.flushall()
            await asyncio.sleep(0.01)  # the epoch is the time in milliseconds
        second = RedisJournal(at(port), "two")
        assert "another process" in await refused(first)
        with pytest.raises(JournalUnavailable, match="another process"):
            await first.begin_snapshot({})
        assert "another process" in await refused(first)
        n = 1 if emptied else 2
        assert await second.commit(b"by the second", lambda n: n) == n
        await first.close()
        await second.close()

    run(two())
    assert [entry for _, entry in replayed(port, "two")] == [b"by the first"] * (not emptied) + [b"by the second"]


# Snapshots


def test_the_two_newest_snapshots_are_kept_with_all_entries_after_the_older(port, client):
    async def snapshotting():
        journal = RedisJournal(at(port), "kept")
        for n in range(1, 1051):
            await journal.commit(str(n).encode(), lambda n: n)
            if n % 300 == 0:
                assert await journal.begin_snapshot({"n": str(n).encode(), "large": bytes(3_000_000)}) == n
        assert 0 < journal.size < 1_000_000
        await journal.close()

    run(snapshotting())
    newest, entries = recovered(port, "kept")
    assert newest == (900, {"n": b"900", "large": bytes(3_000_000)})
    assert entries == [(n, str(n).encode()) for n in range(901, 1051)]
    places = {f"{{kept}}:snapshot:{n}".encode() for n in (600, 900)}
    assert set(client.keys("{kept}*")) == {b"{kept}:head", b"{kept}:entries", b"{kept}:snapshots"} | places
    assert all(client.ttl(place) == -1 for place in places)
    journal = RedisJournal(at(port), "kept")
    assert list(journal.replay(600)) == [(n, str(n).encode()) for n in range(601, 1051)]
    with pytest.raises(CheckpointError, match="lacks entries 1 to"):
        list(journal.replay(0))
    asyncio.run(journal.close())


def test_a_damaged_newest_snapshot_falls_back_to_the_older_and_is_dropped_at_the_next(port, client, caplog):
    async def snapshotting():
        journal = RedisJournal(at(port), "damaged")
        for n in (1, 2, 3):
            await journal.commit(str(n).encode(), lambda n: n)
            await journal.begin_snapshot({"n": str(n).encode()})
        await journal.close()

    run(snapshotting())
    client.hset("{damaged}:snapshot:3", "0", b"something else")
    assert recovered(port, "damaged") == ((2, {"n": b"2"}), [(3, b"3")])
    assert "is damaged" in caplog.text

    async def next_one():
        journal = RedisJournal(at(port), "damaged")
        journal.newest_snapshot()
        await journal.commit(b"4", lambda n: n)
        await journal.begin_snapshot({"n": b"4"})
        await journal.close()

    run(next_one())
    assert sorted(map(int, client.hkeys("{damaged}:snapshots"))) == [2, 4]
    assert not client.exists("{damaged}:snapshot:3")


def test_newer_formats_ask_for_an_upgrade(port, client, monkeypatch):
    async def snapshotting():
        journal = RedisJournal(at(port), "newer")
        await journal.begin_snapshot({})
        await journal.close()

    monkeypatch.setattr(snapshots, "VERSION", snapshots.VERSION + 1)
    run(snapshotting())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="upgrade"):
        recovered(port, "newer")
    client.hset("{newer}:head", "format", module.VERSION + 1)
    with pytest.raises(CheckpointError, match="upgrade"):
        RedisJournal(at(port), "newer")


def test_an_entry_that_was_deleted_is_missed(port, client):
    commit(port, "gap", [b"1", b"2", b"3"])
    client.xdel("{gap}:entries", client.xrange("{gap}:entries")[1][0])
    with pytest.raises(CheckpointError, match="lacks entries 2 to 2"):
        replayed(port, "gap")
    client.delete("{gap}:entries")
    with pytest.raises(CheckpointError, match="lacks entries 1 to 3"):
        replayed(port, "gap")


# What Redis refuses


def test_a_redis_out_of_memory_refuses_entries_until_it_has_some_again(port, client):
    async def full():
        journal = RedisJournal(at(port), "full")
        await journal.commit(b"before", lambda n: n)
        client.config_set("maxmemory", 1)
        assert "maxmemory" in await refused(journal)
        assert "maxmemory" in await refused(journal)
        with pytest.raises(JournalUnavailable, match="maxmemory"):
            await journal.begin_snapshot({})
        client.config_set("maxmemory", 0)
        assert await journal.commit(b"after", lambda n: n) == 2
        await journal.close()

    run(full())
    assert replayed(port, "full") == [(1, b"before"), (2, b"after")]


@pytest.mark.parametrize("durability", ["group", "sync"])
def test_an_answer_that_promises_an_fsync_needs_a_redis_that_makes_one(tmp_path, port, client, durability):
    with pytest.raises(InvalidArgument, match="appendfsync always"):
        RedisJournal(at(port), "synced", durability)
    with serving(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as synced:

        async def committing():
            journal = RedisJournal(at(synced), "synced", durability)
            assert await journal.commit(b"entry", lambda n: n) == 1
            await journal.close()

        run(committing())


def test_an_unreachable_redis_and_wrong_arguments_are_named(port, impatient):
    with pytest.raises(JournalUnavailable, match="cannot be opened"):
        RedisJournal("redis://127.0.0.1:1", "unreachable")
    for options in ({"name": "{a}"}, {"name": ""}, {"durability": "none"}):
        with pytest.raises(InvalidArgument, match=next(iter(options))):
            RedisJournal(at(port), **options)


def test_nothing_is_taken_after_close_and_close_waits_for_what_is_under_way(port, client):
    async def closing():
        journal = RedisJournal(at(port), "closing")
        tasks = [asyncio.create_task(journal.commit(b"entry", lambda n: n)) for _ in range(5)]
        await asyncio.sleep(0)
        snapshot = asyncio.ensure_future(journal.begin_snapshot({}))
        await journal.close()
        assert snapshot.done()
        assert await asyncio.gather(*tasks) == [1, 2, 3, 4, 5]
        assert "closed" in await refused(journal)
        await journal.close()

    run(closing())


# Kills

CHILD = """
import asyncio, os, sys
from onlineguard_service.journal.redis_journal import RedisJournal

async def main(url):
    journal = RedisJournal(url, "child")
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

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.slow
def test_after_kill_9_at_any_moment_all_that_was_answered_is_there_in_order(port, client):
    moments, before = random.Random(0), 0
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", CHILD, at(port)], stdout=subprocess.PIPE) as child:
            first = child.stdout.read(10)  # it runs
            time.sleep(moments.uniform(0.0, 0.06))
            child.send_signal(signal.SIGKILL)
            told = first + child.stdout.read()
        whole = len(told) - len(told) % 10
        acknowledged = {int.from_bytes(told[i : i + 8]): told[i + 8 : i + 10] for i in range(0, whole, 10)}
        newest, entries = recovered(port, "child")
        start = newest[0] if newest else 0
        assert newest is None or newest[1] == {"n": str(newest[0]).encode()}
        assert [n for n, _ in entries] == list(range(start + 1, start + 1 + len(entries)))
        assert start + len(entries) >= max(acknowledged)
        assert min(acknowledged) > before
        there = dict(entries)
        assert all(there[n][:2] == begin for n, begin in acknowledged.items() if n > start)
        before = max(acknowledged)
