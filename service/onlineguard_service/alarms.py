"""Alarms: runs of anomalous events as things that have a name, a beginning, an end, and somebody who saw them.

An alarm of a slice begins with an anomalous event and goes on with each further one, as long as fewer than `STRETCH`
usual events of the slice lie between two of them, and less than `SILENCE` passes. What the live watch finds, and the
watch of a candidate, is an alarm too.

It is part of the guard: told of every judgement as entries are applied, so a replay, a recovery and a snapshot lead to
the same alarms under the same names. All times are those of the entries.

Every change of an alarm has a number, and so has every begin and every end (a *notice*). Who follows the alarms keeps
the last number that it has seen, and asks for what came after.

What drove an alarm is found when it begins and when its largest score rises, for `EXPLAINED` events of a second at
most, so that a flood costs no more. The others are explained when somebody looks.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from onlineguard.models.carrying import Columns, carried_leaves
from onlineguard.wire.alarms import Acknowledged, AlarmState, Kind, Standing
from onlineguard.wire.answers import AlarmAnswer, VerdictAnswer
from onlineguard.wire.requests import Of, SliceKey
from onlineguard_service.figures import ANOMALOUS
from onlineguard_service.watching import Raised

STRETCH = 20  # usual events of the slice that end an alarm; at the usual rate one false alarm in six goes on by chance
SILENCE = 3_600_000  # ms without an anomalous event that end it too, in a slice that sends nothing more
ENDED = 64  # alarms of a stream that one entry ends for their silence, at most: the next ones end the others
EXPLAINED = 10  # events of a second whose drivers are found; each takes 0.4 to 1.5 ms
TOLD = 8  # features that drivers and reasons name
TEXT = 64  # characters of a category that are kept
BACKLOG = 2_000  # notices that wait for a webhook; of more, the oldest are dropped

Why = tuple[dict[str, float], dict[str, Any]]  # drivers and reasons


class Said(NamedTuple):
    """What an event says of itself, beside its numbers."""

    id: str | None
    ts: int
    owner: int = 0  # 32 bits of the user, see `remembered`
    texts: dict[int, str] = {}  # of categories, by feature  # noqa: RUF012


class Alarm(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One alarm, as it is kept."""

    number: int  # alarms are numbered as they begin
    kind: Kind
    of: Of
    slice: SliceKey | None
    began: int
    last: int
    notice: int  # of its begin
    change: int
    events: int = 1
    latest: int = 0  # the change that its latest anomalous event was
    quiet: int = 0  # usual events since the last anomalous one
    ended: int | None = None
    ended_notice: int = 0
    score: float = -math.inf
    threshold: float | None = None
    p_value: float | None = None
    event_id: str | None = None
    event_ts: int | None = None
    owner: int = 0
    x: bytes = b""  # float64; categories as codes
    texts: dict[int, str] = {}
    why: Why | None = None
    acknowledged: Acknowledged | None = None
    usual: bool = False
    watch: AlarmAnswer | None = None

    @property
    def state(self) -> Standing:
        """Whether it goes on, is over, or was acknowledged."""
        if self.acknowledged is not None:
            return "acknowledged"
        return "open" if self.ended is None else "over"

    @property
    def row(self) -> np.ndarray:
        """The event of its largest score, (1, d)."""
        return np.frombuffer(self.x, np.float64)[None]

    @property
    def place(self) -> tuple[str, Hashable]:
        """Where it is found while it goes on."""
        if self.watch is not None:
            return self.kind, (self.watch.model_version, self.watch.figure, self.watch.of)
        return self.of, self.slice


class Alarms:
    """The latest alarms, at most `most`. `explain` finds what drives an event (1, d) of a stream's slice, if it can."""

    def __init__(self, most: int, explain: Callable[[Of, Any, np.ndarray], Why | None]):
        self._most, self._explain = most, explain
        self._kept: OrderedDict[int, Alarm] = OrderedDict()  # by number, the oldest first
        self._changed: OrderedDict[int, None] = OrderedDict()  # numbers, by their last change
        self._open: dict[str, OrderedDict[Hashable, Alarm]] = {
            place: OrderedDict() for place in ("events", "clicks", "watch", "trial")
        }  # those longest silent first
        self._notices: deque[tuple[int, int]] = deque(maxlen=BACKLOG)  # with the alarm's number, the oldest first
        self.begun = dict.fromkeys(("anomaly", "watch", "trial"), 0)  # since the state began
        self.number = self.change = self.notice = 0  # the newest
        self._second, self._explained = 0, 0  # the second that events were last explained in, and how many
        self.n_open = 0

    def take(
        self,
        of: Of,
        slices: Sequence[Any],
        flags: Sequence[int],
        verdicts: Sequence[VerdictAnswer],
        X: np.ndarray,
        said: Callable[[int], Said],
        t: int,
    ) -> None:
        """Take judgements of events X (n, d), in order. Needed while an alarm is open, or one of them is anomalous."""
        self._end_silent(t)
        running = self._open[of]
        risen: dict[int, Alarm] = {}  # by number
        for i, (key, flag) in enumerate(zip(slices, flags, strict=True)):
            alarm = running.get(key)
            if not flag & ANOMALOUS:
                if alarm is not None:
                    alarm.quiet += 1
                    if alarm.quiet >= STRETCH:
                        self._end(alarm, t)
                continue
            verdict = verdicts[i]
            score = math.inf if verdict.score is None else verdict.score
            if alarm is None:
                alarm = self._begin("anomaly", of, key, t)
            else:
                alarm.events += 1
                alarm.last, alarm.quiet = t, 0
                self._go_on(alarm)
            if score > alarm.score:
                about = said(i)
                alarm.score, alarm.threshold, alarm.p_value = score, verdict.threshold, verdict.p_value
                alarm.event_id, alarm.event_ts, alarm.owner, alarm.texts = about.id, about.ts, about.owner, about.texts
                alarm.x, alarm.why = X[i].astype(np.float64).tobytes(), None
                risen[alarm.number] = alarm
        for alarm in risen.values():
            if not self._may_explain(t):
                break
            alarm.why = self._explain(of, alarm.slice, alarm.row)

    def found(self, kind: Kind, raised: Raised) -> None:
        """Take what a watch found."""
        self._end_silent(raised.t)
        answer = msgspec.convert(raised.shown(), AlarmAnswer)
        known = self._open[kind].get((answer.model_version, answer.figure, answer.of))
        if known is None:
            slice_ = answer.of if answer.figure in ("ivr", "fpr") and answer.of else None
            alarm = self._begin(kind, "clicks", slice_, raised.t, answer)
        else:
            alarm = known
            alarm.events += 1
            alarm.last = raised.t
            self._go_on(alarm)
        if known is None or answer.seen > alarm.score:
            alarm.score, alarm.threshold, alarm.watch = answer.seen, answer.limit, answer

    def acknowledge(self, alarm: Alarm, who: str, note: str, t: int) -> None:
        """Somebody saw it."""
        alarm.acknowledged = Acknowledged(who, t, note)
        self._touch(alarm)

    def get(self, number: int) -> Alarm | None:
        """The alarm of a number, if it is kept."""
        return self._kept.get(number)

    def newest(self) -> list[Alarm]:
        """All that are kept, the newest first."""
        return list(reversed(self._kept.values()))

    def __len__(self) -> int:
        return len(self._kept)

    def since(self, change: int) -> list[Alarm]:
        """The alarms that changed after this change, in the order of their last ones."""
        found: list[Alarm] = []
        for number in reversed(self._changed):
            alarm = self._kept[number]
            if alarm.change <= change:
                break
            found.append(alarm)
        return found[::-1]

    def after(self, notice: int) -> tuple[int, Alarm] | None:
        """The first notice after this one whose alarm is kept, and that alarm."""
        for at, number in self._notices:
            if at > notice and number in self._kept:
                return at, self._kept[number]
        return None

    def noticed(self, notice: int) -> list[Alarm]:
        """The alarms that began or ended after this notice, if they are kept; one that did both stands there twice."""
        found: list[Alarm] = []
        for at, number in reversed(self._notices):
            if at <= notice:
                break
            if number in self._kept:
                found.append(self._kept[number])
        return found[::-1]

    def keep(self, most: int) -> None:
        """Keep so many from now on; the oldest go."""
        self._most = most
        while len(self._kept) > most:
            _, alarm = self._kept.popitem(last=False)
            del self._changed[alarm.number]
            self._close(alarm)

    def carry(self, of: Of, columns: Columns) -> None:
        """Events of a stream have other features from now on; see `onlineguard.models.carrying`."""
        for alarm in self._kept.values():
            if alarm.of == of and alarm.x:
                alarm.x = carried_leaves(np.full(len(columns), np.nan), alarm.row, columns).tobytes()
                alarm.texts = {j: alarm.texts[column] for j, column in enumerate(columns) if column in alarm.texts}

    def forget(self, owner: int) -> None:
        """Forget the clicks of a user, see `remembered.owner`; that there was an alarm of their slice stays."""
        for alarm in self._kept.values():
            if alarm.owner == owner:
                alarm.event_id, alarm.owner, alarm.x, alarm.why = None, 0, b"", None
                self._touch(alarm)

    def dump(self) -> dict[str, Any]:
        """A copy of everything."""
        return {
            "kept": msgspec.msgpack.encode(list(self._kept.values())),
            "begun": dict(self.begun),
            "counts": [self.number, self.change, self.notice, self._second, self._explained],
        }

    def restore(self, dump: dict[str, Any]) -> None:
        """Become what was dumped."""
        kept = msgspec.msgpack.decode(dump["kept"], type=list[Alarm])
        self._kept = OrderedDict((alarm.number, alarm) for alarm in kept)
        self.begun = dict(dump["begun"])
        self.number, self.change, self.notice, self._second, self._explained = dump["counts"]
        self._changed = OrderedDict((alarm.number, None) for alarm in sorted(kept, key=lambda each: each.change))
        for running in self._open.values():
            running.clear()
        self.n_open = 0
        for alarm in sorted((each for each in kept if each.ended is None), key=lambda each: each.latest):
            place, key = alarm.place
            self._open[place][key] = alarm
            self.n_open += 1
        notices = [(at, each.number) for each in kept for at in (each.notice, each.ended_notice) if at]
        self._notices = deque(sorted(notices), maxlen=BACKLOG)

    def _begin(self, kind: Kind, of: Of, slice_: Any, t: int, watch: AlarmAnswer | None = None) -> Alarm:
        self.number += 1
        self.begun[kind] += 1
        alarm = Alarm(
            number=self.number, kind=kind, of=of, slice=slice_, began=t, last=t, notice=0, change=0, watch=watch
        )
        self._kept[alarm.number] = alarm
        place, key = alarm.place
        self._open[place][key] = alarm
        self.n_open += 1
        self._go_on(alarm)
        alarm.notice = self._noticed(alarm)
        self.keep(self._most)
        return alarm

    def _go_on(self, alarm: Alarm) -> None:
        place, key = alarm.place
        self._open[place].move_to_end(key)
        self._touch(alarm)
        alarm.latest = self.change

    def _end(self, alarm: Alarm, t: int) -> None:
        self._close(alarm)
        alarm.ended = t
        self._touch(alarm)
        alarm.ended_notice = self._noticed(alarm)

    def _close(self, alarm: Alarm) -> None:
        place, key = alarm.place
        if self._open[place].get(key) is alarm:
            del self._open[place][key]
            self.n_open -= 1

    def _end_silent(self, t: int) -> None:
        for running in self._open.values():
            for _ in range(ENDED):
                if not running or t - (oldest := next(iter(running.values()))).last < SILENCE:
                    break
                self._end(oldest, t)

    def _touch(self, alarm: Alarm) -> None:
        self.change += 1
        alarm.change = self.change
        self._changed[alarm.number] = None
        self._changed.move_to_end(alarm.number)

    def _noticed(self, alarm: Alarm) -> int:
        self.notice += 1
        self._notices.append((self.notice, alarm.number))
        return self.notice

    def _may_explain(self, t: int) -> bool:
        second = t // 1_000
        if second != self._second:
            self._second, self._explained = second, 0
        self._explained += 1
        return self._explained <= EXPLAINED


def shown(alarm: Alarm, source: str, names: Sequence[Hashable], why: Why | None) -> AlarmState:
    """An alarm as the service answers it. `source` names the state, `names` its features; `why` as it is known now."""
    values: list[Any] = [_finite(value) for value in np.frombuffer(alarm.x, np.float64).tolist()]
    for place, text in alarm.texts.items():
        values[place] = text
    drivers, reasons = (None, {}) if why is None else why
    return AlarmState(
        id=name_of(alarm, source),
        kind=alarm.kind,
        of=alarm.of,
        slice=alarm.slice,
        state=alarm.state,
        began=alarm.began,
        last=alarm.last,
        ended=alarm.ended,
        events=alarm.events,
        score=_finite(alarm.score),
        threshold=alarm.threshold,
        p_value=alarm.p_value,
        event_id=alarm.event_id,
        event_ts=alarm.event_ts,
        x=dict(zip(map(str, names), values, strict=False)) if values else None,
        drivers=drivers,
        reasons=reasons,
        usual=alarm.usual,
        acknowledged=alarm.acknowledged,
        watch=alarm.watch,
    )


def name_of(alarm: Alarm, source: str) -> str:
    """The id under which others know it: no other state has one like it."""
    return f"{source}-{alarm.number}" if source else str(alarm.number)


def number_of(name: str, source: str) -> int:
    """The number in a name; 0, which none has, where it is not one of this state's."""
    before, _, digits = name.rpartition("-")
    return int(digits) if before == source and digits.isdecimal() and digits.isascii() and len(digits) < 19 else 0


def _finite(value: float) -> float | None:
    return value if value - value == 0.0 else None
