"""Cutting: a large body into parts that each hold whole items, so that others get their turn between two of them.

Nothing is parsed. In an array the commas between its items are found, which stand in no text and in no item: with the
quotes and brackets before each place counted, for a block at a time. What is no JSON is cut somewhere, and is refused
when the part is decoded.
"""

import re
from collections.abc import Generator
from typing import NamedTuple

import numpy as np

PART = 65_536  # bytes of a part, about; half a millisecond of decoding
MOST_ITEM = 262_144  # bytes of an item, which is decoded as a whole
_ARRAY = re.compile(rb"[ \t\r\n]*+\[")
_OBJECT = re.compile(rb"[ \t\r\n]*+\{")
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_QUOTE, _COMMA = ord('"'), ord(",")
_STEPS = np.zeros(256, np.int8)  # how much deeper a byte leads
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1
_MARKS = np.zeros(256, bool)
_MARKS[list(b'"[]{},')] = True


class TooLong(Exception):
    """An item has more bytes than `MOST_ITEM`."""


class Part(NamedTuple):
    """Some items of a body, as a body by themselves."""

    body: bytes
    start: int = 0  # what to add to the place of a byte in here for its place in the whole
    lines: int = 0  # that came before


def parts(body: bytes, lines: bool) -> Generator[Part]:
    """A body in parts. Raises TooLong after those before the item."""
    if len(body) <= PART:
        yield Part(body)
    elif lines:
        yield from _of_lines(body)
    elif (opened := _ARRAY.match(body, 0, PART)) is not None:
        yield from _of_array(body, opened.end())
    elif len(body) > MOST_ITEM and _OBJECT.match(body, 0, PART):
        raise TooLong
    else:
        yield Part(body)


def _of_lines(body: bytes) -> Generator[Part]:
    begin = lines = 0
    while begin < len(body):
        end = body.find(b"\n", begin + PART) + 1 or len(body)
        if end - begin > PART + MOST_ITEM:
            raise TooLong
        yield Part(body[begin:end], begin, lines)
        lines += body.count(b"\n", begin, end)
        begin = end


def _of_array(body: bytes, begin: int) -> Generator[Part]:
    depth, inside, escaped = 0, 0, False  # inside a text: 1
    for at in range(0, len(body), PART):
        block = body[at : at + PART]
        if escaped:
            block = b"_" + block[1:]
        if b"\\" in block:
            block = _ESCAPED.sub(b"__", block)
        escaped = block.endswith(b"\\")
        values = np.frombuffer(block, np.uint8)
        places = np.flatnonzero(_MARKS[values])
        if not len(places):
            continue
        marks = values[places]
        texts = np.cumsum(marks == _QUOTE) + inside & 1
        depths = np.cumsum(np.where(texts, 0, _STEPS[marks]), dtype=np.int64) + depth
        commas = places[(marks == _COMMA) & (texts == 0) & (depths == 1)]
        if len(commas):
            end = at + int(commas[-1])
            yield Part(b"[" + body[begin:end] + b"]", begin - 1)
            begin = end + 1
        depth, inside = int(depths[-1]), int(texts[-1])
        if at + len(block) - begin > MOST_ITEM:
            raise TooLong
    yield Part(b"[" + body[begin:], begin - 1)
