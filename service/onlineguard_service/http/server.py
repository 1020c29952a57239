"""The process of `onlineguard serve`: an event loop, uvicorn, and garbage collection that delays few requests.

The socket listens at once, while the core still recovers its state; /readyz says when that is done.

On SIGTERM or SIGINT the service reports that it is not ready, for `drain` seconds still takes new connections, so that
a balancer hears of it first, then takes none, finishes the requests under way, closes the core and exits with 0. A
second signal ends it at once; nothing that was answered is lost.

On SIGHUP it reads the API keys and the certificate again. What cannot be used is logged, and the old one stays.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import msgspec
import uvicorn

from onlineguard.errors import InvalidArgument
from onlineguard_service.config import Settings, masked
from onlineguard_service.fair_queues import FairQueues
from onlineguard_service.histogram import Histogram
from onlineguard_service.http.accepting import Accepting
from onlineguard_service.http.app import Application, application
from onlineguard_service.http.backend import Backend
from onlineguard_service.http.forwarded import Proxies
from onlineguard_service.http.incoming import BODY_SECONDS
from onlineguard_service.http.limits import Connections
from onlineguard_service.http.protocol import Protocol
from onlineguard_service.standing import Standing

SLOW_SECONDS = BODY_SECONDS + 5.0  # a connection is closed whose request has not arrived by then, or answer not left
YOUNG_EVERY = 0.25  # seconds between collections of the youngest objects, each well under a millisecond
YOUNG = 5_000  # of them, with which no collection waits for its time: of so many it takes half a millisecond
NEVER = 1 << 30  # collections, after which older objects would be collected too
MIDDLE_EVERY = 10.0  # seconds between collections that include objects that survived a few of those
FULL_EVERY = 60.0  # seconds between full collections, which wait until the service is idle
FULL_AT_LATEST = 3_600.0  # seconds after which a full collection waits no longer
SWITCH = 0.0002  # seconds for which a thread that waits lets the loop run; at Python's 5 ms syncs wait for whole turns
IDLE = 1.0  # seconds without a request
LAG_EVERY = 0.1  # seconds between looks at how late the loop is

_log = logging.getLogger("onlineguard_service.http.server")


def run(
    settings: Settings, open_core: Callable[[Settings], Awaitable[Backend]], standing: Standing | None = None
) -> int:
    """Serve until a signal ends it; returns the exit code. `standing` tells how a standby stands, before it has a core.

    Raises InvalidArgument if the address or the certificate is wrong, and any error of the core that cannot open.
    """
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:  # it has no wheels for Windows
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(serve(settings, open_core, standing))


async def serve(
    settings: Settings,
    open_core: Callable[[Settings], Awaitable[Backend]],
    standing: Standing | None = None,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> int:
    """As `run`, in the running event loop."""
    app = application(None, settings, standing)
    server = _Server(app, settings)
    app.metrics.connections = lambda: len(server.server_state.connections)
    listening = _listen(settings)
    address = _url(settings, listening)
    soon = "is ready in a moment" if standing is None else "stands by"
    say(f"listens on {address}, and {soon}: {address}/readyz")
    thresholds, switch = gc.get_threshold(), sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    opening = asyncio.ensure_future(open_core(settings))
    serving = asyncio.create_task(server.serve([listening]))
    beside: list[asyncio.Task[None]] = []
    try:
        await asyncio.wait((opening, serving), return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():  # stopped before it was ready
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        elif opening.exception() is not None:
            server.should_exit = True
        else:
            app.begin(opening.result())
            beside.append(asyncio.create_task(_collect(lambda: server.server_state.total_requests)))
            beside.append(asyncio.create_task(_measure(app.metrics.lag)))
            for line in _greeting(settings, address):
                say(line)
        await serving
        if opening.cancelled():
            return 0
        core = opening.result()  # raises the error of a core that could not open
        await core.close()
        _log.info("stopped; nothing that was answered is lost")
        return 0
    finally:
        sys.setswitchinterval(switch)
        if beside:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            gc.unfreeze()
            gc.set_threshold(*thresholds)


class _Server(uvicorn.Server):
    """uvicorn's server, which also drops slow clients, and reports that it is not ready before it stops listening."""

    def __init__(self, app: Application, settings: Settings):
        super().__init__(_config(app, settings))
        self._app, self._settings = app, settings
        self._stopping = False

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            before = time.monotonic() - SLOW_SECONDS
            for connection in list(self.server_state.connections):
                if (
                    isinstance(connection, Protocol)
                    and min(connection.since or before, connection.stalled or before) < before
                ):
                    connection.transport.abort()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        kind: Any = self.config.http_protocol_class

        def protocol() -> asyncio.Protocol:
            return kind(config=self.config, server_state=self.server_state, app_state={})

        context = self.config.ssl if isinstance(self.config.ssl, ssl.SSLContext) else None
        servers: list[Any] = [Accepting(each, context, protocol, kind.queues, kind.bounds) for each in sockets or ()]
        self.servers = servers
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.drain()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle signals until the loop ends, so that a second one is also heard while the core is being closed."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(name, self._stop, name)
            except NotImplementedError:  # the loops of Windows
                signal.signal(name, lambda number, _: loop.call_soon_threadsafe(self._stop, number))
        if hasattr(signal, "SIGHUP"):  # Windows has none
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        yield

    def _stop(self, name: int) -> None:
        if self._stopping:
            sys.stderr.flush()
            os._exit(128 + name)
        self._stopping = True
        _log.info("stopping", extra={"signal": signal.Signals(name).name})
        self._app.drain()
        if self._settings.drain and self._app.core is not None:
            asyncio.get_running_loop().call_later(self._settings.drain, setattr, self, "should_exit", True)
        else:
            self.should_exit = True

    def _reload(self) -> None:
        """Read the keys and the certificate again."""
        try:
            self._app.admission.read_keys()
            if isinstance(self.config.ssl, ssl.SSLContext) and self._settings.tls_cert and self._settings.tls_key:
                _check_certificate(self._settings)  # in a context of its own: a failure must not leave half of it
                self.config.ssl.load_cert_chain(self._settings.tls_cert, self._settings.tls_key)
        except InvalidArgument as error:
            _log.error("not read again, the old ones stay: %s", error)
        else:
            _log.info("read again: the API keys and the certificate")


def _config(app: Application, settings: Settings) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=type(
            "Limited",
            (Protocol,),
            {
                "bounds": Connections(
                    settings.connections, settings.connections_each, Proxies(settings.trusted_proxies)
                ),
                "open": Counter(),
                "queues": FairQueues(),
                "client_of": staticmethod(app.admission.client),
            },
        ),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # see `Proxies`
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
        backlog=settings.backlog,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key and str(settings.tls_key),
        ssl_ca_certs=settings.tls_clients and str(settings.tls_clients),
        ssl_cert_reqs=ssl.CERT_NONE if settings.tls_clients is None else ssl.CERT_REQUIRED,
    )
    if settings.tls_cert is not None:
        _check_certificate(settings)
    config.load()
    if isinstance(config.ssl, ssl.SSLContext):
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config


def _check_certificate(settings: Settings) -> None:
    """Raises InvalidArgument for a certificate, a key or authorities that cannot be used."""
    assert settings.tls_cert is not None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror or str(error)
        raise InvalidArgument(
            f"--tls-cert {settings.tls_cert} with --tls-key {settings.tls_key} cannot be used: {why}; both must be PEM"
        ) from error
    if settings.tls_clients is not None:
        try:
            context.load_verify_locations(settings.tls_clients)
        except OSError as error:
            why = error.strerror or str(error)
            raise InvalidArgument(
                f"--tls-clients {settings.tls_clients} cannot be used: {why}; it must hold certificates in PEM"
            ) from error


def _listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises InvalidArgument if the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # without it asyncio leaves Nagle on
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(settings.backlog)  # at once: a client that asks during the recovery is told about it
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise InvalidArgument(
            f"--host {settings.host} --port {settings.port} cannot be listened on: {error.strerror or error}; "
            f"name another, or --port 0 for any that is free"
        ) from error
    return listening


def _url(settings: Settings, listening: socket.socket) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    scheme = "https" if settings.tls_cert is not None else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def _greeting(settings: Settings, address: str) -> list[str]:
    key = "" if settings.keys is None else " -H 'x-api-key: KEY'"
    numbers = [0.5 + index for index in range(settings.n_features or len(settings.features) or 2)]
    event = msgspec.json.encode({"slice": "web", "x": numbers}).decode()
    place = "Redis" if settings.journal == "redis" else settings.state
    lines = [f"ready; the journal is kept in {place} (durability {settings.durability})"]
    if settings.replica_of is not None:
        return [
            f"ready; a replica of the shards whose snapshots are in {masked(settings.replica_of)}; it learns nothing",
            f"try: curl -i {address}/v1/score{key} -H 'content-type: application/json' -d '{event}'",
        ]
    if settings.registry is not None:
        lines.append(f"model: the current one of {masked(settings.registry)}")
    elif settings.model is None:
        lines.append("model: none was given, so clicks are judged by one made from simulated clicks, good for a trial")
    else:
        lines.append(f"model: {settings.model}")
    lines.append(f"try: curl -s {address}/v1/update{key} -H 'content-type: application/json' -d '{event}'")
    lines.append(f"page: {address}/")
    if settings.keys is None and settings.host not in ("127.0.0.1", "::1", "localhost"):
        _log.warning("anyone who reaches %s may do everything: no --keys are given", address)
    return lines


async def _collect(requests: Callable[[], int]) -> None:
    """Collect garbage at fixed times, so that no request waits long for it.

    Objects from before the service was ready are never collected. Young ones are collected often, which is quick, and
    at once where a client has many made. A full collection, of all objects since the service was ready, waits until no
    request has come for a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, NEVER, NEVER)
    began = middle = full = busy = time.monotonic()
    before = requests()
    while True:
        await asyncio.sleep(YOUNG_EVERY)
        now, count = time.monotonic(), requests()
        busy, before = (now, count) if count != before else (busy, before)
        idle = now - busy >= IDLE
        if now - full >= (FULL_EVERY if idle else FULL_AT_LATEST):
            gc.collect()
            middle = full = time.monotonic()
            _log.debug("full collection", extra={"seconds": round(full - now, 4), "since_start": round(now - began, 1)})
        elif now - middle >= MIDDLE_EVERY:
            gc.collect(1)
            middle = now
        else:
            gc.collect(0)


async def _measure(lag: Histogram) -> None:
    """How late the loop wakes a task: what a request waits that comes meanwhile."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + LAG_EVERY
        await asyncio.sleep(LAG_EVERY)
        lag.add(max(0.0, clock() - due))


__all__ = ["run", "serve"]
