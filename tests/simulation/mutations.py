"""Bugs that the real code does not have, to be planted: the laws must find each of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest import mock

from onlineguard_service.partitions.log import NOTHING, Owned
from onlineguard_service.partitions.memory import MemoryMember, Published
from onlineguard_service.shards.held import Held
from onlineguard_service.shards.keeping import Keeping
from onlineguard_service.shards.owner import Owner
from onlineguard_service.shards.pooling import Pooling
from onlineguard_service.shards.snapshots import Snapshots

from tests.simulation.faults import Faults


def _instead(what: Any, **others: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: mock.patch.multiple(what, **others)


def _both(*plants: Callable[[], AbstractContextManager[Any]]) -> Callable[[], AbstractContextManager[Any]]:
    def planted() -> ExitStack:
        stack = ExitStack()
        for plant in plants:
            stack.enter_context(plant())
        return stack

    return planted


def _publish_unchecked(self: MemoryMember, done: Any) -> None:
    for (partition, *_), upto, outputs in done:
        before = self.log.published[partition]
        self.log.outputs += [Published(partition, output) for output in outputs if output.offset > before]
        self.log.published[partition] = max(before, upto)


_publish = MemoryMember.publish


def _publish_all(self: MemoryMember, done: Any) -> None:
    """Outputs that were published before are kept again."""
    for each in done:
        before = self.log.published[each.owned.partition]
        again = [Published(each.owned.partition, output) for output in each.outputs if output.offset <= before]
        _publish(self, [each])
        self.log.outputs[:0] = again


def _gain_from_nothing(self: Owner, owned: Owned) -> None:
    self.held[owned.partition] = Held(owned, settled=NOTHING)


_begin = Snapshots.begin


def _begin_from_the_newest(self: Snapshots, owned: Owned) -> Any:
    return _begin(self, owned._replace(published=NOTHING))


_snapshot_parts, _publish_done = Keeping._parts, Owner._publish


def _parts_unsettled(self: Keeping, held: Held) -> Any:
    settled, held.settled = held.settled, 2**62
    try:
        return _snapshot_parts(self, held)
    finally:
        held.settled = settled


def _snapshot_first(self: Owner, done: Any, stop: Any) -> None:
    self.keeping.when_due(self.held.values())
    _publish_done(self, done, stop)


def _publish_then_append(self: Owner, done: Any, stop: Any) -> None:
    pending, self._pending = self._pending, []
    _publish_done(self, done, stop)
    self._pending = pending
    _publish_done(self, [], stop)


def _check_nothing(self: Snapshots, owned: Owned) -> Any:
    return self._claims(owned.partition)


_seek = MemoryMember.seek


def _seek_too_far(self: MemoryMember, owned: Owned, after: int) -> None:
    _seek(self, owned, after + 1)


_take = Pooling.take


def _take_again(self: Pooling, record: Any, guard: Any) -> None:
    for of, number in self._number.items():
        self._number[of] = number - 1
    _take(self, record, guard)


_applied = Owner._applied


def _forget_unread(self: Owner, held: Held, now: float) -> Any:
    done = _applied(self, held, now)
    held.unread = []
    return done


def _restore_nothing(self: Pooling, dump: Any) -> None:
    pass


def _never(self: Snapshots, owned: Owned) -> bool:
    return False


CALM = Faults(move=0.0, kill=20.0, rescale=20.0, freeze=0.0, model=10.0, store=0.05)  # where moves would mend it
ROUGH = Faults(flush=0.2)

MUTATIONS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Faults]] = {
    "a publication is kept whoever sends it": (_instead(MemoryMember, publish=_publish_unchecked), ROUGH),
    "a snapshot is taken before its records are published": (
        _both(_instead(Keeping, _parts=_parts_unsettled), _instead(Owner, _publish=_snapshot_first)),
        ROUGH,
    ),
    "owners that were replaced write snapshots": (_instead(Snapshots, _check=_check_nothing), ROUGH),
    "what was published before a restart is published again": (
        _both(_instead(MemoryMember, publish=_publish_all), _instead(Owner, _gain=_gain_from_nothing)),
        ROUGH,
    ),
    "a partition is read on one record too late": (_instead(MemoryMember, seek=_seek_too_far), ROUGH),
    "a pool that comes twice is adopted twice": (_instead(Pooling, take=_take_again), ROUGH),
    "pools are appended after the outputs": (_instead(Owner, _publish=_publish_then_append), ROUGH),
    "what waits for a model is forgotten": (_instead(Owner, _applied=_forget_unread), CALM),
    "a snapshot that is ahead of what was published counts": (
        _instead(Snapshots, begin=_begin_from_the_newest),
        Faults(failover=2.0),
    ),
    "a claim whose answer was lost is taken for another's": (_instead(Snapshots, _is_mine=_never), CALM),
    "a restored shard knows nothing of pools": (_instead(Pooling, restore=_restore_nothing), ROUGH),
}
