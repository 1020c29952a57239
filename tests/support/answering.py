"""A server that answers by the service's contract, and fails on order: what the tests of its clients talk to.

An answer is a function of the event alone, and each id is applied once, so that a test can tell what was applied.
"""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.clicks import decode_click
from onlineguard.wire.answers import (
    ClickAnswer,
    DecisionAnswer,
    EventAnswer,
    Explanation,
    History,
    LabelAnswer,
    Problem,
    SlicePage,
    SliceRow,
    SliceState,
)
from onlineguard.wire.requests import Decision, Event, Label


class Answering:
    """What the server was asked and applied, and what it is to do wrong."""

    def __init__(self) -> None:
        self.url = ""
        self.forget()

    def forget(self) -> None:
        """Be as at the start."""
        self.ready = True
        self.applied: Counter[str] = Counter()  # by id: how often learned, which is to be once
        self.order: list[str] = []  # ids in the order in which they were learned
        self.requests: list[tuple[str, int, dict[str, str]]] = []  # path, number of objects, headers
        self.peers: set[tuple[str, int]] = set()  # connections
        self.refusals: list[tuple[int, dict[str, str]]] = []  # status and headers of the next answers
        self.drops = 0  # how many answers to break off after having applied the request
        self.delay = 0.0  # seconds an answer takes
        self.degraded: set[str] = set()  # click ids that cannot be judged
        self.failing: dict[str, int] = {}  # click id to the status with which it is refused

    def answer(self, path: str, body: bytes) -> list[Any]:
        """The answers to the objects of a request, which is applied whole or not at all."""
        objects = msgspec.json.decode(body)
        if path == "/v1/clicks":
            clicks = [decode_click(msgspec.json.encode(click)) for click in objects]
            for click in clicks:
                if click.click_id in self.failing:
                    raise _Refused(self.failing[click.click_id], click.click_id)
            return [self._click(click.click_id) for click in clicks]
        if path == "/v1/labels":
            labels = msgspec.convert(objects, list[Label])
            return [LabelAnswer(label.click_id, label.click_id in self.applied) for label in labels]
        if path == "/v1/decisions":
            decisions = msgspec.convert(objects, list[Decision])
            return [DecisionAnswer(each.click_id, "applied", False, each.standing) for each in decisions]
        events = msgspec.convert(objects, list[Event])
        if path == "/v1/update":
            for event in events:
                self._apply(str(event.id))
        return [EventAnswer(e.slice, _score(e), 2.0, None, _score(e) > 2, True, e.id) for e in events]

    def _click(self, click_id: str) -> ClickAnswer:
        if click_id in self.degraded:
            return ClickAnswer(click_id, "unknown", None, None, "a", "1", None, ["counters"])
        self._apply(click_id)
        return click_answer(click_id)

    def _apply(self, id: str) -> None:
        if not self.applied[id]:
            self.applied[id] += 1
            self.order.append(id)


def click_answer(click_id: str) -> ClickAnswer:
    """What is decided about a click."""
    p_robot = crc32(click_id.encode()) / 2**32
    return ClickAnswer(click_id, "robotic" if p_robot > 0.5 else "valid", p_robot, 0.5, "a", "1", None)


def click(click_id: str) -> dict[str, Any]:
    """A click."""
    fields = {"ip": "192.0.2.1", "user_agent": "a", "device": "phone", "marketplace": "US", "ad_id": "ad"}
    return {"click_id": click_id, "ts": 1_700_000_000_000, "logged_in": True, **fields}


@contextmanager
def answering(**options: Any) -> Generator[Answering]:
    """The running server, on a free port of this machine; options are uvicorn's."""
    state = Answering()
    app = Starlette(routes=[Route("/{path:path}", _endpoint(state), methods=["GET", "POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        state.url = f"{'https' if options else 'http'}://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none", lifespan="off", **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield state
        finally:
            server.should_exit = True
            thread.join(10)


class _Refused(Exception):
    pass


class _BrokenOff(Response):
    """Headers that promise more than comes, after which uvicorn closes the connection."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"999")]})


def _endpoint(state: Answering) -> Any:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        path = request.url.path
        count = len(msgspec.json.decode(body)) if body.startswith(b"[") else 0
        state.requests.append((path, count, dict(request.headers)))
        state.peers.add(tuple(request.client or ()))  # type: ignore[arg-type]
        await asyncio.sleep(state.delay)
        if path == "/readyz":
            return _problem(200 if state.ready else 503, "Not ready", "programs are being compiled")
        if state.refusals:
            status, headers = state.refusals.pop(0)
            return _problem(status, "Refused", "as ordered", headers)
        if request.method == "GET":
            return _get(request)
        if path == "/v1/explain":
            event = msgspec.json.decode(body)
            return _json(Explanation(event["slice"], 3.0, 2.0, 0.001, True, True, {"b": 0.75, "a": 0.25}))
        try:
            answers = state.answer(path, body)
        except _Refused as refused:
            return _problem(refused.args[0], "Refused", f"click {refused.args[1]} is not taken")
        except (msgspec.ValidationError, InvalidArgument) as error:
            return _problem(422, "Wrong field", str(error))
        if state.drops:
            state.drops -= 1
            return _BrokenOff()
        return _json(answers)

    return endpoint


def _get(request: Request) -> Response:
    row = SliceRow(
        of="events",
        slice=("DE", 7),
        events=9,
        anomalies=1,
        drift=0.25,
        last_ts=None,
        score=1.5,
        threshold=2.0,
    )
    history = History([None, 5], [1.0, None], [2.0, 2.0], [False, True])
    state = SliceState(**msgspec.structs.asdict(row), history=history, drivers=None)
    path = request.scope["raw_path"].split(b"?")[0]
    if path == b"/v1/slices":
        return _json(SlicePage([row], 1, 1))
    if path == b"/v1/slices/%5B%22DE%22%2C7%5D":
        return _json(state)
    if path == b"/v1/slices/phone%20%2F%20US":
        return _json(msgspec.structs.replace(state, of="clicks", slice="phone / US", drivers={"a": 1.0}))
    return _problem(404, "Not found", f"no slice at {request.url.path}")


def _score(event: Event) -> float:
    return abs(sum(value or 0.0 for value in (event.x or list((event.features or {}).values()))))


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(Problem(title, status, detail))
    return Response(body, status, headers, media_type="application/problem+json")
