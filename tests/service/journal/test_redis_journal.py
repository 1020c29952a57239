"""The journal in Redis, beside what both journals promise: lost connections, a Redis that lost entries, two writers."""

import asyncio
import itertools
import random

import pytest
import redis
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import redis_journal as module
from onlineguard_service.journal import redis_layout
from onlineguard_service.journal.redis_journal import RedisJournal

from onlineguard.errors import CheckpointError, InvalidArgument
from tests.support.journals import ENTRIES, InRedis, refused, run
from tests.support.line import lined
from tests.support.redis_server import serving


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


async def until_taken(journal, entry):
    while True:
        try:
            return await journal.commit(entry, lambda n: n)
        except JournalUnavailable:
            await asyncio.sleep(0.01)


async def opened(line, name):
    """In a thread, since opening blocks and the line is of this loop."""
    return await asyncio.to_thread(RedisJournal, at(line.port), name)


def test_a_redis_that_forgot_the_scripts_is_given_them_again(port, client):
    client.script_flush()
    InRedis(port, "scripts").commit([b"first"])
    client.script_flush()
    InRedis(port, "scripts").commit([b"second"])
    assert InRedis(port, "scripts").recovered() == (None, [(1, b"first"), (2, b"second")])


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
    assert InRedis(port, fate).recovered() == (None, [(1, b"before"), (2, b"entry"), (3, b"after")])


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
    assert InRedis(port, "late").recovered() == (None, [(1, b"before"), (2, b"after")])


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
    assert InRedis(port, "withdrawn").recovered() == (None, [(1, b"before"), (2, b"after"), (3, b"and on")])


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
    assert InRedis(port, name).recovered() == (None, [*applied, (201, b"end")])


def test_while_redis_is_gone_commits_are_refused_and_queue_nowhere_and_then_they_work_again(port, client, impatient):
    async def gone():
        async with lined(port) as line:
            journal = await opened(line, "gone")
            await journal.commit(b"before", lambda n: n)
            assert (len(journal.seconds), journal.failures) == (1, 0)
            await line.hang_up()
            results = await asyncio.gather(
                *(journal.commit(b"refused", lambda _: pytest.fail("it was applied")) for _ in range(50)),
                return_exceptions=True,
            )
            assert all(isinstance(result, JournalUnavailable) for result in results)
            assert (len(journal.seconds), journal.failures > 0, journal.waiting) == (1, True, 0)
            for _ in range(50):
                assert "does not answer" in await refused(journal)
            assert journal.lag == 0.0  # nothing waits
            with pytest.raises(JournalUnavailable, match="no snapshot"):
                await journal.begin_snapshot({})
            line.down = False
            assert await until_taken(journal, b"after") == 2
            await journal.close()

    run(gone())
    assert InRedis(port, "gone").recovered() == (None, [(1, b"before"), (2, b"after")])


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
    assert InRedis(port, "emptied").recovered() == ((5, {"state": b"of five"}), [(6, b"sixth")])


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
    assert InRedis(port, "back").recovered() == ((2, {"state": b"of two"}), [(3, b"third")])
    assert not client.exists("{back}:snapshot:1")


def test_a_redis_with_other_entries_in_place_of_those_that_were_applied_takes_nothing_until_it_has_the_state(
    port, client, impatient
):
    """As a replica has them that missed the moment in which they were taken out again."""

    async def other():
        async with lined(port) as line:
            journal = await opened(line, "other")
            await journal.commit(b"first", lambda n: n)
            line.fates = ["unanswered", "held"]
            await refused(journal, b"refused, but there")
            older = {key: client.dump(key) for key in client.keys("{other}*")}
            assert await until_taken(journal, b"second") == 2
            for key, value in older.items():
                client.restore(key, 0, value, replace=True)
            assert [fields[b"e"] for _, fields in client.xrange("{other}:entries")] == [b"first", b"refused, but there"]
            assert "lacks entries up to 2" in await refused(journal)
            await journal.begin_snapshot({"state": b"of two"})
            assert await journal.commit(b"third", lambda n: n) == 3
            await journal.close()

    run(other())
    assert InRedis(port, "other").recovered() == ((2, {"state": b"of two"}), [(3, b"third")])


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
    assert InRedis(port, "before").recovered() == ((1, {"state": b"of one"}), [(2, b"second")])


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
    newest, entries = InRedis(port, "two").recovered()
    assert newest is None
    assert [entry for _, entry in entries] == [b"by the first"] * (not emptied) + [b"by the second"]


# What is kept


def test_nothing_is_kept_but_the_head_the_entries_and_two_snapshots(port, client):
    place = InRedis(port, "kept")
    place.snapshotted(ENTRIES, 1, large=bytes(3_000_000))
    snapshots = {b"{kept}:snapshot:4", b"{kept}:snapshot:5"}
    assert set(client.keys("{kept}*")) == {b"{kept}:head", b"{kept}:entries", b"{kept}:snapshots"} | snapshots
    assert all(client.ttl(snapshot) == -1 for snapshot in snapshots)


def test_a_newer_format_asks_for_an_upgrade(port, client):
    place = InRedis(port, "newer")
    place.commit([b"entry"])
    client.hset("{newer}:head", "format", redis_layout.VERSION + 1)
    with pytest.raises(CheckpointError, match="upgrade"):
        place.open()


def test_entries_that_were_deleted_altogether_are_missed(port, client):
    place = InRedis(port, "gap")
    place.commit([b"1", b"2", b"3"])
    client.delete("{gap}:entries")
    with pytest.raises(CheckpointError, match="lacks entries 1 to 3"):
        place.recovered()


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
    assert InRedis(port, "full").recovered() == (None, [(1, b"before"), (2, b"after")])


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
    with pytest.raises(JournalUnavailable, match=r"cannot be opened: .*[^.]; start that Redis or name another"):
        RedisJournal("redis://127.0.0.1:1", "unreachable")
    for options in ({"name": "{a}"}, {"name": ""}, {"durability": "none"}):
        with pytest.raises(InvalidArgument, match=next(iter(options))):
            RedisJournal(at(port), **options)
