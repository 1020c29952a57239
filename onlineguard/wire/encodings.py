"""Content encodings of bodies: gzip (RFC 1952) and zstd (RFC 8878).

Python's own zstd came with 3.14; before that `backports.zstd` is the same code under another name.
"""

import zlib
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, Protocol

from onlineguard.errors import MissingExtra

Encoding = Literal["gzip", "zstd"]

# Both at their fastest. An answer of 10,000 events (1.6 MB) shrinks to a fifth in some 10 ms with gzip and 3 ms with
# zstd; a higher level takes several times as long for a tenth less.
_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS  # what zlib calls it
_WINDOW = 23  # a frame may ask for 8 MB of memory at most, as RFC 9659 says of the content encoding


class Unpacker(Protocol):
    """Unpacks a body in parts."""

    @property
    def eof(self) -> bool:
        """Whether the end of what was packed has come."""
        ...

    def part(self, body: bytes, most: int) -> bytes:
        """The next bytes, at most so many. `body` is given with the first call only; the others take b"".

        Raises ValueError, with the reason, where it is not in this encoding.
        """
        ...

    @property
    def more(self) -> bool:
        """Whether anything follows the end."""
        ...


def packed(body: bytes, encoding: Encoding) -> bytes:
    """The body in the encoding. Raises MissingExtra."""
    if encoding == "zstd":
        return _zstd().compress(body, _LEVEL)
    return zlib.compress(body, _LEVEL, _GZIP)


def unpacker(encoding: Encoding) -> Unpacker:
    """Unpacks one body. Raises MissingExtra."""
    return _Zstd() if encoding == "zstd" else _Gzip()


@lru_cache(1)
def available() -> tuple[Encoding, ...]:
    """The encodings that are installed here, the best first."""
    try:
        _zstd()
    except MissingExtra:
        return ("gzip",)
    return ("zstd", "gzip")


class _Unpacking:
    """What unpacks one body; `_of` is a decompressor of the standard library's kind."""

    _of: Any

    @property
    def eof(self) -> bool:
        return self._of.eof

    @property
    def more(self) -> bool:
        return bool(self._of.unused_data)


class _Gzip(_Unpacking):
    def __init__(self) -> None:
        self._of = zlib.decompressobj(_GZIP)

    def part(self, body: bytes, most: int) -> bytes:
        try:
            return self._of.decompress(body or self._of.unconsumed_tail, most)
        except zlib.error as error:
            raise ValueError(str(error)) from None


class _Zstd(_Unpacking):
    def __init__(self) -> None:
        zstd = _zstd()
        self._error = zstd.ZstdError
        self._of = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW})

    def part(self, body: bytes, most: int) -> bytes:
        try:
            return self._of.decompress(body, most)
        except self._error as error:
            raise ValueError(str(error)) from None


def _zstd() -> Any:
    """The module that packs zstd."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise MissingExtra("the content encoding zstd", ["backports.zstd"], "zstd")
