"""The routes of the alarms: what was asked, decoded by the contract, and given to `onlineguard_service.overseeing`."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.requests import Request

from onlineguard.errors import InvalidArgument
from onlineguard.wire import operations
from onlineguard.wire.alarms import AlarmNote, AlarmPage, AlarmsQuery, AlarmState
from onlineguard.wire.operations import Operation
from onlineguard_service.http.bodies import decoded
from onlineguard_service.http.problems import Refused, shown
from onlineguard_service.http.queries import query, who


class Overseeing(Protocol):
    """What these routes ask for answers: `onlineguard_service.overseeing.Overseeing`."""

    async def page(self, asked: AlarmsQuery) -> AlarmPage: ...
    def alarm(self, name: str) -> AlarmState: ...
    async def note(self, name: str, note: AlarmNote, who: str) -> AlarmState: ...
    @property
    def change(self) -> int: ...
    def since(self, change: int, upto: int, most: int) -> list[tuple[int, AlarmState]]: ...
    def latest(self, change: int, upto: int, most: int) -> int: ...


class AlarmRoutes:
    """See this module. `alarms` are those a request is about, or it raises Refused; `read` is the body of a request."""

    def __init__(self, alarms: Callable[[Request], Awaitable[Overseeing]], read: Callable[[Request], Awaitable[bytes]]):
        self._alarms, self._read = alarms, read

    def handlers(self) -> list[tuple[Operation, Callable[[Request], Awaitable[Any]]]]:
        """What answers each operation, with a struct of the contract."""
        return [
            (operations.ALARMS, self._page),
            (operations.ALARM, self._alarm),
            (operations.NOTE_ALARM, self._note),
        ]

    async def _page(self, request: Request) -> AlarmPage:
        asked = query(request, AlarmsQuery)
        try:
            return await (await self._alarms(request)).page(asked)
        except InvalidArgument as error:
            raise Refused(422, str(error)) from None

    async def _alarm(self, request: Request) -> AlarmState:
        name = request.path_params["id"]
        try:
            return (await self._alarms(request)).alarm(name)
        except KeyError:
            raise _absent(name) from None

    async def _note(self, request: Request) -> AlarmState:
        name, body = request.path_params["id"], await self._read(request)
        note = decoded(body, AlarmNote)
        try:
            return await (await self._alarms(request)).note(name, note, who(request))
        except InvalidArgument as error:
            raise Refused(422, str(error)) from None
        except KeyError:
            raise _absent(name) from None


def _absent(name: str) -> Refused:
    return Refused(404, f"no alarm {shown(name)} is kept; /v1/alarms lists them")
