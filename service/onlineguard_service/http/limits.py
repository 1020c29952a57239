"""How much one may send: bytes of a request, and requests a second."""

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from starlette.types import Receive

REMEMBERED = 10_000  # keys and addresses whose requests are counted; 2 MB


class TooLarge(Exception):
    """More bytes than the limit."""


class Disconnected(Exception):
    """The client went away before it had sent all."""


async def read(receive: Receive, limit: int, seconds: float) -> bytes:
    """The body of a request. Raises TooLarge as soon as more than `limit` bytes came.

    Raises Disconnected if the client left, and TimeoutError if what is left after its first part has not come in time.
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
    async with asyncio.timeout(seconds):
        while message.get("more_body", False):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            size += len(message.get("body", b""))
            if size > limit:
                raise TooLarge
            parts.append(message.get("body", b""))
    return b"".join(parts)


class RateLimit:
    """A token bucket each: `rate` requests a second, and a second's worth (at least one) at once.

    Memory is bounded: of more than `remembered` askers, the one longest not heard of is forgotten, and starts anew.
    """

    def __init__(self, rate: float, remembered: int = REMEMBERED, clock: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._remembered, self._clock = rate, max(rate, 1.0), remembered, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when there were so many

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, who: str) -> float:
        """0 if the request may be answered, and it is counted; else the seconds to wait before another is sent."""
        now = self._clock()
        tokens, then = self._buckets.pop(who, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[who] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / self._rate


@lru_cache(4_096)
def network(address: str) -> str:
    """Who asks from an address: an IPv4 address itself, of IPv6 the /64, which one customer commonly has whole.

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
