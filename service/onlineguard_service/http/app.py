"""The HTTP API as an ASGI application: the hot routes as plain functions, the rest through Starlette.

A request is checked in this order: route, method, rate, key, content type, readiness, size, JSON, fields. The first
check that fails is answered with a problem (RFC 9457).
"""

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from onlineguard.wire import operations
from onlineguard.wire.answers import Alive, Problem, Readiness
from onlineguard.wire.operations import Operation
from onlineguard_service import logs, tracing
from onlineguard_service.config import Settings
from onlineguard_service.http import inference, live, page
from onlineguard_service.http.admission import Admission
from onlineguard_service.http.alarm_stream import AlarmStream
from onlineguard_service.http.alarms import AlarmRoutes, Overseeing
from onlineguard_service.http.backend import Backend, Inside
from onlineguard_service.http.encoded import accepted, packing
from onlineguard_service.http.hot import GONE, HotRoutes
from onlineguard_service.http.incoming import Bodies
from onlineguard_service.http.learned import LearnedRoutes
from onlineguard_service.http.limits import Disconnected
from onlineguard_service.http.metrics import Metrics
from onlineguard_service.http.models import ModelRoutes
from onlineguard_service.http.openapi import document
from onlineguard_service.http.problems import RETRY_SECONDS, SAFE, Refused, problem, retry_after
from onlineguard_service.http.readers import Readers
from onlineguard_service.http.registry import RegistryRoutes
from onlineguard_service.http.request_ids import request_name
from onlineguard_service.http.responses import JSON_HEADERS, Passed, as_json, json_of, not_found, raw
from onlineguard_service.standing import Standing

_log = logging.getLogger(__name__)


def application(core: Backend | None, settings: Settings, standing: Standing | None = None) -> "Application":
    """The service. Without a core it answers that it is not ready, until `begin` gives it one."""
    return Application(core, settings, standing)


class Application:
    """The ASGI application. `begin` gives it the core; `drain` tells it that the service is about to stop."""

    def __init__(self, core: Backend | None, settings: Settings, standing: Standing | None = None):
        self.core: Backend | None = None
        self._standing = standing  # of a standby; it has no core before it has taken over
        self._settings = settings
        self._bodies = Bodies(settings.body_limit, settings.bodies_limit, self._ready)
        self._live: live.Live | None = None
        self._alarm_stream: AlarmStream | None = None
        self._reason = "the service is starting: programs are compiled and the state is recovered"
        self._draining = False
        self.metrics = Metrics(
            lambda: None if self.core is None else self.status(), bodies=lambda: self._bodies.held, standing=standing
        )
        self.admission = Admission(settings, self.metrics.called)
        self.hot = HotRoutes(self.admission, self._bodies, self._within, settings.batch_limit)
        self.routes = self._cold_routes()
        self._cold = Starlette(routes=self.routes, exception_handlers={HTTPException: not_found})
        self._cold.router.redirect_slashes = False
        if core is not None:
            self._use(core)

    def begin(self, core: Backend) -> None:
        """Answer from this core from now on, and tick for /v1/live. Call it in the running event loop."""
        for stream in self._use(core):
            stream.start()

    def _use(self, core: Backend) -> list[Readers]:
        self.core, self._live, self._alarm_stream = core, live.live(self), AlarmStream(core.alarms)
        return [self._live, self._alarm_stream]

    def drain(self) -> None:
        """Report that the service is not ready, and end the streams of events. Requests are still answered."""
        self._draining = True
        self._reason = "the service is stopping"
        for stream in (self._live, self._alarm_stream):
            if stream is not None:
                stream.close()

    def live(self) -> dict[str, Any]:
        """One tick of /v1/live: the core's figures, the latency that this process measured, and why it is not ready."""
        assert self.core is not None
        return {**self.core.live(), "latency": self.metrics.latency(), "reasons": self.reasons()}

    def reasons(self) -> list[str]:
        """Why the service is not ready; empty where it is."""
        mine = [self._why] if self.core is None or self._draining else []
        return mine if self.core is None else [*mine, *self.core.reasons()]

    @property
    def _why(self) -> str:
        """Why nothing is answered without a core, or will soon not be."""
        if self._standing is not None and self._standing.follows and not self._draining:
            return self._standing.reason
        return self._reason

    def status(self) -> dict[str, Any]:
        """The core's status; not ready before there is a core, or while the service stops."""
        reasons = self.reasons()
        return {**({} if self.core is None else self.core.status()), "ready": not reasons, "reasons": reasons}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the service speaks HTTP, not {scope['type']}")
        began = time.perf_counter()
        self.metrics.under_way += 1
        try:
            with tracing.request(tracing.caller(scope["headers"])) as place:
                await self._named(place, began, scope, receive, send)
        finally:
            self.metrics.under_way -= 1

    async def _named(
        self, place: tracing.Place | None, began: float, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request with its id, and its place in a trace, in the headers."""
        trace = None if place is None else place.trace
        name = request_name(scope["headers"], trace)
        logs.REQUEST.set(logs.Request(name, trace))
        more = [(b"x-request-id", name.encode())]
        if place is not None:
            more.append((b"traceparent", place.header))

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *more]
            await send(message)

        named = naming
        for header, value in scope["headers"]:
            if header == b"accept-encoding" and scope["method"] != "HEAD" and (encoding := accepted(value)) is not None:
                named = packing(naming, encoding)
        path = scope["path"]
        if path in self.hot.paths and scope["method"] == "POST":
            status, items = await self.hot.answer(scope, receive, named)
            self._answered(scope, path, status, began, items)
        else:
            await self._answer_cold(began, scope, receive, named)

    def _answered(self, scope: Scope, route: str, status: int, began: float, items: int = 0) -> None:
        """Count a request, and note what it was; `items`: what was learned or scored."""
        self.metrics.count(route, status, began, items)
        tracing.told(scope["method"], route, status, items)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("request", extra={"route": route, "status": status, "items": items})

    def _ready(self) -> Backend:
        """The core, once there is one. A service that is stopping still answers the requests that arrive."""
        if self.core is None:
            raise Refused(503, f"{self._why}; send the request again", retry_after(RETRY_SECONDS))
        return self.core

    async def _within(self, scope: Scope) -> Inside:
        """The core, or what it has of the namespace that the request is about."""
        core, namespace = self._ready(), scope.get("namespace", "")
        return await core.within(namespace) if namespace else core

    def _cold_routes(self) -> list[Route]:
        read = self._bodies.of_object
        handlers = [
            (operations.LIVEZ, self._livez),
            (operations.READYZ, self._readyz),
            (operations.OPENAPI, self._openapi),
            (operations.METRICS, self._metrics),
            (operations.LIVE, lambda request: self._stream(request, self._live)),
            (operations.ALARM_STREAM, lambda request: self._stream(request, self._alarm_stream)),
        ]
        handlers += [
            (operation, partial(json_of, answer))
            for operation, answer in (
                *LearnedRoutes(self._ready, self._inside, read).handlers(),
                *ModelRoutes(self._ready, read).handlers(),
                *RegistryRoutes(lambda: self._ready().versions, read).handlers(),
                *AlarmRoutes(self._overseeing, read).handlers(),
            )
        ]
        reading = inference.Reading(
            self._inside, self._bodies.of, lambda: not self.reasons(), self._settings.batch_limit
        )
        return [
            *(self._guarded(operation, answer) for operation, answer in handlers),
            *(
                self._guarded(operation, answer, inference.refused)
                for operation, answer in inference.InferenceRoutes(reading).handlers()
            ),
            *page.routes(),
        ]

    async def _inside(self, request: Request) -> Inside:
        return await self._within(request.scope)

    async def _overseeing(self, request: Request) -> Overseeing:
        return (await self._within(request.scope)).alarms

    def _guarded(
        self,
        operation: Operation,
        answer: Callable[[Request], Awaitable[Response]],
        refused: Callable[[int, str], Response] | None = None,
    ) -> Route:
        """The route of an operation: it checks the key first, and answers errors with problems, or as `refused`.

        What is refused in another way than by problems is described by another specification than /openapi.json.
        """

        async def guarded(request: Request) -> Response:
            try:
                self.admission.admit(request.scope, operation)
                return await answer(request)
            except Exception as error:
                status, body, headers = problem(error, operation.path)
                if refused is not None:
                    return refused(status, msgspec.json.decode(body, type=Problem).detail)
                return raw(body, headers, status)

        path = operation.path.replace("{key}", "{key:any}")
        return Route(path, guarded, methods=[operation.method], include_in_schema=refused is None)

    async def _answer_cold(self, began: float, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        route, allowed = self._find(scope)
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        if route is None:
            refused: Refused | None = Refused(404, "there is nothing at this path; /openapi.json lists every route")
        elif method in allowed:
            refused = None
        else:
            methods = ", ".join((*sorted(allowed), "OPTIONS")).encode()
            if method == "OPTIONS":
                response = raw(b"", [(b"allow", methods), *SAFE], 204)
                await response(scope, receive, sending)
                self._answered(scope, route, 204, began)
                return
            refused = Refused(405, f"{method} is not allowed here; use {methods.decode()}", [(b"allow", methods)])
        try:
            if refused is not None:
                code, body, headers = problem(refused, route or "other")
                await raw(body, headers, code)(scope, receive, sending)
            else:
                await self._cold(scope, receive, sending)
        except Disconnected:
            status = GONE
        finally:
            self._answered(scope, route or "other", status, began)

    def _find(self, scope: Scope) -> tuple[str | None, set[str]]:
        """The route of the request's path, by its name in the metrics, and the methods that it takes."""
        if scope["path"] in self.hot.paths:
            return scope["path"], {"POST"}
        found = [route for route in self.routes if route.matches(scope)[0] is not Match.NONE]
        if not found:
            return None, set()
        same = [route for route in found if route.path == found[0].path]
        return same[0].path.replace(":any", ""), {method for route in same for method in route.methods or ()}

    async def _livez(self, request: Request) -> Response:
        return as_json(Alive())

    async def _readyz(self, request: Request) -> Response:
        reasons = self.reasons()
        ready = not reasons
        degraded = [] if self.core is None else self.core.degraded()
        body = msgspec.json.encode(Readiness(ready, reasons, degraded))
        return raw(body, JSON_HEADERS if ready else [*JSON_HEADERS, *retry_after(RETRY_SECONDS)], 200 if ready else 503)

    async def _openapi(self, request: Request) -> Response:
        return raw(document(self.admission.keyed), JSON_HEADERS)

    async def _metrics(self, request: Request) -> Response:
        return raw(self.metrics.text(), [(b"content-type", self.metrics.content_type.encode()), *SAFE])

    async def _stream(self, request: Request, stream: Readers | None) -> Response:
        self._ready()
        assert stream is not None
        if request.method == "HEAD":  # whose answer ends
            return raw(b"", [(b"content-type", b"text/event-stream; charset=utf-8"), *SAFE])
        return Passed(stream)


class _AnyKey(PathConvertor):
    """The rest of a path, which is a key of any characters: with slashes, as Starlette's own `path`, and line ends."""

    regex = "(?s:.*)"


register_url_convertor("any", _AnyKey())
