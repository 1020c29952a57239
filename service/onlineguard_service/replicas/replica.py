"""A replica: answers `/v1/score` and `/v1/clicks` as the shards would, from their snapshots, and learns nothing.

Any number of them may stand behind a balancer: each has the same counters in Redis, the same model and the same views,
so it does not matter which one is asked.

- **Events** are scored by the view of their slice's partition. The answer says which snapshot that is, and its age.
  One older than `replica_age` is not used, and the request is refused.
- **Clicks** are counted in Redis, decided by the model, and written to the shards' log together with their counts. So
  the shards, which apply them later, come to the same decision. A click is answered once the log has it.
- **The model** is the registry's current one where a registry is followed, with the candidate on trial. Otherwise it is
  that of the snapshots.

What is learned, labelled or erased is refused with a sentence that says where to send it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec

from onlineguard.errors import CheckpointError, InvalidArgument, OnlineguardError
from onlineguard.records.click import Click
from onlineguard.slidr.registry.stores import opened
from onlineguard.wire.answers import ClickAnswer, EventAnswer
from onlineguard.wire.placement import key_of, partition_of
from onlineguard.wire.requests import Event
from onlineguard_service import entries
from onlineguard_service.answering import CLICKS_AT_ONCE, EVENTS_AT_ONCE, Answering
from onlineguard_service.aside import aside
from onlineguard_service.config import Settings
from onlineguard_service.core import ROOM, Core
from onlineguard_service.errors import LearnsElsewhere, StaleSnapshots
from onlineguard_service.following import Following
from onlineguard_service.journal.nothing import NoJournal
from onlineguard_service.models import Models
from onlineguard_service.partitions.urls import open_writer
from onlineguard_service.patience import give_way
from onlineguard_service.redis.counting import Counting
from onlineguard_service.replicas.answers import SnapshotAnswers
from onlineguard_service.replicas.appending import Appending
from onlineguard_service.replicas.replica_guard import ReplicaGuard
from onlineguard_service.replicas.views import View, Views
from onlineguard_service.shards.beginning import SharedModels, beginning
from onlineguard_service.shards.snapshots import Snapshots
from onlineguard_service.standing import Standing

AGAIN = 1.0  # seconds between looks at whether the shards have begun

log = logging.getLogger("onlineguard.replica")


class Replica(Core):
    """See this module. Made by `open`."""

    _settings: Settings
    _views: Views
    _shared_models: SharedModels
    _appending: Appending | None = None
    _viewing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: Settings, standing: Standing | None = None) -> "Replica":
        """Wait until the shards have begun, load their snapshots, and compile everything."""
        assert settings.replica_of is not None
        store, models = opened(settings.replica_of), Models(settings.state / "models")
        while (begun := await asyncio.to_thread(beginning, store)) is None:
            log.info("the shards have not begun yet; their snapshots are looked for in %s", settings.replica_of)
            await asyncio.sleep(AGAIN)
        options = msgspec.structs.replace(begun.options, rollback=False)
        _check(options, settings)
        following = None
        if settings.registry is not None:
            following = Following(settings.registry, models, settings.state / "models")
        shared = SharedModels(store, models, settings.state / "models", following)
        views = Views(Snapshots(store), begun.partitions, options, begun.version, EVENTS_AT_ONCE, ROOM)
        await asyncio.to_thread(views.look)
        version = views.now[0].version if following is None else (await asyncio.to_thread(following.first)).version
        guard = await asyncio.to_thread(
            lambda: ReplicaGuard(
                msgspec.structs.replace(options, counting=False, features=(), n_features=0),
                version,
                shared.get,
                views,
                settings.replica_age,
            )
        )
        await asyncio.to_thread(guard.warmup, CLICKS_AT_ONCE, 0)
        counting = (
            None if settings.redis is None else Counting(settings.redis, settings.redis_prefix, settings.redis_replicas)
        )
        replica = cls(guard, NoJournal(), models, counting, settings, following)
        replica._views, replica._shared_models, replica._settings = views, shared, settings
        if settings.replica_log is not None:
            writer = await asyncio.to_thread(open_writer, settings.replica_log)
            if writer.partitions != begun.partitions:
                writer.close()
                raise CheckpointError(
                    f"replica_log has {writer.partitions} partitions, but the shards' log has {begun.partitions}; name "
                    "the log that the workers read"
                )
            replica._appending = Appending(writer)
        if counting is not None:
            await counting.look()
        await replica._deciding.begin(settings.registry_every)
        replica._viewing = asyncio.create_task(replica._look_on())
        return replica

    async def score(self, events: Sequence[Event]) -> SnapshotAnswers[EventAnswer]:
        """The answers that the owners of these events' slices would have given at the offsets that the answers tell.

        Raises InvalidArgument, and StaleSnapshots where a snapshot is too old.
        """
        views, places = self._views.now, dict[int, list[int]]()
        for place, event in enumerate(events):
            places.setdefault(partition_of(key_of(event), len(views)), []).append(place)
        self._check_age(views, sorted(places))
        answers: dict[int, EventAnswer] = {}
        for partition, of_one in places.items():
            for start in range(0, len(of_one), EVENTS_AT_ONCE):
                if answers:
                    await give_way()
                part = of_one[start : start + EVENTS_AT_ONCE]
                try:
                    found = views[partition].score([events[place] for place in part])
                except InvalidArgument as error:
                    raise _of_the_request(error, part) from None
                answers.update(zip(part, found, strict=True))
        offsets = {partition: views[partition].offset for partition in places}
        return SnapshotAnswers(
            [answers[place] for place in range(len(events))], offsets, max(views[p].age for p in places)
        )

    async def clicks(self, clicks: Sequence[Click]) -> list[ClickAnswer]:
        """Decide about clicks; see this module. Raises as `Answering.clicks`, and JournalUnavailable for the log."""
        if self._appending is None:
            raise LearnsElsewhere(
                "this replica decides about no clicks; start it with redis and replica_log, or send them to the log of "
                "the shards"
            )
        return await super().clicks(clicks)

    async def _write(self, entry: entries.Entry) -> Any:
        answers = await super()._write(entry)
        if isinstance(entry, entries.Clicks) and self._appending is not None:
            await self._appending.append(entry)
        return answers

    async def update(self, events: Sequence[Event]) -> NoReturn:
        """Refused."""
        _elsewhere("events are learned by the shards: append them to their log, or score them with /v1/score")

    async def labels(self, labels: Any) -> NoReturn:
        """Refused."""
        _elsewhere("labels belong to the shard of their click: append them to the log under the key of its user")

    async def decisions(self, decisions: Any) -> NoReturn:
        """Refused."""
        _elsewhere("decisions about earlier clicks are taken by a service that keeps its clicks")

    async def erase(self, user_id: str) -> NoReturn:
        """Refused."""
        _elsewhere("append a control record to the shards' log: they erase what was learned of a user")

    async def snapshot(self) -> NoReturn:
        """Refused."""
        _elsewhere("snapshots are the shards'; their workers write them every --snapshot-every seconds")

    def explain(self, event: Any) -> NoReturn:
        """Refused."""
        _elsewhere("events are explained by whoever learns them: the alarms of the shards tell what drove them")

    async def within(self, namespace: str) -> Answering:
        """Refused."""
        _elsewhere("shards have no namespaces; give the key none")

    def reasons(self) -> list[str]:
        """See `Core.reasons`; and that no snapshot was found."""
        missing = self._views.missing()
        told = f"no snapshot of {_partitions(missing)} was found yet"
        return [*super().reasons(), *([told] if missing else [])]

    def degraded(self) -> list[str]:
        """See `Core.degraded`; and snapshots that are too old."""
        views = self._views.now
        old = self._stale(views, range(len(views)))
        told = (
            [f"snapshots: those of {_partitions(old)} are older than {self._settings.replica_age:g} s"] if old else []
        )
        if self._views.trouble is not None:
            told.append(f"snapshots: {self._views.trouble}")
        return [*super().degraded(), *told]

    def status(self) -> dict[str, Any]:
        """See `Core.status`; and the ages of the snapshots."""
        views = self._views
        ages = {str(partition): view.age for partition, view in enumerate(views.now)}
        return {**super().status(), "replica": {"loaded": views.loaded, "seconds": views.seconds, "ages": ages}}

    async def close(self) -> None:
        """See `Core.close`."""
        if self._viewing is not None:
            self._viewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._viewing
        await super().close()
        if self._appending is not None:
            await self._appending.close()

    async def _leave_snapshot(self) -> None:
        """There is nothing to keep."""

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(self._settings.replica_every)
            await aside(self._views.look)
            if self._deciding.registry() is None:
                await self._take(self._views.now[0].version)

    async def _take(self, version: str) -> None:
        """Decide by the model that the shards decide by."""
        try:
            await self._deciding.take(await aside(lambda: self._shared_models.get(version)))
        except (OnlineguardError, OSError) as error:
            log.warning("the model of the snapshots is not used yet: %s", error)

    def _stale(self, views: Sequence[View], partitions: Sequence[int]) -> list[int]:
        return [each for each in partitions if views[each].age > self._settings.replica_age]

    def _check_age(self, views: Sequence[View], partitions: Sequence[int]) -> None:
        if old := self._stale(views, partitions):
            raise StaleSnapshots(
                f"the newest snapshots of {_partitions(old)} are older than replica_age, "
                f"{self._settings.replica_age:g} s; see that their workers run, or ask again later"
            )


def _check(options: entries.Options, settings: Settings) -> None:
    """Raises InvalidArgument for a replica that the shards make impossible."""
    if settings.replica_log is not None and options.counting:
        raise InvalidArgument(
            "replica_log is set, but the shards count clicks themselves; begin them with `worker --counted`, or leave "
            "redis and replica_log out, to score events alone"
        )
    if settings.replica_log is not None and options.follow_drift:
        raise InvalidArgument(
            "replica_log is set, but the shards' thresholds follow drift, each shard's by itself; start the workers "
            "with --follow-drift off"
        )


def _partitions(numbers: Sequence[int]) -> str:
    return f"partition{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _elsewhere(where: str) -> NoReturn:
    raise LearnsElsewhere(f"this is a replica, which learns nothing: {where}")


def _of_the_request(error: InvalidArgument, places: Sequence[int]) -> InvalidArgument:
    """An error about an event of a part, with its number in the request."""
    text = str(error)
    if text.startswith("events["):
        number, _, rest = text.removeprefix("events[").partition("]")
        return InvalidArgument(f"events[{places[int(number)]}]{rest}")
    return error
