"""A service for attacks, one process for all of them, and what is asked of it beside one: answers, and its memory."""

import gzip
import json
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx2
import pytest

from tests.support.real import Service

MIB = 1 << 20
PROXY = "127.0.0.3"  # that the service believes whom it asks for
FLOOD = gzip.compress(json.dumps([{"slice": "flood", "x": [1.0, 2.0]}] * 2_000).encode())
ASKED = 40  # times, how much of the flood was learned


@pytest.fixture(scope="session")
def attacked(tmp_path_factory, environment, model_folder):
    """Of small bounds, and without a key."""
    service = Service(
        tmp_path_factory.mktemp("attacked"), environment, "--model", str(model_folder), "--n-features", "2",
        "--detector", "marginal", "--snapshot-every", "3600", "--connections", "120", "--connections-each", "50",
        "--bodies-limit", str(8 * MIB), "--trusted-proxies", PROXY,
    )  # fmt: skip
    service.start()
    _settle(service)
    yield service
    service.kill()


def memory(service: Service) -> int:
    """What the process holds, in bytes."""
    return _status(service, "VmRSS")


def peak(service: Service) -> int:
    """The most that it has held since `forget_peak`, in bytes."""
    return _status(service, "VmHWM")


def forget_peak(service: Service) -> None:
    """Have `peak` begin anew."""
    assert service.process is not None
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")


def asked(service: Service) -> httpx2.Client:
    """A client that waits: the tests are not about time."""
    return httpx2.Client(base_url=service.url, timeout=60)


def good(service: Service, count: int = 40) -> int:
    """Requests of a good client that were answered with 200."""
    with asked(service) as client:
        body = {"slice": "good", "x": [1.0, 2.0]}
        return sum(client.post("/v1/update", json=body).status_code == 200 for _ in range(count))


def raw(service: Service, sent: bytes) -> bytes:
    """All that comes back to what is sent by a client that sends nothing more."""
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(30)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def held(client: httpx2.Client) -> float:
    """Bytes of large bodies that the service holds."""
    found = re.search(r"^onlineguard_bodies_bytes (\S+)", client.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def until(holds: Callable[[], bool]) -> None:
    """Wait for it; fails after some seconds, in which nothing ends by a time limit of the service."""
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to that")


def learned_beside(flooding: Mapping[socket.socket, Sequence[str]], mine: socket.socket, head: str) -> list[int]:
    """How many events of a flood had been learned at each of `ASKED` answers that somebody else got meanwhile.

    The first number is from before these: it had just begun. Fails where it was over before the last answer.

    flooding: connections of the one, and the headers of the requests that each sends: updates of 2,000 events.
    mine: the connection of the other, whose last `ASKED` requests are sent at once, with the headers `head`.
    """
    post = "POST /v1/update HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"
    get = f"GET /v1/slices/flood?of=events HTTP/1.1\r\nhost: localhost\r\n{head}\r\n".encode()

    def asked(times: int) -> list[int]:
        mine.sendall(get * times)
        read = b""
        while read.count(b'"drivers"') < times and (chunk := mine.recv(65_536)):
            read += chunk
        learned = [int(count) for count in re.findall(rb'"events":(\d+)', read)]
        assert len(learned) == times
        return learned

    before = asked(1)
    for connection, heads in flooding.items():
        for more in heads:
            connection.sendall(f"{post}content-length: {len(FLOOD)}\r\n{more}\r\n".encode() + FLOOD)
    while (begun := asked(1)) == before:
        pass
    learned = begun + asked(ASKED)
    assert learned[-1] < before[0] + 2_000 * sum(map(len, flooding.values())), "the flood was over too soon"
    return learned


def _status(service: Service, name: str) -> int:
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found is not None, "the process has ended: " + service.log.read_text()
    return 1_024 * int(found[1])


def _settle(service: Service) -> None:
    """Wait until memory is still: after a first start programs are compiled in the background, so as to be kept."""
    still, held = 0, 0
    for _ in range(240):
        held, before = memory(service), held
        still = still + 1 if abs(held - before) < MIB else 0
        if still == 10:
            return
        time.sleep(0.5)
    pytest.fail(f"memory is not still: {held} bytes")
