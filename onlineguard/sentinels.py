"""The Redis at a URL: one at an address, or the primary that Sentinels name, whichever that is at the time.

    redis+sentinel://user:password@host:26379,host2:26379/primary/0?sentinel_user=watcher&sentinel_password=secret

The path has the name by which the Sentinels know the primary, and the number of the database. User and password before
the hosts are those of Redis, and those in the query are the Sentinels'. `rediss+sentinel` speaks TLS with both, and
`ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` in the query are files in PEM, as redis-py has them.

All Sentinels are asked whenever a connection is made, so that a connection that broke leads to the primary of now. Some
of them may be down. Where they differ, the one counts that knows of the latest failover: another may be cut off from
the rest, and still name the Redis that was the primary before.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncPool
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, SentinelConnectionPool

from onlineguard.errors import InvalidArgument

SCHEMES = ("redis+sentinel", "rediss+sentinel")
PORT = 26_379
WAIT = 1.0  # seconds for a connection to a Sentinel, and for its answer
SHORT_WAIT = 0.25  # the same for asyncio, where requests wait for it


def connected(url: str, **options: Any) -> Any:
    """A `redis.Redis` of the URL, with these options. Raises InvalidArgument for a wrong URL of Sentinels."""
    sentinels = parsed(url)
    if sentinels is None:
        return redis.Redis.from_url(url, **options)
    return redis.Redis.from_pool(
        SentinelConnectionPool(sentinels.name, _Finder(sentinels), **(sentinels.primary | options))
    )


def connected_async(url: str, **options: Any) -> Any:
    """A `redis.asyncio.Redis`, otherwise as `connected`."""
    sentinels = parsed(url)
    if sentinels is None:
        return redis.asyncio.Redis.from_url(url, **options)
    return redis.asyncio.Redis.from_pool(
        AsyncPool(sentinels.name, _AsyncFinder(sentinels), **(sentinels.primary | options))
    )


async def found(url: str) -> dict[str, Any]:
    """Where the Redis at a URL is now, as `redis.connection.parse_url` tells it.

    Raises ConnectionError where no Sentinel names one.
    """
    sentinels = parsed(url)
    if sentinels is None:
        return dict(parse_url(url))
    try:
        host, port = await _AsyncFinder(sentinels).discover_master(sentinels.name)
    except redis.RedisError as error:
        raise ConnectionError(str(error)) from error
    kind = redis.SSLConnection if sentinels.primary.get("ssl") else redis.Connection
    return sentinels.primary | {"host": host, "port": port, "connection_class": kind}


class Sentinels(NamedTuple):
    """What a URL of Sentinels says."""

    addresses: Sequence[tuple[str, int]]
    name: str  # of the primary
    primary: dict[str, Any]  # options of a connection to it
    own: dict[str, Any]  # of a connection to a Sentinel


def parsed(url: str) -> Sentinels | None:
    """None for a URL that is not of Sentinels. Raises InvalidArgument for one that names no Sentinel or no primary."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        return None
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, db = parts.path.strip("/").partition("/")
    addresses = [re.fullmatch(r"(\[[^]]+\]|[^:\[\]]+)(?::(\d+))?", host) for host in hosts.split(",") if host]
    if not addresses or not name or None in addresses:
        shown = parts._replace(netloc="…", query="").geturl()
        raise InvalidArgument(
            f"{shown!r} names no Sentinel or no primary; write redis+sentinel://host:26379,host2:26379/name"
        )
    if not (db or "0").isdecimal():
        raise InvalidArgument(f"the database after {name!r} is {db!r}; it must be a number, e.g. 0")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    theirs = {"username": query.pop("sentinel_user", None), "password": query.pop("sentinel_password", None)}
    try:
        primary = parse_url(f"redis://{user}@host/{db or 0}?{urlencode(query)}")
    except ValueError as error:
        raise InvalidArgument(f"the query of a URL of Sentinels is wrong: {error}") from None
    del primary["host"]
    if parts.scheme.startswith("rediss"):
        primary["ssl"] = True
    shared = {each: primary[each] for each in primary if each.startswith("ssl")}
    return Sentinels(
        [(each[1].strip("[]"), int(each[2] or PORT)) for each in addresses if each is not None],
        unquote(name),
        primary,
        {**theirs, **shared, "protocol": 2},
    )


class _Finder:
    """Asks Sentinels for redis-py's pool of connections, whenever it makes one."""

    def __init__(self, sentinels: Sentinels):
        self._sentinels = sentinels

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the primary. Raises MasterNotFoundError."""
        return _chosen(self._sentinels, [self._asked(*address) for address in self._sentinels.addresses])

    def _asked(self, host: str, port: int) -> Any:
        timeouts = {"socket_timeout": WAIT, "socket_connect_timeout": WAIT}
        options: dict[str, Any] = {**self._sentinels.own, **timeouts, "retry": Retry(NoBackoff(), 0)}
        try:
            with redis.Redis(host, port, **options) as sentinel:
                return sentinel.sentinel_masters(), sentinel.sentinel_get_master_addr_by_name(self._sentinels.name)
        except (redis.RedisError, OSError) as error:
            return error


class _AsyncFinder:
    """The same for asyncio. All are asked at once."""

    def __init__(self, sentinels: Sentinels):
        self._sentinels = sentinels

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """See `_Finder.discover_master`."""
        answers = await asyncio.gather(*(self._asked(*address) for address in self._sentinels.addresses))
        return _chosen(self._sentinels, answers)

    async def _asked(self, host: str, port: int) -> Any:
        timeouts = {"socket_timeout": SHORT_WAIT, "socket_connect_timeout": SHORT_WAIT}
        options: dict[str, Any] = {**self._sentinels.own, **timeouts, "retry": AsyncRetry(NoBackoff(), 0)}
        try:
            async with redis.asyncio.Redis(host=host, port=port, **options) as sentinel:
                name = self._sentinels.name
                return await sentinel.sentinel_masters(), await sentinel.sentinel_get_master_addr_by_name(name)
        except (redis.RedisError, OSError) as error:
            return error


def _chosen(sentinels: Sentinels, answers: Sequence[Any]) -> tuple[str, int]:
    """The primary by what Sentinels answered: all that each knows, by name, and the address that it names; or an error.

    In a failover the address is that of the replica that was promoted, while the rest is still that of the old primary.
    """
    usable: list[tuple[int, str, int]] = []
    why: list[str] = []
    for (host, port), answer in zip(sentinels.addresses, answers, strict=True):
        if isinstance(answer, Exception):
            why.append(f"{host}:{port}: {str(answer) or type(answer).__name__}")
            continue
        known, address = answer
        about = known.get(sentinels.name)
        if about is None or address is None:
            why.append(f"{host}:{port} knows none of that name")
            continue
        epoch = int(about["config-epoch"])
        if address != (about["ip"], about["port"]):
            usable.append((epoch + 1, *address))
        elif not about["is_master"] or about["is_sdown"] or about["is_odown"]:
            why.append(f"{host}:{port} says that it is down")
        else:
            usable.append((epoch, *address))
    if not usable:
        raise MasterNotFoundError(f"no Sentinel names a primary {sentinels.name!r}: {'; '.join(why)}")
    _, host, port = max(usable)
    return host, port
