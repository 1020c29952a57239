"""Scripts that are run in Redis within a time, and known to have run on as many replicas as are asked for."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError

from onlineguard.sentinels import connected_async
from onlineguard_service.histogram import Histogram
from onlineguard_service.journal.redis_layout import Script


class Unclear(Exception):
    """Redis did not answer, or not as expected: what it holds must be looked at."""


class Calls:
    """A connection to Redis that nothing is sent over twice by itself.

    url: as `RedisJournal` takes it.
    replicas: how many of Redis must have what a script wrote, before its answer counts.
    """

    def __init__(self, url: str, replicas: int):
        self._client = connected_async(url, socket_timeout=None, retry=Retry(NoBackoff(), 0))  # `run` has a deadline
        self._replicas = replicas
        self.seconds, self.failures = Histogram(), 0  # of round trips

    async def run(self, script: Script, deadline: float, keys: Sequence[str], *arguments: Any) -> Any:
        """The answer of a script, by a monotonic time.

        Raises Unclear where it may or may not have run, and ResponseError where it has not.
        """
        began = time.monotonic()
        if began >= deadline:
            raise Unclear("Redis does not answer")
        try:
            async with asyncio.timeout(deadline - began):
                most = int(1_000 * (deadline - began)) // 3  # so that there is time for another try
                try:
                    answer = await self._answer(("EVALSHA", script.sha, len(keys), *keys, *arguments), most)
                except NoScriptError:
                    answer = await self._answer(("EVAL", script.text, len(keys), *keys, *arguments), most)
            self.seconds.add(time.monotonic() - began)
            return answer
        except ReadOnlyError as error:
            raise Unclear("the Redis that it is connected to is a replica now") from error
        except redis.ResponseError:
            raise
        except (redis.RedisError, TimeoutError, OSError) as error:
            self.failures += 1
            raise Unclear(f"Redis does not answer: {str(error) or type(error).__name__}") from error

    async def _answer(self, command: tuple[Any, ...], most: int) -> Any:
        """The answer, once enough replicas have what was written; they are given so many milliseconds."""
        if not self._replicas:
            return await self._client.execute_command(*command)
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command(*command)
            pipeline.execute_command("WAIT", self._replicas, most)
            answer, n = await pipeline.execute(raise_on_error=False)
        for each in (answer, n):
            if isinstance(each, Exception):
                raise each
        if answer in (b"yes", b"yours") and n < self._replicas:
            raise Unclear(f"{n} of {self._replicas} replicas of Redis have what was written")
        return answer

    async def disconnect(self) -> None:
        """Connect anew with the next script."""
        with suppress(redis.RedisError, OSError):
            await self._client.connection_pool.disconnect()

    async def close(self) -> None:
        """Nothing is run after this."""
        await self._client.aclose()
