"""The routes of what was learned: slices, the watch of clicks, what drives a score, a snapshot, a person's erasure."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import UNSET
from starlette.requests import Request

from onlineguard.errors import SourceError
from onlineguard.wire import operations
from onlineguard.wire.answers import ErasedAnswer, SnapshotAnswer
from onlineguard.wire.operations import Operation
from onlineguard.wire.requests import Person, SliceQuery, SlicesQuery
from onlineguard_service.http.backend import Backend, Inside
from onlineguard_service.http.bodies import Items, decoded, plain_json
from onlineguard_service.http.problems import RETRY_SECONDS, Refused, retry_after, shown
from onlineguard_service.http.queries import keys_of, query
from onlineguard_service.redis.counting import CountersUnavailable

_EVENTS, _CLICKS = Items.of(operations.UPDATE), Items.of(operations.CLICKS)


class LearnedRoutes:
    """See this module.

    core: raises Refused before the service is ready.
    within: the same, or what it has of the namespace that a request is about.
    read: the body of a request that holds one object.
    """

    def __init__(
        self,
        core: Callable[[], Backend],
        within: Callable[[Request], Awaitable[Inside]],
        read: Callable[[Request], Awaitable[bytes]],
    ):
        self._core, self._within, self._read = core, within, read

    def handlers(self) -> list[tuple[Operation, Callable[[Request], Awaitable[Any]]]]:
        """What answers each operation, with a struct of the contract or what it holds."""
        return [
            (operations.SLICES, self._slices),
            (operations.SLICE, self._slice),
            (operations.EXPLAIN, self._explain),
            (operations.WATCH, self._watch),
            (operations.SNAPSHOT, self._snapshot),
            (operations.ERASE, self._erase),
        ]

    async def _slices(self, request: Request) -> dict[str, Any]:
        asked = query(request, SlicesQuery)
        of = None if asked.of is UNSET else asked.of
        descending = asked.order == "desc"
        core = await self._within(request)
        return await core.slices(of, asked.sort, descending, asked.limit, asked.offset, asked.contains)

    async def _slice(self, request: Request) -> dict[str, Any]:
        of = query(request, SliceQuery).of
        core, text = await self._within(request), request.path_params["key"]
        for key in keys_of(text, of):
            try:
                return core.slice(of, key)
            except KeyError:
                continue
        raise Refused(404, f"no slice of {of} has the key {shown(text)}; /v1/slices?of={of} lists them")

    async def _explain(self, request: Request) -> dict[str, Any]:
        body, core = await self._read(request), await self._within(request)
        kind = plain_json(body)
        is_click = isinstance(kind, dict) and "slice" not in kind and "click_id" in kind
        items, single = (_CLICKS if is_click else _EVENTS).decode(body, False)
        if not single:
            raise Refused(422, "the body is an array; it must be one event or one click")
        try:
            return core.explain(items[0])
        except KeyError:
            raise Refused(404, "the slice is not known, so nothing drives its scores yet") from None

    async def _watch(self, request: Request) -> dict[str, Any]:
        return (await self._within(request)).watch()

    async def _snapshot(self, request: Request) -> SnapshotAnswer:
        return SnapshotAnswer(await self._core().snapshot())

    async def _erase(self, request: Request) -> ErasedAnswer:
        core, body = await self._within(request), await self._read(request)
        person = decoded(body, Person)
        try:
            erased = await core.erase(person.user_id)
        except CountersUnavailable as error:
            raise Refused(
                503, f"{error}; what is left is erased once this is sent again", retry_after(RETRY_SECONDS)
            ) from None
        except SourceError as error:  # names made with another key
            raise Refused(422, str(error)) from None
        return ErasedAnswer(erased.clicks, erased.labels)
