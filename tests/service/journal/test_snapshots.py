"""Snapshots: whole or not there at all, and never taken for what they are not."""

import errno
import hashlib
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onlineguard_service.journal import snapshots
from onlineguard_service.journal.snapshots import PIECE, DamagedSnapshot, found, path_of, pieces, read, whole, write

from onlineguard.errors import CheckpointError

PARTS = {"engine": b"\x00\x01" * 50, "answers": b"", "a name / with ü": b"x"}


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=200)), st.integers(0, 2**63)
)
def test_what_was_written_is_read(parts, sequence):
    assert whole(map(bytes, pieces(sequence, parts)), "it") == (sequence, parts)


def test_a_file_holds_it_and_its_name_says_the_sequence_number(tmp_path):
    for sequence in (9, 100, 11):
        write(tmp_path, sequence, PARTS | {"of": str(sequence).encode()})
    assert found(tmp_path) == [100, 11, 9]
    assert read(path_of(tmp_path, 11)) == (11, PARTS | {"of": b"11"})
    assert sorted(os.listdir(tmp_path)) == [f"snapshot-{n:020}" for n in (9, 11, 100)]


def test_other_users_of_the_machine_cannot_read_a_file(tmp_path):
    path = snapshots.write(tmp_path, 1, {"a": b"1"})
    assert path.stat().st_mode & 0o007 == 0


def test_a_large_part_is_handed_out_in_pieces_without_being_copied():
    part = bytes(3 * PIECE + 5)
    views = [piece for piece in pieces(1, {"large": part}) if isinstance(piece, memoryview) and piece.obj is part]
    assert [len(view) for view in views] == [PIECE] * 3 + [5]


def test_every_flipped_byte_and_every_cut_is_found(tmp_path):
    contents = write(tmp_path, 7, PARTS).read_bytes()
    path = path_of(tmp_path, 8)
    for i in range(len(contents)):
        path.write_bytes(contents[:i] + bytes([contents[i] ^ 1]) + contents[i + 1 :])
        with pytest.raises(DamagedSnapshot, match=str(path)):
            read(path)
        path.write_bytes(contents[:i])
        with pytest.raises(DamagedSnapshot):
            read(path)


def test_a_newer_format_is_no_damage_but_asks_for_an_upgrade(tmp_path):
    contents = write(tmp_path, 7, PARTS).read_bytes()[:-32]
    newer = contents[:8] + struct.pack("<I", snapshots.VERSION + 1) + contents[12:] + b"of a later time"
    path = path_of(tmp_path, 8)
    path.write_bytes(newer + hashlib.sha256(newer).digest())
    with pytest.raises(CheckpointError, match="upgrade") as raised:
        read(path)
    assert not isinstance(raised.value, DamagedSnapshot)


def test_another_file_with_a_right_checksum_is_no_snapshot(tmp_path):
    path = path_of(tmp_path, 8)
    path.write_bytes(bytes(40) + hashlib.sha256(bytes(40)).digest())
    with pytest.raises(DamagedSnapshot, match="no snapshot"):
        read(path)


def test_a_missing_file_counts_as_damaged(tmp_path):
    with pytest.raises(DamagedSnapshot, match="cannot read"):
        read(path_of(tmp_path, 8))


def test_a_disk_that_fails_leaves_the_older_one_and_no_rest(tmp_path, monkeypatch):
    write(tmp_path, 7, PARTS)

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, 7, {"other": b""})
    monkeypatch.undo()
    assert read(path_of(tmp_path, 7)) == (7, PARTS)
    assert len(os.listdir(tmp_path)) == 1


def test_a_file_that_is_read_ahead_is_read_once(tmp_path, monkeypatch):
    write(tmp_path, 3, PARTS)
    write(tmp_path, 4, PARTS | {"newest": b"4"})
    taken: list[str] = []
    monkeypatch.setattr(snapshots, "whole", lambda pieces, name: (taken.append(name), whole(pieces, name))[1])
    snapshots.read_ahead(tmp_path)
    assert read(path_of(tmp_path, 4)) == (4, PARTS | {"newest": b"4"})
    assert taken == [str(path_of(tmp_path, 4))]
    assert read(path_of(tmp_path, 4)) == (4, PARTS | {"newest": b"4"})
    assert len(taken) == 2


def test_what_came_after_a_file_was_read_ahead_is_read(tmp_path):
    write(tmp_path, 4, PARTS)
    snapshots.read_ahead(tmp_path)
    write(tmp_path, 5, PARTS | {"newest": b"5"})
    assert read(path_of(tmp_path, 5))[0] == 5
    assert not snapshots._ahead  # pyright: ignore[reportPrivateUsage]
    snapshots.read_ahead(tmp_path)
    write(tmp_path, 5, PARTS | {"again": b"5"})
    assert read(path_of(tmp_path, 5)) == (5, PARTS | {"again": b"5"})


def test_damage_that_was_read_ahead_is_told_by_the_read(tmp_path):
    path = write(tmp_path, 4, PARTS)
    path.write_bytes(path.read_bytes()[:-1])
    snapshots.read_ahead(tmp_path)
    with pytest.raises(DamagedSnapshot, match="its checksum"):
        read(path)
    snapshots.read_ahead(tmp_path / "nowhere")
