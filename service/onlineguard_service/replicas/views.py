"""Views: the engines of every partition as its newest snapshot has them, and how old that is.

    views = Views(Snapshots(store), partitions, options)
    views.look()                    in a thread: load what is new
    now = views.now                 one picture of all partitions, which never changes

**Age** is the time since the log took the last record that a snapshot holds. Where no record came after it, the owner
says so in the store every now and then, and the age is the time since. Both are told by the clocks of other machines.

A snapshot that cannot be read is passed over; the view before it stays and grows old.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import msgspec

from onlineguard.engine.arguments import with_categories
from onlineguard.engine.engine import Engine
from onlineguard.errors import OnlineguardError
from onlineguard.models.base import SliceModel
from onlineguard.wire.answers import EventAnswer
from onlineguard.wire.requests import Event
from onlineguard_service.engines import estimator_of, scored, watching_engine
from onlineguard_service.entries import Options
from onlineguard_service.journal.packing import unpack
from onlineguard_service.journal.snapshots import DamagedSnapshot
from onlineguard_service.partitions.log import NOTHING
from onlineguard_service.shards.snapshots import At, Snapshots

PARTS = ("options", "shard", "model", "events", "categories", "watch")  # of a snapshot, that a view needs

log = logging.getLogger("onlineguard.replica")


@dataclass(frozen=True)
class View:
    """A shard's engines after one record, to score with."""

    at: At | None  # None: no record came yet
    offset: int
    t: int  # ms since 1970: until then nothing is missing in it
    options: Options
    version: str  # of the model that decided there
    estimator: SliceModel
    events: Engine | None
    watch: Engine

    @classmethod
    def of(cls, at: At, offset: int, parts: Mapping[str, bytes]) -> "View":
        """That of a snapshot: it answers as the shard did there, to the last bit."""
        dump: dict[str, Any] = {name: unpack(parts[name]) for name in PARTS}
        options = msgspec.convert(dump["options"], Options)
        estimator, events = estimator_of(options), None
        if dump["events"] is not None:
            config, tensors = dump["events"]
            events = Engine.restored(config, with_categories(estimator, tuple(dump["categories"])), tensors)
        config, tensors = dump["watch"]
        watch = Engine.restored(config, watching_engine(options).model, tensors)
        return cls(at, offset, dump["shard"][1], options, dump["model"], estimator, events, watch)

    @classmethod
    def before(cls, options: Options, version: str) -> "View":
        """That of a partition without records."""
        return cls(None, NOTHING, 0, options, version, estimator_of(options), None, watching_engine(options))

    def warmup(self, batch: int, slices: int) -> None:
        """Compile what requests of up to `batch` need, unless the process has done so for another one."""
        for engine in (self.events, self.watch):
            if engine is not None:
                engine.warmup(batch, slices)

    def score(self, events: Sequence[Event]) -> list[EventAnswer]:
        """See `Guard.score`."""
        return scored(events, self.events, self.options, self.estimator)

    @property
    def age(self) -> float:
        """In seconds."""
        return max(0.0, time.time() - self.t / 1_000) if self.t else inf


class Views:
    """See this module. batch, slices: what programs are compiled for."""

    def __init__(
        self, snapshots: Snapshots, partitions: int, options: Options, version: str, batch: int = 1, slices: int = 0
    ):
        self._snapshots, self._warm = snapshots, (batch, slices)
        self.now: tuple[View, ...] = (View.before(options, version),) * partitions
        self.loaded = 0  # snapshots
        self.seconds = 0.0  # that the last one took
        self.trouble: str | None = None  # why the last look did not succeed

    def look(self) -> None:
        """Load what is new; what prevents that is logged, and tried again at the next look."""
        self.trouble = None
        for partition in range(len(self.now)):
            try:
                view = self._newest(partition, self.now[partition])
            except (OnlineguardError, OSError, DamagedSnapshot) as error:
                self.trouble = f"partition {partition}: {error}"
                log.warning("no newer snapshot of partition %d can be read now: %s", partition, error)
                continue
            self.now = (*self.now[:partition], view, *self.now[partition + 1 :])

    def missing(self) -> list[int]:
        """Partitions that nothing is known of yet."""
        return [partition for partition, view in enumerate(self.now) if not view.t]

    def _newest(self, partition: int, view: View) -> View:
        at = self._snapshots.newest(partition)
        if at is not None and at != view.at:
            began = time.perf_counter()
            view = View.of(at, *self._snapshots.read(partition, at))
            view.warmup(*self._warm)
            self.loaded, self.seconds = self.loaded + 1, time.perf_counter() - began
        offset, t = self._snapshots.current(partition)
        return replace(view, t=t) if offset == view.offset and t > view.t else view
