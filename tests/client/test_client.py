"""The client: what it sends, how it retries, and what it says when it cannot."""

import asyncio
import inspect
import pickle
import ssl
import subprocess
import sys
import time
from email.utils import formatdate

import msgspec
import numpy as np
import polars as pl
import pytest
from onlineguard_service.errors import RegistryUnavailable

from onlineguard.client import AsyncClient, Client
from onlineguard.client.receiver import Service
from onlineguard.errors import InvalidArgument, ServiceError, ServiceUnavailable
from onlineguard.records.decisions import Decision, Standing
from onlineguard.wire import answers
from onlineguard.wire.registry import Promotion
from onlineguard.wire.requests import Event
from tests.support.answering import answering, click, click_answer
from tests.support.double import Double, served


@pytest.fixture(scope="module")
def running():
    with answering() as state:
        yield state


@pytest.fixture
def server(running):
    running.forget()
    return running


@pytest.fixture
def client(server):
    with Client(server.url, backoff=0.01) as client:
        yield client


def in_async(server, call, **options):
    """What `call` of an AsyncClient comes to."""

    async def run():
        async with AsyncClient(server.url, backoff=0.01, **options) as client:
            return await call(client)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [
        answers.EventAnswer(("DE", 7), None, 2.0, 0.5, False, True, "a"),
        answers.ClickAnswer("a", "valid", 0.25, 0.5, "a", "1", answers.VerdictAnswer(None, None, None, False, False)),
        answers.LabelAnswer("a", True, "robotic"),
    ],
)
def test_an_answer_is_the_same_on_both_ends_of_the_line(answer):
    assert msgspec.json.decode(msgspec.json.encode(answer), type=type(answer)) == answer


def test_both_clients_have_the_same_methods_with_the_same_arguments():
    def methods(kind):
        return {n: inspect.signature(f) for n, f in vars(kind).items() if inspect.isfunction(f) and n[0] != "_"}

    waiting, asynchronous = methods(Client), methods(AsyncClient)
    waiting["aclose"] = waiting.pop("close")
    assert waiting == asynchronous


def test_one_event_is_answered_by_one_answer_and_many_by_a_list_in_both_clients(server, client):
    event = {"slice": ("DE", 7), "x": [1.0, 2.0]}
    one, many = client.update(event), client.update([event])
    assert (one.slice, one.score, one.anomalous) == (("DE", 7), 3.0, True)
    assert [answer.score for answer in many] == [3.0]
    assert in_async(server, lambda c: c.update(event)).score == 3.0
    assert in_async(server, lambda c: c.clicks(click("a"))) == answers_of(click_answer("a"))
    assert client.update([]) == []


def answers_of(answer):
    """The service's message as the client gives it."""
    return msgspec.convert(msgspec.to_builtins(answer), answers.ClickAnswer)


def test_each_event_without_an_id_gets_one_of_its_own_and_an_id_is_kept(server, client):
    got = client.update([{"slice": "a", "x": [1.0]}, {"slice": "a", "x": [1.0], "id": "mine"}, {"slice": "a", "x": []}])
    assert got[1].id == "mine"
    assert len({answer.id for answer in got}) == 3
    assert set(server.applied) == {answer.id for answer in got}


def test_numpy_values_a_struct_and_nan_are_sent_as_json(client):
    struct = Event("a", x=[1.0, float("nan")])
    got = client.score([{"slice": "a", "x": np.array([1, np.nan, 2])}, struct, {"slice": np.int64(3), "x": [1]}])
    assert [(answer.slice, answer.score) for answer in got] == [("a", 3.0), ("a", 1.0), (3, 1.0)]


def test_a_frame_of_events_has_a_column_a_feature(client):
    frame = pl.DataFrame({"slice": ["a", "b"], "price": [1.0, None], "count": [2, 5], "id": ["x", "y"]})
    assert [(a.slice, a.score, a.id) for a in client.score(frame)] == [("a", 3.0, "x"), ("b", 5.0, "y")]
    lists = pl.DataFrame({"slice": ["a"], "x": [[1.0, 4.0]]})
    assert [a.score for a in client.score(lists)] == [5.0]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_many_clicks_are_cut_into_requests_and_answered_in_order_over_one_connection(server, asynchronous):
    frame = pl.DataFrame([click(f"c{i}") for i in range(250)])
    if asynchronous:
        got = in_async(server, lambda c: c.clicks(frame), batch=40)
    else:
        with Client(server.url, batch=40) as client:
            got = client.clicks(frame)
    assert got == [answers_of(click_answer(f"c{i}")) for i in range(250)]
    assert server.order == [f"c{i}" for i in range(250)]
    assert [count for _, count, _ in server.requests] == [40] * 6 + [10]
    assert len(server.peers) == 1


def test_a_request_stays_under_a_mebibyte_and_a_larger_event_goes_alone(server, client):
    sizes = [300_000, 300_000, 300_000, 300_000, 1_500_000, 10]
    client.score([{"slice": "a", "features": {"f" * size: 1.0}} for size in sizes])
    assert [count for _, count, _ in server.requests] == [3, 1, 1, 1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_retry_after_a_dropped_answer_is_applied_once(server, client, asynchronous):
    server.drops = 3
    events = [{"slice": "a", "x": [float(i)]} for i in range(5)]
    got = in_async(server, lambda c: c.update(events)) if asynchronous else client.update(events)
    assert [answer.score for answer in got] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len(server.requests) == 4
    assert server.applied == {answer.id: 1 for answer in got}
    assert server.order == [answer.id for answer in got]


def test_a_service_that_is_not_ready_is_asked_again(server, client):
    server.refusals = [(503, {}), (502, {}), (504, {})]
    assert client.clicks(click("a")).click_id == "a"
    assert len(server.requests) == 4


@pytest.mark.parametrize("header", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_too_many_requests_are_asked_again_not_before_retry_after(server, client, monkeypatch, header):
    waits = []
    monkeypatch.setattr("onlineguard.client.sync.time.sleep", waits.append)
    server.refusals = [(429, {"Retry-After": header()}), (429, {})]
    client.clicks(click("a"))
    assert 0.9 < waits[0] <= 2
    assert waits[1] <= 0.02


def test_the_backoff_doubles_at_random_and_is_bounded(server, monkeypatch):
    waits = []
    monkeypatch.setattr("onlineguard.client.sync.time.sleep", waits.append)
    server.refusals = [(503, {})] * 12
    with Client(server.url, backoff=0.5, retries=12) as client:
        client.clicks(click("a"))
    most = [min(10.0, 0.5 * 2**i) for i in range(12)]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, most, strict=True))
    assert len({wait / limit for wait, limit in zip(waits, most, strict=True)}) > 1


def test_a_wait_of_more_than_two_minutes_is_an_error_at_once(server, client):
    server.refusals = [(429, {"Retry-After": "3600"})]
    with pytest.raises(ServiceUnavailable, match="429 Refused: as ordered"):
        client.clicks(click("a"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422, 500])
def test_any_other_refusal_is_an_error_at_once(server, client, status):
    server.refusals = [(status, {})]
    with pytest.raises(ServiceError, match=f"^{status} Refused: as ordered$") as caught:
        client.clicks(click("a"))
    assert not isinstance(caught.value, ServiceUnavailable)
    assert caught.value.status == status
    assert len(server.requests) == 1


def test_an_error_amid_many_says_what_was_answered_before_it(server):
    clicks = [click(f"c{i}") for i in range(9)] + [{"click_id": "bad"}]
    with Client(server.url, batch=4) as client, pytest.raises(ServiceError, match="click has no field ts") as caught:
        client.clicks(clicks)
    assert [answer.click_id for answer in caught.value.answers] == [f"c{i}" for i in range(8)]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.status, len(again.answers)) == (str(caught.value), 422, 8)


def test_a_service_that_is_not_there_is_unavailable_after_the_retries(server):
    with Client("http://127.0.0.1:9", retries=2, backoff=0.01) as client:
        with pytest.raises(ServiceUnavailable, match=r"No answer: http://127.0.0.1:9: .*refused"):
            client.update({"slice": "a", "x": [1.0]})
        assert client.ready() is False


def test_an_answer_that_takes_too_long_is_unavailable(server):
    server.delay = 0.3
    with Client(server.url, timeout=0.05, retries=1, backoff=0.01) as client, pytest.raises(ServiceUnavailable):
        client.clicks(click("a"))
    assert len(server.requests) == 2


def test_what_answers_but_is_no_service_is_an_error(server, client):
    with pytest.raises(ServiceError, match="Not an answer of onlineguard's service"):
        client.explain({"slice": 1.5, "x": []})  # the double answers with the slice as it is, and no key is a half


def test_waiting_until_ready_returns_once_it_is_and_gives_up_after_the_time(server, client):
    server.ready = False
    assert client.ready() is False
    with pytest.raises(ServiceUnavailable, match="programs are being compiled"):
        client.wait_until_ready(0.1)

    async def becoming_ready(asynchronous):
        waiting = asyncio.create_task(asynchronous.wait_until_ready(10))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        server.ready = True
        await waiting
        return await asynchronous.ready()

    assert in_async(server, becoming_ready) is True


def test_slices_a_slice_and_an_explanation_are_read(server, client):
    page = client.slices("events", sort="drift", descending=False, limit=5, offset=2, contains="D")
    assert (page.found, page.total, page.slices[0].slice, page.slices[0].drift) == (1, 1, ("DE", 7), 0.25)
    state = client.slice(("DE", 7))
    assert (state.events, state.history.score, state.drivers) == (9, [1.0, None], None)
    assert client.slice("phone / US", "clicks").drivers == {"a": 1.0}
    with pytest.raises(ServiceError, match="404 Not found"):
        client.slice("none")
    assert list(client.explain({"slice": "a", "x": [1.0, 2.0]}).drivers.items()) == [("b", 0.75), ("a", 0.25)]
    assert in_async(server, lambda c: c.slice(("DE", 7))) == state


def test_alarms_are_read_and_acknowledged():
    core = Double()
    with served(core=core) as url, Client(url) as client:
        page = client.alarms(of="events", slice=("a", 1), state="open", least=0.5, limit=1)
        assert ([alarm.id for alarm in page.alarms], page.cursor) == (["ab-2"], "ab-2")
        assert client.alarms(cursor=page.cursor).alarms[0].id == "ab-1"
        noted = client.acknowledge("ab-1", "a sale", usual=True)
        assert noted == client.alarm("ab-1")
        assert (noted.state, noted.usual, noted.acknowledged.note) == ("acknowledged", True, "a sale")

        async def run():
            async with AsyncClient(url) as other:
                return (await other.alarms()).kept, await other.alarm("ab-1"), await other.acknowledge("ab-2")

        assert asyncio.run(run())[:2] == (2, noted)
        with pytest.raises(ServiceError, match="no alarm"):
            client.alarm("ab-3")


def test_the_registry_is_read_and_a_change_is_sent_once_though_it_failed():
    double = Double()
    with served(core=double) as url, Client(url, backoff=0.01) as client:
        assert client.registry().versions[0].version == client.version("v1").version == "v1"
        assert client.changes().changes[0].why == "a"
        assert client.diff("v1", "v2").features[0].distance == 0.5
        assert client.promote("v1", "daily", force=True).change.current == "v1"
        double.versions.fails = RegistryUnavailable("the registry cannot be used now")
        with pytest.raises(ServiceUnavailable, match="cannot be used"):
            client.promote("v2", "daily", generation=1)
        assert [asked for asked, _ in double.versions.wanted] == [
            Promotion("v1", "daily", True),
            Promotion("v2", "daily", False, 1),
        ]

        async def back():
            async with AsyncClient(url) as client:
                return await client.rollback("a fault")

        assert asyncio.run(back()).live == "v1"


def test_labels_are_told(server, client):
    client.clicks(click("a"))
    known = client.labels([{"click_id": "a", "purchase_ts": 5}, {"click_id": "b", "rfm": 9.0}])
    assert [(answer.click_id, answer.known) for answer in known] == [("a", True), ("b", False)]


def test_later_decisions_are_told(server, client):
    was = {"model_version": "1", "decision": "valid", "p_robot": 0.2, "threshold": 0.5}
    new = {"click_id": "a", "slice": "a", **was, "decision": "robotic", "model_version": "2", "replaces": was}
    (answer,) = client.decisions([new])
    assert (answer.outcome, answer.in_force.model_version) == ("applied", "2")


def test_a_replay_sends_only_what_is_not_in_force_and_counts_what_became_of_it(server, client):
    was = Standing("1", "valid", 0.25, 0.5)
    same, other = (
        {"model_version": version, "decision": "valid", "p_robot": 0.25, "threshold": 0.5} for version in "12"
    )
    sent = [Decision(click_id=each["model_version"], slice="a", replaces=was, **each) for each in (same, other)]
    service = Service(client)
    assert service.marks() == {}
    service.publish(sent, {})
    assert [(path, count) for path, count, _ in server.requests] == [("/v1/decisions", 1)]
    assert (dict(service.told), service.unknown) == ({"applied": 1}, 1)


def test_the_key_and_the_address_come_from_the_arguments_or_the_environment(server, monkeypatch):
    monkeypatch.setenv("ONLINEGUARD_URL", server.url + "/")
    monkeypatch.setenv("ONLINEGUARD_API_KEY", "from-environment")
    for options in ({}, {"api_key": "given"}):
        with Client(**options) as client:
            client.clicks(click("a"))
    monkeypatch.delenv("ONLINEGUARD_API_KEY")
    with Client() as client:
        client.clicks(click("a"))
    keys = [headers.get("authorization") for _, _, headers in server.requests]
    assert keys == ["Bearer from-environment", "Bearer given", None]
    monkeypatch.delenv("ONLINEGUARD_URL")
    with Client() as client:
        assert client.base_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "guard:8080"}, "base_url is 'guard:8080'; it must begin with http:// or https://"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"retries": -1}, "retries is -1; it must be at least 0"),
        ({"timeout": 0}, "timeout is 0 and backoff 0.1; both must be more than 0"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(InvalidArgument, match=message):
        Client(**options)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ("text", "events is of type str; give a dict, an iterable of dicts, or a polars frame"),
        (5, "events is of type int; give a dict"),
        ([{"slice": "a"}, "text"], r"events\[1\] is of type str; it must be a dict"),
        ({"slice": "a", "x": [object()]}, r"events\[0\] cannot be written as JSON: object is no type of JSON"),
        ({"slice": "\ud800", "x": []}, r"events\[0\] cannot be written as JSON"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is_sent(server, client, events, message):
    with pytest.raises(InvalidArgument, match=message):
        client.update(events)
    assert not server.requests


def test_tls_is_verified_against_the_given_certificate(tmp_path):
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=guard"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run(["openssl", *command.split(), *names], check=True, capture_output=True)
    with answering(ssl_keyfile=key, ssl_certfile=cert) as server:
        for verify in (cert, False, ssl.create_default_context(cafile=cert)):
            with Client(server.url, verify=verify) as client:
                assert client.ready()
        with Client(server.url, cert=(cert, key), verify=cert) as client:
            assert client.ready()
        with Client(server.url, retries=0) as client, pytest.raises(ServiceUnavailable, match="certificate verify"):
            client.slices()


def test_without_httpx2_the_import_says_how_to_install_it():
    code = "import sys; sys.modules['httpx2'] = None; import onlineguard.client"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "onlineguard.client needs httpx2: pip install 'onlineguard[client]'" in ran.stderr
    assert ran.returncode != 0


def test_importing_the_client_loads_no_polars_and_no_jax():
    code = "import sys, onlineguard.client; print({'polars', 'jax', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
