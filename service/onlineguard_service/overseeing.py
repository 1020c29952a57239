"""Overseeing: the alarms as they are asked for, and what operators say of them."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import UNSET

from onlineguard.errors import InvalidArgument
from onlineguard.wire.alarms import AlarmNote, AlarmPage, AlarmsQuery, AlarmState
from onlineguard_service import entries
from onlineguard_service.alarms import Alarm, name_of, number_of, shown
from onlineguard_service.figures import shown_key
from onlineguard_service.guard import Guard
from onlineguard_service.patience import give_way

AT_ONCE = 500  # alarms that are looked through before others get their turn; well under a millisecond
SHOWN = 25  # alarms that are shown before others get their turn; each takes up to 0.1 ms


class Overseeing:
    """See this module. `guard` is the operator's, `namespace` what is asked about; `commit` takes an entry."""

    def __init__(self, guard: Guard, commit: Callable[[entries.Entry], Awaitable[Any]], namespace: str = ""):
        self._own, self._commit, self._namespace = guard, commit, namespace

    @property
    def _guard(self) -> Guard:
        return self._own.within(self._namespace) if self._namespace else self._own

    async def page(self, asked: AlarmsQuery) -> AlarmPage:
        """Alarms that match, the newest first. The cursor is the last one's name, so new alarms do not move it.

        Raises InvalidArgument for a cursor that is none.
        """
        alarms = self._guard.alarms
        before = alarms.number + 1 if asked.cursor is UNSET else self._number(asked.cursor)
        if not before:
            raise InvalidArgument("cursor", f"is {asked.cursor!r:.80}; it must be one that an answer gave")
        found: list[Alarm] = []
        for place, alarm in enumerate(alarms.newest(), 1):
            if alarm.number < before and _matches(alarm, asked):
                found.append(alarm)
                if len(found) > asked.limit:
                    break
            if place % AT_ONCE == 0:
                await give_way()
        listed = found[: asked.limit]
        cursor = name_of(listed[-1], self._own.source) if len(found) > asked.limit else None
        states: list[AlarmState] = []
        for place, alarm in enumerate(listed, 1):
            states.append(self._shown(alarm))
            if place % SHOWN == 0:
                await give_way()
        return AlarmPage(states, cursor, len(alarms), alarms.n_open)

    def alarm(self, name: str) -> AlarmState:
        """One alarm; what drove it is found now, if it was not then. Raises KeyError for one that is not kept."""
        alarm = self._named(name)
        return shown(alarm, self._own.source, self._guard.alarm_names(alarm), self._guard.why(alarm))

    async def note(self, name: str, note: AlarmNote, who: str) -> AlarmState:
        """Acknowledge an alarm, and have its slice learn that its event was usual.

        Raises KeyError for one that is not kept, InvalidArgument where nothing is known that could be usual.
        """
        alarm = self._named(name)
        if note.usual and not alarm.x:
            raise InvalidArgument("usual", "is true, but the alarm has no event; it can only be acknowledged")
        await self._commit(entries.Note(alarm.number, who, note.note, note.usual, entries.now(), self._namespace))
        return self.alarm(name)

    @property
    def change(self) -> int:
        """The number of the latest change of an alarm."""
        return self._guard.alarms.change

    def since(self, change: int, upto: int, most: int) -> list[tuple[int, AlarmState]]:
        """The first so many alarms that changed after one change, and not since another, with their last changes."""
        found = [alarm for alarm in self._guard.alarms.since(change) if alarm.change <= upto]
        return [(alarm.change, self._shown(alarm)) for alarm in found[:most]]

    def latest(self, change: int, upto: int, most: int) -> int:
        """This change, or the one after which the latest so many alarms changed, where more did until `upto`."""
        found = [alarm.change for alarm in self._guard.alarms.since(change) if alarm.change <= upto]
        return found[-most - 1] if len(found) > most else change

    def _shown(self, alarm: Alarm) -> AlarmState:
        return shown(alarm, self._own.source, self._guard.alarm_names(alarm), alarm.why)

    def _number(self, name: str) -> int:
        return number_of(name, self._own.source)

    def _named(self, name: str) -> Alarm:
        alarm = self._guard.alarms.get(self._number(name))
        if alarm is None:
            raise KeyError(name)
        return alarm


def _matches(alarm: Alarm, asked: AlarmsQuery) -> bool:
    return (
        asked.since <= alarm.began < asked.until
        and (asked.of is UNSET or alarm.of == asked.of)
        and (asked.kind is UNSET or alarm.kind == asked.kind)
        and (asked.state is UNSET or alarm.state == asked.state)
        and (asked.least is UNSET or alarm.score >= asked.least)
        and (asked.slice is UNSET or (alarm.slice is not None and shown_key(alarm.slice) == asked.slice))
    )
