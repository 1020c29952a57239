"""A client of the service (`onlineguard serve`), for programs that wait for answers and for asyncio.

    from onlineguard.client import Client

    with Client("http://127.0.0.1:8080") as guard:
        guard.wait_until_ready()
        answer = guard.update({"slice": "DE", "features": {"price": 12.5, "quantity": 3}})
        if answer.anomalous:
            ...
        answers = guard.clicks(frame)               # a polars frame of clicks: one answer a row, in order

`AsyncClient` has the same methods, to be awaited. Both keep their connections open, and are for one thread, or one
event loop, at a time.

**What can be sent.** An event, a click or a label is a dict with the fields of `Event`, `Click` or `Label` in
`onlineguard.wire.requests`, or such a struct. Many are an iterable of them, or a polars frame with a column for each
field; in a frame of events, the columns other than slice, id, ts, x and features are the features. Many are sent in
requests of bounded size, one after the other.

**Retries.** A request that got no answer, or the answer 429, 502, 503 or 504, is sent again with exponential backoff,
and not before the time that Retry-After names. Sending again is harmless:

- An event without an id gets one before it is first sent, and a click has its click_id. The service applies an id once
  and gives it the same answer each time.
- A label states a fact about its click, which stays the same when it is stated twice.
- `score`, `explain` and whatever else is read change nothing.

A promotion and a rollback in the registry are sent once, since a second rollback would lead further back.

Any other refusal is a `ServiceError` at once.

**Several services**, each the owner of some slices and users, are asked by a `Router` or an `AsyncRouter`.
"""

try:
    import httpx2 as _installed
except ModuleNotFoundError:
    from onlineguard.extras import require

    require("onlineguard.client", "client")
    raise

from onlineguard.client.aio import AsyncClient
from onlineguard.client.routers import AsyncRouter, Router
from onlineguard.client.sync import Client

del _installed

__all__ = ["AsyncClient", "AsyncRouter", "Client", "Router"]
