"""The format of a segment: a file of entries, `segment-<first sequence number>`.

| bytes of a segment | |
|---|---|
| 8, 4 | `OGJOURNL`; format version |
| 4 | the mark: a random number of this segment |
| 8 | sequence number of its first entry |
| 4 | CRC-32 of the above |
| for each entry: 4, 4 | the mark; CRC-32, begun with the mark, of all that follows |
| 4, 8, ... | length of the entry; its sequence number; the entry |

All numbers are little-endian, and every version keeps the first 28 bytes. The mark is how a good entry is found behind
a bad one; being random, it cannot be forged by what a client sends.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from onlineguard.errors import CheckpointError

VERSION = 1
LONGEST = 1 << 30  # bytes of an entry; one write of Linux takes up to twice that

_MAGIC = b"OGJOURNL"
_HEADER = struct.Struct("<8sIIQ")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
_LEAD = struct.Struct("<II")  # mark, CRC
_REST = struct.Struct("<IQ")  # length, sequence number
_FRAME_BYTES = _LEAD.size + _REST.size
_NAME = "segment-"


class Segment(NamedTuple):
    first: int  # sequence number
    path: Path
    size: int  # bytes; of the last one not kept up


def path_of(folder: Path, first: int) -> Path:
    """The path of the segment whose first entry has that sequence number."""
    return folder / f"{_NAME}{first:020}"


def header(mark: int, first: int) -> bytes:
    """What a segment begins with."""
    fields = _HEADER.pack(_MAGIC, VERSION, mark, first)
    return fields + _CRC.pack(zlib.crc32(fields))


def frame(mark: int, sequence: int, entry: bytes) -> bytes:
    """What is written before an entry."""
    rest = _REST.pack(len(entry), sequence)
    return _LEAD.pack(mark, zlib.crc32(entry, zlib.crc32(rest, mark))) + rest


def found(folder: Path) -> list[Segment]:
    """The segments in a folder, in order."""
    there: list[Segment] = []
    for path in sorted(folder.glob(f"{_NAME}*")):
        first = path.name.removeprefix(_NAME)
        if first.isdecimal():
            there.append(Segment(int(first), path, path.stat().st_size))
    return there


def is_torn(path: Path) -> bool:
    """Whether a crash came before the header was written: it is cut short, or the file is nothing but zeros."""
    contents = path.read_bytes()
    return len(contents) < HEADER_BYTES or contents.count(0) == len(contents)


def mark_of(segment: Segment, contents: bytes) -> int:
    """The mark in the header of a segment."""
    if len(contents) >= HEADER_BYTES and _CRC.unpack_from(contents, _HEADER.size) == (
        zlib.crc32(contents[: _HEADER.size]),
    ):
        magic, version, mark, first = _HEADER.unpack_from(contents)
        if magic == _MAGIC and version > VERSION:
            raise CheckpointError(
                f"{segment.path} has format {version} and this version of onlineguard reads up to {VERSION}; upgrade it"
            )
        if (magic, first) == (_MAGIC, segment.first):
            return mark
    raise CheckpointError(damage(segment.path, 0))


def good(contents: bytes, mark: int, first: int, at: int = HEADER_BYTES) -> Iterator[tuple[int, int, int]]:
    """Sequence number, start and end of the good entries from `at`, where that of number `first` begins, up to the
    first bad one."""
    stop, sequence = at, first
    while (span := _entry(contents, mark, stop)) and span[0] == sequence:
        yield span
        stop, sequence = span[2], sequence + 1


def _entry(contents: bytes, mark: int, at: int) -> tuple[int, int, int] | None:
    """Sequence number, start and end of the entry whose frame is at `at`, if it is a good one."""
    start = at + _FRAME_BYTES
    if start > len(contents):
        return None
    found, crc = _LEAD.unpack_from(contents, at)
    length, sequence = _REST.unpack_from(contents, at + _LEAD.size)
    stop = start + length
    if found != mark or stop > len(contents):
        return None
    actual = zlib.crc32(memoryview(contents)[start:stop], zlib.crc32(contents[at + _LEAD.size : start], mark))
    return (sequence, start, stop) if actual == crc else None


def good_behind(contents: bytes, mark: int, at: int, sequence: int) -> bool:
    """Whether a good entry that is newer than `sequence` lies anywhere behind `at`."""
    pattern = mark.to_bytes(4, "little")
    while (at := contents.find(pattern, at + 1)) >= 0:
        span = _entry(contents, mark, at)
        if span is not None and span[0] > sequence:
            return True
    return False


def write_again(path: Path, contents: bytes, end: int) -> None:
    """Cut a segment off and write what it holds over itself, for the next sync: after a sync that failed, the operating
    system may show what the disk does not have, and takes it for synced."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(file, end)
        at = 0
        while at < end:
            at += os.pwrite(file, memoryview(contents)[at:end], at)
    finally:
        os.close(file)


def damage(path: Path, offset: int) -> str:
    """What to say of a segment that is damaged there."""
    return (
        f"{path} is damaged at byte {offset}, and it is not the tail that a crash leaves; restore the folder from a "
        f"backup, or, to lose that entry and all later ones, cut this file off there and move later segments and "
        f"snapshots away"
    )
