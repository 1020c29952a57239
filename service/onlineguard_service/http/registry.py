"""The routes of the registry: what was asked, decoded by the contract, and given to `onlineguard_service.versions`."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from starlette.requests import Request

from onlineguard.errors import InvalidArgument
from onlineguard.wire import operations
from onlineguard.wire.operations import Operation
from onlineguard.wire.registry import (
    Changed,
    ChangePage,
    DiffQuery,
    Promotion,
    RegistryState,
    Rollback,
    RowsQuery,
    VersionDiff,
    VersionState,
)
from onlineguard_service.http.bodies import decoded
from onlineguard_service.http.problems import Refused
from onlineguard_service.http.queries import query, who


class Versions(Protocol):
    """What these routes ask for answers: `onlineguard_service.versions.Versions`."""

    async def state(self, limit: int, offset: int) -> RegistryState: ...
    async def version(self, version: str) -> VersionState: ...
    async def changes(self, limit: int, offset: int) -> ChangePage: ...
    async def diff(self, a: str, b: str) -> VersionDiff: ...
    async def promote(self, asked: Promotion, who: str) -> Changed: ...
    async def rollback(self, asked: Rollback, who: str) -> Changed: ...


class RegistryRoutes:
    """See this module. `versions` raises Refused before the service is ready; `read` is the body of a request."""

    def __init__(self, versions: Callable[[], Versions], read: Callable[[Request], Awaitable[bytes]]):
        self._versions, self._read = versions, read

    def handlers(self) -> list[tuple[Operation, Callable[[Request], Awaitable[Any]]]]:
        """What answers each operation, with a struct of the contract."""
        return [
            (operations.REGISTRY, self._state),
            (operations.VERSION, self._version),
            (operations.CHANGES, self._changes),
            (operations.DIFF, self._diff),
            (operations.PROMOTE, self._promote),
            (operations.ROLLBACK, self._rollback),
        ]

    async def _state(self, request: Request) -> RegistryState:
        asked = query(request, RowsQuery)
        return await self._versions().state(asked.limit, asked.offset)

    async def _version(self, request: Request) -> VersionState:
        return await _there(self._versions().version(request.path_params["version"]))

    async def _changes(self, request: Request) -> ChangePage:
        asked = query(request, RowsQuery)
        return await _there(self._versions().changes(asked.limit, asked.offset))

    async def _diff(self, request: Request) -> VersionDiff:
        asked = query(request, DiffQuery)
        return await _there(self._versions().diff(asked.a, asked.b))

    async def _promote(self, request: Request) -> Changed:
        return await self._versions().promote(await self._asked(request, Promotion), who(request))

    async def _rollback(self, request: Request) -> Changed:
        return await self._versions().rollback(await self._asked(request, Rollback), who(request))

    async def _asked[K: msgspec.Struct](self, request: Request, kind: type[K]) -> K:
        return decoded(await self._read(request), kind)


async def _there[A](answer: Awaitable[A]) -> A:
    """The answer about a version. Raises Refused where it, or the registry, is not there."""
    try:
        return await answer
    except InvalidArgument as error:
        raise Refused(404, str(error)) from None
