"""A detector of a single number that is odd only where it is high, such as the score of another model.

In place of a distance it has the height h = 1 + z for z > 0, exp(z) below, z the standardised number: positive, so that
its quantiles can be tracked in the log, and rising with the number everywhere. The rest is `Detector`, but for two
things that a single number allows:

- **Anomalies do not use up the threshold.** Where more numbers are high than the lower side of their law has it, the
  threshold is where usual ones should end; see `core.tails`. Below some three target rates of anomalies it is the
  running quantile of `Detector`.
- **A new regime** counts as usual once it has lasted `regime_share` of the time since the last one, if that is less
  than `patience`: scores that have moved before may move again.
"""

from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import larger, namespace, smaller, to_float, where
from onlineguard.core.protocols import Array
from onlineguard.core.pytree import pytree
from onlineguard.core.quantiles import LEVELS, normal_quantile
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float, Float32, Float64, Int32
from onlineguard.core.spread import standardised
from onlineguard.core.tails import Tail, end, learned_tail, start_tail, trust
from onlineguard.models.base import Judgement, Pooled, SliceModel
from onlineguard.models.detector import LONG_RUN, RENEWED_AGE, Detector, DetectorState


class OneSidedState(NamedTuple):
    """What the stream taught one slice."""

    detector: DetectorState  # of the heights
    tail: Tail  # of the standardised numbers

    @property
    def seen(self) -> Int32[Array, ""]:
        """Numbers learned."""
        return self.detector.seen


@register("OneSided")
@pytree
class OneSided(SliceModel):
    """`Detector` for one number of any unit and sign; see this module.

    target_rate: share of usual numbers to be flagged, in (0, 0.2].
    patience: numbers that a new regime must last, at most, before it counts as usual.
    regime_share: the least length of a new regime, as a share of the time since the last one.
    """

    target_rate: Float[Array, ""] = 0.01
    patience: Float[Array, ""] = 5_000.0
    regime_share: Float[Array, ""] = 0.5

    shiftable = True

    def init(self, n_features: int, width: int | None = None) -> OneSidedState:
        """The state before any number; all quantiles start where a normal law puts them."""
        return OneSidedState(self._heights().init(n_features, width), start_tail(float(self.target_rate)))

    def step(self, state: OneSidedState, event: Float32[Array, " d"]) -> tuple[OneSidedState, Judgement]:
        """Judge a number with the state from before it, then learn it; see `Detector.step`."""
        learned, judged = self._heights().step(state.detector, event)
        present = namespace(event).isfinite(event)
        z, known = standardised(state.detector.slow, event, present)
        number = namespace(event).sum(z)
        plain = judged.threshold
        expected = _height(end(state.tail, self.target_rate))
        lowered = plain + trust(state.tail, self.target_rate) * (expected - plain)
        threshold = smaller(plain, lowered)
        odd = judged.score > threshold
        taught = where(namespace(event).any(known) & (state.detector.run < LONG_RUN), 1.0, 0.0)
        tail = learned_tail(state.tail, number, odd, self.target_rate, to_float(state.detector.age), taught)
        knots = {name: smaller(getattr(judged, name), threshold) for name in ("median", "fifth", "twentieth")}
        return OneSidedState(learned, tail), judged._replace(threshold=threshold, tail=threshold, **knots)

    def threshold(self, state: OneSidedState) -> Float32[Array, ""]:
        """The height above which the next number is odd."""
        plain = state.detector.threshold
        expected = _height(end(state.tail, self.target_rate))
        return smaller(plain, plain + trust(state.tail, self.target_rate) * (expected - plain))

    def height(self, state: OneSidedState, number: Float32[Array, ""]) -> Float32[Array, ""]:
        """The height of a number under the state; NaN before the second number."""
        slow = state.detector.slow
        return _height((number - slow.location[0]) / slow.scale[0])

    def number(self, state: OneSidedState, height: Float32[Array, ""]) -> Float32[Array, ""]:
        """The number that has this height under the state: the inverse of `height`."""
        xp = namespace(height)
        z = xp.where(height > 1.0, height - 1.0, xp.log(height))
        return state.detector.slow.location[0] + z * state.detector.slow.scale[0]

    def moved(self, states: OneSidedState, by: Float64[np.ndarray, "slices d"]) -> OneSidedState:
        """See `SliceModel.moved`."""
        return states._replace(detector=self._heights().moved(states.detector, by))

    def pooled(self, states: OneSidedState, origins: Float64[np.ndarray, "slices d"]) -> Pooled:
        """Where new slices start: as those of `Detector` do, with the medians of the tails."""
        pooled = self._heights().pooled(states.detector, origins)
        tail = Tail(*(np.float32(np.median(part)) for part in states.tail))
        return Pooled(OneSidedState(pooled.typical, tail), OneSidedState(pooled.fresh, tail), pooled.origin)

    def contributions(self, state: OneSidedState, event: Float32[Array, " d"]) -> Float64[Array, " d"]:
        """See `Detector.contributions`."""
        return self._heights().contributions(state.detector, event)

    def describe(self, state: OneSidedState) -> dict[str, Any]:
        """See `Detector.describe`."""
        return {**self._heights().describe(state.detector), "threshold": float(self.threshold(state))}

    def _heights(self) -> "Heights":
        return Heights(self.target_rate, self.patience, regime_share=self.regime_share)


@register("Heights")
@pytree
class Heights(Detector):
    """`Detector` of the height of one number."""

    regime_share: Float[Array, ""] = 0.5

    def init(self, n_features: int, width: int | None = None) -> DetectorState:
        """The state before any event; the quantiles start where a normal law puts them."""
        z = [normal_quantile(level) for level in (*LEVELS, float(self.target_rate))]
        median, fifth, twentieth, threshold = np.float32(1.0) + np.array(z, np.float32)
        start = super().init(n_features, width)
        return start._replace(median=median, fifth=fifth, twentieth=twentieth, threshold=threshold)

    def _score(self, z: Float32[Array, " d"], count: Int32[Array, ""]) -> Float32[Array, ""]:
        """The height of the one known number; all others are 0."""
        return _height(namespace(z).sum(z))

    def _least_regime(self, state: DetectorState) -> Float32[Array, ""]:
        return larger(RENEWED_AGE * self.regime_share, self.regime_share * to_float(state.age))


def _height(z: Float32[Array, ""]) -> Float32[Array, ""]:
    return larger(1.0 + z, namespace(z).exp(smaller(z, 0.0 * z)))
