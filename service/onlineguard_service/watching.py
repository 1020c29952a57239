"""Watching: the live watch of the model that decides, its alarms, and the model that a rollback leads to.

It is part of the guard: told of every decision and purchase as entries are applied, so a replay raises the same alarms
at the same clicks. A rollback is an entry of its own, which `rollback` makes. It is owed from the alarm on until a
switch is applied. A service that is killed between the two still owes it, and one that is killed later does not.

A model is taken back by itself at most once: the one before is kept whatever its own watch says, since two models that
both raise an alarm tell of the traffic.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from onlineguard.records.click import Click
from onlineguard.records.versions import Promises
from onlineguard.slidr.live import Alarm, LiveWatch
from onlineguard_service.entries import Switch

ALARMS = 100  # that are kept
TRIAL = 4  # times the clicks within which a fault is found: later it is the traffic that has changed, not the model
LOOKED_BACK = 194 * 3_600_000  # ms of clicks that features look back on at most


class Raised(msgspec.Struct, frozen=True):
    """An alarm, and which model it is about."""

    t: int  # ms since 1970 at which its entry came
    version: str
    alarm: Alarm

    def shown(self) -> dict[str, Any]:
        """As an `AlarmAnswer`."""
        return {"t": self.t, "model_version": self.version, **msgspec.to_builtins(self.alarm)}


class Watching:
    """See this module. `version` is that of the first model."""

    def __init__(self, version: str):
        self._version, self._promises = version, b""
        self.watch: LiveWatch | None = None
        self._before: tuple[str, bytes] | None = None  # the model before this one, and its promises
        self._owed: Raised | None = None  # the alarm that asks for a rollback
        self.raised: list[Raised] = []
        self.n_alarms: dict[str, int] = {"ivr": 0, "fpr": 0, "scores": 0, "features": 0}  # since the state began
        self.n_rollbacks = 0
        self.taken_back: tuple[str, int, str] | None = None  # the model that was taken back last, when and why
        self.since: int | None = None  # when the model went live
        self._first_ts: int | None = None  # of all clicks
        self._allowed = False
        self.told: Callable[[Raised], None] = lambda raised: None  # hears every alarm

    def clicks(
        self,
        slices: Sequence[str],
        p_robot: np.ndarray,
        robotic: Sequence[bool],
        X: np.ndarray,
        warm: bool,
        t: int,
    ) -> None:
        """Take decisions of the present model, in order."""
        if self.watch is not None and len(slices):
            self._raise(self.watch.clicks(slices, p_robot, robotic, X, warm), t)

    def warm(self, clicks: Sequence[Click]) -> bool:
        """Whether the features of these clicks, the next ones, have been counted for as long as they look back."""
        if self._first_ts is None:
            self._first_ts = clicks[0].ts
        return clicks[-1].ts - self._first_ts >= LOOKED_BACK

    def allow(self, rollback: bool) -> None:
        """Whether alarms from now on lead back to the model before."""
        self._allowed = rollback
        if not rollback:
            self._owed = None

    def purchase(self, slice_: str, robotic: bool, t: int) -> None:
        """Take a purchase of a click that the present model decided."""
        if self.watch is not None:
            self._raise(self.watch.purchase(slice_, robotic), t)

    def switched(self, entry: Switch) -> None:
        """Another model decides from now on, or the same one has other promises."""
        if entry.why:
            self.n_rollbacks += 1
            self.taken_back = self._version, entry.t, entry.why
        if entry.why or entry.version == self._version:
            self._before = None
        else:
            self._before = self._version, self._promises
        self._version, self._promises, self._owed, self.since = entry.version, entry.promises, None, entry.t
        self.watch = watch_of(entry.promises)

    @property
    def promises(self) -> bytes:
        """Those of the present model as JSON; empty where there are none."""
        return self._promises

    def rollback(self, t: int) -> Switch | None:
        """The entry that takes the model back; None where nothing asks for it, or there is no model to go back to."""
        if self._owed is None or self._before is None:
            return None
        return Switch(self._before[0], t, self._before[1], sentence(self._owed))

    def shown(self) -> dict[str, Any]:
        """The model, what was promised and seen of it, and the alarms that are kept."""
        watch = self.watch
        return {
            "model_version": self._version,
            "since": self.since,
            "watched": watch is not None,
            "clicks": 0 if watch is None else watch.n_clicks,
            "within": None if watch is None else watch.within,
            "rates": [] if watch is None else watch.rates(),
            "psi": {name: None if psi != psi else psi for name, psi in ({} if watch is None else watch.psi).items()},
            "alarms": [each.shown() for each in self.raised],
            "rollbacks": self.n_rollbacks,
        }

    def dump(self) -> dict[str, Any]:
        """A copy of everything: arrays, and lists of what MessagePack holds."""
        return {
            "version": self._version,
            "promises": self._promises,
            "watch": None if self.watch is None else self.watch.dump(),
            "before": None if self._before is None else list(self._before),
            "owed": msgspec.to_builtins(self._owed),
            "raised": msgspec.to_builtins(self.raised),
            "counts": [dict(self.n_alarms), self.n_rollbacks],
            "taken_back": None if self.taken_back is None else list(self.taken_back),
            "since": self.since,
            "first_ts": self._first_ts,
        }

    def restore(self, dump: dict[str, Any]) -> None:
        """Become what was dumped."""
        self._version, self._promises = dump["version"], dump["promises"]
        self.watch = watch_of(self._promises)
        if self.watch is not None:
            self.watch.restore(dump["watch"])
        self._before = None if dump["before"] is None else (dump["before"][0], dump["before"][1])
        self._owed = msgspec.convert(dump["owed"], Raised | None)
        self.raised = msgspec.convert(dump["raised"], list[Raised])
        self.n_alarms, self.n_rollbacks = dump["counts"]
        self.taken_back = None if dump["taken_back"] is None else tuple(dump["taken_back"])
        self.since, self._first_ts = dump["since"], dump["first_ts"]

    def _raise(self, alarms: Sequence[Alarm], t: int) -> None:
        for alarm in alarms:
            raised = Raised(t, self._version, alarm)
            self.raised = [*self.raised, raised][-ALARMS:]
            self.n_alarms[alarm.figure] += 1
            self.told(raised)
            if self._allowed and self._owed is None and alarm.tells_of_the_model and self._on_trial():
                self._owed = raised

    def _on_trial(self) -> bool:
        return self.watch is not None and self.watch.n_clicks <= TRIAL * self.watch.within


def sentence(raised: Raised) -> str:
    """The alarm in words."""
    alarm = raised.alarm
    of = f" of {alarm.of}" if alarm.of else ""
    return (
        f"{alarm.figure}{of} is {alarm.seen:.3g} after {alarm.clicks} clicks; promised was {alarm.promised:.3g}, the "
        f"limit is {alarm.limit:.3g}"
    )


def watch_of(promises: bytes) -> LiveWatch | None:
    """That of a model with these promises, as JSON; None where there are none."""
    return LiveWatch(msgspec.json.decode(promises, type=Promises)) if promises else None
