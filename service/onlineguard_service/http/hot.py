"""The hot routes: one or many events, clicks, labels or decisions, each answered by one answer.

They are plain functions, without Starlette. A batch is refused whole or taken whole.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from starlette.types import Receive, Scope, Send

from onlineguard.errors import MissingExtra
from onlineguard.wire import operations
from onlineguard.wire.operations import Operation
from onlineguard_service import tracing
from onlineguard_service.http.admission import Admission
from onlineguard_service.http.backend import Inside
from onlineguard_service.http.bodies import ARROW, NDJSON, Items, Media, media
from onlineguard_service.http.incoming import Bodies
from onlineguard_service.http.limits import Disconnected
from onlineguard_service.http.problems import SAFE, Refused, problem
from onlineguard_service.http.responses import JSON_HEADERS
from onlineguard_service.patience import AT_ONCE, give_way, let_go
from onlineguard_service.replicas.answers import SnapshotAnswers

GONE = 499  # the status of a request whose client left before the answer

_NDJSON_HEADERS = [(b"content-type", NDJSON), *SAFE]

_answers = msgspec.json.Encoder()


class _Hot(NamedTuple):
    operation: Operation
    items: Items
    answer: Callable[[Inside, list[Any]], Awaitable[list[Any]]]


class HotRoutes:
    """See this module.

    within: what answers, of the namespace that a request is about; raises Refused before the service is ready.
    most: items of a request.
    """

    def __init__(self, admission: Admission, bodies: Bodies, within: Callable[[Scope], Awaitable[Inside]], most: int):
        self._admission, self._bodies, self._within, self._most = admission, bodies, within, most
        self._routes = {
            operation.path: _Hot(operation, Items.of(operation), answer)
            for operation, answer in (
                (operations.UPDATE, lambda core, events: core.update(events)),
                (operations.SCORE, lambda core, events: core.score(events)),
                (operations.CLICKS, lambda core, clicks: core.clicks(clicks)),
                (operations.LABELS, lambda core, labels: core.labels(labels)),
                (operations.DECISIONS, lambda core, decisions: core.decisions(decisions)),
            )
        }
        self.paths = frozenset(self._routes)  # each of which takes POST

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, int]:
        """Answer a request to one of `paths`. The status, and how many items were learned or scored."""
        hot = self._routes[scope["path"]]
        status, count = 200, 0
        try:
            with self._bodies.holding() as take:
                content_type = self._admission.admit(scope, hot.operation)
                kind = media(content_type)
                core = await self._within(scope)
                body = await self._bodies.read(scope, receive, take)
                with tracing.span("decode"):
                    if kind == "arrow":
                        items, single = await _of_arrow(hot.items, body, self._most), False
                    else:
                        items, single = await hot.items.decoded(body, kind == "lines", self._most)
                count = len(items)
                if count > AT_ONCE:  # they took a while to be decoded
                    await give_way()
                answers = await hot.answer(core, items) if items else []
                await let_go(items)
                answer, headers = await _written(answers, single, kind, hot.operation, scope)
                if isinstance(answers, SnapshotAnswers):
                    headers += answers.headers
        except Disconnected:
            return GONE, 0
        except Exception as error:
            status, answer, headers = problem(error, scope["path"])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        return status, count if status == 200 else 0


async def _of_arrow(of: Items, body: bytes, most: int) -> list[Any]:
    """The items in the rows of an Arrow stream, made in parts with turns for others in between."""
    items: list[Any] = []
    for part in of.of_arrow(body, most):
        if items:
            await give_way()
        items += part
    return items


async def _written(
    answers: list[Any], single: bool, kind: Media, operation: Operation, scope: Scope
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Answers as a body with its headers: as the question was, or as Arrow where the client accepts that by name."""
    if any(name == b"accept" and ARROW in value for name, value in scope["headers"]):
        try:
            from onlineguard.wire import arrow
        except MissingExtra as error:
            raise Refused(406, f"this service writes no Arrow: {error}") from None
        answer, headers = arrow.encoded(answers, operation.answer or msgspec.Struct), [(b"content-type", ARROW), *SAFE]
    elif single:
        answer, headers = _answers.encode(answers[0]), JSON_HEADERS
    elif kind == "lines":
        answer, headers = await _encoded(answers, True), _NDJSON_HEADERS
    else:
        answer, headers = await _encoded(answers, False), JSON_HEADERS
    return answer, [*headers, (b"content-length", b"%d" % len(answer))]


async def _encoded(answers: list[Any], lines: bool) -> bytes:
    """Answers as JSON; many of them in parts, which are let go of, with turns for others in between."""
    if len(answers) <= AT_ONCE:
        return _answers.encode_lines(answers) if lines else _answers.encode(answers)
    parts: list[bytes] = []
    for start in range(0, len(answers), AT_ONCE):
        part = answers[start : start + AT_ONCE]
        answers[start : start + AT_ONCE] = [None] * len(part)
        parts.append(_answers.encode_lines(part) if lines else _answers.encode(part)[1:-1])
        await give_way()
    return b"".join(parts) if lines else b"[" + b",".join(parts) + b"]"
