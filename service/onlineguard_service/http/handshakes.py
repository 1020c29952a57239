"""Connections over TLS, bounded from the moment that they are accepted.

A protocol of asyncio hears of its connection when the TLS handshake is over. A client that begins one and says nothing
more would so be counted nowhere, for a minute, and each takes a file and 80 kB: some thousands would leave none for
others. Here connections are accepted one by one. Those whose handshake is not over are bounded as open ones are, all
together and for each network, and one more is closed without an answer, since none could be read.

A handshake takes the loop half a millisecond or more. So it is a part of the client's work, which begins in a turn of
its network (`fair_queues`) once the client has said something: in a round each network has one.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from onlineguard_service.fair_queues import FairQueues
from onlineguard_service.http.limits import network

SECONDS = 10.0  # within which a handshake must be over
REST = 0.1  # seconds until the next try, where the system has no file or no memory for a connection

_log = logging.getLogger(__name__)


class Handshakes:
    """See this module. Accepts from `listening` until it is closed, as a server of asyncio does.

    context: of TLS.
    protocol: makes that of a connection, which hears of it when its handshake is over.
    queues: of the clients, in whose turns handshakes begin.
    most: handshakes at once; `most_each`: those of one network.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        queues: FairQueues,
        most: int,
        most_each: int,
    ):
        self._listening, self._context, self._protocol = listening, context, protocol
        self._queues, self._most, self._most_each = queues, most, most_each
        self._each: Counter[str] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept(), name="Handshakes")

    def close(self) -> None:
        """Accept no more, and end the handshakes that are not over."""
        for task in (self._accepting, *self._under_way):
            task.cancel()

    async def wait_closed(self) -> None:
        """Until all that was under way has ended."""
        await asyncio.gather(self._accepting, *self._under_way, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listening)
            except OSError as error:
                _log.warning("no connection is accepted: %s", error.strerror or error)
                await asyncio.sleep(REST)
                continue
            of = network(address[0])
            if len(self._under_way) >= self._most or self._each[of] >= self._most_each:
                connection.close()
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._each[of] += 1
            task = loop.create_task(self._shake(connection, of))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _shake(self, connection: socket.socket, of: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SECONDS):
                await _heard(connection)
                await self._queues.of(of).turn()
        except TimeoutError:
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
        else:
            with suppress(OSError, TimeoutError):  # it is no TLS, or too slow, or the client left; ssl.SSLError is one
                await loop.connect_accepted_socket(
                    self._protocol, connection, ssl=self._context, ssl_handshake_timeout=SECONDS
                )
        finally:
            self._each[of] -= 1
            if not self._each[of]:
                del self._each[of]


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
