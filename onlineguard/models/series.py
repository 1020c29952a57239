"""The default detector of a numeric series: what is odd given its own past, said once.

Four stages; each takes its unit from the one before it, so that nobody has to name one:

1. **Regression** of every value on its own recent values and, where a period is named, on the value one period back:
   ridge regression by normalised clipped stochastic gradient descent. With f the past values and r the residual, both
   in the unit of what is usual of the series, f clipped to K and r to K of its own scales,

       w <- (1 - eta rho) w + eta r f / (1 + |f|^2).

2. **Detector** of the value and, as a second feature, of what the regression leaves of it. Its score is `distance`.
3. **News**: the distance relative to the slice's record, the largest of late:

       record <- max(record (1 - 1 / (16 hold)), min(distance, 1.5 record)).

   What a series did an hour ago is no news when it does it again. A scale or a quantile cannot tell how far a series
   goes now and then, and bursts of a thousand scales are routine in some.
4. **Hold**: what was odd stays on record while it fades, and in its shade only what is odder still is an alarm again,
   so that a run of odd values is one alarm, at its start, not hundreds:

       score = max(news, held),   threshold = max(quantile, held),   held <- min(score, e quantile) (1 - 1 / hold).

Source: the regression is the normalised least mean squares of Widrow and Hoff with a leak (Haykin, "Adaptive filter
theory", 2002) and a clip; the record, the hold and all constants are ours.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import barrier, larger, namespace, smaller, to_float, where
from onlineguard.core.protocols import Array
from onlineguard.core.pytree import pytree, static
from onlineguard.core.quantiles import LEVELS, moved_quantile, quantile_rate, rms_quantile
from onlineguard.core.registry import register
from onlineguard.core.shapes import Bool, Float, Float32, Float64, Int32
from onlineguard.core.spread import K, counted_from
from onlineguard.models import detector
from onlineguard.models.base import Judgement, Pooled, SliceModel
from onlineguard.models.detector import Detector

RATE = 0.02  # eta of the regression, which takes some hundred events to learn
RIDGE = 0.01  # rho: pulls the weights of past values that explain less than this share of a value towards 0
RECORD_HOLDS = 16.0  # a record fades that many times slower than an alarm; the default forgets within days
GROWTH = 1.5  # most by which one event raises the record: one absurd value is forgotten within 6.5 holds
LEAST_RECORD = 3.0  # in usual deviations,
LEAST_NEWS = 0.5  # and what is less than half a record is no alarm: after a calm, the first ripple is not odd
HUGE = 1e37  # values end here, so that differences, scales and the reciprocals of scales stay within float32


class SeriesState(NamedTuple):
    """What the stream taught one slice."""

    detector: detector.DetectorState  # over 2 d features: the values, then what the regression leaves of them
    past: Float32[Array, "past d"]  # the latest max(lags, period) values, newest first, as they came; NaN where missing
    weights: Float32[Array, "regressors d"]  # of the regression; as many as lags, with a period one more
    record: Float32[Array, ""]  # the largest distance of late
    held: Float32[Array, ""]  # what the score of the latest alarm has faded to
    median: Float32[Array, ""]  # the news that 50 % of the events exceed,
    fifth: Float32[Array, ""]  # 20 %,
    twentieth: Float32[Array, ""]  # 5 %,
    quantile: Float32[Array, ""]  # and target_rate of them


@register("Series")
@pytree
class Series(SliceModel):
    """Regression, distance, news and hold of one slice: what the operator chose.

    target_rate: share of events whose news exceeds its quantile, in (0, 0.2]; at most that many are alarms.
    patience: events that a new regime must last before it counts as usual, as in `Detector`.
    hold: events after which an alarm has faded; the default is six hours of five-minute data.
    lags: how many recent values each value is explained by; the default is an hour of five-minute data.
    period: events after which the series repeats itself, 288 for a day of five-minute data; 0 for none.
    """

    target_rate: Float[Array, ""] = 0.01
    patience: Float[Array, ""] = 5_000.0
    hold: Float[Array, ""] = 72.0
    lags: int = static(default=12)
    period: int = static(default=0)

    shiftable = True
    repeatable = False

    def width(self, n_features: int) -> int:
        """See `Detector.width`."""
        return self._detector().width(n_features)

    def init(self, n_features: int, width: int | None = None) -> SeriesState:
        """The state before any event, in NumPy; the quantiles start where independent normal features put them."""
        width = width or n_features
        record = rms_quantile(1.0 / (RECORD_HOLDS * float(self.hold)), 2 * n_features)
        quantiles = [rms_quantile(p, 2 * n_features) / record for p in (*LEVELS, float(self.target_rate))]
        return SeriesState(
            self._detector().init(2 * n_features, 2 * width),
            np.full((max(self.lags, self.period), width), math.nan, np.float32),
            np.zeros((self.lags + (self.period > 0), width), np.float32),
            *np.array([record, 0.0, *quantiles], np.float32),
        )

    def step(self, state: SeriesState, event: Float32[Array, " d"]) -> tuple[SeriesState, Judgement]:
        """Judge an event with the state from before it, then learn it.

        The score is the event's own news or what is held, whichever is larger, and the threshold likewise the quantile
        or what is held; so an event over the threshold is one whose news tops both. The median and the other quantiles
        are those of the news.

        A NaN or infinite feature is missing: it is not scored, exerts no pull, and explains later values as a usual
        one would. An event without any finite feature changes nothing; it takes no place among the past values.
        """
        xp = namespace(event)
        x = xp.where(xp.isfinite(event), xp.minimum(xp.maximum(event, -HUGE), HUGE), math.nan)
        regressors, unexplained = self._explain(state, x)
        inner, judgement = self._detector().step(state.detector, xp.concatenate((x, unexplained)))

        scored, ready = judgement.score >= 0, judgement.ready
        distance = where(scored, judgement.score, 0.0)
        news = distance / state.record
        score = larger(news, state.held)
        held = smaller(score, math.e * state.quantile) * (1.0 - 1.0 / self.hold)
        faded = state.record * (1.0 - 1.0 / (RECORD_HOLDS * self.hold))
        record = larger(larger(faded, smaller(distance, GROWTH * state.record)), LEAST_RECORD)
        learned = SeriesState(
            inner,
            where(xp.any(x == x), xp.concatenate((x[None], state.past[:-1])), state.past),
            self._learn_weights(state, regressors, unexplained),
            where(scored, record, state.record),
            where(ready, held, state.held),
            *self._learn_quantiles(state, news, scored),
        )
        score, threshold = where(scored, score, math.nan), larger(state.quantile, state.held)
        quantiles = (state.median, state.fifth, state.twentieth)
        return learned, Judgement(score, threshold, ready, *quantiles, threshold)

    def seen(self, states: SeriesState) -> Int32[np.ndarray, " slices"]:
        """See `SliceModel.seen`."""
        return states.detector.seen

    def moved(self, states: SeriesState, by: Float64[np.ndarray, "slices d"]) -> SeriesState:
        """See `SliceModel.moved`. The detector's features are the values twice over, and so is their shift."""
        inner = self._detector().moved(states.detector, np.concatenate((by, by), axis=-1))
        return states._replace(detector=inner, past=counted_from(states.past, by[..., None, :]))

    def pooled(self, states: SeriesState, origins: Float64[np.ndarray, "slices d"]) -> Pooled:
        """Where new slices start, as in `Detector`, but always with no location yet.

        Series of one stream may differ by nine orders of magnitude, and a wrong start is worse than none: what is
        common to them are the weights and the quantiles, which have no unit.
        """
        both = np.concatenate((origins, origins), axis=1)
        fresh = self._detector().pooled(states.detector, both).fresh
        names = ("weights", "median", "fifth", "twentieth", "quantile")
        medians = {name: np.median(getattr(states, name), axis=0) for name in names}
        start = self.init(origins.shape[1])._replace(detector=fresh, **medians)
        return Pooled(start, start, np.zeros(origins.shape[1]))

    def contributions(self, state: SeriesState, event: Float32[Array, " d"]) -> Float64[Array, " d"]:
        """What each feature adds to the squared distance: the squares of both its standardised residuals."""
        both = np.concatenate((event, self._explain(state, event)[1]))
        squares = self._detector().contributions(state.detector, both)
        return squares[: len(event)] + squares[len(event) :]

    def describe(self, state: SeriesState) -> dict[str, Any]:
        """Location and scale of every feature, the scale of what the regression leaves, threshold and record."""
        location, scale, spread = usual(state)
        return {
            "location": location,
            "scale": scale,
            "residual_scale": spread,
            "threshold": float(max(state.quantile, state.held)),
            "record": float(state.record),
            "events": int(state.detector.seen),
        }

    def _detector(self) -> Detector:
        return Detector(self.target_rate, self.patience)

    def _explain(
        self, state: SeriesState, x: Float32[Array, " d"]
    ) -> tuple[Float32[Array, "regressors d"], Float32[Array, " d"]]:
        """The past values that explain x, standardised; and x less what they explain.

        The latter keeps the location of x and so its resolution: what float32 cannot tell apart is no residual.
        """
        xp = namespace(x)
        location, scale, _ = usual(state)
        past = state.past[: self.lags]
        if self.period:
            past = xp.concatenate((past, state.past[self.period - 1 : self.period]))
        z = (past - location[None]) / scale[None]
        regressors = xp.where(xp.isfinite(z), xp.minimum(xp.maximum(z, -K), K), 0.0)
        explained = xp.where(scale > 0, scale * xp.sum(state.weights * regressors, 0), 0.0)
        return barrier(regressors, x - explained)

    def _learn_weights(
        self, state: SeriesState, regressors: Float32[Array, "regressors d"], unexplained: Float32[Array, " d"]
    ) -> Float32[Array, "regressors d"]:
        """The weights after one step; those of a missing value stay."""
        xp = namespace(unexplained)
        location, scale, spread = usual(state)
        r = xp.minimum(xp.maximum(unexplained - location, -K * spread), K * spread) / scale
        step = RATE * r / (1.0 + xp.sum(regressors * regressors, 0))
        weights = (1.0 - RATE * RIDGE) * state.weights + step[None] * regressors
        return xp.where(xp.isfinite(weights), weights, state.weights)

    def _learn_quantiles(
        self, state: SeriesState, news: Float32[Array, ""], scored: Bool[Array, ""]
    ) -> tuple[Float32[Array, ""], Float32[Array, ""], Float32[Array, ""], Float32[Array, ""]]:
        """The four quantiles after the news of an event."""
        rate = where(scored, quantile_rate(to_float(state.detector.age)), 0.0)
        moved = moved_quantile
        return (
            moved(state.median, news, LEVELS[0], rate),
            moved(state.fifth, news, LEVELS[1], rate),
            moved(state.twentieth, news, LEVELS[2], rate),
            larger(moved(state.quantile, news, self.target_rate, rate), LEAST_NEWS),
        )


def usual(state: SeriesState) -> tuple[Float32[Array, " d"], Float32[Array, " d"], Float32[Array, " d"]]:
    """Location and scale of the values, and the scale of what the regression leaves of them."""
    slow = state.detector.slow
    d = state.past.shape[-1]
    return slow.location[:d], slow.scale[:d], slow.scale[d:]
