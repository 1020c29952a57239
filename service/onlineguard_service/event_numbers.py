"""Events of the service as the engine takes them: keys and numbers, or what does not fit, with its index."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from onlineguard.engine.engine import Engine
from onlineguard.errors import InvalidArgument
from onlineguard.wire.requests import Event


def numbers(events: Sequence[Event], engine: Engine | None) -> np.ndarray:
    """Events as float64 (n, d), missing features as NaN. Raises InvalidArgument with the index of what does not fit.

    Without an engine yet they must fit the first of them.
    """
    names: Sequence[str] | None
    if engine is None:
        width, names = stream_of(events[0]) if events else (1, None)
    else:
        width, names = engine.n_features, engine.features
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


def key_of(slice_: Any, index: int) -> Hashable:
    """A slice's key as the engine takes it."""
    if not isinstance(slice_, list):
        return slice_
    if not slice_:
        raise InvalidArgument(f"events[{index}].slice is []; it must be text, a whole number, or a list of such")
    return tuple(slice_)


def stream_of(event: Event) -> tuple[int, list[str] | None]:
    """How many features a stream that begins with this event has, and their names."""
    if event.features is not None and event.x is None:
        names = sorted(event.features)
        if not names:
            raise InvalidArgument("events[0].features is empty; it must name one feature at least")
        return len(names), names
    if not event.x:
        raise InvalidArgument('events[0] must have one of x and features, with a number at least, e.g. "x": [1.5, 2]')
    return len(event.x), None
