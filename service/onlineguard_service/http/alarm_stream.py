"""`/v1/alarms/stream`: alarms as they begin, grow, end and are acknowledged, as server-sent events.

    id: 1730
    event: alarm
    data: {"id": "7f3a9c01-42", "kind": "anomaly", "state": "open", ...}

An event is an alarm as it is at that moment. Changes of one alarm within `EVERY` are one event, and at most `AT_ONCE`
events are sent each time, so that a flood of anomalies is no flood of events: the newest state of every alarm comes in
the end. The id is the number of the change. Whoever connects again with it, in the header Last-Event-ID, gets what
changed since; of more than `MOST` alarms the latest, after an event `missed`. Whoever connects without it gets what
changes from then on. A comment comes when there is no news.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec
from starlette.types import Scope

from onlineguard.wire.alarms import AlarmState
from onlineguard_service.http.alarms import Overseeing
from onlineguard_service.http.readers import Readers
from onlineguard_service.patience import give_way

EVERY = 0.5  # seconds
AT_ONCE = 100  # alarms; some milliseconds
MOST = 1_000  # alarms that one reader catches up on
AT_A_TIME = 25  # of them, before others get their turn; each takes up to 0.1 ms

_IDLE = b": no news\n\n"
_log = logging.getLogger(__name__)


class AlarmStream(Readers):
    """See this module. One task encodes what has changed once, for all readers."""

    def __init__(self, alarms: Overseeing, every: float = EVERY, backlog: int = 20):
        super().__init__(backlog)
        self._alarms, self._every = alarms, every
        self._sent = alarms.change  # the change up to which readers were told
        self._turn = asyncio.Lock()  # of a reader that catches up: however many do, others wait for one part

    async def run(self) -> None:
        """Tell all readers what changes."""
        quiet = 0
        while True:
            await asyncio.sleep(self._every)
            try:
                part = self._news()
            except Exception:  # one that fails must not end all later ones
                _log.exception("changes of alarms were left out")
                continue
            quiet = 0 if part else quiet + 1
            if part or quiet % 4 == 0:
                self.tell(part or _IDLE)

    def _news(self) -> bytes:
        upto = self._alarms.change
        if upto == self._sent or not self.readers:
            self._sent = upto
            return b""
        found = self._alarms.since(self._sent, upto, AT_ONCE)
        self._sent = found[-1][0] if len(found) == AT_ONCE else upto
        return _events(found)

    def first(self, scope: Scope) -> AsyncIterator[bytes]:
        """What a reader is sent at once: where it is, or what it has missed."""
        if not self.readers:  # nobody is owed what changed until now
            self._sent = self._alarms.change
        return self._caught_up(_last_seen(scope), self._sent)

    async def _caught_up(self, last: int | None, upto: int) -> AsyncIterator[bytes]:
        if last is None or last > upto:  # of another state: it begins anew
            yield b"id: %d\n" % upto + _IDLE
            return
        async with self._turn:
            at = self._alarms.latest(last, upto, MOST)
        if at > last:
            yield b"event: missed\ndata: {}\n\n"
        while True:
            async with self._turn:
                found = self._alarms.since(at, upto, AT_A_TIME)
                await give_way()
            if not found:
                break
            yield _events(found)
            at = found[-1][0]
        yield _IDLE


def _events(found: list[tuple[int, AlarmState]]) -> bytes:
    """Server-sent events. JSON as msgspec encodes it has no line breaks, which would end one."""
    return b"".join(
        b"id: %d\nevent: alarm\ndata: %b\n\n" % (change, msgspec.json.encode(alarm)) for change, alarm in found
    )


def _last_seen(scope: Scope) -> int | None:
    """The change that a reader saw last; None where it says none."""
    for name, value in scope.get("headers", ()):
        if name == b"last-event-id":
            return int(value) if value.isdigit() and len(value) < 19 else None
    return None
