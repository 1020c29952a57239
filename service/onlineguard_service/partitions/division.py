"""Which member of a group a partition belongs to, and which partition a record: the same on every machine."""

from collections.abc import Sequence
from hashlib import blake2b

from onlineguard.errors import InvalidArgument
from onlineguard.wire.placement import partition_of


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


def placed(partition: int | None, key: bytes, partitions: int) -> int:
    """The partition of a record, or that of its key where none is given. Raises InvalidArgument for one not there."""
    if partition is None:
        return partition_of(key, partitions)
    if not 0 <= partition < partitions:
        raise InvalidArgument("partition", f"is {partition}; it must be from 0 to {partitions - 1}")
    return partition
