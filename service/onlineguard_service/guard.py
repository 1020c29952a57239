"""Guard: everything the service knows, and what one entry of the journal does to it.

    answers = guard.apply(entry, sequence)

It reads no clock, draws no number and opens no socket: the same entries in the same order give the same state and the
same answers, to the last bit. So a snapshot and the entries after it are all that recovery needs. An entry is applied
whole or, with InvalidArgument, not at all; that too is the same each time.

What events lead to is in `learning`, and what clicks lead to in `judging`.

A namespace is a guard of its own inside the operator's: it shares the model that decides and the operator's choices,
and nothing that is learned. So each gets the answers that it would get alone, and none can learn of another. Pooling,
from which new slices start, stays inside a namespace too: the start of a slice would else tell of others' events.
"""

import contextlib
import math
from collections.abc import Callable, Generator, Hashable, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from onlineguard.engine.engine import Engine
from onlineguard.engine.events import CodedEvents
from onlineguard.engine.states import Sample
from onlineguard.errors import InvalidArgument
from onlineguard.records.click import Click
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.guardrails.compatible import incompatible
from onlineguard.slidr.judge import ClickJudge, FeatureJudge
from onlineguard.slidr.model import Model
from onlineguard.slidr.watch import COLUMNS as WATCHED_COLUMNS
from onlineguard.wire.answers import ClickAnswer, DecisionAnswer, EventAnswer, LabelAnswer
from onlineguard.wire.requests import Event, Of
from onlineguard_service import carrying
from onlineguard_service.alarms import Alarm, Alarms, Why
from onlineguard_service.digest import digest
from onlineguard_service.drivers import explained, why
from onlineguard_service.engines import Engines
from onlineguard_service.entries import (
    CARRIED,
    CHANGEABLE,
    Begin,
    Clicks,
    Decisions,
    Entry,
    Erase,
    Erased,
    Events,
    Features,
    Labels,
    Note,
    OfNamespace,
    Options,
    Span,
    Switch,
    Trial,
    Tune,
    items_of,
)
from onlineguard_service.event_numbers import Stream, key_of
from onlineguard_service.figures import Figures
from onlineguard_service.history.recorder import Recorder
from onlineguard_service.judging import Judging
from onlineguard_service.learning import CHECKED_AT_ONCE, Learning
from onlineguard_service.limits import Limits
from onlineguard_service.remembered import owner
from onlineguard_service.telling import ids_of
from onlineguard_service.trying import Trying
from onlineguard_service.watching import Watching

MARKS = 100  # switches of the model that are remembered
TELLING = 1_000  # clicks that tell which slices have traffic

Answer = EventAnswer | ClickAnswer | LabelAnswer | DecisionAnswer


class Guard:
    """See this module. `version` is that of the first model, `models` gives the model of a version."""

    def __init__(self, options: Options, version: str, models: Callable[[str], Model]):
        self.options = options
        self._models = models
        self._engines = Engines(options)
        self.store = ProcessStore(options.max_entities or None) if options.counting else None
        self.marks: list[tuple[int, str]] = []
        self.label_t: int | None = None  # when the last label came
        self.sequence = 0  # of the last entry applied
        self.source = ""  # of the entries
        self.namespaces: dict[str, Guard] = {}  # those that an entry came for, and some that wait for their first
        self.turns = 0  # that operators' choices and models have taken: what was made for a namespace before is stale
        self.looking_up = False  # whether clicks come with what lookups have of them; told by whoever sends entries
        self.erasing: dict[int, str] = {}  # users to be erased, by the entry that asked for it
        self.named: set[str] = set()  # the same, and who was erased while these entries were replayed
        self.erased = 0  # the entry that said last that what was owed is done
        self.explaining = True  # whether alarms are explained as they are found, which takes the state right then
        self.alarms = Alarms(options.max_alarms, self._why_now)
        model = models(version)
        self._featuriser = model.featuriser()
        self._learning = Learning(options, self._engines, self.alarms)
        self._judging = Judging(options, model, self._judge_of(model), self.watch, self.alarms)

    def _hear(self) -> None:
        """Have the alarms hear of what is found, if they are others than they were."""
        self._learning.tell(self.alarms)
        self._judging.tell(self.alarms)

    def _use(self, model: Model) -> None:
        self._featuriser = model.featuriser()
        self._judging.use(model, self._judge_of(model))
        self._engines.changed("clicks")

    def _judge_of(self, model: Model) -> ClickJudge:
        return ClickJudge(model.scorer, self._featuriser, self.watch, self.store, WATCHED_COLUMNS)

    @property
    def events(self) -> Engine | None:
        """The engine of events; None before the first, unless the operator chose their features."""
        return self._engines.events

    @property
    def watch(self) -> Engine:
        """The engine that watches how slices click."""
        return self._engines.watch

    @property
    def model(self) -> Model:
        """The one that decides."""
        return self._judging.model

    @property
    def event_figures(self) -> Figures:
        """Those of the slices of events."""
        return self._learning.figures

    @property
    def click_figures(self) -> Figures:
        """Those of the slices of clicks."""
        return self._judging.figures

    @property
    def watching(self) -> Watching:
        """The live watch of the model."""
        return self._judging.watching

    @property
    def trying(self) -> Trying:
        """The candidate that judges beside the model."""
        return self._judging.trying

    @property
    def recorder(self) -> Recorder | None:
        """It is told of every click that is judged, and of every label and delayed decision."""
        return self._judging.recorder

    @recorder.setter
    def recorder(self, recorder: Recorder | None) -> None:
        self._judging.recorder = recorder

    def apply(self, entry: Entry, sequence: int) -> Sequence[Answer]:
        """One answer to each event, click, label or decision; none to what the operator changed.

        Raises InvalidArgument, with nothing changed, for events that do not fit those before them.
        """
        self.sequence = sequence  # of an entry that is refused too: it is over
        if isinstance(entry, OfNamespace):
            if entry.namespace:
                return self.within(entry.namespace).apply(msgspec.structs.replace(entry, namespace=""), sequence)
        elif not isinstance(entry, Begin | Trial | Features):
            self._tell_namespaces(entry, sequence)
        if isinstance(entry, Events):
            return self._learning.events(entry)
        if isinstance(entry, Clicks):
            return self._judging.clicks(entry, sequence)
        if isinstance(entry, Labels):
            self.label_t = entry.t
            return self._judging.labels(entry, sequence)
        if isinstance(entry, Decisions):
            return self._judging.decisions(entry, sequence)
        if isinstance(entry, Begin):
            raise InvalidArgument(f"entry {sequence} begins a state, but this one has begun already")
        if isinstance(entry, Tune):
            self._tune(entry.options)
            return []
        if isinstance(entry, Features):
            self._carry(entry.options)
            return []
        if isinstance(entry, Trial):
            self._try(entry)
            return []
        if isinstance(entry, Note):
            self._note(entry)
            return []
        if isinstance(entry, Erase):
            self._erase(entry.user_id)
            return []
        if isinstance(entry, Erased):
            if any(asked <= entry.upto for asked in self.erasing):
                self.erasing = {asked: user for asked, user in self.erasing.items() if asked > entry.upto}
                self.erased = sequence
            return []
        self.watching.switched(entry)
        if entry.version != self.model.version:
            self._use(self._models(entry.version))
            self.marks = [*self.marks, (entry.t, entry.version)][-MARKS:]
            self.trying.end(entry.t, f"model {entry.version} decides now")
        return []

    def apply_together(
        self, entries: Sequence[Events] | Sequence[Clicks], sequence: int, after: Callable[[int], None]
    ) -> list[Sequence[EventAnswer | ClickAnswer]]:
        """The answers to entries of one kind, exactly as if each were applied by itself; quicker, for many small ones.

        No id may stand twice in them or be remembered, see `remembers`, and of clicks there may be `most_clicks`.
        `after` is called for each entry when its alarms are what they would be then. `explaining` must be off: that
        takes the state after each. Raises InvalidArgument, with nothing changed, if one of them would be refused.
        """
        assert not self.explaining
        self.sequence = sequence
        spans = [Span(len(items_of(entry)), entry.t, partial(after, i)) for i, entry in enumerate(entries)]
        answers: Sequence[EventAnswer | ClickAnswer]
        if isinstance(entries[0], Events):
            answers = self._learning.together([entry for entry in entries if isinstance(entry, Events)], spans)
        else:
            clicks = [entry for entry in entries if isinstance(entry, Clicks)]
            answers = self._judging.together(clicks, spans, sequence)
        ends = np.cumsum([span.n for span in spans]).tolist()
        return [answers[end - span.n : end] for span, end in zip(spans, ends, strict=True)]

    @property
    def most_clicks(self) -> int:
        """Clicks that are judged at once."""
        return self._judging.click_judge.most

    def remembers(self, entry: Events | Clicks) -> set[str] | None:
        """The ids in an entry; None if one of them is remembered or stands there twice."""
        if isinstance(entry, Events):
            ids, answers = [id_ for id_ in ids_of(entry.events) if id_ is not None], self._learning.answers
        else:
            ids, answers = [click.click_id for click in entry.clicks], self._judging.answers
        known = set(ids)
        return None if len(known) < len(ids) or any(answers.get(id_) is not None for id_ in ids) else known

    def within(self, namespace: str) -> "Guard":
        """The guard of a namespace."""
        if namespace not in self.namespaces:
            self.namespaces[namespace] = self.made()
        return self.namespaces[namespace]

    def made(self) -> "Guard":
        """A guard for a new namespace, with every program compiled that this one has; may run in another thread."""
        one = Guard(self._share_of(self.options), self.model.version, self._models)
        if self.watching.since is not None:
            one.watching.switched(Switch(self.model.version, self.watching.since, self.watching.promises))
        if self._engines.expected is not None:
            one.warmup(*self._engines.expected)
        return one

    @property
    def born(self) -> dict[str, "Guard"]:
        """The namespaces that an entry came for."""
        return {name: one for name, one in self.namespaces.items() if one.sequence}

    def _share_of(self, options: Options) -> Options:
        """The operator's choices for a namespace, which has a share of the room and takes no model back."""
        share = options.namespace_share
        room = {
            name: math.ceil(share * getattr(options, name))
            for name in ("max_slices", "max_entities", "max_alarms", "remember")
        }
        return msgspec.structs.replace(options, **room, rollback=False)

    def _tell_namespaces(self, entry: Switch | Tune | Erased, sequence: int) -> None:
        """Have namespaces go on with what the operator chose; those that wait for their first entry are made anew."""
        self.turns += 1
        self.namespaces = self.born
        for one in self.namespaces.values():
            shared = Tune(self._share_of(entry.options), entry.t) if isinstance(entry, Tune) else entry
            one.apply(shared, sequence)

    def _try(self, entry: Trial) -> None:
        if entry.version:
            self.trying.begin(entry, self._models(entry.version), self.model)
        else:
            self.trying.end(entry.t, entry.why, entry.by_itself)

    def _tune(self, options: Options) -> None:
        chosen = {name: getattr(options, name) for name in CHANGEABLE}
        self.options = msgspec.structs.replace(self.options, **chosen)
        self._engines.tune(self.options)
        self._judging.tune(self.options, self._models)
        self._learning.tune(options)
        self.alarms.keep(options.max_alarms)
        if self.store is not None:
            self.store.keep(options.max_entities or None)

    def check_features(self, options: Options) -> None:
        """Raises InvalidArgument where the state cannot go on with the features of these options."""
        for name, one in {"": self, **self.born}.items():
            try:
                carrying.check(one.events, options)
            except InvalidArgument as error:
                if not name:
                    raise
                raise InvalidArgument(f"namespace {name!r}: {error}") from error

    def _carry(self, options: Options) -> None:
        guards = [self, *self.born.values()]
        engines = [carrying.carried_engine(one.events, options) for one in guards]  # all, before anything changes
        self.turns += 1
        self.namespaces = self.born
        for one, engine in zip(guards, engines, strict=True):
            one._go_on_with(engine, options)

    def _go_on_with(self, engine: Engine | None, options: Options) -> None:
        """Go on with the features of these options, which the engine has already, if there is one."""
        chosen = {name: getattr(options, name) for name in CARRIED}
        self.options = msgspec.structs.replace(self.options, **chosen)
        if self.events is not None:
            columns = carrying.columns_for(self.events, options)
            self.event_figures.carry(columns)
            self.alarms.carry("events", columns)
        self._engines.carry(engine, self.options)

    def _erase(self, user_id: str) -> None:
        self.erasing[self.sequence] = user_id
        self.named.add(user_id)
        clicks = self._judging.forget(user_id)
        self.alarms.forget(owner(user_id))
        if self.store is not None:
            self.store.erase(user_id)
            self.store.forget_ids(clicks)

    def warmup(self, batch: int, slices: int) -> None:
        """Compile every program that requests of up to `batch` need while there are no more than `slices` slices."""
        self._engines.warmup(batch, slices)
        if self.store is not None:
            nothing = ClickKeys([""], np.zeros(1, np.int64), [None], [None], [""], [""], [False])
            self.store.peek(nothing)  # as `explain` does
        self._judging.warmup()
        for one in self.namespaces.values():
            one.warmup(batch, slices)

    def prepare(self, event: Event) -> None:
        """Compile what a stream needs that begins with this event; changes nothing, and may run in another thread."""
        self._engines.prepare(event)

    def warm(self, model: Model) -> None:
        """Compile what a model needs that is to decide soon; changes nothing, and may run in another thread."""
        self._judge_of(model).warmup(self._engines.twin(self.watch))
        Limits(model, self.options.follow_drift).warmup()

    @property
    def crowded(self) -> bool:
        """Whether an engine's table is half full, and `compile_ahead` was not yet called for twice its size."""
        return bool(self._engines.crowded()) or any(one.crowded for one in self.namespaces.values())

    def compile_ahead(self) -> None:
        """Compile what tables that are half full need when they have doubled, so that the event that makes them grow
        does not wait for it; changes nothing that is answered, and may run in another thread."""
        for of, twin in self._engines.ahead():
            if of == "clicks":
                self._judge_of(self.model).warmup(twin)
        for one in list(self.namespaces.values()):
            one.compile_ahead()

    def misfit(self, model: Model) -> str | None:
        """Why a model does not fit the clicks that come, in a sentence; None where it does."""
        if model.looks_up and not self.looking_up:
            return f"model {model.version} was trained with lookups, and this service has none; name their folder"
        seen = self.click_figures.counts()
        return incompatible(model, self.model, clicks=seen if sum(seen.values()) >= TELLING else None)

    def warm_beside(self, model: Model) -> None:
        """Compile what a model needs that is to be tried soon; changes nothing, and may run in another thread."""
        FeatureJudge(model.scorer, self.watch).warmup()
        Limits(model, self.options.follow_drift).warmup()

    def rollback(self, t: int) -> Switch | None:
        """The entry that takes the model back, where an alarm asks for it; else None."""
        return self.watching.rollback(t)

    def owed(self, t: int) -> Switch | Trial | None:
        """The entry that an alarm asks for: it takes the model back, or ends the trial of a candidate."""
        return self.rollback(t) or self.trying.ending(t)

    def answered_before(self, click_id: str) -> ClickAnswer | None:
        """The answer that a click got already."""
        return self._judging.answers.get(click_id)

    def drivers(self, of: Of, key: Any) -> dict[Hashable, float] | None:
        """What each feature had to do with the latest event of a slice, under the model as it is now."""
        engine, figures = self._engines.of(of), self.click_figures if of == "clicks" else self.event_figures
        try:
            return None if engine is None else engine.explain(key, CodedEvents(figures.latest(key)[None]))
        except KeyError:  # the engine keeps other slices than the figures
            return None

    def alarm_names(self, alarm: Alarm) -> Sequence[Hashable]:
        """The features of an alarm's event, in order."""
        engine = self._engines.of(alarm.of)
        return () if engine is None else engine.features or range(engine.n_features)

    def stream(self, of: Of) -> Stream | None:
        """What all events of a stream have in common; None before the first."""
        engine = self._engines.of(of)
        return None if engine is None else Stream.of(engine)

    def sample(self, of: Of, most: int) -> Sample | None:
        """The states of some slices of a stream that has begun, see `Engine.sample`."""
        engine = self._engines.of(of)
        return None if engine is None else engine.sample(most)

    def adopt(self, of: Of, sample: Sample) -> bool:
        """Pool these in place of the slices of a stream that has begun; see `Engine.adopt`."""
        engine = self._engines.of(of)
        return engine is not None and engine.adopt(sample)

    def n_learned(self, of: Of) -> int:
        """Events or clicks that the engine of a stream has taken."""
        engine = self._engines.of(of)
        return 0 if engine is None else engine.n_events

    def explain_alarm(self, number: int) -> Alarm | None:
        """Keep what drives an alarm, as its slice is now; None where that is not known, or the alarm has gone."""
        alarm = self.alarms.get(number)
        if alarm is None or not alarm.x:
            return None
        alarm.why = why(self._engines.of(alarm.of), alarm.slice, alarm.row)
        return None if alarm.why is None else alarm

    def why(self, alarm: Alarm) -> Why | None:
        """What drove an alarm: as it was found then, or else as the slice is now."""
        return alarm.why or (why(self._engines.of(alarm.of), alarm.slice, alarm.row) if alarm.x else None)

    def _why_now(self, of: Of, key: Any, row: np.ndarray) -> Why | None:
        return why(self._engines.of(of), key, row) if self.explaining else None

    def _note(self, entry: Note) -> None:
        alarm = self.alarms.get(entry.alarm)
        if alarm is None:  # it has gone
            return
        engine = self._engines.of(alarm.of)
        if entry.usual and alarm.x and not alarm.usual and engine is not None:
            with contextlib.suppress(KeyError):  # the slice has gone
                engine.feedback(alarm.slice, CodedEvents(alarm.row), usual=True)
                alarm.usual = True
        self.alarms.acknowledge(alarm, entry.who, entry.note, entry.t)

    def checking(self, events: Sequence[Event]) -> Generator[None]:
        """Check some events at each step. Raises InvalidArgument, which names the index, for one that does not fit."""
        return self._learning.checking(events)

    def checking_clicks(self, clicks: Sequence[Click]) -> Generator[None]:
        """Check some clicks at each step. Raises IdTaken for one whose id came before with another click."""
        ids: dict[str, int] = {}
        for first in range(0, len(clicks), CHECKED_AT_ONCE):
            part = clicks[first : first + CHECKED_AT_ONCE]
            self._judging.answers.check(part, [click.click_id for click in part], first, ids)
            yield

    def score(self, events: Sequence[Event]) -> list[EventAnswer]:
        """The answers that these events would get if each came next; nothing is learned.

        Before the first event was learned nothing is known: such answers are not ready.
        """
        return self._engines.score(events)

    def explain(self, event: Event | Click) -> dict[str, Any]:
        """The verdict on an event or click if it came now, and what each feature has to do with it, largest first.

        Raises KeyError for a slice that is not known.
        """
        if isinstance(event, Click):
            if self.store is None:
                raise InvalidArgument("clicks are counted in Redis; explain a slice instead")
            keys = ClickKeys.of([event])
            counts = self.store.peek(keys)
            X = self._featuriser.of_counts(counts, keys.ts, [event.marketplace], [event.logged_in])
            row, engine, key = X[:, WATCHED_COLUMNS].astype(np.float64), self.watch, self.slice_of(event)
        else:
            row, key = self._engines.stream_of([event]).numbers([event]), key_of(event.slice, 0)
            if self.events is None:
                raise KeyError(key)
            engine = self.events
        return {"slice": event.slice if isinstance(event, Event) else key, **explained(engine, key, row)}

    def slice_of(self, click: Click) -> str:
        """The name of a click's slice under the present model."""
        return self._judging.slice_of(click)

    def limits_of(self, slices: Sequence[str]) -> list[float]:
        """The thresholds of slices by their names at present."""
        return self._judging.limits_of(slices)

    @property
    def again(self) -> tuple[int, int]:
        """Events, clicks and purchases that came again, and requests whose ids came before with other content."""
        remembered = (self._learning.answers, self._judging.answers, self._judging.purchased)
        return sum(each.repeated for each in remembered), sum(each.conflicts for each in remembered)

    def fetch(self) -> None:
        """Have at hand in memory what lies on a device, so that `dump` asks JAX for nothing: a fork could not."""
        for _, engine in self._engines.both():
            engine.fetch()
        for one in self.namespaces.values():
            one.fetch()

    def dump(self) -> dict[str, Any]:
        """A copy of all that the entries taught: nested dictionaries of arrays and of what MessagePack holds."""
        judging = self._judging
        return {
            "options": msgspec.to_builtins(self.options),
            "sequence": self.sequence,
            "source": self.source,
            "erasing": [[asked, user] for asked, user in self.erasing.items()],
            "erased": self.erased,
            "model": self.model.version,
            "marks": [list(mark) for mark in self.marks],
            "label_t": self.label_t,
            "events": None if self.events is None else list(self.events.dump()),
            "categories": [] if self.events is None else list(self.events.categories),
            "watching": judging.watching.dump(),
            "trying": judging.trying.dump(),
            "limits": judging.limits.dump(),
            "watch": list(self.watch.dump()),
            "store": None if self.store is None else self.store.dump(),
            "event_figures": self.event_figures.dump(),
            "click_figures": judging.figures.dump(),
            "event_answers": self._learning.answers.dump(),
            "click_answers": judging.answers.dump(),
            "replacing": judging.replacing.dump(),
            "purchased": judging.purchased.dump(),
            "alarms": self.alarms.dump(),
            **({"namespaces": {name: one.dump() for name, one in born.items()}} if (born := self.born) else {}),
        }

    @classmethod
    def restored(cls, dump: dict[str, Any], models: Callable[[str], Model]) -> "Guard":
        """The guard that was dumped: it goes on as that one would, to the last bit."""
        options = msgspec.convert(dump["options"], Options)
        guard = cls(options, dump["model"], models)
        guard.sequence, guard.label_t = dump["sequence"], dump["label_t"]
        guard.source = dump.get("source", "")  # of old there was none
        guard.erasing, guard.erased = dict(dump.get("erasing", [])), dump.get("erased", 0)
        guard.named = set(guard.erasing.values())
        guard.marks = [(t, version) for t, version in dump["marks"]]
        categories = dump.get("categories", ())  # of old there were none
        guard._engines.restore(dump["events"], categories, dump["watch"])
        if guard.store is not None:
            guard.store = ProcessStore.restored(dump["store"], options.max_entities or None)
        guard._learning.restore(dump)
        if "alarms" in dump:  # of old there were none
            guard.alarms.restore(dump["alarms"])
        judge = guard._judge_of(guard.model)  # with this engine and this store
        guard._judging = Judging(options, guard.model, judge, guard.watch, guard.alarms)
        guard._judging.restore(dump, models)
        for name, inner in dump.get("namespaces", {}).items():
            guard.namespaces[name] = cls.restored(inner, models)
        return guard

    def digest(self) -> str:
        """A hash of all that was learned: not of how many entries it took, since repeats are entries too, nor of their
        journal's name, nor of alarms, whose times are those of the entries."""
        aside = ("sequence", "source", "erasing", "erased", "alarms", "namespaces")
        own = {name: part for name, part in self.dump().items() if name not in aside}
        return digest(own | {f"namespace {name}": one.digest() for name, one in self.born.items()})
