"""Content encodings over HTTP: bodies that come packed, and answers that are packed for whoever accepts that."""

import asyncio
import re
from functools import lru_cache

from starlette.types import Message, Send

from onlineguard.wire.encodings import Encoding, available, packed, unpacker
from onlineguard_service.http.limits import TooLarge
from onlineguard_service.http.problems import Refused, shown
from onlineguard_service.patience import give_way

LARGE = 4_096  # bytes of an answer that is packed; a smaller one is some packets in any case
_ASIDE = 65_536  # bytes that another thread packs: the loop would stand still for a millisecond
_UNPACKED_AT_ONCE = 262_144  # bytes, under a millisecond, before others get their turn


async def unpacked(body: bytes, encoding: bytes, limit: int) -> bytes:
    """A body as it was before its content encoding.

    Raises Refused for an unknown encoding, TooLarge beyond `limit` bytes.
    """
    name = encoding.strip().lower().removeprefix(b"x-").decode("latin-1")
    if name in ("", "identity"):
        return body
    if name not in available():
        told = shown(encoding.decode("latin-1"))
        known = " or ".join(sorted(available()))
        raise Refused(
            415,
            f"the content encoding is {told}; it must be {known}, or none",
            [(b"accept-encoding", ", ".join(available()).encode())],
        )
    of, parts, size = unpacker(name), list[bytes](), 0
    while not of.eof:
        try:
            parts.append(of.part(b"" if parts else body, _UNPACKED_AT_ONCE))
        except ValueError as error:
            raise Refused(400, f"the body is no {name}, as its content encoding says: {error}") from None
        size += len(parts[-1])
        if size > limit:
            raise TooLarge
        if len(parts[-1]) < _UNPACKED_AT_ONCE:  # all of the body was taken
            break
        await give_way()
    if not of.eof:
        raise Refused(400, f"the body is no whole {name}: its end is missing")
    if of.more:
        raise Refused(400, f"the body goes on behind the end of its {name}; pack it as one")
    return b"".join(parts)


@lru_cache(256)
def accepted(header: bytes) -> Encoding | None:
    """The best encoding that an Accept-Encoding allows; None for none but the plain one.

    >>> accepted(b"gzip, deflate;q=0.5"), accepted(b"gzip;q=0"), accepted(b"br")
    ('gzip', None, None)
    """
    weights: dict[str, float] = {}
    for part in header.decode("latin-1").lower().split(","):
        name, _, rest = part.partition(";")
        weight = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*", rest)
        weights[name.strip()] = float(weight[1]) if weight else 1.0
    return max(
        (each for each in available() if weights.get(each, weights.get("*", 0.0)) > 0.0),
        key=lambda each: weights.get(each, weights.get("*", 0.0)),
        default=None,
    )


def packing(send: Send, encoding: Encoding) -> Send:
    """Sends a large answer that comes in one part in an encoding, and any other as it is."""
    held: list[Message] = []

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in message["headers"]}
            if b"content-length" in names and b"content-encoding" not in names:
                held.append(message)
                return
        elif held:
            start, body = held.pop(), message.get("body", b"")
            if len(body) >= LARGE and not message.get("more_body", False):
                body = await asyncio.to_thread(packed, body, encoding) if len(body) > _ASIDE else packed(body, encoding)
                message = {**message, "body": body}
                headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
                headers += [
                    (b"content-length", b"%d" % len(body)),
                    (b"content-encoding", encoding.encode()),
                    (b"vary", b"accept-encoding"),
                ]
                start = {**start, "headers": headers}
            await send(start)
        await send(message)

    return sending
