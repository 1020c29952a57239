"""The client for asyncio."""

import asyncio
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


class AsyncClient(Connected[httpx2.AsyncClient]):
    """`Client` for asyncio: the same arguments and methods, to be awaited. `aclose` ends its connections."""

    _kind = httpx2.AsyncClient

    @overload
    async def update(self, events: One) -> EventAnswer: ...
    @overload
    async def update(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    async def update(self, events: Any) -> Any:
        """See `Client.update`."""
        return await self._run(self._conversations.answers(UPDATE, events))

    @overload
    async def score(self, events: One) -> EventAnswer: ...
    @overload
    async def score(self, events: "Iterable[One] | pl.DataFrame") -> list[EventAnswer]: ...
    async def score(self, events: Any) -> Any:
        """See `Client.score`."""
        return await self._run(self._conversations.answers(SCORE, events))

    @overload
    async def clicks(self, clicks: One) -> ClickAnswer: ...
    @overload
    async def clicks(self, clicks: "Iterable[One] | pl.DataFrame") -> list[ClickAnswer]: ...
    async def clicks(self, clicks: Any) -> Any:
        """See `Client.clicks`."""
        return await self._run(self._conversations.answers(CLICKS, clicks))

    @overload
    async def labels(self, labels: One) -> LabelAnswer: ...
    @overload
    async def labels(self, labels: "Iterable[One] | pl.DataFrame") -> list[LabelAnswer]: ...
    async def labels(self, labels: Any) -> Any:
        """See `Client.labels`."""
        return await self._run(self._conversations.answers(LABELS, labels))

    @overload
    async def decisions(self, decisions: One) -> DecisionAnswer: ...
    @overload
    async def decisions(self, decisions: "Iterable[One] | pl.DataFrame") -> list[DecisionAnswer]: ...
    async def decisions(self, decisions: Any) -> Any:
        """See `Client.decisions`."""
        return await self._run(self._conversations.answers(DECISIONS, decisions))

    async def slices(
        self,
        of: Of | None = None,
        *,
        sort: Sort = "events",
        descending: bool = True,
        limit: int = 100,
        offset: int = 0,
        contains: str = "",
    ) -> SlicePage:
        """See `Client.slices`."""
        return await self._run(self._conversations.slices(of, sort, descending, limit, offset, contains))

    async def slice(self, key: SliceKey, of: Of = "events") -> SliceState:
        """See `Client.slice`."""
        return await self._run(self._conversations.slice(key, of))

    async def explain(self, event: One) -> Explanation:
        """See `Client.explain`."""
        return await self._run(self._conversations.explanation(event))

    async def alarms(
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
        """See `Client.alarms`."""
        query = alarms_query(of, slice, kind, state, since, until, least, limit, cursor)
        return await self._run(self._conversations.alarms(query))

    async def alarm(self, id: str) -> AlarmState:
        """See `Client.alarm`."""
        return await self._run(self._conversations.alarm(id))

    async def acknowledge(self, id: str, note: str = "", *, usual: bool = False) -> AlarmState:
        """See `Client.acknowledge`."""
        return await self._run(self._conversations.note_alarm(id, AlarmNote(note, usual)))

    async def trial(self) -> TrialState:
        """See `Client.trial`."""
        return await self._run(self._conversations.trial())

    async def begin_trial(
        self, version: str | None = None, *, folder: str | None = None, share: float = 0.0, force: bool = False
    ) -> TrialState:
        """See `Client.begin_trial`."""
        return await self._run(self._conversations.begin_trial(TrialModel(share, folder, version, force)))

    async def end_trial(self) -> TrialState:
        """See `Client.end_trial`."""
        return await self._run(self._conversations.end_trial())

    async def registry(self, *, limit: int = 100, offset: int = 0) -> RegistryState:
        """See `Client.registry`."""
        return await self._run(self._conversations.registry(limit, offset))

    async def version(self, version: str) -> VersionState:
        """See `Client.version`."""
        return await self._run(self._conversations.version(version))

    async def changes(self, *, limit: int = 100, offset: int = 0) -> ChangePage:
        """See `Client.changes`."""
        return await self._run(self._conversations.changes(limit, offset))

    async def diff(self, a: str, b: str) -> VersionDiff:
        """See `Client.diff`."""
        return await self._run(self._conversations.diff(a, b))

    async def promote(self, version: str, why: str, *, force: bool = False, generation: int | None = None) -> Changed:
        """See `Client.promote`."""
        return await self._run(self._conversations.changed(PROMOTE, Promotion(version, why, force, generation)))

    async def rollback(self, why: str, *, generation: int | None = None) -> Changed:
        """See `Client.rollback`."""
        return await self._run(self._conversations.changed(ROLLBACK, Rollback(why, generation)))

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return await self._run(self._conversations.ready())

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """See `Client.wait_until_ready`."""
        await self._run(self._conversations.wait_until_ready(timeout))

    async def aclose(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run[T](self, conversation: Conversation[T]) -> T:
        received: Received = None
        try:
            while True:
                step = conversation.send(received)
                if isinstance(step, Call):
                    received = await self._send(step)
                else:
                    received = await asyncio.sleep(step)
        except StopIteration as end:
            return end.value

    async def _send(self, call: Call) -> Received:
        try:
            return reply(await self._http.request(**arguments(call)))
        except httpx2.TransportError as error:
            return error
