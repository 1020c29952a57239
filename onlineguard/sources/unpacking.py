"""Unpacking: the content of a gzip, bzip2, xz, zstd or lz4 file, told by its first bytes, a block at a time."""

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

from onlineguard.errors import MissingExtra, SourceError
from onlineguard.sources import blocks as blocks_

_MAGIC = (
    (re.compile(rb"\x1f\x8b"), ".gz"),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), ".bz2"),
    (re.compile(rb"\xfd7zXZ\x00"), ".xz"),
    (re.compile(rb"(?:\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)"), ".zst"),
    (re.compile(rb"\x04\x22\x4d\x18"), ".lz4"),
)
_MAGIC_BYTES = 10
PACKED = {
    **{".gz": "gzipped", ".bz2": "packed by bzip2", ".xz": "packed by xz"},
    **{".zst": "packed by zstd", ".lz4": "packed by lz4"},
}


def unpacked(blocks: Iterator[bytes], source: str) -> Iterator[bytes]:
    """The content of the blocks, unpacked where their first bytes say so; none of the blocks is empty.

    Raises SourceError for plain bytes of a `source` whose name says that they are packed.
    """
    first, _, blocks = blocks_.with_head(blocks, _MAGIC_BYTES)
    kind = next((suffix for magic, suffix in _MAGIC if magic.match(first)), None)
    if kind is not None:
        yield from _gunzip(blocks) if kind == ".gz" else _members(blocks, _decompressor(kind), kind)
        return
    for suffix, said in PACKED.items():
        if first and source.lower().endswith(suffix):
            raise SourceError(f"source {source} is named {suffix}, but is not {said}; take {suffix} off its name")
    yield from filter(None, blocks)


def _decompressor(kind: str) -> Callable[[], Any]:
    if kind == ".bz2":
        return bz2.BZ2Decompressor
    if kind == ".xz":
        return lzma.LZMADecompressor
    if kind == ".lz4":
        if find_spec("lz4") is None:
            raise MissingExtra("reading what lz4 packed", ["lz4"], "lz4")
        from lz4 import frame

        return partial(_OwnErrors, frame.LZ4FrameDecompressor, RuntimeError)
    if find_spec("compression") is not None:  # Python 3.14 has its own
        from compression import zstd  # pyright: ignore[reportMissingImports]
    elif find_spec("backports") is not None and find_spec("backports.zstd") is not None:
        from backports import zstd
    else:
        raise MissingExtra("reading what zstd packed", ["backports.zstd"], "zstd")
    return partial(_OwnErrors, zstd.ZstdDecompressor, zstd.ZstdError)


class _OwnErrors:
    """A decompressor with an error of its own, which becomes one of `blocks.UNREADABLE`."""

    def __init__(self, new: Callable[[], Any], error: type[Exception]):
        self._inner, self._error = new(), error

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            return self._inner.decompress(data, max_length)
        except self._error as error:
            raise OSError(str(error)) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _members(blocks: Iterator[bytes], new: Callable[[], Any], kind: str) -> Iterator[bytes]:
    """The content of one or more members, one after the other."""
    member, packed, begun = new(), b"", False
    while True:
        if member.eof:
            member, packed, begun = new(), member.unused_data, False
        if not packed and (not begun or member.needs_input):
            packed = next(blocks, b"")
            if not packed:
                if begun:
                    raise EOFError(f"the {kind} file ends before its end marker; it was cut off")
                return
        if not begun and kind == ".xz":
            packed = packed.lstrip(b"\0")  # padding between members is allowed
            if not packed:
                continue
        content = member.decompress(packed, blocks_.BLOCK_BYTES)
        packed, begun = b"", True
        if content:
            yield content


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
        content = member.decompress(packed, blocks_.BLOCK_BYTES)
        if content:
            yield content
        if member.eof:
            member, packed, at_start = zlib.decompressobj(31), member.unused_data, True
        else:
            if not packed and not content:
                raise EOFError("the gzip file ends before its end marker; it was cut off")
            packed, at_start = member.unconsumed_tail, False
