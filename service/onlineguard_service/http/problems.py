"""Refusals and failures, answered with problems in the form of RFC 9457."""

import logging
import math

import msgspec

from onlineguard.errors import Conflict, InvalidArgument
from onlineguard.wire.answers import Problem
from onlineguard_service.errors import (
    IdTaken,
    JournalUnavailable,
    LearnsElsewhere,
    OnTrial,
    RegistryUnavailable,
    StaleSnapshots,
)

RETRY_SECONDS = 1  # that a client is asked to wait before it tries again
REGISTRY_SECONDS = 5  # the same where a registry cannot be reached, or snapshots are too old
PROBLEM = b"application/problem+json"
SAFE = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]  # headers of every answer

_log = logging.getLogger(__name__)


class Refused(Exception):
    """A request is refused, with this status, reason and headers."""

    def __init__(self, status: int, detail: str, headers: list[tuple[bytes, bytes]] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or []


def problem(error: Exception, route: str) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers for an error. One that nobody foresaw is logged, and the client does not see it."""
    more: list[tuple[bytes, bytes]] = []
    if isinstance(error, Refused):
        status, detail, more = error.status, error.detail, error.headers
    elif isinstance(error, InvalidArgument):
        status, detail = 409 if isinstance(error, IdTaken | OnTrial) else 422, str(error)
    elif isinstance(error, Conflict):
        status, detail = 409, str(error)
    elif isinstance(error, LearnsElsewhere):
        status, detail = 421, str(error)
    elif isinstance(error, RegistryUnavailable | StaleSnapshots):
        status, detail, more = 503, str(error), retry_after(REGISTRY_SECONDS)
    elif isinstance(error, JournalUnavailable):
        status, detail, more = 503, str(error), retry_after(RETRY_SECONDS)
        _log.error("journal unavailable: %s", error, extra={"route": route, "status": status})
    else:
        status, detail = 500, "the request failed, and the service has logged why"
        _log.error("request failed", exc_info=error, extra={"route": route, "status": status})
    title = _TITLES.get(status, "Error")
    body = msgspec.json.encode(Problem(title=title, status=status, detail=detail))
    return status, body, [(b"content-type", PROBLEM), *SAFE, (b"content-length", b"%d" % len(body)), *more]


_TITLES = {
    400: "Bad request",
    401: "Key needed",
    403: "Key not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "Request too slow",
    409: "Taken",
    413: "Too large",
    415: "Wrong content type",
    421: "Wrong host",
    422: "Wrong field",
    429: "Too many requests",
    500: "Failed",
    503: "Not available",
}


def too_large(limit: int, of_object: bool = False) -> Refused:
    """A body has more bytes than the limit, which is a constant for a route that takes one object."""
    way_out = "as many as this route takes" if of_object else "the body_limit; send it in parts"
    return Refused(413, f"the body has more than {limit:,} bytes, {way_out}")


def too_many(count: int, noun: str, limit: int, at_least: bool = False) -> Refused:
    """A request holds more items than the limit."""
    least = "at least " if at_least else ""
    return Refused(
        413, f"the request holds {least}{count:,} {noun}s, more than the batch_limit of {limit:,}; send it in parts"
    )


def retry_after(seconds: float) -> list[tuple[bytes, bytes]]:
    """The header that asks a client to wait so many seconds, rounded up."""
    return [(b"retry-after", b"%d" % max(1, math.ceil(seconds)))]


def shown(value: object) -> str:
    """A value that a client sent, as JSON of at most 100 characters."""
    text = msgspec.json.encode(value).decode("utf-8", "replace")
    return text if len(text) <= 100 else text[:99] + "…"
