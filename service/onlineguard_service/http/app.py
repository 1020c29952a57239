"""The HTTP API as an ASGI application: the hot routes as plain functions, the rest through Starlette.

A request is checked in this order: route, method, rate, key, content type, readiness, size, JSON, fields. The first
check that fails is answered with a problem (RFC 9457). A batch is refused whole or taken whole.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec import UNSET
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from onlineguard.errors import MissingExtra, OnlineguardError, SourceError
from onlineguard.slidr.history.keeping import Erased
from onlineguard.wire import operations
from onlineguard.wire.answers import Alive, ErasedAnswer, ModelVersion, Problem, Readiness, SnapshotAnswer
from onlineguard.wire.operations import Operation
from onlineguard.wire.requests import (
    Click,
    Decision,
    Event,
    Label,
    ModelFolder,
    Of,
    Person,
    SliceQuery,
    SlicesQuery,
    TrialModel,
)
from onlineguard_service import logs, tracing
from onlineguard_service.answering import Inferred
from onlineguard_service.config import Settings
from onlineguard_service.errors import JournalUnavailable, OnTrial
from onlineguard_service.http import inference, live, page
from onlineguard_service.http.alarm_stream import AlarmStream
from onlineguard_service.http.alarms import AlarmRoutes, Overseeing
from onlineguard_service.http.auth import ApiKeys, Caller
from onlineguard_service.http.bodies import ARROW, JSON, NDJSON, Items, Media, media, plain_json
from onlineguard_service.http.encoded import accepted, packing, unpacked
from onlineguard_service.http.limits import (
    Crowded,
    Disconnected,
    LargeBodies,
    RateLimit,
    TooLarge,
    is_local,
    network,
    read,
)
from onlineguard_service.http.metrics import Metrics
from onlineguard_service.http.openapi import document
from onlineguard_service.http.problems import (
    RETRY_SECONDS,
    SAFE,
    Refused,
    problem,
    retry_after,
    shown,
    too_large,
    too_many,
)
from onlineguard_service.http.queries import keys_of, query
from onlineguard_service.http.readers import Readers
from onlineguard_service.http.registry import RegistryRoutes, Versions
from onlineguard_service.http.request_ids import request_name
from onlineguard_service.redis.counting import CountersUnavailable
from onlineguard_service.standing import Standing

NAMESPACE = b"x-namespace"  # the header in which an admin names one
BODY_SECONDS = 30.0  # within which the rest of a body must arrive after its first part

_JSON_HEADERS = [(b"content-type", JSON), *SAFE]
_NDJSON_HEADERS = [(b"content-type", NDJSON), *SAFE]

_audit = logging.getLogger("onlineguard_service.audit")
_log = logging.getLogger(__name__)
_answers = msgspec.json.Encoder()


class Inside(Protocol):
    """What the HTTP layer asks of a namespace, or of none: `onlineguard_service.answering.Answering`."""

    @property
    def alarms(self) -> Overseeing: ...
    async def update(self, events: list[Event]) -> Sequence[Any]: ...
    async def score(self, events: list[Event]) -> Sequence[Any]: ...
    async def clicks(self, clicks: list[Click]) -> Sequence[Any]: ...
    async def labels(self, labels: list[Label]) -> Sequence[Any]: ...
    async def decisions(self, decisions: list[Decision]) -> Sequence[Any]: ...
    async def erase(self, user_id: str) -> Erased: ...
    async def infer(self, X: np.ndarray, codes: np.ndarray | None, slices: list[str] | None) -> Inferred: ...
    def model_version(self) -> str: ...
    def watch(self) -> dict[str, Any]: ...
    def explain(self, event: Event | Click) -> dict[str, Any]: ...
    async def slices(
        self, of: Of | None, sort: str, descending: bool, limit: int, offset: int, contains: str
    ) -> dict[str, Any]: ...
    def slice(self, of: Of, key: Any) -> dict[str, Any]: ...


class Backend(Inside, Protocol):
    """What the HTTP layer asks for answers: `onlineguard_service.core.Core`."""

    @property
    def versions(self) -> Versions: ...
    async def switch(self, folder: Path, force: bool = False) -> str: ...
    async def switch_to(self, version: str, force: bool = False) -> str: ...
    async def try_folder(self, folder: Path, share: float, force: bool = False) -> dict[str, Any]: ...
    async def try_version(self, version: str, share: float, force: bool = False) -> dict[str, Any]: ...
    async def end_trial(self) -> dict[str, Any]: ...
    def trial(self) -> dict[str, Any]: ...
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
        self.read_keys()
        self._large = LargeBodies(settings.bodies_limit)
        self._local_only = self._keys is None and is_local(settings.host) and settings.host not in ("0.0.0.0", "::")
        self._rate = RateLimit(settings.rate_limit) if settings.rate_limit > 0 else None
        self._live: live.Live | None = None
        self._alarm_stream: AlarmStream | None = None
        self._reason = "the service is starting: programs are compiled and the state is recovered"
        self._draining = False
        self.metrics = Metrics(
            lambda: None if self.core is None else self.status(), bodies=lambda: self._large.held, standing=standing
        )
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

    def read_keys(self) -> None:
        """Read the file of API keys, if there is one. Raises InvalidArgument, and the keys stay as they were."""
        self._keys = ApiKeys.load(self._settings.keys) if self._settings.keys is not None else None

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
                content_type = self._admit(scope, hot.operation)
                kind = media(content_type)
                core = await self._within(scope)
                body = await self._read(scope, receive, take)
                with tracing.span("decode"):
                    if kind == "arrow":
                        items, single = hot.items.of_arrow(body, self._settings.batch_limit), False
                    else:
                        items, single = hot.items.decode(body, kind == "lines")
                count = len(items)
                if count > self._settings.batch_limit:
                    raise too_many(count, hot.items.noun, self._settings.batch_limit)
                answers = await hot.answer(core, items) if items else []
                answer, headers = _written(answers, single, kind, hot.operation, scope)
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

    def _admit(self, scope: Scope, operation: Operation) -> bytes:
        """The content type of a request that may be answered. Raises Refused for a wrong key, or too many requests."""
        content_type, key, host, origin, asked, needed = b"", None, b"", None, "", operation.scope
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"x-api-key":
                key = value
            elif name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == NAMESPACE:
                asked = value.decode("latin-1")
            elif name == b"authorization" and key is None and value[:7].lower() == b"bearer ":
                key = value[7:].strip()
        if needed is None:
            return content_type
        caller = self._keys.find(key) if self._keys is not None and key is not None else None
        if self._rate is not None:
            client = scope.get("client")
            if caller is None:
                counted_as = " " + network(client[0] if client else "")
            else:
                counted_as = f" namespace {caller.namespace}" if caller.namespace else caller.name
            if (seconds := self._rate.wait(counted_as)) > 0.0:
                limit = self._settings.rate_limit
                raise Refused(429, f"more than {limit:g} requests a second; wait {seconds:.3g} s", retry_after(seconds))
        if self._keys is None:
            if asked:
                raise Refused(422, f"the namespace {shown(asked)} is unknown: there are no keys, which would name some")
            self._check_site(host.decode("latin-1"), origin)
            self._note(None, scope, needed)
            return content_type
        challenge = [(b"www-authenticate", b'Bearer realm="onlineguard"')]
        if key is None:
            raise Refused(401, "a key is needed: send it as Authorization: Bearer KEY, or as X-API-Key: KEY", challenge)
        if caller is None:
            raise Refused(401, "the key is unknown", challenge)
        if needed not in caller.scopes:
            raise Refused(403, f"the key {caller.name} has not the scope {needed}; it has {_listed(caller.scopes)}")
        scope["namespace"] = self._namespace(caller, asked, operation)
        self._note(caller.name, scope, needed)
        return content_type

    def _namespace(self, caller: Caller, asked: str, operation: Operation) -> str:
        """The namespace that a request is about: the caller's, or the one that an admin asks for; "" for none."""
        assert self._keys is not None
        namespace = caller.namespace or asked
        if caller.namespace and asked not in ("", caller.namespace):
            raise Refused(403, f"the key {caller.name} is confined to the namespace {caller.namespace}")
        if namespace and not operation.apart:
            raise Refused(403, f"{operation.path} is about the whole service, and no namespace has one of its own")
        if asked and not caller.namespace:
            if "admin" not in caller.scopes:
                raise Refused(403, f"the key {caller.name} has not the scope admin, which may name a namespace")
            if asked not in self._keys.namespaces:
                raise Refused(404, f"no key has the namespace {shown(asked)}")
        return namespace

    def _note(self, caller: str | None, scope: Scope, needed: str) -> None:
        """Count a request of a key, and log one that changes the service."""
        if caller is not None:
            self.metrics.called(caller)
        if needed == "admin":
            scope["caller"] = caller
            client = scope.get("client")
            told = {"route": scope["path"], "key": caller, "address": client[0] if client else None}
            _audit.info("an action that needs the scope admin", extra=told)

    def _check_site(self, host: str, origin: bytes | None) -> None:
        """Raises Refused for a request that a page of another site had a browser send, where no key protects from it.

        Such a page names its own site as the origin. Or its name was made to point to this machine; then Host has it.
        """
        if host and self._local_only and not is_local(host) and host.partition(":")[0] not in self._settings.hosts:
            raise Refused(421, f"the host {shown(host)} is not this service; if it is, name it in the setting hosts")
        if origin is not None and origin.partition(b"//")[2].decode("latin-1") != host:
            raise Refused(
                403, "the request comes from a page of another site; requests of pages need a key, see --keys"
            )

    async def _read(self, scope: Scope, receive: Receive, take: Callable[[int], None]) -> bytes:
        limit, encoding = self._settings.body_limit, b""
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > limit):
                raise too_large(limit)
            if name == b"content-encoding":
                encoding = value
        try:
            body = await read(receive, limit, BODY_SECONDS, take)
            if not encoding:
                return body
            plain = await unpacked(body, encoding, limit)
            take(len(plain))
            return plain
        except Crowded:
            raise Refused(
                503, "large requests are being answered; send it again, or in smaller parts", retry_after(RETRY_SECONDS)
            ) from None
        except TooLarge:
            raise too_large(limit) from None
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
            (operations.MODEL, self._model),
            (operations.WATCH, self._watch),
            (operations.TRIAL, self._trial),
            (operations.TRY, self._try),
            (operations.END_TRIAL, self._end_trial),
            (operations.SNAPSHOT, self._snapshot),
            (operations.ERASE, self._erase),
        ]
        handlers += [
            (operation, partial(_as_json, answer))
            for operation, answer in (
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
                self._admit(request.scope, operation)
                return await answer(request)
            except Exception as error:
                status, body, headers = problem(error, operation.path)
                if refused is not None:
                    return refused(status, msgspec.json.decode(body, type=Problem).detail)
                return _raw(body, headers, status)

        path = operation.path.replace("{key}", "{key:path}")  # a key may hold a slash
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
        return same[0].path.replace(":path", ""), {method for route in same for method in route.methods or ()}

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
        return _raw(document(self._keys is not None), _JSON_HEADERS)

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

    async def _model(self, request: Request) -> Response:
        asked = await self._asked_model(request, ModelFolder)
        core = self._ready()
        with _refusing_models():
            if asked.version is not None:
                return _json(ModelVersion(await core.switch_to(asked.version, asked.force)))
            return _json(ModelVersion(await core.switch(Path(asked.folder or ""), asked.force)))

    async def _trial(self, request: Request) -> Response:
        return _json(self._ready().trial())

    async def _try(self, request: Request) -> Response:
        asked = await self._asked_model(request, TrialModel)
        core = self._ready()
        with _refusing_models():
            if asked.version is not None:
                return _json(await core.try_version(asked.version, asked.share, asked.force))
            return _json(await core.try_folder(Path(asked.folder or ""), asked.share, asked.force))

    async def _end_trial(self, request: Request) -> Response:
        return _json(await self._ready().end_trial())

    async def _asked_model[Asked: (ModelFolder, TrialModel)](self, request: Request, kind: type[Asked]) -> Asked:
        """The body of a request that names a model, by a folder or a version."""
        body = await self._read_object(request)
        plain_json(body)
        try:
            asked = msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError as error:
            raise Refused(
                422, f'{error}; send {{"folder": "the model\'s folder"}}, or {{"version": "one of the registry"}}'
            ) from None
        if (asked.folder is None) == (asked.version is None):
            raise Refused(422, "the body must have one of folder and version")
        if asked.folder is not None and (not asked.folder or "\0" in asked.folder):
            raise Refused(
                422, f"folder is {shown(asked.folder)}; it must be the path of a folder on the service's machine"
            )
        return asked

    async def _watch(self, request: Request) -> Response:
        return _json((await self._within(request.scope)).watch())

    async def _snapshot(self, request: Request) -> Response:
        return _json(SnapshotAnswer(await self._ready().snapshot()))

    async def _erase(self, request: Request) -> Response:
        core, body = await self._within(request.scope), await self._read_object(request)
        plain_json(body)
        try:
            person = msgspec.json.decode(body, type=Person)
        except msgspec.ValidationError as error:
            raise Refused(422, f'{error}; send {{"user_id": "the user of clicks to be erased"}}') from None
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
        return await self._read_body(request)

    async def _read_body(self, request: Request) -> bytes:
        self._ready()
        with self._large.holding() as take:
            return await self._read(request.scope, request.receive, take)


class _Hot(NamedTuple):
    path: str
    operation: Operation
    items: Items
    answer: Callable[[Inside, list[Any]], Awaitable[Sequence[Any]]]


def _hot(operation: Operation, answer: Callable[[Inside, list[Any]], Awaitable[Sequence[Any]]]) -> _Hot:
    return _Hot(operation.path, operation, Items(operation.noun, operation.body[0]), answer)


def _written(
    answers: Sequence[Any], single: bool, kind: Media, operation: Operation, scope: Scope
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
        answer, headers = _answers.encode_lines(answers), _NDJSON_HEADERS
    else:
        answer, headers = _answers.encode(answers), _JSON_HEADERS
    return answer, [*headers, (b"content-length", b"%d" % len(answer))]


class _Passed(Response):
    """An ASGI application as a response."""

    def __init__(self, app: Any):
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _as_json(answer: Callable[[Request], Awaitable[Any]], request: Request) -> Response:
    return _json(await answer(request))


@contextmanager
def _refusing_models() -> Generator[None]:
    """Refuse a folder that holds no model, or a damaged one, and a model that does not fit."""
    try:
        yield
    except (OnTrial, JournalUnavailable):
        raise
    except OnlineguardError as error:
        raise Refused(422, str(error)) from None


def _json(value: Any) -> Response:
    return _raw(msgspec.json.encode(value), _JSON_HEADERS)


def _raw(body: bytes, headers: list[tuple[bytes, bytes]], status: int = 200) -> Response:
    response = Response(body, status)
    length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
    response.raw_headers = [*(pair for pair in headers if pair[0] != b"content-length"), *length]
    return response


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


async def _not_found(request: Request, error: Exception) -> Response:
    status, body, headers = problem(Refused(404, "there is nothing at this path"), "other")
    return _raw(body, headers, status)


__all__ = ["Application", "Backend", "application"]
