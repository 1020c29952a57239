"""A model of one slice whose state is bytes, for engines that keep a value a key: Flink, Spark, a key-value store.

    keyed = KeyedModel(Detector(), n_features=2)
    state, judgement = keyed.step(None, [0.5, 12.0])      the first event of a slice
    state, judgement = keyed.step(state, [0.6, 11.0])     and the next one

It runs in NumPy, one event at a time, and needs no JAX where the model's own module needs none. After every event the
state is rounded to what its bytes hold, so it does not matter where an engine cuts the stream, stops and goes on: the
same events give the same bytes. The compiled loop of `Engine` differs from it in the last digits, and takes a thirtieth
of the time in batches of 64, less in larger ones (`examples/measure.py`).

Every slice starts from `init`: there is no pooled model, and no origin, so values are taken as float32 holds them. A
feature that needs more than seven digits, such as a time, is better given as a difference.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.models.base import Judgement, SliceModel

KINDS = {"float32": "<f4", "int32": "<i4", "bool": "?"}  # of the leaves of a state, in little-endian bytes


class KeyedModel:
    """A model, for events of `n_features` numbers. It keeps nothing of a slice, so one serves them all.

    Raises InvalidArgument for a supervised model, whose events are pairs, and for one whose state holds other numbers
    than float32, int32 and bool.
    """

    def __init__(self, model: SliceModel, n_features: int):
        if model.supervised:
            raise InvalidArgument(
                f"model is a {type(model).__name__}, which learns from pairs (x, y); give one that learns from x alone"
            )
        self._model = model
        self.n_features = n_features
        self._start = model.init(n_features)
        leaves = [np.asarray(leaf) for leaf in _leaves(self._start)]
        if other := {leaf.dtype.name for leaf in leaves} - KINDS.keys():
            raise InvalidArgument(
                f"the state of {type(model).__name__} holds {', '.join(sorted(other))}; "
                f"it may hold {', '.join(KINDS)}, e.g. np.float32(0.0)"
            )
        self._layout = np.dtype([(f"{i}", KINDS[leaf.dtype.name], leaf.shape) for i, leaf in enumerate(leaves)])
        described = f"{type(model).__name__} {self._layout.descr}"
        self._head = zlib.crc32(described.encode()).to_bytes(4, "little")  # refuses the bytes of another model

    def step(self, state: bytes | None, x: Sequence[float] | np.ndarray) -> tuple[bytes, Judgement]:
        """The state after an event, and its judgement under the state from before it, in plain numbers.

        state: what the slice's last event returned; None before the first one.
        x: the features in their order; NaN where one is missing.

        Raises InvalidArgument for an event of another width, CheckpointError for a state of another model.
        """
        event = np.asarray(x, np.float32)
        if event.shape != (self.n_features,):
            raise InvalidArgument(
                f"x has shape {event.shape}; this model takes {self.n_features} feature(s), NaN where one is missing"
            )
        before = self._start if state is None else self.state(state)
        with np.errstate(all="ignore"):  # what overflows is clipped, or has no say
            after, judged = self._model.step(before, event)
        score, threshold, ready, *quantiles = judged
        return self._bytes(after), Judgement(float(score), float(threshold), bool(ready), *map(float, quantiles))

    def state(self, state: bytes) -> Any:
        """The model's own state, in NumPy. Raises CheckpointError for bytes that another model made."""
        if state[:4] != self._head or len(state) != 4 + self._layout.itemsize:
            raise CheckpointError(
                f"a state of {len(state)} bytes is none of {type(self._model).__name__} with {self.n_features} "
                "feature(s); give the model and the number of features that it was made with, or start without it"
            )
        leaves = np.frombuffer(state, self._layout, offset=4)[0]
        return _filled(self._start, iter(leaves))

    def _bytes(self, state: Any) -> bytes:
        with np.errstate(all="ignore"):
            return self._head + np.array(tuple(_leaves(state)), self._layout).tobytes()


def _leaves(state: Any) -> Iterator[Any]:
    """Arrays and numbers of a state, which is a tuple of them and of further tuples, in their order."""
    if not isinstance(state, tuple):
        yield state
        return
    for part in state:
        yield from _leaves(part)


def _filled(like: Any, leaves: Iterator[Any]) -> Any:
    """A state with the structure of another, and these leaves."""
    if not isinstance(like, tuple):
        return next(leaves)
    parts = [_filled(part, leaves) for part in like]
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)  # type: ignore[call-arg]
