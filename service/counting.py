"""Counters in Redis for the service: they answer within a bounded time, or say that they cannot be reached."""

import asyncio

import numpy as np
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from onlineguard.errors import OnlineguardError
from onlineguard.slidr.counters import Keys
from onlineguard.slidr.redis_store import AsyncRedisStore

WAIT = 0.5  # seconds for an answer, and for a connection
PAUSE = 0.2  # seconds after a failure in which nobody tries again, so that a dead Redis costs a request no time


class CountersUnavailable(OnlineguardError):
    """Redis does not answer. Some of the clicks may have been counted; sent again they are not counted twice."""


class Counting:
    """The counters at a URL; made by `open`."""

    def __init__(self, client: Redis):
        self._client = client
        self._store = AsyncRedisStore(client)
        self._not_before = 0.0

    @classmethod
    async def open(cls, url: str) -> "Counting":
        """Does not wait for a connection: Redis may come later."""
        client: Redis = Redis.from_url(
            url, socket_timeout=WAIT, socket_connect_timeout=WAIT, retry=Retry(NoBackoff(), 0), health_check_interval=0
        )
        return cls(client)

    async def count(self, keys: Keys) -> np.ndarray:
        """See `Store.count`; raises CountersUnavailable."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            raise CountersUnavailable("Redis did not answer a moment ago")
        try:
            return await self._store.count(keys)
        except (RedisError, OSError, TimeoutError) as error:
            self._not_before = asyncio.get_running_loop().time() + PAUSE
            raise CountersUnavailable(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()
