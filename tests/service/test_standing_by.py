"""When a standby takes over."""

import asyncio
import time

import pytest
from onlineguard_service.journal.folder_journal import FolderJournal
from onlineguard_service.journal.tails import FolderTail
from onlineguard_service.standing_by import Watch

LONG = 600.0  # seconds that no test takes


@pytest.fixture
def writer(tmp_path):
    journal = FolderJournal(tmp_path / "journal")
    yield journal
    asyncio.run(journal.close())


@pytest.fixture
def tail(writer, tmp_path):
    tail = FolderTail(tmp_path / "journal", "group")
    yield tail
    tail.close()


def test_a_writer_that_is_there_and_silent_is_given_its_time_and_no_more(writer, tail):
    watch = Watch(tail)
    assert not watch.is_time(LONG)
    time.sleep(0.01)
    assert watch.is_time(0.005)
    asyncio.run(writer.beat())
    assert not watch.is_time(LONG)


def test_the_journal_of_a_process_that_was_seen_and_has_ended_is_taken_over_long_before_its_time(writer, tail):
    watch = Watch(tail)
    assert not watch.is_time(LONG)
    asyncio.run(writer.beat())
    assert not watch.is_time(LONG)
    asyncio.run(writer.close())
    until = time.monotonic() + 60.0
    while not watch.is_time(LONG) and time.monotonic() < until:
        time.sleep(0.01)
    assert watch.is_time(LONG)


def test_a_journal_that_nobody_was_seen_to_write_is_left_alone_until_its_time(writer, tail):
    asyncio.run(writer.close())
    watch = Watch(tail)
    assert not watch.is_time(LONG)
    time.sleep(0.6)
    assert not watch.is_time(LONG)
