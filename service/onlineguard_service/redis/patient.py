"""A Redis that may be away for a while: which errors pass by themselves, and a connection that waits for that."""

import logging
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any

from redis import RedisCluster
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from onlineguard.sentinels import connected
from onlineguard_service.errors import JournalUnavailable

FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 30.0  # seconds
REPLICATED = 1_000  # ms that replicas are waited for
REDIS_GONE = (  # wait, and it may be there again
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ClusterError,  # it is down, its primary is, or a slot has been on its way for long
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)

Call = tuple[Sequence[str], Sequence[Any]]  # the keys and the arguments of a script

_log = logging.getLogger(__name__)


class PatientRedis:
    """A connection to one Redis, to the cluster that it is a node of, or to the primary that Sentinels name.

    stop: nothing is waited for once it is set.
    most: seconds that `patiently` waits; by default without end.
    longest: seconds between two tries, at most.

    `url` may be one of Sentinels, see `onlineguard.sentinels`.
    """

    def __init__(self, url: str, stop: Event, most: float = float("inf"), longest: float = LONGEST_BACKOFF):
        self._url, self._stop, self._most, self._longest = url, stop, most, longest
        self._client: Any = None
        self._backoff = FIRST_BACKOFF
        self.alone = True  # known once there is a client: one Redis, where all keys are in one place

    @property
    def client(self) -> Any:
        """Connected when it is first used, which may raise one of `REDIS_GONE`."""
        if self._client is None:
            options: dict[str, Any] = {"socket_timeout": 10.0, "socket_connect_timeout": 5.0, "protocol": 2}
            options["retry"] = Retry(NoBackoff(), 0)  # a second try is ours, or a lease runs out meanwhile
            client = connected(self._url, **options)
            try:
                told: Any = client.info("cluster")
                self.alone = not told.get("cluster_enabled")
            except BaseException:
                client.close()
                raise
            if not self.alone:
                client.close()
                client = RedisCluster.from_url(self._url, **options)
            self._client = client
        return self._client

    def run(self, script: str, calls: Sequence[Call], replicas: int = 0) -> list[Any]:
        """What a script returns for each of several keys and arguments, in one round trip to each Redis.

        replicas: how many must have what it wrote. Raises TryAgainError where fewer do, who may have it all the same.
        """
        with what_passes():
            if replicas:
                return self._replicated(script, calls, replicas)
            if len(calls) == 1:
                ((keys, arguments),) = calls
                return [self.client.eval(script, len(keys), *keys, *arguments)]
            with self.client.pipeline(transaction=False) as pipeline:
                for keys, arguments in calls:
                    pipeline.execute_command("EVAL", script, len(keys), *keys, *arguments)  # a cluster's has no `eval`
                return pipeline.execute()

    def patiently[T](self, call: Callable[[], T]) -> T:
        """What the call returns, tried again while Redis is away. Raises JournalUnavailable when told to stop."""
        until = time.monotonic() + self._most
        while True:
            try:
                with what_passes():
                    result = call()
                self.is_there()
                return result
            except REDIS_GONE as error:
                if self._stop.is_set() or time.monotonic() >= until:
                    raise JournalUnavailable(f"Redis is away: {error}") from error
                self.wait(error, until - time.monotonic())

    def wait(self, error: Exception, most: float) -> None:
        """Longer each time, but no longer than `most` seconds."""
        seconds = min(self._backoff * random.uniform(0.5, 1.0), most)
        self._backoff = min(2 * self._backoff, self._longest)
        if isinstance(error, ReadOnlyError) and self.alone and self._client is not None:
            self._client.connection_pool.disconnect()  # it is a replica now: the name leads to another one
        _log.warning("Redis is away: %s; waiting %.1f s", error, seconds)
        self._stop.wait(seconds)

    def is_there(self) -> None:
        """Redis answered."""
        self._backoff = FIRST_BACKOFF

    def close(self) -> None:
        """Let the connections go."""
        if self._client is not None:
            self._client.close()

    def _replicated(self, script: str, calls: Sequence[Call], replicas: int) -> list[Any]:
        """As `run`. The replicas are those of the connection that wrote: another would ask about nothing."""
        of: dict[Any, list[int]] = {}
        for i, (keys, _) in enumerate(calls):
            of.setdefault(None if self.alone else self.client.get_node_from_key(keys[0]), []).append(i)
        results: list[Any] = [None] * len(calls)
        for node, places in of.items():
            client = self.client if node is None else self.client.get_redis_connection(node)
            try:
                with client.pipeline(transaction=False) as pipeline:
                    for i in places:
                        keys, arguments = calls[i]
                        pipeline.execute_command("EVAL", script, len(keys), *keys, *arguments)
                    pipeline.execute_command("WAIT", replicas, REPLICATED)
                    *found, n = pipeline.execute()
            except (AskError, *REDIS_GONE):
                if node is not None:
                    self.client.nodes_manager.initialize()  # another node may have the slot now
                raise
            if n < replicas:
                raise TryAgainError(f"{n} of {replicas} replicas had what was written after {REPLICATED / 1_000:g} s")
            for i, result in zip(places, found, strict=True):
                results[i] = result
        return results


@contextmanager
def what_passes() -> Generator[None]:
    """Errors that are not among `REDIS_GONE` by their kind, and pass by themselves.

    A Redis takes no writes since too few replicas would have them (min-replicas-to-write). No node of a cluster can be
    reached, or none has a slot. A slot has moved, or is about to.
    """
    try:
        yield
    except AskError as error:
        raise TryAgainError(str(error)) from error
    except ResponseError as error:
        if "NOREPLICAS" in str(error):
            raise TryAgainError(str(error)) from error
        raise
    except RedisClusterException as error:
        if isinstance(error, SlotNotCoveredError) or isinstance(error.__cause__, OSError | RedisError):
            raise TryAgainError(str(error)) from error
        raise
