"""The change-point test as a river drift detector."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from river import base

from onlineguard.core.change_point import ChangePoint, Segment
from onlineguard.core.protocols import Array
from onlineguard.engine.events import LARGEST
from onlineguard.engine.table import Layout
from onlineguard.errors import InvalidArgument
from onlineguard.estimators.shell import checked_count


class ClippedChangePoint(base.DriftDetector):
    """Finds changes of the mean of a stream, heavy tails or not, given only the risk of a false change.

    See `onlineguard.core.change_point` for the test. The cost of an event never grows. A value that is NaN or
    infinite is missing; an event without any other value changes nothing. The first event waits for a compiler.

    Parameters
    ----------
    delta
        Risk of a false change between two changes, in (0, 1).
    n_features
        Numbers in an event; with more than one, `update` takes a sequence.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import ClippedChangePoint
    >>> rng, detector = random.Random(0), ClippedChangePoint()
    >>> found = []
    >>> for i in range(2_000):
    ...     detector.update(rng.gauss(0.0 if i < 1_000 else 1.0, 1.0))
    ...     if detector.drift_detected:
    ...         found.append(i)
    >>> len(found), 1_000 <= found[0] < 1_100
    (1, True)
    """

    def __init__(self, delta: float = 0.01, n_features: int = 1):
        super().__init__()
        if not 0.0 < delta < 1.0:
            raise InvalidArgument(f"delta is {delta}; it must lie strictly between 0 and 1, e.g. 0.01")
        checked_count("n_features", n_features, 1)
        self.delta, self.n_features = delta, n_features
        self._reset()

    def _reset(self) -> None:
        super()._reset()
        self._params = ChangePoint(int(self.n_features), float(self.delta))
        self._origin: np.ndarray | None = None  # the first event; float32 counts from it to keep digits
        self._row: Any = _layout(int(self.n_features)).pack(self._params.init())

    def update(self, x: float | Sequence[float]) -> None:
        """Learn an event; `drift_detected` then says whether it showed a change."""
        try:
            event = np.asarray(x, np.float64).reshape(self.n_features)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"x is {x!r}; it must be {self.n_features} number(s), NaN where missing") from error
        if self._origin is None or np.isnan(self._origin).any():
            self._learn_origin(event)
        assert self._origin is not None
        relative = event - self._origin
        if not abs(relative).max() < LARGEST:
            relative = np.where(np.isinf(event), np.nan, np.clip(relative, -LARGEST, LARGEST))
        self._row = _program(self.n_features)(self._row, np.float32(self.delta), relative.astype(np.float32))
        self._drift_detected = bool(np.asarray(self._row).view(np.int32)[_place_of_fired(self.n_features)])

    @property
    def n_detections(self) -> int:
        """Changes found so far."""
        return int(self._state().changes)

    @property
    def location(self) -> tuple[int, int] | None:
        """The events, counted from 0, between which the last change lies; None before the first."""
        state = self._state()
        return (int(state.earliest), int(state.latest)) if state.changes else None

    @property
    def mean(self) -> float | list[float]:
        """The mean since the last change, one number or a list of them; NaN before the first event."""
        origin = np.full(self.n_features, math.nan) if self._origin is None else self._origin
        means = (origin + self._state().mean).tolist()
        return means[0] if self.n_features == 1 else means

    def _learn_origin(self, event: np.ndarray) -> None:
        finite = np.where(np.isfinite(event), event, np.nan)
        self._origin = finite if self._origin is None else np.where(np.isnan(self._origin), finite, self._origin)

    def _state(self) -> Segment:
        return _layout(self.n_features).unpack(np.asarray(self._row))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_row": np.array(self._row)}


@functools.cache
def _program(n_features: int) -> Any:
    """The compiled step of one event, over one packed row, since each array that goes in or out takes time."""

    layout = _layout(n_features)

    @jax.jit
    def one(row: Array, delta: Array, event: Array) -> Array:
        params = ChangePoint(n_features, delta)
        return layout.pack(params.learn(layout.unpack(row), event))

    return one


@functools.cache
def _layout(n_features: int) -> Layout:
    return Layout.of(ChangePoint(n_features).init())


@functools.cache
def _place_of_fired(n_features: int) -> int:
    """Where a packed row says whether the last event showed a change."""
    before = ChangePoint(n_features).init()[: Segment._fields.index("fired")]
    return sum(np.size(leaf) for leaf in before)
