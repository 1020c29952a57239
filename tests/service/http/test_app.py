"""Requests as they are answered without a socket: what is taken, what is refused and why, and when nothing is."""

import asyncio
import json
import logging

import msgspec
import pytest
from backports import zstd
from onlineguard_service.config import Settings
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.http.app import application
from onlineguard_service.logs import JsonLines

from onlineguard.client import Client
from onlineguard.errors import InvalidArgument
from onlineguard.wire.encodings import packed, unpacker
from tests.support.asking import CLICK, EVENT, HOT, LABEL, NDJSON, problem
from tests.support.double import Double, ask, served


@pytest.fixture
def app():
    return application(Double(), Settings())


@pytest.mark.parametrize(("path", "item"), HOT)
def test_one_an_array_and_lines_are_answered_in_the_shape_they_came_in(app, path, item):
    one = json.dumps(item).encode()
    status, headers, answer = ask(app, "POST", path, one)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert headers["content-length"] == str(len(answer))
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    name = "click_id" if "click_id" in item else "slice"
    assert json.loads(answer)[name] == item[name]

    status, _, answers = ask(app, "POST", path, b" \n[" + one + b"," + one + b"]")
    assert json.loads(answers) == [json.loads(answer)] * 2

    for kind in (NDJSON, "application/x-ndjson; charset=utf-8"):
        status, headers, lines = ask(app, "POST", path, one + b"\n" + one + b"\n", kind)
        assert (status, headers["content-type"]) == (200, NDJSON)
        assert lines == answer + b"\n" + answer + b"\n"


def test_answers_come_in_the_order_of_the_events(app):
    events = [{"slice": str(index), "x": [index]} for index in range(50)]
    answers = json.loads(ask(app, "POST", "/v1/update", json.dumps(events).encode(), parts=9)[2])
    assert [answer["slice"] for answer in answers] == [event["slice"] for event in events]
    assert [event.slice for event in app.core.learned] == [event["slice"] for event in events]


@pytest.mark.parametrize(("path", "item"), HOT)
def test_an_empty_batch_is_answered_empty(app, path, item):
    assert ask(app, "POST", path, b"[]")[::2] == (200, b"[]")
    assert ask(app, "POST", path, b"", NDJSON)[::2] == (200, b"")


def test_score_learns_nothing_and_update_does(app):
    body = json.dumps(EVENT).encode()
    assert ask(app, "POST", "/v1/score", body)[2] == ask(app, "POST", "/v1/update", body)[2]
    assert len(app.core.learned) == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b"\xff", b'{"slice": "\xff", "x": []}', b"[1] 2", b'{"slice":"\\ud800"', b"[{}"]
)
@pytest.mark.parametrize("path", [path for path, _ in HOT] + ["/v1/explain", "/v1/model"])
def test_bytes_that_are_no_json_are_400(app, path, body):
    told = problem(ask(app, "POST", path, body), 400)
    assert ("the body is no JSON in UTF-8" if body.strip() else "the body is empty") in told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"slice": "a", "x": [1, NaN]}', "NaN is no number of JSON: send null where a feature is missing"),
        (b'[{"slice": "a", "x": [-Infinity]}]', "-Infinity is no number of JSON: send null where"),
        (b'{"slice": "a", "x": [1]}\n{"slice": "a", "x": [2]}', "send the content type application/x-ndjson"),
        (packed(b'{"slice": "a", "x": [1]}', "gzip"), "the body is gzip; say so in the header Content-Encoding: gzip"),
    ],
    ids=["nan", "infinity", "lines", "gzip"],
)
def test_what_others_take_for_json_is_told_in_a_sentence(app, body, told):
    assert told in problem(ask(app, "POST", "/v1/update", body), 400)


def test_a_time_in_seconds_is_told_from_one_in_milliseconds(app):
    body = json.dumps([CLICK, CLICK | {"ts": 1_790_000_000}]).encode()
    told = "click 1 field ts is 1790000000, which are seconds; ts must be a whole number"
    assert told in problem(ask(app, "POST", "/v1/clicks", body), 422)
    assert ask(app, "POST", "/v1/clicks", json.dumps(CLICK | {"ts": 1_790_000_000_000}).encode())[0] == 200


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_packed_body_is_answered_as_the_plain_one(app, parts, encoding):
    plain = json.dumps([EVENT] * 50).encode()
    body, headers = packed(plain, encoding), {"content-encoding": encoding}
    answer = ask(app, "POST", "/v1/score", body, headers=headers, parts=parts)
    assert answer[::2] == ask(app, "POST", "/v1/score", plain)[::2]
    told = problem(ask(app, "POST", "/v1/score", plain, headers=headers), 400)
    assert f"no {encoding}, as its content encoding says" in told
    assert "its end is missing" in problem(ask(app, "POST", "/v1/score", body[:-9], headers=headers), 400)
    assert "goes on behind the end" in problem(ask(app, "POST", "/v1/score", body * 2, headers=headers), 400)
    assert f"Content-Encoding: {encoding}" in problem(ask(app, "POST", "/v1/score", body), 400)
    told = problem(ask(app, "POST", "/v1/score", plain, headers={"content-encoding": "br"}), 415)
    assert "must be gzip or zstd" in told


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_that_unpacks_without_end_is_413_and_never_unpacked_whole(encoding):
    app = application(Double(), Settings(body_limit=100_000))
    bomb = packed(b" " * 50_000_000, encoding)
    assert len(bomb) < 300_000
    of = unpacker(encoding)
    assert len(of.part(bomb, 1_000)) <= 1_000
    bomb = packed(b" " * 20_000_000, encoding)
    assert len(bomb) < 100_000
    told = problem(ask(app, "POST", "/v1/update", bomb, headers={"content-encoding": encoding}), 413)
    assert "more than 100,000 bytes" in told


def test_a_zstd_body_that_asks_for_more_memory_than_a_window_of_8_mb_is_refused(app):
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.compression_level: 1}
    of = zstd.ZstdCompressor(options=options)
    body = of.compress(b"[" + b" " * 1_000) + of.flush()
    told = problem(ask(app, "POST", "/v1/score", body, headers={"content-encoding": "zstd"}), 400)
    assert "no zstd" in told


@pytest.mark.parametrize(
    ("accepts", "encoding"),
    [
        ("gzip", "gzip"),
        ("zstd, gzip", "zstd"),
        ("gzip;q=1, zstd;q=0.5", "gzip"),
        ("*", "zstd"),
        ("br", None),
        ("gzip;q=0", None),
        ("", None),
    ],
)
def test_a_large_answer_is_packed_as_the_client_accepts_it(app, accepts, encoding):
    for path, most in (("/v1/score", 100), ("/v1/score", 1)):
        body = json.dumps([EVENT] * most).encode()
        plain = ask(app, "POST", path, body)
        status, headers, answer = ask(app, "POST", path, body, headers={"accept-encoding": accepts})
        assert status == 200
        assert len(answer) == int(headers["content-length"])
        if encoding is None or most == 1:
            assert answer == plain[2]
            assert "content-encoding" not in headers
        else:
            assert (headers["content-encoding"], headers["vary"]) == (encoding, "accept-encoding")
            assert len(answer) < len(plain[2]) / 3
            assert unpacker(encoding).part(answer, 1 << 20) == plain[2]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_client_with_an_encoding_gets_the_answers_of_one_without(encoding):
    sent = [{**EVENT, "slice": f"slice {n}", "id": str(n)} for n in range(300)]
    with served() as address, Client(address) as plain, Client(address, encoding=encoding) as other:
        assert other.score(sent) == plain.score(sent)
        assert other.slices() == plain.slices()
    with pytest.raises(InvalidArgument, match="encoding"):
        Client(encoding="br")


def test_nesting_without_end_is_refused(app):
    body = b'{"slice": "a", "x": [1], "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert ask(app, "POST", "/v1/update", body)[0] in (400, 422)


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/v1/update", {"slice": [], "x": [1]}, "event field slice is []; slice must be text, a whole number"),
        (
            "/v1/update",
            {"x": [1]},
            "event has no field slice; it must be text, a whole number, or a list of one or more of those",
        ),
        ("/v1/update", {"slice": 1.5, "x": []}, "event field slice is 1.5; slice must be text, a whole number"),
        ("/v1/update", [EVENT, {"slice": ["a", None], "x": []}], "event 1 field slice[1] is null; slice must be text"),
        (
            "/v1/update",
            [EVENT, {"slice": "a", "x": [1, ["b"]]}],
            'event 1 field x[1] is ["b"]; x must be a list of numbers',
        ),
        (
            "/v1/update",
            [{"slice": "a", "features": {"a": 1, "b": True}}],
            'event 0 field features["b"] is true; features must be an object of numbers by name',
        ),
        ("/v1/update", {"slice": "a"}, "event has neither x nor features; it must have one of them"),
        ("/v1/score", [EVENT, {**EVENT, "features": {}}], "event 1 has x and features; it must have one of them"),
        ("/v1/update", [EVENT, 5], "event 1 is 5; it must be a JSON object"),
        ("/v1/update", 5, "event is 5; it must be a JSON object"),
        ("/v1/update", {**EVENT, "id": 5}, "event field id is 5; id must be text"),
        ("/v1/clicks", {**CLICK, "ts": "now"}, 'click field ts is "now"; ts must be a whole number from 0 to 2147'),
        ("/v1/clicks", [CLICK, {**CLICK, "ts": -1}], "click 1 field ts is -1; ts must be a whole number from 0"),
        (
            "/v1/clicks",
            {**CLICK, "logged_in": "yes"},
            'click field logged_in is "yes"; logged_in must be true or false',
        ),
        ("/v1/clicks", {"click_id": "a"}, "click has no field ts; it must be a whole number"),
        ("/v1/labels", {**LABEL, "rfm": 99}, "label field rfm is 99; rfm must be a number from 3 to 15"),
        ("/v1/explain", [EVENT], "the body is an array; it must be one event or one click"),
        ("/v1/explain", {}, "event has no field slice"),
        ("/v1/explain", {"click_id": "a"}, "click has no field ts"),
        ("/v1/model", {}, "the body must have one of folder and version"),
        ("/v1/model", {"folder": "a", "version": "b"}, "the body must have one of folder and version"),
        ("/v1/model", {"folder": ""}, 'folder is ""; it must be the path'),
        ("/v1/model", {"folder": "elsewhere"}, "model elsewhere is not there"),
        ("/v1/trial", {"share": 0.1}, "the body must have one of folder and version"),
        (
            "/v1/trial",
            {"version": "v2", "share": 1.5},
            "the body has a field share that is wrong: expected `float`",
        ),
        ("/v1/trial", {"folder": "elsewhere"}, "model elsewhere is not there"),
        ("/v1/update", {"slice": "wrong", "x": []}, "event 0: slice is 'wrong'; the double refuses it"),
    ],
)
def test_a_wrong_field_is_422_with_its_place_its_value_and_the_rule(app, path, body, detail):
    assert problem(ask(app, "POST", path, json.dumps(body).encode()), 422).startswith(detail)
    assert app.core.learned == []
    if not path.startswith("/v1/explain") and isinstance(body, list):
        lines = b"\n".join(json.dumps(each).encode() for each in body)
        assert problem(ask(app, "POST", path, lines, NDJSON), 422).startswith(detail)


def test_a_number_that_no_float_holds_is_422(app):
    detail = problem(ask(app, "POST", "/v1/update", b'[{"slice": "a", "x": [1e999]}]'), 422)
    assert "x[0]" in detail
    assert "out of range" in detail


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "text/json"])
@pytest.mark.parametrize("path", ["/v1/update", "/v1/explain", "/v1/model"])
def test_other_content_types_are_415_so_that_no_foreign_page_can_send(app, path, kind):
    detail = problem(ask(app, "POST", path, json.dumps(EVENT).encode(), kind), 415)
    assert "it must be application/json" in detail


def test_lines_are_415_where_one_object_is_taken(app):
    assert "one object" in problem(ask(app, "POST", "/v1/explain", json.dumps(EVENT).encode(), NDJSON), 415)


def test_before_the_core_is_there_only_life_and_the_document_are_answered():
    app = application(None, Settings())
    assert ask(app, "GET", "/livez")[::2] == (200, b'{"status":"alive"}')
    status, headers, answer = ask(app, "GET", "/readyz")
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(answer)["reasons"] == [
        "the service is starting: programs are compiled and the state is recovered"
    ]
    assert ask(app, "GET", "/openapi.json")[0] == 200
    assert b"onlineguard_ready 0.0" in ask(app, "GET", "/metrics")[2]
    for method, path in [("POST", path) for path, _ in HOT] + [("GET", "/v1/slices"), ("POST", "/v1/snapshot")]:
        answer = ask(app, method, path, b"[]")
        assert "the service is starting" in problem(answer, 503)
        assert answer[1]["retry-after"] == "1"

    async def begin():
        app.begin(Double())

    asyncio.run(begin())
    assert ask(app, "GET", "/readyz")[::2] == (200, b'{"ready":true,"reasons":[],"degraded":[]}')
    assert ask(app, "POST", "/v1/update", b"[]")[0] == 200


def test_a_service_that_stops_is_not_ready_but_answers_what_still_comes(app):
    app.drain()
    assert json.loads(ask(app, "GET", "/readyz")[2])["reasons"] == ["the service is stopping"]
    assert ask(app, "POST", "/v1/update", json.dumps(EVENT).encode())[0] == 200


def test_a_journal_that_takes_nothing_is_503_and_try_again(app):
    app.core.fails = JournalUnavailable("the disk is full; nothing was learned")
    for path in ("/v1/update", "/v1/snapshot"):
        answer = ask(app, "POST", path, json.dumps(EVENT).encode())
        assert problem(answer, 503) == "the disk is full; nothing was learned"
        assert answer[1]["retry-after"] == "1"


def test_what_nobody_foresaw_is_500_logged_and_not_told(app, caplog):
    app.core.fails = RuntimeError("secret of the house")
    assert problem(ask(app, "POST", "/v1/update", json.dumps(EVENT).encode()), 500) == (
        "the request failed, and the service has logged why"
    )
    line = json.loads(JsonLines().format(caplog.records[-1]))
    assert (line["level"], line["route"], line["status"]) == ("error", "/v1/update", 500)
    assert "secret of the house" in line["exception"]


def test_a_fault_that_looks_like_a_missing_key_is_a_fault(app):
    app.core.fails = KeyError("theta")
    problem(ask(app, "POST", "/v1/update", json.dumps(EVENT).encode()), 500)


def test_requests_are_logged_only_at_debug(app, caplog):
    ask(app, "POST", "/v1/update", b"[]")
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG, "onlineguard_service.http.app"):
        ask(app, "POST", "/v1/update", b"[]")
    assert (caplog.records[-1].route, caplog.records[-1].status) == ("/v1/update", 200)


def test_an_answer_and_the_log_name_the_request(app, caplog, monkeypatch):
    body = json.dumps(EVENT).encode()
    given = ask(app, "POST", "/v1/update", body, headers={"x-request-id": "client-7"})
    assert given[1]["x-request-id"] == "client-7"
    made = {ask(app, "POST", "/v1/update", body)[1]["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    for wrong in ("with space", "x" * 129, ""):
        assert ask(app, "GET", "/livez", headers={"x-request-id": wrong})[1]["x-request-id"] not in (wrong, *made)
    lines: list[str] = []
    monkeypatch.setattr(app.core, "update", None)  # nobody foresaw that
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(JsonLines().format(record))  # type: ignore[method-assign]
    logging.getLogger("onlineguard_service").addHandler(handler)
    try:
        answer = ask(app, "POST", "/v1/update", body, headers={"x-request-id": "failing"})
    finally:
        logging.getLogger("onlineguard_service").removeHandler(handler)
    assert (answer[0], answer[1]["x-request-id"]) == (500, "failing")
    assert json.loads(lines[0])["request_id"] == "failing"


def test_the_answers_of_the_double_are_what_the_schema_says(app):
    from onlineguard.wire.answers import ClickAnswer, DecisionAnswer, EventAnswer, LabelAnswer

    kinds = (EventAnswer, EventAnswer, ClickAnswer, LabelAnswer, DecisionAnswer)
    for (path, item), kind in zip(HOT, kinds, strict=True):
        assert msgspec.json.decode(ask(app, "POST", path, json.dumps(item).encode())[2], type=kind)
