"""Snapshotting: when all state is written beside the journal, so that a restart reads only the entries since."""

import asyncio
import logging
import time
from collections.abc import Mapping

from onlineguard_service import entries
from onlineguard_service.guard import Guard
from onlineguard_service.journal import forked
from onlineguard_service.journal.journal import Journal
from onlineguard_service.journal.packing import Packed

log = logging.getLogger("onlineguard.service")


class Snapshotting:
    """See this module. `every` is the seconds between two snapshots.

    sequence, t: the number of the last entry that the newest snapshot of this process holds, and when it was taken;
    0 and None before there is one. trouble: why the last one failed. failures: how many did. newest: when the newest
    entry was applied, by the monotonic clock.
    """

    def __init__(self, guard: Guard, journal: Journal, every: float):
        self._guard, self._journal, self.every = guard, journal, every
        self.sequence = 0
        self.t: int | None = None
        self.trouble: str | None = None
        self.failures = 0
        self.newest: float | None = None
        # Since when there has been an entry that no snapshot holds. After a start that is not known: there may be one.
        self._behind = time.monotonic() if guard.sequence else None
        self._one = asyncio.Lock()

    def heard(self) -> None:
        """Note that an entry is applied now."""
        self.newest = time.monotonic()
        if self._behind is None:
            self._behind = self.newest

    @property
    def behind(self) -> float:
        """Seconds since which there has been an entry that no snapshot holds; 0 where there is none."""
        return 0.0 if self._behind is None else time.monotonic() - self._behind

    async def take(self) -> int:
        """Write all state beside the journal, and return the number of the last entry that it holds."""
        recorder = self._guard.recorder
        async with self._one:
            if recorder is not None:
                recorder.check()
            parts, began = self._packed(), time.monotonic()
            try:
                sequence = await self._journal.begin_snapshot(
                    parts if recorder is None else recorder.before(parts, self._guard.sequence)
                )
            except Exception as error:
                self.trouble, self.failures = str(error), self.failures + 1
                raise
            self.trouble = None
            self._behind = None if self._guard.sequence == sequence else began
            self.sequence, self.t = sequence, entries.now()
            if recorder is not None:
                recorder.taken(sequence)
            return sequence

    def _packed(self) -> Mapping[str, bytes | memoryview]:
        """The state as it is now, to be looked at in another thread."""
        if forked.AVAILABLE:
            self._guard.fetch()
            try:
                return forked.Forked(self._guard.dump)
            except OSError as error:
                log.warning("the process cannot be forked (%s): requests wait while a snapshot is packed", error)
        return Packed(self._guard.dump())

    async def run(self) -> None:
        """Take a snapshot whenever it is time and something is new, until cancelled."""
        while True:
            await asyncio.sleep(self.every)
            if self._guard.sequence > self.sequence:
                try:
                    await self.take()
                except Exception as error:  # the journal has everything: the next one may succeed
                    log.error("a snapshot could not be written: %s", error)
