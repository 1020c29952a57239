"""Limits on what a client may send: connections, the bytes of requests, requests a second, and from where."""

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from starlette.types import Receive

from onlineguard_service.http.forwarded import Proxies

REMEMBERED = 10_000  # callers whose requests are counted; 2 MB


class TooLarge(Exception):
    """The body has more bytes than the limit."""


class Crowded(Exception):
    """The large bodies under way have as many bytes as they may."""


class Disconnected(Exception):
    """The client went away before it had sent the whole body."""


class Connections(NamedTuple):
    """How many connections may be open: `most` at once, and of one network `most_each`.

    A proxy has those of many clients. It may have all but `most_each`, so that others reach the service beside it.
    """

    most: int
    most_each: int
    proxies: Proxies

    def of(self, address: str) -> int:
        """How many the network of this address may have.

        >>> bounds = Connections(2_000, 256, Proxies(["10.0.0.1"]))
        >>> bounds.of("192.0.2.7"), bounds.of("10.0.0.1")
        (256, 1744)
        """
        if self.proxies.trusts(address):
            return max(self.most - self.most_each, self.most_each)
        return self.most_each


class LargeBodies:
    """Counts the bytes of the bodies that are being read or answered, so that they never fill the memory.

    A body that arrives in one part is not counted: the small requests of others are answered however many large ones
    there are, and the server holds that part anyway.
    """

    def __init__(self, most: int):
        self._most = self._left = most

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._most - self._left

    @contextmanager
    def holding(self) -> Generator[Callable[[int], None]]:
        """What the block is given takes so many bytes, until the block ends, or raises Crowded."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if size > self._left:
                raise Crowded
            self._left -= size
            held += size

        try:
            yield take
        finally:
            self._left += held


async def read(receive: Receive, limit: int, seconds: float, take: Callable[[int], None]) -> bytes:
    """The body of a request; `take` is told the bytes of one that comes in several parts, as they come.

    Raises what `take` raises, TooLarge as soon as more than `limit` bytes have arrived, Disconnected if the client
    leaves, and TimeoutError if the rest of the body does not arrive within so many seconds of its first part.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise TooLarge
    if not message.get("more_body", False):
        return body
    parts, size = [body], len(body)
    take(size)
    async with asyncio.timeout(seconds):
        while message.get("more_body", False):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            size += len(message.get("body", b""))
            if size > limit:
                raise TooLarge
            take(len(message.get("body", b"")))
            parts.append(message.get("body", b""))
    return b"".join(parts)


class RateLimit:
    """A token bucket for each caller: `rate` requests a second, and a second's worth of them (at least one) at once.

    Memory is bounded: beyond `remembered` callers, the one not heard from for longest is forgotten, and starts anew.
    """

    def __init__(self, rate: float, remembered: int = REMEMBERED, clock: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._remembered, self._clock = rate, max(rate, 1.0), remembered, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = (
            OrderedDict()
        )  # tokens, and the time when they were counted

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, caller: str) -> float:
        """0 if the request may be answered, which counts it; else the seconds to wait before sending another."""
        now = self._clock()
        tokens, then = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / self._rate


@lru_cache(4_096)
def network(address: str) -> str:
    """The network that one client has: an IPv4 address, or the /64 of an IPv6 address.

    >>> network("192.0.2.7"), network("2001:db8::1:2:3:4")
    ('192.0.2.7', '2001:db8::/64')
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


@lru_cache(4_096)
def is_local(host: str) -> bool:
    """Whether a Host header names this machine, or an address, which no other site's name can stand for.

    >>> is_local("localhost:8080"), is_local("[::1]:80"), is_local("192.0.2.7"), is_local("rebound.example")
    (True, True, True, False)
    """
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost" or name.lower().endswith(".localhost")
    return True
