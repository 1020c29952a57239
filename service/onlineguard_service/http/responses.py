"""Answers of the routes that Starlette serves."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from onlineguard_service.http.bodies import JSON
from onlineguard_service.http.problems import SAFE, Refused, problem

JSON_HEADERS = [(b"content-type", JSON), *SAFE]


class Passed(Response):
    """An ASGI application as a response."""

    def __init__(self, app: Any):
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def as_json(value: Any) -> Response:
    """A struct of the contract, or what it holds."""
    return raw(msgspec.json.encode(value), JSON_HEADERS)


async def json_of(answer: Callable[[Request], Awaitable[Any]], request: Request) -> Response:
    """What is answered to a request, as JSON."""
    return as_json(await answer(request))


def raw(body: bytes, headers: list[tuple[bytes, bytes]], status: int = 200) -> Response:
    """These headers and the body's length, and no other."""
    response = Response(body, status)
    length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
    response.raw_headers = [*(pair for pair in headers if pair[0] != b"content-length"), *length]
    return response


async def not_found(request: Request, error: Exception) -> Response:
    """Starlette's own refusal, as a problem."""
    status, body, headers = problem(Refused(404, "there is nothing at this path"), "other")
    return raw(body, headers, status)
