"""A program with the client of the service, as a user types it."""

from typing import assert_type

from onlineguard.client import AsyncClient, Client

with Client("http://127.0.0.1:8080") as guard:
    answer = guard.update({"slice": "web-1", "features": {"load": 0.7}})
    assert_type(answer.anomalous, bool)


async def judged(client: AsyncClient) -> float | None:
    """The score of an event, if it could be scored."""
    found = await client.update({"slice": "web-1", "features": {"load": 0.7}})
    return found.score
