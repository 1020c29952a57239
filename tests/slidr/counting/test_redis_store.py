"""Counters in Redis: equal to those in the process, under Cluster too, and what they leave behind."""

import gzip
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.counting.redis_store import RedisStore
from onlineguard.slidr.counting.windows import COLUMNS, HOUR_MS
from tests.support.redis_server import serving
from tests.support.slidr_oracle import Oracle
from tests.support.slidr_streams import HOUR, MINUTE, NOON, cut, gateway, streams

_names = map("stream{}".format, itertools.count())  # every example has keys of its own


@pytest.fixture(scope="session")
def client(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis")) as port, redis.Redis(port=port) as client:
        yield client


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """One machine that owns all hash slots: it refuses a script that touches two of them as any cluster does."""
    with serving(tmp_path_factory.mktemp("cluster"), "--cluster-enabled", "yes") as port:
        with redis.Redis(port=port) as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            for _ in range(100):
                if "ok" in str(node.execute_command("CLUSTER INFO")["cluster_state"]):
                    break
                time.sleep(0.05)
            else:
                pytest.fail("the cluster did not come up")
        with redis.RedisCluster(host="127.0.0.1", port=port) as client:
            yield client


@given(streams(), st.lists(st.integers(0, 60), max_size=4))
def test_redis_the_process_and_the_definition_give_the_same_numbers_however_the_stream_is_cut(client, keys, cuts):
    expected = Oracle().count(keys)
    np.testing.assert_array_equal(ProcessStore().count(keys), expected)
    store = RedisStore(client, next(_names))
    parts = cut(keys, [min(c, len(keys.ts)) for c in cuts])
    np.testing.assert_array_equal(np.concatenate([store.count(part) for part in parts]), expected)


@given(streams(30))
def test_click_by_click_gives_the_same_numbers(client, keys):
    client.flushall()
    store = RedisStore(client)
    counts = [store.count(part) for part in cut(keys, list(range(1, len(keys.ts))))]
    np.testing.assert_array_equal(np.concatenate(counts), ProcessStore().count(keys))


def test_a_large_gateway_is_counted_the_same_beyond_the_cap(client):
    stream = gateway(2_000, 500, 1)
    np.testing.assert_array_equal(RedisStore(client, next(_names)).count(stream), ProcessStore().count(stream))


def test_a_click_that_comes_again_in_one_batch_or_another_is_counted_once(client, cluster):
    stream = gateway(120, 20, 8)._replace(click_ids=[str(i // 2 % 40) for i in range(120)])
    expected = ProcessStore().count(stream)
    np.testing.assert_array_equal(RedisStore(client, next(_names)).count(stream), expected)
    np.testing.assert_array_equal(RedisStore(cluster, next(_names)).count(stream), expected)


def test_two_machines_that_share_a_redis_count_as_one(client):
    stream = gateway(200, 20, 2)
    name = next(_names)
    machines = [RedisStore(client, name), RedisStore(client, name)]
    parts = cut(stream, list(range(10, 200, 10)))
    counts = [machines[i % 2].count(part) for i, part in enumerate(parts)]
    np.testing.assert_array_equal(np.concatenate(counts), ProcessStore().count(stream))


@given(streams(), st.lists(st.integers(0, 60), max_size=8))
def test_machines_that_take_turns_count_as_one_whatever_the_clock_does_in_between(client, keys, cuts):
    name = next(_names)
    machines = [RedisStore(client, name) for _ in range(3)]
    parts = cut(keys, [min(c, len(keys.ts)) for c in cuts])
    counts = [machines[i % 3].count(part) for i, part in enumerate(parts)]
    np.testing.assert_array_equal(np.concatenate(counts), ProcessStore().count(keys))


def test_machines_that_count_at_the_same_time_lose_no_click_and_count_none_twice(client):
    name, n = next(_names), 640
    stream = gateway(2 * n, 50, 6)._replace(ts=np.full(2 * n, NOON), sessions=[f"s{i}" for i in range(2 * n)])
    halves = [stream.part(0, n), stream.part(n, 2 * n)]

    def counted(half):
        store = RedisStore(client, name)
        return np.concatenate([store.count(half.part(i, i + 8)) for i in range(0, n, 8)])

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(counted, halves)
    for half in (first, second):
        assert (np.diff(half[:, COLUMNS.index("ip_24h")]) > 0).all()
    both = np.concatenate([first, second])
    assert sorted(both[:, COLUMNS.index("ip_7d")]) == list(range(1, 2 * n + 1))
    last = ClickKeys(["last"], np.array([NOON]), ["u1"], ["s0"], ["10.9.9.9"], ["ad1"], [True])
    here = ProcessStore()
    here.count(stream)
    np.testing.assert_array_equal(RedisStore(client, name).count(last), here.count(last))


def test_what_the_first_version_kept_is_counted_on_and_that_version_is_refused_then(client):
    """The rows were written by the scripts of commit d843efc, which had counted the first 160 clicks."""
    stream = gateway(240, 30, 5)
    stream = stream._replace(ips=[f"10.9.{i % 2}.{i % 3}" for i in range(240)])
    kept = json.loads(gzip.decompress(Path(__file__).with_name("redis_rows_1.json.gz").read_bytes()))
    for key, value in kept.items():
        if isinstance(value, str):
            client.set(bytes.fromhex(key), bytes.fromhex(value))
        else:
            client.zadd(bytes.fromhex(key), {bytes.fromhex(member): score for member, score in value.items()})
    here = ProcessStore()
    here.count(stream.part(0, 160))
    store = RedisStore(client, "v1")
    for part in cut(stream.part(160, 240), [1, 2, 30]):
        np.testing.assert_array_equal(store.count(part), here.count(part))
    with pytest.raises(redis.ResponseError, match="too short"):  # as that version read the clock
        client.eval("return struct.unpack('<ddd', redis.call('GET', KEYS[1]))", 1, "{v1:clock0}:0:")


def test_an_ip_that_redis_dropped_counts_its_users_and_sessions_from_zero(client):
    stream, name = gateway(200, 20, 7), next(_names)
    store = RedisStore(client, name)
    store.count(stream)
    (ip,) = [key for key in client.scan_iter(f"{{{name}:ip*") if b":u" not in key and b":s" not in key]
    client.delete(ip)
    alone = ProcessStore()
    again = stream._replace(click_ids=[f"again {i}" for i in range(200)])
    of_ip = [i for i, column in enumerate(COLUMNS) if column.startswith("ip")]
    np.testing.assert_array_equal(store.count(again)[:, of_ip], alone.count(again)[:, of_ip])


def test_a_redis_that_forgot_the_scripts_is_given_them_again(client):
    stream, name = gateway(40, 9, 3), next(_names)
    first = RedisStore(client, name).count(stream.part(0, 20))
    client.script_flush()
    second = RedisStore(client, name).count(stream.part(20, 40))
    np.testing.assert_array_equal(np.concatenate([first, second]), ProcessStore().count(stream))


def test_a_full_redis_drops_the_least_used_and_what_was_dropped_counts_from_zero(tmp_path):
    def visits(names, at):
        n = len(names)
        return ClickKeys([f"{at} {name}" for name in names], np.full(n, at), names, names, names, names, [True] * n)

    with serving(tmp_path) as port, redis.Redis(port=port) as client:
        client.config_set("maxmemory-policy", "volatile-lfu")
        store = RedisStore(client)
        regulars = [f"regular {i}" for i in range(20)]
        for k in range(30):
            store.count(visits(regulars, NOON + k * MINUTE))
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
        for k in range(4_000 // 50):
            counts = store.count(visits([f"new {k} {i}" for i in range(50)], NOON + HOUR))
            assert (counts[:, COLUMNS.index("user_24h")] == 1).all()
        assert client.info("stats")["evicted_keys"] > 1_000
        assert client.exists("{onlineguard:clock0}:0:") == 1
        seen = store.count(visits(regulars, NOON + 2 * HOUR))[:, COLUMNS.index("user_24h")]
        assert (seen >= 1).all()
        assert (seen == 31).mean() > 0.8
        client.delete(*[key for key in client.keys("*") if b"clock" not in key][::2])
        again = store.count(visits(regulars, NOON + 3 * HOUR))
        assert ((again >= 0).all(), again[:, COLUMNS.index("user_24h")].min()) == (True, 1)


@pytest.mark.slow
def test_every_key_but_the_clock_expires_and_no_entity_grows_beyond_its_bound(client):
    name = next(_names)
    RedisStore(client, name, ttl_hours=60).count(gateway(3_000, 1_000, 4))
    keys = list(client.scan_iter(f"{{{name}:*"))
    lasting = [key for key in keys if client.pttl(key) == -1]
    assert len(lasting) == 1
    assert lasting[0].startswith(f"{{{name}:clock".encode())
    ttls = {key: client.pttl(key) / HOUR_MS for key in keys if key != lasting[0]}
    ips = [key for key in ttls if key.startswith(f"{{{name}:ip".encode())]
    members = [key for key in ips if b":u" in key or b":s" in key]
    longer = [ttls[key] for key in ips if key not in members]
    short = [ttl for key, ttl in ttls.items() if key not in ips or key in members]
    assert 59 < min(short) <= max(short) <= 60
    assert 59 + 144 < min(longer) <= max(longer) <= 60 + 144
    bounds = {"user": 320, "session": 320, "prefix": 320, "ad": 410, "id": 160, "ip": 860}
    for kind, bound in bounds.items():
        of_kind = [key for key in keys if key.startswith(f"{{{name}:{kind}".encode()) and key not in members]
        assert of_kind
        assert max(map(client.memory_usage, of_kind)) <= bound, kind
    assert len(members) > 1_000
    assert max(map(client.memory_usage, members)) <= 160


def test_a_cluster_node_refuses_a_script_that_touches_two_slots(cluster):
    """Without which the test below would prove nothing."""
    with redis.Redis(port=cluster.get_default_node().port) as node:
        with pytest.raises(redis.ResponseError, match="same slot"):
            node.eval("return redis.call('GET', KEYS[1])", 2, "a", "b")


@settings(max_examples=20)
@given(streams(30))
def test_a_cluster_gives_the_same_numbers_and_refuses_no_script(cluster, keys):
    np.testing.assert_array_equal(RedisStore(cluster, next(_names)).count(keys), ProcessStore().count(keys))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"namespace": "{a}"}, "namespace is '{a}'; it must be text without braces"),
        ({"ttl_hours": 50}, "ttl_hours is 50; it must be more than 50, e.g. 96"),
    ],
)
def test_a_store_that_could_not_be_right_is_refused(client, arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        RedisStore(client, **arguments)
    with redis.Redis(decode_responses=True) as other, pytest.raises(InvalidArgument, match="decode_responses=True"):
        RedisStore(other)
