"""Counters in Redis for the service: they answer within a bounded time, or say that they cannot be reached."""

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial

import hiredis
import numpy as np

from onlineguard.errors import OnlineguardError
from onlineguard.slidr.counting.counters import ClickKeys
from onlineguard.slidr.counting.redis_store import AsyncRedisStore
from onlineguard_service.histogram import Histogram
from onlineguard_service.redis.nodes import Nodes

WAIT = 0.5  # seconds for an answer, and for a connection
PAUSE = 0.2  # seconds after a failure in which nobody tries again, so that a dead Redis costs a request no time
AGAIN = 1.0  # seconds between looks whether a Redis that could not be reached can be, though no click comes

log = logging.getLogger("onlineguard.service")


class CountersUnavailable(OnlineguardError):
    """Redis does not answer. Some of the clicks may have been counted; sent again they are not counted twice."""


class Counting:
    """The counters at a URL, in one Redis, a cluster, or the primary of Sentinels, whose keys begin with the prefix.

    replicas: how many must have what is counted before a click is answered. In a cluster they then have the ids of
    clicks before anything else is counted of these: without that, a failover that loses ids has clicks that are sent
    again counted twice.

    Does not wait for a connection: Redis may come later.
    """

    def __init__(self, url: str, prefix: str, replicas: int = 0):
        self._nodes = Nodes(url, WAIT, replicas)
        self._prefix, self._replicas = prefix, replicas
        self._stores: dict[str, AsyncRedisStore] = {}  # by namespace
        self._cluster: bool | None = None  # None: nobody has been asked yet
        self._not_before = 0.0
        self._cut_off = self._closed = False  # whether the last one got no answer at all; whether this has ended
        self._looking: asyncio.Task[None] | None = None
        self.seconds, self.failures = Histogram(), 0  # of round trips
        self.trouble: str | None = None  # why the last one got no answer; None if it did

    async def _of(self, namespace: str) -> AsyncRedisStore:
        """The counters of a namespace, whose keys have names of their own; "" for those of none."""
        store = self._stores.get(namespace)
        if store is None:
            if self._cluster is None:
                self._cluster = await self._nodes.are_a_cluster()
            cluster = self._cluster
            execute = self._nodes.execute if cluster else partial(self._nodes.first.execute, replicas=self._replicas)
            name = f"{self._prefix}/{namespace}" if namespace else self._prefix
            store = self._stores[namespace] = AsyncRedisStore(execute, name, cluster=cluster)
        return store

    async def look(self) -> None:
        """Ask, for half a second at most, whether Redis is there: `trouble` then tells of it before the first click."""
        try:
            await self._of("")
        except (hiredis.HiredisError, OSError) as error:
            self._failed(error)
            log.warning("counters cannot be reached: %s; until they can, clicks are answered unknown", self.trouble)

    async def count(self, keys: ClickKeys, namespace: str = "") -> np.ndarray:
        """See `Store.count`; raises CountersUnavailable."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            raise CountersUnavailable("Redis did not answer a moment ago")
        began = time.perf_counter()
        try:
            counts = await (await self._of(namespace)).count(keys)
        except (hiredis.HiredisError, OSError) as error:  # a TimeoutError and a ConnectionError too
            self._not_before = asyncio.get_running_loop().time() + PAUSE
            self.failures += 1
            self._failed(error)
            raise CountersUnavailable(self.trouble) from error
        self.seconds.add(time.perf_counter() - began)
        self.trouble = None
        return counts

    async def erase(self, user_id: str, namespace: str = "") -> None:
        """See `AsyncRedisStore.erase`; raises CountersUnavailable."""
        try:
            await (await self._of(namespace)).erase(user_id)
        except (hiredis.HiredisError, OSError) as error:
            raise CountersUnavailable(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """End; what is under way fails."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        await self._nodes.close()

    def _failed(self, error: Exception) -> None:
        self.trouble, self._cut_off = f"{type(error).__name__}: {error}", isinstance(error, OSError)
        if self._cut_off and not self._closed and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look_again(), name="Counting")

    async def _look_again(self) -> None:
        """Until Redis answers, whether this or a click asks. Errors that it answers with only a click can disprove."""
        while self.trouble is not None and self._cut_off:
            await asyncio.sleep(AGAIN)
            with suppress(hiredis.HiredisError, OSError):
                await self._of("")
                await self._nodes.answer(bool(self._cluster))
                if self._cut_off:
                    self.trouble = None
