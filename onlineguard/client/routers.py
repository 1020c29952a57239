"""Clients of several services: each item goes to the service that owns its slice, or its user."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, overload

from onlineguard.client.aio import AsyncClient
from onlineguard.client.conversations import One
from onlineguard.client.routing import Division, Outcome, Owners
from onlineguard.client.sync import Client
from onlineguard.errors import InvalidArgument, ServiceError
from onlineguard.wire.answers import ClickAnswer, EventAnswer
from onlineguard.wire.requests import SliceKey

if TYPE_CHECKING:
    import polars as pl


class Router:
    """Divides items among the services that own them, asks these at once, and gives the answers back in order.

    urls: the service that owns each partition, in the order of the partitions; a service that owns several stands there
        several times. An item belongs to the partition that Kafka's own clients would choose for its slice, or for a
        click's user, so partitions can be those of a log. Take more partitions than services: then a service can be
        added later by a list of the same length, and a slice moves only with its partition.
    options: those of every `Client`.

    The methods take what those of `Client` take, except tables of Arrow. They read all items before they send any. If
    some services fail, `PartlyAnswered` has the answers of the others; give items ids, so that those without an answer
    can be sent again without being learned twice. For whatever else is asked of one service, a label for example, which
    goes to the owner of its click's user, take its client: `router.owner_of_user("u-17").labels(...)`.
    """

    def __init__(self, urls: Sequence[str], **options: Any):
        self._owners = Owners(urls)
        self.clients = {url: Client(url, **options) for url in self._owners.services}
        self._threads = ThreadPoolExecutor(len(self.clients), "onlineguard-router")

    @overload
    def update(self, events: One) -> EventAnswer: ...
    @overload
    def update(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    def update(self, events: Any) -> Any:
        """See `Client.update`."""
        return self._ask(Client.update, events, "events")

    @overload
    def score(self, events: One) -> EventAnswer: ...
    @overload
    def score(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    def score(self, events: Any) -> Any:
        """See `Client.score`."""
        return self._ask(Client.score, events, "events")

    @overload
    def clicks(self, clicks: One) -> ClickAnswer: ...
    @overload
    def clicks(self, clicks: "Iterable[One] | pl.DataFrame") -> list[ClickAnswer]: ...
    def clicks(self, clicks: Any) -> Any:
        """See `Client.clicks`."""
        return self._ask(Client.clicks, clicks, "clicks")

    def owner_of_slice(self, key: SliceKey) -> Client:
        """The client of the service that owns a slice."""
        return self.clients[self._owners.of_slice(key)]

    def owner_of_user(self, user_id: str) -> Client:
        """The client of the service that owns a user."""
        return self.clients[self._owners.of_user(user_id)]

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return once every service is ready; raises ServiceUnavailable if one is not after `timeout` seconds."""
        list(self._threads.map(lambda client: client.wait_until_ready(timeout), self.clients.values()))

    def close(self) -> None:
        """End the connections."""
        self._threads.shutdown()
        for client in self.clients.values():
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: Callable[[Client, Any], Any], objects: Any, name: str) -> Any:
        divided = Division(self._owners, objects, name)

        def outcome(part: tuple[str, list[One]]) -> Outcome:
            url, items = part
            try:
                return method(self.clients[url], items)
            except (ServiceError, InvalidArgument) as error:
                return error

        parts = list(divided.parts.items())
        outcomes = map(outcome, parts) if len(parts) == 1 else self._threads.map(outcome, parts)
        return divided.together(dict(zip(divided.parts, outcomes, strict=True)))


class AsyncRouter:
    """`Router` for asyncio: the same arguments and methods, to be awaited. `aclose` ends its connections."""

    def __init__(self, urls: Sequence[str], **options: Any):
        self._owners = Owners(urls)
        self.clients = {url: AsyncClient(url, **options) for url in self._owners.services}

    @overload
    async def update(self, events: One) -> EventAnswer: ...
    @overload
    async def update(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    async def update(self, events: Any) -> Any:
        """See `Client.update`."""
        return await self._ask(AsyncClient.update, events, "events")

    @overload
    async def score(self, events: One) -> EventAnswer: ...
    @overload
    async def score(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    async def score(self, events: Any) -> Any:
        """See `Client.score`."""
        return await self._ask(AsyncClient.score, events, "events")

    @overload
    async def clicks(self, clicks: One) -> ClickAnswer: ...
    @overload
    async def clicks(self, clicks: "Iterable[One] | pl.DataFrame") -> list[ClickAnswer]: ...
    async def clicks(self, clicks: Any) -> Any:
        """See `Client.clicks`."""
        return await self._ask(AsyncClient.clicks, clicks, "clicks")

    def owner_of_slice(self, key: SliceKey) -> AsyncClient:
        """The client of the service that owns a slice."""
        return self.clients[self._owners.of_slice(key)]

    def owner_of_user(self, user_id: str) -> AsyncClient:
        """The client of the service that owns a user."""
        return self.clients[self._owners.of_user(user_id)]

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """See `Router.wait_until_ready`."""
        await asyncio.gather(*(client.wait_until_ready(timeout) for client in self.clients.values()))

    async def aclose(self) -> None:
        """End the connections."""
        await asyncio.gather(*(client.aclose() for client in self.clients.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask(self, method: Callable[[AsyncClient, Any], Awaitable[Any]], objects: Any, name: str) -> Any:
        divided = Division(self._owners, objects, name)

        async def outcome(url: str, items: list[One]) -> Outcome:
            try:
                return await method(self.clients[url], items)
            except (ServiceError, InvalidArgument) as error:
                return error

        outcomes = await asyncio.gather(*(outcome(url, items) for url, items in divided.parts.items()))
        return divided.together(dict(zip(divided.parts, outcomes, strict=True)))
