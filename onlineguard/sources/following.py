"""Following: what a file holds and what is written behind its end later, also after it was rotated.

Logs are rotated in two ways. The file is renamed and another one is made under its name: then what is left of the old
one is read first. Or its content is copied away and the file is cut: then it is read from its beginning again. A file
that is cut and grows beyond where it was read to, between two looks, cannot be told from one that grew.
"""

import os
import time
from collections.abc import Iterator
from typing import BinaryIO

from onlineguard.sources import blocks
from onlineguard.sources.places import Place

POLL = 0.02  # seconds between looks
OPENING_BYTES = 1 << 16  # of the first file, which are kept to know its header again


class Followed:
    """The bytes of a stream as they come; those of a file never end.

    opening: lines with which every file may begin, a header and what stands before it. A new file that begins with
        those of the first one gives only what comes after them.
    """

    def __init__(self, stream: BinaryIO, place: Place):
        self.opening = 0
        self._stream, self._path = stream, place.path
        self._first = b""  # how the first file begins
        self._new: bytes | None = None  # how a new file begins, until its opening is there

    def __iter__(self) -> Iterator[bytes]:
        ended_line = True  # whether the last byte was a newline
        while True:
            block = self._stream.read(blocks.BLOCK_BYTES)
            if block:
                ended_line = block.endswith(b"\n")
                if block := self._without_opening(block):
                    yield block
                continue
            if self._path is None:
                return
            if self._rotated():
                if not ended_line:  # half a line at the end of the old file is a line
                    yield b"\n"
                ended_line = True
            else:
                time.sleep(POLL)

    def close(self) -> None:
        """Close the file that is read now; a pipe is left to who opened it."""
        if self._path is not None:
            self._stream.close()

    def _rotated(self) -> bool:
        """Whether another file, or the same one cut, is read from now on. Nothing of the old one is left to be read."""
        assert self._path is not None
        try:
            now, ours = os.stat(self._path), os.fstat(self._stream.fileno())
        except OSError:  # between a renaming and what follows it
            return False
        if os.path.samestat(now, ours):
            if ours.st_size >= self._stream.tell():
                return False
            self._stream.seek(0)
        else:
            if rest := self._stream.read(1):  # somebody still writes to the old one
                self._stream.seek(-len(rest), os.SEEK_CUR)
                return False
            try:
                new = self._path.open("rb", buffering=0)
            except OSError:
                return False
            self._stream.close()
            self._stream = new
        self._new = b""
        return True

    def _without_opening(self, block: bytes) -> bytes:
        """What is given of a block: of a new file nothing before its opening lines are there, and not these."""
        if self._new is None:
            if len(self._first) < OPENING_BYTES:
                self._first += block[: OPENING_BYTES - len(self._first)]
            return block
        whole = self._new + block
        lines = whole.split(b"\n", self.opening)
        if len(lines) <= self.opening:
            self._new = whole
            return b""
        self._new = None
        same = [line.rstrip(b"\r") for line in self._first.split(b"\n", self.opening)[: self.opening]]
        return lines[-1] if same == [line.rstrip(b"\r") for line in lines[:-1]] else whole
