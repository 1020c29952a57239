"""Counting in a real Redis: namespaces with the same users never see each other's counts; a cluster counts alike."""

import asyncio
import secrets
from collections import Counter

import msgspec
import numpy as np
import pytest
import redis
from onlineguard_service.redis.counting import CountersUnavailable, Counting
from onlineguard_service.redis.nodes import Nodes, slot_of

from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from tests.support.redis_cluster import cluster
from tests.support.redis_server import serving

SPACES = ("", "acme", "acme2", "other")
PART = 25  # clicks of a request


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis")) as port:
        yield f"redis://127.0.0.1:{port}/0"


def test_each_namespace_counts_as_a_process_of_its_own_would_whoever_comes_between(url, clicks):
    async def run():
        counting, rng = Counting(url, "apart"), np.random.default_rng(0)
        alone = {name: ProcessStore(None) for name in SPACES}
        taken = dict.fromkeys(SPACES, 0)
        for name in rng.permutation(np.repeat(SPACES, 8)).tolist():  # all are sent the same clicks, at other times
            keys = ClickKeys.of(clicks[taken[name] : taken[name] + PART])
            taken[name] += PART
            np.testing.assert_array_equal(await counting.count(keys, name), alone[name].count(keys))
        assert set(taken.values()) == {8 * PART}
        again = ClickKeys.of(clicks[:PART])  # new to a namespace that has not had them, whoever has
        late, here = await counting.count(again, "late"), await counting.count(again, "acme")
        await counting.close()
        np.testing.assert_array_equal(late, ProcessStore(None).count(again))
        assert not np.array_equal(late, here)

    asyncio.run(run())


def test_a_user_who_is_erased_in_one_namespace_is_still_counted_in_the_others(url, clicks):
    user, n = Counter(click.user_id for click in clicks if click.user_id is not None).most_common(1)[0]
    mine = [click for click in clicks if click.user_id == user]
    before, last = ClickKeys.of(mine[:-1]), ClickKeys.of(mine[-1:])
    assert n > 2

    async def run():
        counting, alone = Counting(url, "erased"), ProcessStore(None)
        for name in ("", "acme"):
            await counting.count(before, name)
        alone.count(before)
        await counting.erase(user, "acme")
        kept, gone = await counting.count(last), await counting.count(last, "acme")
        await counting.close()
        np.testing.assert_array_equal(kept, alone.count(last))
        assert not np.array_equal(gone, kept)

    asyncio.run(run())


def test_it_is_told_before_the_first_click_that_redis_is_not_there(url, caplog):
    async def troubles(url):
        counting = Counting(url, "looked")
        await counting.look()
        await counting.close()
        return counting.trouble

    assert asyncio.run(troubles(url)) is None
    assert not caplog.messages
    assert asyncio.run(troubles("redis://127.0.0.1:1")).startswith("ConnectionRefusedError")
    assert "clicks are answered unknown" in caplog.text


def test_redis_is_found_again_though_no_click_comes(tmp_path, monkeypatch):
    monkeypatch.setattr("onlineguard_service.redis.counting.AGAIN", 0.05)
    with serving(tmp_path) as port:  # a free one
        pass

    async def run():
        counting = Counting(f"redis://127.0.0.1:{port}/0", "found")
        await counting.look()
        before = counting.trouble
        with serving(tmp_path, port=port):
            while counting.trouble is not None:
                await asyncio.sleep(0.01)
        assert before is not None
        await counting.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_redis_that_answers_and_does_not_count_is_not_found(url, clicks, monkeypatch):
    monkeypatch.setattr("onlineguard_service.redis.counting.AGAIN", 0.01)
    before, after = ClickKeys.of(clicks[:1]), ClickKeys.of(clicks[1:2])

    async def run():
        with redis.Redis.from_url(url) as admin:
            counting = Counting(url, "full")
            await counting.count(before)
            admin.config_set("maxmemory", 1)
            with pytest.raises(CountersUnavailable, match="OOM"):
                await counting.count(after)
            await asyncio.sleep(0.2)
            assert "OOM" in counting.trouble
            admin.config_set("maxmemory", 0)
            await counting.count(after)
            assert counting.trouble is None
            await counting.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_nobody_looks_for_redis_once_it_is_closed(tmp_path, clicks):
    async def run():
        with serving(tmp_path) as port:
            counting = Counting(f"redis://127.0.0.1:{port}/0", "closed")
            await counting.look()
            under_way = asyncio.create_task(counting.count(ClickKeys.of(clicks[:1])))
            await asyncio.sleep(0)
            await counting.close()
            with pytest.raises(CountersUnavailable):
                await under_way
            assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "Counting"] == []

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.slow
def test_a_cluster_counts_as_a_process_does_while_slots_move_and_forgets_who_is_erased(tmp_path, clicks):
    user, _ = Counter(click.user_id for click in clicks[:200] if click.user_id is not None).most_common(1)[0]

    async def run(nodes):
        counting, alone = Counting(f"redis://127.0.0.1:{nodes[0].port}/0", "c"), ProcessStore(None)
        for start in range(0, 200, PART):
            keys = ClickKeys.of(clicks[start : start + PART])
            np.testing.assert_array_equal(await counting.count(keys), alone.count(keys))
            if start == 100:  # every slot of the first node that is empty moves to the second
                for slot in range(5_000):
                    if not nodes[0].ask("CLUSTER", "COUNTKEYSINSLOT", slot):
                        for node in (nodes[1], nodes[0], nodes[2]):
                            node.ask("CLUSTER", "SETSLOT", slot, "NODE", nodes[1].id)
        assert all(node.client.dbsize() > 100 for node in nodes)
        await counting.erase(user)
        alone.erase(user)
        await counting.count(again := ClickKeys.of([msgspec.structs.replace(clicks[0], user_id=user, click_id="new")]))
        keys = ClickKeys.of([msgspec.structs.replace(clicks[0], user_id=user, click_id="newer")])
        alone.count(again)
        np.testing.assert_array_equal(await counting.count(keys), alone.count(keys))
        asked = Nodes(f"redis://127.0.0.1:{nodes[0].port}/0", 5.0)
        await asked.answer(True)
        nodes[2].client.flushall()
        nodes[2].ask("CLUSTER", "RESET", "SOFT")  # nobody serves its slots
        await asked.close()
        others = [msgspec.structs.replace(clicks[1], click_id=secrets.token_hex(4)) for _ in range(100)]
        with pytest.raises(CountersUnavailable):  # some of these ids are in them
            await counting.count(ClickKeys.of(others))
        await counting.close()
        nodes[1].client.shutdown(nosave=True)
        with pytest.raises(ConnectionError):
            await asked.answer(True)
        await asked.close()

    with cluster(tmp_path) as nodes:
        asyncio.run(asyncio.wait_for(run(nodes), 120))


@pytest.mark.slow
def test_keys_of_a_slot_that_is_on_its_way_are_found_on_either_node(tmp_path):
    old, new = b"{some tag}:old", b"{some tag}:new"

    async def run(both):
        nodes, slot = Nodes(f"redis://127.0.0.1:{both[0].port}/0", 5.0), slot_of(old)
        source, target = both if slot < 8_192 else both[::-1]
        assert await nodes.execute([("SET", old, b"1")]) == [b"OK"]
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        assert await nodes.execute([("SET", new, b"2"), ("GET", old)]) == [b"OK", b"1"]
        assert await nodes.execute([("GET", old), ("GET", new)]) == [b"1", b"2"]
        assert [each.ask("CLUSTER", "COUNTKEYSINSLOT", slot) for each in (source, target)] == [1, 1]
        source.ask("MIGRATE", "127.0.0.1", target.port, old, 0, 5_000)
        for each in (target, source):
            each.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)
        assert await nodes.execute([("GET", old), ("GET", new)]) == [b"1", b"2"]
        await nodes.close()

    with cluster(tmp_path, n=2) as both:
        asyncio.run(asyncio.wait_for(run(both), 60))
