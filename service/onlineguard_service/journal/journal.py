"""The journal: an entry is written before it is applied, so that what was answered survives a crash.

This is what every journal promises. `FolderJournal` keeps entries in a folder, and `RedisJournal` in Redis.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Literal, Protocol

from onlineguard_service.histogram import Histogram

Durability = Literal["async", "group", "sync"]

TAKEN = "another process has taken it over; stop this one"


class Journal(Protocol):
    """Where entries are kept in order; of one event loop, but for what is called before it runs."""

    seconds: Histogram  # that syncs of the disk took, or calls of Redis

    @property
    def sequence(self) -> int:
        """The number of the newest entry; 0 before the first."""
        ...

    async def commit[T](self, entry: bytes, apply: Callable[[int], T]) -> T:
        """Write the entry, apply it, and return what `apply` returned once the entry is as durable as promised.

        `apply` gets the sequence number. It is called in the order of the journal, never twice at once, and must not
        await. If it raises, the entry stays written, and a replay will meet it again. A commit that is cancelled may
        have been written and applied.

        Raises JournalUnavailable where the entry cannot be kept. It was then neither applied nor written, except as
        the journals say where a disk or a server failed at the wrong moment.
        """
        ...

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """The entries with a higher sequence number, in order; before the first commit only.

        Raises CheckpointError where one of them is missing or damaged.
        """
        ...

    def newest_snapshot(self) -> tuple[int, dict[str, bytes]] | None:
        """The sequence number and the parts of the newest whole snapshot; None where all entries are still there.

        Raises CheckpointError where entries after it are missing, or where the newest has a newer format.
        """
        ...

    def begin_snapshot(self, parts: Mapping[str, bytes | memoryview]) -> Awaitable[int]:
        """Write the state after the newest entry, in the background; then drop entries that two snapshots cover.

        Resolves to the sequence number that the parts belong to. Raises JournalUnavailable where it cannot be written;
        older snapshots then stay.
        """
        ...

    async def beat(self) -> None:
        """Show a standby that this process is there; it takes the journal over where that is not seen for too long."""
        ...

    async def forget_covered(self) -> None:
        """Let go of every byte of the entries that both snapshots cover, where `begin_snapshot` leaves some."""
        ...

    @property
    def oldest(self) -> int:
        """The sequence number of the older of two snapshots; 0 where there are fewer. No entry before it is kept."""
        ...

    @property
    def refusal(self) -> str | None:
        """Why nothing is taken now; None where entries are."""
        ...

    @property
    def lag(self) -> float:
        """Seconds that the oldest entry not yet durable has waited; 0 where there is none."""
        ...

    @property
    def waiting(self) -> int:
        """Commits that wait until their entries are durable."""
        ...

    @property
    def trouble(self) -> str | None:
        """What is slow now, in a sentence; None where nothing is."""
        ...

    @property
    def size(self) -> int:
        """Bytes of all entries that are kept."""
        ...

    async def close(self) -> None:
        """Wait for what is under way and make all of it durable."""
        ...
