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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onlineguard import programs
from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.lookups.lookups import Lookups
from onlineguard_service import entries, tracing
from onlineguard_service.answering import CLICKS_AT_ONCE, EVENTS_AT_ONCE, Answering, Shared
from onlineguard_service.condition import Compilations, Condition
from onlineguard_service.config import Settings
from onlineguard_service.deciding import Deciding
from onlineguard_service.entries import Options
from onlineguard_service.erasing import Erasing
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.following import Following
from onlineguard_service.guard import Guard
from onlineguard_service.history.recorder import Recorder
from onlineguard_service.journal.journal import TAKEN, Journal
from onlineguard_service.models import Models
from onlineguard_service.recovery import (
    Fits,
    Recording,
    check,
    first_model,
    in_redis,
    journal_of,
    options_of,
    recorder_of,
    recovered,
)
from onlineguard_service.redis.counting import Counting
from onlineguard_service.snapshotting import Snapshotting
from onlineguard_service.standing import Standing
from onlineguard_service.standing_by import BEAT_EVERY, stood_by, tail_of
from onlineguard_service.versions import Versions
from onlineguard_service.webhook import Webhook, keys_for

if TYPE_CHECKING:
    from onlineguard_service.journal.redis_journal import RedisJournal

ROOM = 10_000  # slices that the engines have room for at the start
WARM = (max(CLICKS_AT_ONCE, EVENTS_AT_ONCE), ROOM)  # what is compiled before the service is ready
AHEAD_EVERY = 1.0  # seconds between looks at whether a table is so full that it will soon grow, which compiles again

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
        self._snapshotting = Snapshotting(guard, journal, settings.snapshot_every)
        self._erasing = Erasing(guard, journal, counting, settings, self._write, self.snapshot)
        self._deciding = Deciding(guard, models, following, self._write)
        super().__init__(guard, Shared(self._write, self._deciding, self._erasing, counting, lookups))
        self._webhook = Webhook(guard, settings.webhook, keys, settings.state) if settings.webhook and keys else None
        self._telling: asyncio.Task[None] | None = None
        self.versions = Versions(guard, following, self._deciding.follow)
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
        self._condition = Condition(guard, journal, self._snapshotting, self._shared, self._webhook)

    @classmethod
    async def open(cls, settings: Settings, standing: Standing | None = None) -> "Core":
        """Recover, or begin, or stand by until it is time; then compile everything. Takes seconds, with a new model
        some more.

        Raises CheckpointError where the state is damaged, newer, or was begun with other options that cannot change.
        """
        Compilations.listen()
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
            counting = None
            if settings.redis is not None:
                counting = Counting(settings.redis, settings.redis_prefix, settings.redis_replicas)
            lookups = None if settings.lookups is None else await asyncio.to_thread(Lookups, settings.lookups)
            core = cls(guard, journal, models, counting, settings, following, lookups, keys)
            core._beating = beating
            if first is not None:
                begin = entries.Begin(options, first, entries.now(), guard.source)
                await journal.commit(entries.encode(begin), core._began)
            else:
                fits(guard.options)  # a standby may have followed the journal to other ones
                if in_redis(journal):
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
        if counting is not None:
            await counting.look()
        await core._deciding.begin(settings.registry_every)
        core._timer = asyncio.create_task(core._snapshotting.run())
        core._ahead = asyncio.create_task(core._compiling_ahead())
        if lookups is not None:
            core._looks = asyncio.create_task(core._looking(lookups, settings.lookups_every))
        if core._webhook is not None:
            core._telling = asyncio.create_task(core._webhook.run())
        if in_redis(journal):
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
        """See `Snapshotting.take`."""
        return await self._snapshotting.take()

    def reasons(self) -> list[str]:
        """Why requests are not answered now, if they are not. Takes no time, however many slices there are."""
        return [reason for reason in (self._journal.refusal, "shutting down" if self._closing else None) if reason]

    def degraded(self) -> list[str]:
        """See `Condition.degraded`."""
        return self._condition.degraded()

    def live(self) -> dict[str, Any]:
        """See `Condition.live`."""
        return self._condition.live(self.degraded())

    def status(self) -> dict[str, Any]:
        """See `Condition.status`."""
        return self._condition.status()

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
        if self._guard.sequence > self._snapshotting.sequence or in_redis(self._journal):
            await self.snapshot()

    def _journal_lost(self) -> None:
        """Redis came back without entries that were answered: it takes none until it has all state from here."""
        if in_redis(self._journal):
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
        self._snapshotting.heard()
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

    def _n_evicted(self) -> int:
        spaces = (self._guard, *self._guard.namespaces.values())
        return sum(sum(one.store.evicted.values()) for one in spaces if one.store is not None)

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


def _is_taken(journal: Journal) -> bool:
    """Whether another process has taken the journal over, as far as this one knows."""
    return journal.fenced if in_redis(journal) else journal.refusal == TAKEN


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
