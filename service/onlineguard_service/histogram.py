"""Counts by size, for what is measured beside requests: a bisection and an addition an observation."""

from bisect import bisect_left

SECONDS = (
    *(0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005),
    *(0.0075, 0.01, 0.02, 0.05, 0.1, 0.5, 2.5),
)  # upper ends of the buckets of a latency, closest together where most requests lie


class Histogram:
    """How many values lie at or under each of the upper ends, which rise."""

    def __init__(self, ends: tuple[float, ...] = SECONDS):
        self.ends, self.counts, self.sum = ends, [0] * (len(ends) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.ends, value)] += 1
        self.sum += value

    def __len__(self) -> int:
        """Values that were added."""
        return sum(self.counts)
