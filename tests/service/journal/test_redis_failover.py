"""A journal in a Redis that fails over to its replica: what was answered is there afterwards, or nothing is taken."""

import asyncio
import itertools
import signal
from contextlib import closing, suppress

import pytest
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import redis_journal as module
from onlineguard_service.journal.redis_journal import RedisJournal
from onlineguard_service.journal.redis_tail import RedisTail

from onlineguard import sentinels
from tests.support.journals import refused, run
from tests.support.redis_failover import failing_over, until

NAME = "clicks"


@pytest.fixture
def servers(tmp_path, monkeypatch):
    monkeypatch.setattr(sentinels, "WAIT", 10.0)  # the machine may be busy
    with failing_over(tmp_path) as servers:
        yield servers


async def committed(journal, *entries):
    return [await journal.commit(entry, lambda n: n) for entry in entries]


def recovered(url):
    """As a process that starts anew finds it."""

    async def opened():
        journal = RedisJournal(url, NAME)
        newest = journal.newest_snapshot()
        found = newest, list(journal.replay(newest[0] if newest else 0))
        await journal.close()
        return found

    return run(opened())


def test_a_journal_whose_new_primary_lacks_entries_takes_none_until_it_has_the_state_and_then_lacks_nothing(servers):
    async def failing():
        lost = asyncio.Event()
        journal = RedisJournal(servers.url, NAME, on_lost=lost.set)
        await committed(journal, b"first", b"second")
        servers.part()
        await committed(journal, b"third")
        servers.kill_primary()
        servers.promote()
        while "lacks entries up to 3" not in await refused(journal):
            await asyncio.sleep(0.05)
        await lost.wait()
        assert await journal.begin_snapshot({"state": b"of three"}) == 3
        assert await committed(journal, b"fourth") == [4]
        await journal.close()

    run(failing())
    assert recovered(servers.url) == ((3, {"state": b"of three"}), [(4, b"fourth")])


def test_who_starts_with_the_new_primary_goes_on_with_exactly_what_that_has(servers):
    async def dying():
        journal = RedisJournal(servers.url, NAME)
        await committed(journal, b"first")
        servers.part()
        await committed(journal, b"lost")
        servers.kill_primary()
        await journal.close()

    run(dying())
    servers.promote()
    assert recovered(servers.url) == (None, [(1, b"first")])


@pytest.mark.parametrize("seen", ["an entry", "a snapshot", "nothing"])
def test_a_standby_keeps_what_it_read_though_writer_and_primary_died_and_the_replica_lacks_it(servers, seen):
    async def dying():
        journal = RedisJournal(servers.url, NAME)
        tail, read = RedisTail(servers.url, NAME, "async"), []
        if seen == "nothing":
            tail.begin()
            servers.part()
        await committed(journal, b"first", b"second")
        if seen == "a snapshot":
            await journal.begin_snapshot({"state": b"of two"})
        if seen != "nothing":
            tail.begin()
            read += tail.entries()
            servers.part()
        await committed(journal, b"third", b"fourth")
        read += tail.entries()
        servers.kill_primary()
        await journal.close()
        servers.promote()
        taken, certain = tail.take_over()
        assert (certain, taken.sequence, taken.lost, tail.sequence) == (True, 4, True, 4)
        assert "lacks entries up to 4" in await refused(taken)
        assert list(taken.replay(4)) == []
        assert await taken.begin_snapshot({"state": b"of four"}) == 4
        assert await committed(taken, b"fifth") == [5]
        await taken.close()
        return read

    read = run(dying())
    assert read == [b"first", b"second", b"third", b"fourth"][2 if seen == "a snapshot" else 0 :]
    assert recovered(servers.url) == ((4, {"state": b"of four"}), [(5, b"fifth")])


def test_a_standby_goes_on_from_the_journal_where_its_writer_has_put_the_state_there_again(servers):
    async def following():
        journal = RedisJournal(servers.url, NAME)
        await committed(journal, b"first")
        with closing(RedisTail(servers.url, NAME, "async")) as tail:
            tail.begin()
            servers.part()
            await committed(journal, b"second", b"third")
            assert len(tail.entries()) == 3
            await committed(journal, b"fourth")  # which the standby does not come to read
            servers.kill_primary()
            servers.promote()
            while "lacks" not in await refused(journal):
                await asyncio.sleep(0.05)
            await journal.begin_snapshot({"state": b"of four"})
            await committed(journal, b"fifth")
            taken, certain = tail.take_over()
            assert (certain, taken.sequence, taken.lost) == (False, 5, False)
            await taken.close()
            await journal.close()

    run(following())
    assert recovered(servers.url) == ((4, {"state": b"of four"}), [(5, b"fifth")])


def test_an_entry_that_the_replicas_do_not_have_is_not_answered_until_they_do(servers):
    async def waiting():
        journal = RedisJournal(servers.url, NAME, replicas=1)
        await committed(journal, b"first")
        servers.signal(servers.replica, signal.SIGSTOP)
        try:
            assert "0 of 1 replicas" in await refused(journal)
            assert "0 of 1 replicas" in await refused(journal)
        finally:
            servers.signal(servers.replica, signal.SIGCONT)
        while journal.refusal is not None:
            await asyncio.sleep(0.02)
        assert await committed(journal, b"second") == [2]
        await journal.close()

    run(waiting())
    assert recovered(servers.url) == (None, [(1, b"first"), (2, b"second")])


@pytest.mark.slow
def test_nothing_that_was_answered_is_lost_with_the_primary_where_its_replicas_were_waited_for(servers):
    async def load():
        journal, applied = RedisJournal(servers.url, NAME, replicas=1), []

        async def write(i):
            with suppress(JournalUnavailable):
                for n in itertools.count():
                    entry = f"{i} {n}".encode()
                    await journal.commit(entry, lambda _, entry=entry: applied.append(entry))

        writers = [asyncio.create_task(write(i)) for i in range(8)]
        while len(applied) < 500:
            await asyncio.sleep(0.01)
        servers.kill_primary()
        await asyncio.gather(*writers)
        await journal.close()
        return applied

    applied = run(load())
    until(lambda: servers.named() == servers.replica)
    newest, entries = recovered(servers.url)
    assert newest is None
    assert [entry for _, entry in entries[: len(applied)]] == applied
    assert len(entries) <= len(applied) + 8  # what got no answer may be there


@pytest.mark.slow
def test_under_load_what_was_applied_is_what_is_recovered_though_the_primary_is_killed(tmp_path, monkeypatch):
    """Three Sentinels with passwords, one of which hangs. What is lost is put there again with the state."""
    monkeypatch.setattr(module, "RECONNECT_EVERY", 0.05)

    async def load(servers):
        tasks, applied, refusals = set(), [], 0

        async def restore():
            while journal.lost:
                try:
                    await journal.begin_snapshot({"applied": b"\n".join(applied)})
                except JournalUnavailable:
                    await asyncio.sleep(0.1)

        journal = RedisJournal(servers.url, NAME, on_lost=lambda: tasks.add(asyncio.create_task(restore())))

        async def write(i):
            nonlocal refusals
            n = 0
            while not stop.is_set():
                entry = f"{i} {n}".encode()
                try:
                    await journal.commit(entry, lambda _, entry=entry: applied.append(entry))
                    n += 1
                except JournalUnavailable:
                    refusals += 1
                    await asyncio.sleep(0.02)

        async def some():
            enough = len(applied) + 500
            while len(applied) < enough:
                await asyncio.sleep(0.01)

        stop = asyncio.Event()
        writers = [asyncio.create_task(write(i)) for i in range(8)]
        await some()
        servers.signal(servers.sentinels[0], signal.SIGSTOP)
        servers.kill_primary()
        while not refusals:
            await asyncio.sleep(0.01)
        await some()
        stop.set()
        await asyncio.gather(*writers, *tasks)
        assert journal.sequence == len(applied)
        await journal.close()
        return applied

    with failing_over(tmp_path, sentinels=3, secret=True) as servers:
        try:
            applied = run(load(servers))
            newest, entries = recovered(servers.url)
        finally:
            servers.signal(servers.sentinels[0], signal.SIGCONT)
    before = newest[1]["applied"].split(b"\n") if newest else []
    assert before + [entry for _, entry in entries] == applied
