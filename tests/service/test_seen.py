"""What is seen of the real service from outside: the spans of its requests, and a disk that stands still."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import msgspec
import pytest
from onlineguard_service.http.metrics import FRESH
from prometheus_client.parser import text_string_to_metric_families

from tests.support import slow_disk
from tests.support.otlp import receiving
from tests.support.real import Service
from tests.support.redis_server import serving

pytestmark = pytest.mark.slow

TRACE, UNSAMPLED, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
JSON = {"content-type": "application/json"}


def started(folder, environment, model_folder, *flags):
    """A service, and the file that its disk stands still for."""
    flags = ("--model", str(model_folder), "--n-features", "1", "--detector", "marginal", *flags)
    service = Service(folder, environment, "--snapshot-every", "3600", *flags)
    service._command[1:3] = [slow_disk.__file__, str(folder / "stall")]
    service.start()
    return service, folder / "stall"


@pytest.fixture(scope="module")
def spans():
    with receiving() as received:
        yield received


@pytest.fixture(scope="module")
def group(tmp_path_factory, environment, model_folder, spans):
    folder = tmp_path_factory.mktemp("group")
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": spans.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    told |= {"OTEL_SERVICE_NAME": "clicks here", "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    with serving(folder) as port:
        redis = f"redis://127.0.0.1:{port}"
        service, stall = started(folder, {**environment, **told}, model_folder, "--redis", redis, "--traces", "on")
        yield service, stall
        stall.unlink(missing_ok=True)
        service.kill()


@pytest.fixture(scope="module")
def asynchronous(tmp_path_factory, environment, model_folder):
    service, stall = started(
        tmp_path_factory.mktemp("async"), environment, model_folder, "--durability", "async", "--history", "off"
    )
    yield service, stall
    stall.unlink(missing_ok=True)
    service.kill()


def degraded(service, part):
    """What /readyz says of a part, once it says something; the service is ready all the while."""
    for _ in range(1_200):
        told = service.get("/readyz")
        assert told["ready"]
        if found := [each for each in told["degraded"] if each.startswith(part)]:
            return found[0]
        time.sleep(0.05)
    pytest.fail(f"/readyz says nothing of {part}", pytrace=False)


def metrics(service):
    """Of the disk: answers that wait, whether it is told to be slow, and syncs of over a second, in a fresh text."""
    time.sleep(FRESH)
    families = text_string_to_metric_families(httpx2.get(f"{service.url}/metrics").text)
    found = {
        (s.name.removeprefix("onlineguard_journal_"), s.labels.get("le")): s.value for f in families for s in f.samples
    }
    slow = found["sync_seconds_count", None] - found["sync_seconds_bucket", "1.0"]
    return found["answers_waiting", None], found["slow", None], slow


def test_a_sampled_request_is_a_span_with_its_parts_under_the_span_of_its_caller(group, spans, clicks):
    service, _ = group
    body = msgspec.json.encode(clicks[:100])
    for trace, flags in ((UNSAMPLED, "00"), (TRACE, "01")):
        headers = {**JSON, "traceparent": f"00-{trace}-{CALLER}-{flags}"}
        answer = httpx2.post(f"{service.url}/v1/clicks", content=body, headers=headers, timeout=60)
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == trace
    found = spans.of(TRACE, 19)
    [request] = [span for span in found if span["parent"] == CALLER]
    assert answer.headers["traceparent"] == f"00-{TRACE}-{request['span']}-01"
    assert (request["name"], request["kind"], request["service"]) == ("POST /v1/clicks", 2, "clicks here")
    assert request["attributes"] == {
        "http.request.method": "POST",
        "http.route": "/v1/clicks",
        "http.response.status_code": 200,
        "onlineguard.items": 100,
    }
    parts = sorted((span for span in found if span is not request), key=lambda span: span["began"])
    assert {span["parent"] for span in parts} == {request["span"]}
    assert all(request["began"] <= span["began"] <= span["ended"] <= request["ended"] for span in parts)
    part = ["redis", "journal.write", "guard", "journal.sync"]  # of 32 clicks
    assert [span["name"] for span in parts] == ["decode", "turn", *part * 4]
    httpx2.get(f"{service.url}/livez")  # a root, of which the sampler takes none
    assert {span["trace"] for span in spans.spans} == {TRACE}


def test_at_group_answers_wait_for_a_disk_that_stands_still_and_that_is_seen(group):
    service, stall = group
    *_, before = metrics(service)
    stall.touch()
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(service.events, "waits", [1.0])
        assert "1 answers wait for it" in degraded(service, "journal: a sync of the disk has taken")
        assert metrics(service) == (1, 1, before)
        scored = httpx2.post(f"{service.url}/v1/score", json={"slice": "waits", "x": [1.0]}, timeout=60)
        assert scored.status_code == 200  # which learns nothing
        assert not waits.done()
        stall.unlink()
        assert waits.result()[0]["slice"] == "waits"
    degraded(service, "journal: a sync of the disk took")
    assert metrics(service) == (0, 1, before + 1)


def test_at_async_a_disk_that_stands_still_stops_no_answer_not_even_beside_a_snapshot(asynchronous):
    service, stall = asynchronous
    service.events("goes on", [1.0])
    stall.touch()
    service.events("goes on", [1.0])
    assert "no answer waits for it" in degraded(service, "journal: a sync of the disk has taken")
    with ThreadPoolExecutor() as pool:
        snapshot = pool.submit(httpx2.post, f"{service.url}/v1/snapshot", timeout=60)
        answered = [service.events("goes on", [float(n)])[0]["slice"] for n in range(200)]
        assert answered == ["goes on"] * 200
        assert not snapshot.done()
        stall.unlink()
        assert snapshot.result().status_code == 200
    folder = Path(service.log).parent / "state/journal"
    assert len(list(folder.glob("snapshot-*"))) == 1
    service.events("goes on", [1.0])
    until(lambda: len(list(folder.glob("segment-*"))) == 2)  # the next begins once the disk is quick


def until(true):
    for _ in range(1_200):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to be", pytrace=False)
