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
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec
from starlette.types import Scope

from onlineguard_service.http.readers import Readers

EVERY = 1.0  # seconds from tick to tick
KEEP = 600  # ticks kept for a reader that connects, the newest among them: ten minutes
NEWEST = frozenset(("marks", "reasons", "parts"))  # fields that no earlier tick is sent with
BACKLOG = 8  # ticks that may wait for one reader, beside those in the socket's buffer

_log = logging.getLogger(__name__)


class LiveFigures(Protocol):
    """Gives the figures of a tick."""

    def live(self) -> dict[str, Any]: ...


def live(core: LiveFigures) -> "Live":
    """The ASGI application of `/v1/live`. Its ticks begin with `start`, and all its answers end with `close`."""
    return Live(core)


class Live(Readers):
    """The ticker, the ticks of the last ten minutes, and the connected readers; see `Readers`.

    Call `start` as soon as the event loop runs, so that ticks are kept from the first second on and not only from the
    first reader on.
    """

    def __init__(self, core: LiveFigures, every: float = EVERY, keep: int = KEEP, backlog: int = BACKLOG):
        super().__init__(backlog)
        self._core = core
        self._every = every
        self._past: deque[bytes] = deque(maxlen=keep)  # without `NEWEST`, the newest last
        self._now: bytes | None = None  # the newest, whole
        self._first = b""  # what readers are sent who connect before the next tick, once one has

    async def run(self) -> None:
        """Tick."""
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
        self._now, self._first = msgspec.json.encode(tick), b""
        self._past.append(msgspec.json.encode({name: value for name, value in tick.items() if name not in NEWEST}))
        self.tell(self._with_past(self._now) if first else _event(self._now))

    def first(self, scope: Scope) -> AsyncIterator[bytes]:
        """The newest tick with all earlier ones, if there was one."""
        if self._now is not None and not self._first:
            self._first = self._with_past(self._now)
        return _alone(self._first)

    def _with_past(self, now: bytes) -> bytes:
        """The newest tick with all earlier ones, put together from ticks that are encoded already."""
        return _event(now[:-1] + b',"past":[' + b",".join(list(self._past)[:-1]) + b"]}")


async def _alone(part: bytes) -> AsyncIterator[bytes]:
    yield part


def _event(data: bytes) -> bytes:
    """One server-sent event. JSON as msgspec encodes it has no line breaks, which would end the event."""
    return b"event: tick\ndata: " + data + b"\n\n"
