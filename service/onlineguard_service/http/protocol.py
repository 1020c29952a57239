"""A connection: uvicorn's protocol with turns and limits, and with problems for all that it refuses by itself.

What was read is worked off in the turn of its client (`fair_queues`): by address, and a request by its key where it has
one. A request is begun as soon as what came with it is parsed, in the same turn of the loop. Whatever must wait is not
parsed, and no more is read meanwhile; nor while a request that was sent ahead waits for the one before it. So the
system's buffers fill, and the client has to wait.

uvicorn has no limits on connections, and none on a request's headers and time. A request is small until its body comes:
its headers are bounded in bytes and in number, and so is whatever else the parser would hold or be called for without
end, as the value of one header, and chunks of a byte.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import httptools
import msgspec
from uvicorn._types import ASGI3Application, HTTPScope, Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from onlineguard.wire.answers import Problem
from onlineguard_service.fair_queues import QUEUE, FairQueues, Queue
from onlineguard_service.http.limits import Connections, network
from onlineguard_service.http.problems import PROBLEM

HEADER_BYTES = 65_536  # of a request, with its URL
HEADERS = 256  # of a request; each takes 130 bytes beside its own, so that many small ones would take much
SILENT_BYTES = HEADER_BYTES + 4 * HEADERS + 2_048  # that may be no part of a body, with what stands between headers
SCRAPS, SCRAP = 4_096, 16  # parts of a body that may be small, and the bytes that those beyond must have on average
PARSED_AT_ONCE = 2_048  # bytes, in which a hundred requests may lie; more of a connection wait unparsed
PARTS_A_TURN = 1_024  # of a body; a millisecond


class Protocol(HttpToolsProtocol):
    """See this module."""

    since: float | None = None  # when the request began that is still arriving, or the connection before the first
    bounds: Connections  # a choice of the operator
    open: Counter[str]  # connections of each network
    queues: FairQueues
    client_of: Callable[[Scope], str | None]  # that a request is of, by its key; None: of the network
    stalled: float | None = None  # since when the client has not read what it was answered
    _running: RequestResponseCycle | None = None  # the request that was begun last
    _network = ""
    _queue: Queue  # of the address
    _unparsed = b""
    _asked = False  # whether the connection waits for the turn of its client
    _going_on = False  # whether it has that turn now
    _next: tuple[RequestResponseCycle, ASGI3Application] | None = None  # a request whose headers have just been read
    _silent = 0  # bytes that were parsed since the parser said what it found
    _header_bytes = _headers = _parts = _part_bytes = 0  # of the request that is arriving
    _refused = False  # whether nothing more is read
    _ended = False  # whether the client has sent all that it will

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = time.monotonic()
        peer = self.client[0] if self.client else ""
        self._network = network(peer)
        self._queue = self.queues.of(self._network)
        self.open[self._network] += 1
        if len(self.connections) > self.bounds.most:
            self._refuse(b"503 Service Unavailable", "Not available", _FULL, _SOON)
        elif self.open[self._network] > self.bounds.of(peer):
            self._refuse(b"503 Service Unavailable", "Not available", _FULL_EACH, _SOON)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pipeline.clear()
        self._unparsed = b""
        if self._running is not None:  # uvicorn tells the newest request alone, which may wait behind this one
            self._running.disconnected = True
            self._running.message_event.set()
        self.open[self._network] -= 1
        if not self.open[self._network]:
            del self.open[self._network]

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._refused:
            return
        waited, self._unparsed = bool(self._unparsed), self._unparsed + data
        if not waited:  # else it is its turn soon, or once the request before is answered
            self._ask(at_once=True)
        if self._unparsed:
            self.flow.pause_reading()

    def _ask(self, at_once: bool = False) -> None:
        if not self._asked:
            self._asked = True
            self._queue.put(self._go_on, at_once)

    def _go_on(self) -> None:
        """Begin the next request that was sent ahead, and parse what came, in the turn of this client."""
        self._asked = False
        if self.transport.is_closing():
            return
        self._going_on = True
        if self.pipeline and not self._under_way:
            self._begin(*self.pipeline.pop())
        self._parse()
        self._going_on = False
        if not self.transport.is_closing():
            self._wait()

    def _parse(self) -> None:
        data, at, begun = memoryview(self._unparsed), 0, self._parts
        while at < len(data) and self.parser is not None and self._parts - begun < PARTS_A_TURN:
            if self.pipeline or self._refused or self.transport.is_closing():
                break
            piece = data[at : at + PARSED_AT_ONCE]
            self._silent += len(piece)
            try:
                self.parser.feed_data(piece)
                if self._silent > SILENT_BYTES:
                    raise httptools.HttpParserError(_TOO_LONG)
            except httptools.HttpParserUpgrade:
                pass  # refused below
            except httptools.HttpParserError as error:
                self.send_400_response(str(error.__context__ or error))
            at += PARSED_AT_ONCE
            if self._next is not None:
                next_, self._next = self._next, None
                self._begin(*next_)
        self._unparsed = b"" if self._refused else bytes(data[at:])

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin a request whose headers have been read, once all else that came with them has been read too."""
        self._running, self._next = cycle, (cycle, app)

    def _begin(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        queue = self.queues.of(self._asking(cycle.scope))
        begin = partial(self._run, queue, cycle, app)
        if queue is self._queue:  # whose turn it is
            begin()
        else:
            queue.put(begin)

    def _asking(self, scope: HTTPScope) -> str:
        """The client that a request is of, whose address stands in its scope from here on."""
        peer = self.client[0] if self.client else ""
        address = self.bounds.proxies.client(peer, scope["headers"])
        if address != peer:
            scope["client"] = (address, 0)
        return self.client_of(scope) or network(address)

    def _run(self, queue: Queue, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if cycle.disconnected:
            return
        self._unset_keepalive_if_required()
        QUEUE.set(queue)
        task = asyncio.Task(cycle.run_asgi(app), loop=self.loop, eager_start=True)
        if not task.done():
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def _wait(self) -> None:
        """Wait for whatever comes next: for an answer, for more of this connection, or for its end."""
        if self.pipeline or self._unparsed:
            self.flow.pause_reading()
            if not (self.pipeline and self._under_way):
                self._ask()
        elif self._ended and not self._under_way:
            self.transport.close()
        else:
            if self.cycle is None or len(self.cycle.body) <= HIGH_WATER_LIMIT:  # pyright: ignore[reportUnnecessaryComparison]
                self.flow.resume_reading()
            if self.since is None and not self._under_way:
                self._unset_keepalive_if_required()
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or too much of it, is a problem too."""
        why = _HTTP2 if msg == "Pause on PRI/Upgrade" else msg
        self._refuse(b"400 Bad Request", "Not HTTP", f"the request is no HTTP that this service takes: {why}")

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has sent all it will still gets its answers, but over TLS, which asyncio closes.

        One that has left in the middle of a body gets none, and what was read of it is let go at once.
        """
        more = bool(self.pipeline or self._unparsed)
        left = self._under_way and self.cycle.more_body and not more
        self._ended = self.scheme == "http" and (self._under_way or more) and not left
        return self._ended

    @property
    def _under_way(self) -> bool:
        """Whether a request was begun, or is about to be, that is not answered yet."""
        return self._running is not None and not self._running.response_complete

    def on_headers_complete(self) -> None:
        if self._get_upgrade() == b"websocket":
            self._refuse(b"426 Upgrade Required", "No WebSockets", _NO_WEBSOCKETS, b"upgrade: HTTP/1.1\r\n")
        else:
            self._silent = 0
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent = 0
        self._parts += 1
        self._part_bytes += len(body)
        if self._parts > SCRAPS + self._part_bytes / SCRAP:
            raise ValueError(f"more than {SCRAPS} chunks, of less than {SCRAP} bytes on average")
        if not self._refused:
            super().on_body(body)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if not self._going_on and not self.transport.is_closing():
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stalled = time.monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stalled = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = self._headers = self._parts = self._part_bytes = self._silent = 0
        self.since = time.monotonic()

    def on_message_complete(self) -> None:
        self._silent = 0
        if not self._refused:
            super().on_message_complete()
            self.since = None

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        self._headers += 1
        if self._headers > HEADERS:
            raise ValueError(f"more than {HEADERS} headers")
        super().on_header(name, value)

    def _count(self, more: int) -> None:
        self._header_bytes += more
        if self._header_bytes > HEADER_BYTES:
            raise ValueError(_TOO_LONG)

    def _refuse(self, status: bytes, title: str, detail: str, more: bytes = b"") -> None:
        """Answer with a problem, and close the connection."""
        self._refused = True
        body = msgspec.json.encode(Problem(title, int(status[:3]), detail))
        head = b"HTTP/1.1 %b\r\n%bconnection: close\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, more, PROBLEM, len(body)) + body)
        self.transport.close()


_TOO_LONG = f"more than {HEADER_BYTES} bytes of headers"
_HTTP2 = "it is HTTP/2; send HTTP/1.1, or have a proxy translate"
_SOON = b"retry-after: 1\r\n"
_FULL = "more connections are open than the setting connections allows; try again"
_FULL_EACH = (
    "more connections of this address are open than the setting connections_each allows; close some, or try again"
)
_NO_WEBSOCKETS = "this service has no WebSockets; GET /v1/live sends what changes as server-sent events"
