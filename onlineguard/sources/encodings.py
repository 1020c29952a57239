"""Encodings: the one that the bytes at the head of a text have, and text in it as UTF-8."""

import codecs
from collections.abc import Iterator
from itertools import chain

from onlineguard.errors import InvalidArgument

_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}  # byte order marks
_NO_LETTERS = {0x81, 0x8D, 0x8F, 0x90, 0x9D, 0xFF}  # not in cp1252; and a letter that begins no word in any language


def told_encoding(head: bytes) -> str:
    """UTF-8, UTF-16 by its mark or its zeros, or cp1252, which Windows writes and latin-1 is the common part of.

    Text is cp1252 if no character beyond ASCII in it is UTF-8 and all could be of cp1252; else it is UTF-8, of which
    single lines may be damaged.
    """
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    sample = head[:4_000]
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if (
            len(sample) >= 8
            and 2 * sample[start::2].count(0) > len(sample[start::2])
            and 0 not in sample[1 - start :: 2]
        ):
            return encoding
    if head.isascii():
        return "utf-8"
    high = bytes(byte for byte in head if byte >= 0x80)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
        return "utf-8"
    except UnicodeDecodeError:
        pass
    some_utf8 = any(character >= "\x80" for character in head.decode(errors="ignore"))
    return "utf-8" if some_utf8 or _NO_LETTERS & set(high) else "cp1252"


def checked_encoding(encoding: str) -> str:
    """The encoding's name as Python has it; raises InvalidArgument where it knows none of that name."""
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise InvalidArgument(
            "encoding",
            f"is {encoding!r}, which is unknown; name one such as utf-8, cp1252, latin-1, utf-16 or shift_jis",
        ) from None


def as_utf8(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The blocks as UTF-8, without a byte order mark, and none of them empty.

    UTF-8 stays as it is, damaged or not. In other encodings a byte that stands for nothing becomes U+FFFD.
    """
    first = next(blocks, b"")
    for mark, marked in _MARKS.items():
        if first.startswith(mark) and encoding in (marked, "utf-16", "utf-8-sig"):
            first, encoding = first.removeprefix(mark), marked
    blocks = chain([first], blocks)
    if encoding in ("utf-8", "ascii"):
        yield from filter(None, blocks)
        return
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    for block in blocks:
        if text := decoder.decode(block):
            yield text.encode()
    if text := decoder.decode(b"", final=True):
        yield text.encode()
