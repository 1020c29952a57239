"""The worker: every entry is answered exactly once or is a dead letter, whoever dies."""

import asyncio
import dataclasses
import itertools
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress

import msgspec
import pytest
import redis
from onlineguard_service.redis.worker import Worker, WorkerSettings, click_of

from onlineguard.errors import InvalidArgument, ServiceError
from onlineguard.records.click import Click
from tests.support.answering import answering, click, click_answer
from tests.support.redis_server import serving

_names = map("{{test{}}}".format, itertools.count())


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis")) as port, redis.Redis(port=port) as client:
        yield client


@pytest.fixture(scope="module")
def running():
    with answering() as state:
        yield state


@pytest.fixture
def server(running):
    running.forget()
    return running


@pytest.fixture
def settings(client, server):
    """Of a worker with streams of its own, which loses patience fast."""
    name = next(_names)
    port = client.get_connection_kwargs()["port"]
    streams = {"stream": f"{name}:clicks", "output": f"{name}:decisions", "dead": f"{name}:dead"}
    return WorkerSettings(f"redis://127.0.0.1:{port}/0", server.url, batch=8, claim_after=0.3, deliveries=3, **streams)


def put(client, settings, ids):
    """Clicks into the stream; the id of each one's entry."""
    return [client.xadd(settings.stream, {"click": json.dumps(click(id))}) for id in ids]


def published(client, settings):
    """The output: click id, answer and entry."""
    return [(f[b"click_id"].decode(), f[b"answer"], f[b"entry"]) for _, f in client.xrange(settings.output)]


def dead(client, settings):
    return [fields for _, fields in client.xrange(settings.dead)]


def unfinished(client, settings):
    """Entries that are pending in the worker's group or were not yet delivered to it."""
    group = next(group for group in client.xinfo_groups(settings.stream) if group["name"] == settings.group.encode())
    return group["pending"] + (group["lag"] or 0)


def work(*workers, until, seconds=20.0):
    """Run workers in this process until a condition holds, stop them, and return what they did."""

    async def run():
        stop = asyncio.Event()
        tasks = [asyncio.create_task(Worker(settings, stop).work()) for settings in workers]
        end = time.monotonic() + seconds
        while not until() and not any(task.done() for task in tasks):
            assert time.monotonic() < end, "the workers did not come to it"
            await asyncio.sleep(0.02)
        stop.set()
        return await asyncio.gather(*tasks)

    return asyncio.run(run())


def finished(client, settings, n):
    return lambda: client.xlen(settings.output) + client.xlen(settings.dead) >= n


@contextmanager
def process(settings):
    """A worker in a process of its own; killed at the end."""
    code = "import json, sys; from onlineguard_service.redis.worker import *; logging.basicConfig(level='INFO'); "
    code += "run(WorkerSettings(**json.loads(sys.argv[1])))"
    command = [sys.executable, "-c", code, json.dumps(dataclasses.asdict(settings))]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        started.communicate(timeout=10)


def test_every_click_is_answered_in_order_and_acknowledged(client, server, settings):
    ids = [f"c{i}" for i in range(100)]
    entries = put(client, settings, ids)
    (progress,) = work(settings, until=finished(client, settings, 100))
    expected = [msgspec.json.encode(click_answer(id)) for id in ids]
    assert published(client, settings) == list(zip(ids, expected, entries, strict=True))
    assert server.order == ids
    assert unfinished(client, settings) == 0
    robotic = sum(click_answer(id).decision == "robotic" for id in ids)
    assert (progress.answered, progress.robotic, progress.dead, progress.later) == (100, robotic, 0, 0)
    assert client.xinfo_consumers(settings.stream, settings.group) == []  # it left


def test_a_click_may_be_the_fields_of_its_entry(client, server, settings):
    fields = {name: str(value).lower() if value is True else str(value) for name, value in click("a").items()}
    client.xadd(settings.stream, fields | {"rfm": "7.5", "user_id": "12"})
    work(settings, until=finished(client, settings, 1))
    assert [id for id, *_ in published(client, settings)] == ["a"]


def test_fields_of_an_entry_are_read_as_the_types_of_a_click():
    fields = {name.encode(): str(value).encode() for name, value in click("12").items()}
    read = click_of(fields | {b"logged_in": b"0", b"rfm": b"7.5", b"purchase_ts": b"9", b"user_id": b"12"})
    assert read == Click(**(click("12") | {"logged_in": False, "rfm": 7.5, "purchase_ts": 9, "user_id": "12"}))
    for wrong, message in [
        ({b"ts": b"now"}, r'click field \$.ts is "now"'),
        ({b"logged_in": b"perhaps"}, r'click field \$.logged_in is "perhaps"; it must be true or false'),
        ({b"ip": b"\xff"}, "click is not text in UTF-8"),
    ]:
        with pytest.raises(InvalidArgument, match=message):
            click_of(fields | wrong)


def test_poison_is_a_dead_letter_with_its_reason_and_the_others_are_answered(client, server, settings):
    ids = [f"c{i}" for i in range(6)]
    put(client, settings, ids[:3])
    poison = [{"click": "{"}, {"click": '{"click_id": "x"}'}, {"a": b"\xff"}, {f"f{i}": "v" for i in range(9_000)}]
    entries = [client.xadd(settings.stream, fields) for fields in poison]
    put(client, settings, ids[3:])
    (progress,) = work(settings, until=finished(client, settings, 10))
    assert [id for id, *_ in published(client, settings)] == ids
    letters = dead(client, settings)
    assert [letter[b"entry"] for letter in letters] == entries
    assert [letter[b"deliveries"] for letter in letters] == [b"1"] * 4
    assert letters[0][b"field:click"] == b"{"
    assert letters[2][b"field:a"] == b"\xff"
    assert len(letters[3]) == 3 + 1_000
    reasons = [letter[b"reason"].decode() for letter in letters]
    assert "must be a JSON object" in reasons[0]
    assert reasons[1].startswith("click has no field ts")
    assert "UTF-8" in reasons[2]
    assert reasons[3].startswith('click has a field "f0", which is unknown')
    assert unfinished(client, settings) == 0
    assert progress.dead == 4


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_a_click_that_the_service_refuses_is_a_dead_letter_at_once(client, server, settings, status):
    server.failing["c3"] = status
    put(client, settings, ids := [f"c{i}" for i in range(8)])
    work(settings, until=finished(client, settings, 8))
    assert [id for id, *_ in published(client, settings)] == [id for id in ids if id != "c3"]
    ((letter),) = dead(client, settings)
    assert letter[b"reason"].decode() == f"{status} Refused: click c3 is not taken"
    assert letter[b"deliveries"] == b"1"


def test_a_click_at_which_the_service_fails_is_tried_again_and_then_a_dead_letter(client, server, settings):
    server.failing["c3"] = 500
    put(client, settings, ids := [f"c{i}" for i in range(8)])
    (progress,) = work(settings, until=finished(client, settings, 8))
    assert [id for id, *_ in published(client, settings)] == [id for id in ids if id != "c3"]
    (letter,) = dead(client, settings)
    assert letter[b"reason"] == b"500 Refused: click c3 is not taken"
    assert letter[b"deliveries"] == b"3"
    assert progress.later == 2
    assert unfinished(client, settings) == 0


def test_a_degraded_answer_is_not_published_and_is_asked_for_again(client, server, settings):
    server.degraded = {"c1", "c2"}
    put(client, settings, [f"c{i}" for i in range(4)])

    def until():
        if client.xlen(settings.output) == 2 and len(server.requests) > 2:
            server.degraded = {"c2"}  # c1 can be judged from now on, c2 never
        return finished(client, settings, 4)()

    work(settings, until=until)
    assert [id for id, *_ in published(client, settings)] == ["c0", "c3", "c1"]
    (letter,) = dead(client, settings)
    assert letter[b"reason"] == b"degraded: counters"
    assert letter[b"deliveries"] == b"3"
    assert all(b"unknown" not in answer for _, answer, _ in published(client, settings))


def test_while_everything_is_degraded_the_worker_takes_a_trickle_and_leaves_the_rest(client, server, settings):
    server.degraded = ids = {f"c{i}" for i in range(400)}
    settings = dataclasses.replace(settings, claim_after=60.0)
    put(client, settings, sorted(ids))
    began = time.monotonic()
    (progress,) = work(settings, until=lambda: time.monotonic() > began + 1.0)
    assert 1 <= progress.waits <= 5
    assert progress.later == 8 * progress.waits
    assert client.xlen(settings.dead) == client.xlen(settings.output) == 0
    pending = client.xpending(settings.stream, settings.group)["pending"]
    assert pending == progress.later  # a worker that leaves takes no pending entry with it


def test_a_service_that_is_down_loses_nothing_and_counts_no_delivery(client, server, settings, caplog):
    put(client, settings, ids := [f"c{i}" for i in range(40)])
    server.refusals = [(503, {}), (503, {}), (429, {})]
    server.drops = 1
    settings = dataclasses.replace(settings, deliveries=1)
    with caplog.at_level(logging.WARNING):
        (progress,) = work(settings, until=finished(client, settings, 40))
    assert [id for id, *_ in published(client, settings)] == ids
    assert (progress.waits, progress.dead, len(server.order)) == (4, 0, 40)
    assert "the service is away: 503 Refused: as ordered; waiting" in caplog.text


def test_a_worker_reads_nothing_before_the_service_is_ready(client, server, settings):
    server.ready = False
    put(client, settings, ["a"])
    work(settings, until=lambda: len(server.requests) >= 2)
    assert not client.xlen(settings.output)
    assert not any(path == "/v1/clicks" for path, _, _ in server.requests)
    assert client.xinfo_groups(settings.stream) == []


def test_a_wrong_key_or_url_ends_the_worker_and_leaves_the_entries_pending(client, server, settings):
    put(client, settings, ["a", "b"])
    server.refusals = [(401, {})]
    with pytest.raises(ServiceError, match="401"):
        work(settings, until=lambda: False)
    assert unfinished(client, settings) == 2
    work(settings, until=finished(client, settings, 2))
    assert [id for id, *_ in published(client, settings)] == ["a", "b"]


def test_entries_of_a_dead_worker_are_claimed_after_the_time_and_those_that_kill_it_are_dead_letters(
    client, server, settings
):
    put(client, settings, ["a", "b"])
    client.xgroup_create(settings.stream, settings.group, id="0")
    client.xreadgroup(settings.group, "died", {settings.stream: ">"})
    (_, killer) = [id for id, _ in client.xrange(settings.stream)]
    client.xclaim(settings.stream, settings.group, "died", 0, [killer], retrycount=settings.deliveries)
    began = time.monotonic()
    (progress,) = work(settings, until=finished(client, settings, 2))
    assert time.monotonic() - began > settings.claim_after * 0.9
    assert [id for id, *_ in published(client, settings)] == ["a"]
    (letter,) = dead(client, settings)
    assert letter[b"reason"] == b"no worker came to an end with it"
    assert letter[b"deliveries"] == b"4"
    assert progress.claimed == 2
    assert list(server.applied) == ["a"]


def test_a_consumer_without_entries_that_was_long_silent_is_taken_off_the_group(client, server, settings, monkeypatch):
    monkeypatch.setattr("onlineguard_service.redis.worker.GONE_AFTER", 0.2)
    settings = dataclasses.replace(settings, claim_after=0.02)
    put(client, settings, ["a"])
    client.xgroup_create(settings.stream, settings.group, id="0")
    client.xgroup_createconsumer(settings.stream, settings.group, "died")

    def until():
        return b"died" not in {consumer["name"] for consumer in client.xinfo_consumers(settings.stream, settings.group)}

    assert not until()
    work(settings, until=until)
    assert [id for id, *_ in published(client, settings)] == ["a"]


def test_a_worker_that_is_slower_than_the_claim_of_another_publishes_nothing_twice(client, server, settings):
    settings = dataclasses.replace(settings, claim_after=0.1, deliveries=1_000)
    entries = put(client, settings, ids := [f"c{i}" for i in range(80)])
    server.delay = 0.05
    with answering() as slow:
        slow.delay = 0.5
        slower = dataclasses.replace(settings, url=slow.url)
        progress = work(slower, slower, settings, until=lambda: slow.order and finished(client, settings, 80)())
    assert sorted(published(client, settings)) == sorted(
        (id, msgspec.json.encode(click_answer(id)), entry) for id, entry in zip(ids, entries, strict=True)
    )
    assert sum(p.answered for p in progress) == 80
    assert sum(p.taken for p in progress) > 0  # or nothing was proved


@pytest.mark.slow
def test_workers_killed_at_random_moments_answer_every_entry_exactly_once(client, server, settings):
    rng = random.Random(7)
    settings = dataclasses.replace(settings, claim_after=0.5, deliveries=1_000)
    server.delay = 0.05
    bad = {f"bad{i}" for i in range(5)}
    ids = [f"c{i}" for i in range(400)]
    entries = {}
    for i, id in enumerate(ids):
        (entries[id],) = put(client, settings, [id])
        if i % 80 == 40:
            client.xadd(settings.stream, {"click": "no click", "id": f"bad{i // 80}"})
    workers, kills, working = [], 0, 0
    try:
        while not finished(client, settings, 405)():
            while len(workers) < 3:
                workers.append(process(settings))
                workers[-1] = (workers[-1], workers[-1].__enter__())
            time.sleep(rng.uniform(0, 0.5))
            if client.xlen(settings.output) and kills < 8:
                victim = workers.pop(rng.randrange(len(workers)))
                before = client.xpending(settings.stream, settings.group)["pending"]
                os.kill(victim[1].pid, signal.SIGKILL)
                victim[0].__exit__(None, None, None)
                kills, working = kills + 1, working + bool(before)
    finally:
        for manager, _ in workers:
            manager.__exit__(None, None, None)
    assert kills >= 5
    assert working >= 3  # killed while entries were in somebody's hands
    got = published(client, settings)
    assert Counter(id for id, *_ in got) == Counter(ids)
    assert all(entry == entries[id] and answer == msgspec.json.encode(click_answer(id)) for id, answer, entry in got)
    assert {letter[b"field:id"].decode() for letter in dead(client, settings)} == bad
    assert client.xlen(settings.dead) == 5
    assert unfinished(client, settings) == 0


@pytest.mark.slow
def test_a_terminated_worker_finishes_its_batch_and_leaves_the_group(client, server, settings):
    server.delay = 0.3
    put(client, settings, [f"c{i}" for i in range(400)])
    with process(settings) as worker:
        deadline = time.monotonic() + 20
        while not client.xlen(settings.output):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        worker.terminate()
        _, log = worker.communicate(timeout=10)
    assert worker.returncode == 0
    done = client.xlen(settings.output)
    assert 8 <= done < 400
    assert client.xpending(settings.stream, settings.group)["pending"] == 0
    assert client.xinfo_consumers(settings.stream, settings.group) == []
    assert len(server.order) == done
    assert f"stopped: answered {done}, " in log


def test_redis_restarted_empty_is_taken_up_again(tmp_path, server, settings):
    with serving(tmp_path) as port:
        settings = dataclasses.replace(settings, redis=f"redis://127.0.0.1:{port}/0")
        with redis.Redis(port=port) as own:
            put(own, settings, ["a"])
            flushed = False

            def until():
                nonlocal flushed
                if not flushed and own.xlen(settings.output) == 1:
                    own.flushall()
                    put(own, settings, ["b", "c"])
                    flushed = True
                return flushed and own.xlen(settings.output) == 2

            work(settings, until=until)
            assert [id for id, *_ in published(own, settings)] == ["b", "c"]


@pytest.mark.slow
def test_a_redis_that_is_killed_and_comes_back_loses_no_entry(tmp_path, server, settings):
    options = ("--appendonly", "yes", "--appendfsync", "always")
    ids = [f"c{i}" for i in range(200)]
    server.delay = 0.02

    async def run(port, folder):
        stop = asyncio.Event()
        here = dataclasses.replace(settings, redis=f"redis://127.0.0.1:{port}/0", deliveries=100)
        return asyncio.create_task(Worker(here, stop).work()), stop, here

    async def scenario():
        first = serving(tmp_path, *options)
        port = first.__enter__()
        with redis.Redis(port=port) as own:
            put(own, settings, ids)
            task, stop, here = await run(port, tmp_path)
            while own.xlen(here.output) < 40:
                await asyncio.sleep(0.01)
            own.shutdown(nosave=True, now=True, force=True)
        first.__exit__(None, None, None)
        await asyncio.sleep(0.5)
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
        again = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 50)) as own:
                end = time.monotonic() + 20
                while own.xlen(here.output) < len(ids):
                    assert time.monotonic() < end
                    await asyncio.sleep(0.05)
                stop.set()
                progress = await task
                assert Counter(id for id, *_ in published(own, here)) == Counter(ids)
                assert progress.waits > 0
        finally:
            again.terminate()
            again.wait(10)

    asyncio.run(scenario())


def test_the_output_keeps_about_the_newest_entries(client, server, settings):
    settings = dataclasses.replace(settings, keep=100, batch=100)
    put(client, settings, [f"c{i}" for i in range(1_000)])
    (progress,) = work(
        settings, until=lambda: client.xinfo_groups(settings.stream) and not unfinished(client, settings)
    )
    assert progress.answered == 1_000
    assert 100 <= client.xlen(settings.output) <= 300
    assert published(client, settings)[-1][0] == "c999"


def test_the_clicks_keep_about_the_newest_and_all_that_some_group_has_not_answered(client, server, settings):
    settings = dataclasses.replace(settings, keep=100, batch=100)
    entries = put(client, settings, [f"c{i}" for i in range(1_000)])
    client.xgroup_create(settings.stream, "another", id="0")  # it answers all but the newest 500
    client.xreadgroup("another", "one", {settings.stream: ">"}, count=510)
    client.xack(settings.stream, "another", *entries[:500])
    work(settings, until=lambda: client.xlen(settings.stream) < 1_000 and not unfinished(client, settings))
    kept = [id for id, _ in client.xrange(settings.stream)]
    assert kept == entries[-len(kept) :]
    assert 500 <= len(kept) <= 600  # Redis drops whole nodes of a hundred
    client.xgroup_destroy(settings.stream, "another")
    work(settings, until=lambda: client.xlen(settings.stream) <= 200)
    assert client.xlen(settings.stream) >= 100


def test_entries_trimmed_before_they_were_answered_are_counted_and_logged(client, server, settings, caplog):
    put(client, settings, ["a", "b"])
    client.xgroup_create(settings.stream, settings.group, id="0")
    client.xreadgroup(settings.group, "died", {settings.stream: ">"})
    client.xtrim(settings.stream, maxlen=1, approximate=False)
    (progress,) = work(settings, until=finished(client, settings, 1))
    assert [id for id, *_ in published(client, settings)] == ["b"]
    assert progress.lost == 1
    assert "1 entries were trimmed from" in caplog.text


@pytest.mark.slow
def test_a_cluster_takes_the_default_names_and_refuses_names_of_several_slots(tmp_path, server, settings):
    with serving(tmp_path, "--cluster-enabled", "yes") as port, redis.Redis(port=port) as own:
        own.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while "ok" not in str(own.execute_command("CLUSTER INFO")["cluster_state"]):
            time.sleep(0.05)
        here = WorkerSettings(f"redis://127.0.0.1:{port}/0", server.url)
        put(own, here, ["a", "b"])
        own.xadd(here.stream, {"click": "{"})
        work(here, until=finished(own, here, 3))
        assert [id for id, *_ in published(own, here)] == ["a", "b"]
        assert own.xlen(here.dead) == 1
        with pytest.raises(InvalidArgument, match="lie in several slots of the cluster; give them one hash tag"):
            work(dataclasses.replace(here, output="elsewhere"), until=lambda: False)


def test_a_name_that_is_no_stream_is_refused_before_anything_is_read(client, server, settings):
    client.set(settings.output, "text")
    put(client, settings, ["a"])
    with pytest.raises(InvalidArgument, match="is a string in Redis; name a stream, or no key yet"):
        work(settings, until=lambda: False)
    assert client.xinfo_groups(settings.stream) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0; it must be more than 0"),
        ({"claim_after": float("nan")}, "claim_after is nan; it must be more than 0"),
        ({"batch": 2_000}, "batch is 2000; it must be at most 1000"),
        ({"output": "a", "dead": "a"}, "they must be three streams"),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises(InvalidArgument, match=message):
        WorkerSettings(**options)
    assert "secret" not in repr(WorkerSettings(api_key="secret"))
