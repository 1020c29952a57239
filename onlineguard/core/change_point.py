"""When the mean of a stream changed: clipped SGD from many starts, compared before and after each.

Source: Abishek Sankararaman and Balakrishnan Narayanaswamy, Online heavy-tailed change-point detection, UAI 2023. An
estimate of the mean up to a start is compared with one from that start on; if their squared distance is larger than the
sum of two radii B, the mean has changed, and everything starts afresh. We depart from the paper so that nothing need be
told of the stream and an event costs the same for ever. Ours are:

- The starts kept: a bounded number, the newest four of each power of two, so their ages are spaced geometrically.
- The clip: a running scale of each feature's distance from its mean, winsorised at three times itself, exists for any
  tail; distances are clipped at three such scales.
- The unit: the mean square of the clipped distances since the last change, feature by feature, in place of a variance
  that is told. The paper's order 1/t^2 + 1/t stays, its constants do not: they suit one domain, one variance and a few
  thousand events. With the step 2 / (m (t + gamma)) at m = 2, gamma = 0, a running mean,
  B(t) = (a / t) (1 + g u / 3 + (1.5 + k) u^2 / 12), u^2 = 2 L / t. Here `a` bounds the squared length of d correlated
  normal numbers (Laurent and Massart, Adaptive estimation of a quadratic functional by model selection, Annals of
  Statistics 2000, Lemma 1), a = (d - p) + 2 sqrt((F^2 - p^2) L) + 2 p L, where p estimates the largest eigenvalue of
  their correlations and F^2 the sum of the squares of all: 1 and d if there are no correlations, d and d^2 if all
  features are one; with one feature a = 2 L. The bracket is Cramer's correction for few events: g is the absolute
  skewness and k the positive part of the excess kurtosis of the clipped distances, both the largest of all features.
- L = ln(2 (n / t) (1 + log2(n))^2 / delta), n the events since the last change, t those of them since the start: two
  sides, n / t windows that do not overlap, and a test for each pair of powers of two. Short windows, of which there are
  many, thus pay for being many, and long ones do not. It is a calibrated test, not a proven one: the unit is an
  estimate.
- All means are of the same clipped events. The first events only calibrate, so that an absurd one does no harm, and a
  new segment starts at the median of the latest events.

Clipping at three scales makes this a test of the bulk: where more than eight events in nine are one and the same value,
there is no scale, and the others count as outliers.
"""

from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import SMALL, capped, namespace, saturating_add, strong, to_float, where
from onlineguard.core.protocols import Array, Score
from onlineguard.core.pytree import pytree, static
from onlineguard.core.registry import register
from onlineguard.core.shapes import Bool, Float, Float64, Int32
from onlineguard.core.spread import counted_from

WINSOR = 3.0  # scales from the mean; a normal variance loses 0.5 % by it
PER_LEVEL = 4  # starts kept for each power of two
SCALE_RATE = 0.002  # of the log scale once settled: a memory of 500 events
CALIBRATION = 32  # events at the very first; then mean and scale are taken afresh from the latest of them
LATEST = 5  # events whose median is where a new segment starts


class Segment(NamedTuple):
    """What the stream taught: about the segment since the last change, and where that change lay."""

    mean: Float[Array, " d"]  # running mean, clipped
    power: Float[Array, " d"]  # running mean of the squared clipped distances
    moments: Float[Array, "3 d"]  # running means of the 2nd, 3rd and 4th power of the clipped distances in scales
    length: Int32[Array, ""]  # events of the segment
    before: Float[Array, "starts d"]  # the mean up to each start
    after: Float[Array, "starts d"]  # the mean from each start on
    count_before: Int32[Array, " starts"]  # events in `before`; 0 for a slot not filled
    count_after: Int32[Array, " starts"]  # events in `after`; 0 for a slot not filled
    log_scale: Float[Array, " d"]  # twice the log of the clip's unit; kept from segment to segment, as are the rest
    settled: Float[Array, " d"]  # events that taught the scale
    previous: Float[Array, " d"]  # the last clipped distances, in their unit
    latest_events: Float[Array, "5 d"]  # with missing features at their mean
    leading: Float[Array, " d"]  # the direction in which the features vary most, as long as their variance there
    overlap: Float[Array, ""]  # running mean of the squared product of `previous` and the ones before: F^2
    seen: Int32[Array, ""]  # events learned; saturates
    fired: Bool[Array, ""]  # the last event showed a change
    earliest: Int32[Array, ""]  # the last change lies between these two events, counted from 0; -1 before the first
    latest: Int32[Array, ""]
    changes: Int32[Array, ""]  # changes found


@register("ChangePoint")
@pytree
class ChangePoint:
    """Finds changes of the mean of `features` numbers; `delta` is the risk of a false one between two changes.

    The score is the strongest evidence for a change, this event included, over its bound, less one: above zero it is a
    change, and `fired` says so until the next event. A missing feature counts as one that lies at its mean; an event
    without any changes nothing and scores NaN.
    """

    features: int = static(default=1)
    delta: Float[Array, ""] = 0.01
    starts: int = static(default=64)  # kept at a time; a multiple of 4

    supervised = False
    takes_number = False
    decides = True
    shiftable = True

    def init(self) -> Segment:
        """The state before the first event."""
        d, zero = np.zeros(self.features, np.float32), np.int32(0)
        never = (np.bool(False), np.int32(-1), np.int32(-1), zero)  # fired, earliest, latest, changes
        latest = np.zeros((LATEST, self.features), np.float32)
        many = np.zeros(self.starts, np.int32)
        leading = np.full(self.features, np.sqrt(self.features), np.float32)
        means = np.zeros((self.starts, self.features), np.float32)
        moments = np.zeros((3, self.features), np.float32)
        overlap = np.float32(self.features**2)
        return Segment(d, d, moments, zero, means, means, many, many, d, d, d, latest, leading, overlap, zero, *never)

    def score(self, state: Segment, event: Float[Array, " d"]) -> Score:
        """The evidence for a change once this event is counted in, over its bound, less one."""
        return self.step(state, event)[1]

    def judge(self, state: Segment, event: Float[Array, " d"]) -> tuple[Score, Float[Array, ""]]:
        """The score, and again as what a Chain hands on."""
        score = self.score(state, event)
        return score, score

    def learn(self, state: Segment, event: Float[Array, " d"]) -> Segment:
        """Bring every start up to date; start afresh if the mean has changed."""
        return self.step(state, event)[0]

    def trace(self, state: Segment, event: Float[Array, " d"]) -> tuple[Segment, Score, Float[Array, ""]]:
        """`step`, and the score again as what a Chain hands on."""
        state, score = self.step(state, event)
        return state, score, score

    def step(self, state: Segment, event: Float[Array, " d"]) -> tuple[Segment, Score]:
        """`learn` and `score` at once: both need the evidence after the event."""
        xp = namespace(state.mean)
        there = xp.isfinite(event)
        usable = there.any(-1)
        x = xp.where(there, capped(event), state.mean)
        learned = self._compare(*self._measure(state, x, there))
        ratio = self._evidence(learned)
        best = ratio.max(-1)
        fired = best > 1.0
        convincing = ratio > 1.0
        oldest = xp.where(convincing, learned.count_after, 0).max()
        newest = xp.where(convincing, learned.count_after, learned.seen).min()
        located = learned._replace(
            earliest=where(fired, learned.seen - oldest, state.earliest),
            latest=where(fired, learned.seen - newest, state.latest),
            changes=saturating_add(state.changes, fired),
            fired=fired,
        )
        restart = fired | (learned.seen == CALIBRATION)
        located = _pick(restart, self._afresh(located), located)
        return _pick(usable, located, state._replace(fired=fired & False)), where(usable, best - 1.0, np.nan * best)

    def moved(self, states: Segment, by: Float64[np.ndarray, "slices d"]) -> Segment:
        """Stacked states (slices, ...) when events are counted from `by` more, in NumPy."""
        each = by[:, None]
        live = states.count_before[..., None] > 0
        return states._replace(
            mean=counted_from(states.mean, by),
            before=counted_from(states.before, each),
            after=np.where(live, counted_from(states.after, each), states.after),
            latest_events=counted_from(states.latest_events, each),
        )

    def describe(self, state: Segment) -> dict[str, Any]:
        """The mean since the last change, how many changes there were, and between which events the last one lies."""
        return {
            "mean": state.mean,
            "changes": int(state.changes),
            "last_change": (int(state.earliest), int(state.latest)) if state.changes else None,
        }

    def _measure(
        self, state: Segment, x: Float[Array, " d"], there: Bool[Array, " d"]
    ) -> tuple[Segment, Float[Array, " d"], Float[Array, " d"]]:
        """Learn the mean, the scale and the unit; also the mean from before and the clipped event."""
        xp = namespace(state.mean)
        distance = x - state.mean
        square = distance * distance
        # the first event of all says where the stream is, the first distance that is not zero how wide it is
        teaches = there & (square > 0.0) & (state.seen > 0)
        known = state.settled > 0.0
        gain = xp.maximum(4.0 / (state.settled + 8.0), SCALE_RATE)
        share = xp.minimum(square * xp.exp(-state.log_scale), WINSOR * WINSOR)
        taught = xp.where(known, state.log_scale + gain * (share - 1.0), xp.log(xp.where(teaches, square, 1.0)))
        reach = xp.where(known, WINSOR * xp.exp(0.5 * state.log_scale), np.inf)

        pull = xp.minimum(xp.maximum(distance, -reach), reach)
        n = to_float(state.length)
        power = state.power + (pull * pull * where(state.seen > 0, 1.0, 0.0) - state.power) / (n + 1.0)
        z = xp.where(known, pull * xp.exp(-0.5 * state.log_scale), xp.sign(pull))
        moments = state.moments + (xp.stack([z**2, z**3, z**4]) - state.moments) / (n + 1.0)
        unit = pull * _inverse_root(power)
        product = (unit * state.previous).sum(-1)
        along = (unit * state.leading).sum(-1) * _inverse_root((state.leading * state.leading).sum(-1))
        # both forget like the scale, and start from the worst, all features being one
        rate = xp.maximum(strong(4.0 / (n + 64.0)), SCALE_RATE)
        overlap = state.overlap + rate * (product * product - state.overlap)
        learned = state._replace(
            mean=state.mean + pull / (n + 1.0),
            power=power,
            moments=moments,
            log_scale=xp.where(teaches, taught, state.log_scale),
            settled=state.settled + teaches.astype(np.float32),
            previous=unit,
            overlap=xp.minimum(xp.maximum(overlap, float(self.features)), float(self.features**2)),
            leading=state.leading + rate * (along * unit - state.leading),
            latest_events=xp.concatenate([state.latest_events[1:], x[None]]),
            seen=saturating_add(state.seen, there.any(-1)),
        )
        return learned, state.mean, state.mean + pull

    def _compare(self, state: Segment, mean: Float[Array, " d"], x: Float[Array, " d"]) -> Segment:
        """Open a start at this event, and move the mean after every start by it."""
        xp = namespace(mean)
        here = xp.arange(self.starts, dtype=np.int32) == self._slot(state.length)
        before = xp.where(here[:, None], mean[None], state.before)
        after = xp.where(here[:, None], mean[None], state.after)
        count_before = xp.where(here, state.length, state.count_before)
        live = count_before > 0
        count_after = xp.where(live, xp.where(here, 0, state.count_after) + 1, 0)
        pull = (x[None] - after) / xp.maximum(to_float(count_after), 1.0)[:, None]
        return state._replace(
            before=before,
            after=xp.where(live[:, None], after + pull, 0.0),
            count_before=count_before,
            count_after=count_after,
            length=saturating_add(state.length, state.seen > 0),
        )

    def _evidence(self, state: Segment) -> Float[Array, " starts"]:
        """Squared distance between the means before and after each start, over its bound; 0 for slots not filled."""
        xp, d = namespace(state.mean), self.features
        distance = (state.before - state.after) * _inverse_root(state.power)[None]
        length = xp.maximum(strong(to_float(state.length)), 1.0)
        windows = xp.maximum(length / xp.maximum(to_float(state.count_after), 1.0), 1.0)
        lengths = 1.0 + xp.log(length) * np.float32(1.0 / np.log(2.0))
        level = xp.log(windows) + xp.log(strong(2.0 / self.delta)) + 2.0 * xp.log(lengths)
        largest = xp.sqrt((state.leading * state.leading).sum(-1))
        largest = xp.minimum(xp.maximum(largest, state.overlap / d), xp.sqrt(state.overlap))
        others = xp.maximum(state.overlap - largest * largest, 0.0)
        size = (d - largest) + 2.0 * xp.sqrt(others * level) + 2.0 * largest * level
        second = xp.maximum(state.moments[0], 1e-6)
        skewness = (abs(state.moments[1]) / (second * xp.sqrt(second))).max()
        kurtosis = 1.5 + xp.maximum(state.moments[2] / (second * second) - 3.0, 0.0).max()
        bound = 0.0
        for count in (state.count_before, state.count_after):
            inverse = 1.0 / xp.maximum(to_float(count), 1.0)
            square = 2.0 * level * inverse
            bound = bound + size * inverse * (1.0 + skewness * xp.sqrt(square) / 3.0 + kurtosis * square / 12.0)
        return xp.where(state.count_before > 0, (distance * distance).sum(-1) / bound, 0.0)

    def _afresh(self, state: Segment) -> Segment:
        """A segment without events, its clip centred on the median of the latest: most came after a change found."""
        xp = namespace(state.mean)
        mean = xp.sort(state.latest_events, axis=0)[LATEST // 2]
        # the scale is taken afresh only once, at the end of the calibration
        square = xp.sort((state.latest_events - mean[None]) ** 2, axis=0)[LATEST // 2]
        calibrated = (state.seen == CALIBRATION) & (square > 0.0)
        return state._replace(
            mean=mean,
            log_scale=xp.where(calibrated, xp.log(xp.where(calibrated, square, 1.0)), state.log_scale),
            settled=xp.where(calibrated, 1.0, state.settled),
            power=state.power * 0.0,
            moments=state.moments * 0.0,
            length=state.length * 0,
            before=state.before * 0.0,
            after=state.after * 0.0,
            count_before=state.count_before * 0,
            count_after=state.count_after * 0,
        )

    def _slot(self, number: Int32[Array, ""]) -> Int32[Array, ""]:
        """Where start `number` is kept: four slots for each factor of two in the number, taken in turn."""
        level = 0 * number
        for power in range(1, self.starts // PER_LEVEL):
            level = level + where(number & ((1 << power) - 1) == 0, 1, 0)
        return level * PER_LEVEL + ((number >> level) >> 1) % PER_LEVEL


def _inverse_root(power: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """One over the unit of each feature; 0 for one that never moved."""
    xp = namespace(power)
    return xp.where(power > SMALL, 1.0 / xp.sqrt(xp.where(power > SMALL, power, 1.0)), 0.0)


def _pick(condition: Bool[Array, ""], new: Segment, old: Segment) -> Segment:
    return Segment(*(where(condition, a, b) for a, b in zip(new, old, strict=True)))
