"""Handshakes of TLS, over real sockets: each network's begin in its own turns, and none is forgotten."""

import asyncio
import itertools
import socket
import ssl
import subprocess

import pytest
from onlineguard_service.fair_queues import FairQueues
from onlineguard_service.http.handshakes import Handshakes

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


def first_words(context):
    """What a client of TLS sends first."""
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="127.0.0.1").do_handshake()
    return sent.read()


def accepting(context, queues, most_each=MANY):
    """A listening socket, and the handshakes of whoever connects to it."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2 * MANY)
    listening.setblocking(False)
    return listening, Handshakes(listening, context, asyncio.Protocol, queues, 2 * MANY, most_each)


def connected(listening):
    return socket.create_connection(listening.getsockname(), 30.0, ("127.0.0.2", 0))


def test_however_many_handshakes_begin_at_once_others_have_a_turn_after_each(contexts):
    server, client = contexts
    order = []
    server.sni_callback = lambda *_: order.append("handshake")

    async def run():
        queues = FairQueues()
        other = queues.of("other")
        listening, handshakes = accepting(server, queues)
        held = [connected(listening) for _ in range(MANY)]
        for connection in held:
            connection.sendall(first_words(client))
        while order.count("handshake") < MANY:
            await other.turn()
            order.append("other")
        handshakes.close()
        await handshakes.wait_closed()
        for connection in (listening, *held):
            connection.close()

    asyncio.run(asyncio.wait_for(run(), 60))
    together = [len(list(run)) for name, run in itertools.groupby(order) if name == "handshake"]
    assert max(together) <= 2


def test_who_says_nothing_keeps_no_other_handshake_of_its_network_waiting(contexts):
    server, client = contexts

    async def run():
        listening, handshakes = accepting(server, FairQueues())
        silent = [connected(listening) for _ in range(5)]
        await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection(*listening.getsockname(), ssl=client)
        assert writer.get_extra_info("cipher") is not None
        writer.close()
        handshakes.close()
        await handshakes.wait_closed()
        for connection in silent:  # which have been closed
            assert await asyncio.to_thread(connection.recv, 1) == b""
            connection.close()
        listening.close()
        del reader

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_handshake_that_is_not_over_in_time_is_ended_and_makes_room(contexts, monkeypatch):
    server, client = contexts
    monkeypatch.setattr("onlineguard_service.http.handshakes.SECONDS", 0.2)

    async def run():
        listening, handshakes = accepting(server, FairQueues(), most_each=1)
        silent = connected(listening)
        assert await asyncio.to_thread(silent.recv, 1) == b""
        _, writer = await asyncio.open_connection(*listening.getsockname(), ssl=client)
        writer.close()
        handshakes.close()
        await handshakes.wait_closed()
        silent.close()
        listening.close()

    asyncio.run(asyncio.wait_for(run(), 60))
