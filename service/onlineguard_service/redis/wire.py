"""One connection to Redis for all requests: commands are sent as they come, answers belong to them in order.

redis-py spends some sixty microseconds of Python a command, more than Redis itself; here hiredis packs and parses, and
nothing is done besides. Who wants more than sending commands uses redis-py.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hiredis


class Wire:
    """Sends commands to the Redis at a URL; connects when first needed, and again after a failure.

    url: redis://, rediss:// or unix://, as redis-py reads it, or that of Sentinels (`onlineguard.sentinels`), which are
    asked for their primary with each connection.
    wait: seconds for a connection, and for an answer, which may take a quarter more before it is given up.
    node: host and port of the node of a cluster, in place of those of the URL; an empty host is that of the URL.
    """

    def __init__(self, url: str, wait: float, node: tuple[str, int] | None = None):
        self._url, self._wait, self._node = url, wait, node
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None

    async def execute(self, commands: Sequence[tuple[Any, ...]], replicas: int = 0) -> list[Any]:
        """The answers, bytes or numbers or lists of such; an error of Redis stands in place of its answer.

        replicas: how many must have what the commands wrote.

        Raises ConnectionError where there is no connection, or it broke before all answers came; TimeoutError where
        they did not come in time, or too few replicas answered. Some of the commands may then have been carried out.
        """
        connection = self._connection
        if connection is None or connection.broken:
            connection = await self._connected()
        waiting = [("WAIT", replicas, int(self._wait * 500))] if replicas else []
        answers = await connection.send([*commands, *waiting])
        if any(isinstance(answer, hiredis.ReplyError) and str(answer).startswith("READONLY") for answer in answers):
            connection.abort()  # it is a replica now: a new connection leads to the primary
        elif replicas and not (isinstance(n := answers.pop(), int) and n >= replicas):
            raise TimeoutError(f"{n} of {replicas} replicas of Redis had what was written within {self._wait / 2} s")
        return answers

    async def close(self) -> None:
        """Break the connection; commands under way fail."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.abort()

    async def _connected(self) -> "_Connection":
        """A new connection, the same for all who wait for one."""
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> "_Connection":
        # redis-py takes as long to import as NumPy, and a service without Redis needs none of it
        from redis.connection import SSLConnection, UnixDomainSocketConnection

        from onlineguard.sentinels import found

        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._wait):
            options = await found(self._url)
            if self._node is not None:
                host, port = self._node
                options |= {"host": host or options.get("host", "localhost"), "port": port}
            kind = options.get("connection_class")
            if kind is UnixDomainSocketConnection:
                _, connection = await loop.create_unix_connection(lambda: _Connection(self._wait), options["path"])
            else:
                context = _context(options) if kind is SSLConnection else None
                host, port = options.get("host", "localhost"), options.get("port", 6379)
                made = loop.create_connection(lambda: _Connection(self._wait), host, port, ssl=context)
                _, connection = await made
            greeting: list[tuple[Any, ...]] = []
            if options.get("password") is not None:
                user = [options["username"]] if options.get("username") else []
                greeting.append(("AUTH", *user, options["password"]))
            if options.get("db") and self._node is None:
                greeting.append(("SELECT", options["db"]))
            for answer in await connection.send(greeting) if greeting else []:
                if isinstance(answer, Exception):
                    connection.abort()
                    raise ConnectionError(f"Redis refuses the connection: {answer}")
        self._connection = connection
        return connection


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """TLS as the query of the URL has it."""
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if (certificate := options.get("ssl_certfile")) is not None:
        context.load_cert_chain(certificate, options.get("ssl_keyfile"))
    context.check_hostname = options.get("ssl_check_hostname", True)
    return context


class _Waiting(NamedTuple):
    n: int  # commands
    answers: list[Any]  # those that have come
    future: asyncio.Future[list[Any]]
    since: float  # by the loop's clock


class _Connection(asyncio.Protocol):
    """A socket, and who waits for what comes from it."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._transport: Any = None
        self._waiting: deque[_Waiting] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self.broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._watch = self._loop.call_later(self._wait / 4, self._look)

    def send(self, commands: Sequence[tuple[Any, ...]]) -> asyncio.Future[list[Any]]:
        """Send the commands, one at least; the future gets their answers."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.broken:
            future.set_exception(ConnectionError("the connection to Redis is broken"))
            return future
        self._transport.write(b"".join([hiredis.pack_command(command) for command in commands]))
        self._waiting.append(_Waiting(len(commands), [], future, self._loop.time()))
        return future

    def _look(self) -> None:
        """Whether the oldest commands have waited too long: looked at now and then, since a timer for each would cost
        every request."""
        if self._waiting and self._loop.time() - self._waiting[0].since > self._wait:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(TimeoutError(f"Redis gave no answer within {self._wait} s"))
            self.abort()  # or later answers would be taken for those of later commands
        else:
            self._watch = self._loop.call_later(self._wait / 4, self._look)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                n, answers, future, _ = self._waiting[0]
                answers.append(answer)
                if len(answers) == n:
                    self._waiting.popleft()
                    if not future.done():
                        future.set_result(answers)
        except (hiredis.ProtocolError, IndexError):  # what came is no answer: nothing after it can be trusted
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.broken = True
        if self._watch is not None:
            self._watch.cancel()
        waiting, self._waiting = self._waiting, deque()
        for _, _, future, _ in waiting:
            if not future.done():
                future.set_exception(ConnectionError("the connection to Redis broke"))

    def abort(self) -> None:
        """Break the connection at once."""
        self.broken = True
        self._transport.abort()
