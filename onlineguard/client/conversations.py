"""What both clients say to the service, without any input or output.

A method of a client is a conversation, a generator. It yields a `Call` to be sent, and is given the `Reply`, or the
exception that came instead of one. Or it yields a number of seconds to wait. It returns the result of the method.
"""

import os
import random
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from onlineguard.errors import InvalidArgument, ServiceError, ServiceUnavailable
from onlineguard.wire.alarms import LAST, AlarmNote, AlarmPage, AlarmsQuery, AlarmState, Kind, Standing
from onlineguard.wire.answers import Explanation, SlicePage, SliceState, TrialState
from onlineguard.wire.encodings import Encoding, available, packed
from onlineguard.wire.operations import (
    ALARM,
    ALARMS,
    CHANGES,
    DIFF,
    END_TRIAL,
    EXPLAIN,
    NOTE_ALARM,
    READYZ,
    REGISTRY,
    SLICE,
    SLICES,
    TRIAL,
    TRY,
    VERSION,
    Operation,
)
from onlineguard.wire.registry import (
    Changed,
    ChangePage,
    DiffQuery,
    Promotion,
    RegistryState,
    Rollback,
    RowsQuery,
    VersionDiff,
    VersionState,
)
from onlineguard.wire.requests import Of, SliceKey, SliceQuery, SlicesQuery, Sort, TrialModel

URL = "http://127.0.0.1:8080"
RETRIED = frozenset({429, 502, 503, 504})  # too many requests; a proxy without a service; not ready; a slow proxy
LONGEST_BACKOFF = 10.0  # seconds
LONGEST_WAIT = 120.0  # seconds; a request whose Retry-After asks for more is not sent again
MAX_BYTES = 1 << 20  # of a request, a quarter of what the service takes by default

PACKED = 1_024  # bytes of a body that is packed, if the client is told to; a smaller one is one packet anyway

One = Mapping[str, Any] | msgspec.Struct


class Call(NamedTuple):
    """A request to send."""

    method: str
    path: str
    body: bytes | None = None
    media: str = "application/json"  # of the body
    encoding: Encoding | None = None  # that the body is in
    accept: str = "*/*"
    query: Mapping[str, str | int] = MappingProxyType({})


class Reply(NamedTuple):
    """The response to a request."""

    status: int
    reason: str  # the words beside the status
    retry_after: str  # the header, empty if there is none
    body: bytes

    @property
    def success(self) -> bool:
        """Whether the request was answered, and not refused."""
        return 200 <= self.status < 300


type Received = Reply | Exception | None  # None after a wait
type Conversation[T] = Generator[Call | float, Received, T]


class Conversations:
    """The settings that both clients have, and a conversation for each of their methods."""

    def __init__(
        self,
        base_url: str | None,
        api_key: str | None,
        timeout: float,
        retries: int,
        backoff: float,
        batch: int,
        encoding: Encoding | None = None,
    ):
        url = base_url or os.environ.get("ONLINEGUARD_URL") or URL
        if not url.startswith(("http://", "https://")):
            raise InvalidArgument("base_url", f"is {url!r}; it must begin with http:// or https://, e.g. {URL}")
        if batch < 1:
            raise InvalidArgument("batch", f"is {batch}; it must be at least 1, e.g. 1000 events a request")
        if encoding is not None and encoding not in available():
            if encoding == "zstd":
                packed(b"", encoding)  # says what is missing
            raise InvalidArgument("encoding", f"is {encoding!r}; it must be 'gzip', 'zstd' or None")
        if retries < 0:
            raise InvalidArgument("retries", f"is {retries}; it must be at least 0, where 0 sends each request once")
        if not timeout > 0 or not backoff > 0:
            raise InvalidArgument("timeout", f"is {timeout} and backoff {backoff}; both must be more than 0 seconds")
        key = api_key or os.environ.get("ONLINEGUARD_API_KEY")
        self.base_url = url.rstrip("/")
        self.headers = {"Accept-Encoding": encoding or "identity"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        self._encoding: Encoding | None = encoding
        self._retries, self._backoff, self._batch = retries, backoff, batch

    def answers(self, operation: Operation, objects: Any) -> Conversation[Any]:
        """Send one object, or many in requests of bounded size; the answer, or the answers in order."""
        name = f"{operation.noun}s"
        if hasattr(objects, "to_batches"):
            return (yield from self._tables(operation, objects, name))
        answers: list[Any] = []
        single, rows = rows_of(objects, name)
        for bodies in _requests(rows, name, self._batch):
            try:
                call = Call(operation.method, operation.path, b"[" + b",".join(bodies) + b"]")
                more = _decoded((yield from self._answered(call)), list[operation.answer])
                if len(more) != len(bodies):
                    raise ServiceError("Not as many answers as events", f"{len(more)} answers to {len(bodies)} {name}")
            except ServiceError as error:
                error.answers = answers
                raise
            answers += more
        return answers[0] if single else answers

    def _tables(self, operation: Operation, table: Any, name: str) -> Conversation[Any]:
        """Send a table of Arrow in tables of bounded size; the answers as one table."""
        from onlineguard.wire import arrow

        found: list[Any] = []
        for part in arrow.parts(table, name == "events", self._batch):
            call = Call(operation.method, operation.path, part, media=arrow.MEDIA, accept=arrow.MEDIA)
            reply = yield from self._answered(call)
            found.append(arrow.table(reply.body))
        return arrow.together(found, operation.answer or msgspec.Struct)

    def slices(
        self, of: Of | None, sort: Sort, descending: bool, limit: int, offset: int, contains: str
    ) -> Conversation[SlicePage]:
        """Ask for a page of the slices."""
        query = SlicesQuery(of or UNSET, sort, "desc" if descending else "asc", limit, offset, contains)
        call = Call(SLICES.method, SLICES.path, query=msgspec.to_builtins(query))
        return _decoded((yield from self._answered(call)), SlicePage)

    def slice(self, key: SliceKey, of: Of) -> Conversation[SliceState]:
        """Ask for one slice."""
        text = key if isinstance(key, str) else msgspec.json.encode(key).decode()
        path = SLICE.path.format(key=quote(text, safe=""))
        call = Call(SLICE.method, path, query=msgspec.to_builtins(SliceQuery(of)))
        return _decoded((yield from self._answered(call)), SliceState)

    def explanation(self, event: One) -> Conversation[Explanation]:
        """Ask which features drive the score of an event or click."""
        call = Call(EXPLAIN.method, EXPLAIN.path, _encoded(event, "event", 0))
        return _decoded((yield from self._answered(call)), Explanation)

    def alarms(self, query: AlarmsQuery) -> Conversation[AlarmPage]:
        """Ask for a page of the alarms."""
        call = Call(ALARMS.method, ALARMS.path, query=msgspec.to_builtins(query))
        return _decoded((yield from self._answered(call)), AlarmPage)

    def alarm(self, id_: str) -> Conversation[AlarmState]:
        """Ask for one alarm."""
        call = Call(ALARM.method, ALARM.path.format(id=quote(id_, safe="")))
        return _decoded((yield from self._answered(call)), AlarmState)

    def note_alarm(self, id_: str, note: AlarmNote) -> Conversation[AlarmState]:
        """Acknowledge an alarm."""
        call = Call(NOTE_ALARM.method, NOTE_ALARM.path.format(id=quote(id_, safe="")), msgspec.json.encode(note))
        return _decoded((yield from self._answered(call)), AlarmState)

    def trial(self) -> Conversation[TrialState]:
        """Ask how a candidate compares with the model that decides."""
        return _decoded((yield from self._answered(Call(TRIAL.method, TRIAL.path))), TrialState)

    def begin_trial(self, model: TrialModel) -> Conversation[TrialState]:
        """Have a candidate judge every click, and decide those of a share of the users."""
        call = Call(TRY.method, TRY.path, msgspec.json.encode(model))
        return _decoded((yield from self._answered(call)), TrialState)

    def end_trial(self) -> Conversation[TrialState]:
        """End the trial of a candidate."""
        return _decoded((yield from self._answered(Call(END_TRIAL.method, END_TRIAL.path))), TrialState)

    def registry(self, limit: int, offset: int) -> Conversation[RegistryState]:
        """Ask for the versions of the registry."""
        call = Call(REGISTRY.method, REGISTRY.path, query=msgspec.to_builtins(RowsQuery(limit, offset)))
        return _decoded((yield from self._answered(call)), RegistryState)

    def version(self, version: str) -> Conversation[VersionState]:
        """Ask for one version."""
        call = Call(VERSION.method, VERSION.path.format(version=quote(version, safe="")))
        return _decoded((yield from self._answered(call)), VersionState)

    def changes(self, limit: int, offset: int) -> Conversation[ChangePage]:
        """Ask who changed the registry."""
        call = Call(CHANGES.method, CHANGES.path, query=msgspec.to_builtins(RowsQuery(limit, offset)))
        return _decoded((yield from self._answered(call)), ChangePage)

    def diff(self, a: str, b: str) -> Conversation[VersionDiff]:
        """Ask for two versions side by side."""
        call = Call(DIFF.method, DIFF.path, query=msgspec.to_builtins(DiffQuery(a, b)))
        return _decoded((yield from self._answered(call)), VersionDiff)

    def changed(self, operation: Operation, change: Promotion | Rollback) -> Conversation[Changed]:
        """Change the registry. Sent once: sent again, a rollback would lead further back."""
        call = Call(operation.method, operation.path, msgspec.json.encode(change))
        return _decoded((yield from self._answered(call, retries=0)), Changed)

    def ready(self) -> Conversation[bool]:
        """Ask once whether the service is ready; False if nobody answers."""
        received = yield Call(READYZ.method, READYZ.path)
        if isinstance(received, Reply) and received.status not in RETRIED:
            if not received.success:
                raise _refusal(received)
            return True
        return False

    def wait_until_ready(self, timeout: float) -> Conversation[None]:
        """Ask until the service is ready."""
        end, pause = time.monotonic() + timeout, 0.05
        while True:
            received = yield Call(READYZ.method, READYZ.path)
            if isinstance(received, Reply) and received.success:
                return
            problem = self._failure(received)
            if not isinstance(problem, ServiceUnavailable) or time.monotonic() + pause > end:
                raise problem
            yield pause
            pause = min(2 * pause, 1.0)

    def _answered(self, call: Call, retries: int | None = None) -> Conversation[Reply]:
        """Send the call until it succeeds, as often as the retries allow."""
        retries = self._retries if retries is None else retries
        if self._encoding is not None and call.body is not None and len(call.body) >= PACKED:
            call = call._replace(body=packed(call.body, self._encoding), encoding=self._encoding)
        for attempt in range(retries + 1):
            received = yield call
            if isinstance(received, Reply) and received.success:
                return received
            problem = self._failure(received)
            wait = _wait(received, self._backoff, attempt)
            if not isinstance(problem, ServiceUnavailable) or attempt == retries or wait > LONGEST_WAIT:
                raise problem
            yield wait
        raise AssertionError("the last attempt returns or raises")

    def _failure(self, received: Received) -> ServiceError:
        """Why the call did not succeed."""
        if isinstance(received, Reply):
            return _refusal(received)
        problem = ServiceUnavailable("No answer", f"{self.base_url}: {received or type(received).__name__}")
        problem.__cause__ = received
        return problem


def alarms_query(
    of: Of | None,
    slice_: SliceKey | None,
    kind: Kind | None,
    state: Standing | None,
    since: int | None,
    until: int | None,
    least: float | None,
    limit: int,
    cursor: str | None,
) -> AlarmsQuery:
    """What is asked about alarms, where None is anything."""
    text = slice_ if isinstance(slice_, str) or slice_ is None else msgspec.json.encode(slice_).decode()
    return AlarmsQuery(
        of=of or UNSET,
        slice=UNSET if text is None else text,
        kind=kind or UNSET,
        state=state or UNSET,
        since=since or 0,
        until=LAST if until is None else until,
        least=UNSET if least is None else least,
        limit=limit,
        cursor=cursor or UNSET,
    )


def rows_of(objects: Any, name: str) -> tuple[bool, Iterator[One]]:
    """Whether one object was given rather than many, and the objects."""
    if isinstance(objects, Mapping | msgspec.Struct):
        return True, iter([cast("One", objects)])
    if hasattr(objects, "iter_rows"):
        return False, (_row(row, name) for row in objects.iter_rows(named=True))
    if isinstance(objects, str | bytes) or not isinstance(objects, Iterable):
        raise InvalidArgument(
            name, f"is of type {type(objects).__name__}; give a dict, an iterable of dicts, or a polars frame"
        )
    return False, iter(cast("Iterable[One]", objects))


def _row(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The object in a row of a frame. Of an event, columns that are not fields are features."""
    if name != "events" or "x" in row or "features" in row:
        return row
    fields = {field: row.pop(field) for field in ("slice", "id", "ts") if field in row}
    return {**fields, "features": row}


def _requests(rows: Iterator[One], name: str, batch: int) -> Iterator[list[bytes]]:
    """The objects as JSON, in groups that each fit one request; an object larger than that goes alone."""
    group: list[bytes] = []
    size = 0
    for body in chain((_encoded(row, name, i) for i, row in enumerate(rows)), [None]):
        if group and (body is None or len(group) == batch or size + len(body) > MAX_BYTES):
            yield group
            group, size = [], 0
        if body is not None:
            group.append(body)
            size += len(body) + 1


def _encoded(row: Any, name: str, index: int) -> bytes:
    """The object as JSON. An event without an id gets one, so that sending it again is harmless."""
    if not isinstance(row, Mapping | msgspec.Struct):
        raise InvalidArgument(f"{name}[{index}]", f"is of type {type(row).__name__}; it must be a dict, or a struct")
    fields = msgspec.structs.asdict(row) if isinstance(row, msgspec.Struct) else dict(row)
    if name == "events" and fields.get("id") is None:
        fields["id"] = uuid.uuid4().hex
    try:
        return msgspec.json.encode(fields, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"{name}[{index}]", f"cannot be written as JSON: {error}") from error


def _plain(value: Any) -> Any:
    """NumPy's arrays and numbers as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no type of JSON")


def _decoded[T](reply: Reply, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except msgspec.DecodeError as error:
        raise ServiceError("Not an answer of onlineguard's service", str(error), reply.status) from error


class _Problem(msgspec.Struct):
    """A problem of the service or of a proxy before it, which may leave fields out."""

    title: str = ""
    detail: str = ""


def _refusal(reply: Reply) -> ServiceError:
    """The problem in a reply of the service, or of a proxy before it."""
    try:
        problem = msgspec.json.decode(reply.body, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem(detail=reply.body.decode("utf-8", "replace")[:200])
    kind = ServiceUnavailable if reply.status in RETRIED else ServiceError
    return kind(problem.title or reply.reason, problem.detail, reply.status)


def _wait(received: Received, backoff: float, attempt: int) -> float:
    """Seconds until the next attempt: a random half or more of the backoff, and at least what Retry-After asks for."""
    wait = min(LONGEST_BACKOFF, backoff * 2.0**attempt) * random.uniform(0.5, 1.0)
    return max(wait, _retry_after(received.retry_after)) if isinstance(received, Reply) else wait


def _retry_after(text: str) -> float:
    """Seconds that the header asks for, as a number or a date; 0 if it can be read as neither."""
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time())
