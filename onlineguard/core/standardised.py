"""Features in units of their own spread, for an estimator that a feature of another size would lead astray.

With z = (x - m) / s and u = z clipped to [-K, K], or to another limit, location m and scale s are those of Huber
("Proposal 2") as stochastic approximation, see `core.spread`, at the derived rate of the feature's own count. The
estimator is given u: a feature that is absurd says at most what one of 2.5 deviations says.

**A target is measured by both lines.** Nobody knows whether a regression bends beyond the clip, as its prediction does,
or goes on straight. So a target is odd by its distance from the nearest number between the two. By the bent line alone,
usual events of skewed features are the farthest of all, and 2 to 6 % of them are flagged at a target of 1 %
(`benchmarks/bench_unseen.py`). A feature that is absurd, or mostly constant, says nothing of a line.

**A mostly constant feature** has no scale in Huber's sense: where fewer than some 15 % of its values differ, the scale
falls until every other value lies beyond the clip. Then u is an indicator: -K, K, or near 0. Clipped that is sound, and
for heavy-tailed counts it is better than any scale: whether a rare thing happened says more than how often.
"""

from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace, saturating_add
from onlineguard.core.protocols import Array, Estimator, Event, Score
from onlineguard.core.pytree import pytree, static
from onlineguard.core.rates import Derived
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float, Float32, Float64, Int32
from onlineguard.core.spread import K, Memory, remembered, standardised

ABSURD = 100.0  # scales beyond which a feature is absurd, or mostly constant, and no line goes on straight
EARLY = 3  # added to a feature's count for its rate: the derived rate starts at 4^(-2/3) = 0.4


class StandardisedState(NamedTuple):
    """What the stream taught."""

    spread: Memory
    counts: Int32[Array, " d"]  # values learned of each feature
    inner: Any


@register("Standardised")
@pytree
class Standardised:
    """An estimator whose features come standardised and clipped; see this module.

    A missing feature is missing to the estimator too. One that has shown a single value so far is at its location.

    limit: scales beyond which a feature counts as being that far; an estimator of distances wants more than 2.5.
    """

    inner: Estimator
    features: int = static()
    limit: Float[Array, ""] = K

    shiftable = True

    @property
    def supervised(self) -> bool:
        """Whether events are pairs (x, y)."""
        return getattr(self.inner, "supervised", False)

    @property
    def predicts(self) -> bool:
        """Whether there is a `predict`."""
        return getattr(self.inner, "predicts", False)

    @property
    def decides(self) -> bool:
        """Whether a score above zero is an anomaly."""
        return getattr(self.inner, "decides", False)

    def init(self) -> StandardisedState:
        """No feature was seen yet."""
        counts = np.zeros(self.features, np.int32)
        return StandardisedState(Memory.blank(self.features), counts, self.inner.init())

    def score(self, state: StandardisedState, event: Event) -> Score:
        """The estimator's score, of a target by both lines; nothing is learned."""
        given, z, _ = self._given(state, event)
        return self._nearest(state, given, z, self.inner.score(state.inner, given))

    def step(self, state: StandardisedState, event: Event) -> tuple[StandardisedState, Score]:
        """The estimator's step with the standardised features, which the event then teaches."""
        given, z, x = self._given(state, event)
        inner, score = self.inner.step(state.inner, given)
        score = self._nearest(state, given, z, score)
        xp = namespace(z)
        present = xp.isfinite(x)
        rate = xp.minimum(Derived()(state.counts + EARLY), 1.0).astype(np.float32)
        spread = remembered(state.spread, x, present, z, rate, 1.0 - rate)
        return StandardisedState(spread, saturating_add(state.counts, present), inner), score

    def predict(self, state: StandardisedState, x: Float[Array, " d"]) -> Float[Array, ""]:
        """What the target of x is expected to be."""
        inner: Any = self.inner
        return inner.predict(state.inner, self._clipped(state, x)[0])

    def moved(self, states: StandardisedState, by: Float64[np.ndarray, "slices d"]) -> StandardisedState:
        """Stacked states when events are counted from `by` more, in NumPy; the estimator does not notice."""
        return states._replace(spread=states.spread.moved(by))

    def describe(self, state: StandardisedState) -> dict[str, Any]:
        """Location and scale of every feature, and what the estimator says, per scale of each."""
        inner: Any = self.inner
        return {"location": state.spread.location, "scale": state.spread.scale, **inner.describe(state.inner)}

    def _nearest(self, state: StandardisedState, given: Event, z: Float32[Array, " d"], score: Score) -> Score:
        """The score; where it measures a target, by the nearest prediction between those from u and from z."""
        inner: Any = self.inner
        if not getattr(inner, "measures", False):
            return score
        xp = namespace(z)
        u, y = given
        reached = xp.where(abs(z) > ABSURD, u, z)
        bent, straight = (inner.predict(state.inner, x) - y for x in (u, reached))
        straight = xp.where(straight == straight, straight, bent)  # infinite in two directions
        nearer = xp.where((bent > 0.0) == (straight > 0.0), xp.minimum(abs(bent), abs(straight)), 0.0)
        return xp.where(score == score, nearer, score)

    def _given(
        self, state: StandardisedState, event: Event
    ) -> tuple[Event, Float32[Array, " d"], Float32[Array, " d"]]:
        """The event as the estimator takes it, its standardised features, and the features as they came."""
        x = event[0] if self.supervised else event
        u, z = self._clipped(state, x)
        return ((u, event[1]) if self.supervised else u), z, x

    def _clipped(
        self, state: StandardisedState, x: Float[Array, " d"]
    ) -> tuple[Float32[Array, " d"], Float32[Array, " d"]]:
        xp = namespace(x)
        present = xp.isfinite(x)
        z = standardised(state.spread, x, present)[0]
        return xp.where(present, xp.minimum(xp.maximum(z, -self.limit), self.limit), np.nan).astype(np.float32), z
