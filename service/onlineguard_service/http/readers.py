"""Readers: connections that are told the same, as server-sent events, until they leave or fall behind."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from onlineguard_service.patience import give_way

PART_BYTES = 32_768  # that are written at once: what a connection holds of a long part that is not read

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # proxies must pass each event on at once
]


class Readers(ABC):
    """An ASGI application whose answers begin with `first` and go on with what `tell` is given.

    A reader that falls more than `backlog` parts behind, beside those in the socket's buffer, is disconnected, and may
    connect again. Parts are shared by all readers, and each has a copy of a few bytes that are being written alone. So
    it costs bounded memory, and nobody waits for it.

    Call `start` as soon as the event loop runs, and `close` before the server waits for its connections to end, since
    these never end by themselves: with uvicorn at the beginning of `Server.shutdown`.
    """

    def __init__(self, backlog: int):
        self._backlog = backlog
        self._readers: dict[asyncio.Queue[bytes | None], asyncio.Task[None]] = {}
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    @abstractmethod
    def first(self, scope: Scope) -> AsyncIterator[bytes]:
        """What a reader is sent before what is told from now on. A part is made when the one before was written."""

    @abstractmethod
    async def run(self) -> None:
        """What goes on while there may be readers, and calls `tell`."""

    @property
    def readers(self) -> int:
        """The number of connected readers."""
        return len(self._readers)

    def start(self) -> None:
        """Begin to run, in the running event loop; a second call changes nothing."""
        if self._running is None and not self._closed:
            self._running = asyncio.create_task(self.run(), name=type(self).__name__)

    def close(self) -> None:
        """End every answer and run no more, without waiting for readers that are still receiving."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()
        self.tell(None)

    def tell(self, part: bytes | None) -> None:
        """Send a part to every reader; None ends their answers."""
        for waiting, writing in list(self._readers.items()):
            try:
                waiting.put_nowait(part)
            except asyncio.QueueFull:
                writing.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one reader until it leaves, falls behind, or the service closes."""
        self.start()
        waiting: asyncio.Queue[bytes | None] = asyncio.Queue(self._backlog)
        writing = asyncio.create_task(self._write(self.first(scope), waiting, send))
        leaving = asyncio.create_task(_left(receive))
        self._readers[waiting] = writing
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

    async def _write(self, first: AsyncIterator[bytes], waiting: asyncio.Queue[bytes | None], send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async for part in first:
            await _written(part, send)
        while (part := await waiting.get()) is not None:
            await give_way()  # one client may have many readers
            await _written(part, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _written(part: bytes, send: Send) -> None:
    for start in range(0, len(part), PART_BYTES):
        await send({"type": "http.response.body", "body": part[start : start + PART_BYTES], "more_body": True})


async def _left(receive: Receive) -> None:
    """Return once the reader has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
