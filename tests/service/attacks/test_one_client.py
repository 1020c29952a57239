"""One client, without a key, against the real service: whatever it sends, others are answered and memory is bounded."""

import gzip
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.attacked import MIB, asked, good, held, memory, raw, until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").exists(), reason="memory is read in /proc")]

JSON = {"content-type": "application/json"}


@contextmanager
def beside(attack):
    """The attack goes on in a thread while the block runs."""
    over = threading.Event()
    thread = threading.Thread(target=attack, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def test_requests_that_are_sent_without_end_and_never_read_do_not_fill_the_memory(service):
    request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n" * 5_000

    def attack(over):
        while not over.is_set():
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.settimeout(0.5)
                with suppress(OSError):
                    while not over.is_set():
                        connection.sendall(request)

    good(service)
    before = memory(service)
    with beside(attack):
        time.sleep(3.0)
        assert good(service) == 40
        assert memory(service) - before < 100 * MIB


def test_requests_sent_ahead_are_all_answered_in_order_however_many(service):
    def numbered(number):
        body = json.dumps({"slice": f"ahead {number}", "x": [0.0, 1.0]}).encode()
        head = b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        return head + b"content-length: %d\r\n\r\n" % len(body) + body

    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(60.0)
        sending = threading.Thread(target=connection.sendall, args=(b"".join(map(numbered, range(1_000))),))
        sending.start()
        read = b""
        while read.count(b'"slice":"ahead ') < 1_000 and (chunk := connection.recv(65_536)):
            read += chunk
        sending.join(60)
    assert read.count(b"HTTP/1.1 200") == 1_000
    assert [int(number) for number in re.findall(rb'"slice":"ahead (\d+)"', read)] == list(range(1_000))


def test_bodies_that_wait_for_their_turn_on_one_connection_are_bounded(service):
    before = memory(service)
    head = (
        b"POST /v1/update HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    body = json.dumps([{"slice": "good", "x": [0.0, 1.0]}] * 2_000).encode()
    with socket.create_connection(("127.0.0.1", service.port)) as connection, suppress(OSError):
        connection.sendall(head % len(body) + body)
        for _ in range(50):
            connection.sendall(head % (4 * MIB - 1_000) + b" " * (4 * MIB - 1_000))
    assert good(service) == 40
    assert memory(service) - before < 100 * MIB


def test_large_bodies_under_way_are_told_to_wait_and_small_ones_are_answered(service, client):
    before = memory(service)
    sockets = []
    head = (
        b"POST /v1/update HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    try:
        for _ in range(40):
            connection = socket.create_connection(("127.0.0.1", service.port))
            sockets.append(connection)
            connection.settimeout(0.5)
            with suppress(OSError):
                connection.sendall(head % (4 * MIB - 1) + b" " * (3 * MIB))
        assert good(service) == 40
        assert memory(service) - before < 100 * MIB
        refused = [connection.recv(1_000) for connection in sockets[20:] if _readable(connection)]
        assert any(b"503" in answer and b"retry-after" in answer for answer in refused)
    finally:
        for connection in sockets:
            connection.close()
    until(lambda: held(client) == 0.0)  # who left in the middle of a body holds nothing
    large = json.dumps([{"slice": "good", "x": [0.0, 1.0]}] * 5_000)
    assert client.post("/v1/score", content=large, headers=JSON).status_code == 200


def test_who_leaves_without_reading_what_was_sent_ahead_leaves_no_error_in_the_log(service, client):
    for _ in range(3):
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets it
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1_000)
        time.sleep(1.0)  # until no buffer takes another answer
        assert under_way(client) == 2.0
        connection.close()
    until(lambda: under_way(client) == 1.0)
    assert "Exception" not in service.log.read_text()


def under_way(client):
    """Requests that are being answered, with the one that asks."""
    return float(re.search(r"^onlineguard_requests_under_way (\S+)", client.get("/metrics").text, re.MULTILINE)[1])


def _readable(connection):
    with suppress(OSError):
        return bool(connection.recv(1, socket.MSG_PEEK))
    return False


def test_one_connection_too_many_is_told_and_room_comes_back(service):
    def connected(address):
        return socket.create_connection(("127.0.0.1", service.port), source_address=(address, 0))

    def refused(address):
        with connected(address) as late:
            late.settimeout(5)
            answer = late.recv(1_000)
        assert answer.startswith(b"HTTP/1.1 503")
        return answer.decode()

    held = [connected("127.0.0.1") for _ in range(50)]
    try:
        time.sleep(0.3)
        assert "the setting connections_each allows" in refused("127.0.0.1")
        held += [connected("127.0.0.2") for _ in range(50)] + [connected("127.0.0.4") for _ in range(20)]
        time.sleep(0.3)
        assert "the setting connections allows" in refused("127.0.0.4")
    finally:
        for connection in held:
            connection.close()
    time.sleep(0.3)
    assert good(service) == 40


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("/v1/update", {"slice": "s" * 513, "x": [1, 2]}, "slice"),
        ("/v1/update", {"slice": ["s" * 513], "x": [1, 2]}, "slice"),
        ("/v1/update", {"slice": ["s"] * 17, "x": [1, 2]}, "slice"),
        ("/v1/update", {"slice": "s", "x": [1, 2], "id": "i" * 257}, "id"),
        ("/v1/labels", {"click_id": "i" * 257, "rfm": 5}, "click_id"),
    ],
)
def test_a_text_that_is_too_long_is_refused_with_the_bound(client, route, body, field):
    answer = client.post(route, json=body)
    assert answer.status_code == 422
    assert f"field {field} has " in answer.json()["detail"]
    assert "it may have " in answer.json()["detail"]


@pytest.mark.parametrize("route", ["/readyz", "/metrics", "/v1/slices?sort=name&contains=9", "/v1/slices?limit=10"])
def test_reads_of_many_slices_leave_time_for_others(service, route):
    with asked(service) as client:
        for start in range(0, 20_000, 5_000):
            body = [{"slice": f"many {i}", "x": [0.0, 1.0]} for i in range(start, start + 5_000)]
            assert client.post("/v1/update", json=body).status_code == 200

    def attack(over):
        with asked(service) as client:
            while not over.is_set():
                client.get(route)

    with beside(attack):
        assert good(service) == 40


# Sends what it reads so often on each of so many connections of another address, and reads all the answers.
OUTSTANDING = """
import selectors, socket, sys
port, connections, each = map(int, sys.argv[1:])
request, waiting = sys.stdin.buffer.read(), selectors.DefaultSelector()
for _ in range(connections):
    connection = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
    connection.setblocking(False)
    waiting.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, [request * each, each, b""])
print("sends", flush=True)
while waiting.get_map():
    for key, events in waiting.select():
        if events & selectors.EVENT_WRITE:
            key.data[0] = key.data[0][key.fileobj.send(key.data[0]):]
            if not key.data[0]:
                waiting.modify(key.fileobj, selectors.EVENT_READ, key.data)
        if events & selectors.EVENT_READ:
            read = key.fileobj.recv(1 << 20)
            key.data[1] -= (key.data[2] + read).count(b"HTTP/1.1 200") - key.data[2].count(b"HTTP/1.1 200")
            key.data[2] = read[-11:]
            if not key.data[1] or not read:
                waiting.unregister(key.fileobj)
"""


GOOD = b'{"slice": "s", "x": [1, 2]}'
POST = b"POST /v1/update HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
MANY = json.dumps([{"slice": f"many {i}", "x": [0, 1]} for i in range(9_000)]).encode()


@pytest.mark.parametrize(
    ("request_", "connections", "each", "least"),
    [
        (b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n", 40, 200, 100),
        (b"GET /v1/slices?sort=name&contains=9 HTTP/1.1\r\nhost: localhost\r\n\r\n", 10, 64, 400),
        (POST + b"content-length: %d\r\n\r\n" % len(MANY) + MANY, 10, 1, 400),
    ],
    ids=["metrics", "search", "updates"],
)
def test_a_good_client_is_answered_many_times_while_another_one_has_much_outstanding(
    service, client, request_, connections, each, least
):
    """It has 900 to 5,000 answers meanwhile; when connections took turns it had 200 to 700. A busy machine gives fewer.

    That one part of each other client comes between, and no more, is tested in `test_fair_queues`.
    """
    for start in (0, 9_000):
        body = json.dumps([{"slice": f"many {i}", "x": [0, 1]} for i in range(start, start + 9_000)])
        assert client.post("/v1/update", content=body, headers=JSON).status_code == 200
    mine = POST.replace(b"update", b"score") + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD
    answered = 0
    command = [sys.executable, "-c", OUTSTANDING, str(service.port), str(connections), str(each)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as attacker:
        attacker.stdin.write(request_)
        attacker.stdin.close()
        attacker.stdout.readline()
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.settimeout(120)
            while attacker.poll() is None:
                connection.sendall(mine)
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
                answered += 1
    assert attacker.returncode == 0
    assert answered >= least


def test_an_id_belongs_to_its_slice_and_names_one_event(client):
    def sent(slice_, x, id_):
        return client.post("/v1/update", json={"slice": slice_, "x": x, "id": id_})

    first = sent("A", [1.0, 2.0], "same")
    assert sent("A", [1.0, 2.0], "same").json() == first.json()
    other = sent("B", [5.0, 5.0], "same")
    assert (other.status_code, other.json()["slice"]) == (200, "B")
    taken = sent("A", [9.0, 9.0], "same")
    assert taken.status_code == 409
    assert "item 0" in taken.json()["detail"]
    events = [{"slice": "C", "x": [1.0, 1.0], "id": "c"}, {"slice": "A", "x": [9.0, 9.0], "id": "same"}]
    assert client.post("/v1/update", json=events).status_code == 409
    assert client.get("/v1/slices/C?of=events").status_code == 404  # nothing of it was learned
    assert 'status="409"' in client.get("/metrics").text


def test_a_page_of_another_site_can_neither_post_nor_rebind_its_name(service, client):
    own = service.url.removeprefix("http://")
    post = "/v1/snapshot"
    assert client.post(post, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post(post, headers={"origin": "null"}).status_code == 403
    assert client.post(post, headers={"origin": f"http://{own}"}).status_code == 200
    rebound = client.get("/v1/slices", headers={"host": "rebound.example"})
    assert rebound.status_code == 421
    assert "setting hosts" in rebound.json()["detail"]


def test_a_field_that_is_unknown_is_refused_with_the_nearest_name(client):
    answer = client.post("/v1/update", json={"slice": "s", "x": [1, 2], "idd": "1"})
    assert answer.status_code == 422
    assert "did you mean id?" in answer.json()["detail"]


CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"GET /livez HTTP/1.1\r\n" + b"a:\r\n" * 60_000, b"more than 256 headers"),
        (b"GET /livez HTTP/1.1\r\na: " + b"x" * 200_000, b"more than 65536 bytes of headers"),
        (CHUNKED + b"1\r\n \r\n0\r\na: " + b"x" * 200_000, b"more than 65536 bytes of headers"),
        (CHUNKED + b"1;" + b"x" * 200_000, b"more than 65536 bytes of headers"),
        (CHUNKED + b"1\r\n \r\n" * 50_000, b"more than 4096 chunks"),
        (POST + b"host: other.example\r\ncontent-length: 0\r\n\r\n", b"two headers Host"),
    ],
    ids=["many headers", "endless header", "endless trailer", "endless extension", "tiny chunks", "two hosts"],
)
def test_what_the_parser_would_hold_without_end_is_refused(service, sent, words):
    before = memory(service)
    connections = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(40)]
    try:
        for connection in connections:
            connection.settimeout(30)
            with suppress(OSError):  # it is closed before all is sent
                connection.sendall(sent)
        for connection in connections:
            with suppress(ConnectionResetError):
                answer = connection.recv(1_000)
                assert answer.startswith(b"HTTP/1.1 400 ")
                assert words in answer
        assert memory(service) - before < 100 * MIB
    finally:
        for connection in connections:
            connection.close()
    assert good(service) == 40


@pytest.mark.parametrize("chunk", [1_000, 17])
def test_a_body_in_chunks_is_taken_as_long_as_they_are_not_tiny(service, chunk):
    body = json.dumps([{"slice": "chunked", "x": [0.0, 1.0]}] * 3_000).encode()
    parts = [body[start : start + chunk] for start in range(0, len(body), chunk)]
    sent = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(60)
        connection.sendall(sent)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_a_body_that_takes_one_object_is_small_and_a_wrong_value_of_a_large_one_is_named(client):
    one = client.post("/v1/explain", content=b"[" + b"{}," * 100_000 + b"{}]", headers=JSON)
    assert one.status_code == 413
    assert "262,144 bytes, as many as this route takes" in one.json()["detail"]
    many = client.post("/v1/update", content=b'[{"slice":"s","x":[[]]}' + b",{}" * 100_000 + b"]", headers=JSON)
    assert many.status_code == 422
    assert "event 0 field x[0] is []; x must be a list of numbers" in many.json()["detail"]


def test_small_bodies_that_unpack_to_large_ones_take_turns(service):
    bomb = gzip.compress(b" " * (4 * MIB - 1_000))
    request = POST + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb
    before = memory(service)
    connections = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(40)]
    try:
        for connection in connections:
            connection.settimeout(60)
            connection.sendall(request)
        assert good(service) == 40
        for connection in connections:
            assert connection.recv(1_000).startswith(b"HTTP/1.1 400 ")  # it is no JSON
        assert memory(service) - before < 100 * MIB
    finally:
        for connection in connections:
            connection.close()


CLICK = {
    "click_id": "c", "ts": 1_790_000_000_000, "ip": "192.0.2.1", "user_agent": "u", "device": "phone",
    "marketplace": "US", "ad_id": "a", "logged_in": True,
}  # fmt: skip
LINES = "application/x-ndjson"


@pytest.mark.parametrize(
    ("route", "body", "media", "status", "sentence"),
    [
        ("/v1/clicks", {**CLICK, "ts": 1_790_000_000}, None, 422, "click field ts is 1790000000, which are seconds"),
        ("/v1/update", {"slice": "s", "x": [1, 2], "ts": 1_790_000_000}, None, 422, "event field ts is 1790000000, wh"),
        ("/v1/labels", {"click_id": "c", "purchase_ts": 1_790_000_000}, None, 422, "purchase_ts is 1790000000, wh"),
        ("/v1/update", gzip.compress(GOOD, mtime=0), None, 400, "gzip; say so in the header Content-Encoding: gzip"),
        ("/v1/update", b"\xef\xbb\xbf" + GOOD, None, 400, "begins with a byte order mark; send it without"),
        ("/v1/update", GOOD.decode().encode("utf-16"), None, 400, "the body is UTF-16; send it in UTF-8"),
        ("/v1/update", b'{"slice": "\xe9"}', None, 400, "no JSON in UTF-8: the byte 0xe9 begins no character; it must"),
        ("/v1/update", b'{"slice": "s", "x": [NaN, 2]}', None, 400, "NaN is no number of JSON: send null where"),
        ("/v1/update", b'[{"slice": "s", "x": [1e999, 2]}]', None, 422, "event 0 field x[0] is a number out of range"),
        ("/v1/update", GOOD + b"\n" + GOOD, None, 400, "send the content type application/x-ndjson"),
        ("/v1/update", GOOD + b"\n\n" + GOOD[:9], LINES, 400, "line 3 of the body is no JSON in UTF-8: it ends"),
        ("/v1/update", GOOD + b"\n" + b'{"slice": 1.5, "x": [1]}', LINES, 422, "event 1 field slice is 1.5; slice"),
        ("/v1/update", b"", None, 400, "the body is empty; it must be one JSON object, or an array of them"),
        ("/v1/update", b"[" * 5_000, None, 400, "the body is nested too deep; it must be"),
        ("/v1/update", b'{"slice": "s", "x": [1, 2],}', None, 400, "trailing comma in object (byte 27); it must be"),
        ("/v1/model", {"folder": "/nowhere", "forse": True}, None, 422, '"forse", which is unknown; did you mean f'),
        ("/v1/trial", {"folder": "/nowhere", "sahre": 0.5}, None, 422, '"sahre", which is unknown; did you mean s'),
        ("/v1/erase", {"user": "u"}, None, 422, 'the body has a field "user", which is unknown; did you mean user_id?'),
    ],
)  # fmt: skip
def test_bad_input_is_answered_with_one_sentence_that_says_what_to_do(client, route, body, media, status, sentence):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(route, content=content, headers={"content-type": media or "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert sentence in answer.json()["detail"]


def test_what_is_no_http_and_a_websocket_get_a_problem_once_and_write_nothing_into_the_log(service):
    before = service.log.read_text()
    upgrade = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    for sent, status in [(b"\x16\x03\x01 no HTTP\r\n\r\n", b"400"), (upgrade, b"426")]:
        head, body = raw(service, sent).split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status)
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == int(status)
    assert service.log.read_text() == before


def test_a_client_that_has_closed_its_half_gets_its_answer(service):
    assert raw(service, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").endswith(b'{"status":"alive"}')


@pytest.mark.parametrize("key", ["a/b", "%2F", "?&#=", 'a "quoted" name', "a\n\t\n", "\u65e5\u672c \U0001f600", "["])
def test_a_slice_is_found_whatever_characters_its_name_has(client, key):
    assert client.post("/v1/update", json={"slice": key, "x": [1.0, 2.0]}).status_code == 200
    found = client.get(f"/v1/slices/{urllib.parse.quote(key, safe='')}", params={"of": "events"})
    assert found.json()["slice"] == key


def test_a_folder_that_is_no_model_is_refused_at_once_whatever_is_in_it(client, tmp_path):
    deep, pipe = tmp_path / "deep", tmp_path / "pipe"
    deep.mkdir()
    (deep / "manifest.json").write_text("[" * 100_000)
    pipe.mkdir()
    os.mkfifo(pipe / "manifest.json")
    for folder in (deep, pipe, Path("/dev"), tmp_path / "absent"):
        answer = client.post("/v1/model", json={"folder": str(folder)})
        assert answer.status_code == 422
        assert str(folder) in answer.json()["detail"]


def test_other_users_of_the_machine_can_read_nothing_of_the_state(service, client):
    assert client.post("/v1/snapshot").status_code == 200
    files = [path for path in (service.log.parent / "state" / "journal").rglob("*") if path.is_file()]
    assert any(path.name.startswith("snapshot-") for path in files)
    assert [path for path in files if path.stat().st_mode & 0o007] == []
