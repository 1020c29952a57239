"""How long work is done in parts, so that others are answered between two of them."""

import asyncio

TURNS = 4  # of the event loop that others get between two parts


async def give_way() -> None:
    """Let requests that have come be answered: read in one turn of the loop, begun in the next, and sent in another."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
