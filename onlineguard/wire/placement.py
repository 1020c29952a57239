"""Where an item belongs among partitions: every client, producer and shard has the same answer, on every machine."""

from collections.abc import Mapping
from typing import Any

import msgspec

from onlineguard.wire.requests import SliceKey

_M, _MASK = 0x5BD1E995, 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, from 0 on: the one that Kafka's own clients choose.

    So a producer that keys its messages by slice, with Java's default partitioner or librdkafka's `murmur2`, agrees on
    where a slice is.

    Source: Apache Kafka, `org.apache.kafka.common.utils.Utils.murmur2` and `toPositive`; Austin Appleby, MurmurHash2.
    """
    if partitions == 1:
        return 0
    h = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


def key_of(item: Mapping[str, Any] | msgspec.Struct) -> bytes:
    """The key of an item: that of an event's slice, or a click's user, without one its session, else its own id.

    Raises KeyError for an item that is neither, by the name of the field that it lacks.
    """
    fields = item if isinstance(item, Mapping) else msgspec.structs.asdict(item)
    if "click_id" in fields:
        return key_of_user(fields.get("user_id") or fields.get("session_id") or fields["click_id"])
    return key_of_slice(fields["slice"])


def key_of_slice(key: SliceKey) -> bytes:
    """The key of a slice: its text, a number's digits, or the parts of a tuple as JSON without spaces."""
    return msgspec.json.encode(key) if isinstance(key, tuple | list) else str(key).encode()


def key_of_user(user_id: str) -> bytes:
    """The key of a user: the text of the id."""
    return str(user_id).encode()
