"""A shard: a guard for one partition of a log, and how far it has read.

    outcome = shard.apply(records)

What it holds after a record, and what the record leads to, follows from the partition's records up to there alone. How
they were cut into calls changes nothing, to the last bit, and the only clock is that of the records.

**Many small records** are applied together where that changes nothing: records of one kind, of one second, whose ids
are new, up to the event after which a sample for the pool is due.

**Alarms** are told when they begin and when they end. What drives one is found when the first record of a later second
comes, from its slice as it is then, and the alarm is told again; of a second at most `EXPLAINED` are explained.

A record that nothing can be done with becomes a dead letter. One that names a model that cannot be had now stops the
shard before it: to go on without that model would lead to another state than everybody else's.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.model import Model
from onlineguard.wire.answers import ClickAnswer, EventAnswer
from onlineguard.wire.placement import key_of_slice
from onlineguard.wire.requests import Of
from onlineguard_service.alarms import EXPLAINED, Alarm, name_of, shown
from onlineguard_service.digest import digest
from onlineguard_service.entries import (
    Clicks,
    Entry,
    Erase,
    Erased,
    Events,
    Options,
    Switch,
    Trial,
    items_of,
)
from onlineguard_service.event_numbers import check_key
from onlineguard_service.guard import Answer, Guard
from onlineguard_service.partitions.log import NOTHING, Output, Record
from onlineguard_service.partitions.records import Poison, dead_letter, decoded
from onlineguard_service.shards.pooling import POOLS, SAMPLES, Append, Pooling

TOGETHER = 4_096  # events that are applied together, at most
ROOM = 10_000  # slices of a stream that a shard has room for at the start

_COUNTED = "the clicks were counted by a replica, but these shards count; begin them with --counted"
_UNCOUNTED = "the clicks come without counts, but these shards do not count; send them to a replica"

Read = Entry | Poison | None  # a record, read; None for a sample or a pool, which are no entries
Told = tuple[str, bytes, bytes]  # topic, key and value of an output


class Outcome(NamedTuple):
    """What records led to."""

    outputs: list[Output]
    appended: list[Append]  # to be in the log before the outputs are published
    waits: str | None = None  # why the shard stopped before a record


class Shard:
    """See this module.

    partitions: how many the log has.
    models: the model of a version. Raises CheckpointError where it cannot be had now.
    """

    guards = Guard  # what a shard keeps; a simulation has a cheaper kind

    def __init__(self, partition: int, partitions: int, options: Options, version: str, models: Callable[[str], Model]):
        self.partition, self._models = partition, models
        self.offset = NOTHING  # of the record applied last
        self.t = 0  # when the log took that
        self.pooling = Pooling(partition, partitions)
        self._second, self._unexplained = 0, list[int]()  # the alarms that began in it
        self._use(self.guards(options, version, models))

    def _use(self, guard: Guard) -> None:
        guard.explaining, guard.source = False, f"p{self.partition}"
        self.guard, self._notice = guard, guard.alarms.notice

    @classmethod
    def restored(cls, partition: int, partitions: int, dump: dict[str, Any], models: Callable[[str], Model]) -> "Shard":
        """The shard that was dumped: it goes on as that one would, to the last bit."""
        shard = cls.__new__(cls)
        shard.partition, shard._models = partition, models
        shard.offset, shard.t, shard._second, shard._unexplained = dump["shard"]
        shard.pooling = Pooling(partition, partitions)
        shard.pooling.restore(dump["pooling"])
        shard._use(cls.guards.restored(dump, models))
        return shard

    def warmup(self, slices: int = ROOM) -> None:
        """Have room for so many slices of each stream, and every program compiled that a table of that size needs.

        Shards of one process with as much room share their programs; without it each restored one compiles its own.
        """
        self.guard.warmup(TOGETHER, slices)

    def apply(self, records: Sequence[Record]) -> Outcome:
        """What the records lead to; those that were applied already are passed over."""
        records = [record for record in records if record.offset > self.offset]
        entries = [self._read(record) for record in records]
        outcome = Outcome([], [])
        at = 0
        while at < len(records):
            try:
                self._have_model(entries[at])
            except CheckpointError as error:
                return outcome._replace(waits=f"record {records[at].offset}: {error}")
            before = self._explained(records[at].t)
            n = self._how_many(records, entries, at)
            part = records[at : at + n]
            found = self._applied(part, entries[at : at + n], outcome.appended)
            found[0][:0] = before
            for record, each in zip(part, found, strict=True):
                outcome.outputs.extend(Output(record.offset, number, *told) for number, told in enumerate(each))
            self.offset, self.t = part[-1].offset, part[-1].t
            at += n
        return outcome

    def dump(self) -> dict[str, Any]:
        """A copy of everything, as `Guard.dump`."""
        own = [self.offset, self.t, self._second, list(self._unexplained)]
        return {"shard": own, "pooling": self.pooling.dump(), **self.guard.dump()}

    def digest(self) -> str:
        """A hash of all of it: the same for every process that has applied the same records."""
        return digest(self.dump())

    def _read(self, record: Record) -> Read:
        """The entry of a record, or why it has none."""
        if record.kind in (SAMPLES, POOLS):
            return None
        try:
            entry = decoded(record)
            if isinstance(entry, Events):
                for i, event in enumerate(entry.events):
                    check_key(event.slice, i)
            if getattr(entry, "namespace", ""):
                raise Poison("the record is for a namespace; shards have none")
            if isinstance(entry, Clicks) and bool(entry.counts) == self.guard.options.counting:
                raise Poison(_COUNTED if entry.counts else _UNCOUNTED)
        except (Poison, InvalidArgument) as error:
            return error if isinstance(error, Poison) else Poison(str(error))
        return entry

    def _have_model(self, entry: Read) -> None:
        """Raises CheckpointError where an entry names a model that cannot be had now."""
        if isinstance(entry, Switch | Trial) and entry.version:
            self._models(entry.version)

    def _how_many(self, records: Sequence[Record], entries: Sequence[Read], at: int) -> int:
        """How many records from this one on are applied together."""
        first, guard, end = entries[at], self.guard, at + 1
        if isinstance(first, Events) and guard.events is not None:
            kind, most = Events, TOGETHER
        elif isinstance(first, Clicks):
            kind, most = Clicks, guard.most_clicks
        else:
            return 1
        left = min(most, self.pooling.left(_stream_of(first), guard)) - len(items_of(first))
        known = guard.remembers(first)
        if known is None:
            return 1
        while end < len(records) and records[end].t // 1_000 == records[at].t // 1_000:
            entry = entries[end]
            if not isinstance(entry, kind) or (left := left - len(items_of(entry))) < 0:
                break
            more = guard.remembers(entry)
            if more is None or more & known:
                break
            known |= more
            end += 1
        return end - at

    def _applied(self, records: Sequence[Record], entries: Sequence[Read], appended: list[Append]) -> list[list[Told]]:
        """What each of these records leads to."""
        if len(records) == 1:
            return [self._alone(records[0], entries[0], appended)]
        alarms: list[list[Told]] = [[] for _ in records]
        try:
            answers = self.guard.apply_together(
                entries,  # type: ignore[arg-type]  # of one kind, as `_how_many` saw to
                records[-1].offset,
                lambda i: alarms[i].extend(self._alarms()),
            )
        except InvalidArgument:  # nothing has changed
            return [self._alone(record, entry, appended) for record, entry in zip(records, entries, strict=True)]
        self._sample(entries[0], records[-1].offset, appended)
        return [[*map(_told, each), *more] for each, more in zip(answers, alarms, strict=True)]

    def _alone(self, record: Record, entry: Read, appended: list[Append]) -> list[Told]:
        try:
            if isinstance(entry, Poison):
                raise entry
            if entry is None:
                if record.kind == POOLS:
                    self.pooling.take(record, self.guard)
                else:
                    appended += self.pooling.merged(record)
                return []
            answers = self._answers(entry, record)
        except (Poison, InvalidArgument) as error:
            return [dead_letter(self.partition, record, str(error))[2:]]
        if isinstance(entry, Events | Clicks):
            self.pooling.adopt(_stream_of(entry), self.guard)  # one that waited for the stream to begin
            self._sample(entry, record.offset, appended)
        told = [_told(answer) for answer in answers if isinstance(answer, EventAnswer | ClickAnswer)]
        return [*told, *self._alarms()]

    def _answers(self, entry: Entry, record: Record) -> Sequence[Answer]:
        guard = self.guard
        if isinstance(entry, Switch):
            if (entry.version, entry.promises) == (guard.model.version, guard.watching.promises):
                return []  # it was written twice
            if self._models(entry.version).looks_up:
                raise Poison(f"model {entry.version} was trained with lookups, and shards have none")
        answers = guard.apply(entry, record.offset)
        if isinstance(entry, Erase):  # the state was all that there is to be erased here
            guard.apply(Erased(record.offset, record.t), record.offset)
        return answers

    def _sample(self, entry: Read, offset: int, appended: list[Append]) -> None:
        appended += self.pooling.after(_stream_of(entry), offset, self.guard)

    def _alarms(self) -> list[Told]:
        """The alarms that began or ended since the last call."""
        found = self.guard.alarms.noticed(self._notice)
        for alarm in found:
            if alarm.notice > self._notice and alarm.x and len(self._unexplained) < EXPLAINED:
                self._unexplained.append(alarm.number)
        self._notice = self.guard.alarms.notice
        return [self._alarm(alarm) for alarm in found]

    def _explained(self, t: int) -> list[Told]:
        """The alarms that began in an earlier second, with what drives them, if a record of a later one comes."""
        if t // 1_000 <= self._second:
            return []
        numbers, self._unexplained, self._second = self._unexplained, [], t // 1_000
        return [self._alarm(alarm) for number in numbers if (alarm := self.guard.explain_alarm(number)) is not None]

    def _alarm(self, alarm: Alarm) -> Told:
        guard = self.guard
        state = shown(alarm, guard.source, guard.alarm_names(alarm), alarm.why)
        return "alarms", name_of(alarm, guard.source).encode(), msgspec.json.encode(state)


def _stream_of(entry: Read) -> Of:
    return "events" if isinstance(entry, Events) else "clicks"


def _told(answer: EventAnswer | ClickAnswer) -> Told:
    key = key_of_slice(answer.slice) if isinstance(answer, EventAnswer) else answer.click_id.encode()
    return "decisions", key, msgspec.json.encode(answer)
