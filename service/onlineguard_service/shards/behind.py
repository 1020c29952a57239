"""How far behind the log the shards of a process are, and how fast they go."""

import logging
import time
from collections.abc import Callable, Mapping

from onlineguard_service.shards.held import Held, Progress

LOOK_EVERY = 1.0  # seconds between two looks at how far the log goes
REPORT_EVERY = 10.0  # seconds between two lines of progress

log = logging.getLogger("onlineguard.worker")


class Behind:
    """See this module.

    end: the offset of a partition's newest record.
    clock: seconds, that never go back.
    """

    def __init__(self, end: Callable[[int], int], progress: Progress, clock: Callable[[], float]):
        self.lags: Mapping[int, float] = {}  # seconds, by partition
        self.rate = 0.0  # records a second, of late
        self._end, self._progress, self._clock = end, progress, clock
        self._looked = self._reported = clock(), 0

    def look(self, all_held: Mapping[int, Held]) -> None:
        """Now and then, see how fast it goes, and how many seconds ago the log took the record that was applied last.

        The latter is 0 where a shard has applied all. Before the first one, it goes by the record that comes next.
        """
        now, (last, before) = self._clock(), self._looked
        if now - last < LOOK_EVERY:
            return
        self.rate = (self._progress.records - before) / (now - last)
        self._looked, found = (now, self._progress.records), dict[int, float]()
        for partition, held in sorted(all_held.items()):
            if held.shard is not None:
                behind = self._end(partition) > held.shard.offset
                since = held.shard.t or (held.unread[0].t if held.unread else 0)
                found[partition] = max(0.0, time.time() - since / 1_000) if behind and since else 0.0
                held.caught_up = 0 if behind else time.time_ns() // 1_000_000
        self.lags = found

    def report(self) -> None:
        """Now and then, log a line of progress, if there is any."""
        now, (last, before) = self._clock(), self._reported
        if now - last >= REPORT_EVERY and self._progress.records > before:
            rate, lag = (self._progress.records - before) / (now - last), max(self.lags.values(), default=0.0)
            log.info("%s; %.0f records/s, %.1f s behind", self._progress, rate, lag)
            self._reported = now, self._progress.records
