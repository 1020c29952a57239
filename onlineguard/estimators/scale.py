"""Running location and scale of every feature on its own."""

from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import saturating_add
from onlineguard.core.protocols import Rate
from onlineguard.core.spread import FAR, FLOOR_SHARE, B, K
from onlineguard.estimators.shell import EagerDetector, checked_rate

EARLY = 3  # added to a feature's count for its rate: the derived rate starts at 4^(-2/3) = 0.4
RESOLUTION = 2.0**-45  # least scale relative to the location: 128 times the resolution of float64


class Spread(NamedTuple):
    """Location and scale of every feature, float64 (d,) each, and the number of values learned."""

    location: np.ndarray
    scale: np.ndarray  # NaN until a value differs from the first
    floor: np.ndarray  # the least scale allowed
    seen: np.ndarray  # int32

    @classmethod
    def empty(cls) -> "Spread":
        nothing = np.zeros(0)
        return cls(nothing, nothing, nothing, np.zeros(0, np.int32))

    def grown(self, first: np.ndarray) -> "Spread":
        """The spread with new features, of which only the first values are known."""
        d = len(first)
        more = Spread(first, np.full(d, np.nan), np.zeros(d), np.zeros(d, np.int32))
        return Spread(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))

    def standardised(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances from the location in scales, 0 where missing or unknown; and a mask that is true elsewhere."""
        z = (values - self.location) / self.scale
        known = np.isfinite(values) & (self.scale > 0.0)
        return np.where(known, np.minimum(np.maximum(z, -FAR), FAR), 0.0), known

    def learned(self, rate: Rate, values: np.ndarray, z: np.ndarray) -> "Spread":
        """The spread after values of standardised residuals z: `spread.remembered` in float64, one rate a feature."""
        present = np.isfinite(values)
        eta = np.minimum(rate(self.seen + EARLY), 1.0)
        u = np.minimum(np.maximum(z, -K), K)
        moved = np.where(present & (self.scale > 0.0), eta * u * self.scale, 0.0)
        distance = abs(values - self.location)
        unscaled = np.where(distance > 0.0, distance, np.nan)
        scale = np.where(self.scale > 0.0, self.scale * (1.0 + eta * (u * u - B)), unscaled)
        floor = np.fmax(np.fmax(self.floor * (1.0 - eta), FLOOR_SHARE * scale), RESOLUTION * abs(self.location))
        return Spread(
            self.location + moved,
            np.where(present, np.maximum(scale, floor), self.scale),
            np.where(present, floor, self.floor),
            saturating_add(self.seen, present),
        )


class ClippedScale(EagerDetector):
    """Running standard deviation of every feature around its running location, robust to outliers.

    Location and scale are learned together from residuals clipped at 2.5 scales, so that the scale of a normal law is
    its standard deviation, in any unit. If a tenth of the events are absurd, the scale about doubles. The score is the
    root mean square of the standardised residuals over the features that are present: about 1 is usual. Features do not
    affect each other's estimates. A feature's location starts from its first value, and its scale from the next value
    that differs.

    Source: Huber, "Robust estimation of a location parameter" ("Proposal 2"), Annals of Mathematical Statistics, 1964,
    as stochastic approximation.

    Parameters
    ----------
    rate
        How far one step goes, in scales; never more than 1. By default `Derived()`, which needs no tuning.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import ClippedScale
    >>> rng, model = random.Random(0), ClippedScale()
    >>> for _ in range(5_000):
    ...     model.learn_one({"ms": rng.gauss(20.0, 4.0), "bytes": rng.gauss(1e9, 1e8)})
    >>> 3.6 < model.scale["ms"] < 4.4, 0.9e8 < model.scale["bytes"] < 1.1e8
    (True, True)
    """

    def __init__(self, rate: Rate | None = None):
        super().__init__()
        self.rate = rate
        self._rate = checked_rate(rate)
        self._state = Spread.empty()

    @property
    def scale(self) -> dict[Any, float]:
        """The estimated standard deviation of every feature; NaN until it has shown two values."""
        return self._named(self._state.scale)

    @property
    def mean(self) -> dict[Any, float]:
        """The estimated location of every feature."""
        return self._named(self._state.location)

    def _grow(self, first: np.ndarray) -> None:
        self._state = self._state.grown(first)

    def _score(self, values: np.ndarray) -> float:
        return _root_mean_square(*self._state.standardised(values))

    def _step(self, values: np.ndarray) -> float:
        z, known = self._state.standardised(values)
        self._state = self._state.learned(self._rate, values, z)
        return _root_mean_square(z, known)


def _root_mean_square(z: np.ndarray, known: np.ndarray) -> float:
    return float(np.sqrt(z.dot(z) / max(np.count_nonzero(known), 1)))
