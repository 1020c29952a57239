"""A stand-in for the service: its page, `/v1/live`, and as much of the API as the page and its tests use, in memory.

`python scripted_service.py PORT [KEY]` serves until it is ended. A score is the first number of an event, flagged above
`THRESHOLD`; a click's probability is written in its `ad_id`.
"""

import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.live import Live
from service.page import routes

THRESHOLD = 3.0
LIMIT = 0.8
CLICK_ONLY = ("ivr", "fpr", "p_robot", "robot_threshold")


class ScriptedCore:
    """What `Core` answers, of slices that hold what they were sent."""

    def __init__(self):
        self.model_version = "v1"
        self.marks: list[dict[str, Any]] = [{"t": _now(), "model_version": "v1"}]
        self.rows: dict[tuple[str, Any], dict[str, Any]] = {}
        self.history: dict[tuple[str, Any], deque[tuple[int, float, float, bool, float | None]]] = {}
        self.seen = {"events": 0, "clicks": 0}

    def take(self, of: str, key: Any, ts: int, score: float, p_robot: float | None = None) -> dict[str, Any]:
        place = (of, _text(key))
        row = self.rows.setdefault(
            place, {"of": of, "slice": key, "events": 0, "anomalies": 0, **dict.fromkeys(CLICK_ONLY)}
        )
        history = self.history.setdefault(place, deque(maxlen=256))
        anomalous = score > THRESHOLD
        history.append((ts, score, THRESHOLD, anomalous, p_robot))
        self.seen[of] += 1
        row["events"] += 1
        row["anomalies"] += anomalous
        row |= {"last_ts": ts, "score": score, "threshold": THRESHOLD}
        row["drift"] = sum(flagged for _, _, _, flagged, _ in history) / len(history)
        if p_robot is not None:
            robots = sum(p is not None and p > LIMIT for *_, p in history)
            row |= {"p_robot": p_robot, "robot_threshold": LIMIT, "ivr": robots / len(history), "fpr": 0.012}
        return {"score": score, "threshold": THRESHOLD, "anomalous": anomalous}

    def switch(self, version: str) -> None:
        self.model_version = version
        self.marks.append({"t": _now(), "model_version": version})

    def live(self) -> dict[str, Any]:
        seen, self.seen = self.seen, {"events": 0, "clicks": 0}
        ivr = [row["ivr"] for row in self.rows.values() if row["ivr"] is not None]
        busy = any(seen.values())
        return {
            "t": _now(),
            "model_version": self.model_version,
            "marks": self.marks,
            "rates": seen,
            "latency": {"p50": 0.4, "p99": 1.7} if busy else {"p50": None, "p99": None},
            "ivr": sum(ivr) / len(ivr) if ivr else None,
        }

    def slices(self, of: str, sort: str, descending: bool, limit: int, offset: int) -> dict[str, Any]:
        found = [row for (kind, _), row in self.rows.items() if kind == of]
        field = "slice" if sort == "name" else sort
        written = str if sort == "name" else float
        known = [row for row in found if row[field] is not None]
        known.sort(key=lambda row: written(row[field]), reverse=descending)
        known += [row for row in found if row[field] is None]
        return {"slices": known[offset : offset + limit], "total": len(found)}

    def slice(self, of: str, key: str) -> dict[str, Any]:
        columns = zip(*self.history[of, key], strict=True)
        history = dict(zip(("ts", "score", "threshold", "anomalous", "p_robot"), map(list, columns), strict=True))
        if of == "events":
            del history["p_robot"]
        return {**self.rows[of, key], "history": history, "drivers": {"duration": 0.61, "size": 0.3, "hour": 0.09}}


def application(core: ScriptedCore, live: Live, key: str | None) -> ASGIApp:
    """The routes of the contract that the page needs, behind a key where one is given."""

    async def update(request: Request) -> Response:
        body = await request.json()
        return JSONResponse([core.take("events", e["slice"], e.get("ts", _now()), e["x"][0]) for e in body])

    async def clicks(request: Request) -> Response:
        for click in await request.json():
            name = f"{click['device']} / {click['marketplace']} / {str(click['logged_in']).lower()}"
            core.take("clicks", name, click["ts"], 1.0, float(click["ad_id"]))
        return JSONResponse({})

    async def model(request: Request) -> Response:
        core.switch((await request.json())["folder"])
        return JSONResponse({"model_version": core.model_version})

    async def rows(request: Request) -> Response:
        query = request.query_params
        limit, offset = int(query["limit"]), int(query["offset"])
        return JSONResponse(core.slices(query["of"], query["sort"], query["order"] == "desc", limit, offset))

    async def one(request: Request) -> Response:
        try:
            return JSONResponse(core.slice(request.query_params["of"], request.path_params["key"]))
        except KeyError:
            return JSONResponse({"title": "Not found", "status": 404, "detail": "no such slice"}, 404)

    async def ready(request: Request) -> Response:
        return JSONResponse({"ready": True})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        live.start()
        yield

    app = Starlette(
        routes=[
            *routes(),
            Route("/readyz", ready),
            Route("/v1/update", update, methods=["POST"]),
            Route("/v1/clicks", clicks, methods=["POST"]),
            Route("/v1/model", model, methods=["POST"]),
            Route("/v1/slices", rows),
            Route("/v1/slices/{key:path}", one),
            Route("/v1/live", live),
        ],
        lifespan=lifespan,
    )

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if key is not None and scope["type"] == "http" and scope["path"].startswith("/v1/"):
            if dict(scope["headers"]).get(b"authorization") != f"Bearer {key}".encode():
                refusal = JSONResponse({"title": "Unauthorized", "status": 401, "detail": "a key is needed"}, 401)
                return await refusal(scope, receive, send)
        await app(scope, receive, send)

    return guarded


class Server(uvicorn.Server):
    """uvicorn waits for its connections before the lifespan ends; those of `/v1/live` are to be told first."""

    def __init__(self, config: uvicorn.Config, live: Live):
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: Any = None) -> None:
        self._live.close()
        await super().shutdown(sockets)


def _text(key: Any) -> str:
    """A slice's key as it stands in addresses."""
    return key if isinstance(key, str) else json.dumps(key, separators=(",", ":"))


def _now() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    core = ScriptedCore()
    live = Live(core)
    key = sys.argv[2] if len(sys.argv) > 2 else None
    Server(uvicorn.Config(application(core, live, key), port=int(sys.argv[1]), log_level="warning"), live).run()


if __name__ == "__main__":
    main()
