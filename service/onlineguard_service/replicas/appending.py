"""Appending: clicks go to the shards' log with their counts, many requests' at once, from a thread of its own."""

import asyncio
import threading
from collections.abc import Sequence
from queue import SimpleQueue

import numpy as np

from onlineguard.wire.placement import key_of, partition_of
from onlineguard_service.entries import Clicks
from onlineguard_service.judging import counted as counts_of
from onlineguard_service.partitions.records import counted
from onlineguard_service.partitions.urls import WriterOfParts

_Waiting = tuple[Clicks, asyncio.AbstractEventLoop, asyncio.Future[None]]


class Appending:
    """See this module. The writer is closed with it."""

    def __init__(self, writer: WriterOfParts):
        self._writer = writer
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="appending", daemon=True)
        self._thread.start()

    async def append(self, entry: Clicks) -> None:
        """Return when the log has the clicks. Raises JournalUnavailable where it is away: they may be there all the
        same then, and shards take each click once by its id."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._queue.put((entry, loop, done))
        await done

    async def close(self) -> None:
        """Write what waits, and stop."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            waiting, ending = [first], False
            while not self._queue.empty():
                if (each := self._queue.get()) is None:
                    ending = True
                    break
                waiting.append(each)
            self._write(waiting)
            if ending:
                break
        self._writer.close()

    def _write(self, waiting: Sequence[_Waiting]) -> None:
        failure: Exception | None = None
        try:
            for entry, _, _ in waiting:
                for partition, key, value in parted(entry, self._writer.partitions):
                    self._writer.write(partition, key, value, "counted")
            self._writer.flush()
        except Exception as error:
            failure = error
        for _, loop, done in waiting:
            loop.call_soon_threadsafe(_settle, done, failure)


def parted(entry: Clicks, partitions: int) -> list[tuple[int, bytes, bytes]]:
    """Partition, key and value of the records that an entry becomes, one for each partition that has some of it."""
    keys, counts = [key_of(click) for click in entry.clicks], counts_of(entry.counts)
    places: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(partition_of(key, partitions), []).append(place)
    return [
        (partition, keys[of_one[0]], counted([entry.clicks[i] for i in of_one], np.take(counts, of_one, 0).tobytes()))
        for partition, of_one in places.items()
    ]


def _settle(done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.done():  # cancelled meanwhile
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
