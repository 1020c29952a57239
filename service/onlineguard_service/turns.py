"""Turns: requests that are worked off in parts, and changes of the model that must not come between two of these."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from onlineguard_service.tracing import span


class Turns:
    """A change waits until the requests in parts have ended; those that come meanwhile wait for the change."""

    def __init__(self) -> None:
        self._moved = asyncio.Condition()
        self._requests = 0
        self._changes = 0

    @asynccontextmanager
    async def request(self) -> AsyncGenerator[None]:
        with span("turn"):
            async with self._moved:
                await self._moved.wait_for(lambda: not self._changes)
                self._requests += 1
        try:
            yield
        finally:
            async with self._moved:
                self._requests -= 1
                self._moved.notify_all()

    @asynccontextmanager
    async def change(self) -> AsyncGenerator[None]:
        async with self._moved:
            self._changes += 1
        try:
            async with self._moved:
                await self._moved.wait_for(lambda: not self._requests)
            yield
        finally:
            async with self._moved:
                self._changes -= 1
                self._moved.notify_all()
