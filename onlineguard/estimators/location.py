"""Running location of a stream of feature dicts, by clipped SGD."""

from typing import Any

import numpy as np

from onlineguard.core.arrays import plain
from onlineguard.core.clipped_sgd import ClippedSGD
from onlineguard.core.estimands import Mean
from onlineguard.core.experts import Experts
from onlineguard.core.protocols import Clip, Estimator, Rate
from onlineguard.errors import InvalidArgument
from onlineguard.estimators.shell import EagerDetector, checked_clip, checked_rate


class ClippedMean(EagerDetector):
    """Running mean of every feature, which no single event can move far; the score is the distance from the mean.

    The score is the Euclidean distance, in the features' own unit, over the features that are present: put a scaler in
    front if their units differ. A feature starts from its first value.

    Parameters
    ----------
    rate
        How far one step goes. By default `Derived()`, which needs no tuning.
    clip
        How long a gradient may be. By default `Adaptive()`, the running median of the distances.
    experts
        Whether to keep eleven means with memories of 2 to 2,048 events, and trust those with the least recent error, in
        place of one rate. On a drifting stream the mean is then two to three times as accurate, and an event takes
        twelve times as long.

    Examples
    --------
    >>> from onlineguard.estimators import ClippedMean
    >>> model = ClippedMean()
    >>> for i in range(1_000):
    ...     model.learn_one({"ms": 20.0 + i % 3, "kb": 3.0} if i % 10 else {"ms": 1e6, "kb": -1e6})
    >>> {name: round(value) for name, value in model.mean.items()}
    {'kb': 3, 'ms': 21}
    >>> round(model.score_one({"ms": 121.0, "kb": 3.0}))
    100
    """

    def __init__(self, rate: Rate | None = None, clip: Clip | None = None, experts: bool = False):
        super().__init__()
        if experts and rate is not None:
            raise InvalidArgument(f"rate is {rate!r}, but experts have their own; leave out one of the two")
        self.rate, self.clip, self.experts = rate, clip, experts
        limit = checked_clip(clip)
        single = ClippedSGD(Mean(0), checked_rate(rate), limit)
        self._params: Estimator = Experts(Mean(0), clip=limit) if experts else single
        self._state: Any = plain(self._params.init())

    @property
    def mean(self) -> dict[Any, float]:
        """The estimate of every feature seen so far."""
        return self._named(self._params.theta(self._state) if isinstance(self._params, Experts) else self._state.theta)

    def _grow(self, first: np.ndarray) -> None:
        if self.experts:
            copies = self._state.copies
            theta = np.concatenate([copies.theta, np.tile(first, (len(copies.theta), 1))], axis=1)
            self._state = self._state._replace(copies=copies._replace(theta=theta))
        else:
            self._state = self._state._replace(theta=np.concatenate([self._state.theta, first]))

    def _score(self, values: np.ndarray) -> float:
        score = self._params.score(self._state, values)
        return float(score) if score == score else 0.0

    def _step(self, values: np.ndarray) -> float:
        self._state, score = self._params.step(self._state, values)
        return float(score) if score == score else 0.0
