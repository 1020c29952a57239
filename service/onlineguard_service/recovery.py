"""Recovery: what the settings ask for, and the guard as it was after the last entry of its journal.

A guard is made of the newest snapshot and of the entries after it, by the same `apply` that answered them.
"""

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

from onlineguard.engine.arguments import named_model
from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.features import NAMES
from onlineguard.slidr.model import FEATURES
from onlineguard_service import entries
from onlineguard_service.config import Settings
from onlineguard_service.entries import Options
from onlineguard_service.erasing import history_key, history_root
from onlineguard_service.following import Following
from onlineguard_service.guard import Guard
from onlineguard_service.history import recorder as history
from onlineguard_service.history.recorder import PART, Recorder
from onlineguard_service.journal.folder_journal import FolderJournal
from onlineguard_service.journal.journal import Journal
from onlineguard_service.journal.packing import unpack
from onlineguard_service.models import Models

if TYPE_CHECKING:
    from onlineguard_service.journal.redis_journal import RedisJournal

ANEW = "another --state folder"
ENGINES = ("events", "watch")  # parts of a snapshot that an engine copies, the largest by far

log = logging.getLogger("onlineguard.service")


def journal_of(settings: Settings) -> Journal:
    if settings.journal == "redis":
        if settings.redis is None:
            raise InvalidArgument("journal is 'redis', but no redis is named; give its URL, or keep the journal here")
        from onlineguard_service.journal.redis_journal import RedisJournal  # redis-py takes as long to import as NumPy

        replicas = settings.redis_replicas
        return RedisJournal(settings.redis, settings.redis_prefix, settings.durability, replicas=replicas)
    return FolderJournal(settings.state / "journal", settings.durability)


def in_redis(journal: Journal) -> "TypeGuard[RedisJournal]":
    """Whether a journal is kept in Redis. Where it is not, redis-py is not imported, which would take a while."""
    module = sys.modules.get("onlineguard_service.journal.redis_journal")
    return module is not None and isinstance(journal, module.RedisJournal)


Fits = Callable[[Options], None]  # raises CheckpointError where the settings ask for what a state cannot become
Recording = Callable[[Guard, bytes | None], Recorder]  # of a guard as it is, and what a snapshot kept of the last one


def recovered(journal: Journal, fits: Fits, models: Models, recording: Recording | None = None) -> Guard | None:
    """The guard as it was after the last entry; None where nothing has begun. Raises what `fits` does."""
    found = journal.newest_snapshot()
    guard = None if found is None else restored(found[1], models, recording)
    n = 0
    for sequence, data in journal.replay(0 if guard is None else guard.sequence):
        guard = replayed(guard, sequence, data, models, recording)
        n += 1
    if guard is not None:
        fits(guard.options)
        log.info("recovered %d entries since %s", n, "the beginning" if found is None else f"snapshot {found[0]}")
    return guard


def restored(parts: dict[str, bytes], models: Models, recording: Recording | None = None) -> Guard:
    """The guard of a snapshot."""
    recorded = parts.pop(PART, None)
    unpacked = {name: unpack(part, copy=name not in ENGINES) for name, part in parts.items()}
    guard = Guard.restored(unpacked, models.get)
    guard.recorder = recording and recording(guard, recorded)
    return guard


def replayed(
    guard: Guard | None, sequence: int, data: bytes, models: Models, recording: Recording | None = None
) -> Guard:
    """The guard after one entry more; the first one begins it."""
    entry = entries.decode(data)
    if guard is None:
        if not isinstance(entry, entries.Begin):
            raise CheckpointError(f"entry {sequence} of the journal is the first and begins nothing")
        guard = Guard(entry.options, entry.version, models.get)
        guard.source = entry.source
        guard.recorder = recording and recording(guard, None)
        guard.sequence = sequence
        return guard
    with contextlib.suppress(InvalidArgument):  # refused then, and now
        guard.apply(entry, sequence)
    if guard.recorder is not None and guard.recorder.full:
        guard.recorder.seal(sequence)
        guard.recorder.write()
    return guard


def recorder_of(settings: Settings, newest: int, guard: Guard, kept: bytes | None, following: bool = False) -> Recorder:
    """What keeps the history of a guard that stands where its snapshot does."""
    key = history_key(settings) if settings.pseudonyms == "on" else None
    chosen = history.Options(history_root(settings), settings.history_days, key)
    return Recorder(chosen, guard.source, guard.sequence, newest, kept, NAMES, FEATURES, following)


def options_of(settings: Settings, counting: bool = True) -> Options:
    estimator = named_model(settings.detector, settings.target_rate, settings.patience)
    return Options(
        features=tuple(settings.features),
        n_features=settings.n_features,
        target_rate=float(estimator.target_rate),
        patience=getattr(estimator, "patience", None),
        max_slices=settings.max_slices,
        max_entities=settings.max_entities,
        remember=settings.remember,
        max_alarms=settings.max_alarms,
        rollback=settings.rollback == "on",
        follow_drift=settings.follow_drift == "on",
        counting=counting and settings.redis is None,
        detector=settings.detector,
        categories=tuple(settings.categories),
        namespace_share=settings.namespace_share,
    )


def check(kept: Options, asked: Options, carry: bool = False, anew: str = ANEW) -> None:
    """Raises CheckpointError where the settings ask for what a state cannot become.

    carry: whether it may go on with other features; anew: what begins another.
    """
    for name in kept.__struct_fields__:
        may = name in entries.CHANGEABLE or (carry and name in entries.CARRIED)
        if not may and getattr(kept, name) != getattr(asked, name):
            can = name in entries.CARRIED and anew == ANEW
            way_out = "set other_features to carry to go on with it, " if can else ""
            raise CheckpointError(
                f"the state was begun with {_told(kept, name)}, and this start has {_told(asked, name)}; keep what it "
                f"was, {way_out}or name {anew} to begin anew"
            )


def _told(options: Options, name: str) -> str:
    """A choice in the words of who starts a service."""
    value = getattr(options, name)
    if name == "counting":
        return "clicks counted in the process" if value else "clicks counted in Redis"
    return f"{name} = {(','.join(value) or 'none') if isinstance(value, tuple) else value}"


def first_model(settings: Settings, models: Models, following: Following | None) -> str:
    if following is not None:
        return following.first().version
    if settings.model is not None:
        return models.put(settings.model).version
    log.info("no model is given: one is made of simulated clicks, which takes some seconds")
    return models.make().version
