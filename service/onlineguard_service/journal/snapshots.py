"""Snapshots: a state as named bytes, kept as one file each, `snapshot-<sequence>`, or in pieces anywhere else.

| bytes | |
|---|---|
| 8 | `OGSNAPSH` |
| 4, 4 | format version; length of the table that follows |
| the table | JSON: the sequence number, and name and length of each part |
| the rest | the parts, one after another |
| last 32 | SHA-256 of all before |

All numbers are little-endian. Every version keeps the first twelve bytes and the last 32, so that a newer snapshot can
be told from a damaged one.
"""

import hashlib
import json
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from onlineguard import atomic
from onlineguard.errors import CheckpointError

VERSION = 1
PIECE = 1 << 20  # bytes; written and synced piece by piece, so that the journal's own syncs never queue behind much
REST = 3.0  # the disk's share that is left to the journal: three times as long as a piece took, but at most
LONGEST_REST = 0.02  # seconds

_MAGIC = b"OGSNAPSH"
_LEAD = struct.Struct("<8sII")
_DIGEST = hashlib.sha256().digest_size
_NAME = "snapshot-"

Reading = Future[tuple[int, dict[str, bytes]]]  # what `read` will return
_ahead: dict[Path, tuple[tuple[int, ...], Reading]] = {}  # the file that is read before it is asked for, with its mark


class DamagedSnapshot(CheckpointError):
    """A snapshot whose contents are not what was written; an older one may still be whole."""


def write(folder: Path, sequence: int, parts: Mapping[str, bytes | memoryview]) -> Path:
    """Write the file: a crash leaves the whole snapshot or none. Raises OSError, e.g. where the disk is full."""
    path = path_of(folder, sequence)
    with atomic.replacing(path) as temporary, open(temporary, "wb", buffering=0, opener=_for_us) as file:
        for piece in pieces(sequence, parts):
            start = time.perf_counter()
            left = memoryview(piece)
            while left:
                left = left[file.write(left) :]
            os.fdatasync(file.fileno())
            time.sleep(min(REST * (time.perf_counter() - start), LONGEST_REST))
    return path


def _for_us(path: str, flags: int) -> int:
    """Open a file that other users of the machine cannot read, like the journal's: it holds what people did."""
    return os.open(path, flags, 0o640)


def read_ahead(folder: Path) -> None:
    """Begin to read the newest snapshot in a thread, for the `read` of it that comes soon: while modules are imported.

    That it is damaged, or missing, is for `read` to tell.
    """
    for sequence in found(folder)[:1]:
        path, reading = path_of(folder, sequence), Reading()
        with suppress(OSError):
            _ahead[path] = _mark(path), reading
            threading.Thread(target=_read_for, args=(path, reading), name="onlineguard-snapshot", daemon=True).start()


def read(path: Path) -> tuple[int, dict[str, bytes]]:
    """The sequence number and the parts. Raises DamagedSnapshot, or CheckpointError where the format is newer."""
    mark, reading = _ahead.pop(path, (None, None))
    _ahead.clear()
    with suppress(OSError):
        if reading is not None and mark == _mark(path):
            return reading.result()
    return _read(path)


def _read_for(path: Path, reading: Reading) -> None:
    try:
        reading.set_result(_read(path))
    except BaseException as error:
        reading.set_exception(error)


def _mark(path: Path) -> tuple[int, ...]:
    """What is another where a file was written anew."""
    about = path.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _read(path: Path) -> tuple[int, dict[str, bytes]]:
    try:
        with open(path, "rb", buffering=0) as file:
            return whole(iter(lambda: file.read(PIECE), b""), str(path))
    except OSError as error:
        raise DamagedSnapshot(f"cannot read {path}: {error.strerror or error}") from error


def part_of(path: Path, name: str) -> bytes | None:
    """One part of a snapshot, None where it has none of that name; nothing else is read, so no checksum is compared.

    Raises DamagedSnapshot.
    """
    try:
        with open(path, "rb") as file:
            lead = file.read(_LEAD.size)
            sizes = sizes_of(lead + file.read(_table_bytes(lead)))
            if name not in sizes:
                return None
            for each, size in sizes.items():
                if each == name:
                    return file.read(size)
                file.seek(size, os.SEEK_CUR)
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise DamagedSnapshot(f"cannot read the part {name} of {path}: {error}") from error


def pieces_of(first: bytes, name: str) -> range | None:
    """Which of a snapshot's pieces hold a part, by the first of them; None where it has none of that name.

    Raises DamagedSnapshot.
    """
    try:
        at = -(-(_LEAD.size + _table_bytes(first)) // PIECE)
        for each, size in sizes_of(first).items():
            count = -(-size // PIECE)
            if each == name:
                return range(at, at + count)
            at += count
    except (ValueError, KeyError, struct.error) as error:
        raise DamagedSnapshot(f"the table of a snapshot cannot be read: {error}") from error
    return None


def sizes_of(first: bytes) -> dict[str, int]:
    """The bytes of each part, in order, of a snapshot that begins so."""
    return dict(json.loads(first[_LEAD.size : _LEAD.size + _table_bytes(first)])["parts"])


def _table_bytes(first: bytes) -> int:
    return _LEAD.unpack_from(first)[2]


def found(folder: Path) -> list[int]:
    """The sequence numbers of the snapshots in a folder, newest first, whether whole or not."""
    names = (path.name.removeprefix(_NAME) for path in folder.glob(f"{_NAME}*"))
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def path_of(folder: Path, sequence: int) -> Path:
    """Where the snapshot of that sequence number lies."""
    return folder / f"{_NAME}{sequence:020}"


def pieces(sequence: int, parts: Mapping[str, bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The snapshot as at most `PIECE` bytes at a time; no part is copied."""
    table = json.dumps({"sequence": sequence, "parts": [[name, len(part)] for name, part in parts.items()]}).encode()
    digest = hashlib.sha256()
    for block in (_LEAD.pack(_MAGIC, VERSION, len(table)) + table, *parts.values()):
        for start in range(0, len(block), PIECE):
            piece = memoryview(block)[start : start + PIECE]
            digest.update(piece)
            yield piece
    yield digest.digest()


def whole(taken: Iterable[bytes], name: str) -> tuple[int, dict[str, bytes]]:
    """The sequence number and the parts of a snapshot that comes in pieces of any length. Raises as `read` does."""
    contents = bytearray()
    for piece in taken:
        contents += piece
    view = memoryview(contents)
    if len(view) < _LEAD.size + _DIGEST or hashlib.sha256(view[:-_DIGEST]).digest() != bytes(view[-_DIGEST:]):
        raise DamagedSnapshot(f"{name} is damaged or cut off: its checksum is not that of its contents")
    magic, version, length = _LEAD.unpack_from(view)
    if magic != _MAGIC:
        raise DamagedSnapshot(f"{name} is no snapshot: it begins with {bytes(magic)!r}")
    if version > VERSION:
        raise CheckpointError(
            f"{name} has format {version} and this version of onlineguard reads up to {VERSION}; upgrade it"
        )
    start = _LEAD.size + length
    table = json.loads(bytes(view[_LEAD.size : start]))
    parts: dict[str, bytes] = {}
    for part, size in table["parts"]:
        parts[part] = bytes(view[start : start + size])
        start += size
    return table["sequence"], parts
