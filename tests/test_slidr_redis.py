"""Counters in Redis: equal to those in the process, under Cluster too, and what they leave behind."""

import itertools
import time

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.counters import HOUR_MS, ProcessStore
from onlineguard.slidr.redis_store import RedisStore
from redis_server import serving
from slidr_oracle import Oracle
from slidr_streams import cut, gateway, streams

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


@settings(max_examples=20)
@given(streams(30))
def test_a_cluster_gives_the_same_numbers_and_refuses_no_script(cluster, keys):
    np.testing.assert_array_equal(RedisStore(cluster, next(_names)).count(keys), ProcessStore().count(keys))
