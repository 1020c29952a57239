"""`/v1/live`: the figures of this moment, sent once a second to every reader as server-sent events.

One task asks the core once a second, encodes its answer once, and gives the same bytes to all readers:

    event: tick
    data: {"t": ..., "model_version": ..., "marks": [...], "rates": {...}, "latency": {...}, "ivr": ..., "started": ...,
           "reasons": [...], "parts": {...}}

`started` is the time when this process began to tick, in milliseconds since 1970; a restart changes it. `reasons` says
why requests are refused, and is empty where they are answered. `parts` has the journal, its snapshots, Redis, what is
degraded, and how many slices are held. The first tick of a connection also has `past`: up to `KEEP` - 1 earlier ticks,
oldest first, without what is of the newest one alone: `marks`, `reasons` and `parts`.

A reader that falls more than `BACKLOG` ticks behind is disconnected, and may connect again.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Any, Protocol

import msgspec
from starlette.types import Receive, Scope, Send

EVERY = 1.0  # seconds from tick to tick
KEEP = 600  # ticks kept for a reader that connects, the newest among them: ten minutes
NEWEST = frozenset(("marks", "reasons", "parts"))  # fields that no earlier tick is sent with
BACKLOG = 8  # ticks that may wait for one reader, beside those in the socket's buffer

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # proxies must pass each tick on at once
]

_log = logging.getLogger(__name__)


class LiveFigures(Protocol):
    """Gives the figures of a tick."""

    def live(self) -> dict[str, Any]: ...


def live(core: LiveFigures) -> "Live":
    """The ASGI application of `/v1/live`. Its ticks begin with `start`, and all its answers end with `close`."""
    return Live(core)


class Live:
    """The ticker, the ticks of the last ten minutes, and the connected readers.

    Call `start` as soon as the event loop runs, so that ticks are kept from the first second on and not only from the
    first reader on. Call `close` before the server waits for its connections to end, since these never end by
    themselves: with uvicorn at the beginning of `Server.shutdown`.
    """

    def __init__(self, core: LiveFigures, every: float = EVERY, keep: int = KEEP, backlog: int = BACKLOG):
        self._core = core
        self._every = every
        self._backlog = backlog
        self._past: deque[bytes] = deque(maxlen=keep)  # without `NEWEST`, the newest last
        self._now: bytes | None = None  # the newest, whole
        self._readers: dict[asyncio.Queue[bytes | None], asyncio.Task[None]] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def readers(self) -> int:
        """The number of connected readers."""
        return len(self._readers)

    def start(self) -> None:
        """Begin to tick, in the running event loop; a second call changes nothing."""
        if self._ticker is None and not self._closed:
            self._ticker = asyncio.create_task(self._tick_on(), name="live ticks")

    def close(self) -> None:
        """End every answer and tick no more, without waiting for readers that are still receiving."""
        self._closed = True
        if self._ticker is not None:
            self._ticker.cancel()
        for waiting, writing in self._readers.items():
            self._hand(waiting, writing, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one reader until it leaves, falls behind, or the service closes."""
        self.start()
        waiting: asyncio.Queue[bytes | None] = asyncio.Queue(self._backlog)
        writing = asyncio.create_task(self._write(waiting, send))
        leaving = asyncio.create_task(_left(receive))
        self._readers[waiting] = writing
        if self._now is not None:
            waiting.put_nowait(self._first())
        if self._closed:
            waiting.put_nowait(None)
        try:
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._readers[waiting]
            writing.cancel()
            leaving.cancel()
            ended = await asyncio.gather(writing, leaving, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, OSError):  # OSError: the reader is gone
                raise error

    async def _tick_on(self) -> None:
        loop = asyncio.get_running_loop()
        started = time.time_ns() // 1_000_000
        next_tick = loop.time()
        while True:
            try:
                self._tick({**self._core.live(), "started": started})
            except Exception:  # one tick that fails must not end all later ones
                _log.exception("a tick of /v1/live was left out")
            next_tick = max(next_tick + self._every, loop.time())  # a tick that was missed is not sent later
            await asyncio.sleep(next_tick - loop.time())

    def _tick(self, tick: dict[str, Any]) -> None:
        first = self._now is None
        self._now = msgspec.json.encode(tick)
        self._past.append(msgspec.json.encode({name: value for name, value in tick.items() if name not in NEWEST}))
        event = _event(self._now)
        for waiting, writing in list(self._readers.items()):
            self._hand(waiting, writing, self._first() if first else event)

    def _hand(self, waiting: asyncio.Queue[bytes | None], writing: asyncio.Task[None], part: bytes | None) -> None:
        try:
            waiting.put_nowait(part)
        except asyncio.QueueFull:
            writing.cancel()

    def _first(self) -> bytes:
        """The newest tick with all earlier ones, put together from ticks that are encoded already."""
        now = self._now or b"{}"
        return _event(now[:-1] + b',"past":[' + b",".join(list(self._past)[:-1]) + b"]}")

    async def _write(self, waiting: asyncio.Queue[bytes | None], send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        while (part := await waiting.get()) is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _event(data: bytes) -> bytes:
    """One server-sent event. JSON as msgspec encodes it has no line breaks, which would end the event."""
    return b"event: tick\ndata: " + data + b"\n\n"


async def _left(receive: Receive) -> None:
    """Return once the reader has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
