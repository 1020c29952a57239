"""The journal in a folder: what was committed is there, whatever happens to the process, the disk or the files."""

import asyncio
import errno
import logging
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import journal as module
from onlineguard_service.journal import snapshots
from onlineguard_service.journal.journal import FolderJournal

from onlineguard.errors import CheckpointError, InvalidArgument

LEVELS = ("async", "group", "sync")
ENTRIES = [b"the first", b"", b"x" * 100, b"the last but one", b"the last"]
HEADER, FRAME = 28, 20  # bytes
MEMORY = "/dev/shm"  # for the many examples of a property, whose syncs then cost nothing


def commit(folder, entries, **options):
    """Commit entries one after another and close; what `apply` was called with."""

    async def run():
        journal = FolderJournal(folder, **options)
        applied = [await journal.commit(entry, lambda n, entry=entry: (n, entry)) for entry in entries]
        await journal.close()
        return applied

    return asyncio.run(run())


def replayed(folder, after=0):
    """What a journal that is opened anew replays."""
    journal = FolderJournal(folder, "async")
    try:
        return list(journal.replay(after))
    finally:
        asyncio.run(journal.close())


def numbered(entries):
    return list(enumerate(entries, 1))


def last_segment(folder):
    return max(folder.glob("segment-*"))


@contextmanager
def folder():
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as path:
        yield Path(path)


@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(1, 200), st.sampled_from(LEVELS), st.data())
@settings(max_examples=40)
def test_replay_gives_what_was_committed_after_any_entry_and_any_restart(entries, segment_bytes, level, data):
    cut, after = data.draw(st.integers(0, len(entries))), data.draw(st.integers(0, len(entries)))
    with folder() as path:
        first = commit(path, entries[:cut], durability=level, segment_bytes=segment_bytes)
        second = commit(path, entries[cut:], durability=level, segment_bytes=segment_bytes)
        assert first + second == numbered(entries)
        assert replayed(path, after) == numbered(entries)[after:]


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6), st.integers(1, 150), st.data())
@settings(max_examples=60)
def test_any_cut_of_the_last_segment_leaves_the_entries_before_it_and_the_journal_goes_on(entries, segment_bytes, data):
    with folder() as path:
        commit(path, entries, durability="async", segment_bytes=segment_bytes)
        last = last_segment(path)
        length = data.draw(st.integers(0, last.stat().st_size))
        os.truncate(last, length)
        first = int(last.name.removeprefix("segment-"))
        kept, end = first - 1, HEADER
        for entry in entries[first - 1 :]:
            end += FRAME + len(entry)
            kept += end <= length
        assert commit(path, [b"more"], durability="async") == [(kept + 1, b"more")]
        assert replayed(path) == numbered([*entries[:kept], b"more"])


@pytest.mark.parametrize("tail", [b"\0", bytes(5000), b"garbage" * 40, "half", "half and zeros"])
def test_a_torn_tail_is_cut_off_and_the_log_says_how_many_bytes(tmp_path, caplog, tail):
    commit(tmp_path, [*ENTRIES, b"torn" * 20], durability="async")
    path = last_segment(tmp_path)
    contents = path.read_bytes()
    whole = len(contents) - FRAME - 80
    if isinstance(tail, str):
        tail = contents[whole:-30] + bytes(50 if "zeros" in tail else 0)
    path.write_bytes(contents[:whole] + tail)
    assert replayed(tmp_path) == numbered(ENTRIES)
    assert path.stat().st_size == whole
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert f"{len(tail)} bytes" in record.getMessage()


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=8), st.integers(1, 120), st.data())
@settings(max_examples=150)
def test_a_flipped_byte_is_an_error_or_costs_the_last_entry_and_never_goes_unseen(entries, segment_bytes, data):
    with folder() as path:
        commit(path, entries, durability="async", segment_bytes=segment_bytes)
        segment = data.draw(st.sampled_from(sorted(path.glob("segment-*"))))
        contents = bytearray(segment.read_bytes())
        at = data.draw(st.integers(0, len(contents) - 1))
        contents[at] ^= data.draw(st.integers(1, 255))
        segment.write_bytes(contents)
        tail = len(contents) - FRAME - len(entries[-1])  # where the last entry begins, in the last segment
        if segment == last_segment(path) and at >= max(HEADER, tail):
            assert replayed(path) == numbered(entries[:-1])
        else:
            with pytest.raises(CheckpointError, match=str(segment)):
                replayed(path)


def test_damage_in_the_middle_names_the_file_the_offset_and_a_way_out(tmp_path):
    commit(tmp_path, ENTRIES)
    path = last_segment(tmp_path)
    contents = bytearray(path.read_bytes())
    second = HEADER + FRAME + len(ENTRIES[0])
    contents[second : second + FRAME + 10] = bytes(FRAME + 10)  # the second entry and a part of the third
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=rf"{path} is damaged at byte {second}.* backup"):
        FolderJournal(tmp_path)
    assert path.read_bytes() == contents  # untouched


def test_a_client_cannot_forge_an_entry_behind_a_torn_one(tmp_path):
    def entry(mark, sequence):
        rest = struct.pack("<IQ", 0, sequence)
        return struct.pack("<II", mark, zlib.crc32(rest, mark)) + rest

    commit(tmp_path, [b"".join(entry(mark, n) for mark in range(30) for n in range(1, 4))])
    path = last_segment(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    assert replayed(tmp_path) == []


def test_a_missing_segment_is_an_error_that_says_which_entries(tmp_path):
    commit(tmp_path, ENTRIES, segment_bytes=1)
    sorted(tmp_path.glob("segment-*"))[2].unlink()
    with pytest.raises(CheckpointError, match="entries 3 to 3"):
        replayed(tmp_path)
    assert replayed(tmp_path, 3) == numbered(ENTRIES)[3:]


@pytest.mark.parametrize("last", [True, False])
def test_a_newer_format_asks_for_an_upgrade(tmp_path, last):
    commit(tmp_path, ENTRIES, segment_bytes=1)
    path = sorted(tmp_path.glob("segment-*"))[-1 if last else 1]
    contents = path.read_bytes()
    header = contents[:8] + struct.pack("<I", module.VERSION + 1) + contents[12:24]
    path.write_bytes(header + struct.pack("<I", zlib.crc32(header)) + contents[HEADER:])
    with pytest.raises(CheckpointError, match="upgrade"):
        replayed(tmp_path)


def test_a_second_process_is_refused_until_the_first_has_closed(tmp_path):
    script = (
        "import sys, pathlib; from onlineguard_service.journal.journal import FolderJournal; "
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


def test_entries_of_many_at_once_are_applied_in_the_order_of_the_journal(tmp_path):
    async def run(level):
        journal = FolderJournal(tmp_path / level, level)
        applied = []

        async def one(i):
            await asyncio.sleep(random.Random(i).random() / 100)
            entry = str(i).encode()
            return await journal.commit(entry, lambda n: applied.append((n, entry)) or i)

        assert await asyncio.gather(*map(one, range(100))) == list(range(100))
        await journal.close()
        return applied

    for level in LEVELS:
        applied = asyncio.run(run(level))
        assert len(applied) == 100
        assert applied == replayed(tmp_path / level)


def test_an_apply_that_raises_leaves_its_entry_and_the_journal_goes_on(tmp_path):
    async def run(level):
        journal = FolderJournal(tmp_path / level, level)
        with pytest.raises(ZeroDivisionError):
            await journal.commit(b"raises", lambda n: n / 0)
        assert await journal.commit(b"fine", lambda n: n) == 2
        await journal.close()

    for level in LEVELS:
        asyncio.run(run(level))
        assert replayed(tmp_path / level) == [(1, b"raises"), (2, b"fine")]


def test_a_cancelled_commit_leaves_the_others_alone(tmp_path):
    async def run():
        journal = FolderJournal(tmp_path)
        tasks = [asyncio.create_task(journal.commit(b"entry", lambda n: n)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        assert await asyncio.gather(*tasks[::2]) == [1, 3]
        await journal.close()

    asyncio.run(run())


# Disks that fail


async def refused(journal, entry=b"refused"):
    with pytest.raises(JournalUnavailable) as raised:
        await journal.commit(entry, lambda _: pytest.fail("an entry that was not kept was applied"))
    return str(raised.value)


@pytest.mark.parametrize("level", LEVELS)
def test_a_write_that_ends_early_is_cut_off_and_the_next_commit_works(tmp_path, monkeypatch, level):
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
    assert replayed(tmp_path) == [(1, b"before"), (2, b"after")]


def test_a_part_that_cannot_be_cut_off_stops_the_journal_until_a_restart(tmp_path, monkeypatch):
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
    assert commit(tmp_path, [b"after"]) == [(2, b"after")]
    assert replayed(tmp_path) == [(1, b"before"), (2, b"after")]


@pytest.mark.parametrize("level", LEVELS)
def test_a_sync_that_fails_stops_the_journal_and_those_who_wait_hear_of_it(tmp_path, monkeypatch, level):
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
    entries = replayed(tmp_path)
    assert entries[0] == (1, b"before")
    assert commit(tmp_path, [b"after"]) == [(len(entries) + 1, b"after")]


def test_a_restart_writes_the_last_segment_again_for_a_sync_that_failed_may_have_left_it_off_the_disk(
    tmp_path, monkeypatch
):
    commit(tmp_path, ENTRIES)
    written, actual = [], os.pwrite

    def spy(file, part, at):
        length = actual(file, part, at)
        written.append((at, bytes(part[:length])))
        return length

    monkeypatch.setattr(os, "pwrite", spy)
    assert replayed(tmp_path) == numbered(ENTRIES)
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


def test_a_full_disk_refuses_entries_until_there_is_room_and_loses_none(tmp_path):
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
        assert replayed(tmp_path) == kept
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_file_size_limit_refuses_entries_until_it_is_raised_and_loses_none(tmp_path):
    """In a process of its own, which the limit holds for."""
    module = "tests.service.journal.test_journal"
    script = f"import sys; sys.path[:0] = {sys.path!r}; import {module} as own; own.under_a_limit(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)


def under_a_limit(name):
    """What the test above runs."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    kept = filled(Path(name), lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))
    assert replayed(Path(name)) == kept


# Snapshots


def snapshotted(folder, entries, every, **options):
    """Commit entries with a snapshot of their number and the last one after every so many."""

    async def run():
        journal = FolderJournal(folder, "async", **options)
        for i, entry in enumerate(entries, 1):
            await journal.commit(entry, lambda n: n)
            if i % every == 0:
                assert await journal.begin_snapshot({"n": str(i).encode(), "last": entry}) == i
        await journal.close()

    asyncio.run(run())


def recovered(folder):
    """The newest snapshot and what is replayed after it."""
    journal = FolderJournal(folder, "async")
    try:
        newest = journal.newest_snapshot()
        return newest, list(journal.replay(newest[0] if newest else 0))
    finally:
        asyncio.run(journal.close())


def test_the_two_newest_snapshots_are_kept_with_all_entries_after_the_older(tmp_path):
    entries = [str(i).encode() for i in range(1, 33)]
    snapshotted(tmp_path, entries, 10, segment_bytes=60)
    assert snapshots.found(tmp_path) == [30, 20]
    assert recovered(tmp_path) == ((30, {"n": b"30", "last": b"30"}), [(31, b"31"), (32, b"32")])
    assert replayed(tmp_path, 20) == numbered(entries)[20:]
    with pytest.raises(CheckpointError, match="lacks entries 1 to 20"):
        replayed(tmp_path, 0)


def test_a_damaged_newest_snapshot_falls_back_to_the_older_and_is_then_replaced(tmp_path, caplog):
    entries = [str(i).encode() for i in range(1, 33)]
    snapshotted(tmp_path, entries, 10)
    path = snapshots.path_of(tmp_path, 30)
    path.write_bytes(path.read_bytes()[:-1])
    journal = FolderJournal(tmp_path)
    assert journal.newest_snapshot() == (20, {"n": b"20", "last": b"20"})
    assert list(journal.replay(20)) == numbered(entries)[20:]
    assert f"{path} is damaged" in caplog.text

    async def snapshot():
        await journal.begin_snapshot({"n": b"32"})
        await journal.close()

    asyncio.run(snapshot())
    assert snapshots.found(tmp_path) == [32, 20]  # the damaged one is not what entries are kept for
    assert replayed(tmp_path, 20) == numbered(entries)[20:]


def test_without_a_whole_snapshot_everything_is_replayed_as_long_as_it_is_there(tmp_path):
    snapshotted(tmp_path, ENTRIES, 4)
    snapshots.path_of(tmp_path, 4).write_bytes(b"")
    assert recovered(tmp_path) == (None, numbered(ENTRIES))


def test_without_a_whole_snapshot_and_without_the_first_entries_the_journal_is_refused(tmp_path):
    snapshotted(tmp_path, ENTRIES, 2)
    for path in tmp_path.glob("snapshot-*"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="lacks entries 1 to 2"):
        recovered(tmp_path)


def test_a_snapshot_of_a_newer_format_is_never_passed_over(tmp_path, monkeypatch):
    snapshotted(tmp_path, ENTRIES, 2)
    monkeypatch.setattr(snapshots, "VERSION", snapshots.VERSION + 1)
    snapshots.write(tmp_path, 4, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="upgrade"):
        recovered(tmp_path)


def test_a_snapshot_whose_entries_were_taken_away_stands_and_the_journal_goes_on_after_it(tmp_path, caplog):
    snapshotted(tmp_path, ENTRIES, 4)
    for path in tmp_path.glob("segment-*"):
        path.unlink()
    assert commit(tmp_path, [b"more"]) == [(5, b"more")]
    assert recovered(tmp_path)[1] == [(5, b"more")]
    assert "newer than the last entry" in caplog.text


def test_commits_go_on_while_a_snapshot_is_written_and_two_of_them_wait_for_each_other(tmp_path):
    async def run():
        journal = FolderJournal(tmp_path)
        await journal.commit(b"first", lambda n: n)
        large = journal.begin_snapshot({"large": bytes(20 << 20)})
        await journal.commit(b"second", lambda n: n)
        small = journal.begin_snapshot({"small": b""})
        await journal.commit(b"third", lambda n: n)
        assert await asyncio.gather(large, small) == [1, 2]
        await journal.close()

    asyncio.run(run())
    assert recovered(tmp_path) == ((2, {"small": b""}), [(3, b"third")])


def test_close_waits_for_what_is_under_way_and_nothing_is_taken_after_it(tmp_path):
    async def run():
        journal = FolderJournal(tmp_path)
        tasks = [asyncio.create_task(journal.commit(b"entry", lambda n: n)) for _ in range(5)]
        await asyncio.sleep(0)
        snapshot = asyncio.ensure_future(journal.begin_snapshot({"large": bytes(5 << 20)}))
        await journal.close()
        assert snapshot.done()
        assert await asyncio.gather(*tasks) == [1, 2, 3, 4, 5]
        assert "closed" in await refused(journal)
        await journal.close()

    asyncio.run(run())
    assert recovered(tmp_path) == ((5, {"large": bytes(5 << 20)}), [])


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


@pytest.mark.parametrize("options", [{"durability": "none"}, {"segment_bytes": 0}], ids=["level", "segment"])
def test_a_wrong_argument_is_named(tmp_path, options):
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        FolderJournal(tmp_path, **options)


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JournalUnavailable, match="cannot be opened"):
        FolderJournal(tmp_path / "file" / "folder")


# Kills

CHILD = """
import asyncio, os, sys
from pathlib import Path
from onlineguard_service.journal.journal import FolderJournal

async def main(folder, level):
    journal = FolderJournal(Path(folder), level, segment_bytes=30_000)
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
            n = await journal.begin_snapshot({"n": str(journal.sequence).encode()})
            await asyncio.sleep(0.02)

    await asyncio.gather(*map(writer, range(4)), snapshots())

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_after_kill_9_at_any_moment_all_that_was_answered_is_there_in_order(tmp_path, level):
    moments, answered, before = random.Random(level), 0, 0
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", CHILD, tmp_path, level], stdout=subprocess.PIPE) as child:
            first = child.stdout.read(10)  # it runs
            timer = moments.uniform(0.0, 0.06)
            time.sleep(timer)
            child.send_signal(signal.SIGKILL)
            told = first + child.stdout.read()
        acknowledged = {
            int.from_bytes(told[i : i + 8]): told[i + 8 : i + 10] for i in range(0, len(told) - len(told) % 10, 10)
        }
        newest, entries = recovered(tmp_path)
        start = newest[0] if newest else 0
        assert newest is None or newest[1] == {"n": str(newest[0]).encode()}
        assert [n for n, _ in entries] == list(range(start + 1, start + 1 + len(entries)))
        assert start + len(entries) >= max(acknowledged)
        assert min(acknowledged) > before
        there = dict(entries)
        assert all(there[n][:2] == begin for n, begin in acknowledged.items() if n > start)
        answered, before = answered + len(acknowledged), max(acknowledged)
    assert answered > 12


def test_the_journal_is_imported_without_jax():
    script = (
        "import sys, onlineguard_service.journal.journal, onlineguard_service.journal.redis_journal; "
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
