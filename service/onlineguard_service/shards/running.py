"""One worker of a deployment of shards, from its settings to its end."""

import gc
import logging
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.model import Model
from onlineguard.slidr.registry.stores import Store, opened
from onlineguard_service.entries import Options
from onlineguard_service.following import Following
from onlineguard_service.models import Models
from onlineguard_service.partitions.urls import open_member, open_writer
from onlineguard_service.shards.beginning import Beginning, SharedModels, begun
from onlineguard_service.shards.choosing import Choosing
from onlineguard_service.shards.held import Progress
from onlineguard_service.shards.owner import Owner, Pace
from onlineguard_service.shards.serving import serving
from onlineguard_service.shards.shard import ROOM, Shard
from onlineguard_service.shards.snapshots import Snapshots

log = logging.getLogger("onlineguard.worker")


@dataclass(frozen=True)
class ShardSettings:
    """What a worker of shards reads and writes. Raises InvalidArgument for what cannot work."""

    source: str = field(repr=False)  # URL of the log, see `partitions.urls`
    snapshots: str  # folder, or URL of fsspec
    options: Options
    to: str | None = field(default=None, repr=False)  # URL of the outputs; None: beside the log
    model: Path | None = None
    registry: str | None = None
    registry_every: float = 30.0  # seconds
    most: int = 4_096  # records of a turn
    snapshot_every: float = 60.0  # seconds
    snapshot_records: int = 1_000_000
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  # None: nothing is served

    def __post_init__(self) -> None:
        for name in ("registry_every", "most", "snapshot_every", "snapshot_records"):
            if not getattr(self, name) > 0:
                raise InvalidArgument(name, f"is {getattr(self, name)}; it must be more than 0")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65_535:
            raise InvalidArgument("metrics_port", f"is {self.metrics_port}; it must be from 0 to 65535")
        if self.model is not None and self.registry is not None:
            raise InvalidArgument("model", f"is {self.model}, but registry is {self.registry}; set one of them")


def run(settings: ShardSettings) -> Progress:
    """Work until SIGTERM or SIGINT, and return what was done."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    with owning(settings, stop) as (owner, _):
        return owner.run(stop)


@contextmanager
def owning(settings: ShardSettings, stop: threading.Event) -> Generator[tuple[Owner, int | None]]:
    """An owner as the settings want it, in the group of the log, and the port of its metrics; the caller runs it.

    Whoever comes first begins the deployment. Raises OnlineguardError where the log, the snapshots or the model cannot
    be had.
    """
    folder = Path(tempfile.mkdtemp(prefix="onlineguard-models."))
    store, models = opened(settings.snapshots), Models(folder)
    following = None if settings.registry is None else Following(settings.registry, models, folder)
    shared = SharedModels(store, models, folder, following)
    with ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        given = None if settings.model is None else models.put(settings.model)
        unowned = ending.enter_context(ExitStack())  # closed here unless there comes to be an owner, who does so
        writer = open_writer(settings.source)
        unowned.callback(writer.close)
        beginning = _begun(settings, store, writer.partitions, shared, _first(given, following, models))
        make = _maker(beginning, shared.get)
        make(0, None)  # compiles: a member of the group that does so for long would be taken for dead
        member = open_member(settings.source, stop, settings.to)
        unowned.callback(member.close)
        pace = Pace(settings.most, 0.5, settings.snapshot_every, settings.snapshot_records)
        choosing = Choosing(settings.options, given, following, shared.put, settings.registry_every)
        owner = Owner(member, writer, Snapshots(store), make, pace, choosing)
        port = None
        if settings.metrics_port is not None:
            port = ending.enter_context(serving(owner, settings.metrics_host, settings.metrics_port))
            log.info("metrics are served on port %d", port)
        unowned.pop_all()
        yield owner, port


def _begun(
    settings: ShardSettings, store: Store, partitions: int, shared: SharedModels, first: Callable[[], Model]
) -> Beginning:
    """What the deployment was begun with; by this process, if by nobody before."""
    beginning = begun(store, settings.options, partitions, None)
    if beginning is None:
        model = first()
        if model.looks_up:
            raise CheckpointError(f"model {model.version} was trained with lookups, and shards have none")
        shared.put(model)
        beginning = begun(store, settings.options, partitions, model)
        assert beginning is not None
    return beginning


def _first(given: Model | None, following: Following | None, models: Models) -> Callable[[], Model]:
    def first() -> Model:
        if given is not None:
            return given
        if following is not None:
            return following.first()
        log.info("no model is given: one is made of simulated clicks, which takes some seconds")
        return models.make()

    return first


def _maker(beginning: Beginning, models: Callable[[str], Model]) -> Callable[[int, dict[str, Any] | None], Shard]:
    partitions = beginning.partitions

    def make(partition: int, dump: dict[str, Any] | None) -> Shard:
        if dump is None:
            shard = Shard(partition, partitions, beginning.options, beginning.version, models)
        else:
            shard = Shard.restored(partition, partitions, dump, models)
        shard.warmup(min(ROOM, shard.guard.options.max_slices))
        # What is there stays: without it in their way, collections take a third less of all the time.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        return shard

    return make
