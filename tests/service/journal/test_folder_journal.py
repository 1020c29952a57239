"""The journal in a folder, beside what both journals promise: its segments, its lock, and disks that fail."""

import asyncio
import errno
import logging
import os
import resource
import struct
import subprocess
import sys
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import folder_journal, segments, snapshots, sync_times
from onlineguard_service.journal.folder_journal import FolderJournal

from onlineguard.errors import CheckpointError, InvalidArgument
from tests.support.journals import ENTRIES, GENEROUS, LEVELS, InFolder, folder_in_memory, numbered, refused

HEADER, FRAME = 28, 20  # bytes


@pytest.fixture
def place(tmp_path):
    return InFolder(tmp_path)


def last_segment(folder):
    return max(folder.glob("segment-*"))


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6), st.integers(1, 150), st.data())
@settings(max_examples=60)
def test_any_cut_of_the_last_segment_leaves_the_entries_before_it_and_the_journal_goes_on(entries, segment_bytes, data):
    with folder_in_memory() as path:
        place = InFolder(path, "async", segment_bytes)
        place.commit(entries)
        last = last_segment(path)
        length = data.draw(st.integers(0, last.stat().st_size))
        os.truncate(last, length)
        first = int(last.name.removeprefix("segment-"))
        kept, end = first - 1, HEADER
        for entry in entries[first - 1 :]:
            end += FRAME + len(entry)
            kept += end <= length
        assert place.commit([b"more"]) == [(kept + 1, b"more")]
        assert place.replayed() == numbered([*entries[:kept], b"more"])


@pytest.mark.parametrize("tail", [b"\0", bytes(5000), b"garbage" * 40, "half", "half and zeros"])
def test_a_torn_tail_is_cut_off_and_the_log_says_how_many_bytes(place, tmp_path, caplog, tail):
    place.commit([*ENTRIES, b"torn" * 20])
    path = last_segment(tmp_path)
    contents = path.read_bytes()
    whole = len(contents) - FRAME - 80
    if isinstance(tail, str):
        tail = contents[whole:-30] + bytes(50 if "zeros" in tail else 0)
    path.write_bytes(contents[:whole] + tail)
    assert place.replayed() == numbered(ENTRIES)
    assert path.stat().st_size == whole
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert f"{len(tail)} bytes" in record.getMessage()


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=8), st.integers(1, 120), st.data())
@settings(max_examples=150)
def test_a_flipped_byte_is_an_error_or_costs_the_last_entry_and_never_goes_unseen(entries, segment_bytes, data):
    with folder_in_memory() as path:
        place = InFolder(path, "async", segment_bytes)
        place.commit(entries)
        segment = data.draw(st.sampled_from(sorted(path.glob("segment-*"))))
        contents = bytearray(segment.read_bytes())
        at = data.draw(st.integers(0, len(contents) - 1))
        contents[at] ^= data.draw(st.integers(1, 255))
        segment.write_bytes(contents)
        tail = len(contents) - FRAME - len(entries[-1])  # where the last entry begins, in the last segment
        if segment == last_segment(path) and at >= max(HEADER, tail):
            assert place.replayed() == numbered(entries[:-1])
        else:
            with pytest.raises(CheckpointError, match=str(segment)):
                place.replayed()


def test_damage_in_the_middle_names_the_file_the_offset_and_a_way_out(place, tmp_path):
    place.commit(ENTRIES)
    path = last_segment(tmp_path)
    contents = bytearray(path.read_bytes())
    second = HEADER + FRAME + len(ENTRIES[0])
    contents[second : second + FRAME + 10] = bytes(FRAME + 10)  # the second entry and a part of the third
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=rf"{path} is damaged at byte {second}.* backup"):
        FolderJournal(tmp_path)
    assert path.read_bytes() == contents  # untouched


def test_a_client_cannot_forge_an_entry_behind_a_torn_one(place, tmp_path):
    def entry(mark, sequence):
        rest = struct.pack("<IQ", 0, sequence)
        return struct.pack("<II", mark, zlib.crc32(rest, mark)) + rest

    place.commit([b"".join(entry(mark, n) for mark in range(30) for n in range(1, 4))])
    path = last_segment(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    assert place.replayed() == []


@pytest.mark.parametrize("last", [True, False])
def test_a_newer_format_asks_for_an_upgrade(tmp_path, last):
    place = InFolder(tmp_path, segment_bytes=1)
    place.commit(ENTRIES)
    path = sorted(tmp_path.glob("segment-*"))[-1 if last else 1]
    contents = path.read_bytes()
    header = contents[:8] + struct.pack("<I", segments.VERSION + 1) + contents[12:24]
    path.write_bytes(header + struct.pack("<I", zlib.crc32(header)) + contents[HEADER:])
    with pytest.raises(CheckpointError, match="upgrade"):
        place.replayed()


def test_a_second_process_is_refused_until_the_first_has_closed(tmp_path):
    script = (
        "import sys, pathlib; from onlineguard_service.journal.folder_journal import FolderJournal; "
        "FolderJournal(pathlib.Path(sys.argv[1]))"
    )

    async def run():
        journal = FolderJournal(tmp_path)
        refused = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
        assert "JournalUnavailable" in refused.stderr
        assert "open in another process" in refused.stderr
        await journal.commit(b"still mine", lambda n: n)
        await journal.close()
        assert subprocess.run([sys.executable, "-c", script, tmp_path]).returncode == 0

    asyncio.run(run())


# Disks that fail


@pytest.mark.parametrize("level", LEVELS)
def test_a_write_that_ends_early_is_cut_off_and_the_next_commit_works(place, tmp_path, monkeypatch, level):
    def half(file, parts):
        return os.write(file, b"".join(parts)[:25])

    async def run():
        journal = FolderJournal(tmp_path, level)
        await journal.commit(b"before", lambda n: n)
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", half)
            assert "make room" in await refused(journal)
            assert journal.sequence == 1
        assert await journal.commit(b"after", lambda n: n) == 2
        await journal.close()

    asyncio.run(run())
    assert place.replayed() == [(1, b"before"), (2, b"after")]


def test_a_part_that_cannot_be_cut_off_stops_the_journal_until_a_restart(place, tmp_path, monkeypatch):
    def half(file, parts):
        return os.write(file, b"".join(parts)[:25])

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    async def run():
        journal = FolderJournal(tmp_path)
        await journal.commit(b"before", lambda n: n)
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", half)
            patch.setattr(os, "ftruncate", fail)
            await refused(journal)
        assert "restart" in await refused(journal)
        with pytest.raises(JournalUnavailable, match="restart"):
            await journal.begin_snapshot({})
        await journal.close()

    asyncio.run(run())
    assert place.commit([b"after"]) == [(2, b"after")]
    assert place.replayed() == [(1, b"before"), (2, b"after")]


@pytest.mark.parametrize("level", LEVELS)
def test_a_sync_that_fails_stops_the_journal_and_those_who_wait_hear_of_it(place, tmp_path, monkeypatch, level):
    async def run():
        journal = FolderJournal(tmp_path, level)
        await journal.commit(b"before", lambda n: n)
        while journal.lag:
            await asyncio.sleep(0.01)
        failing = True

        def sync(file):
            if failing:
                time.sleep(0.05)  # others come to wait for the next one
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fdatasync", sync)
        applied = []
        tasks = [asyncio.create_task(journal.commit(b"entry", applied.append)) for _ in range(3)]
        await asyncio.sleep(0.02)
        tasks += [asyncio.create_task(journal.commit(b"entry", applied.append)) for _ in range(3)]
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        if level == "async":
            assert errors == [None] * 6
            with suppress(JournalUnavailable):
                while True:  # until its sync has come
                    await journal.commit(b"entry", applied.append)
                    await asyncio.sleep(0.01)
        else:
            assert all(isinstance(error, JournalUnavailable) for error in errors)
        assert bool(applied) is (level != "sync")
        failing = False
        assert "a sync failed" in await refused(journal)
        with pytest.raises(JournalUnavailable, match="a sync failed"):
            await journal.begin_snapshot({})
        await journal.close()
        monkeypatch.undo()

    asyncio.run(run())
    entries = place.replayed()
    assert entries[0] == (1, b"before")
    assert place.commit([b"after"]) == [(len(entries) + 1, b"after")]


def test_a_restart_writes_the_last_segment_again_for_a_sync_that_failed_may_have_left_it_off_the_disk(
    place, tmp_path, monkeypatch
):
    place.commit(ENTRIES)
    written, actual = [], os.pwrite

    def spy(file, part, at):
        length = actual(file, part, at)
        if os.fstat(file).st_ino == last_segment(tmp_path).stat().st_ino:
            written.append((at, bytes(part[:length])))
        return length

    monkeypatch.setattr(os, "pwrite", spy)
    assert place.replayed() == numbered(ENTRIES)
    assert b"".join(part for _, part in sorted(written)) == last_segment(tmp_path).read_bytes()


def filled(folder, more_room):
    """Commit until there is no room, twice; then make room and go on. What must be in the journal in the end."""

    async def run():
        journal = FolderJournal(folder, "async", segment_bytes=20_000)
        kept, failures = [], []
        while len(failures) < 2:
            entry = len(kept).to_bytes(4) * 100
            try:
                kept.append(await journal.commit(entry, lambda n, entry=entry: (n, entry)))
            except JournalUnavailable as error:
                failures.append(str(error))
                with pytest.raises(JournalUnavailable, match="make room"):
                    await journal.begin_snapshot({"large": bytes(1 << 20)})
                assert not list(folder.glob(".*.tmp"))
        assert all("make room" in failure for failure in failures)
        assert len(kept) > 10
        more_room()
        for _ in range(100):
            kept.append(await journal.commit(b"after", lambda n: (n, b"after")))
        await journal.close()
        return kept

    return asyncio.run(run())


def test_a_full_disk_refuses_entries_until_there_is_room_and_loses_none(place, tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "none", tmp_path], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(
            f"a small tmpfs cannot be mounted here ({mounted.stderr.strip()}); the next test does it by a limit"
        )
    try:
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(60_000))
        kept = filled(tmp_path, ballast.unlink)
        assert place.replayed() == kept
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_file_size_limit_refuses_entries_until_it_is_raised_and_loses_none(tmp_path):
    """In a process of its own, which the limit holds for."""
    module = "tests.service.journal.test_folder_journal"
    script = f"import sys; sys.path[:0] = {sys.path!r}; import {module} as own; own.under_a_limit(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)


def under_a_limit(name):
    """What the test above runs."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    kept = filled(Path(name), lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))
    assert InFolder(Path(name)).replayed() == kept


# Snapshots


@pytest.mark.parametrize("segment_bytes", [1, 60])  # one entry each, two entries each
def test_all_that_the_older_of_two_snapshots_covers_is_dropped_and_nothing_else(tmp_path, segment_bytes):
    place = InFolder(tmp_path, segment_bytes=segment_bytes)
    entries = [str(n).encode() for n in range(1, 33)]
    place.snapshotted(entries, 10)
    assert place.replayed(20) == numbered(entries)[20:]
    with pytest.raises(CheckpointError, match="lacks entries 1 to 20"):
        place.replayed()


def test_without_a_whole_snapshot_everything_is_replayed_as_long_as_it_is_there(place, tmp_path):
    place.snapshotted(ENTRIES, 4)
    snapshots.path_of(tmp_path, 4).write_bytes(b"")
    assert place.recovered() == (None, numbered(ENTRIES))


def test_without_a_whole_snapshot_and_without_the_first_entries_the_journal_is_refused(place, tmp_path):
    place.snapshotted(ENTRIES, 2)
    for path in tmp_path.glob("snapshot-*"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="lacks entries 1 to 2"):
        place.recovered()


def test_a_snapshot_whose_entries_were_taken_away_stands_and_the_journal_goes_on_after_it(place, tmp_path, caplog):
    place.snapshotted(ENTRIES, 4)
    for path in tmp_path.glob("segment-*"):
        path.unlink()
    assert place.commit([b"more"]) == [(5, b"more")]
    assert place.recovered()[1] == [(5, b"more")]
    assert "newer than the last entry" in caplog.text


def test_a_last_segment_that_is_gone_is_told_with_the_entries_that_it_held(tmp_path, caplog):
    place = InFolder(tmp_path, segment_bytes=1)
    place.commit(ENTRIES)
    assert place.recovered()[1]
    assert "gone" not in caplog.text
    gone = last_segment(tmp_path)
    gone.unlink()
    assert place.recovered()[1] == numbered(ENTRIES)[: int(gone.name.removeprefix("segment-")) - 1]
    assert f"{gone} is gone, and with it all entries from {int(gone.name.removeprefix('segment-'))} on" in caplog.text


def test_lag_is_how_long_the_oldest_entry_has_waited_for_its_sync(tmp_path, monkeypatch):
    actual = os.fdatasync

    def slow(file):
        time.sleep(0.1)
        actual(file)

    async def run():
        journal = FolderJournal(tmp_path)
        assert journal.lag == 0.0
        monkeypatch.setattr(os, "fdatasync", slow)
        task = asyncio.create_task(journal.commit(b"entry", lambda n: n))
        await asyncio.sleep(0.05)
        assert journal.lag >= 0.04
        await task
        assert journal.lag == 0.0
        await journal.close()

    asyncio.run(run())


@pytest.fixture
def stalled(monkeypatch):
    """The disk stands still until this is set; already so short a time is slow."""
    actual, goes_on = os.fdatasync, threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda file: (goes_on.wait(), actual(file)))
    monkeypatch.setattr(sync_times, "QUICK", 0.02)
    monkeypatch.setattr(sync_times, "SLOW", 0.05)
    yield goes_on
    goes_on.set()


async def true(holds):
    while not holds():
        await asyncio.sleep(0.005)


def test_a_sync_that_takes_long_is_told_with_who_waits_for_it_while_it_lasts_and_after(tmp_path, stalled):
    async def run():
        journal = FolderJournal(tmp_path)
        task = asyncio.create_task(journal.commit(b"entry", lambda n: n))
        await true(lambda: journal.trouble)
        assert (journal.waiting, task.done()) == (1, False)
        assert "goes on; 1 answers wait for it" in journal.trouble
        await asyncio.sleep(0.05)  # the journal's thread, which tells how long it took, may have begun that much later
        stalled.set()
        await task
        assert (journal.waiting, len(journal.seconds)) == (0, 1)
        assert journal.seconds.sum >= 0.05
        assert "s ago" in journal.trouble
        await journal.close()

    asyncio.run(asyncio.wait_for(run(), GENEROUS))


def test_at_async_a_slow_disk_stops_neither_commits_nor_the_next_segment_for_ever(place, tmp_path, stalled):
    entries = [str(n).encode() for n in range(50)]

    async def run():
        journal = FolderJournal(tmp_path, "async", segment_bytes=100)
        await journal.commit(entries[0], lambda n: n)
        await true(lambda: journal.trouble)
        for entry in entries[1:40]:
            await journal.commit(entry, lambda n: n)
        assert "no answer waits for it" in journal.trouble
        assert len(list(tmp_path.glob("segment-*"))) == 1
        stalled.set()
        await true(lambda: journal.lag == 0.0)  # that sync, and the one after it, which is quick
        await true(lambda: len(list(tmp_path.glob("segment-*"))) == 2)
        for entry in entries[40:]:
            await journal.commit(entry, lambda n: n)
        await journal.close()

    asyncio.run(asyncio.wait_for(run(), GENEROUS))
    assert place.replayed() == numbered(entries)
    assert len(list(tmp_path.glob("segment-*"))) > 2


@pytest.mark.parametrize(("postponed", "begin"), [(0.0, True), (3_600.0, False)])
def test_on_a_disk_that_is_never_quick_a_segment_is_only_postponed(tmp_path, monkeypatch, postponed, begin):
    monkeypatch.setattr(sync_times, "QUICK", 0.0)
    monkeypatch.setattr(folder_journal, "POSTPONED", postponed)

    async def run():
        journal = FolderJournal(tmp_path, segment_bytes=1)
        for entry in (b"a", b"b", b"c", b"d"):
            await journal.commit(entry, lambda n: n)
            await asyncio.sleep(0.01)
        await journal.close()

    asyncio.run(run())
    assert (len(list(tmp_path.glob("segment-*"))) > 1) is begin


@pytest.mark.parametrize("options", [{"durability": "none"}, {"segment_bytes": 0}], ids=["level", "segment"])
def test_a_wrong_argument_is_named(tmp_path, options):
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        FolderJournal(tmp_path, **options)


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JournalUnavailable, match=r"cannot be opened: Not a directory; name a folder that"):
        FolderJournal(tmp_path / "file" / "folder")
