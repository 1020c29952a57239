"""Where a request stands in a trace: read from `traceparent`, told in the answer and in the log."""

import json
import logging

import pytest
from onlineguard_service import logs, tracing
from onlineguard_service.config import Settings
from onlineguard_service.http.app import application

from tests.support.double import Double, ask

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
EVENT = b'{"slice": "a", "x": [1.0]}'


@pytest.fixture
def app():
    return application(Double(), Settings())


@pytest.mark.parametrize("more", ["", "-of a later version"])
def test_a_request_of_a_trace_has_its_id_and_its_parent_comes_back(app, more):
    version = "cc" if more else "00"
    headers = {"traceparent": f"{version}-{TRACE}-{SPAN}-01{more}"}
    for method, path, body in (("POST", "/v1/update", EVENT), ("GET", "/livez", b""), ("GET", "/nothing", b"")):
        answered = ask(app, method, path, body, headers=headers)[1]
        assert answered["x-request-id"] == TRACE
        assert answered["traceparent"] == f"00-{TRACE}-{SPAN}-01"


def test_an_id_of_the_clients_own_stays_the_id_of_the_request(app):
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-00", "x-request-id": "mine"}
    answered = ask(app, "GET", "/livez", headers=headers)[1]
    assert (answered["x-request-id"], answered["traceparent"]) == ("mine", f"00-{TRACE}-{SPAN}-00")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
    ],
)
def test_what_is_no_traceparent_is_as_if_there_were_none(app, wrong):
    answered = ask(app, "GET", "/livez", headers={"traceparent": wrong})[1]
    assert "traceparent" not in answered
    assert answered["x-request-id"] != TRACE
    assert ask(app, "GET", "/livez")[1].keys() == answered.keys()


def test_the_log_has_the_trace_of_the_request_and_not_that_of_the_one_before(caplog, monkeypatch):
    line = logs.JsonLines()
    caplog.set_level(logging.DEBUG, "onlineguard_service.http.app")
    told: list[dict[str, str]] = []
    monkeypatch.setattr(caplog.handler, "emit", lambda record: told.append(json.loads(line.format(record))))
    app = application(Double(), Settings())
    ask(app, "POST", "/v1/update", EVENT, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    ask(app, "POST", "/v1/update", EVENT)
    ours = [each for each in told if each["message"] == "request"]
    assert (ours[0]["request_id"], ours[0]["trace_id"]) == (TRACE, TRACE)
    assert ours[1]["request_id"] != TRACE
    assert "trace_id" not in ours[1]


def test_without_traces_a_span_is_one_object_that_does_nothing():
    assert tracing.span("a") is tracing.span("b")
    work = [].append
    assert tracing.here(work) is work
