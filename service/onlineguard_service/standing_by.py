"""A warm standby: it applies the entries of another process's journal as they come, and takes the journal over.

Everything is compiled and all state is there, so that taking over costs the few entries that were not read yet, and
opening the journal. It does so

- when the writer's process has ended (its lock is free, or in Redis it has said that it leaves),
- when the writer has shown nothing for `after` seconds: it is stopped, hangs, or its machine is gone,
- on command.

The journal sees to it that the old writer answers nothing more (`onlineguard_service.journal.fencing`, or the epoch in
Redis), so taking over too early costs a moment of service, never an entry. The state afterwards is that of the journal:
where what was read of it turns out not to be in it, the guard is made anew from a snapshot and a replay. The exception
is a Redis that lost the last of it, in a failover for example: the journal then goes on from the state of the standby.
"""

import logging
import time
from contextlib import suppress

from onlineguard import programs
from onlineguard.errors import CheckpointError
from onlineguard_service.config import Settings
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.guard import Guard
from onlineguard_service.history.recorder import PART
from onlineguard_service.journal.journal import Journal
from onlineguard_service.journal.snapshots import DamagedSnapshot
from onlineguard_service.journal.tails import Astray, FolderTail, Tail
from onlineguard_service.models import Models
from onlineguard_service.recovery import Fits, Recording, recovered, replayed, restored
from onlineguard_service.standing import Standing

BEAT_EVERY = 0.2  # seconds between two signs of a writer
QUIET = 0.45  # seconds without one after which it is looked whether its process has ended: two were missed
LOOK_EVERY = 0.02  # seconds between looks for entries
COVERED_EVERY = 1.0  # seconds between looks for a snapshot, which has the history of the entries before it
AGAIN_EVERY = 1.0  # seconds between attempts where the journal cannot be read

log = logging.getLogger("onlineguard.service")


def tail_of(settings: Settings) -> Tail:
    """Where the entries come from. Raises InvalidArgument where they could not be taken over."""
    if settings.journal == "redis":
        from onlineguard_service.journal.redis_tail import RedisTail  # redis-py takes as long to import as NumPy

        assert settings.redis is not None
        return RedisTail(settings.redis, settings.redis_prefix, settings.durability, settings.redis_replicas)
    return FolderTail(settings.state / "journal", settings.durability)


def stood_by(
    tail: Tail,
    fits: Fits,
    models: Models,
    standing: Standing,
    after: float,
    most: tuple[int, int],
    recording: Recording | None = None,
) -> tuple[Journal, Guard] | None:
    """Follow until it is time, and take over: the journal, and the guard after its last entry. None once `ended`.

    Waits, so call it in a thread. most: as in `Guard.warmup`. recording: makes what keeps the history of a service that
    is followed, None where none is kept.

    Raises what `fits` does of the state that is followed.
    """
    follower = _Follower(tail, fits, models, standing, most, recording)
    watch = Watch(tail)
    while not standing.ended.is_set():
        try:
            caught_up = follower.follow()
            if follower.guard is not None and (standing.now.is_set() or (caught_up and watch.is_time(after))):
                return follower.taken_over()
        except Astray as error:
            log.warning("the standby begins anew from a snapshot: %s", error)
            follower.guard = None
        except (OSError, JournalUnavailable) as error:
            log.warning("the journal cannot be followed now: %s", error)
            watch.restart()
            standing.ended.wait(AGAIN_EVERY)
    tail.close()
    return None


class _Follower:
    """The guard, kept where the journal is."""

    def __init__(
        self,
        tail: Tail,
        fits: Fits,
        models: Models,
        standing: Standing,
        most: tuple[int, int],
        recording: Recording | None,
    ):
        self.guard: Guard | None = None
        self._recording = recording
        self._looked, self._covered = 0.0, 0  # when it was looked for a snapshot, and for which it was done
        self._tail, self._fits, self._models, self._standing, self._most = tail, fits, models, standing, most

    def follow(self) -> bool:
        """Apply some of what is new; whether nothing was."""
        if self.guard is None:
            self._begin()
        found = self._tail.entries()
        first = self._tail.sequence - len(found) + 1
        if found and self._standing.behind_since is None:
            self._standing.behind_since = time.monotonic()
        for sequence, data in enumerate(found, first):
            fresh = self.guard is None
            self.guard = replayed(self.guard, sequence, data, self._models, self._recording)
            if fresh:
                self._prepare(self.guard)
            self._standing.sequence = sequence
        if self.guard is not None and time.monotonic() > self._looked + COVERED_EVERY:
            self._looked = time.monotonic()
            with suppress(DamagedSnapshot):  # or it was removed meanwhile
                self._cover(self.guard)
        if not found:
            self._standing.behind_since = None
            if self.guard is not None and self.guard.crowded:
                self.guard.compile_ahead()
            (self._standing.now if self.guard is not None else self._standing.ended).wait(LOOK_EVERY)
        return not found

    def taken_over(self) -> tuple[Journal, Guard]:
        """The journal and the guard after its last entry."""
        assert self.guard is not None
        began = time.monotonic()
        journal, certain = self._tail.take_over()
        guard = self.guard
        if certain:
            try:
                self._cover(guard)
            except DamagedSnapshot as error:
                log.warning("the history that was followed is made anew: %s", error)
                certain = False
        if not certain:
            guard = recovered(journal, self._fits, self._models, self._recording)
        if guard is None:
            raise CheckpointError("the journal that was followed has nothing in it any more")
        for sequence, data in journal.replay(guard.sequence):
            guard = replayed(guard, sequence, data, self._models, self._recording)
        if guard.recorder is not None:
            guard.recorder.take_over(guard.sequence)
        self._tail.close()
        log.warning(
            "the standby has taken the journal over, at entry %d, in %.3f s", guard.sequence, time.monotonic() - began
        )
        return journal, guard

    def _begin(self) -> None:
        self._covered = 0
        parts = self._tail.begin()
        if parts is not None:
            if PART in parts and self._recording is None:
                raise CheckpointError(
                    "the service that is followed keeps a history, which would end with a takeover; start its standby "
                    "with --history on too"
                )
            self.guard = restored(parts, self._models, self._recording)
            self._prepare(self.guard)
            self._standing.sequence = self.guard.sequence

    def _cover(self, guard: Guard) -> None:
        """Let go of the history that the newest snapshot has. Raises DamagedSnapshot, or OSError."""
        if guard.recorder is not None and (newest := self._tail.snapshot()) > self._covered:
            guard.recorder.covered(newest, self._tail.part(newest, PART))
            self._covered = newest

    def _prepare(self, guard: Guard) -> None:
        self._fits(guard.options)
        guard.warmup(*self._most)
        programs.write()


class Watch:
    """Whether the writer is there."""

    def __init__(self, tail: Tail):
        self._tail = tail
        self._beat: str | None = None
        self._seen = False  # alive
        self._since = time.monotonic()

    def restart(self) -> None:
        """Count its silence from now on."""
        self._since = time.monotonic()

    def is_time(self, after: float) -> bool:
        """Whether to take over. A writer that was never seen is waited for: it may be about to start."""
        now, beat = time.monotonic(), self._tail.beat()
        if beat and beat != self._beat:
            self._seen = self._beat is not None
            self._beat, self._since = beat, now
        silent = now - self._since
        return silent > after or (self._seen and silent > QUIET and self._tail.is_gone())
