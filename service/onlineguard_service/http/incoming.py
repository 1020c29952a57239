"""Bodies of requests as they come in: within limits, unpacked, and large ones in turns."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope

from onlineguard_service.fair_queues import QUEUE
from onlineguard_service.http.bodies import media
from onlineguard_service.http.encoded import unpacked
from onlineguard_service.http.limits import Crowded, LargeBodies, TooLarge, read
from onlineguard_service.http.problems import RETRY_SECONDS, Refused, retry_after, too_large
from onlineguard_service.patience import give_way

OBJECT_BYTES = 262_144  # of a body that holds one object; more of any JSON takes a tenth of a second to decode
LARGE_BYTES = 65_536  # of a body that waits until the large ones before it are decoded
BODY_SECONDS = 30.0  # within which the rest of a body must arrive after its first part


class Bodies:
    """Reads bodies of requests.

    limit: bytes of one body.
    large: bytes of all bodies together that come in several parts.
    ready: raises Refused before the service is ready.
    """

    def __init__(self, limit: int, large: int, ready: Callable[[], Any]):
        self._limit, self._large, self._ready = limit, LargeBodies(large), ready

    @property
    def held(self) -> int:
        """Bytes of large bodies that are held now."""
        return self._large.held

    def holding(self) -> AbstractContextManager[Callable[[int], None]]:
        """What `read` is given as `take`: the bytes of a large body count until the block ends."""
        return self._large.holding()

    async def read(self, scope: Scope, receive: Receive, take: Callable[[int], None], of_object: bool = False) -> bytes:
        """The plain body. Of a client's large ones one is given back at a time, with turns for others before it."""
        limit, encoding = self._limit, b""
        if of_object:
            limit = min(limit, OBJECT_BYTES)
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > limit):
                raise too_large(limit, of_object)
            if name == b"content-encoding":
                encoding = value
        try:
            body = await read(receive, limit, BODY_SECONDS, take)
            if not encoding and len(body) <= LARGE_BYTES:
                return body
            queue = QUEUE.get()
            async with nullcontext() if queue is None else queue.large:
                if encoding:
                    body = await unpacked(body, encoding, limit)
                    take(len(body))
                await give_way()
            return body
        except Crowded:
            raise Refused(
                503, "large requests are being answered; send it again, or in smaller parts", retry_after(RETRY_SECONDS)
            ) from None
        except TooLarge:
            raise too_large(limit, of_object) from None
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None

    async def of(self, request: Request, of_object: bool = False) -> bytes:
        """The body of a request, whose bytes count only while it is read."""
        self._ready()
        with self.holding() as take:
            return await self.read(request.scope, request.receive, take, of_object)

    async def of_object(self, request: Request) -> bytes:
        """The body of a request that holds one object, and is soon answered."""
        if media(request.headers.get("content-type", "").encode("latin-1")) != "json":
            raise Refused(415, "this route takes one object as application/json")
        return await self.of(request, of_object=True)
