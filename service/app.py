"""The HTTP API as an ASGI application: the hot routes as plain functions, the rest by Starlette.

A request is checked in this order, and what fails answers with a problem (RFC 9457): route, method, key, rate, content
type, readiness, size, JSON, fields. A batch is refused whole or taken whole.
"""

import logging
import math
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, get_args

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from onlineguard.errors import InvalidArgument, OnlineguardError
from onlineguard.slidr.clicks import LATEST, RFM
from service import live, page
from service.auth import Keys
from service.config import Settings, nearest
from service.errors import JournalUnavailable
from service.limits import Disconnected, RateLimit, TooLarge, network, read
from service.metrics import Metrics
from service.schema import Click, Event, Label, Of, Problem

BODY_SECONDS = 30.0  # a body that comes in parts must have come by then
RETRY_SECONDS = 1  # what a client is told to wait before it tries again
MOST_ROWS = 1_000  # of /v1/slices
SORTS = ("events", "name", "score", "threshold", "drift", "anomalies", "ivr")

JSON, NDJSON, PROBLEM = b"application/json", b"application/x-ndjson", b"application/problem+json"
_SAFE = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_JSON_HEADERS = [(b"content-type", JSON), *_SAFE]
_NDJSON_HEADERS = [(b"content-type", NDJSON), *_SAFE]

_log = logging.getLogger(__name__)


class Core(Protocol):
    """What answers; see service/core.py."""

    async def update(self, events: list[Event]) -> list[bytes]: ...
    def score(self, events: list[Event]) -> list[bytes]: ...
    async def clicks(self, clicks: list[Click]) -> list[bytes]: ...
    async def labels(self, labels: list[Label]) -> list[bytes]: ...
    async def switch(self, folder: Path) -> str: ...
    async def snapshot(self) -> int: ...
    def explain(self, event: Event | Click) -> dict[str, Any]: ...
    def slices(
        self, of: Of | None, sort: str, descending: bool, limit: int, offset: int, contains: str
    ) -> dict[str, Any]: ...
    def slice(self, of: Of, key: Any) -> dict[str, Any]: ...
    def live(self) -> dict[str, Any]: ...
    def status(self) -> dict[str, Any]: ...
    async def close(self) -> None: ...


class ModelFolder(msgspec.Struct, frozen=True):
    """Where a model is, on the machine of the service."""

    folder: str


class Refused(Exception):
    """A request that is not answered, with the status, the reason, and headers that belong to it."""

    def __init__(self, status: int, detail: str, headers: list[tuple[bytes, bytes]] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or []


def application(core: Core | None, settings: Settings) -> "Application":
    """The service. Without a core it says that it is not ready, until it is given one by `begin`."""
    return Application(core, settings)


class Application:
    """ASGI: HTTP only. `begin` gives it the core, `drain` says before the end that it takes no new work."""

    def __init__(self, core: Core | None, settings: Settings):
        self.core: Core | None = None
        self._settings = settings
        self._keys = Keys.load(settings.keys) if settings.keys is not None else None
        self._rate = RateLimit(settings.rate_limit) if settings.rate_limit > 0 else None
        self._live: live.Live | None = None
        self._reason = "the service is starting: programs are compiled and the state is recovered"
        self._draining = False
        self.metrics = Metrics(lambda: None if self.core is None else self.status())
        self.hot = {each.path: each for each in self._hot_routes()}
        self.routes = self._cold_routes()
        self._cold = Starlette(routes=self.routes, exception_handlers={HTTPException: _not_found})
        self._cold.router.redirect_slashes = False
        if core is not None:
            self._take(core)

    def begin(self, core: Core) -> None:
        """Answer from this core from now on, and tick for /v1/live; in the event loop that runs."""
        self._take(core).start()

    def _take(self, core: Core) -> live.Live:
        self.core, self._live = core, live.live(self)
        return self._live

    def drain(self) -> None:
        """Say that the service is not ready, and end what would not end by itself; requests are still answered."""
        self._draining = True
        self._reason = "the service is stopping"
        if self._live is not None:
            self._live.close()

    def live(self) -> dict[str, Any]:
        """What /v1/live tells: the core's, with the latency as it is measured here."""
        assert self.core is not None
        return {**self.core.live(), "latency": self.metrics.latency()}

    def status(self) -> dict[str, Any]:
        """The core's, and not ready before there is one or while the service stops."""
        if self.core is None:
            return {"ready": False, "reasons": [self._reason]}
        status = self.core.status()
        if self._draining:
            return {**status, "ready": False, "reasons": [self._reason, *status.get("reasons", [])]}
        return status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the service speaks HTTP, not {scope['type']}")
        began = time.perf_counter()
        self.metrics.under_way += 1
        try:
            hot = self.hot.get(scope["path"])
            if hot is not None and scope["method"] == "POST":
                await self._answer_hot(hot, began, scope, receive, send)
            else:
                await self._answer_cold(began, scope, receive, send)
        finally:
            self.metrics.under_way -= 1

    # The hot routes

    def _hot_routes(self) -> list["_Hot"]:
        async def score(events: list[Event]) -> list[bytes]:
            return self._ready().score(events)

        return [
            _Hot("/v1/update", "event", "update", Event, lambda events: self._ready().update(events)),
            _Hot("/v1/score", "event", "score", Event, score),
            _Hot("/v1/clicks", "click", "update", Click, lambda clicks: self._ready().clicks(clicks)),
            _Hot("/v1/labels", "label", "update", Label, lambda labels: self._ready().labels(labels)),
        ]

    async def _answer_hot(self, hot: "_Hot", began: float, scope: Scope, receive: Receive, send: Send) -> None:
        status, count = 200, 0
        try:
            content_type = self._admit(scope, hot.scope)
            lines = _is_ndjson(content_type)
            self._ready()
            body = await self._read(scope, receive)
            items, single = hot.decode(body, lines)
            count = len(items)
            if count > self._settings.batch_limit:
                raise _too_many(count, hot.noun, self._settings.batch_limit)
            answers = await hot.answer(items) if items else []
            if single:
                answer = answers[0]
            elif lines:
                answer = b"\n".join(answers) + b"\n" * bool(answers)
            else:
                answer = b"[" + b",".join(answers) + b"]"
            headers = [*(_NDJSON_HEADERS if lines else _JSON_HEADERS), (b"content-length", b"%d" % len(answer))]
        except Disconnected:
            self.metrics.count(hot.path, 499, began)
            return
        except Exception as error:
            status, answer, headers = _problem(error, hot.path)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        self.metrics.count(hot.path, status, began, count if status == 200 else 0)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("request", extra={"route": hot.path, "status": status, "items": count})

    def _ready(self) -> Core:
        """The core, if it takes requests. While the service stops it still does, for those that came before."""
        if self.core is None:
            raise Refused(503, f"{self._reason}; send the request again", _retry(RETRY_SECONDS))
        return self.core

    def _admit(self, scope: Scope, needed: str | None) -> bytes:
        """The content type, if the request may be answered. Raises Refused for a wrong key, or too many requests."""
        content_type, key = b"", None
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"x-api-key":
                key = value
            elif name == b"authorization" and key is None and value[:7].lower() == b"bearer ":
                key = value[7:].strip()
        if needed is None:
            return content_type
        owner = self._keys.find(key) if self._keys is not None and key is not None else None
        if self._rate is not None:
            client = scope.get("client")
            who = owner.name if owner is not None else " " + network(client[0] if client else "")
            if (seconds := self._rate.wait(who)) > 0.0:
                limit = self._settings.rate_limit
                raise Refused(429, f"more than {limit:g} requests a second; wait {seconds:.3g} s", _retry(seconds))
        if self._keys is None:
            return content_type
        challenge = [(b"www-authenticate", b'Bearer realm="onlineguard"')]
        if key is None:
            raise Refused(401, "a key is needed: send it as Authorization: Bearer KEY, or as X-API-Key: KEY", challenge)
        if owner is None:
            raise Refused(401, "the key is unknown", challenge)
        if needed not in owner.scopes:
            raise Refused(403, f"the key {owner.name} has not the scope {needed}; it has {_listed(owner.scopes)}")
        return content_type

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._settings.body_limit
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > limit):
                raise _too_large(limit)
        try:
            return await read(receive, limit, BODY_SECONDS)
        except TooLarge:
            raise _too_large(limit) from None
        except TimeoutError:
            raise Refused(408, f"the body did not come within {BODY_SECONDS:g} s") from None

    # The rest

    def _cold_routes(self) -> list[Route]:
        def get(path: str, needed: str | None, answer: Callable[[Request], Awaitable[Response]]) -> Route:
            return Route(path, self._guarded(path, needed, answer), methods=["GET"])

        def post(path: str, needed: str, answer: Callable[[Request], Awaitable[Response]]) -> Route:
            return Route(path, self._guarded(path, needed, answer), methods=["POST"])

        routes = [
            get("/livez", None, self._livez),
            get("/readyz", None, self._readyz),
            get("/openapi.json", None, self._openapi),
            get("/metrics", "score", self._metrics),
            get("/v1/slices", "score", self._slices),
            get("/v1/slices/{key:path}", "score", self._slice),
            get("/v1/live", "score", self._live_ticks),
            post("/v1/explain", "score", self._explain),
            post("/v1/model", "admin", self._model),
            post("/v1/snapshot", "admin", self._snapshot),
        ]
        return routes + page.routes()

    def _guarded(
        self, path: str, needed: str | None, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The answer behind the check of the key, with errors as problems."""

        async def guarded(request: Request) -> Response:
            try:
                self._admit(request.scope, needed)
                return await answer(request)
            except Exception as error:
                status, body, headers = _problem(error, path)
                return _raw(body, headers, status)

        return guarded

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
            refused: Refused | None = Refused(404, "there is nothing at this path; /openapi.json lists what there is")
        elif method in allowed:
            refused = None
        else:
            told = ", ".join((*sorted(allowed), "OPTIONS")).encode()
            if method == "OPTIONS":
                response = _raw(b"", [(b"allow", told), *_SAFE], 204)
                await response(scope, receive, sending)
                self.metrics.count(route, 204, began)
                return
            refused = Refused(405, f"{method} is not allowed here; use {told.decode()}", [(b"allow", told)])
        try:
            if refused is not None:
                code, body, headers = _problem(refused, route or "other")
                await _raw(body, headers, code)(scope, receive, sending)
            else:
                await self._cold(scope, receive, sending)
        except Disconnected:
            status = 499
        finally:
            self.metrics.count(route or "other", status, began)
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("request", extra={"route": route or "other", "status": status})

    def _find(self, scope: Scope) -> tuple[str | None, set[str]]:
        """The route of the request's path, as it is named in the metrics, and the methods that it takes."""
        if scope["path"] in self.hot:
            return scope["path"], {"POST"}
        for route in self.routes:
            if route.matches(scope)[0] is not Match.NONE:
                return route.path.replace(":path", ""), set(route.methods or ())
        return None, set()

    async def _livez(self, request: Request) -> Response:
        return _json({"status": "alive"})

    async def _readyz(self, request: Request) -> Response:
        status = self.status()
        ready = bool(status["ready"])
        body = msgspec.json.encode({"ready": ready, "reasons": status.get("reasons", [])})
        return _raw(body, _JSON_HEADERS if ready else [*_JSON_HEADERS, *_retry(RETRY_SECONDS)], 200 if ready else 503)

    async def _openapi(self, request: Request) -> Response:
        from service.openapi import document

        return _raw(document(self._keys is not None), _JSON_HEADERS)

    async def _metrics(self, request: Request) -> Response:
        return _raw(self.metrics.text(), [(b"content-type", self.metrics.content_type.encode()), *_SAFE])

    async def _slices(self, request: Request) -> Response:
        asked = _query(request, {"of", "sort", "order", "limit", "offset", "contains"})
        of: Any = _choice(asked, "of", get_args(Of), None)
        sort, order = _choice(asked, "sort", SORTS, "events"), _choice(asked, "order", ("desc", "asc"), "desc")
        limit, offset = _whole(asked, "limit", 1, MOST_ROWS, 100), _whole(asked, "offset", 0, 2**31, 0)
        assert sort is not None
        return _json(self._ready().slices(of, sort, order == "desc", limit, offset, asked.get("contains", "")))

    async def _slice(self, request: Request) -> Response:
        asked = _query(request, {"of"})
        of: Any = _choice(asked, "of", get_args(Of), "clicks")
        core, text = self._ready(), request.path_params["key"]
        for key in _keys_of(text, of):
            try:
                return _json(core.slice(of, key))
            except KeyError:
                continue
        raise Refused(404, f"no slice of {of} has the key {_shown(text)}; /v1/slices?of={of} lists them")

    async def _live_ticks(self, request: Request) -> Response:
        self._ready()
        assert self._live is not None
        if request.method == "HEAD":  # whose answer ends
            return _raw(b"", [(b"content-type", b"text/event-stream; charset=utf-8"), *_SAFE])
        return _Passed(self._live)

    async def _explain(self, request: Request) -> Response:
        self._json_only(request)
        core, body = self._ready(), await self._read(request.scope, request.receive)
        kind = _plain_json(body)
        if isinstance(kind, dict) and "slice" not in kind and "click_id" in kind:
            items, single = self.hot["/v1/clicks"].decode(body, False)
        else:
            items, single = self.hot["/v1/update"].decode(body, False)
        if not single:
            raise Refused(422, "the body is an array; it must be one event or one click")
        try:
            return _json(core.explain(items[0]))
        except KeyError:
            raise Refused(404, "the slice is not known, so nothing drives its scores yet") from None

    async def _model(self, request: Request) -> Response:
        self._json_only(request)
        core, body = self._ready(), await self._read(request.scope, request.receive)
        _plain_json(body)
        try:
            folder = msgspec.json.decode(body, type=ModelFolder).folder
        except msgspec.ValidationError as error:
            raise Refused(422, f'{error}; send {{"folder": "the model\'s folder"}}') from None
        if not folder or "\0" in folder:
            raise Refused(422, f"folder is {_shown(folder)}; it must be the path of a folder on the service's machine")
        try:
            return _json({"model_version": await core.switch(Path(folder))})
        except JournalUnavailable:
            raise
        except OnlineguardError as error:  # a folder that holds no model, or a damaged one
            raise Refused(422, str(error)) from None

    async def _snapshot(self, request: Request) -> Response:
        return _json({"sequence": await self._ready().snapshot()})

    def _json_only(self, request: Request) -> None:
        if _is_ndjson(request.headers.get("content-type", "").encode("latin-1")):
            raise Refused(415, "this route takes one object as application/json")


class _Hot:
    """A hot route: what it takes, who may use it, and who answers."""

    def __init__(
        self, path: str, noun: str, scope: str, kind: type[Any], answer: Callable[[list[Any]], Awaitable[list[bytes]]]
    ):
        self.path, self.noun, self.scope, self.answer = path, noun, scope, answer
        self._one = msgspec.json.Decoder(kind)
        self._many = msgspec.json.Decoder(list[kind])
        self._events = kind is Event

    def decode(self, body: bytes, lines: bool) -> tuple[list[Any], bool]:
        """The items, and whether the body is a single one. Raises Refused with the path, the value and the rule."""
        single = False
        try:
            if lines:
                items = self._one.decode_lines(body)
            elif body.lstrip(b" \t\r\n")[:1] == b"[":
                items = self._many.decode(body)
            else:
                items, single = [self._one.decode(body)], True
        except msgspec.ValidationError as error:
            raise Refused(422, _explained(str(error), body, lines, self.noun)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _no_json(error, lines) from None
        if self._events:
            for index, event in enumerate(items):
                if (event.x is None) == (event.features is None):
                    where = self.noun if single else f"{self.noun} {index}"
                    has = "neither x nor features" if event.x is None else "x and features"
                    raise Refused(422, f"{where} has {has}; it must have one of them: numbers in order, or by name")
        return items, single


class _Passed(Response):
    """An ASGI application as a response."""

    def __init__(self, app: Any):
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


# What a field takes, in words, where msgspec's would not say it all.
_RULES = {
    "slice": "must be text, a whole number, or a list of one or more of those",
    "x": "must be a list of numbers, null where one is missing",
    "features": "must be an object of numbers by name, null where one is missing",
    **dict.fromkeys(("ts", "purchase_ts"), f"must be a whole number from 0 to {LATEST}: milliseconds since 1970 UTC"),
    "logged_in": "must be true or false",
    "rfm": f"must be a number from {RFM[0]:g} to {RFM[1]:g}",
}


def _explained(error: str, body: bytes, lines: bool, noun: str) -> str:
    """msgspec's message with the item and the value that it is about, and the rule in words."""
    found = re.search(r" - at `\$([^`]*)`", error)
    path = found[1] if found else ""
    where, field = noun, ""
    try:
        value: Any = msgspec.json.Decoder().decode_lines(body) if lines else msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as plain:
        if not isinstance(plain, msgspec.ValidationError):  # no JSON after the place where the field is wrong
            raise _no_json(plain, lines) from None
        # a number that no float holds
        return f"{where} field {path.removeprefix('.')}: {error.partition(' - at ')[0].lower()}"
    for index, name in re.findall(r"\[([^\]]*)\]|\.([^.\[]+)", path):
        if index.isdigit() and isinstance(value, list) and int(index) < len(value):
            where = where if field else f"{noun} {index}"
            value = value[int(index)]
        elif name and isinstance(value, dict):
            field, value = field or name, value.get(name)
        elif index == "..." and isinstance(value, dict):  # msgspec does not say which, but only numbers belong there
            name = next((name for name, each in value.items() if type(each) not in (int, float, type(None))), "...")
            path, value = path.replace("[...]", f"[{_shown(name)}]"), value.get(name)
    if (missing := re.search(r"missing required field `(\w+)`", error)) is not None:
        return f"{where} has no field {missing[1]}; it {_RULES.get(missing[1], 'must be text')}"
    if not field:
        return f"{where} is {_shown(value)}; it must be a JSON object"
    place = re.sub(r"^\[\d+\]", "", path).removeprefix(".")
    return f"{where} field {place} is {_shown(value)}; {field} {_RULES.get(field, 'must be text')}"


def _plain_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError as error:
        raise Refused(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error, False) from None


def _no_json(error: Exception, lines: bool) -> Refused:
    rule = "one JSON object a line" if lines else "one JSON object, or an array of them"
    return Refused(400, f"the body is no JSON in UTF-8: {error}; it must be {rule}")


def _is_ndjson(content_type: bytes) -> bool:
    """Whether a body holds an object a line. Raises Refused for what is no JSON.

    A browser sends no other site's page with these types before it has asked, and is then refused: so a page cannot
    use a service that listens on the reader's own machine.
    """
    if content_type == JSON:
        return False
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == JSON:
        return False
    if kind in (NDJSON, b"application/ndjson", b"application/jsonl"):
        return True
    told = f"is {kind.decode('latin-1')}" if kind else "is missing"
    raise Refused(415, f"the content type {told}; it must be application/json or application/x-ndjson")


def _problem(error: Exception, route: str) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers for what went wrong; what nobody foresaw is logged, and told without its reason."""
    more: list[tuple[bytes, bytes]] = []
    if isinstance(error, Refused):
        status, detail, more = error.status, error.detail, error.headers
    elif isinstance(error, InvalidArgument):
        status, detail = 422, str(error)
    elif isinstance(error, JournalUnavailable):
        status, detail, more = 503, str(error), _retry(RETRY_SECONDS)
        _log.error("journal unavailable: %s", error, extra={"route": route, "status": status})
    else:
        status, detail = 500, "the request failed, and the service has logged why"
        _log.error("request failed", exc_info=error, extra={"route": route, "status": status})
    title = _TITLES.get(status, "Error")
    body = msgspec.json.encode(Problem(title=title, status=status, detail=detail))
    return status, body, [(b"content-type", PROBLEM), *_SAFE, (b"content-length", b"%d" % len(body)), *more]


_TITLES = {
    400: "Not JSON",
    401: "Key needed",
    403: "Key not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request too slow",
    413: "Too large",
    415: "Wrong content type",
    422: "Wrong field",
    429: "Too many requests",
    500: "Failed",
    503: "Not available",
}


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body has more than {limit:,} bytes, the body_limit; send it in parts")


def _too_many(count: int, noun: str, limit: int) -> Refused:
    return Refused(
        413, f"the request holds {count:,} {noun}s, more than the batch_limit of {limit:,}; send it in parts"
    )


def _retry(seconds: float) -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", b"%d" % max(1, math.ceil(seconds)))]


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode("utf-8", "replace")
    return text if len(text) <= 100 else text[:99] + "…"


def _json(value: Any) -> Response:
    return _raw(msgspec.json.encode(value), _JSON_HEADERS)


def _raw(body: bytes, headers: list[tuple[bytes, bytes]], status: int = 200) -> Response:
    response = Response(body, status)
    length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
    response.raw_headers = [*(pair for pair in headers if pair[0] != b"content-length"), *length]
    return response


async def _not_found(request: Request, error: Exception) -> Response:
    status, body, headers = _problem(Refused(404, "there is nothing at this path"), "other")
    return _raw(body, headers, status)


def _query(request: Request, known: set[str]) -> dict[str, str]:
    asked: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise Refused(422, f"the query has {_shown(name)}, which is unknown; {nearest(name, sorted(known))}")
        if name in asked:
            raise Refused(422, f"the query has {name} twice; it must have it once")
        asked[name] = value
    return asked


def _choice(asked: dict[str, str], name: str, choices: tuple[str, ...], default: str | None) -> str | None:
    value = asked.get(name, default)
    if value is not None and value not in choices:
        raise Refused(422, f"{name} is {_shown(value)}; it must be one of {', '.join(choices)}")
    return value


def _whole(asked: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    text = asked.get(name, str(default))
    if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
        raise Refused(422, f"{name} is {_shown(text)}; it must be a whole number from {least} to {most}")
    return int(text)


def _keys_of(text: str, of: str) -> list[Any]:
    """The keys that a path may mean: the text itself, or for events the number, list or text whose JSON it is."""
    keys: list[Any] = [text]
    if of == "events":
        try:
            key = msgspec.json.decode(text, type=str | int | list[str | int])
        except (msgspec.DecodeError, UnicodeError):
            return keys
        keys.append(tuple(key) if isinstance(key, list) else key)
    return keys


__all__ = ["Application", "Core", "ModelFolder", "Refused", "application"]
