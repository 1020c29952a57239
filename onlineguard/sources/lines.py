"""Lines: the text of a source, a chunk of whole lines at a time."""

from collections.abc import Iterator

from onlineguard.sources.blocks import UNREADABLE

MAX_LINE_BYTES = 1 << 20  # a longer line, or row over several lines, is set aside


class Lines:
    """Whole lines from blocks of bytes. Of an overlong line only the first `MAX_LINE_BYTES` + 1 bytes are kept.

    An error that ends the blocks early is raised after the whole lines before it have been returned.
    """

    def __init__(self, blocks: Iterator[bytes]):
        self._blocks, self._rest = blocks, b""
        self._failure: BaseException | None = None
        self._enough = False  # what was given back can be read without what follows
        self.ended = False  # no more lines follow those of the last chunk

    def chunk(self) -> bytes:
        """The next lines, the last one closed by a newline too; empty at the end."""
        if self._failure is not None:
            raise self._failure
        if self._enough:
            cut = self._rest.rfind(b"\n") + 1
            whole, self._rest, self._enough = self._rest[:cut], self._rest[cut:], False
            if whole:
                return whole
        while not self.ended:
            try:
                block = next(self._blocks, b"")
            except UNREADABLE as error:
                self._failure = error
                whole = self._rest[: self._rest.rfind(b"\n") + 1]  # half a line cannot be trusted
                if not whole:
                    raise
                return whole
            if not block:
                self.ended = True
                break
            cut = block.rfind(b"\n") + 1
            if cut:
                whole, self._rest = self._rest + block[:cut], block[cut:]
                return whole
            rest = self._rest + block
            self._rest = rest[: rest.rfind(b"\n") + 1 + MAX_LINE_BYTES + 1]
        rest, self._rest = self._rest, b""
        return rest + b"\n" if rest and not rest.endswith(b"\n") else rest

    def unread(self, lines: bytes, enough: bool = False) -> None:
        """Give these lines back: they come again, with those that follow, or at once if they are `enough`."""
        self._rest = lines + self._rest
        self._enough = enough
