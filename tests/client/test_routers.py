"""Routers: each item goes to its owner, in order, and a failure says whose it is."""

import asyncio
import inspect
import pickle
from contextlib import ExitStack

import msgspec
import polars as pl
import pyarrow as pa
import pytest

from onlineguard.client import AsyncRouter, Router
from onlineguard.errors import InvalidArgument, PartlyAnswered, ServiceUnavailable
from onlineguard.wire.placement import key_of_slice, key_of_user, partition_of
from tests.support.answering import answering, click, click_answer


@pytest.fixture(scope="module")
def running():
    with ExitStack() as stack:
        yield [stack.enter_context(answering()) for _ in range(2)]


@pytest.fixture
def servers(running):
    for server in running:
        server.forget()
    return running


def ask(kind, servers, call, urls=None, **options):
    """What a call of either router comes to."""
    urls = urls or [server.url for server in servers]
    if kind is Router:
        with Router(urls, backoff=0.01, **options) as router:
            return call(router)

    async def run():
        async with AsyncRouter(urls, backoff=0.01, **options) as router:
            return await call(router)

    return asyncio.run(run())


def event(i):
    return {"slice": f"web-{i % 11}", "x": [float(i % 3)], "id": f"{i}"}


def owner(i, partitions=2):
    return partition_of(key_of_slice(f"web-{i % 11}"), partitions)


both = pytest.mark.parametrize("kind", [Router, AsyncRouter])


@both
def test_each_owner_is_sent_its_slices_in_order_and_answers_come_back_in_order(kind, servers):
    answers = ask(kind, servers, lambda router: router.update(map(event, range(100))), batch=7)
    assert [answer.id for answer in answers] == [f"{i}" for i in range(100)]
    assert [answer.slice for answer in answers] == [f"web-{i % 11}" for i in range(100)]
    for number, server in enumerate(servers):
        assert server.order == [f"{i}" for i in range(100) if owner(i) == number]
        assert len(server.order) > 20


@both
def test_one_item_a_frame_and_nothing_are_answered_as_by_a_client(kind, servers):
    one = ask(kind, servers, lambda router: router.update(event(5)))
    assert (one.slice, one.id) == ("web-5", "5")
    frame = pl.DataFrame({"slice": ["a", "b", "c", "d"], "load": [1.0, 2.0, 3.0, 4.0]})
    assert [answer.slice for answer in ask(kind, servers, lambda router: router.score(frame))] == ["a", "b", "c", "d"]
    assert ask(kind, servers, lambda router: router.update([])) == []


@both
def test_clicks_go_to_the_owner_of_their_user(kind, servers):
    clicks = [click(f"{i}") | {"user_id": f"u-{i % 7}"} for i in range(50)]
    answers = ask(kind, servers, lambda router: router.clicks(clicks))
    assert answers == [msgspec.convert(msgspec.to_builtins(click_answer(f"{i}")), type(answers[0])) for i in range(50)]
    for number, server in enumerate(servers):
        mine = [f"{i}" for i in range(50) if partition_of(key_of_user(f"u-{i % 7}"), 2) == number]
        assert server.order == mine


@both
def test_a_service_may_own_several_partitions(kind, servers):
    first, second = servers
    urls = [first.url, second.url, first.url + "/", first.url]
    ask(kind, servers, lambda router: router.update(map(event, range(100))), urls)
    assert second.order == [f"{i}" for i in range(100) if owner(i, 4) == 1]
    assert len(first.order) + len(second.order) == 100


@both
def test_if_an_owner_fails_the_error_names_it_and_has_the_answers_of_the_others(kind, servers):
    failing = servers[1]
    failing.refusals = [(503, {})] * 10
    with pytest.raises(PartlyAnswered) as caught:
        ask(kind, servers, lambda router: router.update(map(event, range(30))), retries=1)
    error = caught.value
    assert list(error.failures) == [failing.url]
    assert isinstance(error.failures[failing.url], ServiceUnavailable)
    assert failing.url in str(error)
    assert [answer is None for answer in error.answers] == [owner(i) == 1 for i in range(30)]
    failing.forget()
    left = [event(i) for i, answer in enumerate(error.answers) if answer is None]
    assert len(ask(kind, servers, lambda router: router.update(left))) == len(left)
    assert servers[0].applied.total() + failing.applied.total() == 30
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.answers, list(again.failures)) == (str(error), error.answers, [failing.url])


@both
def test_answers_to_an_owners_earlier_requests_are_kept(kind, servers):
    clicks = [click(f"{i}") | {"user_id": "u"} for i in range(6)]
    failing = servers[partition_of(key_of_user("u"), 2)]
    failing.failing["4"] = 422
    with pytest.raises(PartlyAnswered, match="2 of 6 have no answer") as caught:
        ask(kind, servers, lambda router: router.clicks(clicks), batch=2)
    assert [answer and answer.click_id for answer in caught.value.answers] == ["0", "1", "2", "3", None, None]


@both
@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([event(0), {"x": [1.0]}], r"events\[1\] has no 'slice', by which its owner is found"),
        ([event(0), 7], r"events\[1\] is of type int; it must be a dict"),
        ([event(i) for i in range(10)] + [event(0) | {"x": [object()]}], r"events\[10\] cannot be written as JSON"),
        (pa.table({"slice": ["a"]}), "events is a table of Arrow"),
    ],
)
def test_what_cannot_be_sent_is_named_by_its_place_among_all(kind, servers, events, says):
    with pytest.raises(InvalidArgument, match=says):
        ask(kind, servers, lambda router: router.update(events))


@pytest.mark.parametrize("urls", ["http://127.0.0.1:8080", []])
def test_a_router_needs_a_list_of_urls(urls):
    for kind in (Router, AsyncRouter):
        with pytest.raises(InvalidArgument, match=r"urls is .*; it must be a list"):
            kind(urls)


def test_the_owner_of_a_slice_and_of_a_user_can_be_asked_for_anything_else(servers):
    with Router([server.url for server in servers]) as router:
        router.wait_until_ready(10)
        assert router.owner_of_slice("web-3").base_url == servers[owner(3)].url
        client = router.owner_of_user("u-17")
        assert client.base_url == servers[partition_of(key_of_user("u-17"), 2)].url
        assert client.labels({"click_id": "c", "purchase_ts": 5}).known is False


def test_both_routers_have_the_same_methods_with_the_same_arguments():
    def methods(kind):
        found = {n: f for n, f in vars(kind).items() if inspect.isfunction(f) and n[0] != "_"}
        return {name: list(inspect.signature(f).parameters.values()) for name, f in found.items()}

    waiting, asynchronous = methods(Router), methods(AsyncRouter)
    waiting["aclose"] = waiting.pop("close")
    assert waiting == asynchronous
