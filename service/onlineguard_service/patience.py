"""How long work is done in parts, so that others are answered between two of them."""

import asyncio
from typing import Any

from onlineguard_service.fair_queues import QUEUE, REST

AT_ONCE = 1_024  # objects that are made, read or freed between two turns; 10,000 events take the loop some 5 ms


async def give_way() -> None:
    """Let others be answered before the next part: the turn of this request's client comes again after theirs.

    Work that is no client's lets the loop turn a few times.
    """
    if (queue := QUEUE.get()) is not None:
        await queue.turn()
    else:
        for _ in range(REST):
            await asyncio.sleep(0)


async def let_go(items: list[Any]) -> None:
    """Empty a list whose items nobody else has, with turns for others while they are freed."""
    while items:
        del items[-AT_ONCE:]
        if items:
            await give_way()
