import json
import time

import pytest
from onlineguard_service.config import Settings
from onlineguard_service.histogram import SECONDS
from onlineguard_service.http import metrics
from onlineguard_service.http.app import application
from onlineguard_service.http.metrics import Metrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support.double import Double, ask

EVENT = b'{"slice": "a", "x": [1.0]}'


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels; a parser that is not ours reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_status():
    app = application(Double(), Settings())
    for body in (EVENT, b"[" + EVENT + b"," + EVENT + b"]", b"nonsense"):
        ask(app, "POST", "/v1/update", body)
    ask(app, "GET", "/v1/slices/web?of=events")
    ask(app, "GET", "/v1/update")
    found = samples(ask(app, "GET", "/metrics")[2])
    counted = {labels: value for (name, labels), value in found.items() if name == "onlineguard_requests_total"}
    assert counted == {
        (("route", "/v1/update"), ("status", "200")): 2,
        (("route", "/v1/update"), ("status", "400")): 1,
        (("route", "/v1/update"), ("status", "405")): 1,
        (("route", "/v1/slices/{key}"), ("status", "200")): 1,
    }
    update = ("route", "/v1/update")
    assert found["onlineguard_request_seconds_count", (update,)] == 4
    assert found["onlineguard_batch_items_bucket", (("le", "1.0"), update)] == 1
    assert found["onlineguard_batch_items_bucket", (("le", "2.0"), update)] == 2
    assert found["onlineguard_batch_items_sum", (update,)] == 3


def test_what_clients_send_makes_no_new_series():
    app = application(Double(), Settings())
    for number in range(50):
        ask(app, "GET", f"/nothing/{number}")
        ask(app, "GET", f"/v1/slices/{number}")
        ask(app, f"M{number}", "/v1/update")
    assert set(app.metrics.requests) == {("other", 404), ("/v1/slices/{key}", 404), ("/v1/update", 405)}


def test_a_latency_falls_into_the_first_bucket_that_it_is_not_above(monkeypatch):
    told = Metrics(lambda: None)
    for now in (SECONDS[3], SECONDS[3] + 1e-9, 100.0):
        monkeypatch.setattr(metrics.time, "perf_counter", lambda now=now: now)
        told.count("/r", 200, 0.0)
    monkeypatch.undo()
    found = samples(told.text())
    buckets = [found["onlineguard_request_seconds_bucket", (("le", repr(end)), ("route", "/r"))] for end in SECONDS]
    assert buckets == [0, 0, 0, 1, *[2] * (len(SECONDS) - 4)]
    assert found["onlineguard_request_seconds_bucket", (("le", "+Inf"), ("route", "/r"))] == 3


def test_what_the_core_says_of_itself_is_told():
    core = Double()
    app = application(core, Settings())
    ask(app, "POST", "/v1/update", EVENT)
    found = samples(ask(app, "GET", "/metrics")[2])
    for name, value in {
        "events_total": 1,
        "clicks_total": 2,
        "anomalies_total": 1,
        "robotic_total": 1,
        "degraded_total": 0,
        "compilations_total": 9,
        "queue": 0,
        "journal_lag_seconds": 0.25,
        "journal_sequence": 5,
        "journal_bytes": 1_000,
        "snapshot_sequence": 4,
        "ready": 1,
    }.items():
        assert found["onlineguard_" + name, ()] == value
    assert found["onlineguard_model", (("version", "v1"),)] == 1
    assert found["onlineguard_snapshot_age_seconds", ()] == pytest.approx(time.time() - 1.0, abs=60)
    assert ("onlineguard_labels_age_seconds", ()) not in found  # none came
    assert any(name.startswith("process_") for name, _ in found)


def test_a_text_is_given_to_all_who_ask_within_a_second(monkeypatch):
    told = Metrics(lambda: None)
    monkeypatch.setattr(metrics.time, "monotonic", lambda: 10.0)
    first = told.text()
    told.count("/r", 200, 0.0)
    assert told.text() is first
    monkeypatch.setattr(metrics.time, "monotonic", lambda: 11.0)
    assert samples(told.text())["onlineguard_requests_total", (("route", "/r"), ("status", "200"))] == 1


def test_what_a_label_says_comes_back_whatever_it_is():
    core = Double()
    name = 'quote " slash \\ line \n brace } and \u2603'
    core.status = lambda: {"model_version": name}
    found = samples(ask(application(core, Settings()), "GET", "/metrics")[2])
    assert found["onlineguard_model", (("version", name),)] == 1


def test_a_core_that_says_little_is_told_little():
    core = Double()
    core.status, core.reasons = lambda: {"model_version": None}, lambda: ["a part failed"]
    app = application(core, Settings())
    found = samples(ask(app, "GET", "/metrics")[2])
    assert found["onlineguard_ready", ()] == 0
    assert json.loads(ask(app, "GET", "/readyz")[2])["reasons"] == ["a part failed"]


def test_latency_is_of_the_last_seconds_and_of_requests_with_items(monkeypatch):
    told = Metrics(lambda: None)
    assert told.latency() is None

    def count(at: float, seconds: float, items: int = 1) -> None:
        monkeypatch.setattr(metrics.time, "perf_counter", lambda: at)
        told.count("/r", 200, at - seconds, items)

    count(100.0, 9.0)
    for _ in range(99):
        count(110.0, 0.002)
    count(110.0, 0.5)
    count(110.0, 7.0, items=0)
    assert told.latency() == {"p50": pytest.approx(2.05, abs=0.05), "p99": pytest.approx(512.5, abs=12.5)}
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: 120.0)
    assert told.latency() is None
