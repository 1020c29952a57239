"""Core: the guard, made durable. What the HTTP layer calls, and nothing that knows of HTTP.

Every request that changes something becomes entries of the journal, and each entry is applied when it is written, in
the order of the journal. `open` takes the newest snapshot and applies the entries after it, so a service that was
killed goes on as if it had not been.

Large requests are worked off in parts, between which others get their turn; each part is an entry of its own.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from onlineguard.engine.arguments import named_model
from onlineguard.errors import CheckpointError, Conflict, InvalidArgument
from onlineguard.slidr.clicks.click import Click
from onlineguard.slidr.counting.counters import ClickKeys
from onlineguard.slidr.features import NAMES
from onlineguard.slidr.model import FEATURES, Model
from onlineguard.wire.answers import ClickAnswer, EventAnswer, LabelAnswer
from onlineguard.wire.requests import Event, Label, Of, Sort
from onlineguard_service import entries
from onlineguard_service.config import Settings
from onlineguard_service.entries import Options
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.figures import Figures
from onlineguard_service.following import Following
from onlineguard_service.gather import Gather
from onlineguard_service.guard import Guard
from onlineguard_service.history import recorder as history
from onlineguard_service.history.recorder import PART, Recorder
from onlineguard_service.journal import forked
from onlineguard_service.journal.journal import FolderJournal, Journal
from onlineguard_service.journal.packing import Packed, unpack
from onlineguard_service.journal.redis_journal import RedisJournal
from onlineguard_service.listing import listed
from onlineguard_service.models import Models
from onlineguard_service.patience import give_way
from onlineguard_service.redis.counting import CountersUnavailable, Counting
from onlineguard_service.turns import Turns

CLICKS_AT_ONCE = 64  # of a request; a millisecond or two
CLICKS_BESIDE = 32  # of a larger one, before others get their turn
EVENTS_AT_ONCE = 256
ROOM = 10_000  # slices that the engines have room for at the start
AHEAD_EVERY = 1.0  # seconds between looks at whether a table is so full that it will soon grow, which compiles again
DEGRADED = ["counters"]
SHOWN = 100  # slices whose IVR the metrics show, those of most clicks: more would burden Prometheus
MINUTE = 60  # seconds that the page's IVR is taken over

log = logging.getLogger("onlineguard.service")


class Core:
    """See this module. Made by `open`."""

    def __init__(
        self,
        guard: Guard,
        journal: Journal,
        models: Models,
        counting: Counting | None,
        every: float,
        following: Following | None = None,
    ):
        self._guard, self._journal, self._models, self._counting = guard, journal, models, counting
        self._every, self._following = every, following
        self._turns = Turns()
        self._looks: asyncio.Task[None] | None = None
        self._taking_back: asyncio.Task[None] | None = None
        self._snapshot: dict[str, Any] = {"sequence": 0, "t": None}
        self._snapshotting = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None
        self._ahead: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._recording: set[asyncio.Task[None]] = set()
        self._closing = False
        self._queue = 0  # requests under way
        self._gathering = jax.default_backend() == "gpu"
        self._gathered_events, self._gathered_clicks = Gather(self._learn), Gather(self._decide)
        self._degraded = 0  # clicks that could not be judged
        self._ticks: deque[tuple[float, int, int, int]] = deque(maxlen=MINUTE + 1)  # when, events, clicks, robotic

    @classmethod
    async def open(cls, settings: Settings) -> "Core":
        """Recover, or begin; then compile everything. Takes seconds, with a new model some more.

        Raises CheckpointError where the state is damaged, newer, or was begun with other options that cannot change.
        """
        _Compilations.listen()
        options = _options(settings)
        models = Models(settings.state / "models")
        following = None
        if settings.registry is not None:
            following = Following(settings.registry, models, settings.state / "models")
        journal = await asyncio.to_thread(_journal, settings)
        guard: Guard | None = None
        try:
            recording = None if settings.history == "off" else partial(_recorder, settings, journal.sequence)
            guard = await asyncio.to_thread(_recovered, journal, options, models, recording)
            first = None
            if guard is None:
                first = await asyncio.to_thread(_first_model, settings, models, following)
                guard = Guard(options, first, models.get)
                guard.source = secrets.token_hex(4)
                guard.recorder = recording and recording(guard, None)
            await asyncio.to_thread(guard.warmup, max(CLICKS_AT_ONCE, EVENTS_AT_ONCE), ROOM)
            counting = None if settings.redis is None else Counting(settings.redis, settings.redis_prefix)
            core = cls(guard, journal, models, counting, settings.snapshot_every, following)
            if first is not None:
                begin = entries.Begin(options, first, _now(), guard.source)
                await journal.commit(entries.encode(begin), core._began)
            else:
                await core._tune(options)
                if settings.model is not None:
                    await core.switch(settings.model, force=True)  # the operator starts the service with it
        except BaseException:
            await journal.close()
            if guard is not None and guard.recorder is not None:
                guard.recorder.close()
            raise
        core._take_back_if_owed()
        if following is not None:
            await core._follow()
            core._looks = asyncio.create_task(core._following_on(settings.registry_every))
        core._timer = asyncio.create_task(core._snapshots())
        core._ahead = asyncio.create_task(core._compiling_ahead())
        if isinstance(journal, RedisJournal):
            journal.on_lost = core._journal_lost
        return core

    def _began(self, sequence: int) -> None:
        self._guard.sequence = sequence

    async def _tune(self, options: Options) -> None:
        """Take on what the operator chose anew of what may change."""
        kept = self._guard.options
        changed = [name for name in entries.CHANGEABLE if getattr(kept, name) != getattr(options, name)]
        if changed:
            told = ", ".join(f"{name} {getattr(kept, name):g} to {getattr(options, name):g}" for name in changed)
            await self._commit(entries.Tune(options, _now()))
            log.info("the state goes on with other settings: %s", told)

    async def update(self, events: Sequence[Event]) -> list[EventAnswer]:
        """Judge events, then learn them, in order; one answer each.

        Raises InvalidArgument for any that does not fit, JournalUnavailable if nothing can be kept: of the part of the
        request that it hits nothing is then learned, and sending all of it again does no harm where events have ids.
        """
        self._guard.check(events)
        return await self._under_way(self._gathered_events.submit(events) if self._gathering else self._learn(events))

    async def _learn(self, events: Sequence[Event]) -> list[EventAnswer]:
        answers: list[EventAnswer] = []
        if events and self._guard.events is None:  # a second of compiling, in which others are answered
            await asyncio.to_thread(self._guard.prepare, events[0])
        for start in range(0, len(events), EVENTS_AT_ONCE):
            if start:
                await give_way()
            answers += await self._commit(entries.Events(list(events[start : start + EVENTS_AT_ONCE]), _now()))
        return answers

    async def score(self, events: Sequence[Event]) -> list[EventAnswer]:
        """The answers that these events would get if each came next; nothing is learned. Raises InvalidArgument."""
        answers: list[EventAnswer] = []
        for start in range(0, len(events), EVENTS_AT_ONCE):
            if start:
                await give_way()
            answers += self._guard.score(events[start : start + EVENTS_AT_ONCE])
        return answers

    async def clicks(self, clicks: Sequence[Click]) -> list[ClickAnswer]:
        """Decide about clicks, and learn them, in order; one answer each.

        Where the counters cannot be reached the answer is "unknown" and says so, and nothing is learned. Raises IdTaken
        for a click_id that came before with another click.
        """
        self._guard.check_clicks(clicks)
        return await self._under_way(self._gathered_clicks.submit(clicks) if self._gathering else self._decide(clicks))

    async def _decide(self, clicks: Sequence[Click]) -> list[ClickAnswer]:
        answers: list[ClickAnswer] = []
        whole = self._gathering or len(clicks) <= CLICKS_AT_ONCE
        step = CLICKS_AT_ONCE if whole else CLICKS_BESIDE
        if len(clicks) <= step:
            return await self._judge(list(clicks)) if clicks else []
        async with self._turns.request():  # one model for all of them
            for start in range(0, len(clicks), step):
                if start:
                    await give_way()
                answers += await self._judge(list(clicks[start : start + step]))
        return answers

    async def _judge(self, clicks: list[Click]) -> list[ClickAnswer]:
        counts = b""
        if self._counting is not None:
            try:
                counts = (await self._counting.count(ClickKeys.of(clicks))).tobytes()
            except CountersUnavailable as error:
                log.warning("counters cannot be reached: %s", error)
                return self._unjudged(clicks)
        return await self._commit(entries.Clicks(clicks, _now(), counts))

    def _unjudged(self, clicks: list[Click]) -> list[ClickAnswer]:
        answers: list[ClickAnswer] = []
        for click in clicks:
            answer = self._guard.answered_before(click.click_id)
            if answer is None:
                self._degraded += 1
                slice_, version = self._guard.slice_of(click), self._guard.model.version
                answer = ClickAnswer(click.click_id, "unknown", None, None, slice_, version, None, DEGRADED)
            answers.append(answer)
        return answers

    async def labels(self, labels: Sequence[Label]) -> list[LabelAnswer]:
        """Take what became known of clicks; one answer each."""
        return await self._under_way(self._commit(entries.Labels(list(labels), _now()))) if labels else []

    async def switch(self, folder: Path, force: bool = False) -> str:
        """Let the model of a folder decide from now on, and return its version.

        Raises CheckpointError if it cannot, or, without `force`, if it does not fit the clicks that come.
        """
        model = await asyncio.to_thread(self._models.put, folder)
        if model.version != self._guard.model.version:
            await self._let_decide(model, b"", force)
        return model.version

    async def switch_to(self, version: str, force: bool = False, still: Callable[[], bool] = lambda: True) -> str:
        """Let a version of the registry decide, until the registry changes; as `switch`.

        Raises InvalidArgument for a version that is not there, and where the service follows no registry.
        """
        if self._following is None:
            raise InvalidArgument("version", f"is {version!r}, but no registry is set; name the folder of a model")
        model, promises = await asyncio.to_thread(self._following.fetch, version)
        if (version, promises) != (self._guard.model.version, self._guard.watching.promises):
            await self._let_decide(model, promises, force, still)
        return version

    async def _let_decide(
        self, model: Model, promises: bytes, force: bool, still: Callable[[], bool] = lambda: True
    ) -> None:
        """Compile beside the live model, and switch between two requests if it is `still` right then."""
        if not force and (wrong := self._guard.misfit(model)) is not None:
            raise CheckpointError(f'{wrong}; send "force": true if it shall decide all the same')
        await asyncio.to_thread(self._guard.warm, model)
        async with self._turns.change():
            if still():
                await self._commit(entries.Switch(model.version, _now(), promises))

    async def _following_on(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            await self._follow()

    async def _follow(self) -> None:
        """Take the registry's current version, if that has changed. What prevents it is logged."""
        assert self._following is not None
        following, taken_back = self._following, self._guard.watching.taken_back

        def still() -> bool:  # nothing was taken back meanwhile, and nothing shall be
            return self._guard.watching.taken_back == taken_back and self._guard.rollback(0) is None

        try:
            head = await asyncio.to_thread(following.look)
            if head is None:
                return
            if taken_back is not None and head.current == taken_back[0]:
                head = await asyncio.to_thread(following.take_back, head, *taken_back[1:])
            following.refused = None
            try:
                await self.switch_to(head.current, still=still)
            except (CheckpointError, InvalidArgument) as error:
                following.refuse(head.current)
                log.error("the registry's current version is not used: %s", error)
            if still():
                following.dealt_with = head.generation
        except Conflict:
            pass  # the next look sees what came between
        except Exception as error:
            log.warning("the registry cannot be followed now: %s", error)

    def _take_back_if_owed(self) -> None:
        if self._guard.rollback(0) is not None and (self._taking_back is None or self._taking_back.done()):
            self._taking_back = asyncio.create_task(self._take_back())

    async def _take_back(self) -> None:
        """Go back to the model before, as an alarm of the live watch asks."""
        while (entry := self._guard.rollback(_now())) is not None:
            try:
                await asyncio.to_thread(self._guard.warm, self._models.get(entry.version))
                async with self._turns.change():
                    if (entry := self._guard.rollback(_now())) is not None:
                        await self._commit(entry)
                        log.error("model %s decides again: %s", entry.version, entry.why)
            except JournalUnavailable as error:
                log.warning("the model cannot be taken back yet: %s", error)
                await asyncio.sleep(1.0)
        if self._following is not None:
            self._following.dealt_with = 0
            await self._follow()

    async def snapshot(self) -> int:
        """Write all state beside the journal, and return the number of the last entry that it holds."""
        recorder = self._guard.recorder
        async with self._snapshotting:
            if recorder is not None:
                recorder.check()
            parts = self._packed()
            sequence = await self._journal.begin_snapshot(
                parts if recorder is None else recorder.before(parts, self._guard.sequence)
            )
            self._snapshot = {"sequence": sequence, "t": _now()}
            if recorder is not None:
                recorder.taken(sequence)
            return sequence

    def _packed(self) -> Mapping[str, bytes | memoryview]:
        """The state as it is now, to be looked at in another thread."""
        if forked.AVAILABLE:
            self._guard.fetch()
            try:
                return forked.Forked(self._guard.dump)
            except OSError as error:
                log.warning("the process cannot be forked (%s): requests wait while a snapshot is packed", error)
        return Packed(self._guard.dump())

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

    def live(self) -> dict[str, Any]:
        """What the page shows of this moment but for latencies; rates are since the call before."""
        events, clicks = (figures.totals() for figures in (self._guard.event_figures, self._guard.click_figures))
        self._ticks.append((time.monotonic(), events["events"], clicks["events"], clicks["robotic"]))
        oldest, (now, n_events, n_clicks, robotic) = self._ticks[0], self._ticks[-1]
        before = self._ticks[-2] if len(self._ticks) > 1 else self._ticks[-1]
        passed = max(now - before[0], 1e-3)
        return {
            "t": _now(),
            "model_version": self._guard.model.version,
            "marks": [{"t": t, "model_version": version} for t, version in self._guard.marks],
            "rates": {"events": (n_events - before[1]) / passed, "clicks": (n_clicks - before[2]) / passed},
            "ivr": (robotic - oldest[3]) / (n_clicks - oldest[2]) if n_clicks > oldest[2] else None,
        }

    def reasons(self) -> list[str]:
        """Why requests are not answered now, if they are not. Takes no time, however many slices there are."""
        return [reason for reason in (self._journal.refusal, "shutting down" if self._closing else None) if reason]

    def status(self) -> dict[str, Any]:
        """What the metrics show."""
        reasons = self.reasons()
        events, clicks = (figures.totals() for figures in (self._guard.event_figures, self._guard.click_figures))
        return {
            "ready": not reasons,
            "reasons": reasons,
            "events": events["events"],
            "clicks": clicks["events"],
            "anomalies": events["anomalies"] + clicks["anomalies"],
            "robotic": clicks["robotic"],
            "degraded": self._degraded,
            "journal": {
                "sequence": self._journal.sequence,
                "lag": self._journal.lag,
                "bytes": self._journal.size,
            },
            "snapshot": dict(self._snapshot),
            "history": self._history(),
            "queue": self._queue,
            "compilations": _Compilations.seen,
            "labels": {"last_ts": self._guard.label_t},
            "model_version": self._guard.model.version,
            "ivr": self._guard.click_figures.ivr(SHOWN),
            "purchases": clicks["purchases"],
            "watch": {**self.watch(), "n_alarms": self._guard.watching.n_alarms},
            "registry": self._registry(),
        }

    def watch(self) -> dict[str, Any]:
        """What the live watch has seen of the model that decides, and its alarms."""
        return self._guard.watching.shown()

    def _registry(self) -> dict[str, Any] | None:
        if self._following is None:
            return None
        return {
            "reached": self._following.reached,
            "refused": self._following.refused is not None,
            "refusals": self._following.n_refused,
        }

    def _history(self) -> dict[str, Any] | None:
        recorder = self._guard.recorder
        if recorder is None:
            return None
        return {"sequence": recorder.closed, "waiting": recorder.waiting, "behind": recorder.behind}

    def digest(self) -> str:
        """A hash of all state; see `Guard.digest`."""
        return self._guard.digest()

    async def close(self) -> None:
        """Take nothing more, wait for what is under way, write a last snapshot."""
        self._closing = True
        for task in (self._timer, self._ahead, self._looks, self._taking_back):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        while self._queue:
            await asyncio.sleep(0.01)
        try:
            # Redis may have lost what it had, which nobody knows of before something is written
            if self._guard.sequence > self._snapshot["sequence"] or isinstance(self._journal, RedisJournal):
                await self.snapshot()
        except Exception as error:  # all of it is in the journal
            log.error("the last snapshot could not be written: %s", error)
        finally:
            await self._journal.close()
            if self._counting is not None:
                await self._counting.close()
            if self._guard.recorder is not None:
                await asyncio.gather(*self._recording, return_exceptions=True)
                self._guard.recorder.close()

    def _journal_lost(self) -> None:
        """Redis came back without entries that were answered: it takes none until it has all state from here."""

        async def restore(journal: RedisJournal) -> None:
            while journal.lost and not self._closing:
                try:
                    await self.snapshot()
                except JournalUnavailable as error:
                    log.warning("Redis has lost entries, and the state could not be written to it yet: %s", error)
                    await asyncio.sleep(1.0)

        if isinstance(self._journal, RedisJournal):
            self._restoring = asyncio.create_task(restore(self._journal))

    async def _commit(self, entry: entries.Entry) -> Any:
        return await self._journal.commit(entries.encode(entry), partial(self._applied, entry))

    def _applied(self, entry: entries.Entry, sequence: int) -> Any:
        answers = self._guard.apply(entry, sequence)
        self._take_back_if_owed()
        recorder = self._guard.recorder
        if recorder is not None and recorder.full:
            recorder.seal(sequence)
            task = asyncio.create_task(self._recorded(recorder))
            self._recording.add(task)
            task.add_done_callback(self._recording.discard)
        return answers

    async def _recorded(self, recorder: Recorder) -> None:
        try:
            await asyncio.to_thread(recorder.write)
        except JournalUnavailable as error:  # the next snapshot tries again
            log.error("%s", error)

    async def _under_way[Answers](self, answers: Awaitable[Answers]) -> Answers:
        """Count a request until it is answered."""
        self._queue += 1
        try:
            return await answers
        finally:
            self._queue -= 1

    async def _snapshots(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            if self._guard.sequence > self._snapshot["sequence"]:
                try:
                    await self.snapshot()
                except Exception as error:  # the journal has everything: the next one may succeed
                    log.error("a snapshot could not be written: %s", error)

    async def _compiling_ahead(self) -> None:
        while True:
            await asyncio.sleep(AHEAD_EVERY)
            if self._guard.crowded:
                log.info("a table of slices is half full: compiling for twice its size")
                try:
                    await asyncio.to_thread(self._guard.compile_ahead)
                except Exception as error:  # an event will compile, and wait for it
                    log.warning("could not compile ahead: %s", error)


def _journal(settings: Settings) -> Journal:
    if settings.journal == "redis":
        if settings.redis is None:
            raise InvalidArgument("journal is 'redis', but no redis is named; give its URL, or keep the journal here")
        return RedisJournal(settings.redis, settings.redis_prefix, settings.durability)
    return FolderJournal(settings.state / "journal", settings.durability)


Recording = Callable[[Guard, bytes | None], Recorder]  # of a guard as it is, and what a snapshot kept of the last one


def _recovered(journal: Journal, options: Options, models: Models, recording: Recording | None = None) -> Guard | None:
    """The guard as it was after the last entry; None where nothing has begun."""
    guard: Guard | None = None
    found = journal.newest_snapshot()
    if found is not None:
        _, parts = found
        recorded = parts.pop(PART, None)
        dump = {name: unpack(part) for name, part in parts.items()}
        guard = Guard.restored(dump, models.get)
        guard.recorder = recording and recording(guard, recorded)
    n = 0
    for sequence, data in journal.replay(0 if guard is None else guard.sequence):
        entry = entries.decode(data)
        if guard is None:
            if not isinstance(entry, entries.Begin):
                raise CheckpointError(f"entry {sequence} of the journal is the first and begins nothing")
            guard = Guard(entry.options, entry.version, models.get)
            guard.source = entry.source
            guard.recorder = recording and recording(guard, None)
            guard.sequence = sequence
        else:
            with contextlib.suppress(InvalidArgument):  # refused then, and now
                guard.apply(entry, sequence)
            if guard.recorder is not None and guard.recorder.full:
                guard.recorder.seal(sequence)
                guard.recorder.write()
        n += 1
    if guard is not None:
        _check(guard.options, options)
        log.info("recovered %d entries after snapshot %s", n, None if found is None else found[0])
    return guard


def _recorder(settings: Settings, newest: int, guard: Guard, kept: bytes | None) -> Recorder:
    """What keeps the history of a guard that stands where its snapshot does."""
    root = settings.history_folder or settings.state / "history"
    key = settings.state / "history.key" if settings.pseudonyms == "on" else None
    chosen = history.Options(root, settings.history_days, key)
    return Recorder(chosen, guard.source, guard.sequence, newest, kept, NAMES, FEATURES)


def _options(settings: Settings) -> Options:
    estimator = named_model(settings.detector, settings.target_rate, settings.patience)
    return Options(
        features=tuple(settings.features),
        n_features=settings.n_features,
        target_rate=float(estimator.target_rate),
        patience=getattr(estimator, "patience", None),
        max_slices=settings.max_slices,
        remember=settings.remember,
        rollback=settings.rollback == "on",
        counting=settings.redis is None,
        detector=settings.detector,
        categories=tuple(settings.categories),
    )


def _check(kept: Options, asked: Options) -> None:
    for name in kept.__struct_fields__:
        if name not in entries.CHANGEABLE and getattr(kept, name) != getattr(asked, name):
            raise CheckpointError(
                f"the state was begun with {name} = {getattr(kept, name)!r}, now it is {getattr(asked, name)!r}; keep "
                "what it was, or name another --state folder to begin anew"
            )


def _first_model(settings: Settings, models: Models, following: Following | None) -> str:
    if following is not None:
        return following.first().version
    if settings.model is not None:
        return models.put(settings.model).version
    log.info("no model is given: one is made of simulated clicks, which takes some seconds")
    return models.make().version


def _now() -> int:
    return time.time_ns() // 1_000_000


class _Compilations:
    """How many programs XLA has compiled in this process."""

    seen = 0
    _listening = False

    @classmethod
    def listen(cls) -> None:
        if not cls._listening:
            cls._listening = True
            jax.monitoring.register_event_duration_secs_listener(cls._heard)

    @classmethod
    def _heard(cls, event: str, duration_secs: float, **kwargs: str | int) -> None:
        cls.seen += event.endswith("backend_compile_duration")
