"""Estimators in a row: the residual of one stage is the event of the next.

`Chain((ClippedSGD(Mean(3)), ClippedSGD(LogScale()), ClippedSGD(Quantile(0.99))))` learns location, then scale, then
threshold, and a positive score is an anomaly. A stage passes on its estimand's signed residual where it has one (x - mu
of a Mean, one number a feature, which a LogScale with one sigma a feature takes as it is), and its score otherwise.
"""

from typing import Any

import numpy as np

from onlineguard.core.arrays import where
from onlineguard.core.protocols import Array, Estimator, Event, Score
from onlineguard.core.pytree import pytree
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float64


@register("Chain")
@pytree
class Chain:
    """An estimator made of estimators; its state is the tuple of theirs.

    The score is that of the last stage, and +inf where that is NaN: what cannot be scored is not normal. A stage that
    could not score an event gives the next one nothing to learn from.
    """

    stages: tuple[Estimator, ...]

    @property
    def supervised(self) -> bool:
        """Whether events are pairs (x, y)."""
        return getattr(self.stages[0], "supervised", False)

    @property
    def takes_number(self) -> bool:
        """Whether an event is one number instead of an array of features."""
        return getattr(self.stages[0], "takes_number", False)

    @property
    def shiftable(self) -> bool:
        """Whether there is a `moved`."""
        return getattr(self.stages[0], "shiftable", False)

    @property
    def decides(self) -> bool:
        """Whether a score above zero is an anomaly."""
        return getattr(self.stages[-1], "decides", False)

    def init(self) -> tuple[Any, ...]:
        """The stages' states before the first event."""
        return tuple(stage.init() for stage in self.stages)

    def score(self, state: tuple[Any, ...], event: Event) -> Score:
        """The last stage's score."""
        return self.judge(state, event)[0]

    def judge(self, state: tuple[Any, ...], event: Event) -> tuple[Score, Array]:
        """The last stage's score and residual."""
        score: Score = np.nan
        for stage, own in zip(self.stages, state, strict=True):
            score, event = stage.judge(own, event)
        return _odd_if_unknown(score), event

    def learn(self, state: tuple[Any, ...], event: Event) -> tuple[Any, ...]:
        """Every stage learns from what the one before it saw, all from before the event."""
        return self.trace(state, event)[0]

    def step(self, state: tuple[Any, ...], event: Event) -> tuple[tuple[Any, ...], Score]:
        """`learn` and `score` from one look at the event."""
        learned, score, _ = self.trace(state, event)
        return learned, score

    def moved(self, states: tuple[Any, ...], by: Float64[np.ndarray, "slices d"]) -> tuple[Any, ...]:
        """Stacked states (slices, ...) when events are counted from `by` more, in NumPy.

        Only the first stage sees events; residuals and scores do not depend on where these are counted from.
        """
        first: Any = self.stages[0]
        return (first.moved(states[0], by), *states[1:])

    def describe(self, state: tuple[Any, ...]) -> dict[str, Any]:
        """What each stage says of itself, under its number."""
        found: dict[str, Any] = {}
        for number, (stage, own) in enumerate(zip(self.stages, state, strict=True)):
            describing: Any = stage
            found[f"stage {number}"] = describing.describe(own)
        return found

    def trace(self, state: tuple[Any, ...], event: Event) -> tuple[tuple[Any, ...], Score, Array]:
        """`step`, and the last stage's residual."""
        learned: list[Any] = []
        score: Score = np.nan
        for stage, own in zip(self.stages, state, strict=True):
            after, score, event = stage.trace(own, event)
            learned.append(after)
        return tuple(learned), _odd_if_unknown(score), event


def _odd_if_unknown(score: Score) -> Score:
    return where(score == score, score, np.float32(np.inf))  # NaN is the one number unlike itself
