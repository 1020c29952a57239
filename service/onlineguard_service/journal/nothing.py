"""A journal that keeps nothing, for a process whose state is made elsewhere."""

from collections.abc import Callable, Iterator, Mapping

from onlineguard_service.histogram import Histogram


class NoJournal:
    """A `Journal` whose entries are applied and forgotten."""

    def __init__(self) -> None:
        self.sequence, self.seconds = 0, Histogram()
        self.oldest = self.waiting = self.size = 0
        self.lag, self.refusal, self.trouble = 0.0, None, None

    async def commit[T](self, entry: bytes, apply: Callable[[int], T]) -> T:
        """See `Journal`."""
        self.sequence += 1
        return apply(self.sequence)

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """See `Journal`."""
        return iter(())

    def newest_snapshot(self) -> None:
        """See `Journal`."""

    async def begin_snapshot(self, parts: Mapping[str, bytes | memoryview]) -> int:
        """See `Journal`."""
        return self.sequence

    async def beat(self) -> None:
        """See `Journal`."""

    async def forget_covered(self) -> None:
        """See `Journal`."""

    async def close(self) -> None:
        """See `Journal`."""
