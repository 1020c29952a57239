"""Connections as they are accepted, over real sockets: each network's begin in its turns, and none is forgotten."""

import asyncio
import itertools
import socket
import ssl
import subprocess
from contextlib import suppress
from contextvars import ContextVar

import pytest
from onlineguard_service.fair_queues import FairQueues
from onlineguard_service.http.accepting import Accepting
from onlineguard_service.http.forwarded import Proxies
from onlineguard_service.http.limits import Connections

MANY = 40


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """Of the server and of its clients."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    command += f" -addext subjectAltName=IP:127.0.0.1 -out {cert} -keyout {key}"
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=cert)


@pytest.fixture(params=["asyncio", "uvloop"])
def ended(request):
    """Runs something to its end, on either loop."""
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop", reason="uvloop has no wheels for Windows").new_event_loop
    else:
        factory = asyncio.new_event_loop

    def run(work):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(work, 60))

    return run


def first_words(context):
    """What a client of TLS sends first."""
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="127.0.0.1").do_handshake()
    return sent.read()


def accepting(context, queues, most_each=MANY, protocol=asyncio.Protocol, proxies=()):
    """A listening socket, and what accepts whoever connects to it."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=10 * MANY)
    listening.setblocking(False)
    bounds = Connections(10 * MANY, most_each, Proxies(proxies))
    return listening, Accepting(listening, context, protocol, queues, bounds)


def connected(listening, address="127.0.0.2"):
    return socket.create_connection(listening.getsockname(), 30.0, (address, 0))


async def over(accepted, *sockets):
    """No more is accepted, and these are closed."""
    accepted.close()
    await accepted.wait_closed()
    for each in sockets:
        each.close()


def noting(made):
    """A protocol that notes from where each connection comes once it is made."""

    class Noting(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport.get_extra_info("peername")[0])

    return Noting


def test_a_connection_does_not_wait_until_all_that_came_before_it_are_made(ended):
    made = []

    async def run():
        listening, accepted = accepting(None, FairQueues(), 10 * MANY, noting(made))
        held = [connected(listening) for _ in range(5 * MANY)]
        held.append(connected(listening, "127.0.0.1"))
        while len(made) < len(held):
            await asyncio.sleep(0)
        await over(accepted, listening, *held)

    ended(run())
    assert made.index("127.0.0.1") < len(made) / 2


def test_more_connections_at_once_than_a_network_may_have_are_closed_and_room_comes_back(ended):
    made = []

    async def run():
        listening, accepted = accepting(None, FairQueues(), 5, noting(made))
        held = [connected(listening) for _ in range(MANY)]
        while len(made) < 5:
            await asyncio.sleep(0)
        ends = [await asyncio.to_thread(_ended, connection) for connection in held]
        before = len(made)
        assert ends.count(True) + before == MANY
        assert ends.count(True) >= MANY / 2
        late = connected(listening)
        while len(made) == before:
            await asyncio.sleep(0)
        await over(accepted, listening, *held, late)

    ended(run())


def test_of_a_trusted_proxy_no_connection_is_closed(ended):
    made = []

    async def run():
        listening, accepted = accepting(None, FairQueues(), 5, noting(made), ["127.0.0.2"])
        held = [connected(listening) for _ in range(MANY)]
        while len(made) < MANY:
            await asyncio.sleep(0)
        await over(accepted, listening, *held)

    ended(run())


def test_a_connection_is_not_made_in_the_context_of_a_request_that_had_a_turn(ended):
    of_request = ContextVar("of_request", default="none")
    found = []

    class Looking(asyncio.Protocol):
        def connection_made(self, transport):
            found.append(of_request.get())

    async def run():
        queues = FairQueues()
        listening, accepted = accepting(None, queues, 10 * MANY, Looking)
        mine = queues.of("127.0.0.2")

        async def request():
            of_request.set("another's")
            for _ in range(10):
                await queues.of("another").turn()

        asking = asyncio.create_task(request())
        await asyncio.sleep(0)  # it has asked for the next round
        held = [connected(listening) for _ in range(3)]
        mine.charge(60.0)
        while len(found) < len(held):
            await asyncio.sleep(0)
        await asking
        await over(accepted, listening, *held)

    ended(run())
    assert set(found) == {"none"}


def _ended(connection):
    connection.settimeout(0.1)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


def test_connections_that_wait_for_their_turn_are_closed_at_the_end(ended):
    made = []

    async def run():
        queues = FairQueues()
        listening, accepted = accepting(None, queues, 10 * MANY, noting(made))
        busy = queues.of("127.0.0.2")
        busy.charge(60.0)
        held = [connected(listening) for _ in range(10)]
        for _ in range(3):  # turns in which they are accepted; they are made once the debt is paid
            await asyncio.sleep(0)
        accepted.close()
        await accepted.wait_closed()
        listening.close()  # which ends those that have not been accepted yet
        for connection in held:
            with suppress(ConnectionResetError):
                assert await asyncio.to_thread(connection.recv, 1) == b""
            connection.close()

    ended(run())
    assert made == []


def test_however_many_handshakes_begin_at_once_others_have_a_turn_after_each(contexts, ended):
    server, client = contexts
    order = []
    server.sni_callback = lambda *_: order.append("handshake")

    async def run():
        queues = FairQueues()
        other = queues.of("other")
        listening, accepted = accepting(server, queues)
        held = [connected(listening) for _ in range(MANY)]
        for connection in held:
            connection.sendall(first_words(client))
        while order.count("handshake") < MANY:
            await other.turn()
            order.append("other")
        await over(accepted, listening, *held)

    ended(run())
    together = [len(list(run)) for name, run in itertools.groupby(order) if name == "handshake"]
    assert max(together) <= 2


def test_who_says_nothing_keeps_no_other_handshake_of_its_network_waiting(contexts, ended):
    server, client = contexts

    async def run():
        listening, accepted = accepting(server, FairQueues())
        silent = [connected(listening) for _ in range(5)]
        await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection(*listening.getsockname(), ssl=client)
        assert writer.get_extra_info("cipher") is not None
        writer.close()
        accepted.close()
        await accepted.wait_closed()
        for connection in silent:  # which have been closed
            assert await asyncio.to_thread(connection.recv, 1) == b""
            connection.close()
        listening.close()
        del reader

    ended(run())


def test_a_handshake_that_is_not_over_in_time_is_ended_and_makes_room(contexts, monkeypatch, ended):
    server, client = contexts
    monkeypatch.setattr("onlineguard_service.http.accepting.SECONDS", 0.2)

    async def run():
        listening, accepted = accepting(server, FairQueues(), most_each=1)
        silent = connected(listening)
        assert await asyncio.to_thread(silent.recv, 1) == b""
        _, writer = await asyncio.open_connection(*listening.getsockname(), ssl=client)
        writer.close()
        accepted.close()
        await accepted.wait_closed()
        silent.close()
        listening.close()

    ended(run())
