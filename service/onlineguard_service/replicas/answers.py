"""Answers from snapshots, which say whose and how old they are."""

from collections.abc import Iterable, Mapping
from math import ceil


class SnapshotAnswers[Answer](list[Answer]):
    """Answers to the items of a request, in order.

    offsets: of the snapshots that they are from, by partition.
    age: of the oldest of these, in seconds.
    """

    def __init__(self, answers: Iterable[Answer], offsets: Mapping[int, int], age: float):
        super().__init__(answers)
        self.offsets, self.age = offsets, age

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Those that an answer over HTTP has: `Age`, and `Onlineguard-Snapshots` with partition@offset of each."""
        told = ", ".join(f"{partition}@{offset}" for partition, offset in sorted(self.offsets.items()))
        return [(b"age", b"%d" % ceil(self.age)), (b"onlineguard-snapshots", told.encode())]
