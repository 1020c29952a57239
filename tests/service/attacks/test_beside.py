"""A good client beside another one that sends without end: it is answered all the while, and memory is bounded."""

import json
import socket
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.attacked import MIB, asked, forget_peak, held, memory, peak, until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").exists(), reason="memory is read in /proc")]

POST = b"POST /v1/update HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
FLOODS = {  # what each connection sends, how it may be answered, and how many are answered before it is enough
    # 503: it has left forty connections whose turn has not come, and these are open until it comes
    "headers": (b"GET /livez HTTP/1.1\r\n" + b"a:\r\n" * 60_000, {400, 503}, 200),
    "chunks": (
        POST + b"transfer-encoding: chunked\r\n\r\n" + (b"10000\r\n" + b" " * 65_536 + b"\r\n") * 65,
        {413, 503},
        40,
    ),
    "a length": (POST + b"content-length: %d\r\n\r\n" % (4 * MIB - 1) + b" " * (3 * MIB), {503}, 40),
}


class Flood:
    """Forty connections at a time from another address, each of which sends this, while the block runs."""

    def __init__(self, port, sent):
        self.answered = Counter()
        self._port, self._sent, self._over = port, sent, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(60)

    def _run(self):
        while not self._over.is_set():
            with ExitStack() as open_:
                held = []
                for _ in range(40):
                    to = ("127.0.0.1", self._port)
                    held.append(open_.enter_context(socket.create_connection(to, 5.0, ("127.0.0.2", 0))))
                    with suppress(OSError):  # it is closed before all is sent
                        held[-1].sendall(self._sent)
                for connection in held:
                    connection.settimeout(0.1)
                    with suppress(OSError):
                        self.answered[int(connection.recv(12)[9:] or 0)] += 1


@pytest.mark.parametrize("kind", FLOODS)
def test_a_good_client_is_answered_while_another_one_sends_without_end(attacked, kind):
    sent, statuses, enough = FLOODS[kind]
    body, answered = json.dumps({"slice": "good", "x": [1.0, 2.0]}), 0
    with asked(attacked) as client, Flood(attacked.port, sent) as flood:
        forget_peak(attacked)
        before = memory(attacked)
        while flood.answered.total() < enough or answered < 40:
            answer = client.post("/v1/update", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 200
            answered += 1
        grown = peak(attacked) - before
    with asked(attacked) as client:
        until(lambda: held(client) == 0.0)  # who left in the middle of a body holds nothing
    assert flood.answered.keys() <= statuses | {0}  # 0: closed before its answer was read
    assert grown < 100 * MIB
