"""How long work is done in parts, so that others are answered between two of them."""

import asyncio
from typing import Any

TURNS = 4  # of the event loop that others get between two parts
AT_ONCE = 1_024  # objects that are made, read or freed between two turns; 10,000 events take the loop some 5 ms


async def give_way() -> None:
    """Let requests that have come be answered: read in one turn of the loop, begun in the next, and sent in another."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def let_go(items: list[Any]) -> None:
    """Empty a list whose items nobody else has, with turns for others while they are freed."""
    while items:
        del items[-AT_ONCE:]
        if items:
            await give_way()
