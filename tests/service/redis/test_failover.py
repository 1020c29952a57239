"""Counters and workers whose Redis fails over, in a cluster and under Sentinels: they go on, and do nothing twice."""

import asyncio
import json
from contextlib import suppress

import numpy as np
import pytest
import redis
from onlineguard_service.redis import counting as counting_module
from onlineguard_service.redis.counting import CountersUnavailable, Counting
from onlineguard_service.redis.worker import Worker, WorkerSettings

from onlineguard import sentinels
from onlineguard.slidr.clicks.clicks import prefix
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.counting.windows import COLUMNS
from tests.support.answering import answering, click
from tests.support.redis_cluster import cluster
from tests.support.redis_failover import failing_over, until

PART = 20  # clicks of a request
DAYS = {  # of each kind of entity, the count of a day, whatever the order in which its clicks came
    kind: (COLUMNS.index(f"{kind}_24h"), name)
    for kind, name in {
        "user": lambda click: click.user_id,
        "session": lambda click: click.session_id,
        "ip": lambda click: click.ip,
        "prefix": lambda click: prefix(click.ip),
    }.items()
}


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine takes its time; who is dead refuses at once."""
    monkeypatch.setattr(counting_module, "WAIT", 10.0)
    monkeypatch.setattr(sentinels, "SHORT_WAIT", 5.0)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster"), replicated=True) as nodes:
        yield nodes


async def until_counted(counting, clicks):
    """Send them again until they are; the counts, and how often there were none."""
    for failures in range(10_000):
        try:
            return await counting.count(ClickKeys.of(clicks)), failures
        except CountersUnavailable:
            await asyncio.sleep(0.05)
    pytest.fail("the counters did not come back", pytrace=False)


async def read(counting, clicks):
    """The counts of clicks that were counted before, which sending them again does not change."""
    parts = [clicks[i : i + PART] for i in range(0, len(clicks), PART)]
    return np.concatenate([(await until_counted(counting, part))[0] for part in parts])


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def assert_once(counted, clicks, failed):
    """All are counted once, but for those that failed, which are counted once or not at all.

    counted: what is read of each click when it is sent again.
    """
    here = ProcessStore(None)
    here.count(ClickKeys.of(clicks))
    once = here.count(ClickKeys.of(clicks))
    for column, name in DAYS.values():
        touched = {name(click) for click in failed}
        whole = np.array([name(click) not in touched for click in clicks])
        np.testing.assert_array_equal(counted[whole, column], once[whole, column])
        assert (counted[:, column] <= once[:, column]).all()
        assert (counted[:, column] >= once[:, column] - len(failed)).all()


@pytest.mark.slow
def test_a_cluster_goes_on_with_the_replica_of_a_killed_primary_and_counts_no_click_twice(nodes, clicks):
    """Each request is sent until it is counted, so that ids that were lost would have their clicks counted again."""
    clicks = list({click.click_id: click for click in clicks[:500]}.values())
    first, _, _, replica, _, _ = nodes

    async def load():
        counting = Counting(f"redis://127.0.0.1:{first.port}/0", "w", replicas=1)
        failed = []

        async def send(begin):
            for start in range(begin, len(clicks), 4 * PART):
                part = clicks[start : start + PART]
                _, failures = await until_counted(counting, part)
                if failures:
                    failed.extend(part)

        senders = [asyncio.create_task(send(i * PART)) for i in range(4)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(first.kill)
        await asyncio.to_thread(until, lambda: replica.role() == "master")
        assert not all(sender.done() for sender in senders)  # the new primary has no replica, without which none counts
        await asyncio.to_thread(first.start)
        await asyncio.gather(*senders)
        counted = await read(counting, clicks)
        await counting.close()
        return counted, failed

    counted, failed = run(load())
    assert 0 < len(failed) < len(clicks)
    assert replica.role() == "master"
    assert first.role() == "slave"
    assert_once(counted, clicks, failed)


@pytest.mark.slow
def test_a_cluster_loses_what_the_replica_had_not_yet_and_nothing_else(nodes, clicks):
    clicks = list({click.click_id: click for click in clicks[:300]}.values())
    before, window, after = clicks[:100], clicks[100:160], clicks[160:]
    _, second, third, _, replica, _ = nodes

    async def losing():
        counting = Counting(f"redis://127.0.0.1:{third.port}/0", "l")
        for start in range(0, len(before), PART):
            await until_counted(counting, before[start : start + PART])
        await asyncio.to_thread(second.part)
        for start in range(0, len(window), PART):
            await until_counted(counting, window[start : start + PART])
        await asyncio.to_thread(second.kill)
        failures = 0
        for start in range(0, len(after), PART):
            failures += (await until_counted(counting, after[start : start + PART]))[1]
        counted = await read(counting, [*before, *after])
        await read(counting, window)  # of which some ids were lost
        again = await read(counting, window)
        await counting.close()
        return counted, again, failures

    with suppress(Exception):
        second.client.client_getname()  # connected before it asks for a password
    counted, again, failures = run(losing())
    assert failures > 0
    assert replica.role() == "master"
    # what was sent while the primary was gone may be remembered by the others and not counted
    assert_between(counted, before, [*before, *window, *after], [*before, *after])
    once = read_after(clicks, window)
    assert any((again[:, column] > once[:, column]).any() for column, _ in DAYS.values())  # as the documents warn


def assert_between(counted, least, most, read):
    """The counts of clicks that are read lie between those of two sets of clicks."""
    low, high = (read_after(some, read) for some in (least, most))
    assert not np.array_equal(counted, high)
    for column, _ in DAYS.values():
        assert (low[:, column] <= counted[:, column]).all()
        assert (counted[:, column] <= high[:, column]).all()


def read_after(counted, read):
    """What is read of clicks where others, or they, were counted."""
    store, known = ProcessStore(None), {click.click_id for click in counted}
    store.count(ClickKeys.of(counted))
    mine = [click for click in read if click.click_id in known]
    values = np.zeros((len(read), len(COLUMNS)), np.int32)
    values[[click.click_id in known for click in read]] = store.count(ClickKeys.of(mine))
    return values


@pytest.mark.slow
def test_counters_follow_the_sentinels_to_the_new_primary(tmp_path, clicks):
    clicks = list({click.click_id: click for click in clicks[:200]}.values())

    async def following(servers):
        counting, alone = Counting(servers.url, "s"), ProcessStore(None)
        for start in range(0, len(clicks), PART):
            part = clicks[start : start + PART]
            if start == 5 * PART:
                await asyncio.to_thread(servers.replicated)
                await asyncio.to_thread(servers.kill_primary)
            await until_counted(counting, part)
            alone.count(ClickKeys.of(part))
        assert counting.trouble is None
        counted = await read(counting, clicks)  # in one Redis a request is counted as a whole, or not at all
        np.testing.assert_array_equal(counted, alone.count(ClickKeys.of(clicks)))
        assert servers.named() == servers.replica
        await counting.close()

    with failing_over(tmp_path, secret=True) as servers:
        run(following(servers))


def test_counters_whose_redis_is_a_replica_now_ask_the_sentinels_again(tmp_path, clicks):
    async def demoted(servers):
        counting = Counting(servers.url, "d")
        await until_counted(counting, clicks[:PART])
        await asyncio.to_thread(servers.part)
        await asyncio.to_thread(servers.ask, servers.primary, "REPLICAOF", "127.0.0.1", str(servers.replica))
        await asyncio.to_thread(servers.promote)
        with pytest.raises(CountersUnavailable, match="READONLY"):
            await counting.count(ClickKeys.of(clicks[PART : 2 * PART]))
        await until_counted(counting, clicks[PART : 2 * PART])
        await counting.close()
        assert servers.client(servers.replica).dbsize() > PART

    with failing_over(tmp_path) as servers:
        run(demoted(servers))


@pytest.mark.slow
def test_a_worker_goes_on_with_the_new_primary_and_publishes_each_click_there_once(tmp_path):
    with failing_over(tmp_path, secret=True) as servers, answering() as server:
        settings = WorkerSettings(servers.url, server.url, batch=8, claim_after=0.5, deliveries=100)
        client = servers.client(servers.primary)
        entries = [client.xadd(settings.stream, {"click": json.dumps(click(f"c{i}"))}) for i in range(400)]
        servers.replicated()
        new = servers.client(servers.replica)
        progress = run(working(settings, client, servers.kill_primary, new))
        assert_each_is_answered_once(settings, new, entries, progress)


@pytest.mark.slow
def test_a_worker_of_a_cluster_goes_on_with_the_replica_of_a_killed_primary(nodes):
    *_, third, _, _, replica = nodes
    with answering() as server:
        names = {name: f"{{cluster 3}}:{name}" for name in ("stream", "output", "dead")}
        url = f"redis://127.0.0.1:{nodes[0].port}/0"
        settings = WorkerSettings(url, server.url, batch=8, claim_after=0.5, deliveries=100, **names)
        entries = [third.client.xadd(settings.stream, {"click": json.dumps(click(f"c{i}"))}) for i in range(400)]
        third.replicated()
        progress = run(working(settings, third.client, third.kill, replica.client))
        assert_each_is_answered_once(settings, replica.client, entries, progress)


async def working(settings, old, kill, new):
    """A worker whose Redis is killed when it has published some; its progress when all is published."""
    stop = asyncio.Event()
    task = asyncio.create_task(Worker(settings, stop).work())

    async def published(client, n):
        while True:
            with suppress(redis.RedisError):  # it takes over just now
                if client.xlen(settings.output) >= n:
                    return
            assert not task.done()
            await asyncio.sleep(0.05)

    await published(old, 50)
    await asyncio.to_thread(kill)
    await published(new, 400)
    stop.set()
    return await task


def assert_each_is_answered_once(settings, client, entries, progress):
    outputs = client.xrange(settings.output)
    pending = client.xpending(settings.stream, settings.group)["pending"]
    assert sorted(fields[b"entry"] for _, fields in outputs) == sorted(entries)
    assert (pending, progress.dead, progress.waits > 0) == (0, 0, True)
