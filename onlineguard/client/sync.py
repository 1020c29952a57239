"""The client for programs that wait for each answer."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, overload

import httpx2

from onlineguard.client.connections import Connected, arguments, reply
from onlineguard.client.conversations import Call, Conversation, One, Received, alarms_query
from onlineguard.wire.alarms import AlarmNote, AlarmPage, AlarmState, Kind, Standing
from onlineguard.wire.answers import (
    ClickAnswer,
    DecisionAnswer,
    EventAnswer,
    Explanation,
    LabelAnswer,
    SlicePage,
    SliceState,
    TrialState,
)
from onlineguard.wire.operations import CLICKS, DECISIONS, LABELS, PROMOTE, ROLLBACK, SCORE, UPDATE
from onlineguard.wire.registry import (
    Changed,
    ChangePage,
    Promotion,
    RegistryState,
    Rollback,
    VersionDiff,
    VersionState,
)
from onlineguard.wire.requests import Of, SliceKey, Sort, TrialModel

if TYPE_CHECKING:
    import polars as pl


class Client(Connected[httpx2.Client]):
    """Calls the service and waits for the answer. A context manager; `close` ends its connections.

    base_url: by default the environment's ONLINEGUARD_URL, else http://127.0.0.1:8080.
    api_key: by default the environment's ONLINEGUARD_API_KEY, else none.
    timeout: seconds to wait for a connection, and for the answer to one request.
    retries: how often a request is sent again; 0 for never.
    backoff: seconds before the first retry; doubled with each, up to 10 s. A random half or more of it is waited.
    batch: most events in one request; a request also stays under 1 MiB.
    verify: False trusts any server (for trials); a file of certificates, or an SSL context, trusts those; True trusts
        the certificates of the operating system.
    cert: the client's own certificate: a file, or the files of certificate and key.
    encoding: "gzip" or "zstd" packs large bodies and asks for large answers packed, for networks that are slower than
        that; zstd needs the extra zstd before Python 3.14.

    Every method raises InvalidArgument for what cannot be sent, ServiceUnavailable when the service could not be
    reached within the retries, and ServiceError for a request that it refused.
    """

    _kind = httpx2.Client

    @overload
    def update(self, events: One) -> EventAnswer: ...
    @overload
    def update(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    def update(self, events: Any) -> Any:
        """Score events by what was known before each, then learn from it. One event, or many."""
        return self._run(self._conversations.answers(UPDATE, events))

    @overload
    def score(self, events: One) -> EventAnswer: ...
    @overload
    def score(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    def score(self, events: Any) -> Any:
        """Score events and learn nothing. One event, or many."""
        return self._run(self._conversations.answers(SCORE, events))

    @overload
    def clicks(self, clicks: One) -> ClickAnswer: ...
    @overload
    def clicks(self, clicks: "Iterable[One] | pl.DataFrame") -> list[ClickAnswer]: ...
    def clicks(self, clicks: Any) -> Any:
        """Decide which clicks are robotic. One click, or many."""
        return self._run(self._conversations.answers(CLICKS, clicks))

    @overload
    def labels(self, labels: One) -> LabelAnswer: ...
    @overload
    def labels(self, labels: "Iterable[One] | pl.DataFrame") -> list[LabelAnswer]: ...
    def labels(self, labels: Any) -> Any:
        """Report purchases and RFM scores that became known later. One label, or many."""
        return self._run(self._conversations.answers(LABELS, labels))

    @overload
    def decisions(self, decisions: One) -> DecisionAnswer: ...
    @overload
    def decisions(self, decisions: "Iterable[One] | pl.DataFrame") -> list[DecisionAnswer]: ...
    def decisions(self, decisions: Any) -> Any:
        """Replace decisions about clicks by later ones; needs a key with the scope admin. One decision, or many."""
        return self._run(self._conversations.answers(DECISIONS, decisions))

    def slices(
        self,
        of: Of | None = None,
        *,
        sort: Sort = "events",
        descending: bool = True,
        limit: int = 100,
        offset: int = 0,
        contains: str = "",
    ) -> SlicePage:
        """A page of the slices.

        of: the stream; None for both.
        contains: only slices whose key contains this text, in upper or lower case. The text of a key that is a number
            or a tuple is its JSON.
        """
        return self._run(self._conversations.slices(of, sort, descending, limit, offset, contains))

    def slice(self, key: SliceKey, of: Of = "events") -> SliceState:
        """One slice with its history. Raises ServiceError with status 404 if there is none."""
        return self._run(self._conversations.slice(key, of))

    def explain(self, event: One) -> Explanation:
        """The features that drive the score of an event or click; nothing is learned."""
        return self._run(self._conversations.explanation(event))

    def alarms(
        self,
        *,
        of: Of | None = None,
        slice: SliceKey | None = None,
        kind: Kind | None = None,
        state: Standing | None = None,
        since: int | None = None,
        until: int | None = None,
        least: float | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> AlarmPage:
        """A page of the alarms, the newest first.

        of, slice, kind, state: only those of this stream or slice, found so, and that stand so.
        since, until: begun then or later, and before then, in ms since 1970.
        least: the least score.
        cursor: that of the page before; alarms that are new do not move it.
        """
        query = alarms_query(of, slice, kind, state, since, until, least, limit, cursor)
        return self._run(self._conversations.alarms(query))

    def alarm(self, id: str) -> AlarmState:
        """One alarm, with what drove it. Raises ServiceError with status 404 if it is not kept."""
        return self._run(self._conversations.alarm(id))

    def acknowledge(self, id: str, note: str = "", *, usual: bool = False) -> AlarmState:
        """Acknowledge an alarm; needs the scope admin.

        usual: its event was usual, which its slice learns, once; see `Engine.feedback`.
        """
        return self._run(self._conversations.note_alarm(id, AlarmNote(note, usual)))

    def trial(self) -> TrialState:
        """How a candidate compares with the model that decides, on the same clicks."""
        return self._run(self._conversations.trial())

    def begin_trial(
        self, version: str | None = None, *, folder: str | None = None, share: float = 0.0, force: bool = False
    ) -> TrialState:
        """Have a candidate judge every click beside the live model; needs the scope admin.

        version: of the registry; or a folder on the service's machine instead.
        share: of the users whose clicks it decides; 0 for none.
        force: also if it does not fit the clicks that come.
        """
        return self._run(self._conversations.begin_trial(TrialModel(share, folder, version, force)))

    def end_trial(self) -> TrialState:
        """End the trial of a candidate, if one runs; needs the scope admin."""
        return self._run(self._conversations.end_trial())

    def registry(self, *, limit: int = 100, offset: int = 0) -> RegistryState:
        """The versions of the registry that the service follows, the newest first, and which of them decides."""
        return self._run(self._conversations.registry(limit, offset))

    def version(self, version: str) -> VersionState:
        """One version, with the report of its guardrails. Raises ServiceError with status 404 if there is none."""
        return self._run(self._conversations.version(version))

    def changes(self, *, limit: int = 100, offset: int = 0) -> ChangePage:
        """Who changed the registry and why, the latest change first."""
        return self._run(self._conversations.changes(limit, offset))

    def diff(self, a: str, b: str) -> VersionDiff:
        """Two versions side by side."""
        return self._run(self._conversations.diff(a, b))

    def promote(self, version: str, why: str, *, force: bool = False, generation: int | None = None) -> Changed:
        """Let a version of the registry be current, and decide; needs the scope admin. It is sent once.

        force: also if it failed guardrails.
        generation: that of the change on which the decision rests. If another one came since, ServiceError has the
            status 409.
        """
        return self._run(self._conversations.changed(PROMOTE, Promotion(version, why, force, generation)))

    def rollback(self, why: str, *, generation: int | None = None) -> Changed:
        """Let the version be current that was so before, as `promote`."""
        return self._run(self._conversations.changed(ROLLBACK, Rollback(why, generation)))

    def ready(self) -> bool:
        """Whether the service is ready to answer now; False also if nobody answers."""
        return self._run(self._conversations.ready())

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return once the service is ready; raises ServiceUnavailable if it is not after `timeout` seconds."""
        self._run(self._conversations.wait_until_ready(timeout))

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run[T](self, conversation: Conversation[T]) -> T:
        received: Received = None
        try:
            while True:
                step = conversation.send(received)
                if isinstance(step, Call):
                    received = self._send(step)
                else:
                    received = time.sleep(step)
        except StopIteration as end:
            return end.value

    def _send(self, call: Call) -> Received:
        try:
            return reply(self._http.request(**arguments(call)))
        except httpx2.TransportError as error:
            return error
