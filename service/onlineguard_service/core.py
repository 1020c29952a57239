"""Core: the guard, made durable. What the HTTP layer calls, and nothing that knows of HTTP.

Every request that changes something becomes entries of the journal, and each entry is applied when it is written, in
the order of the journal. `open` takes the newest snapshot and applies the entries after it, so a service that was
killed goes on as if it had not been.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import jax

from onlineguard import programs
from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.lookups.lookups import Lookups
from onlineguard_service import entries, tracing
from onlineguard_service.answering import CLICKS_AT_ONCE, EVENTS_AT_ONCE, Answering, Shared
from onlineguard_service.config import Settings
from onlineguard_service.deciding import Deciding
from onlineguard_service.entries import Options
from onlineguard_service.erasing import Erasing
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.following import Following
from onlineguard_service.guard import Guard
from onlineguard_service.histogram import Histogram
from onlineguard_service.history.recorder import Recorder
from onlineguard_service.journal import forked
from onlineguard_service.journal.journal import TAKEN, Journal
from onlineguard_service.journal.packing import Packed
from onlineguard_service.models import Models
from onlineguard_service.recovery import (
    Fits,
    Recording,
    check,
    first_model,
    journal_of,
    options_of,
    recorder_of,
    recovered,
)
from onlineguard_service.redis.counting import Counting
from onlineguard_service.standing import Standing
from onlineguard_service.standing_by import BEAT_EVERY, stood_by, tail_of
from onlineguard_service.versions import Versions
from onlineguard_service.webhook import Webhook, keys_for

if TYPE_CHECKING:
    from onlineguard_service.journal.redis_journal import RedisJournal

ROOM = 10_000  # slices that the engines have room for at the start
WARM = (max(CLICKS_AT_ONCE, EVENTS_AT_ONCE), ROOM)  # what is compiled before the service is ready
AHEAD_EVERY = 1.0  # seconds between looks at whether a table is so full that it will soon grow, which compiles again
SHOWN = 100  # slices whose IVR the metrics show, those of most clicks: more would burden Prometheus
MINUTE = 60  # seconds that the page's IVR is taken over

log = logging.getLogger("onlineguard.service")


class Core(Answering):
    """See this module. Made by `open`."""

    def __init__(
        self,
        guard: Guard,
        journal: Journal,
        models: Models,
        counting: Counting | None,
        settings: Settings,
        following: Following | None = None,
        lookups: Lookups | None = None,
        keys: list[bytes] | None = None,
    ):
        self._journal, self._counting, self._lookups = journal, counting, lookups
        guard.looking_up = lookups is not None
        self._every = settings.snapshot_every
        self._erasing = Erasing(guard, journal, counting, settings, self._write, self.snapshot)
        self._deciding = Deciding(guard, models, following, self._write)
        super().__init__(guard, Shared(self._write, self._deciding, self._erasing, counting, lookups))
        self._webhook = Webhook(guard, settings.webhook, keys, settings.state) if settings.webhook and keys else None
        self._telling: asyncio.Task[None] | None = None
        self.versions = Versions(guard, following, self._deciding.follow)
        self._snapshot: dict[str, Any] = {"sequence": 0, "t": None}
        self._snapshot_trouble: str | None = None  # why the last one failed
        self._snapshot_failures = 0
        self._newest: float | None = None  # when the newest entry came, by the monotonic clock
        # Since when there has been an entry that no snapshot holds. After a start that is not known: there may be one.
        self._behind = time.monotonic() if guard.sequence else None
        self._before = self._n_again()  # what the replay found
        self._snapshotting = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None
        self._ahead: asyncio.Task[None] | None = None
        self._looks: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._recording: set[asyncio.Task[None]] = set()
        self._closing = False
        self._making = asyncio.Lock()  # of namespaces
        self._evicted = self._n_evicted()  # before this process
        self._told_of_evictions = False
        self._ticks: deque[tuple[float, int, int, int]] = deque(maxlen=MINUTE + 1)  # when, events, clicks, robotic

    @classmethod
    async def open(cls, settings: Settings, standing: Standing | None = None) -> "Core":
        """Recover, or begin, or stand by until it is time; then compile everything. Takes seconds, with a new model
        some more.

        Raises CheckpointError where the state is damaged, newer, or was begun with other options that cannot change.
        """
        _Compilations.listen()
        options, keys = options_of(settings), keys_for(settings)
        fits = partial(check, asked=options, carry=settings.other_features == "carry")
        models = Models(settings.state / "models")
        following = None
        if settings.registry is not None:
            following = Following(settings.registry, models, settings.state / "models")
        guard: Guard | None = None
        if settings.standby == "on":
            recording = None if settings.history == "off" else partial(recorder_of, settings, 0, following=True)
            journal, guard = await _stood_by(settings, fits, models, standing or Standing(), recording)
        else:
            journal = await asyncio.to_thread(journal_of, settings)
        beating = asyncio.create_task(_beating(journal))
        try:
            first = None
            if guard is None:
                recording = None if settings.history == "off" else partial(recorder_of, settings, journal.sequence)
                guard = await asyncio.to_thread(recovered, journal, fits, models, recording)
                if guard is None:
                    first = await asyncio.to_thread(first_model, settings, models, following)
                    guard = Guard(options, first, models.get)
                    guard.source = secrets.token_hex(4)
                    guard.recorder = recording and recording(guard, None)
                await asyncio.to_thread(guard.warmup, *WARM)
            counting = (
                None
                if settings.redis is None
                else Counting(settings.redis, settings.redis_prefix, settings.redis_replicas)
            )
            lookups = None if settings.lookups is None else await asyncio.to_thread(Lookups, settings.lookups)
            core = cls(guard, journal, models, counting, settings, following, lookups, keys)
            core._beating = beating
            if first is not None:
                begin = entries.Begin(options, first, entries.now(), guard.source)
                await journal.commit(entries.encode(begin), core._began)
            else:
                fits(guard.options)  # a standby may have followed the journal to other ones
                if _in_redis(journal):
                    await core._restore(journal)
                await core._carry(options)
                await core._tune(options)
                if settings.model is not None:
                    await core._deciding.switch(settings.model, force=True)  # the operator starts the service with it
                try:
                    await core._erasing.finish()
                except JournalUnavailable as error:
                    if settings.standby == "off":
                        raise
                    log.error("an erasure that is owed is finished by the next start, or the next erasure: %s", error)
        except BaseException:
            beating.cancel()
            await journal.close()
            if guard is not None and guard.recorder is not None:
                guard.recorder.close()
            raise
        programs.write()
        await core._deciding.begin(settings.registry_every)
        core._timer = asyncio.create_task(core._snapshots())
        core._ahead = asyncio.create_task(core._compiling_ahead())
        if lookups is not None:
            core._looks = asyncio.create_task(core._looking(lookups, settings.lookups_every))
        if core._webhook is not None:
            core._telling = asyncio.create_task(core._webhook.run())
        if _in_redis(journal):
            journal.on_lost = core._journal_lost
        return core

    def _began(self, sequence: int) -> None:
        self._guard.sequence = sequence

    async def _carry(self, options: Options) -> None:
        """Go on with the features that the operator chose, if they are others."""
        kept = self._guard.options
        if all(getattr(kept, name) == getattr(options, name) for name in entries.CARRIED):
            return
        try:
            self._guard.check_features(options)
        except InvalidArgument as error:
            raise CheckpointError(f"the state cannot go on with other features: {error}") from error
        await self._commit(entries.Features(options, entries.now()))
        log.info("the state goes on with other features: %s", ", ".join(options.features) or options.n_features)

    async def _tune(self, options: Options) -> None:
        """Take on what the operator chose anew of what may change."""
        kept = self._guard.options
        changed = [name for name in entries.CHANGEABLE if getattr(kept, name) != getattr(options, name)]
        if changed:
            told = ", ".join(f"{name} {getattr(kept, name):g} to {getattr(options, name):g}" for name in changed)
            await self._commit(entries.Tune(options, entries.now()))
            log.info("the state goes on with other settings: %s", told)

    async def switch(self, folder: Path, force: bool = False) -> str:
        """See `Deciding.switch`."""
        return await self._deciding.switch(folder, force)

    async def switch_to(self, version: str, force: bool = False) -> str:
        """See `Deciding.switch_to`."""
        return await self._deciding.switch_to(version, force)

    async def try_folder(self, folder: Path, share: float, force: bool = False) -> dict[str, Any]:
        """See `Deciding.try_folder`; what `trial` says then."""
        await self._deciding.try_folder(folder, share, force)
        return self.trial()

    async def try_version(self, version: str, share: float, force: bool = False) -> dict[str, Any]:
        """See `Deciding.try_version`; what `trial` says then."""
        await self._deciding.try_version(version, share, force)
        return self.trial()

    async def end_trial(self) -> dict[str, Any]:
        """Let the candidate judge no more; what `trial` says then."""
        await self._deciding.end_trial("it was ended")
        return self.trial()

    def trial(self) -> dict[str, Any]:
        """The candidate that judges beside the live model, or did so last, and how the two compare."""
        return self._guard.trying.shown()

    async def within(self, namespace: str) -> Answering:
        """The requests of a namespace, whose programs are compiled meanwhile if it is new."""
        own = self._own
        async with self._making:
            while namespace not in own.namespaces:
                turn = own.turns
                made = await asyncio.to_thread(own.made)
                if turn == own.turns:
                    own.namespaces.setdefault(namespace, made)
        return Answering(own, self._shared, namespace)

    async def snapshot(self) -> int:
        """Write all state beside the journal, and return the number of the last entry that it holds."""
        recorder = self._guard.recorder
        async with self._snapshotting:
            if recorder is not None:
                recorder.check()
            parts, began = self._packed(), time.monotonic()
            try:
                sequence = await self._journal.begin_snapshot(
                    parts if recorder is None else recorder.before(parts, self._guard.sequence)
                )
            except Exception as error:
                self._snapshot_trouble, self._snapshot_failures = str(error), self._snapshot_failures + 1
                raise
            self._snapshot_trouble = None
            self._behind = None if self._guard.sequence == sequence else began
            self._snapshot = {"sequence": sequence, "t": entries.now()}
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

    def live(self) -> dict[str, Any]:
        """What the page shows of this moment but for latencies; rates are since the call before."""
        events, clicks = (figures.totals() for figures in (self._guard.event_figures, self._guard.click_figures))
        self._ticks.append((time.monotonic(), events["events"], clicks["events"], clicks["robotic"]))
        oldest, (now, n_events, n_clicks, robotic) = self._ticks[0], self._ticks[-1]
        before = self._ticks[-2] if len(self._ticks) > 1 else self._ticks[-1]
        passed = max(now - before[0], 1e-3)
        return {
            "t": entries.now(),
            "model_version": self._guard.model.version,
            "marks": [{"t": t, "model_version": version} for t, version in self._guard.marks],
            "rates": {"events": (n_events - before[1]) / passed, "clicks": (n_clicks - before[2]) / passed},
            "ivr": (robotic - oldest[3]) / (n_clicks - oldest[2]) if n_clicks > oldest[2] else None,
            "alarms": {"change": self._guard.alarms.change, "open": self._guard.alarms.n_open},
            "parts": self._shown_parts(),
        }

    def _shown_parts(self) -> dict[str, Any]:
        """The parts of the service as the page shows them. Takes no time, however many slices there are."""
        parts, redis = self._parts(), self._redis()
        syncs = parts["journal"].pop("syncs")
        return {
            **parts,
            "degraded": self.degraded(),
            "slices": {"events": len(self._guard.event_figures), "clicks": len(self._guard.click_figures)},
            "syncs": None if syncs is None else _took(syncs),
            "redis": redis and {of: _took(seconds) for of, seconds in redis["seconds"].items()},
            "failures": redis and redis["failures"],
        }

    def reasons(self) -> list[str]:
        """Why requests are not answered now, if they are not. Takes no time, however many slices there are."""
        return [reason for reason in (self._journal.refusal, "shutting down" if self._closing else None) if reason]

    def degraded(self) -> list[str]:
        """What does not work as it should although requests are answered, a sentence a part."""
        counting, history = self._counting, self._history()
        troubles = {
            "journal": self._journal.trouble,
            "counters": None if counting is None else counting.trouble,
            "snapshot": self._snapshot_trouble,
            "webhook": None if self._webhook is None else self._webhook.trouble,
            "history": "a restart completes it once there is room" if history and history["behind"] else None,
        }
        return [f"{part}: {trouble}" for part, trouble in troubles.items() if trouble is not None]

    def status(self) -> dict[str, Any]:
        """What the metrics show. Takes no time, however many slices there are."""
        reasons = self.reasons()
        spaces = {"": self._guard, **self._guard.namespaces}
        by_space = {name: (one.event_figures.totals(), one.click_figures.totals()) for name, one in spaces.items()}
        events, clicks = (_summed(totals) for totals in zip(*by_space.values(), strict=True))
        duplicates, conflicts = (n - before for n, before in zip(self._n_again(), self._before, strict=True))
        stores = [one.store for one in spaces.values() if one.store is not None]
        return {
            "ready": not reasons,
            "reasons": reasons,
            "events": events["events"],
            "clicks": clicks["events"],
            "anomalies": events["anomalies"] + clicks["anomalies"],
            "robotic": clicks["robotic"],
            "degraded": self._shared.degraded,
            "duplicates": duplicates,
            "conflicts": conflicts,
            "slices": {
                "events": _summed([one.event_figures.tables() for one in spaces.values()]),
                "clicks": _summed([one.click_figures.tables() for one in spaces.values()]),
            },
            "entities": _summed([store.sizes() for store in stores]) if stores else None,
            "namespaces": {
                name: {
                    "events": events["events"],
                    "clicks": clicks["events"],
                    "slices": sum(each.tables()["held"] for each in (one.event_figures, one.click_figures)),
                }
                for (name, (events, clicks)), one in zip(by_space.items(), spaces.values(), strict=True)
                if name
            },
            **self._parts(),
            "redis": self._redis(),
            "history": self._history(),
            "queue": self._shared.queue,
            "compilations": _Compilations.seen,
            "labels": {"last_ts": self._guard.label_t},
            "model_version": self._guard.model.version,
            "ivr": self._guard.click_figures.ivr(SHOWN),
            "rates": self._guard.click_figures.rates(SHOWN),
            "purchases": clicks["purchases"],
            "purchases_robotic": clicks["purchases_robotic"],
            "evicted": _summed([store.evicted for store in stores]) if stores else {},
            "delayed": self._shared.delayed,
            "alarms": {"begun": self._guard.alarms.begun, "open": self._guard.alarms.n_open},
            "webhook": None if self._webhook is None else self._webhook.status(),
            "watch": {**self.watch(), "n_alarms": self._guard.watching.n_alarms},
            "trial": {**self.trial(), "ended_by_itself": self._guard.trying.n_ended_by_itself},
            "registry": self._deciding.registry(),
            "lookups": self._looked_up(),
        }

    def _parts(self) -> dict[str, Any]:
        """Where the journal and its snapshots stand."""
        now = time.monotonic()
        return {
            "journal": {
                "sequence": self._journal.sequence,
                "age": None if self._newest is None else now - self._newest,
                "lag": self._journal.lag,
                "bytes": self._journal.size,
                "waiting": self._journal.waiting,
                "slow": self._journal.trouble is not None,
                "syncs": None if _in_redis(self._journal) else self._journal.seconds,
            },
            "snapshot": {
                **self._snapshot,
                "behind": 0.0 if self._behind is None else now - self._behind,
                "every": self._every,
                "failures": self._snapshot_failures,
            },
        }

    def _looked_up(self) -> dict[str, Any] | None:
        if self._lookups is None:
            return None
        version = self._lookups.in_force(entries.now())
        return {
            "version": version and version.name,
            "as_of": version and version.about.as_of,
            "damaged": len(self._lookups.damaged),
        }

    def _redis(self) -> dict[str, Any] | None:
        """How Redis answers, by what it is asked for; None where it is not used."""
        found: dict[str, Counting | RedisJournal] = {} if self._counting is None else {"counters": self._counting}
        if _in_redis(self._journal):
            found["journal"] = self._journal
        if not found:
            return None
        return {
            "seconds": {of: part.seconds for of, part in found.items()},
            "failures": {of: part.failures for of, part in found.items()},
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
        for task in (self._timer, self._ahead, self._looks, self._telling, *self._deciding.tasks):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        while self._shared.queue:
            await asyncio.sleep(0.01)
        try:
            await self._leave_snapshot()
        except Exception as error:  # all of it is in the journal
            log.error("the last snapshot could not be written: %s", error)
        finally:
            if self._beating is not None:  # until then, or a standby would take the journal over
                self._beating.cancel()
            await self._journal.close()
            if self._counting is not None:
                await self._counting.close()
            if self._guard.recorder is not None:
                await asyncio.gather(*self._recording, return_exceptions=True)
                self._guard.recorder.close()

    async def _leave_snapshot(self) -> None:
        """What the next start goes on from, where there is something new."""
        # Redis may have lost what it had, which nobody knows of before something is written
        if self._guard.sequence > self._snapshot["sequence"] or _in_redis(self._journal):
            await self.snapshot()

    def _journal_lost(self) -> None:
        """Redis came back without entries that were answered: it takes none until it has all state from here."""
        if _in_redis(self._journal):
            self._restoring = asyncio.create_task(self._restore(self._journal))

    async def _restore(self, journal: "RedisJournal") -> None:
        while journal.lost and not self._closing:
            try:
                await self.snapshot()
            except JournalUnavailable as error:
                log.warning("Redis has lost entries, and the state could not be written to it yet: %s", error)
                await asyncio.sleep(1.0)

    async def _write(self, entry: entries.Entry) -> Any:
        return await self._journal.commit(entries.encode(entry), tracing.here(partial(self._applied, entry)))

    def _applied(self, entry: entries.Entry, sequence: int) -> Any:
        self._newest = time.monotonic()
        if self._behind is None:
            self._behind = self._newest
        with tracing.span("guard"):
            answers = self._guard.apply(entry, sequence)
        self._deciding.take_back_if_owed()
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

    async def _snapshots(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            if self._guard.sequence > self._snapshot["sequence"]:
                try:
                    await self.snapshot()
                except Exception as error:  # the journal has everything: the next one may succeed
                    log.error("a snapshot could not be written: %s", error)

    def _n_evicted(self) -> int:
        spaces = (self._guard, *self._guard.namespaces.values())
        return sum(sum(one.store.evicted.values()) for one in spaces if one.store is not None)

    def _n_again(self) -> list[int]:
        spaces = (self._guard, *self._guard.namespaces.values())
        return [sum(counts) for counts in zip(*(one.again for one in spaces), strict=True)]

    def _tell_of_evictions(self) -> None:
        """Log once in the life of the process that entities go."""
        if not self._told_of_evictions and self._n_evicted() > self._evicted:
            self._told_of_evictions = True
            log.warning(
                "more users, sessions, addresses or ads click than max_entities, %d, allows to count: those that "
                "clicked least go, and count from zero when they come again; /metrics says how many",
                self._guard.options.max_entities,
            )

    async def _looking(self, lookups: Lookups, every: float) -> None:
        """Map versions of the lookups that are new, in good time before they come into force."""
        while True:
            await asyncio.sleep(every)
            try:
                if await asyncio.to_thread(lookups.look):
                    log.info("lookups: %s", ", ".join(version.name for version in lookups.versions[-2:]))
                    for why in lookups.damaged.values():
                        log.error("lookups are passed over: %s", why)
            except OSError as error:
                log.warning("lookups cannot be looked for now: %s", error)

    async def _compiling_ahead(self) -> None:
        while True:
            await asyncio.sleep(AHEAD_EVERY)
            self._tell_of_evictions()
            if self._guard.recorder is not None and _is_taken(self._journal):
                await asyncio.to_thread(self._guard.recorder.close)  # who took the journal keeps the history too
            if self._guard.crowded:
                log.info("a table of slices is half full: compiling for twice its size")
                try:
                    await asyncio.to_thread(self._guard.compile_ahead)
                except Exception as error:  # an event will compile, and wait for it
                    log.warning("could not compile ahead: %s", error)


def _in_redis(journal: Journal) -> "TypeGuard[RedisJournal]":
    """Whether a journal is kept in Redis. Where it is not, redis-py is not imported, which would take a while."""
    module = sys.modules.get("onlineguard_service.journal.redis_journal")
    return module is not None and isinstance(journal, module.RedisJournal)


def _is_taken(journal: Journal) -> bool:
    """Whether another process has taken the journal over, as far as this one knows."""
    return journal.fenced if _in_redis(journal) else journal.refusal == TAKEN


def _took(measured: Histogram) -> dict[str, float]:
    """How often something was done, and the seconds that it took in all."""
    return {"count": len(measured), "seconds": measured.sum}


async def _beating(journal: Journal) -> None:
    """Show a standby that this process is there."""
    while True:
        await journal.beat()
        await asyncio.sleep(BEAT_EVERY)


async def _stood_by(
    settings: Settings, fits: Fits, models: Models, standing: Standing, recording: Recording | None
) -> tuple[Journal, Guard]:
    """Follow another service until it is time to take its journal over."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, ValueError):  # Windows; tests in other threads
        loop.add_signal_handler(signal.SIGUSR1, standing.now.set)
    try:
        tail = await asyncio.to_thread(tail_of, settings)
        found = await asyncio.to_thread(stood_by, tail, fits, models, standing, settings.standby_after, WARM, recording)
    finally:
        standing.ended.set()  # if this was cancelled, the thread goes on until it sees that
    assert found is not None  # which only an end without takeover gives
    return found


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sum of each count; all have the same."""
    return {name: sum(each[name] for each in counts) for name in counts[0]}


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
