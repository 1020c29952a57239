"""Engines: the one of events, which begins with the first of them, and the one that watches how slices click.

Their programs are compiled when the service starts, before a stream begins, and before a table of slices grows, so that
no event waits for a compiler.
"""

from collections.abc import Generator, Sequence
from typing import Any

from onlineguard.engine.arguments import named_model, with_categories
from onlineguard.engine.engine import Engine
from onlineguard.engine.events import CodedEvents
from onlineguard.models.base import SliceModel
from onlineguard.models.detector import Detector
from onlineguard.slidr.watch import UNUSUAL, WATCHED
from onlineguard.wire.answers import EventAnswer
from onlineguard.wire.requests import Event, Of
from onlineguard_service.entries import Options
from onlineguard_service.event_numbers import Stream, key_of
from onlineguard_service.telling import event_answers, verdict_answers


def estimator_of(options: Options) -> SliceModel:
    """The model of a slice of events that the operator chose."""
    return named_model(options.detector, options.target_rate, options.patience)


def engine_for(stream: Stream, options: Options, estimator: SliceModel) -> Engine:
    """One that has learned nothing of a stream yet."""
    return Engine(
        stream.width,
        features=stream.names,
        estimator=estimator,
        categories=stream.categories,
        max_slices=options.max_slices,
    )


def watching_engine(options: Options) -> Engine:
    """That which watches how the slices of clicks click, before the first click."""
    return Engine(features=list(WATCHED), estimator=Detector(UNUSUAL), max_slices=options.max_slices)


def scored(
    events: Sequence[Event], engine: Engine | None, options: Options, estimator: SliceModel
) -> list[EventAnswer]:
    """The answers that these events would get if each came next; without an engine none has come before.

    Raises InvalidArgument, which names the index, unless the events fit the engine and each other.
    """
    stream = Stream.begun_by(events[0], options.categories) if engine is None else Stream.of(engine)
    keys, X = [key_of(event.slice, i) for i, event in enumerate(events)], stream.numbers(events)
    verdicts = (engine or engine_for(stream, options, estimator)).score(keys, CodedEvents(X))
    return event_answers(events, verdict_answers(verdicts))


class Engines:
    """See this module. `options` are the operator's choices."""

    def __init__(self, options: Options):
        self._options, self._estimator = options, estimator_of(options)
        self.expected: tuple[int, int] | None = None  # what `warmup` was given
        self._ahead: dict[Of, int] = {}  # slices that programs were last compiled for, or tried to be
        self.events: Engine | None = None
        self.watch = watching_engine(options)
        self._begin_as_chosen()

    def of(self, of: Of) -> Engine | None:
        """The engine of a stream; None before its first event."""
        return self.watch if of == "clicks" else self.events

    def both(self) -> Generator[tuple[Of, Engine]]:
        """Those whose stream has begun."""
        if self.events is not None:
            yield "events", self.events
        yield "clicks", self.watch

    def stream_of(self, events: Sequence[Event]) -> Stream:
        """The stream that has begun, or the one that begins with the first of these events."""
        if self.events is None:
            return Stream.begun_by(events[0], self._options.categories)
        return Stream.of(self.events)

    def begun(self, stream: Stream) -> Engine:
        """The engine of events, from now on if there was none."""
        if self.events is None:
            self.events = engine_for(stream, self._options, self._estimator)
            if self.expected is not None:
                self.events.warmup(*self.expected)
        return self.events

    def _begin_as_chosen(self) -> None:
        """Begin the stream of events, if the operator says which features it has."""
        options = self._options
        if options.features or options.n_features:
            names = list(options.features) or None
            known = names or list(map(str, range(options.n_features)))
            self.begun(Stream(len(known), names, tuple(sorted(map(known.index, options.categories)))))

    def score(self, events: Sequence[Event]) -> list[EventAnswer]:
        """See `scored`."""
        return scored(events, self.events, self._options, self._estimator)

    def tune(self, options: Options) -> None:
        """Go on with the operator's new choices."""
        self._options, self._estimator = options, estimator_of(options)
        for _, engine in self.both():
            engine.max_slices = options.max_slices
        if self.events is not None:
            self.events.target_rate = options.target_rate
            if options.patience is not None:
                self.events.patience = options.patience

    def carry(self, engine: Engine | None, options: Options) -> None:
        """Go on with the features of these options, which the engine has already, if the stream had begun."""
        self._options = options
        if engine is None:
            self._begin_as_chosen()
            return
        self.events = engine
        self.changed("events")
        if self.expected is not None:
            engine.warmup(*self.expected)

    def restore(self, events: Sequence[Any] | None, categories: Sequence[int], watch: Sequence[Any]) -> None:
        """Become what was dumped of both; `events` is None where that stream had not begun."""
        if events is not None:
            config, tensors = events
            self.events = Engine.restored(config, with_categories(self._estimator, tuple(categories)), tensors)
        config, tensors = watch
        self.watch = Engine.restored(config, self.watch.model, tensors)

    def warmup(self, batch: int, slices: int) -> None:
        """See `Engine.warmup`; engines that begin later are warmed up as much."""
        self.expected = (batch, slices)
        for _, engine in self.both():
            engine.warmup(batch, slices)

    def prepare(self, event: Event) -> None:
        """Compile what a stream needs that begins with this event; changes nothing, and may run in another thread."""
        if self.expected is not None:
            stream = Stream.begun_by(event, self._options.categories)
            engine_for(stream, self._options, self._estimator).warmup(*self.expected)

    def changed(self, of: Of) -> None:
        """A stream has other programs from now on: what was compiled ahead is of no use to it."""
        self._ahead.pop(of, None)

    def crowded(self) -> list[tuple[Of, Engine]]:
        """Those whose table is half full, unless `ahead` was called for twice its size."""
        return [
            (of, engine)
            for of, engine in self.both()
            if engine.n_slices > engine.capacity // 2
            and self._ahead.get(of, 0) <= engine.capacity < self._options.max_slices
        ]

    def ahead(self) -> Generator[tuple[Of, Engine]]:
        """Compile what those that are crowded need when they have doubled, and give the twin that has such a table."""
        for of, engine in self.crowded():
            slices = self._ahead[of] = engine.capacity + 1  # noted first: what fails is not tried again and again
            yield of, self.twin(engine, slices)

    def twin(self, engine: Engine, slices: int = 0) -> Engine:
        """An engine without events, with room for as many slices as one of these has, or for more."""
        twin = Engine(
            engine.n_features,
            features=engine.features,
            estimator=engine.model,
            max_slices=self._options.max_slices,
        )
        twin.warmup(1 if self.expected is None else self.expected[0], slices or engine.capacity)
        return twin
