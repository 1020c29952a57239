"""The connection to Redis that the service counts over: answers belong to their commands, failures are errors."""

import asyncio

import hiredis
import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from onlineguard_service.redis.wire import Wire

from onlineguard.slidr.counting.counters import ProcessStore
from onlineguard.slidr.counting.redis_store import AsyncRedisStore
from tests.support.redis_server import serving
from tests.support.slidr_streams import cut, streams


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis")) as port:
        yield port


def run(port, use, path=""):
    async def go():
        wire = Wire(f"redis://127.0.0.1:{port}{path}", 0.5)
        try:
            return await use(wire)
        finally:
            await wire.close()

    return asyncio.run(go())


@settings(max_examples=25)
@given(streams(30), st.lists(st.integers(0, 30), max_size=6))
def test_the_counters_over_it_are_those_of_this_process(port, keys, cuts):
    redis.Redis(port=port).flushall()

    async def use(wire):
        store = AsyncRedisStore(wire.execute)
        parts = cut(keys, [min(c, len(keys.ts)) for c in cuts])
        return np.concatenate([await store.count(part) for part in parts])

    np.testing.assert_array_equal(run(port, use), ProcessStore().count(keys))


def test_commands_of_many_at_once_get_their_own_answers(port):
    async def one(wire, i):
        answers = await wire.execute([("SET", f"k{i}", i), ("GET", f"k{i}"), ("GET", "nothing")])
        assert answers == [b"OK", str(i).encode(), None]

    async def use(wire):
        await asyncio.gather(*(one(wire, i) for i in range(300)))

    run(port, use)


def test_what_too_few_replicas_have_is_no_answer(port):
    async def use(wire):
        with pytest.raises(TimeoutError, match=r"0 of 1 replicas of Redis had what was written within 0\.25 s"):
            await wire.execute([("SET", "k", 1)], 1)
        return await wire.execute([("GET", "k")])

    assert run(port, use) == [b"1"]


def test_an_error_of_redis_stands_in_its_place(port):
    async def use(wire):
        return await wire.execute([("SET", "a", "b"), ("INCR", "a"), ("GET", "a")])

    first, error, last = run(port, use)
    assert (first, last) == (b"OK", b"b")
    assert isinstance(error, hiredis.ReplyError)


def test_another_database_is_selected(port):
    async def use(wire):
        return await wire.execute([("SET", "only", "here")])

    assert run(port, use, "/3") == [b"OK"]
    assert redis.Redis(port=port, db=3).get("only") == b"here"
    assert redis.Redis(port=port).get("only") is None


def test_a_password_that_is_refused_is_a_connection_error(port):
    async def use():
        wire = Wire(f"redis://:wrong@127.0.0.1:{port}", 0.5)
        with pytest.raises(ConnectionError, match="refuses"):
            await wire.execute([("PING",)])
        await wire.close()

    asyncio.run(use())


def test_an_answer_that_does_not_come_in_time_is_an_error_and_the_next_command_gets_its_own(port):
    async def use(wire):
        with pytest.raises(TimeoutError, match=r"no answer within 0\.5 s"):
            await wire.execute([("BLPOP", "empty", 3)])
        return await wire.execute([("ECHO", "next")])

    assert run(port, use) == [b"next"]


@pytest.mark.slow
def test_it_connects_again_after_redis_was_gone(tmp_path):
    async def use(port, wire, client):
        assert await wire.execute([("PING",)]) == [b"PONG"]
        client.shutdown(nosave=True)
        await asyncio.sleep(0.2)
        with pytest.raises(ConnectionError):
            await wire.execute([("PING",)])

    async def go(port):
        wire = Wire(f"redis://127.0.0.1:{port}", 0.5)
        await use(port, wire, redis.Redis(port=port))
        return wire

    async def whole():
        with serving(tmp_path) as port:
            wire = await go(port)
        with serving(tmp_path, port=port):
            assert await wire.execute([("PING",)]) == [b"PONG"]
            await wire.close()

    asyncio.run(whole())
