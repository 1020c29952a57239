"""Guard: everything the service knows, and what one entry of the journal does to it.

    answers = guard.apply(entry)

It reads no clock, draws no number and opens no socket: the same entries in the same order give the same state and the
same answers, to the last bit. So a snapshot and the entries after it are all that recovery needs. An entry is taken
whole or, with InvalidArgument, not at all; that too is the same each time.

Events are judged by one engine of the operator's features. Clicks are counted, judged by the network against the
threshold of their slice, and by a second engine that watches how fast each slice clicks.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from onlineguard.engine.engine import Engine
from onlineguard.engine.verdicts import Verdicts, p_value_of
from onlineguard.errors import InvalidArgument
from onlineguard.models.detector import Detector
from onlineguard.slidr.clicks.clicks import Click
from onlineguard.slidr.counting.counters import Keys, ProcessStore
from onlineguard.slidr.counting.windows import COLUMNS
from onlineguard.slidr.features import NAMES
from onlineguard.slidr.model import Model
from onlineguard.slidr.one_click import OneClick
from onlineguard.slidr.pipeline import slice_name
from onlineguard.slidr.watch import COLUMNS as WATCHED_COLUMNS
from onlineguard.slidr.watch import UNUSUAL, WATCHED
from onlineguard.wire.requests import ClickAnswer, Event, EventAnswer, Label, LabelAnswer, Of, Verdict
from onlineguard_service.figures import ANOMALOUS, JUDGED, ROBOTIC, Figures

MARKS = 100  # switches of the model that are remembered
_WATCHED = list(WATCHED_COLUMNS)
_AS_TEXT = {True: "true", False: "false", None: ""}  # a slice's parts, as `pipeline.prepare` writes them

_json = msgspec.json.Encoder()
_click_answer = msgspec.json.Decoder(ClickAnswer)


class Begin(msgspec.Struct, tag="begin", array_like=True, frozen=True):
    """The first entry: what the operator chose, for as long as the state lives."""

    options: "Options"
    version: str  # of the first model
    t: int  # ms since 1970 at which it came


class Events(msgspec.Struct, tag="events", array_like=True, frozen=True):
    """Events of one request, to be learned."""

    events: list[Event]
    t: int


class Clicks(msgspec.Struct, tag="clicks", array_like=True, frozen=True):
    """Clicks of one request, or of a part of it."""

    clicks: list[Click]
    t: int
    counts: bytes = b""  # int32 (n, 26), where the counters are kept elsewhere


class Labels(msgspec.Struct, tag="labels", array_like=True, frozen=True):
    """What became known of clicks later."""

    labels: list[Label]
    t: int


class Switch(msgspec.Struct, tag="switch", array_like=True, frozen=True):
    """From here on another model decides."""

    version: str
    t: int


class Options(msgspec.Struct, frozen=True):
    """What decides what the state is; another choice begins another state."""

    features: tuple[str, ...] = ()
    n_features: int = 0  # of events without named features; 0: the first event says
    target_rate: float = 0.01
    patience: float = 5_000.0
    max_slices: int = 100_000
    remember: int = 100_000  # answers kept for repeated ids
    counting: bool = True  # in this process; else entries bring their counts along


Entry = Begin | Events | Clicks | Labels | Switch

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Entry).decode


class Guard:
    """See this module. `version` is that of the first model, `models` gives the model of a version."""

    def __init__(self, options: Options, version: str, models: Callable[[str], Model]):
        self.options = options
        self._models = models
        self.events: Engine | None = None
        self._estimator = Detector(options.target_rate, options.patience)
        self._room: tuple[int, int] | None = None
        self._ahead: dict[Of, int] = {}  # the number of slices that was compiled for, or tried to be, at last
        if options.features or options.n_features:
            self._begin(options.n_features or None, options.features)
        self.watch = Engine(features=list(WATCHED), target_rate=UNUSUAL, max_slices=options.max_slices)
        self.store = ProcessStore() if options.counting else None
        self.event_figures, self.click_figures = Figures(options.max_slices), Figures(options.max_slices)
        self._event_answers = Remembered(options.remember)
        self._click_answers = Remembered(options.remember)
        self._purchased = Remembered(options.remember)
        self.marks: list[tuple[int, str]] = []
        self.label_t: int | None = None  # when the last label came
        self.sequence = 0  # of the last entry applied
        self._take(models(version))

    def _take(self, model: Model) -> None:
        if model.thresholds is None:
            raise InvalidArgument(f"model {model.version} has no thresholds; run onlineguard slidr calibrate on it")
        self.model = model
        self._columns: Callable[[Click], Any] = attrgetter(*model.config.slices)
        self._featuriser = model.featuriser()
        names = [slice_name(key) for key in model.thresholds.keys]
        self._thresholds = dict(zip(names, model.thresholds.calibration.thresholds.tolist(), strict=True))
        self._default = model.thresholds.calibration.default
        self._one_click = self._one_click_of(model, self.watch)
        self._ahead.pop("clicks", None)  # another model may have another program

    def apply(self, entry: Entry, sequence: int) -> list[bytes]:
        """One answer to each event, click or label, as JSON; none to a switch.

        Raises InvalidArgument, with nothing changed, for events that do not fit those before them.
        """
        self.sequence = sequence  # of an entry that is refused too: it is over
        if isinstance(entry, Events):
            return self._update(entry)
        if isinstance(entry, Clicks):
            return self._judge(entry)
        if isinstance(entry, Labels):
            return self._label(entry)
        if isinstance(entry, Begin):
            raise InvalidArgument(f"entry {sequence} begins a state, but this one has begun already")
        self._take(self._models(entry.version))
        self.marks = [*self.marks, (entry.t, entry.version)][-MARKS:]
        return []

    def warmup(self, batch: int, slices: int) -> None:
        """Compile every program that requests of up to `batch` need while there are no more than `slices` slices."""
        self._room = (batch, slices)
        for engine in (self.events, self.watch):
            if engine is not None:
                engine.warmup(batch, slices)
        if self.store is not None:
            self.store.warmup()
        self.warm(self.model)

    def prepare(self, event: Event) -> None:
        """Compile what a stream needs that begins with this event; changes nothing, and may run in another thread."""
        if self._room is not None:
            self._engine_for(event).warmup(*self._room)

    def warm(self, model: Model) -> None:
        """Compile what a model needs that is to decide soon."""
        size = 1
        while self._room is not None and size < 2 * self._room[0]:
            model.scorer.p_robot(np.zeros((size, len(NAMES)), np.float32), np.zeros((size, 3), np.uint32))
            size *= 2
        self._warm_one_click(model, self.watch)

    def _warm_one_click(self, model: Model, engine: Engine) -> None:
        one_click = self._one_click_of(model, engine)
        if one_click is not None:
            one_click.warmup()

    def _one_click_of(self, model: Model, engine: Engine) -> OneClick | None:
        return OneClick.of(model.scorer, model.featuriser(), engine, self.store, _WATCHED)

    @property
    def crowded(self) -> bool:
        """Whether an engine's table is half full, and `compile_ahead` was not yet called for twice its size."""
        return bool(self._crowded())

    def _crowded(self) -> list[tuple[Of, Engine]]:
        engines: list[tuple[Of, Engine | None]] = [("events", self.events), ("clicks", self.watch)]
        return [
            (of, engine)
            for of, engine in engines
            if engine is not None
            and engine.n_slices > engine.room // 2
            and self._ahead.get(of, 0) <= engine.room < self.options.max_slices
        ]

    def compile_ahead(self) -> None:
        """Compile what tables that are half full need when they have doubled, so that the event that makes them grow
        does not wait for it; changes nothing that is answered, and may run in another thread."""
        for of, engine in self._crowded():
            slices = self._ahead[of] = engine.room + 1  # noted first: what fails is not tried again and again
            twin = Engine(
                engine.n_features,
                features=engine.features,
                estimator=engine.estimator,
                max_slices=self.options.max_slices,
            )
            twin.warmup(1 if self._room is None else self._room[0], slices)
            if of == "clicks":
                self._warm_one_click(self.model, twin)

    def told(self, click_id: str) -> bytes | None:
        """The answer that a click got already."""
        return self._click_answers.get(click_id)

    def drivers(self, of: Of, key: Any) -> dict[Hashable, float] | None:
        """What each feature had to do with the latest event of a slice, under the model as it is now."""
        engine, figures = (self.watch, self.click_figures) if of == "clicks" else (self.events, self.event_figures)
        try:
            return None if engine is None else engine.explain(key, figures.latest(key))
        except KeyError:  # the engine keeps other slices than the figures
            return None

    def check(self, events: Sequence[Event]) -> None:
        """Raises InvalidArgument, which names the index, unless the events fit the engine and each other."""
        self._numbers(events)
        for i, event in enumerate(events):
            _key(event.slice, i)

    def score(self, events: Sequence[Event]) -> list[bytes]:
        """The answers that these events would get if each came next; nothing is learned.

        Before the first event was learned nothing is known: such answers are not ready.
        """
        X, keys = self._numbers(events), [_key(event.slice, i) for i, event in enumerate(events)]
        engine = self.events or self._engine_for(events[0])
        return _answers(events, engine.score(keys, X))

    def explain(self, event: Event | Click) -> dict[str, Any]:
        """The verdict on an event or click if it came now, and what each feature has to do with it, largest first.

        Raises KeyError for a slice that is not known.
        """
        if isinstance(event, Click):
            if self.store is None:
                raise InvalidArgument("clicks are counted in Redis; explain a slice instead")
            counts = self.store.peek(keys_of([event]))
            X = self._featuriser.of_counts(counts, np.array([event.ts]), [event.marketplace], [event.logged_in])
            row, engine, key = X[:, _WATCHED].astype(np.float64), self.watch, self.slice_of(event)
        else:
            row, key = self._numbers([event]), _key(event.slice, 0)
            if self.events is None:
                raise KeyError(key)
            engine = self.events
        verdict = engine.score([key], row)
        return {
            "slice": event.slice if isinstance(event, Event) else key,
            **msgspec.to_builtins(_verdicts(verdict)[0]),
            "drivers": engine.explain(key, row[0]),
        }

    def _update(self, entry: Events) -> list[bytes]:
        fresh, answers = _fresh(entry.events, [event.id for event in entry.events], self._event_answers)
        if fresh:
            events = [entry.events[i] for i in fresh]
            X, keys = self._numbers(events), [_key(event.slice, i) for i, event in zip(fresh, events, strict=True)]
            if self.events is None:
                self._begin(*_width(events[0]))
            assert self.events is not None
            verdicts = self.events.update(keys, X)
            times = [entry.t if event.ts is None else event.ts for event in events]
            self.event_figures.add(keys, _flags(verdicts), times, verdicts.score, verdicts.threshold, X)
            for i, event, answer in zip(fresh, events, _answers(events, verdicts), strict=True):
                answers[i] = answer
                if event.id is not None:
                    self._event_answers.put(event.id, answer)
        return _repeated(answers, [event.id for event in entry.events])

    def _judge(self, entry: Clicks) -> list[bytes]:
        if len(entry.clicks) == 1 and self._one_click is not None:
            answer = self._judge_one(self._one_click, entry.clicks[0], entry.counts)
            if answer is not None:
                return [answer]
        ids = [click.click_id for click in entry.clicks]
        fresh, answers = _fresh(entry.clicks, ids, self._click_answers)
        if fresh:
            clicks = [entry.clicks[i] for i in fresh]
            X = self._features(clicks, entry, fresh)
            p_robot = self._p_robot(X, clicks)
            names = [self.slice_of(click) for click in clicks]
            limit = np.array([self._thresholds.get(name, self._default) for name in names])
            robotic = p_robot > limit  # float32 against float64, as `Calibration.robotic`
            watched = X[:, _WATCHED]
            verdicts = self.watch.update(names, watched)
            flags = _flags(verdicts) | np.where(robotic, ROBOTIC, 0).astype(np.uint8)
            times = [click.ts for click in clicks]
            self.click_figures.add(names, flags, times, verdicts.score, verdicts.threshold, watched, p_robot, limit)
            version = self.model.version
            rows = zip(
                fresh,
                clicks,
                names,
                p_robot.tolist(),
                limit.tolist(),
                robotic.tolist(),
                _verdicts(verdicts),
                strict=True,
            )
            for i, click, name, p, threshold, is_robotic, verdict in rows:
                decision = "robotic" if is_robotic else "valid"
                answer = _json.encode(ClickAnswer(click.click_id, decision, p, threshold, name, version, verdict))
                answers[i] = answer
                self._click_answers.put(click.click_id, answer)
        return _repeated(answers, ids)

    def _judge_one(self, one_click: OneClick, click: Click, counts: bytes) -> bytes | None:
        """`_judge` of one click, in a third of the time; None, with nothing done, for the first one of its slice."""
        told = self._click_answers.get(click.click_id)
        if told is not None:
            return told
        name = self.slice_of(click)
        judged = one_click.take(click, name, np.frombuffer(counts, np.int32) if self.store is None else None)
        if judged is None:
            return None
        p_robot, score, threshold, *quantiles, ready, watched = judged
        p_value = p_value_of(score, (*quantiles, threshold), UNUSUAL)
        anomalous, limit = ready > 0.0 and score > threshold, self._thresholds.get(name, self._default)
        robotic = p_robot > limit
        flags = ANOMALOUS * anomalous | ROBOTIC * robotic | JUDGED * (ready > 0.0)
        self.click_figures.add_one(name, flags, click.ts, score, threshold, watched, p_robot, limit)
        verdict = Verdict(score, threshold, p_value, anomalous, ready > 0.0)
        decision = "robotic" if robotic else "valid"
        answer = _json.encode(ClickAnswer(click.click_id, decision, p_robot, limit, name, self.model.version, verdict))
        self._click_answers.put(click.click_id, answer)
        return answer

    def _label(self, entry: Labels) -> list[bytes]:
        answers: list[bytes] = []
        for label in entry.labels:
            told = self._click_answers.get(label.click_id)
            decided = None if told is None else _click_answer.decode(told)
            if decided is None or decided.decision == "unknown":
                answers.append(_json.encode(LabelAnswer(label.click_id, False)))
                continue
            if label.purchase_ts is not None and self._purchased.get(label.click_id) is None:
                self._purchased.put(label.click_id, b"1")
                self.click_figures.label(decided.slice, decided.decision == "robotic")
            answers.append(_json.encode(LabelAnswer(label.click_id, True, decided.decision)))
        self.label_t = entry.t
        return answers

    def _features(self, clicks: list[Click], entry: Clicks, fresh: list[int]) -> np.ndarray:
        ts = np.array([click.ts for click in clicks], np.int64)
        if self.store is None:
            counts = np.frombuffer(entry.counts, np.int32).reshape(-1, len(COLUMNS))[fresh]
        else:
            counts = self.store.count(keys_of(clicks))
        return self._featuriser.of_counts(
            counts, ts, [click.marketplace for click in clicks], [click.logged_in for click in clicks]
        )

    def _p_robot(self, X: np.ndarray, clicks: list[Click]) -> np.ndarray:
        scorer = self.model.scorer
        if self.model.config.kind == "embedding":
            return scorer.p_robot(X, _categories(clicks))
        return scorer.p_robot(X)

    def slice_of(self, click: Click) -> str:
        """The name of a click's slice under the present model."""
        return _slice_name(self._columns(click))

    def _numbers(self, events: Sequence[Event]) -> np.ndarray:
        """Events as the engine takes them, float64 (n, d). Raises InvalidArgument with the index of what does not fit.

        Without an engine yet they must fit the first of them.
        """
        names: Sequence[str] | None
        if self.events is None:
            width, names = _width(events[0]) if events else (1, None)
        else:
            width, names = self.events.n_features, self.events.features
        rows = np.empty((len(events), width))
        for i, event in enumerate(events):
            if event.x is not None and event.features is None:
                if len(event.x) != width:
                    raise InvalidArgument(f"events[{i}].x has {len(event.x)} numbers; this stream has {width} an event")
                rows[i] = event.x  # None becomes NaN
            elif event.features is not None and event.x is None:
                if names is None:
                    raise InvalidArgument(f"events[{i}].features names features, but this stream has none; give x")
                if unknown := event.features.keys() - set(names):
                    raise InvalidArgument(
                        f"events[{i}].features has {sorted(unknown)[0]!r}; this stream has {', '.join(names)}"
                    )
                rows[i] = [event.features.get(name) for name in names]
            else:
                raise InvalidArgument(f'events[{i}] must have one of x and features, e.g. "x": [1.5, 2]')
        return rows

    def _engine_for(self, event: Event) -> Engine:
        width, names = _width(event)
        return Engine(width, features=names, estimator=self._estimator, max_slices=self.options.max_slices)

    def _begin(self, n_features: int | None, features: Sequence[str] | None) -> None:
        self.events = Engine(
            n_features, features=features or None, estimator=self._estimator, max_slices=self.options.max_slices
        )
        if self._room is not None:
            self.events.warmup(*self._room)

    def fetch(self) -> None:
        """Have at hand in memory what lies on a device, so that `dump` asks JAX for nothing: a fork could not."""
        for engine in (self.events, self.watch):
            if engine is not None:
                engine.fetch()

    def dump(self) -> dict[str, Any]:
        """A copy of all that the entries taught: nested dictionaries of arrays and of what MessagePack holds."""
        return {
            "options": msgspec.to_builtins(self.options),
            "sequence": self.sequence,
            "model": self.model.version,
            "marks": [list(mark) for mark in self.marks],
            "label_t": self.label_t,
            "events": None if self.events is None else list(self.events.dump()),
            "watch": list(self.watch.dump()),
            "store": None if self.store is None else self.store.dump(),
            "event_figures": self.event_figures.dump(),
            "click_figures": self.click_figures.dump(),
            "event_answers": self._event_answers.dump(),
            "click_answers": self._click_answers.dump(),
            "purchased": self._purchased.dump(),
        }

    @classmethod
    def restored(cls, dump: dict[str, Any], models: Callable[[str], Model]) -> "Guard":
        """The guard that was dumped: it goes on as that one would, to the last bit."""
        options = msgspec.convert(dump["options"], Options)
        guard = cls(options, dump["model"], models)
        guard.sequence, guard.label_t = dump["sequence"], dump["label_t"]
        guard.marks = [(t, version) for t, version in dump["marks"]]
        if dump["events"] is not None:
            config, tensors = dump["events"]
            guard.events = Engine.restored(config, guard._estimator, tensors)
        config, tensors = dump["watch"]
        guard.watch = Engine.restored(config, guard.watch.estimator, tensors)
        if guard.store is not None:
            guard.store = ProcessStore.restored(dump["store"])
        guard._take(guard.model)  # with this engine and this store
        guard.event_figures = Figures.restored(dump["event_figures"])
        guard.click_figures = Figures.restored(dump["click_figures"])
        guard._event_answers = Remembered.restored(dump["event_answers"], options.remember)
        guard._click_answers = Remembered.restored(dump["click_answers"], options.remember)
        guard._purchased = Remembered.restored(dump["purchased"], options.remember)
        return guard

    def digest(self) -> str:
        """A hash of all that was learned, but not of how many entries it took: repeats are entries too."""
        found = hashlib.sha256()
        _hash({name: part for name, part in self.dump().items() if name != "sequence"}, found.update)
        return found.hexdigest()


class Remembered:
    """The last answers by id; the oldest is forgotten first."""

    def __init__(self, most: int):
        self._most = most
        self._answers: OrderedDict[str, bytes] = OrderedDict()

    def get(self, id_: str | None) -> bytes | None:
        return None if id_ is None else self._answers.get(id_)

    def put(self, id_: str, answer: bytes) -> None:
        self._answers[id_] = answer
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def dump(self) -> list[Any]:
        return [list(self._answers), list(self._answers.values())]

    @classmethod
    def restored(cls, dump: list[Any], most: int) -> "Remembered":
        remembered = cls(most)
        remembered._answers = OrderedDict(zip(*dump, strict=True))
        return remembered


def keys_of(clicks: Sequence[Click]) -> Keys:
    """What the counters need of clicks."""
    return Keys(
        [click.click_id for click in clicks],
        np.array([click.ts for click in clicks], np.int64),
        [click.user_id for click in clicks],
        [click.session_id for click in clicks],
        [click.ip for click in clicks],
    )


def _fresh(items: Sequence[Any], ids: Sequence[str | None], told: Remembered) -> tuple[list[int], list[bytes | None]]:
    """Which items were not answered before, the first of each id; and the answers there are."""
    answers: list[bytes | None] = [told.get(id_) for id_ in ids]
    fresh: list[int] = []
    seen: set[str] = set()
    for i, (id_, answer) in enumerate(zip(ids, answers, strict=True)):
        if answer is None and (id_ is None or id_ not in seen):
            fresh.append(i)
            if id_ is not None:
                seen.add(id_)
    return fresh, answers


def _repeated(answers: list[bytes | None], ids: Sequence[str | None]) -> list[bytes]:
    """All answers: those that repeat an id within the request get its first one's."""
    first: dict[str, bytes] = {}
    whole: list[bytes] = []
    for id_, answer in zip(ids, answers, strict=True):
        if answer is None and id_ is not None:
            answer = first[id_]
        assert answer is not None
        if id_ is not None:
            first.setdefault(id_, answer)
        whole.append(answer)
    return whole


def _key(slice_: Any, index: int) -> Any:
    """A slice's key as the engine takes it."""
    if not isinstance(slice_, list):
        return slice_
    if not slice_:
        raise InvalidArgument(f"events[{index}].slice is []; it must be text, a whole number, or a list of such")
    return tuple(slice_)


def _width(event: Event) -> tuple[int, list[str] | None]:
    """How many features a stream that begins with this event has, and their names."""
    if event.features is not None and event.x is None:
        names = sorted(event.features)
        if not names:
            raise InvalidArgument("events[0].features is empty; it must name one feature at least")
        return len(names), names
    if not event.x:
        raise InvalidArgument('events[0] must have one of x and features, with a number at least, e.g. "x": [1.5, 2]')
    return len(event.x), None


def _flags(verdicts: Verdicts) -> np.ndarray:
    return np.where(verdicts.anomalous, ANOMALOUS, 0).astype(np.uint8) | np.where(verdicts.ready, JUDGED, 0).astype(
        np.uint8
    )


def _verdicts(verdicts: Verdicts) -> list[Verdict]:
    rows = zip(
        verdicts.score.tolist(),
        verdicts.threshold.tolist(),
        verdicts.p_value.tolist(),
        verdicts.anomalous.tolist(),
        verdicts.ready.tolist(),
        strict=True,
    )
    return [Verdict(*row) for row in rows]


def _answers(events: Sequence[Event], verdicts: Verdicts) -> list[bytes]:
    return [
        _json.encode(EventAnswer(event.slice, v.score, v.threshold, v.p_value, v.anomalous, v.ready, event.id))
        for event, v in zip(events, _verdicts(verdicts), strict=True)
    ]


@lru_cache(1 << 16)
def _slice_name(columns: Any) -> str:
    """The name of the slice that has these values in its columns, a tuple of them or the only one."""
    values = columns if isinstance(columns, tuple) else (columns,)
    return slice_name(tuple(value if isinstance(value, str) else _AS_TEXT[value] for value in values))


def _categories(clicks: list[Click]) -> np.ndarray:
    import polars as pl

    from onlineguard.slidr.clicks.categories import categories

    fields = ("user_agent", "ip", "ad_id")
    return categories(pl.DataFrame({field: [getattr(click, field) for click in clicks] for field in fields}))


def _hash(value: Any, update: Callable[[bytes], None]) -> None:
    if isinstance(value, dict):
        for name in sorted(value):
            update(f"{name}:".encode())
            if name == "hours":  # shards by a hash that differs from process to process
                merged = sorted(pair for shard in value[name] for pair in shard.items())
                update(repr(merged).encode())
            else:
                _hash(value[name], update)
    elif isinstance(value, np.ndarray):
        update(f"{value.dtype}{value.shape}".encode())
        update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (list, tuple)):
        update(f"[{len(value)}".encode())
        for item in value:
            _hash(item, update)
    else:
        update(repr(value).encode())
