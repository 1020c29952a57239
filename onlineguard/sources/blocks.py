"""Blocks: the bytes of a source, a few MiB at a time."""

import lzma
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

BLOCK_BYTES = 4 << 20
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)  # the errors that reading and unpacking raise


def read_block(stream: BinaryIO) -> bytes:
    """The next block of a stream, full but for the last one, which is empty at the end; a pipe gives less at a time."""
    parts: list[bytes] = []
    missing = BLOCK_BYTES
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def with_head(blocks: Iterator[bytes], least: int, lines: int | None = None) -> tuple[bytes, bool, Iterator[bytes]]:
    """The first bytes, `least` of them if there are as many; whether that is all; and all blocks, with these first.

    With `lines`, so many whole lines are enough. The head does not depend on how the bytes are cut into blocks, unless
    `lines` is given. What breaks off the blocks meanwhile is raised after them.
    """
    held: list[bytes] = []
    size, ended, failure = 0, False, None
    while size < least and (lines is None or sum(block.count(b"\n") for block in held) < lines):
        try:
            block = next(blocks, b"")
        except UNREADABLE as error:
            failure = error
            break
        if not block:
            ended = True
            break
        held.append(block)
        size += len(block)

    def rest() -> Iterator[bytes]:
        if failure is not None:
            raise failure
        yield from blocks

    return b"".join(held)[:least], ended and size <= least, chain(held, rest())
