"""The service behind a real socket: connections, TLS, and what is no HTTP."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess

import httpx2
import pytest
from onlineguard_service.config import Settings
from onlineguard_service.http import server
from onlineguard_service.http.app import application

from tests.support.asking import EVENT
from tests.support.double import Double, served


def test_a_real_server_keeps_a_connection_and_hides_what_it_is():
    core = Double()
    with served(core=core) as address, httpx2.Client() as client:
        for number in range(200):
            answer = client.post(f"{address}/v1/update", json={"slice": "a", "x": [number]})
            assert answer.status_code == 200
            assert "server" not in answer.headers
            assert answer.json()["score"] == number
        head = client.head(f"{address}/livez")
        assert (head.status_code, head.content) == (200, b"")
        many = [{"slice": "a", "x": [n] * 50} for n in range(5_000)]  # over many packets
        assert len(client.post(f"{address}/v1/update", json=many).json()) == 5_000
    assert len(core.learned) == 5_200


def test_headers_without_end_are_refused():
    with served() as address:
        answer = httpx2.get(f"{address}/livez", headers={f"x-{n}": "a" * 1_000 for n in range(80)})
        assert answer.status_code == 400
        assert httpx2.get(f"{address}/livez").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/up", b"POST /v1/update HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"],
)
def test_a_client_that_does_not_go_on_sending_is_let_go(monkeypatch, sent):
    monkeypatch.setattr(server, "SLOW_SECONDS", 0.5)
    with served() as address, httpx2.Client() as client:
        host, _, port = address.removeprefix("http://").partition(":")
        client.get(f"{address}/livez")
        with socket.create_connection((host, int(port)), 30) as slow, contextlib.suppress(ConnectionResetError):
            slow.sendall(sent)
            assert slow.recv(1_000) == b""
        assert client.get(f"{address}/livez").status_code == 200  # one that waits between requests is not


def test_tls_is_1_2_or_newer(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    made = subprocess.run([*command.split(), "-keyout", key, "-out", cert], capture_output=True, timeout=60)
    assert made.returncode == 0, made.stderr
    with served(Settings(port=0, tls_cert=cert, tls_key=key, grace=1.0)) as address:
        trusting = ssl.create_default_context(cafile=cert)
        assert httpx2.get(f"{address}/livez", verify=trusting).status_code == 200
        trusting.maximum_version = ssl.TLSVersion.TLSv1_2
        assert httpx2.get(f"{address}/livez", verify=trusting).status_code == 200
    config = server._config(application(None, Settings()), Settings(tls_cert=cert, tls_key=key))
    assert isinstance(config.ssl, ssl.SSLContext)
    assert config.ssl.minimum_version is ssl.TLSVersion.TLSv1_2


def test_with_authorities_of_clients_only_those_with_a_certificate_are_answered(tmp_path):
    def made(name, *more):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
        paths = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        subprocess.run(
            [*command, *more, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True, timeout=60
        )
        return paths

    (cert, key), client = made("localhost", "-addext", "subjectAltName=IP:127.0.0.1"), made("client")
    with served(Settings(port=0, tls_cert=cert, tls_key=key, tls_clients=client[0], grace=1.0)) as address:
        trusting = ssl.create_default_context(cafile=cert)
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{address}/livez", verify=trusting)
        trusting.load_cert_chain(*client)
        assert httpx2.get(f"{address}/livez", verify=trusting).status_code == 200


def raw(address: str, sent: bytes, half_closed: bool = False) -> bytes:
    """All that a server answers to these bytes until it closes the connection."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(sent)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    return answer


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"\x16\x03\x01\x02\x00"]
)
def test_what_is_no_http_is_a_problem_too(sent):
    with served() as address:
        head, _, body = raw(address, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert "no HTTP" in json.loads(body)["detail"]


def test_a_websocket_is_refused_once_and_quietly(caplog):
    asked = b"GET /v1/live HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    with served() as address:
        head, _, body = raw(address, asked).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 426 ")
    assert "server-sent events" in json.loads(body)["detail"]
    assert caplog.text == ""


def test_a_client_that_closes_its_half_gets_its_answer_and_then_the_connection_ends():
    body = json.dumps(EVENT).encode()
    asked = (
        b"POST /v1/update HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    )
    with served() as address:
        answer = raw(address, asked % (len(body), body), half_closed=True)
        twice = raw(address, asked % (len(body), body) * 2, half_closed=True)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["slice"] == "a"
    assert twice.count(b"HTTP/1.1 200 ") == 2


def test_a_key_with_slashes_and_signs_comes_through_a_real_server():
    with served() as address:
        answer = httpx2.get(f"{address}/v1/slices/phone%20%2F%20US%20%2F%20true")
        assert answer.json()["slice"] == "phone / US / true"
        assert httpx2.get(f"{address}/v1/slices/%5B%22a%22%2C1%5D?of=events").json()["slice"] == ["a", 1]


def test_requests_at_once_do_not_disturb_each_other():
    core = Double()

    async def many(address: str) -> list[int]:
        async with httpx2.AsyncClient(timeout=30) as client:

            async def one(number: int) -> int:
                answer = await client.post(f"{address}/v1/score", json={"slice": number, "x": [number]})
                return answer.json()["slice"]

            return list(await asyncio.gather(*map(one, range(100))))  # as many as httpx2 has connections

    with served(core=core) as address:
        assert asyncio.run(many(address)) == list(range(100))
