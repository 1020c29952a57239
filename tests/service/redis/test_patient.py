"""Which errors of a Redis, or of a cluster, are waited for."""

from threading import Event

import pytest
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.redis.patient import PatientRedis
from redis.exceptions import (
    AskError,
    ClusterError,
    MovedError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
)
from redis.exceptions import ConnectionError as RedisConnectionError


def nobody_there():
    error = RedisClusterException("Redis Cluster cannot be connected. Please provide at least one reachable node")
    error.__cause__ = RedisConnectionError("refused")
    return error


@pytest.mark.parametrize(
    "error",
    [
        ClusterError("TTL exhausted."),
        SlotNotCoveredError("Slot 5 is not covered by the cluster."),
        MovedError("5 127.0.0.1:7000"),
        AskError("5 127.0.0.1:7000"),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
        nobody_there(),
    ],
)
def test_what_a_cluster_says_while_it_mends_itself_is_waited_for(error):
    tries = []

    def call():
        tries.append(1)
        if len(tries) < 3:
            raise error
        return "done"

    redis = PatientRedis("redis://127.0.0.1:1/0", Event(), longest=0.01)
    assert redis.patiently(call) == "done"
    with pytest.raises(JournalUnavailable):
        PatientRedis("redis://127.0.0.1:1/0", Event(), most=0.0).patiently(lambda: tries.clear() or call())


@pytest.mark.parametrize("error", [ResponseError("ERR unknown command"), RedisClusterException("two slots")])
def test_what_no_waiting_mends_is_raised(error):
    def call():
        raise error

    with pytest.raises(type(error)):
        PatientRedis("redis://127.0.0.1:1/0", Event()).patiently(call)
