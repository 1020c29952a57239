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

**What may be sent.** An event is a dict `{"slice", "x" or "features", "id"?, "ts"?}`, a click a dict with the fields of
`slidr.clicks.clicks.SCHEMA`, a label `{"click_id", "purchase_ts"?, "rfm"?}`; a struct with these fields does as well.
Many are an iterable of such, or a polars frame with a column a field; the columns of a frame of events other than
slice, id, ts, x and features are its features. Many are sent in requests of bounded size, one after the other.

**Retries.** A request that got no answer, or the answer 429, 502, 503 or 504, is sent again with exponential backoff,
not before the time that Retry-After names. That is harmless, because an event that has no id gets one before it is
first sent, and a click has its click_id: the service applies an id once and answers it the same. A label says what is
true of its click, and score and explain change nothing. Any other refusal is a `ServiceError` at once.
"""

try:
    import httpx
except ModuleNotFoundError:
    from onlineguard.extras import require

    require("onlineguard.client", "client")
    raise

import asyncio
import os
import random
import ssl
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, cast, overload
from urllib.parse import quote

import msgspec

from onlineguard.errors import InvalidArgument, ServiceError, ServiceUnavailable
from onlineguard.wire.answers import (
    ClickAnswer,
    EventAnswer,
    Explanation,
    LabelAnswer,
    SliceKey,
    SlicePage,
    SliceState,
)

if TYPE_CHECKING:
    import polars as pl

URL = "http://127.0.0.1:8080"
RETRIED = frozenset({429, 502, 503, 504})  # too many requests; a proxy without a service; not ready; a slow proxy
LONGEST_BACKOFF = 10.0  # seconds
LONGEST_WAIT = 120.0  # seconds; a Retry-After beyond that is not waited for
MAX_BYTES = 1 << 20  # of a request, a quarter of what the service takes by default

One = Mapping[str, Any] | msgspec.Struct
Of = Literal["events", "clicks"]


class _Call(NamedTuple):
    method: str
    path: str
    body: bytes | None = None
    query: Mapping[str, str] = MappingProxyType({})


# What is written once for both clients: a conversation yields a call to send, and gets the response or the error of
# the connection; or it yields seconds to wait. What it returns is the result of the client's method.
type _Talk[T] = Generator[_Call | float, httpx.Response | httpx.TransportError | None, T]


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


class _Talks[H: (httpx.Client, httpx.AsyncClient)]:
    """The conversations, without any input or output."""

    _connections: type[H]

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        retries: int = 5,
        backoff: float = 0.1,
        batch: int = 1_000,
        verify: bool | str | Path | ssl.SSLContext = True,
        cert: str | tuple[str, str] | None = None,
    ):
        url = base_url or os.environ.get("ONLINEGUARD_URL") or URL
        if not url.startswith(("http://", "https://")):
            raise InvalidArgument(f"base_url is {url!r}; it must begin with http:// or https://, e.g. {URL}")
        if batch < 1:
            raise InvalidArgument(f"batch is {batch}; it must be at least 1, e.g. 1000 events a request")
        if retries < 0:
            raise InvalidArgument(f"retries is {retries}; it must be at least 0, where 0 sends each request once")
        if not timeout > 0 or not backoff > 0:
            raise InvalidArgument(f"timeout is {timeout} and backoff {backoff}; both must be more than 0 seconds")
        key = api_key or os.environ.get("ONLINEGUARD_API_KEY")
        self.base_url = url.rstrip("/")
        self._retries, self._backoff, self._batch = retries, backoff, batch
        self._http: H = self._connections(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            verify=_context(verify, cert) if isinstance(verify, str | Path) or cert is not None else verify,
        )

    def _each[T](self, path: str, kind: type[T], objects: Any, name: str) -> _Talk[Any]:
        """POST one object, or many in requests of bounded size; the answer, or the answers in order."""
        answers: list[T] = []
        single, rows = _rows(objects, name)
        for bodies in _requests(rows, name, self._batch):
            try:
                response = yield from self._answered(_Call("POST", path, b"[" + b",".join(bodies) + b"]"))
                got = _decode(response, list[kind])
                if len(got) != len(bodies):
                    raise ServiceError("Not as many answers as events", f"{len(got)} answers to {len(bodies)} {name}")
            except ServiceError as error:
                error.answers = answers
                raise
            answers += got
        return answers[0] if single else answers

    def _get[T](self, kind: type[T], path: str, query: dict[str, str]) -> _Talk[T]:
        response = yield from self._answered(_Call("GET", path, query=query))
        return _decode(response, kind)

    def _slices(
        self, of: Of | None, sort: str, descending: bool, limit: int, offset: int, contains: str
    ) -> _Talk[SlicePage]:
        query = {"sort": sort, "order": "desc" if descending else "asc", "limit": str(limit), "offset": str(offset)}
        query |= {"contains": contains} if contains else {}
        return self._get(SlicePage, "/v1/slices", query | ({} if of is None else {"of": of}))

    def _slice(self, key: SliceKey, of: Of) -> _Talk[SliceState]:
        text = key if isinstance(key, str) else msgspec.json.encode(key).decode()
        return self._get(SliceState, f"/v1/slices/{quote(text, safe='')}", {"of": of})

    def _explain(self, event: One) -> _Talk[Explanation]:
        response = yield from self._answered(_Call("POST", "/v1/explain", _encoded(event, "event", 0)))
        return _decode(response, Explanation)

    def _ready(self) -> _Talk[bool]:
        """Whether it is ready; asked once, and False where nobody answers."""
        response = yield _Call("GET", "/readyz")
        if isinstance(response, httpx.Response) and response.status_code not in RETRIED:
            if not response.is_success:
                raise _refusal(response)
            return True
        return False

    def _wait_until_ready(self, timeout: float) -> _Talk[None]:
        end, pause = time.monotonic() + timeout, 0.05
        while True:
            response = yield _Call("GET", "/readyz")
            if isinstance(response, httpx.Response) and response.is_success:
                return
            problem = _failure(response, self.base_url)
            if not isinstance(problem, ServiceUnavailable) or time.monotonic() + pause > end:
                raise problem
            yield pause
            pause = min(2 * pause, 1.0)

    def _answered(self, call: _Call) -> _Talk[httpx.Response]:
        """The response of success, after as many retries as it takes."""
        for attempt in range(self._retries + 1):
            response = yield call
            if isinstance(response, httpx.Response) and response.is_success:
                return response
            problem = _failure(response, self.base_url)
            wait = _wait(response, self._backoff, attempt)
            if not isinstance(problem, ServiceUnavailable) or attempt == self._retries or wait > LONGEST_WAIT:
                raise problem
            yield wait
        raise AssertionError("the last attempt returns or raises")


class Client(_Talks[httpx.Client]):
    """Calls the service and waits for the answer. A context manager; `close` ends its connections.

    base_url: by default the environment's ONLINEGUARD_URL, else http://127.0.0.1:8080.
    api_key: by default the environment's ONLINEGUARD_API_KEY, else none.
    timeout: seconds to wait for a connection, and for the answer to one request.
    retries: how often a request is sent again; 0 for never.
    backoff: seconds before the first retry; doubled with each, up to 10 s, of which a random half or more is waited.
    batch: most events in one request; a request also stays under 1 MiB.
    verify: False trusts any server (for trials); a file of certificates, or an SSL context, trusts those.
    cert: the client's own certificate: a file, or the files of certificate and key.

    Every method raises InvalidArgument for what cannot be sent, ServiceUnavailable when the service could not be
    reached within the retries, and ServiceError for what it refused.
    """

    _connections = httpx.Client

    @overload
    def update(self, events: One) -> EventAnswer: ...
    @overload
    def update(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    def update(self, events: Any) -> Any:
        """Score events with what was known before each, then learn from it. One event, or many."""
        return self._run(self._each("/v1/update", EventAnswer, events, "events"))

    @overload
    def score(self, events: One) -> EventAnswer: ...
    @overload
    def score(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    def score(self, events: Any) -> Any:
        """Score events and learn nothing. One event, or many."""
        return self._run(self._each("/v1/score", EventAnswer, events, "events"))

    @overload
    def clicks(self, clicks: One) -> ClickAnswer: ...
    @overload
    def clicks(self, clicks: "Iterable[One] | pl.DataFrame") -> list[ClickAnswer]: ...
    def clicks(self, clicks: Any) -> Any:
        """Decide which clicks are robotic. One click, or many."""
        return self._run(self._each("/v1/clicks", ClickAnswer, clicks, "clicks"))

    @overload
    def labels(self, labels: One) -> LabelAnswer: ...
    @overload
    def labels(self, labels: "Iterable[One] | pl.DataFrame") -> list[LabelAnswer]: ...
    def labels(self, labels: Any) -> Any:
        """Tell purchases and RFM scores that became known later. One label, or many."""
        return self._run(self._each("/v1/labels", LabelAnswer, labels, "labels"))

    def slices(
        self,
        of: Of | None = None,
        *,
        sort: str = "events",
        descending: bool = True,
        limit: int = 100,
        offset: int = 0,
        contains: str = "",
    ) -> SlicePage:
        """A page of the slices, sorted by events, name, score, threshold, drift, anomalies or ivr.

        contains: only slices whose key has this in it, upper or lower case; of a key that is no text, in its JSON.
        """
        return self._run(self._slices(of, sort, descending, limit, offset, contains))

    def slice(self, key: SliceKey, of: Of = "events") -> SliceState:
        """One slice with its history. Raises ServiceError with status 404 if there is none."""
        return self._run(self._slice(key, of))

    def explain(self, event: One) -> Explanation:
        """Which features drive the score of an event or click; nothing is learned."""
        return self._run(self._explain(event))

    def ready(self) -> bool:
        """Whether the service is ready to answer now; False also if nobody answers."""
        return self._run(self._ready())

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return once the service is ready; raises ServiceUnavailable if it is not within so many seconds."""
        self._run(self._wait_until_ready(timeout))

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run[T](self, talk: _Talk[T]) -> T:
        reply: httpx.Response | httpx.TransportError | None = None
        try:
            while True:
                step = talk.send(reply)
                if not isinstance(step, _Call):
                    reply = time.sleep(step)
                    continue
                try:
                    reply = self._http.request(step.method, step.path, **_arguments(step))
                except httpx.TransportError as error:
                    reply = error
        except StopIteration as end:
            return end.value


class AsyncClient(_Talks[httpx.AsyncClient]):
    """`Client` for asyncio: the same arguments and methods, to be awaited. `aclose` ends its connections."""

    _connections = httpx.AsyncClient

    @overload
    async def update(self, events: One) -> EventAnswer: ...
    @overload
    async def update(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    async def update(self, events: Any) -> Any:
        """See `Client.update`."""
        return await self._run(self._each("/v1/update", EventAnswer, events, "events"))

    @overload
    async def score(self, events: One) -> EventAnswer: ...
    @overload
    async def score(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    async def score(self, events: Any) -> Any:
        """See `Client.score`."""
        return await self._run(self._each("/v1/score", EventAnswer, events, "events"))

    @overload
    async def clicks(self, clicks: One) -> ClickAnswer: ...
    @overload
    async def clicks(self, clicks: "Iterable[One] | pl.DataFrame") -> list[ClickAnswer]: ...
    async def clicks(self, clicks: Any) -> Any:
        """See `Client.clicks`."""
        return await self._run(self._each("/v1/clicks", ClickAnswer, clicks, "clicks"))

    @overload
    async def labels(self, labels: One) -> LabelAnswer: ...
    @overload
    async def labels(self, labels: "Iterable[One] | pl.DataFrame") -> list[LabelAnswer]: ...
    async def labels(self, labels: Any) -> Any:
        """See `Client.labels`."""
        return await self._run(self._each("/v1/labels", LabelAnswer, labels, "labels"))

    async def slices(
        self,
        of: Of | None = None,
        *,
        sort: str = "events",
        descending: bool = True,
        limit: int = 100,
        offset: int = 0,
        contains: str = "",
    ) -> SlicePage:
        """See `Client.slices`."""
        return await self._run(self._slices(of, sort, descending, limit, offset, contains))

    async def slice(self, key: SliceKey, of: Of = "events") -> SliceState:
        """See `Client.slice`."""
        return await self._run(self._slice(key, of))

    async def explain(self, event: One) -> Explanation:
        """See `Client.explain`."""
        return await self._run(self._explain(event))

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return await self._run(self._ready())

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """See `Client.wait_until_ready`."""
        await self._run(self._wait_until_ready(timeout))

    async def aclose(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run[T](self, talk: _Talk[T]) -> T:
        reply: httpx.Response | httpx.TransportError | None = None
        try:
            while True:
                step = talk.send(reply)
                if not isinstance(step, _Call):
                    reply = await asyncio.sleep(step)
                    continue
                try:
                    reply = await self._http.request(step.method, step.path, **_arguments(step))
                except httpx.TransportError as error:
                    reply = error
        except StopIteration as end:
            return end.value


def _arguments(call: _Call) -> dict[str, Any]:
    headers = {} if call.body is None else {"Content-Type": "application/json"}
    return {"content": call.body, "params": call.query, "headers": headers}


def _rows(objects: Any, name: str) -> tuple[bool, Iterator[One]]:
    """Whether it is one object, and the objects."""
    if isinstance(objects, Mapping | msgspec.Struct):
        return True, iter([cast("One", objects)])
    if hasattr(objects, "iter_rows"):
        return False, (_row(row, name) for row in objects.iter_rows(named=True))
    if isinstance(objects, str | bytes) or not isinstance(objects, Iterable):
        raise InvalidArgument(
            f"{name} is of type {type(objects).__name__}; give a dict, an iterable of dicts, or a polars frame"
        )
    return False, iter(cast("Iterable[One]", objects))


def _row(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The object in a row of a frame: the columns of an event that are no fields of it are its features."""
    if name != "events" or "x" in row or "features" in row:
        return row
    fields = {field: row.pop(field) for field in ("slice", "id", "ts") if field in row}
    return {**fields, "features": row}


def _requests(rows: Iterator[One], name: str, batch: int) -> Iterator[list[bytes]]:
    """The objects as JSON, as many as a request may hold; a larger one goes alone."""
    held: list[bytes] = []
    size = 0
    for body in chain((_encoded(row, name, i) for i, row in enumerate(rows)), [None]):
        if held and (body is None or len(held) == batch or size + len(body) > MAX_BYTES):
            yield held
            held, size = [], 0
        if body is not None:
            held.append(body)
            size += len(body) + 1


def _encoded(row: Any, name: str, index: int) -> bytes:
    """As JSON; an event without an id gets one, so that sending it again is harmless."""
    if not isinstance(row, Mapping | msgspec.Struct):
        raise InvalidArgument(f"{name}[{index}] is of type {type(row).__name__}; it must be a dict, or a struct")
    fields = msgspec.structs.asdict(row) if isinstance(row, msgspec.Struct) else dict(row)
    if name == "events" and fields.get("id") is None:
        fields["id"] = uuid.uuid4().hex
    try:
        return msgspec.json.encode(fields, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"{name}[{index}] cannot be written as JSON: {error}") from error


def _plain(value: Any) -> Any:
    """NumPy's arrays and numbers as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no type of JSON")


def _decode[T](response: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.DecodeError as error:
        raise ServiceError("Not an answer of onlineguard's service", str(error), response.status_code) from error


def _failure(response: httpx.Response | httpx.TransportError | None, url: str) -> ServiceError:
    """Why there is no answer."""
    if isinstance(response, httpx.Response):
        return _refusal(response)
    problem = ServiceUnavailable("No answer", f"{url}: {response or type(response).__name__}")
    problem.__cause__ = response
    return problem


def _refusal(response: httpx.Response) -> ServiceError:
    """What the service, or a proxy before it, says is wrong."""
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem(detail=response.text[:200])
    kind = ServiceUnavailable if response.status_code in RETRIED else ServiceError
    return kind(problem.title or response.reason_phrase, problem.detail, response.status_code)


def _wait(response: httpx.Response | httpx.TransportError | None, backoff: float, attempt: int) -> float:
    """Seconds until the next attempt: at least half of the backoff at random, and what Retry-After asks for."""
    wait = min(LONGEST_BACKOFF, backoff * 2.0**attempt) * random.uniform(0.5, 1.0)
    if isinstance(response, httpx.Response):
        wait = max(wait, _retry_after(response.headers.get("Retry-After", "")))
    return wait


def _retry_after(text: str) -> float:
    """Seconds that the header asks for, as a number or a date; 0 without one that can be read."""
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time())


def _context(verify: bool | str | Path | ssl.SSLContext, cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """The TLS of a connection whose trust or own certificate is not httpx's default."""
    if isinstance(verify, ssl.SSLContext):
        context = verify
    else:
        context = ssl.create_default_context(cafile=None if isinstance(verify, bool) else str(verify))
        if verify is False:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert is not None:
        context.load_cert_chain(*((cert,) if isinstance(cert, str) else cert))
    return context
