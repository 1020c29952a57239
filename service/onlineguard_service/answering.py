"""Answering: the requests about events and clicks, of the operator's own or of one namespace.

Large requests are worked off in parts, between which others get their turn; each part is an entry of its own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float32

from onlineguard.errors import InvalidArgument
from onlineguard.records.click import Click
from onlineguard.slidr.counting.counters import ClickKeys
from onlineguard.slidr.history.keeping import Erased
from onlineguard.slidr.judge import scored_singly
from onlineguard.slidr.lookups.lookups import Lookups
from onlineguard.wire.answers import ClickAnswer, DecisionAnswer, EventAnswer, LabelAnswer
from onlineguard.wire.requests import Decision, Event, Label, Of, Sort
from onlineguard_service import entries, tracing
from onlineguard_service.deciding import Deciding
from onlineguard_service.erasing import Erasing
from onlineguard_service.figures import Figures
from onlineguard_service.gather import Gather
from onlineguard_service.guard import Guard
from onlineguard_service.listing import listed
from onlineguard_service.overseeing import Overseeing
from onlineguard_service.patience import give_way
from onlineguard_service.redis.counting import CountersUnavailable, Counting

CLICKS_AT_ONCE = 64  # of a request; a millisecond or two
CLICKS_BESIDE = 32  # of a larger one, before others get their turn
EVENTS_AT_ONCE = 256
KNOWN_AT_ONCE = 512  # labels, or delayed decisions; a millisecond
DEGRADED = ["counters"]
OUTCOMES = ("applied", "repeated", "conflict")  # of a `DecisionAnswer`

log = logging.getLogger("onlineguard.service")


class Inferred(NamedTuple):
    """What a model says of n rows of features; thresholds where slices were named."""

    version: str
    p_robot: Float32[np.ndarray, " n"]
    thresholds: Float[np.ndarray, " n"] | None


class Shared:
    """What the requests of all namespaces have in common. `commit` writes an entry and applies it."""

    def __init__(
        self,
        commit: Callable[[entries.Entry], Awaitable[Any]],
        deciding: Deciding,
        erasing: Erasing,
        counting: Counting | None,
        lookups: Lookups | None,
    ):
        self.commit, self.deciding, self.erasing = commit, deciding, erasing
        self.counting, self.lookups = counting, lookups
        self.gathering = jax.default_backend() == "gpu"
        self.queue = 0  # requests under way
        self.degraded = 0  # clicks that could not be judged
        self.delayed = dict.fromkeys(OUTCOMES, 0)  # decisions that came later than their clicks


class Answering:
    """See this module. `guard` is the operator's, `namespace` the one that is asked about; "" for none."""

    def __init__(self, guard: Guard, shared: Shared, namespace: str = ""):
        self._own, self._shared, self._namespace = guard, shared, namespace
        self._commit = shared.commit
        self.alarms = Overseeing(guard, shared.commit, namespace)
        self._gathering = shared.gathering and not namespace
        self._gathered_events, self._gathered_clicks = Gather(self._learn), Gather(self._decide)

    @property
    def _guard(self) -> Guard:
        return self._own.within(self._namespace) if self._namespace else self._own

    async def update(self, events: Sequence[Event]) -> list[EventAnswer]:
        """Judge events, then learn them, in order; one answer each.

        Raises InvalidArgument for any that does not fit, JournalUnavailable if nothing can be kept: of the part of the
        request that it hits nothing is then learned, and sending all of it again does no harm where events have ids.
        """
        await _whole(self._guard.checking(events), events)
        return await self._under_way(self._gathered_events.submit(events) if self._gathering else self._learn(events))

    async def _learn(self, events: Sequence[Event]) -> list[EventAnswer]:
        answers: list[EventAnswer] = []
        if events and self._guard.events is None:  # a second of compiling, in which others are answered
            await asyncio.to_thread(self._guard.prepare, events[0])
        for start in range(0, len(events), EVENTS_AT_ONCE):
            if start:
                await give_way()
            part = list(events[start : start + EVENTS_AT_ONCE])
            answers += await self._commit(entries.Events(part, entries.now(), self._namespace))
        return answers

    async def score(self, events: Sequence[Event]) -> list[EventAnswer]:
        """The answers that these events would get if each came next; nothing is learned. Raises InvalidArgument."""
        answers: list[EventAnswer] = []
        for start in range(0, len(events), EVENTS_AT_ONCE):
            if start:
                await give_way()
            with tracing.span("guard"):
                answers += self._guard.score(events[start : start + EVENTS_AT_ONCE])
        return answers

    async def clicks(self, clicks: Sequence[Click]) -> list[ClickAnswer]:
        """Decide about clicks, and learn them, in order; one answer each.

        Where the counters cannot be reached the answer is "unknown" and says so, and nothing is learned. Raises IdTaken
        for a click_id that came before with another click.
        """
        await _whole(self._guard.checking_clicks(clicks), clicks)
        return await self._under_way(self._gathered_clicks.submit(clicks) if self._gathering else self._decide(clicks))

    async def _decide(self, clicks: Sequence[Click]) -> list[ClickAnswer]:
        answers: list[ClickAnswer] = []
        whole = self._gathering or len(clicks) <= CLICKS_AT_ONCE
        step = CLICKS_AT_ONCE if whole else CLICKS_BESIDE
        if len(clicks) <= step:
            return await self._judge(list(clicks)) if clicks else []
        async with self._shared.deciding.turns.request():  # one model for all of them
            for start in range(0, len(clicks), step):
                if start:
                    await give_way()
                answers += await self._judge(list(clicks[start : start + step]))
        return answers

    async def _judge(self, clicks: list[Click]) -> list[ClickAnswer]:
        counts = b""
        if (counting := self._shared.counting) is not None:
            try:
                with tracing.span("redis"):
                    counts = (await counting.count(ClickKeys.of(clicks), self._namespace)).tobytes()
            except CountersUnavailable as error:
                log.warning("counters cannot be reached: %s", error)
                return self._unjudged(clicks)
        t, looked_up = entries.now(), b""
        if (lookups := self._shared.lookups) is not None:
            looked_up = lookups.of_clicks(clicks, t).tobytes()
        return await self._commit(entries.Clicks(clicks, t, counts, looked_up, self._namespace))

    def _unjudged(self, clicks: list[Click]) -> list[ClickAnswer]:
        answers: list[ClickAnswer] = []
        for click in clicks:
            answer = self._guard.answered_before(click.click_id)
            if answer is None:
                self._shared.degraded += 1
                slice_, version = self._guard.slice_of(click), self._guard.model.version
                answer = ClickAnswer(click.click_id, "unknown", None, None, slice_, version, None, DEGRADED)
            answers.append(answer)
        return answers

    async def infer(self, X: np.ndarray, codes: np.ndarray | None, slices: list[str] | None) -> Inferred:
        """What the live model's network says of features, to the bits that it says of clicks; learns nothing.

        X: (n, WIDTH) float32. codes: (n, 3) uint32, for a network that needs them. slices: whose thresholds to tell.
        Raises InvalidArgument where the network needs codes and there are none.
        """
        model = self._guard.model
        embeds = getattr(getattr(model.scorer, "params", None), "tables", None) is not None
        if embeds and codes is None:
            raise InvalidArgument("categories", "are missing; this network has an embedding and needs them")
        p_robot = await asyncio.to_thread(scored_singly, model.scorer, X, codes if embeds else None)
        limits = None if slices is None else np.array(self._guard.limits_of(slices), np.float64)
        return Inferred(model.version, p_robot, limits)

    def model_version(self) -> str:
        """The version of the model that decides."""
        return self._guard.model.version

    async def labels(self, labels: Sequence[Label]) -> list[LabelAnswer]:
        """Take what became known of clicks; one answer each.

        Raises JournalUnavailable if nothing can be kept: of the part of the request that it hits nothing is then taken,
        and sending all of it again does no harm.
        """
        return await self._under_way(self._in_parts(labels, entries.Labels))

    async def decisions(self, decisions: Sequence[Decision]) -> list[DecisionAnswer]:
        """Let decisions about clicks take the place of those that they name; one answer each. Raises as `labels`."""
        return await self._under_way(self._in_parts(decisions, entries.Decisions))

    async def _in_parts(self, items: Sequence[Any], entry: type[entries.Labels | entries.Decisions]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(items), KNOWN_AT_ONCE):
            if start:
                await give_way()
            part = list(items[start : start + KNOWN_AT_ONCE])
            answered = await self._commit(entry(part, entries.now(), self._namespace))
            for answer in answered:
                if isinstance(answer, DecisionAnswer):
                    self._shared.delayed[answer.outcome] += 1
            answers += answered
        return answers

    async def erase(self, user_id: str) -> Erased:
        """See `Erasing.erase`."""
        return await self._under_way(self._shared.erasing.erase(user_id, self._namespace))

    def explain(self, event: Event | Click) -> dict[str, Any]:
        """See `Guard.explain`."""
        return self._guard.explain(event)

    async def slices(
        self,
        of: Of | None,
        sort: Sort = "events",
        descending: bool = True,
        limit: int = 100,
        offset: int = 0,
        contains: str = "",
    ) -> dict[str, Any]:
        """Slices for a table, those whose key contains the text, sorted by a column; those that lack it come last."""
        streams: list[Of] = ["clicks", "events"] if of is None else [of]
        figures: dict[Of, Figures] = {stream: self._figures(stream) for stream in streams}
        return await listed(figures, sort, descending, limit, offset, contains)

    def slice(self, of: Of, key: Any) -> dict[str, Any]:
        """One slice with its latest judgements, and what drove the last of them. Raises KeyError for one not known."""
        key = tuple(key) if isinstance(key, list) else key
        figures = self._figures(of)
        row = figures.row(key, of == "clicks")
        return {
            "of": of,
            **row,
            "history": figures.history(key, of == "clicks"),
            "drivers": self._guard.drivers(of, key),
        }

    def _figures(self, of: Of) -> Figures:
        return self._guard.click_figures if of == "clicks" else self._guard.event_figures

    def watch(self) -> dict[str, Any]:
        """What the live watch has seen of the model that decides, and its alarms."""
        return self._guard.watching.shown()

    async def _under_way[Answers](self, answers: Awaitable[Answers]) -> Answers:
        """Count a request until it is answered."""
        self._shared.queue += 1
        try:
            return await answers
        finally:
            self._shared.queue -= 1


async def _whole(checking: Generator[None], items: Sequence[Any]) -> None:
    """Check a request, with turns for others in between if it is large."""
    for _ in checking:
        if len(items) > EVENTS_AT_ONCE:
            await give_way()
