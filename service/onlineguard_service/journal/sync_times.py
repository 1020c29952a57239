"""How long syncs of a disk take, and whether it is slow now."""

import logging
import time
from pathlib import Path

from onlineguard_service.histogram import Histogram

SYNCS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
QUICK = 0.1  # seconds of a sync; after a slower one nothing should wait for another in the event loop
SLOW = 1.0  # seconds of a sync that are told as a fault of the disk; one in a thousand takes 0.02 s
TOLD = 60.0  # seconds for which it is told

_log = logging.getLogger(__name__)


class SyncTimes:
    """The syncs of a folder's files, one of them in the background at most."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.seconds = Histogram(SYNCS)
        self._began = 0.0  # the sync in the background, in monotonic seconds; 0: there is none
        self._last = 0.0  # seconds that the last sync took
        self._slowest = (0.0, 0.0)  # when the last slow one ended, and its seconds

    def begin(self) -> None:
        """A sync begins in the background."""
        self._began = time.monotonic()

    def end(self, seconds: float) -> None:
        """It has ended."""
        self._began = 0.0
        self.add(seconds)

    def add(self, seconds: float) -> None:
        """Note any sync that has ended."""
        self.seconds.add(seconds)
        self._last = seconds
        if seconds >= SLOW:
            self._slowest = time.monotonic(), seconds
            _log.warning("a sync of the disk of %s took %.1f s", self._folder, seconds)

    @property
    def quick(self) -> bool:
        """Whether the last sync was quick, and one in the background is so far."""
        return self._last <= QUICK and (not self._began or time.monotonic() - self._began <= QUICK)

    def trouble(self, waiting: int) -> str | None:
        """A sync that takes, or took within the last minute, a second or more, in a sentence; None without one.

        waiting: answers that wait for it.
        """
        now = time.monotonic()
        if self._began and (seconds := now - self._began) >= SLOW:
            waits = f"{waiting} answers wait for it" if waiting else "no answer waits for it"
            return f"a sync of the disk has taken {seconds:.1f} s and goes on; {waits}"
        ended, seconds = self._slowest
        if seconds and now - ended < TOLD:
            return f"a sync of the disk took {seconds:.1f} s, {now - ended:.0f} s ago"
        return None
