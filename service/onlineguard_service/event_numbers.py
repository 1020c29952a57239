"""Events of the service as the engine takes them: keys and numbers, or what does not fit, with its index."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from onlineguard.engine.categories import code
from onlineguard.engine.engine import Engine
from onlineguard.errors import InvalidArgument
from onlineguard.wire.requests import MOST_KEY, Event

MOST_FEATURES = 256  # of a stream that the operator says nothing of: the default model keeps a matrix of them


class Stream(NamedTuple):
    """What all events of a stream have in common."""

    width: int  # features of an event
    names: list[str] | None  # of the features
    categories: tuple[int, ...]  # the features that are categories, counted from 0

    @classmethod
    def of(cls, engine: Engine) -> "Stream":
        """The stream that an engine judges."""
        return cls(engine.n_features, engine.features, engine.categories)

    @classmethod
    def begun_by(cls, event: Event, categories: Sequence[str] = ()) -> "Stream":
        """The stream that begins with an event. Features with a text are categories, as those that are named are."""
        if event.features is not None and event.x is None:
            if not event.features:
                raise InvalidArgument("events[0].features is empty; it must name one feature at least")
            names = sorted(event.features)
            values = [event.features[name] for name in names]
        else:
            names, values = None, event.x
        if not values:
            raise InvalidArgument('events[0] must have one of x and features, and not empty, e.g. "x": [1.5, 2]')
        if len(values) > MOST_FEATURES:
            raise InvalidArgument(
                f"events[0] has {len(values):,} features; a stream that its first event begins may have "
                f"{MOST_FEATURES}. For more, name them in the setting features, or their number in n_features"
            )
        known = list(map(str, range(len(values)))) if names is None else names
        if unknown := set(categories) - set(known):
            raise InvalidArgument(
                f"events[0] has no feature {min(unknown)!r}, which categories of the settings names; it has "
                f"{', '.join(known)}"
            )
        texts = {j for j, value in enumerate(values) if isinstance(value, str)}
        return cls(len(values), names, tuple(sorted(texts | {known.index(name) for name in categories})))

    def numbers(self, events: Sequence[Event], first: int = 0) -> np.ndarray:
        """Events as float64 (n, width), missing features as NaN and categories as their codes.

        first: the index of the first of them. Raises InvalidArgument with the index of what does not fit.
        """
        rows = np.empty((len(events), self.width))
        for i, event in enumerate(events, first):
            values = self._values(event, i)
            if self.categories or str in map(type, values):
                values = [self._number(value, j, event, i) for j, value in enumerate(values)]
            rows[i - first] = values  # None becomes NaN
        return rows

    def _values(self, event: Event, i: int) -> Sequence[Any]:
        if event.x is not None and event.features is None:
            if (n := len(event.x)) != self.width:
                raise InvalidArgument(
                    f"events[{i}].x has {n} numbers; it must have {self.width}, as every event of this stream; send "
                    "null where one is missing"
                )
            return event.x
        if event.features is not None and event.x is None:
            if self.names is None:
                raise InvalidArgument(
                    f"events[{i}].features names features, but those of this stream have no names; send x, a list of "
                    f"{self.width} numbers"
                )
            if unknown := event.features.keys() - set(self.names):
                raise InvalidArgument(
                    f"events[{i}].features has {sorted(unknown)[0]!r:.100}, which is no feature of this stream; it "
                    f"must name some of {', '.join(self.names)}"
                )
            return [event.features.get(name) for name in self.names]
        raise InvalidArgument(f'events[{i}] must have one of x and features, e.g. "x": [1.5, 2]')

    def _number(self, value: float | str | None, j: int, event: Event, i: int) -> float | None:
        place = f"events[{i}].x[{j}]"
        if self.names is not None and event.x is None:
            place = f"events[{i}].features.{self.names[j]}"
        if j in self.categories:
            return code(value, place)
        if isinstance(value, str):
            raise InvalidArgument(
                f"{place} is {value!r}; this feature of the stream is a number. If it is a category, name it in the "
                "setting categories and begin anew"
            )
        return value


def check_key(slice_: Any, index: int) -> None:
    """Raises InvalidArgument for a slice that is empty, or whose texts are too long together."""
    key_of(slice_, index)
    if isinstance(slice_, tuple) and sum(len(part) for part in slice_ if isinstance(part, str)) > MOST_KEY:
        raise InvalidArgument(
            f"events[{index}].slice has more than {MOST_KEY} characters in all its texts; give it a shorter name"
        )


def key_of(slice_: Any, index: int) -> Hashable:
    """A slice's key as the engine takes it."""
    if not isinstance(slice_, list):
        return slice_
    if not slice_:
        raise InvalidArgument(f"events[{index}].slice is []; it must be text, a whole number, or a list of such")
    return tuple(slice_)
