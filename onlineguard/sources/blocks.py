"""Blocks: the bytes of a text source, a few MiB at a time, unpacked where they are gzipped."""

import zlib
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from onlineguard.errors import SourceError

BLOCK_BYTES = 4 << 20
UNREADABLE = (OSError, EOFError, zlib.error)  # the errors that reading and unpacking raise


def read_block(stream: BinaryIO) -> bytes:
    """The next block of a stream, full but for the last one, which is empty at the end; a pipe gives less at a time."""
    parts: list[bytes] = []
    missing = BLOCK_BYTES
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def text_blocks(blocks: Iterator[bytes], source: str) -> Iterator[bytes]:
    """The text in blocks of bytes: unpacked where its first bytes say gzip, and without a byte order mark.

    None of the blocks is empty. Raises SourceError for UTF-16, and for plain bytes of a `source` that is named .gz.
    """
    first = next(blocks, b"")
    if first.startswith(b"\x1f\x8b"):
        blocks = _gunzip(chain([first], blocks))
        first = next(blocks, b"")
    elif first and source.lower().endswith(".gz"):
        raise SourceError(f"source {source} is named .gz, but is not gzipped; take .gz off its name")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(f"source {source} is UTF-16; save it as UTF-8")
    if first := first.removeprefix(b"\xef\xbb\xbf"):
        yield first
    yield from blocks


def _gunzip(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The content of one or more gzip members, at most a block at a time, however well they are packed."""
    member, packed, at_start = zlib.decompressobj(31), b"", True
    while True:
        packed = packed or next(blocks, b"")
        if at_start:
            if not packed:
                return
            packed = packed.lstrip(b"\0")  # padding after a member is allowed
            if not packed:
                continue
        content = member.decompress(packed, BLOCK_BYTES)
        if content:
            yield content
        if member.eof:
            member, packed, at_start = zlib.decompressobj(31), member.unused_data, True
        else:
            if not packed and not content:
                raise EOFError("the gzip file ends before its end marker; it was cut off")
            packed, at_start = member.unconsumed_tail, False
