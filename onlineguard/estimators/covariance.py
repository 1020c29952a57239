"""Running location and covariance of a stream of feature dicts."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from onlineguard.core.clipped_sgd import ClippedSGD
from onlineguard.core.estimands import Covariance, Moments
from onlineguard.core.protocols import Clip, Rate
from onlineguard.errors import InvalidArgument
from onlineguard.estimators.shell import EagerDetector, checked_clip, checked_rate


class ClippedCovariance(EagerDetector):
    """Running mean and covariance of all features; the score is the Mahalanobis distance.

    It finds events whose features are usual one by one and odd together. The distance covers the features that are
    present, and is 0.0 until more events than features were learned. Features of very different scale share one clip
    and one ridge: put a scaler in front. An event costs O(d^3).

    Parameters
    ----------
    rate
        How far one step goes. By default `Derived()`, which needs no tuning.
    clip
        How long a gradient may be. By default `Adaptive()`, the running median of the distances.
    ridge
        Added to the diagonal before the covariance is inverted, in units of the mean variance.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import ClippedCovariance
    >>> rng, model = random.Random(0), ClippedCovariance()
    >>> for _ in range(2_000):
    ...     load = rng.gauss(0.0, 1.0)
    ...     model.learn_one({"cpu": load, "heat": load + rng.gauss(0.0, 0.1)})
    >>> model.score_one({"cpu": 1.0, "heat": -1.0}) > 3 * model.score_one({"cpu": 1.0, "heat": 1.0})
    True
    """

    def __init__(self, rate: Rate | None = None, clip: Clip | None = None, ridge: float = 1e-3):
        super().__init__()
        if not ridge > 0.0:
            raise InvalidArgument(f"ridge is {ridge}; it must be positive, e.g. 1e-3")
        self.rate, self.clip, self.ridge = rate, clip, ridge
        self._params = ClippedSGD(Covariance(0, ridge), checked_rate(rate), checked_clip(clip))
        self._state = self._params.init()

    @property
    def mean(self) -> dict[Any, float]:
        """The estimated mean of every feature."""
        return self._named(self._state.theta.mu)

    @property
    def covariance(self) -> dict[tuple[Hashable, Hashable], float]:
        """The estimated covariance of every pair of features."""
        names, sigma = self._features.names, self._state.theta.sigma.tolist()
        return {(a, b): sigma[i][j] for i, a in enumerate(names) for j, b in enumerate(names)}

    def _grow(self, first: np.ndarray) -> None:
        mu, sigma = self._state.theta
        old, new = len(mu), len(mu) + len(first)
        grown = np.zeros((new, new))
        # the variance of a new feature is unknown, and the mean variance of the others is the best guess
        grown[range(old, new), range(old, new)] = np.trace(sigma) / old if old else 0.0
        grown[:old, :old] = sigma
        self._state = self._state._replace(theta=Moments(np.concatenate([mu, first]), grown))

    def _score(self, values: np.ndarray) -> float:
        return self._counted(self._params.score(self._state, values))

    def _step(self, values: np.ndarray) -> float:
        before = self._state
        self._state, score = self._params.step(before, values)
        return float(score) if before.seen > len(values) and score == score else 0.0

    def _counted(self, score: float) -> float:
        return float(score) if self._state.seen > len(self._features.names) and score == score else 0.0
