"""What one client may send in a body, a head or a stream against the real service: little never becomes much."""

import gzip
import json
import socket
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from backports import zstd

from onlineguard.wire.arrow import MEDIA
from tests.support.attacked import MIB, forget_peak, good, memory, peak, raw
from tests.support.tables import stream

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").exists(), reason="memory is read in /proc")]

ROWS = 10_000
EVENT = b'{"slice": "s", "x": [1, 2]}'
HEAD = b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def said(values, kind=None):
    """A dictionary of Arrow whose first value every row has, at a byte each."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int8)), pa.array(values, kind))


def fixed(values, size):
    return pa.FixedSizeListArray.from_arrays(values, size)


def clicks():
    """Whose texts take 300 bytes and are said in every row."""
    texts = {name: said(["x" * 40]) for name in ("ip", "device", "marketplace", "ad_id", "user_id", "session_id")}
    numbers = {"ts": range(ROWS), "logged_in": [True] * ROWS}
    return {"click_id": list(map(str, range(ROWS))), "user_agent": said(["x" * 500]), **texts, **numbers}


BOMBS = {  # what is sent in some kilobytes, or in 4 MB, and what is said of it
    "lists in a dictionary": ({"slice": ["a"] * ROWS, "x": said([[1.0] * 400_000])}, 400, "has the type dictionary"),
    "texts in a dictionary": (clicks(), 413, "bytes where each row has its own"),
    "lists of nothing": ({"slice": ["a"], "x": fixed(pa.nulls(1 << 24), 1 << 24)}, 400, "has the type fixed_size_list"),
    "bits": ({f"f{n}": np.zeros(ROWS, bool) for n in range(900)}, 413, "has 9,000,000 values; it may have"),
    "bytes": ({"slice": ["a"], "x": fixed(pa.array(np.zeros(3 << 20, np.int8)), 3 << 20)}, 413, "values; it may have"),
    "columns": ({f"f{n}": [1.0] for n in range(15_000)}, 413, "has 15,000 columns"),
    "fields": ({"features": pa.array([{f"f{n}": 1.0 for n in range(15_000)}])}, 413, "has 15,001 columns"),
    "nulls": ({"slice": pa.nulls(1 << 30)}, 413, "rows, more than the batch_limit"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_table_of_arrow_that_is_large_once_it_is_read_is_refused_before(service, client, name):
    columns, status, words = BOMBS[name]
    body = stream(pa.table(columns))
    forget_peak(service)
    before = memory(service)
    path = "/v1/clicks" if "click_id" in columns else "/v1/score"
    answer = client.post(path, content=body, headers={"content-type": MEDIA})
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True)
    assert peak(service) - before < 60 * MIB


def test_a_table_whose_lengths_lie_is_refused_or_another_table_and_nothing_worse(service, client):
    body = stream(pa.table({"slice": ["a", "b"], "x": fixed(pa.array([1.0, 2.0, 3.0, 4.0]), 2)}))
    forget_peak(service)
    before = memory(service)
    for place in range(0, len(body) - 8, 12):
        for lie in (bytes(4), b"\xff\xff\xff\x7f", b"\xff" * 8, b"\0\0\0\0\0\1\0\0"):
            lied = body[:place] + lie + body[place + len(lie) :]
            answer = client.post("/v1/score", content=lied, headers={"content-type": MEDIA})
            assert answer.status_code in (200, 400, 413, 422), answer.text
    assert peak(service) - before < 60 * MIB


def test_a_stream_of_arrow_whose_first_message_is_no_schema_ends_nothing(service, client):
    x = fixed(pa.array([1.0, np.nan, None, 4.0]), 2)
    body = bytearray(stream(pa.table({"slice": pa.array(["a", "b"]).dictionary_encode(), "x": x})))
    body[20], body[130], body[263] = 3, 255, 2  # its kind and two places that it leads to
    answer = client.post("/v1/score", content=bytes(body), headers={"content-type": MEDIA})
    assert (answer.status_code, "does not begin with a schema" in answer.json()["detail"]) == (400, True)
    assert service.process.poll() is None


def test_a_row_far_down_a_table_is_named_by_its_place(client):
    texts = pa.array(["a"] * 9_000 + [None] + ["b"] * 500)
    table = pa.table({"slice": texts, "x": fixed(pa.array(np.zeros(19_002)), 2)})
    answer = client.post("/v1/score", content=stream(table), headers={"content-type": MEDIA})
    assert (answer.status_code, answer.json()["detail"][:33]) == (422, "event 9000 field slice is null; s")
    whole = pa.table({"slice": ["a"] * 9_500, "x": fixed(pa.array(np.zeros(190_000)), 20)})
    answer = client.post("/v1/score", content=stream(whole), headers={"content-type": MEDIA})
    assert answer.json()["detail"].startswith("events[0].x has 20 numbers; it must have 2, as every event of this ")


def block(window, size):
    """A frame of zstd of one block that repeats a byte, with a window of 2 ** (10 + window) bytes."""
    return b"\x28\xb5\x2f\xfd\0" + bytes([window << 3]) + (size << 3 | 3).to_bytes(3, "little") + b" "


PACKED = {
    "gzip of 200 MB": (gzip.compress(bytes(200 * MIB), 1), "gzip", 413, "more than 4,194,304 bytes"),
    "zstd of 1 GB": (zstd.compress(bytes(1 << 30), 1), "zstd", 413, "more than 4,194,304 bytes"),
    "a window of 2 GB": (block(21, 20), "zstd", 400, "too much memory"),
    "no size": (block(10, 100_000), "zstd", 400, "begins with 65,536 bytes of white space"),
    "two frames": (zstd.compress(EVENT) * 2, "zstd", 400, "goes on behind the end of its zstd"),
    "two members": (gzip.compress(EVENT) * 2, "gzip", 400, "goes on behind the end of its gzip"),
    "empty blocks": (b"\x28\xb5\x2f\xfd\0\0" + bytes(3_900_000), "zstd", 400, "its end is missing"),
    "twice": (gzip.compress(zstd.compress(EVENT)), "zstd, gzip", 415, "it must be gzip or zstd, or none"),
}


@pytest.mark.parametrize("name", PACKED)
def test_what_is_packed_is_unpacked_within_the_limits_or_not_at_all(service, client, name):
    body, encoding, status, words = PACKED[name]
    forget_peak(service)
    before = memory(service)
    headers = {"content-type": "application/json", "content-encoding": encoding}
    answer = client.post("/v1/score", content=body, headers=headers)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True)
    assert peak(service) - before < 30 * MIB


TEXTS = {
    "deep": (b"[" * 100_000, 400, "nested too deep"),
    "deep in an event": (b'{"slice": "s", "x": ' + b"[" * 100_000, 400, "nested too deep"),
    "a long number": (b'{"slice": ' + b"9" * 200_000 + b', "x": [1, 2]}', 422, "integer value out of range"),
    "a long name": (b'{"' + b"k" * 200_000 + b'": 1}', 422, "which is unknown; it must be one of slice, x"),
    "a longer one": (b'{"' + b"k" * 4_000_000 + b'": 1}', 413, "has more than 262,144 bytes"),
    "a lone surrogate": (b'{"slice": "\\ud800", "x": [1, 2]}', 400, "surrogate"),
    "a surrogate in UTF-8": (b'{"slice": "\xed\xa0\x80", "x": [1, 2]}', 400, "the byte 0xed begins no character"),
    "a NUL as it is": (b'{"slice": "a\0", "x": [1, 2]}', 400, "invalid character"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_json_that_is_made_to_hurt_gets_one_sentence(service, client, name):
    body, status, words = TEXTS[name]
    forget_peak(service)
    before = memory(service)
    answer = client.post("/v1/update", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True)
    assert len(answer.content) < 1_000
    assert peak(service) - before < 60 * MIB


def test_of_a_field_that_stands_twice_the_last_one_counts_and_a_slice_may_have_a_nul_in_its_name(client):
    body = b'{"slice": "first", "x": [1, 2], "slice": "a\\u0000b"}'
    answer = client.post("/v1/update", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["slice"]) == (200, "a\0b")
    assert client.get("/v1/slices/a%00b?of=events").json()["slice"] == "a\0b"
    assert client.get("/v1/slices/first?of=events").status_code == 404


def body_of(length):
    return HEAD + length + b"\r\n\r\n" + EVENT


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (body_of(b"content-length: 27\r\ncontent-length: 27"), 400, b"Duplicate Content-Length"),
        (body_of(b"content-length: 27\r\ntransfer-encoding: chunked"), 400, b"Transfer-Encoding can't be present with"),
        (body_of(b"content-length: 27, 27"), 400, b"Invalid character in Content-Length"),
        (body_of(b"content-length: 99999999999999999999"), 400, b"Content-Length overflow"),
        (body_of(b"transfer-encoding: xchunked"), 400, b"invalid `Transfer-Encoding`"),
        (body_of(b"expect: 100-continue\r\ncontent-length: 27"), 200, b'"slice":"s"'),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, b"HTTP/2"),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\na: b\r\n c\r\n\r\n", 400, b"whitespace"),
        (b"GET /v1/slices?" + b"&" * 60_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 200, b'"slices":'),
        (b"GET /v1/slices?a=" + b"b" * 70_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 400, b"65536 bytes"),
        (b"GET /v1/alarms?cursor=" + b"9" * 5_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 422, b"it must be one"),
        (b"GET /v1/slices/" + b"%5b" * 9_000 + b"?of=events HTTP/1.1\r\nhost: localhost\r\n\r\n", 404, b"no slice"),
        (b"GET /static/..%2f..%2fapp.py HTTP/1.1\r\nhost: localhost\r\n\r\n", 404, b"nothing at this path"),
        (b"TRACE /livez HTTP/1.1\r\nhost: localhost\r\nx-secret: s\r\n\r\n", 405, b"TRACE is not allowed here"),
        (b"HEAD /v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n", 200, b"text/event-stream"),
        (b"OPTIONS /v1/score HTTP/1.1\r\nhost: localhost\r\n\r\n", 204, b"allow: POST, OPTIONS"),
    ],
)  # fmt: skip
def test_a_request_of_an_odd_kind_gets_one_plain_answer(service, sent, status, words):
    answer = raw(service, sent)
    assert answer.startswith(b"HTTP/1.1 100 " if b"expect" in sent else b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 %d " % status) == 1
    assert words in answer
    assert b"x-secret" not in answer


def test_alarms_that_many_readers_catch_up_on_without_reading_hold_up_nobody(service, client):
    """Also those who say nonsense of where they were."""
    slices, numbers = [f"alarms {n}" for n in range(100)], np.random.default_rng(0).normal(size=(300, 2)).tolist()
    sent = [{"slice": name, "x": x} for x in [*numbers, [1e6, 1e6]] for name in slices]
    for start in range(0, len(sent), 5_000):
        assert client.post("/v1/update", json=sent[start : start + 5_000]).status_code == 200
    assert client.get("/v1/alarms?limit=1").json()["open"] >= 100
    before = memory(service)
    readers = []
    try:
        for last in [b"0"] * 40 + [b"-1", b"9" * 30, b"abc", b"\xff\xfe", b"1e3", b"9" * 18]:
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            reader.connect(("127.0.0.1", service.port))
            reader.sendall(b"GET /v1/alarms/stream HTTP/1.1\r\nhost: localhost\r\nlast-event-id: " + last + b"\r\n\r\n")
            readers.append(reader)
        assert good(service) == 40
        assert memory(service) - before < 40 * MIB
        for reader in readers[40:]:
            reader.settimeout(30)
            beginning = reader.recv(1_000)
            while b": no news" not in beginning:
                beginning += reader.recv(1_000)
            assert beginning.startswith(b"HTTP/1.1 200 ")
            assert b"event: alarm" not in beginning.partition(b": no news")[0]  # it begins anew
    finally:
        for reader in readers:
            reader.close()
    with socket.create_connection(("127.0.0.1", service.port)) as reader:
        reader.settimeout(30)
        reader.sendall(b"GET /v1/alarms/stream HTTP/1.1\r\nhost: localhost\r\nlast-event-id: 0\r\n\r\n")
        told = b""
        while b": no news" not in told:
            told += reader.recv(65_536)
    assert told.count(b"event: alarm") >= 100


def test_readers_of_figures_who_never_read_cost_little(service):
    before = memory(service)
    readers = []
    try:
        for _ in range(40):  # those of other tests may be seen to have left with the next thing that they are told
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            reader.connect(("127.0.0.1", service.port))
            reader.sendall(b"GET /v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
            readers.append(reader)
        time.sleep(2.0)
        assert good(service) == 40
        assert memory(service) - before < 20 * MIB
    finally:
        for reader in readers:
            with suppress(OSError):
                reader.close()


def test_nothing_of_all_this_is_an_error_of_the_service(service, client):
    assert json.loads(client.get("/readyz").text)["ready"]
    assert 'status="500"' not in client.get("/metrics").text
    assert "Traceback" not in service.log.read_text()
