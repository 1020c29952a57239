"""Which member of a group a partition belongs to: the same on every machine."""

from collections.abc import Sequence
from hashlib import blake2b


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
