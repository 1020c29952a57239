"""Learning: what is found in events, and what the engine of the operator's features makes of each.

Events are given to the engine, answers are remembered by their ids, and alarms hear of what is found. It is to events
what `judging` is to clicks: a part of the guard, told of entries as they are applied.
"""

from collections.abc import Generator, Sequence
from typing import Any

from onlineguard.engine.events import CodedEvents
from onlineguard.wire.answers import EventAnswer
from onlineguard.wire.requests import Event
from onlineguard_service.alarms import Alarms, Said
from onlineguard_service.engines import Engines
from onlineguard_service.entries import Events, Options, Span
from onlineguard_service.event_numbers import check_key, key_of
from onlineguard_service.figures import FLAGGED, Figures
from onlineguard_service.remembered import Remembered
from onlineguard_service.telling import event_answers, flags_of, ids_of, texts_of, verdict_answers

CHECKED_AT_ONCE = 512  # events or clicks of a request, before others get their turn; half a millisecond


class Learning:
    """See this module."""

    def __init__(self, options: Options, engines: Engines, alarms: Alarms):
        self._engines, self.figures = engines, Figures(options.max_slices)
        self.answers = Remembered(options.remember, EventAnswer)
        self.tell(alarms)

    def tell(self, alarms: Alarms) -> None:
        """Have these alarms hear of what is found."""
        self._alarms = alarms

    def tune(self, options: Options) -> None:
        """Go on with the operator's new choices."""
        self.figures.keep(options.max_slices)
        self.answers.keep(options.remember)

    def restore(self, dump: dict[str, Any]) -> None:
        """Become what `Guard.dump` holds of it."""
        self.figures = Figures.restored(dump["event_figures"])
        self.answers.restore(dump["event_answers"])

    def checking(self, events: Sequence[Event]) -> Generator[None]:
        """Check some events at each step. Raises InvalidArgument, which names the index, for one that does not fit."""
        stream, ids = self._engines.stream_of(events) if events else None, dict[str, int]()
        for first in range(0, len(events), CHECKED_AT_ONCE):
            part = events[first : first + CHECKED_AT_ONCE]
            assert stream is not None
            stream.numbers(part, first)
            for i, event in enumerate(part, first):
                check_key(event.slice, i)
            self.answers.check(part, ids_of(part), first, ids)
            yield

    def events(self, entry: Events) -> list[EventAnswer]:
        """One answer to each event of an entry."""
        return self.answers.answered(
            entry.events,
            ids_of(entry.events),
            lambda places: self._learned(entry.events, places, [Span(len(places), entry.t)]),
        )

    def together(self, entries: Sequence[Events], spans: Sequence[Span]) -> list[EventAnswer]:
        """One answer to each event of several entries; see `Guard.apply_together`."""
        events = [event for entry in entries for event in entry.events]
        return self.answers.answered(events, ids_of(events), lambda places: self._learned(events, places, spans))

    def _learned(self, given: Sequence[Event], places: list[int], spans: Sequence[Span]) -> list[EventAnswer]:
        events = [given[i] for i in places]
        stream = self._engines.stream_of(events)
        X = stream.numbers(events)
        keys = [key_of(event.slice, i) for i, event in zip(places, events, strict=True)]
        found = self._engines.begun(stream).update(keys, CodedEvents(X))
        came = [span.t for span in spans for _ in range(span.n)]
        times = [t if event.ts is None else event.ts for t, event in zip(came, events, strict=True)]
        verdicts = verdict_answers(found)
        flags = flags_of(verdicts)
        self.figures.add(keys, flags, times, found.score, found.threshold, X)
        start = 0
        for span in spans:
            part = slice(start, start + span.n)
            if FLAGGED in flags[part] or self._alarms.n_open:

                def said(i: int, start: int = start) -> Said:
                    event = events[start + i]
                    return Said(event.id, times[start + i], texts=texts_of(event, stream))

                self._alarms.take("events", keys[part], flags[part], verdicts[part], X[part], said, span.t)
            span.taken()
            start += span.n
        return event_answers(events, verdicts)
