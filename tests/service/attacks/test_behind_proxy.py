"""Clients behind one proxy, without keys: each has turns and a name of its own, and none takes another's."""

import json
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.attacked import ASKED, PROXY, asked, good, learned_beside, until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").exists(), reason="memory is read in /proc")]

FLOODER, GOOD = "198.51.100.1", "198.51.100.2"
FLOODING = 16  # connections


def connected(service, address):
    return socket.create_connection(("127.0.0.1", service.port), 60.0, (address, 0))


def opened(client):
    """Connections that are open, with the one that asks."""
    return float(re.search(r"^onlineguard_connections (\S+)", client.get("/metrics").text, re.MULTILINE)[1])


def forwarded(*hops):
    return f"x-forwarded-for: {', '.join(hops)}\r\n"


@pytest.mark.parametrize(
    ("of_flooder", "last", "of_good", "mine"),
    [(PROXY, [FLOODER], PROXY, forwarded(GOOD)), ("127.0.0.2", [], "127.0.0.1", "")],
    ids=["by the proxy", "by none"],
)
def test_who_writes_other_addresses_into_its_requests_has_the_turns_of_one_client(
    attacked, of_flooder, last, of_good, mine
):
    """In the header each request of the flood comes from somebody else; the proxy has added who it comes from."""
    with asked(attacked) as client, ExitStack() as held:
        assert client.post("/v1/update", json={"slice": "flood", "x": [1.0, 2.0]}).status_code == 200
        flooding = {
            held.enter_context(connected(attacked, of_flooder)): [forwarded(f"203.0.{m}.{n}", *last) for n in range(12)]
            for m in range(FLOODING)
        }
        learned = learned_beside(flooding, held.enter_context(connected(attacked, of_good)), mine)
    assert learned[-1] - learned[0] < ASKED * 2 * 256  # beside a dozen clients it would be several times as much


def test_a_proxy_may_open_more_connections_than_one_client_and_leaves_some_to_others(attacked):
    with asked(attacked) as client:
        until(lambda: opened(client) < 5)  # those of the tests before are gone
    with ExitStack() as held:
        connections = [held.enter_context(connected(attacked, PROXY)) for _ in range(71)]
        for connection in connections[:70]:
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert connections[70].recv(12) == b"HTTP/1.1 503"
        assert good(attacked) == 40


def test_the_audit_log_names_whom_a_trusted_proxy_asks_for_and_nobody_elses_word(attacked):
    request = "POST /v1/snapshot HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n"
    request += "connection: close\r\nx-request-id: {}\r\n{}\r\n"
    told = {
        "believed": (PROXY, forwarded(FLOODER, GOOD)),
        "in-two-headers": (PROXY, forwarded(FLOODER) + forwarded(GOOD, PROXY)),
        "of-a-proxy-itself": (PROXY, ""),
        "no-address": (PROXY, forwarded(GOOD, "unknown")),
        "foreign": ("127.0.0.2", forwarded(GOOD)),
    }
    for name, (address, more) in told.items():
        with connected(attacked, address) as connection:
            connection.sendall(request.format(name, more).encode())
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
            while connection.recv(65_536):
                pass
    lines = [json.loads(line) for line in attacked.log.read_text().splitlines() if line.startswith("{")]
    logged = {line["request_id"]: line["address"] for line in lines if line["logger"] == "onlineguard_service.audit"}
    assert {name: logged[name] for name in told} == {
        "believed": GOOD,
        "in-two-headers": GOOD,
        "of-a-proxy-itself": PROXY,
        "no-address": PROXY,
        "foreign": "127.0.0.2",
    }
