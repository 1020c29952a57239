"""Which partition a key belongs to, and which member a partition belongs to. Both are the same on every machine."""

from collections.abc import Sequence
from hashlib import blake2b

_M, _MASK = 0x5BD1E995, 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, from 0 on: the one that Kafka's own clients choose.

    So a producer that keys its messages by slice, with Java's default partitioner or librdkafka's `murmur2`, and our
    `Writer` agree on where a slice is, in Kafka and in Redis alike.

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


def divided(partitions: int, members: Sequence[str]) -> list[str]:
    """The member of each partition. No member has two more than another, and few partitions move when one joins.

    It depends on the set of the members alone, so that they need not talk to agree. A partition goes to the member that
    ranks highest for it and has not enough yet.

    Source: Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996, here with a bound on how many
    a member gets.
    """
    least, more = divmod(partitions, len(members))
    has = dict.fromkeys(sorted(members), 0)
    chosen: list[str] = []
    for partition in range(partitions):
        open_ = [name for name, n in has.items() if n < least or (n == least and more)]
        best = max(open_, key=lambda name: blake2b(f"{partition} {name}".encode(), digest_size=8).digest())
        more -= has[best] == least
        has[best] += 1
        chosen.append(best)
    return chosen
