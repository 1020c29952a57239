"""Accepting: connections are bounded, and begin in their client's turn, from the moment that they are accepted.

An event loop by itself accepts all connections that wait, and makes a transport and a protocol for each then and there.
A client that opens thousands a second holds up every request so, and whoever connects after it. And a protocol hears of
a connection over TLS when the handshake is over. A client that begins one and says nothing more would be counted
nowhere, for a minute, and each takes a file and 80 kB: some thousands would leave none for others.

Here a connection is only accepted at first, which takes 15 us. It is made, or its handshake begins, as a part of the
client's work: in a turn of its network (`fair_queues`). Those that have not been made are bounded as open ones are, all
together and for each network, and one more is closed without an answer.

A handshake takes the loop half a millisecond or more, so that in a round each network has one, once the client has said
something.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial

from onlineguard_service.fair_queues import FairQueues, Queue
from onlineguard_service.http.limits import Connections, network

AT_ONCE = 16  # connections that are accepted before the loop goes on; a quarter of a millisecond
TAKING, MAKING = 20e-6, 200e-6  # seconds of a connection: to be accepted or closed; to be made, first read and ended
SECONDS = 10.0  # within which a handshake must be over
REST = 0.1  # seconds until the next try, where the system has no file or no memory for a connection

_log = logging.getLogger(__name__)


class Accepting:
    """See this module. Accepts from `listening`, which does not block, until it is closed, as a server of asyncio does.

    context: of TLS; None: without.
    protocol: makes that of a connection.
    queues: of the clients, in whose turns connections begin.
    bounds: of the connections that have not been made.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext | None,
        protocol: Callable[[], asyncio.Protocol],
        queues: FairQueues,
        bounds: Connections,
    ):
        self._listening, self._context, self._protocol = listening, context, protocol
        self._queues, self._bounds = queues, bounds
        self._loop = asyncio.get_running_loop()
        self._all, self._each = 0, Counter[Queue]()  # that have not been made: all, and of each network
        self._waiting: set[socket.socket] = set()  # for the turn in which they are made
        self._under_way: set[asyncio.Task[None]] = set()
        self._accepting = self._loop.create_task(self._accept(), name="Accepting")
        self._accepting.add_done_callback(_tell)

    def close(self) -> None:
        """Accept no more, and close the connections that have not been made."""
        for task in (self._accepting, *self._under_way):
            task.cancel()
        for connection in self._waiting:
            connection.close()
        self._waiting.clear()

    async def wait_closed(self) -> None:
        """Until all that was under way has ended."""
        await asyncio.gather(self._accepting, *self._under_way, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                self._take(*await self._loop.sock_accept(self._listening))
                for _ in range(AT_ONCE - 1):
                    self._take(*self._listening.accept())
            except (BlockingIOError, ConnectionAbortedError):  # no more of them wait, or one has left already
                pass
            except OSError as error:
                _log.warning("no connection is accepted: %s", error.strerror or error)
                await asyncio.sleep(REST)
            await asyncio.sleep(0)  # asyncio's own loop accepts without giving way

    def _take(self, connection: socket.socket, address: tuple[str, int]) -> None:
        queue = self._queues.of(network(address[0]))
        queue.charge(TAKING)
        if self._all >= self._bounds.most or self._each[queue] >= self._bounds.of(address[0]):
            connection.close()
            return
        connection.setblocking(False)
        with suppress(OSError):  # the client has left already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._all += 1
        self._each[queue] += 1
        if self._context is None:
            self._waiting.add(connection)
            queue.put(partial(self._make, connection, queue))
        else:
            self._begin(self._shake(connection, queue), queue)

    def _make(self, connection: socket.socket, queue: Queue) -> None:
        if connection in self._waiting:  # else all were closed
            self._waiting.remove(connection)
            self._begin(self._connect(connection), queue)
            queue.charge(MAKING)

    def _begin(self, work: Coroutine[None, None, None], queue: Queue) -> None:
        # in a context of its own: it may be begun in a turn that the request of somebody else asked for
        task = asyncio.Task(work, loop=self._loop, eager_start=True, context=Context())
        self._under_way.add(task)
        task.add_done_callback(partial(self._made, queue))

    def _made(self, queue: Queue, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._all -= 1
        self._each[queue] -= 1
        if not self._each[queue]:
            del self._each[queue]

    async def _shake(self, connection: socket.socket, queue: Queue) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                await _heard(connection)
                await queue.turn()
        except TimeoutError:
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
        else:
            await self._connect(connection)

    async def _connect(self, connection: socket.socket) -> None:
        seconds = None if self._context is None else SECONDS
        with suppress(OSError, TimeoutError):  # it is no TLS, or too slow, or the client left; ssl.SSLError is one
            await self._loop.connect_accepted_socket(
                self._protocol, connection, ssl=self._context, ssl_handshake_timeout=seconds
            )


def _tell(accepting: asyncio.Task[None]) -> None:
    if not accepting.cancelled() and (error := accepting.exception()) is not None:
        _log.critical("no connection is accepted any more", exc_info=error)


async def _heard(connection: socket.socket) -> None:
    """Wait until the client has sent something, or has left."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[None] = loop.create_future()

    def hear() -> None:
        loop.remove_reader(connection)
        if not heard.done():
            heard.set_result(None)

    try:
        loop.add_reader(connection, hear)
    except NotImplementedError:  # one loop of Windows
        return
    try:
        await heard
    finally:
        loop.remove_reader(connection)
