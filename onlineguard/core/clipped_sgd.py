"""Clipped SGD: theta <- theta - eta * clip(gradient, lambda), one event at a time.

Source: Abishek Sankararaman and Balakrishnan Narayanaswamy, Online robust non-stationary estimation, NeurIPS 2023. We
depart from it in the clip, a running quantile of the gradient norms by default, and project on no domain.

An estimand may say how curved its loss is along the gradient. The step is then eta / (1 + eta curvature), the implicit
one of Toulis and Airoldi, "Asymptotic and finite-sample properties of estimators based on stochastic gradients", Annals
of Statistics, 2017: however large eta is, no event is overshot.
"""

from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import choose, saturating_add, where
from onlineguard.core.clips import Adaptive
from onlineguard.core.protocols import Array, Clip, Estimand, Estimator, Event, Observation, Rate, Score, Theta
from onlineguard.core.pytree import pytree
from onlineguard.core.rates import Derived
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float, Float64, Int32


def step(params: Estimator, state: Any, event: Event) -> tuple[Any, Score]:
    """Score the event with the estimate from before it, then learn from it.

    NumPy's overflow warnings are silenced: what overflows is clipped, or has no say.
    """
    with np.errstate(all="ignore"):
        return params.step(state, event)


class State(NamedTuple):
    """What the stream taught. Every field may have leading axes, one for each axis of copies or slices."""

    theta: Theta  # the estimate, in the estimand's own unit
    clip: Any  # what the clip rule learned
    seen: Int32[Array, "*lead"]  # events learned; saturates, never wraps
    clipped: Int32[Array, "*lead"]  # those of them whose gradient was shortened


class OfEstimand:
    """What an estimator says of itself, where its estimand says it."""

    estimand: Estimand

    @property
    def supervised(self) -> bool:
        """Whether events are pairs (x, y)."""
        return getattr(self.estimand, "supervised", False)

    @property
    def takes_number(self) -> bool:
        """Whether an event is one number instead of an array of features."""
        return getattr(self.estimand, "takes_number", False)

    @property
    def shiftable(self) -> bool:
        """Whether there is a `moved`."""
        return getattr(self.estimand, "shiftable", False)

    @property
    def decides(self) -> bool:
        """Whether a score above zero is an anomaly."""
        return getattr(self.estimand, "decides", False)

    @property
    def predicts(self) -> bool:
        """Whether there is a `predict`."""
        return getattr(self.estimand, "predicts", False)

    @property
    def measures(self) -> bool:
        """Whether the score is how far a target lies from its prediction."""
        return getattr(self.estimand, "measures", False)


@register("ClippedSGD")
@pytree
class ClippedSGD(OfEstimand):
    """What the operator chose. Any field may differ by slice, and may change without recompiling."""

    estimand: Estimand
    rate: Rate = Derived()  # eta before an event, in theta's unit per unit of gradient
    clip: Clip = Adaptive()  # longest gradient used whole, in the gradient's unit

    def init(self) -> State:
        """The state before the first event."""
        return State(self.estimand.init(), self.clip.init(), np.int32(0), np.int32(0))

    def score(self, state: State, event: Event) -> Score:
        """How odd the event is; NaN if nothing in it is usable."""
        return self.estimand.observe(state.theta, event).score

    def judge(self, state: State, event: Event) -> tuple[Score, Array]:
        """The score, and the residual that the next stage of a Chain takes as its event."""
        seen = self.estimand.observe(state.theta, event)
        return seen.score, self.estimand.residual(state.theta, event, seen)

    def learn(self, state: State, event: Event) -> State:
        """Move theta against the clipped gradient; an event with nothing usable changes nothing."""
        return self.advance(state, self.estimand.observe(state.theta, event))

    def step(self, state: State, event: Event) -> tuple[State, Score]:
        """`learn` and `score` from one look at the event."""
        seen = self.estimand.observe(state.theta, event)
        return self.advance(state, seen), seen.score

    def trace(self, state: State, event: Event) -> tuple[State, Score, Array]:
        """`step`, and the residual that the next stage of a Chain takes as its event."""
        seen = self.estimand.observe(state.theta, event)
        return self.advance(state, seen), seen.score, self.estimand.residual(state.theta, event, seen)

    def moved(self, states: State, by: Float64[np.ndarray, "slices d"]) -> State:
        """Stacked states (slices, ...) when events are counted from `by` more, in NumPy."""
        estimand: Any = self.estimand
        return states._replace(theta=estimand.moved(states.theta, by))

    def predict(self, state: State, x: Float[Array, "*#lead d"]) -> Float[Array, "*lead"]:
        """What the target of x is expected to be."""
        estimand: Any = self.estimand
        return estimand.prediction(state.theta, x)

    def describe(self, state: State) -> dict[str, Any]:
        """The estimate by its names, and how many events were clipped."""
        estimand: Any = self.estimand
        return {**estimand.describe(state.theta), "clipped": int(state.clipped)}

    def advance(self, state: State, seen: Observation) -> State:
        """The recursion itself, from what was seen in the event."""
        limit, clip = self.clip.observe(state.clip, seen.norm, self.estimand.clip_range)
        long = seen.norm > limit
        shrink = where(long, limit / where(long, seen.norm, 1.0), 1.0)  # the inner one avoids 0 / 0
        rate = self.rate(state.seen)
        if not isinstance(seen.curvature, float) or seen.curvature:  # else the rate as it is
            rate = rate / (1.0 + rate * seen.curvature)
        return State(
            self.estimand.move(state.theta, seen.gradient, rate, shrink),
            choose(seen.usable, clip, state.clip),
            saturating_add(state.seen, seen.usable),
            saturating_add(state.clipped, seen.usable & long),
        )
