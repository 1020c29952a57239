"""A journal that is followed while another process writes it, and then taken over, in a folder and in Redis."""

import itertools
import time

import pytest
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import fencing
from onlineguard_service.journal.redis_tail import RedisTail
from onlineguard_service.journal.tails import Astray, FolderTail

from onlineguard.errors import InvalidArgument
from tests.support.journals import InFolder, InRedis, folder_in_memory, numbered, run
from tests.support.redis_server import serving

ENTRIES = [b"entry %d" % n for n in range(12)]


@pytest.fixture(scope="module")
def port_of_redis(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture(scope="module", params=["folder", "redis"])
def anew(request):
    """Makes an empty place for a journal, and a tail of it."""
    if request.param == "redis":
        port, names = request.getfixturevalue("port_of_redis"), map("journal{}".format, itertools.count())

        def in_redis(folder):
            place = InRedis(port, next(names))
            return place, RedisTail(place.url, place.name, "async")

        return in_redis
    return lambda folder: (InFolder(folder / "journal", "group", 60), FolderTail(folder / "journal", "group"))


@pytest.fixture
def both(anew, tmp_path):
    place, tail = anew(tmp_path)
    yield place, tail
    tail.close()


async def committed(journal, entries):
    for entry in entries:
        await journal.commit(entry, lambda n: n)


def drained(tail):
    """All entries that there are."""
    found = []
    while more := tail.entries():
        found += more
    return found


def test_a_tail_reads_every_entry_once_in_order_while_it_is_written(both):
    place, tail = both

    async def writing():
        journal = place.open()
        assert tail.begin() is None
        assert tail.entries() == []
        read = []
        for n in range(0, 12, 3):
            await committed(journal, ENTRIES[n : n + 3])
            read += drained(tail)
        assert (read, tail.sequence) == (ENTRIES, 12)
        await journal.close()

    run(writing())


def test_a_tail_goes_on_after_snapshots_of_the_writer_or_says_that_it_lost_its_place(both):
    place, tail = both

    async def writing():
        journal = place.open()
        await committed(journal, ENTRIES[:2])
        tail.begin()
        read = drained(tail)
        for n in range(2, 12):
            await committed(journal, ENTRIES[n : n + 1])
            await journal.begin_snapshot({"n": b"%d" % (n + 1)})
            if n <= 4:
                read += drained(tail)
        await journal.forget_covered()
        with pytest.raises(Astray):
            drained(tail)
        parts = tail.begin()
        assert (read, parts, tail.sequence, tail.entries()) == (ENTRIES[:5], {"n": b"12"}, 12, [])
        await journal.close()

    run(writing())


def test_a_tail_that_begins_with_a_snapshot_reads_what_comes_after_it(both):
    place, tail = both
    place.snapshotted(ENTRIES, 5)

    async def looking():
        journal = place.open()
        parts = tail.begin()
        assert parts is not None
        assert (parts["n"], drained(tail)) == (b"10", ENTRIES[10:])
        await journal.close()

    run(looking())


def test_who_takes_over_has_all_that_was_answered_and_the_old_writer_answers_nothing_more(both):
    place, tail = both

    async def taking():
        old = place.open()
        tail.begin()
        await committed(old, ENTRIES[:7])
        new, certain = tail.take_over()
        assert (certain, new.sequence, list(new.replay(0))) == (True, 7, numbered(ENTRIES[:7]))
        assert "another process" in await refused_or_unclear(old)
        await committed(new, ENTRIES[7:9])
        assert "another process" in await refused_or_unclear(old)
        with pytest.raises(JournalUnavailable):
            await old.begin_snapshot({"n": b"of the old one"})
        assert old.refusal is not None
        await new.begin_snapshot({"n": b"of the new one"})
        await committed(new, ENTRIES[9:])
        await new.close()
        await old.close()

    run(taking())
    assert place.recovered() == ((9, {"n": b"of the new one"}), numbered(ENTRIES)[9:])


def test_who_takes_over_leaves_out_what_was_read_and_then_taken_out_again(port_of_redis):
    place = InRedis(port_of_redis, "out")
    tail = RedisTail(place.url, place.name, "async")

    async def taking():
        old = place.open()
        await committed(old, ENTRIES[:3])
        tail.begin()
        await committed(old, ENTRIES[3:5])
        drained(tail)
        old.sequence, old._id = 3, old._id.replace("-5", "-3")  # as if the last two had got no answer
        await old._resume(time.monotonic() + 60.0)
        new, certain = tail.take_over()
        assert (certain, new.lost, list(new.replay(0))) == (False, False, numbered(ENTRIES[:3]))
        await new.close()
        await old.close()

    run(taking())


async def refused_or_unclear(old):
    """Why the old writer does not answer; it may apply what it does not answer."""
    with pytest.raises(JournalUnavailable) as raised:
        await old.commit(b"of the old one", lambda n: n)
    return str(raised.value)


def test_a_beat_shows_that_the_writer_is_there_until_it_leaves(both):
    place, tail = both

    async def beating():
        journal = place.open()
        await journal.beat()
        one = tail.beat()
        await journal.beat()
        assert one
        assert tail.beat() not in ("", one)
        assert not tail.is_gone()
        await journal.close()
        assert tail.is_gone()

    run(beating())


@pytest.mark.parametrize("level", ["async", "group", "sync"])
def test_a_folder_that_is_taken_over_between_a_write_and_its_answer_has_the_entry_and_no_answer(tmp_path, level):
    """The old writer goes on to write, to begin segments and to write snapshots, none of which anybody reads."""
    place = InFolder(tmp_path / "journal", level, 60)

    async def taking():
        old = place.open()
        await committed(old, ENTRIES[:3])
        write = old._write
        old._write = lambda entry: (write(entry), fencing.take_away(place.folder))
        assert "taken it over" in await refused_or_unclear(old)
        old._write, old._refusal = write, None  # as if it had looked just before
        new = place.open()
        assert new.sequence == 4
        for _ in range(5):
            await refused_or_unclear(old)
            old._refusal = None
        await committed(new, ENTRIES[4:])
        with pytest.raises(JournalUnavailable):
            await old._snapshot(7, {"n": b"of the old one"})
        await old.close()
        await new.close()

    run(taking())
    assert place.replayed() == [*numbered(ENTRIES[:3]), (4, b"of the old one"), *numbered(ENTRIES)[4:]]
    assert place.kept() == []


def test_a_folder_is_taken_over_again_though_the_one_before_did_not_finish():
    with folder_in_memory() as folder:
        place = InFolder(folder / "journal", "async", 60)
        place.commit(ENTRIES)
        fencing.take_away(place.folder)
        fencing.take_away(place.folder)
        assert place.replayed() == numbered(ENTRIES)
        assert [each.name for each in folder.iterdir()] == ["journal"]


def test_a_folder_of_a_file_system_that_cannot_exchange_names_is_refused(tmp_path, monkeypatch):
    def failing(one, other):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fencing, "_exchange", failing)
    with pytest.raises(InvalidArgument, match="cannot exchange their names"):
        FolderTail(tmp_path / "journal", "group")
    assert list(tmp_path.iterdir()) == []


def test_entries_of_a_writer_that_was_started_anew_are_not_taken_for_those_that_were_read(tmp_path):
    place, tail = InFolder(tmp_path / "journal"), FolderTail(tmp_path / "journal", "group")
    place.commit(ENTRIES[:3])
    tail.begin()
    assert drained(tail) == ENTRIES[:3]
    place.commit(ENTRIES[3:])
    with pytest.raises(Astray):
        tail.entries()
    tail.close()


def test_an_entry_in_redis_that_takes_the_place_of_one_that_was_read_is_noticed(tmp_path):
    with serving(tmp_path) as port:
        place = InRedis(port, "journal")
        tail = RedisTail(place.url, place.name, "async")

        async def writing():
            journal = place.open()
            await committed(journal, ENTRIES[:3])
            tail.begin()
            assert drained(tail) == ENTRIES[:3]
            journal.sequence, journal._id = 2, f"{journal._epoch}-2"  # the answer to the third was lost
            await committed(journal, ENTRIES[3:])
            await journal.close()

        run(writing())
        with pytest.raises(Astray):
            tail.entries()
        tail.close()
