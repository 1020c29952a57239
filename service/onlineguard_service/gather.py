"""Requests that wait are worked off together: for a GPU, where a call costs the same for one event as for thousands.

There is no timer: what has come while one call was under way goes into the next. On a CPU it gains nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class Gather[Item, Answer]:
    """Hands all items that wait to `work`, in the order in which they came, and each request its own answers."""

    def __init__(self, work: Callable[[Sequence[Item]], Awaitable[list[Answer]]]):
        self._work = work
        self._waiting: list[tuple[Sequence[Item], asyncio.Future[list[Answer]]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item]) -> list[Answer]:
        """One answer an item. Raises what `work` raises, as do all requests that it was called with."""
        answered: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, answered))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return await answered

    async def _drain(self) -> None:
        while self._waiting:
            requests, self._waiting = self._waiting, []
            try:
                answers = await self._work([item for items, _ in requests for item in items])
            except Exception as error:
                for _, answered in requests:
                    if not answered.done():
                        answered.set_exception(error)
                continue
            start = 0
            for items, answered in requests:
                if not answered.done():  # else its client has gone
                    answered.set_result(answers[start : start + len(items)])
                start += len(items)
        self._task = None
