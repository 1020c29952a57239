"""The HTTP API as an ASGI application: the hot routes as plain functions, the rest through Starlette.

A request is checked in this order: route, method, rate, key, content type, readiness, size, JSON, fields. The first
check that fails is answered with a problem (RFC 9457). A batch is refused whole or taken whole.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec import UNSET
from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from onlineguard.errors import MissingExtra, SourceError
from onlineguard.slidr.history.keeping import Erased
from onlineguard.wire import operations
from onlineguard.wire.answers import Alive, ErasedAnswer, Problem, Readiness, SnapshotAnswer
from onlineguard.wire.operations import Operation
from onlineguard.wire.requests import (
    Click,
    Decision,
    Event,
    Label,
    Of,
    Person,
    SliceQuery,
    SlicesQuery,
)
from onlineguard_service import logs, tracing
from onlineguard_service.answering import Inferred
from onlineguard_service.config import Settings
from onlineguard_service.fair_queues import QUEUE
from onlineguard_service.http import inference, live, page
from onlineguard_service.http.admission import Admission
from onlineguard_service.http.alarm_stream import AlarmStream
from onlineguard_service.http.alarms import AlarmRoutes, Overseeing
from onlineguard_service.http.bodies import ARROW, JSON, NDJSON, Items, Media, decoded, media, plain_json
from onlineguard_service.http.encoded import accepted, packing, unpacked
from onlineguard_service.http.limits import (
    Crowded,
    Disconnected,
    LargeBodies,
    TooLarge,
    read,
)
from onlineguard_service.http.metrics import Metrics
from onlineguard_service.http.models import Deciding, ModelRoutes
from onlineguard_service.http.openapi import document
from onlineguard_service.http.problems import (
    RETRY_SECONDS,
    SAFE,
    Refused,
    problem,
    retry_after,
    shown,
    too_large,
)
from onlineguard_service.http.queries import keys_of, query
from onlineguard_service.http.readers import Readers
from onlineguard_service.http.registry import RegistryRoutes, Versions
from onlineguard_service.http.request_ids import request_name
from onlineguard_service.patience import AT_ONCE, give_way, let_go
from onlineguard_service.redis.counting import CountersUnavailable
from onlineguard_service.replicas.answers import SnapshotAnswers
from onlineguard_service.standing import Standing

OBJECT_BYTES = 262_144  # of a body that holds one object; more of any JSON takes a tenth of a second to decode
LARGE_BYTES = 65_536  # of a body that waits until the large ones before it are decoded
BODY_SECONDS = 30.0  # within which the rest of a body must arrive after its first part

_JSON_HEADERS = [(b"content-type", JSON), *SAFE]
_NDJSON_HEADERS = [(b"content-type", NDJSON), *SAFE]

_log = logging.getLogger(__name__)
_answers = msgspec.json.Encoder()


class Inside(Protocol):
    """What the HTTP layer asks of a namespace, or of none: `onlineguard_service.answering.Answering`."""

    @property
    def alarms(self) -> Overseeing: ...
    async def update(self, events: list[Event]) -> list[Any]: ...
    async def score(self, events: list[Event]) -> list[Any]: ...
    async def clicks(self, clicks: list[Click]) -> list[Any]: ...
    async def labels(self, labels: list[Label]) -> list[Any]: ...
    async def decisions(self, decisions: list[Decision]) -> list[Any]: ...
    async def erase(self, user_id: str) -> Erased: ...
    async def infer(self, X: np.ndarray, codes: np.ndarray | None, slices: list[str] | None) -> Inferred: ...
    def model_version(self) -> str: ...
    def watch(self) -> dict[str, Any]: ...
    def explain(self, event: Event | Click) -> dict[str, Any]: ...
    async def slices(
        self, of: Of | None, sort: str, descending: bool, limit: int, offset: int, contains: str
    ) -> dict[str, Any]: ...
    def slice(self, of: Of, key: Any) -> dict[str, Any]: ...


class Backend(Inside, Deciding, Protocol):
    """What the HTTP layer asks for answers: `onlineguard_service.core.Core`."""

    @property
    def versions(self) -> Versions: ...
    async def within(self, namespace: str) -> "Inside": ...
    async def snapshot(self) -> int: ...
    def live(self) -> dict[str, Any]: ...
    def reasons(self) -> list[str]: ...
    def degraded(self) -> list[str]: ...
    def status(self) -> dict[str, Any]: ...
    async def close(self) -> None: ...


def application(core: Backend | None, settings: Settings, standing: Standing | None = None) -> "Application":
    """The service. Without a core it answers that it is not ready, until `begin` gives it one."""
    return Application(core, settings, standing)


class Application:
    """The ASGI application. `begin` gives it the core; `drain` tells it that the service is about to stop."""

    def __init__(self, core: Backend | None, settings: Settings, standing: Standing | None = None):
        self.core: Backend | None = None
        self._standing = standing  # of a standby; it has no core before it has taken over
        self._settings = settings
        self._large = LargeBodies(settings.bodies_limit)
        self._live: live.Live | None = None
        self._alarm_stream: AlarmStream | None = None
        self._reason = "the service is starting: programs are compiled and the state is recovered"
        self._draining = False
        self.metrics = Metrics(
            lambda: None if self.core is None else self.status(), bodies=lambda: self._large.held, standing=standing
        )
        self.admission = Admission(settings, self.metrics.called)
        self.hot = {each.path: each for each in self._hot_routes()}
        self.routes = self._cold_routes()
        self._cold = Starlette(routes=self.routes, exception_handlers={HTTPException: _not_found})
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
        hot = self.hot.get(scope["path"])
        if hot is not None and scope["method"] == "POST":
            await self._answer_hot(hot, began, scope, receive, named)
        else:
            await self._answer_cold(began, scope, receive, named)

    def _answered(self, scope: Scope, route: str, status: int, began: float, items: int = 0) -> None:
        """Count a request, and note what it was; `items`: what was learned or scored."""
        self.metrics.count(route, status, began, items)
        tracing.told(scope["method"], route, status, items)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("request", extra={"route": route, "status": status, "items": items})

    # The hot routes

    def _hot_routes(self) -> list["_Hot"]:
        return [
            _hot(operations.UPDATE, lambda core, events: core.update(events)),
            _hot(operations.SCORE, lambda core, events: core.score(events)),
            _hot(operations.CLICKS, lambda core, clicks: core.clicks(clicks)),
            _hot(operations.LABELS, lambda core, labels: core.labels(labels)),
            _hot(operations.DECISIONS, lambda core, decisions: core.decisions(decisions)),
        ]

    async def _answer_hot(self, hot: "_Hot", began: float, scope: Scope, receive: Receive, send: Send) -> None:
        status, count = 200, 0
        try:
            with self._large.holding() as take:
                content_type = self.admission.admit(scope, hot.operation)
                kind = media(content_type)
                core = await self._within(scope)
                body = await self._read(scope, receive, take)
                with tracing.span("decode"):
                    if kind == "arrow":
                        items, single = await _of_arrow(hot.items, body, self._settings.batch_limit), False
                    else:
                        items, single = await hot.items.decoded(body, kind == "lines", self._settings.batch_limit)
                count = len(items)
                if count > AT_ONCE:  # they took a while to be decoded
                    await give_way()
                answers = await hot.answer(core, items) if items else []
                await let_go(items)
                answer, headers = await _written(answers, single, kind, hot.operation, scope)
                if isinstance(answers, SnapshotAnswers):
                    headers += answers.headers
        except Disconnected:
            self._answered(scope, hot.path, 499, began)
            return
        except Exception as error:
            status, answer, headers = problem(error, hot.path)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        self._answered(scope, hot.path, status, began, count if status == 200 else 0)

    def _ready(self) -> Backend:
        """The core, once there is one. A service that is stopping still answers the requests that arrive."""
        if self.core is None:
            raise Refused(503, f"{self._why}; send the request again", retry_after(RETRY_SECONDS))
        return self.core

    async def _within(self, scope: Scope) -> Inside:
        """The core, or what it has of the namespace that the request is about."""
        core, namespace = self._ready(), scope.get("namespace", "")
        return await core.within(namespace) if namespace else core

    async def _read(
        self, scope: Scope, receive: Receive, take: Callable[[int], None], of_object: bool = False
    ) -> bytes:
        """The plain body. Of a client's large ones one is given back at a time, with turns for others before it."""
        limit, encoding = self._settings.body_limit, b""
        if of_object:
            limit = min(limit, OBJECT_BYTES)
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > limit):
                raise too_large(limit, of_object)
            if name == b"content-encoding":
                encoding = value
        try:
            body = await read(receive, limit, BODY_SECONDS, take)
            if not encoding and len(body) <= LARGE_BYTES:
                return body
            queue = QUEUE.get()
            async with nullcontext() if queue is None else queue.large:
                if encoding:
                    body = await unpacked(body, encoding, limit)
                    take(len(body))
                await give_way()
            return body
        except Crowded:
            raise Refused(
                503, "large requests are being answered; send it again, or in smaller parts", retry_after(RETRY_SECONDS)
            ) from None
        except TooLarge:
            raise too_large(limit, of_object) from None
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None

    # The rest

    def _cold_routes(self) -> list[Route]:
        handlers = [
            (operations.LIVEZ, self._livez),
            (operations.READYZ, self._readyz),
            (operations.OPENAPI, self._openapi),
            (operations.METRICS, self._metrics),
            (operations.SLICES, self._slices),
            (operations.SLICE, self._slice),
            (operations.LIVE, lambda request: self._stream(request, self._live)),
            (operations.ALARM_STREAM, lambda request: self._stream(request, self._alarm_stream)),
            (operations.EXPLAIN, self._explain),
            (operations.WATCH, self._watch),
            (operations.SNAPSHOT, self._snapshot),
            (operations.ERASE, self._erase),
        ]
        handlers += [
            (operation, partial(_as_json, answer))
            for operation, answer in (
                *ModelRoutes(self._ready, self._read_object).handlers(),
                *RegistryRoutes(lambda: self._ready().versions, self._read_object).handlers(),
                *AlarmRoutes(self._overseeing, self._read_object).handlers(),
            )
        ]
        reading = inference.Reading(
            self._inferring, self._read_body, lambda: not self.reasons(), self._settings.batch_limit
        )
        return [
            *(self._guarded(operation, answer) for operation, answer in handlers),
            *(
                self._guarded(operation, answer, inference.refused)
                for operation, answer in inference.InferenceRoutes(reading).handlers()
            ),
            *page.routes(),
        ]

    async def _inferring(self, request: Request) -> Inside:
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
                return _raw(body, headers, status)

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
                response = _raw(b"", [(b"allow", methods), *SAFE], 204)
                await response(scope, receive, sending)
                self._answered(scope, route, 204, began)
                return
            refused = Refused(405, f"{method} is not allowed here; use {methods.decode()}", [(b"allow", methods)])
        try:
            if refused is not None:
                code, body, headers = problem(refused, route or "other")
                await _raw(body, headers, code)(scope, receive, sending)
            else:
                await self._cold(scope, receive, sending)
        except Disconnected:
            status = 499
        finally:
            self._answered(scope, route or "other", status, began)

    def _find(self, scope: Scope) -> tuple[str | None, set[str]]:
        """The route of the request's path, by its name in the metrics, and the methods that it takes."""
        if scope["path"] in self.hot:
            return scope["path"], {"POST"}
        found = [route for route in self.routes if route.matches(scope)[0] is not Match.NONE]
        if not found:
            return None, set()
        same = [route for route in found if route.path == found[0].path]
        return same[0].path.replace(":any", ""), {method for route in same for method in route.methods or ()}

    async def _livez(self, request: Request) -> Response:
        return _json(Alive())

    async def _readyz(self, request: Request) -> Response:
        reasons = self.reasons()
        ready = not reasons
        degraded = [] if self.core is None else self.core.degraded()
        body = msgspec.json.encode(Readiness(ready, reasons, degraded))
        return _raw(
            body, _JSON_HEADERS if ready else [*_JSON_HEADERS, *retry_after(RETRY_SECONDS)], 200 if ready else 503
        )

    async def _openapi(self, request: Request) -> Response:
        return _raw(document(self.admission.keyed), _JSON_HEADERS)

    async def _metrics(self, request: Request) -> Response:
        return _raw(self.metrics.text(), [(b"content-type", self.metrics.content_type.encode()), *SAFE])

    async def _slices(self, request: Request) -> Response:
        asked = query(request, SlicesQuery)
        of = None if asked.of is UNSET else asked.of
        descending = asked.order == "desc"
        core = await self._within(request.scope)
        return _json(await core.slices(of, asked.sort, descending, asked.limit, asked.offset, asked.contains))

    async def _slice(self, request: Request) -> Response:
        of = query(request, SliceQuery).of
        core, text = await self._within(request.scope), request.path_params["key"]
        for key in keys_of(text, of):
            try:
                return _json(core.slice(of, key))
            except KeyError:
                continue
        raise Refused(404, f"no slice of {of} has the key {shown(text)}; /v1/slices?of={of} lists them")

    async def _stream(self, request: Request, stream: Readers | None) -> Response:
        self._ready()
        assert stream is not None
        if request.method == "HEAD":  # whose answer ends
            return _raw(b"", [(b"content-type", b"text/event-stream; charset=utf-8"), *SAFE])
        return _Passed(stream)

    async def _explain(self, request: Request) -> Response:
        body, core = await self._read_object(request), await self._within(request.scope)
        kind = plain_json(body)
        if isinstance(kind, dict) and "slice" not in kind and "click_id" in kind:
            items, single = self.hot[operations.CLICKS.path].items.decode(body, False)
        else:
            items, single = self.hot[operations.UPDATE.path].items.decode(body, False)
        if not single:
            raise Refused(422, "the body is an array; it must be one event or one click")
        try:
            return _json(core.explain(items[0]))
        except KeyError:
            raise Refused(404, "the slice is not known, so nothing drives its scores yet") from None

    async def _watch(self, request: Request) -> Response:
        return _json((await self._within(request.scope)).watch())

    async def _snapshot(self, request: Request) -> Response:
        return _json(SnapshotAnswer(await self._ready().snapshot()))

    async def _erase(self, request: Request) -> Response:
        core, body = await self._within(request.scope), await self._read_object(request)
        person = decoded(body, Person)
        try:
            erased = await core.erase(person.user_id)
        except CountersUnavailable as error:
            raise Refused(
                503, f"{error}; what is left is erased once this is sent again", retry_after(RETRY_SECONDS)
            ) from None
        except SourceError as error:  # names made with another key
            raise Refused(422, str(error)) from None
        return _json(ErasedAnswer(erased.clicks, erased.labels))

    async def _read_object(self, request: Request) -> bytes:
        """The body of a request that holds one object, and is soon answered."""
        if media(request.headers.get("content-type", "").encode("latin-1")) != "json":
            raise Refused(415, "this route takes one object as application/json")
        return await self._read_body(request, of_object=True)

    async def _read_body(self, request: Request, of_object: bool = False) -> bytes:
        self._ready()
        with self._large.holding() as take:
            return await self._read(request.scope, request.receive, take, of_object)


class _Hot(NamedTuple):
    path: str
    operation: Operation
    items: Items
    answer: Callable[[Inside, list[Any]], Awaitable[list[Any]]]


def _hot(operation: Operation, answer: Callable[[Inside, list[Any]], Awaitable[list[Any]]]) -> _Hot:
    return _Hot(operation.path, operation, Items(operation.noun, operation.body[0]), answer)


async def _of_arrow(of: Items, body: bytes, most: int) -> list[Any]:
    """The items in the rows of an Arrow stream, made in parts with turns for others in between."""
    items: list[Any] = []
    for part in of.of_arrow(body, most):
        if items:
            await give_way()
        items += part
    return items


async def _written(
    answers: list[Any], single: bool, kind: Media, operation: Operation, scope: Scope
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Answers as a body with its headers: as the question was, or as Arrow where the client accepts that by name."""
    if any(name == b"accept" and ARROW in value for name, value in scope["headers"]):
        try:
            from onlineguard.wire import arrow
        except MissingExtra as error:
            raise Refused(406, f"this service writes no Arrow: {error}") from None
        answer, headers = arrow.encoded(answers, operation.answer or msgspec.Struct), [(b"content-type", ARROW), *SAFE]
    elif single:
        answer, headers = _answers.encode(answers[0]), _JSON_HEADERS
    elif kind == "lines":
        answer, headers = await _encoded(answers, True), _NDJSON_HEADERS
    else:
        answer, headers = await _encoded(answers, False), _JSON_HEADERS
    return answer, [*headers, (b"content-length", b"%d" % len(answer))]


async def _encoded(answers: list[Any], lines: bool) -> bytes:
    """Answers as JSON; many of them in parts, which are let go of, with turns for others in between."""
    if len(answers) <= AT_ONCE:
        return _answers.encode_lines(answers) if lines else _answers.encode(answers)
    parts: list[bytes] = []
    for start in range(0, len(answers), AT_ONCE):
        part = answers[start : start + AT_ONCE]
        answers[start : start + AT_ONCE] = [None] * len(part)
        parts.append(_answers.encode_lines(part) if lines else _answers.encode(part)[1:-1])
        await give_way()
    return b"".join(parts) if lines else b"[" + b",".join(parts) + b"]"


class _AnyKey(PathConvertor):
    """The rest of a path, which is a key of any characters: with slashes, as Starlette's own `path`, and line ends."""

    regex = "(?s:.*)"


register_url_convertor("any", _AnyKey())


class _Passed(Response):
    """An ASGI application as a response."""

    def __init__(self, app: Any):
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _as_json(answer: Callable[[Request], Awaitable[Any]], request: Request) -> Response:
    return _json(await answer(request))


def _json(value: Any) -> Response:
    return _raw(msgspec.json.encode(value), _JSON_HEADERS)


def _raw(body: bytes, headers: list[tuple[bytes, bytes]], status: int = 200) -> Response:
    response = Response(body, status)
    length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
    response.raw_headers = [*(pair for pair in headers if pair[0] != b"content-length"), *length]
    return response


async def _not_found(request: Request, error: Exception) -> Response:
    status, body, headers = problem(Refused(404, "there is nothing at this path"), "other")
    return _raw(body, headers, status)


__all__ = ["Application", "Backend", "application"]
