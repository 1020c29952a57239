"""The whole: `onlineguard serve` and `onlineguard worker` as processes, and the client that talks to them."""

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import msgspec
import numpy as np
import pytest
import redis

from onlineguard.client import AsyncClient, Client
from onlineguard.errors import ServiceError
from onlineguard.wire.answers import ClickAnswer
from tests.support.real import Service
from tests.support.redis_server import serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flags(model_folder: Path) -> tuple[str, ...]:
    return ("--model", str(model_folder), "--n-features", "2", "--snapshot-every", "3600")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, environment, flags):
    service = Service(tmp_path_factory.mktemp("one"), environment, *flags)
    service.start()
    yield service
    service.kill()


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory, environment, flags):
    """Another service with the same model, and a state of its own."""
    twin = Service(tmp_path_factory.mktemp("twin"), environment, *flags)
    twin.start()
    yield twin
    twin.kill()


@pytest.fixture(scope="module", autouse=True)
def compiled(twin) -> float:
    """How many programs it had compiled when it was ready."""
    return compilations(twin)


def pairs(n: int, seed: int = 0) -> list[list[float]]:
    """Events of two numbers."""
    return np.random.default_rng(seed).normal(size=(n, 2)).tolist()


def compilations(service: Service) -> float:
    found = re.search(r"^onlineguard_compilations(?:_total)? (\S+)$", httpx2.get(f"{service.url}/metrics").text, re.M)
    assert found is not None
    return float(found[1])


def same(one: ClickAnswer, other: ClickAnswer) -> bool:
    """But for the last bits of a probability, which depend on how many clicks a call of the network was about."""
    assert one.p_robot == pytest.approx(other.p_robot, rel=1e-5)
    return msgspec.structs.replace(one, p_robot=0.0) == msgspec.structs.replace(other, p_robot=0.0)


def test_both_clients_are_answered_alike_by_two_services_that_were_told_the_same(service, twin, clicks):
    events = [{"slice": ("shop", 7), "x": x, "id": f"e{n}", "ts": n} for n, x in enumerate(pairs(300))]
    odd = {"slice": ("shop", 7), "x": [40.0, -40.0], "id": "odd", "ts": 300}
    labels = [{"click_id": click.click_id, "purchase_ts": click.ts} for click in clicks[:30]]
    labels.append({"click_id": "never seen", "rfm": 5.0})

    def waiting():
        with Client(service.url, batch=128) as client:
            yield client.score(odd)
            yield client.update(events)
            yield client.update(odd)
            yield client.update(odd)  # the same id: answered as before
            yield client.clicks(clicks[:300])
            yield client.labels(labels)
            yield client.slices("events", sort="name")
            yield client.slices("clicks", sort="ivr", limit=3)
            yield client.slice(("shop", 7))
            yield client.explain({"slice": ("shop", 7), "x": [40.0, 0.0]})
            yield client.explain(clicks[300])

    async def asynchronous():
        async with AsyncClient(twin.url, batch=128) as client:
            return [
                await client.score(odd),
                await client.update(events),
                await client.update(odd),
                await client.update(odd),
                await client.clicks(clicks[:300]),
                await client.labels(labels),
                await client.slices("events", sort="name"),
                await client.slices("clicks", sort="ivr", limit=3),
                await client.slice(("shop", 7)),
                await client.explain({"slice": ("shop", 7), "x": [40.0, 0.0]}),
                await client.explain(clicks[300]),
            ]

    mine = list(waiting())
    scored, updated, told, again, decided, labelled, of_events, of_clicks, one, explained, click = mine
    theirs = asyncio.run(asynchronous())
    assert all(same(a, b) for a, b in zip(decided, theirs[4], strict=True))
    assert [answers for n, answers in enumerate(mine) if n not in (4, 7)] == [
        answers for n, answers in enumerate(theirs) if n not in (4, 7)
    ]
    assert (scored.ready, [answer.id for answer in updated]) == (False, [event["id"] for event in events])
    assert told.anomalous
    assert again == told
    assert {answer.decision for answer in decided} == {"robotic", "valid"}
    assert [answer.known for answer in labelled] == [True] * 30 + [False]
    assert [answer.decision for answer in labelled[:30]] == [answer.decision for answer in decided[:30]]
    assert [(row.slice, row.events) for row in of_events.slices if row.slice == ("shop", 7)] == [(("shop", 7), 301)]
    assert len(of_clicks.slices) == 3
    assert of_clicks.slices[0].ivr is not None
    assert (one.events, one.score, one.history.anomalous[-1], len(one.history.ts)) == (301, told.score, True, 256)
    assert list(explained.drivers) == ["0", "1"]  # the largest first
    assert explained.anomalous
    assert click.slice in {answer.slice for answer in decided}
    with Client(service.url) as client, pytest.raises(ServiceError, match="404 Not found"):
        client.slice("never seen")


def test_a_worker_publishes_what_the_service_decides_and_sets_aside_what_is_no_click(service, twin, clicks, tmp_path):
    sent = clicks[300:600]
    with serving(tmp_path) as port, redis.Redis(port=port) as client:
        names = {"stream": "{whole}:clicks", "out": "{whole}:decisions", "dead": "{whole}:dead"}
        for n, click in enumerate(sent):
            client.xadd(names["stream"], {"click": msgspec.json.encode(click)})
            if n == 150:
                client.xadd(names["stream"], {"click": b'{"click_id": "poison", "ts": "yesterday"}'})
        options = [part for name, value in names.items() for part in (f"--{name}", value)]
        command = [sys.executable, "-m", "onlineguard", "worker", "--url", service.url, *options]
        command += ["--redis", f"redis://127.0.0.1:{port}/0"]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            for _ in range(1_200):
                if client.xlen(names["out"]) >= len(sent) and client.xlen(names["dead"]):
                    break
                assert worker.poll() is None, worker.communicate()
                time.sleep(0.05)
            worker.terminate()
            worker.communicate(timeout=60)
        finally:
            worker.kill()
            worker.communicate()
        assert worker.returncode == 0
        published = [fields for _, fields in client.xrange(names["out"])]
        dead = [fields for _, fields in client.xrange(names["dead"])]
        (group,) = client.xinfo_groups(names["stream"])
    assert (group["pending"], group["lag"]) == (0, 0)
    assert [fields[b"click_id"].decode() for fields in published] == [click.click_id for click in sent]
    answers = [msgspec.json.decode(fields[b"answer"], type=ClickAnswer) for fields in published]
    direct = [msgspec.convert(answer, ClickAnswer) for answer in twin.post("/v1/clicks", sent)]
    assert all(same(a, b) for a, b in zip(answers, direct, strict=True))
    assert {answer.decision for answer in answers} == {"robotic", "valid"}
    assert len(dead) == 1
    assert b"ts" in dead[0][b"reason"]
    assert b"poison" in dead[0][b"field:click"]


def test_nothing_is_compiled_once_it_is_ready(service, twin, clicks, compiled):
    at = 600
    for n in (1, 2, 3, 5, 8, 13, 64, 100, 256, 700):
        events = [{"slice": f"s{k % 50}", "x": x} for k, x in enumerate(pairs(n))]
        for each in (service, twin):  # which stay alike
            each.post("/v1/score", events)
            each.post("/v1/update", events)
            each.post("/v1/clicks", clicks[at : at + n])
        at += n
    twin.post("/v1/labels", [{"click_id": clicks[600].click_id, "purchase_ts": 1}])
    twin.post("/v1/score", {"slice": ["a", 1], "x": [None, 1.0]})
    twin.post("/v1/explain", {"slice": "s1", "x": [1.0, 2.0]})
    twin.post("/v1/explain", clicks[0])
    assert twin.slice("events", "s1")["drivers"]
    assert twin.slice("clicks", twin.get("/v1/slices?of=clicks")["slices"][0]["slice"])["drivers"]
    twin.post("/v1/snapshot", {})
    assert compilations(twin) == compiled  # none at all where a service before it has kept its programs


def test_sigterm_under_load_loses_nothing_that_was_answered(service):
    answered: dict[str, list[dict[str, object]]] = {}  # by the number of its request
    unanswered: list[str] = []
    stopping = threading.Event()

    def batch(name: str) -> list[dict[str, object]]:
        return [{"slice": "load", "x": [1.0, float(len(name))], "id": f"{name}-{n}"} for n in range(3)]

    def load(thread: int) -> None:
        with httpx2.Client(timeout=30) as client:
            for n in itertools.count():
                name = f"{thread}-{n}"
                try:
                    answer = client.post(f"{service.url}/v1/update", json=batch(name))
                except httpx2.TransportError:
                    unanswered.append(name)
                    return
                if answer.status_code != 200:
                    assert answer.status_code == 503, answer.text
                    return
                answered[name] = answer.json()
                if len(answered) >= 200:
                    stopping.set()

    threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    assert stopping.wait(60)
    status = service.terminate()
    for thread in threads:
        thread.join(60)
    assert status == 0
    assert "nothing that was answered is lost" in service.log.read_text()
    service.begin()
    assert service.wait(503).json()["ready"] is False
    service.wait(200)
    total = service.slice("events", "load")["events"]
    assert 3 * len(answered) <= total <= 3 * (len(answered) + len(unanswered))
    for name, answers in answered.items():
        assert service.post("/v1/update", batch(name)) == answers
    assert service.slice("events", "load")["events"] == total  # they were known, each of them


def test_with_nothing_configured_it_makes_a_model_says_so_and_the_line_to_try_works(tmp_path, environment, clicks):
    command = [sys.executable, "-m", "onlineguard", "serve", "--port", "0"]
    here = {name: value for name, value in os.environ.items() if not name.startswith("ONLINEGUARD_")} | environment
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen(command, cwd=tmp_path, env=here, **streams)
    try:
        assert started.stdout is not None
        told = [started.stdout.readline() for _ in range(5)]  # the last of them once it is ready
        address = told[0].split()[2].rstrip(",")
        assert told[0].startswith("listens on http://127.0.0.1:")
        assert "the journal is kept in onlineguard-state" in told[1]
        assert "made from simulated clicks" in told[2]
        line = told[3].removeprefix("try: ")
        tried = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=30)
        assert json.loads(tried.stdout)["slice"] == "web"
        decided = httpx2.post(f"{address}/v1/clicks", json=[msgspec.to_builtins(click) for click in clicks[:50]]).json()
        assert {answer["decision"] for answer in decided} <= {"robotic", "valid"}
        assert len(decided) == 50
        assert (tmp_path / "onlineguard-state").is_dir()
        started.send_signal(signal.SIGTERM)
        started.communicate(timeout=60)
        assert started.returncode == 0
    finally:
        started.kill()
        started.communicate()
