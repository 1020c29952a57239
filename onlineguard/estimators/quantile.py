"""A running quantile of every feature on its own."""

from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import saturating_add
from onlineguard.core.clips import Adaptive, Tracked
from onlineguard.core.estimands import Quantile
from onlineguard.core.protocols import Rate
from onlineguard.errors import InvalidArgument
from onlineguard.estimators.shell import EagerDetector, checked_rate


class Levels(NamedTuple):
    """The learned state; each array has one entry a feature."""

    theta: np.ndarray  # the quantile, in the feature's unit
    spread: Tracked  # the running median of the distances from it, which is the unit of a step
    seen: np.ndarray


class ClippedQuantile(EagerDetector):
    """Running quantile of every feature; the score is the largest excess of a feature over its quantile.

    The score is the largest over the features of x - q, or of q - x where `level` is below one half, in units of the
    running median of abs(x - q). It is negative for an event within all its quantiles, and 0.0 where nothing is known.

    One step is at most the rate times this unit, however far the event lies, so nobody has to know a scale.

    Parameters
    ----------
    level
        The share of the values that lie below the quantile, between 0 and 1.
    rate
        How far one step goes. By default `Derived()`, which needs no tuning.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import ClippedQuantile
    >>> rng, model = random.Random(0), ClippedQuantile(0.9)
    >>> for _ in range(10_000):
    ...     model.learn_one({"ms": rng.uniform(0.0, 100.0)})
    >>> 85.0 < model.quantile["ms"] < 95.0
    True
    """

    def __init__(self, level: float = 0.99, rate: Rate | None = None):
        super().__init__()
        if not 0.0 < level < 1.0:
            raise InvalidArgument(
                f"level is {level}; it must lie strictly between 0 and 1, e.g. 0.99 for the 99th percentile"
            )
        self.level, self.rate = level, rate
        self._rate = checked_rate(rate)
        empty = np.zeros(0)
        self._state = Levels(empty, Tracked(empty, empty), np.zeros(0, np.int32))

    @property
    def quantile(self) -> dict[Any, float]:
        """The estimate of every feature seen so far."""
        return self._named(self._state.theta)

    def _grow(self, first: np.ndarray) -> None:
        theta, spread, seen = self._state
        start = Adaptive().init()
        spread = Tracked(*(np.append(old, [new] * len(first)) for old, new in zip(spread, start, strict=True)))
        self._state = Levels(np.concatenate([theta, first]), spread, np.append(seen, np.zeros(len(first), np.int32)))

    def _score(self, values: np.ndarray) -> float:
        return self._judged(values)[0]

    def _step(self, values: np.ndarray) -> float:
        score, unit, spread = self._judged(values)
        estimand = Quantile(self.level, unit=unit)
        seen = estimand.observe(self._state.theta, values)
        theta = estimand.move(self._state.theta, seen.gradient, self._rate(self._state.seen), seen.usable)
        self._state = Levels(theta, spread, saturating_add(self._state.seen, seen.usable))
        return score

    def _judged(self, values: np.ndarray) -> tuple[float, np.ndarray, Tracked]:
        distance = values - self._state.theta
        there = np.isfinite(distance)
        unit, spread = Adaptive().observe(self._state.spread, np.where(there, abs(distance), 0.0), (0.0, np.inf))
        known = there & (unit > 0.0) & (self._state.seen > 1)
        excess = (distance if self.level >= 0.5 else -distance)[known] / unit[known]
        return (float(excess.max()) if len(excess) else 0.0), unit, spread
