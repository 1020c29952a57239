"""What came of one entry of the journal, as bytes: from the process that answers to the one that writes files."""

import msgspec

from onlineguard.records.click import Click
from onlineguard.wire.requests import Decision, Label


class Header(msgspec.Struct, frozen=True):
    """What the files are to be, before the blocks."""

    root: str
    source: str
    first: dict[str, int]  # by kind: the entry from which the next file stands for all
    last: int
    features: tuple[str, ...]  # names of the columns
    about: dict[str, str]  # metadata of the files
    key: str | None  # hexadecimal, for pseudonyms; None: what was sent is kept
    keep_days: int  # 0: for ever
    compactable: int  # entries that no crash can take back


class Judged(msgspec.Struct, frozen=True, tag="clicks", array_like=True, gc=False):
    """Clicks that were judged together. Arrays are little-endian bytes."""

    sequence: int
    t: int
    places: list[int]  # in the entry
    clicks: list[Click]
    features: bytes  # float32 (n, features)
    score: bytes  # float32 (n,)
    threshold: list[float]
    robotic: list[bool]
    p_value: list[float | None]
    slices: list[str]
    models: list[str]


class Labelled(msgspec.Struct, frozen=True, tag="labels", array_like=True, gc=False):
    """Labels of one request."""

    sequence: int
    t: int
    labels: list[Label]


class Replaced(msgspec.Struct, frozen=True, tag="decisions", array_like=True, gc=False):
    """Delayed decisions of one request, those that are in force since."""

    sequence: int
    t: int
    places: list[int]  # in the entry
    decisions: list[Decision]


Block = Judged | Labelled | Replaced

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Block).decode
LENGTH = 4  # bytes before the header and each block; a length of 0 follows the last, so that a part is told from all
