import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onlineguard_service.config import Settings
from onlineguard_service.http.app import application
from onlineguard_service.http.limits import (
    Crowded,
    Disconnected,
    LargeBodies,
    RateLimit,
    TooLarge,
    is_local,
    network,
    read,
)

from tests.support.double import Double, ask
from tests.support.keys import keys_file

EVENT = b'{"slice": "a", "x": [1.0]}'


def received(*bodies: bytes, left: bool = False):
    """A `receive` that gives a body in these parts; its calls are counted in `calls`."""
    messages = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    if left:
        messages.append({"type": "http.disconnect"})
    elif messages:
        messages[-1]["more_body"] = False

    async def receive():
        receive.calls += 1
        return messages.pop(0)

    receive.calls = 0
    return receive


def taken(size):
    """There is room for every body."""


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8), st.integers(0, 100))
def test_a_body_is_whole_or_refused_whatever_parts_it_comes_in(parts, limit):
    body = b"".join(parts)
    if len(body) <= limit:
        assert asyncio.run(read(received(*parts), limit, 10.0, taken)) == body
    else:
        with pytest.raises(TooLarge):
            asyncio.run(read(received(*parts), limit, 10.0, taken))


def test_reading_stops_at_the_part_that_is_too_much():
    receive = received(*[b"x" * 10] * 1_000)
    with pytest.raises(TooLarge):
        asyncio.run(read(receive, 35, 10.0, taken))
    assert receive.calls == 4


@pytest.mark.parametrize("parts", [(), (b"a",), (b"a", b"b")])
def test_a_client_that_leaves_while_it_sends_is_not_answered(parts):
    with pytest.raises(Disconnected):
        asyncio.run(read(received(*parts, left=True), 100, 10.0, taken))


def test_a_body_that_does_not_come_is_not_waited_for():
    async def receive():
        if not receive.began:
            receive.began = True
            return {"type": "http.request", "body": b"{", "more_body": True}
        await asyncio.Event().wait()

    receive.began = False
    with pytest.raises(TimeoutError):
        asyncio.run(read(receive, 100, 0.01, taken))


def test_large_bodies_take_room_until_they_are_answered_and_small_ones_take_none():
    large = LargeBodies(100)
    with large.holding() as take:
        assert asyncio.run(read(received(b"x" * 500), 1_000, 10.0, take)) == b"x" * 500
        assert asyncio.run(read(received(b"x" * 40, b"y" * 40), 1_000, 10.0, take)) == b"x" * 40 + b"y" * 40
        with large.holding() as other, pytest.raises(Crowded):
            asyncio.run(read(received(b"x" * 15, b"y" * 15), 1_000, 10.0, other))
        assert large.held == 80
    assert large.held == 0
    with large.holding() as take:
        take(100)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "a.localhost", "127.0.0.1:80", "[::1]:80", "192.0.2.7"])
def test_localhost_and_addresses_are_local(host):
    assert is_local(host)


@pytest.mark.parametrize("host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[x]"])
def test_other_names_are_not_local(host):
    assert not is_local(host)


def test_a_body_over_the_limit_is_refused_and_not_learned():
    app = application(Double(), Settings(body_limit=1_024))
    body = b'{"slice": "a", "x": [1.0], "id": "' + b"a" * 2_000 + b'"}'
    for parts in (1, 7):
        status, _, answer = ask(app, "POST", "/v1/update", body, parts=parts)
        assert status == 413
        assert "more than 1,024 bytes" in json.loads(answer)["detail"]
    status, _, _ = ask(app, "POST", "/v1/update", b"", headers={"content-length": "5000"})
    assert status == 413
    assert app.core.learned == []
    assert ask(app, "POST", "/v1/explain", body)[0] == 413


def test_a_batch_over_the_limit_is_refused_whole():
    app = application(Double(), Settings(batch_limit=3))
    for kind, body in (
        ("application/json", b"[" + b",".join([EVENT] * 4) + b"]"),
        ("application/x-ndjson", b"\n".join([EVENT] * 4)),
    ):
        status, _, answer = ask(app, "POST", "/v1/update", body, kind)
        assert status == 413
        assert "4 events, more than the batch_limit of 3" in json.loads(answer)["detail"]
    assert app.core.learned == []
    assert ask(app, "POST", "/v1/update", b"[" + b",".join([EVENT] * 3) + b"]")[0] == 200


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_asks_more_often_than_the_rate_waits_as_long_as_it_is_told():
    clock = Clock()
    limit = RateLimit(2.0, clock=clock)
    assert [limit.wait("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    assert limit.wait("b") == 0.0
    clock.now = 0.25
    assert limit.wait("a") == pytest.approx(0.25)
    clock.now = 0.5
    assert limit.wait("a") == 0.0


@given(st.floats(0.1, 100.0), st.lists(st.floats(0.0, 1.0), max_size=100))
def test_no_more_pass_than_the_rate_and_a_seconds_worth(rate, pauses):
    clock = Clock()
    limit, passed = RateLimit(rate, clock=clock), 0
    for pause in pauses:
        clock.now += pause
        passed += limit.wait("a") == 0.0
    assert passed <= clock.now * rate + max(rate, 1.0) + 1e-6


def test_memory_of_who_asked_is_bounded():
    limit = RateLimit(1.0, remembered=10)
    for asker in range(1_000):
        limit.wait(str(asker))
    assert len(limit) == 10


def test_a_key_or_else_an_address_is_what_is_counted(tmp_path):
    path, keys = keys_file(tmp_path, one=["score"], two=["score"])
    app = application(Double(), Settings(keys=path, rate_limit=1.0))
    one, two = ({"x-api-key": keys[name]} for name in ("one", "two"))
    assert ask(app, "GET", "/v1/slices", headers=one)[0] == 200
    status, headers, _ = ask(app, "GET", "/v1/slices", headers=one, client="192.0.2.9")
    assert (status, headers["retry-after"]) == (429, "1")
    assert ask(app, "GET", "/v1/slices", headers=two)[0] == 200
    assert [ask(app, "GET", "/v1/slices")[0] for _ in range(2)] == [401, 429]
    assert ask(app, "GET", "/v1/slices", client="192.0.2.9")[0] == 401
    assert [ask(app, "GET", "/livez")[0] for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_addresses_of_one_customer_are_one(address, counted):
    assert network(address) == counted
