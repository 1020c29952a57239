"""The default detector of one slice: how far is an event from what is usual, and is that further than it should be?

Three stages, each a clipped recursion standardised by the one before it, so that nobody has to name a scale, a
variance or a share of anomalies:

1. **Location and scale** of every feature: Huber's joint estimation ("Proposal 2") as stochastic approximation. With
   z = (x - m) / s and u = z clipped to [-K, K],

       m <- m + eta s u            s <- s (1 + eta (u^2 - B)),            B = E min(Z^2, K^2), Z standard normal.

   The clip K s is adaptive: as long as the running scale says, at 1e-6 as at 1e12.
2. **Score**: the root mean square of z over the features that are present; about 1 is usual in every slice.
3. **Threshold**: running quantiles of the score, in the log: q <- q (1 + eta (1{score > q} - level)). A score beyond
   the reach of a Pareto tail fitted to the upper fifth of the scores counts little here: an attack must not spend the
   budget of false alarms, or it would lift the threshold over itself.

**Two memories** of stage 1 are kept. The fast one learns from every event at the derived rate patience^(-2/3). The
slow one, against which events are judged, learns at that rate as well, but from odd events in a row at a small share of
1 / patience, so that a burst is odd to its end. Scattered odd events teach it as usual ones do, since the clip bounds
what they can do: without them a feature that is mostly constant would look ever more constant. Once odd events have
outnumbered usual ones for `patience` events they are a new regime: the slow memory takes over what the fast one has
learned.

Source: the rate T^(-2/3) for a horizon T is that of Sankararaman and Narayanaswamy, "Online robust non-stationary
estimation", NeurIPS 2023; location and scale are those of Huber, "Robust estimation of a location parameter", Annals
of Mathematical Statistics, 1964. Two memories, patience, the quantiles' trust in a tail and all constants are ours.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import barrier, larger, namespace, saturating_add, smaller, to_float, where
from onlineguard.core.emphasis import Sides, Weights, sided, weighed
from onlineguard.core.protocols import Array
from onlineguard.core.pytree import pytree, static
from onlineguard.core.quantiles import LEAST_SCORE, LEVELS, moved_quantile, quantile_rate, rms_quantile
from onlineguard.core.registry import register
from onlineguard.core.shapes import Bool, Float, Float32, Float64, Int32
from onlineguard.core.spread import Memory, remembered, standardised, start_memories
from onlineguard.models.base import MIN_SEEN, Judgement, Pooled, SliceModel
from onlineguard.models.carrying import NEW, Columns, carried_choices, carried_leaves

# Halved and doubled, each by itself: `docs/detector-constants.md` says why a constant is here, and what changes.
START = 4.0  # early rate START / (seen + START): first values are forgotten as seen^-START
ODD_SHARE = 0.05  # pull on the slow memory of odd events in a row, in units of 1 / patience
IN_A_ROW = 2  # odd events ahead of usual ones that make the next odd one no longer scattered
RENEWED_AGE = 200  # age of the quantiles, at most, after a new regime
DISTRUST = 0.01  # weight in the quantiles of scores beyond the tail's reach,
RUN_DISTRUST = 0.001  # and of scores in a long odd run
REACH = 1 / 20  # the tail is trusted down to this share of target_rate
NEAR = 2.0  # thresholds within which a score is always trusted
LONG_RUN = 20  # odd events ahead of usual ones that make a run long
LONGEST_RUN = 100  # usual events in a row, at most, that end a run
YOUNG = 8  # first events, from which location and scale start
LEAST_REGIME = 100.0  # a young slice accepts a regime half as long as all it has seen, but none shorter than MIN_SEEN
FLOOR_DECAY = 0.02  # decay of the scale's floor, in units of 1 / patience; the quantiles must keep up with it
INHERITED_SEEN = 16  # events that a new slice's start from the typical one counts for,
INHERITED_AGE = 500  # and its quantiles'
LEAST_ALIKE = 4  # slices, at least, that make one typical
ALIKE = 4.0  # how far they may lie apart: this many scales in location, this factor in scale
VECTOR = 8  # float32 numbers in a vector register; it sets the speed and no verdict


class DetectorState(NamedTuple):
    """What the stream taught one slice."""

    slow: Memory
    fast: Memory
    median: Float32[Array, ""]  # the score that 50 % of the events exceed,
    fifth: Float32[Array, ""]  # 20 %,
    twentieth: Float32[Array, ""]  # 5 %,
    threshold: Float32[Array, ""]  # and target_rate of them
    seen: Int32[Array, ""]  # events learned
    age: Int32[Array, ""]  # events the quantiles learned from; a new regime makes them younger
    run: Int32[Array, ""]  # odd events ahead of usual ones, LONGEST_RUN at most
    lasted: Int32[Array, ""]  # events since odd ones were last not ahead: the length of a regime that is not yet usual


@register("Detector")
@pytree
class Detector(SliceModel):
    """Location, scale and threshold of one slice: what the operator chose. Fields may change without recompiling.

    target_rate: share of usual events to be flagged, in (0, 0.2].
    patience: events that a new regime must last before it counts as usual. The default outlasts a burst of 2,000.
    sides: for each feature, 1 if only high values are odd, -1 if only low ones are, 0 for both; () for both everywhere.
    weights: for each feature, how many times as large its residual counts in the score; () for 1 everywhere.
    """

    target_rate: Float[Array, ""] = 0.01
    patience: Float[Array, ""] = 5_000.0
    sides: Sides = static(default=(), repr=False)
    weights: Weights = static(default=(), repr=False)

    shiftable = True

    def width(self, n_features: int) -> int:
        """See `whole_registers`."""
        return whole_registers(n_features)

    def init(self, n_features: int, width: int | None = None) -> DetectorState:
        """The state before any event, in NumPy; the quantiles start where independent normal features put them."""
        memory = Memory.blank(width or n_features)
        levels = (*LEVELS, float(self.target_rate))
        quantiles = [np.float32(rms_quantile(level, n_features)) for level in levels]
        return DetectorState(memory, memory, *quantiles, *np.zeros(4, np.int32))

    def step(self, state: DetectorState, event: Float32[Array, " d"]) -> tuple[DetectorState, Judgement]:
        """Judge an event with the state from before it, then learn it.

        A NaN or infinite feature is missing: it is not scored and exerts no pull. An event without any finite feature
        changes nothing. Of a slice's first 8 events the two closest in a row give location and scale; a feature that
        comes later has its first value as location, and its second one gives the scale.
        """
        x = event
        xp = namespace(x)
        present = xp.isfinite(x)
        z, known = standardised(state.slow, x, present)
        count, usable = xp.sum(known), xp.any(present)
        score = self._score(weighed(sided(z, self.sides), self.weights), count)
        ready = (state.seen >= MIN_SEEN) & (count > 0)
        odd = ready & (score > state.threshold)
        z, score, ready, odd, usable = barrier(z, score, ready, odd, usable)

        usual_rate = larger(self.patience ** (-2 / 3), START / (to_float(state.seen) + START))
        in_a_row = state.run >= where(odd, IN_A_ROW, LONG_RUN)
        slow_rate = where(in_a_row, ODD_SHARE / self.patience, usual_rate)
        z_fast = standardised(state.fast, x, present)[0]
        slow = remembered(state.slow, x, present, z, slow_rate, 1.0 - FLOOR_DECAY / self.patience)
        fast = remembered(state.fast, x, present, z_fast, usual_rate, 1.0 - usual_rate)
        young = state.seen < YOUNG
        first_slow, first_fast = start_memories(state.slow, state.fast, x, present, state.seen >= YOUNG - 1)
        slow = Memory(*(where(young, a, b) for a, b in zip(first_slow, slow, strict=True)))
        fast = Memory(*(where(young, a, b) for a, b in zip(first_fast, fast, strict=True)))

        run = smaller(larger(state.run + where(usable, where(odd, 1, -1), 0), 0), LONGEST_RUN)
        lasted = where(run > 0, saturating_add(state.lasted, usable), 0)
        enough = smaller(self.patience, self._least_regime(state))
        new_regime = (to_float(lasted) >= enough) & (run >= LONG_RUN)
        age = saturating_add(state.age, usable)
        learned = DetectorState(
            Memory(
                where(new_regime, fast.location, slow.location),
                where(new_regime, fast.scale, slow.scale),
                where(new_regime, 0.0, 1.0) * slow.floor,
            ),
            fast,
            *self._learn_quantiles(state, score, usable),
            saturating_add(state.seen, usable),
            where(new_regime, smaller(age, RENEWED_AGE), age),
            where(new_regime, 0, run),
            where(new_regime, 0, lasted),
        )
        known_score = where(count > 0, score, math.nan)
        threshold = state.threshold
        quantiles = (state.median, state.fifth, state.twentieth)
        return learned, Judgement(known_score, threshold, ready, *quantiles, threshold)

    def _least_regime(self, state: DetectorState) -> Float32[Array, ""]:
        """How long a regime must last for a slice that is younger than patience asks for."""
        return larger(LEAST_REGIME, 0.5 * to_float(state.seen))

    def moved(self, states: DetectorState, by: Float64[np.ndarray, "slices d"]) -> DetectorState:
        """See `SliceModel.moved`."""
        return states._replace(slow=states.slow.moved(by), fast=states.fast.moved(by))

    def pooled(self, states: DetectorState, origins: Float64[np.ndarray, "slices d"]) -> Pooled:
        """Where new slices start, from the stacked states of known ones: as the typical one, or with no location yet.

        The typical state has the medians of location and scale, worth `INHERITED_SEEN` events, and of the score
        quantiles, worth `INHERITED_AGE`; but only if at least `LEAST_ALIKE` slices are alike: the middle half of them
        within `ALIKE` scales in location, and within that factor in scale. It is expressed relative to the origin that
        comes third; `origins` are what the states' locations are relative to. The other state is `init`: the first
        scores of a slice without a location are far larger than later ones, and would lift quantiles that learn slowly.
        """
        fresh = self.init(origins.shape[1])
        no_origin = np.zeros(origins.shape[1])
        if len(origins) < LEAST_ALIKE:
            return Pooled(fresh, fresh, no_origin)
        low, location, high = np.quantile(states.slow.location + origins, (0.25, 0.5, 0.75), axis=0)
        narrow, scale, wide = np.quantile(states.slow.scale, (0.25, 0.5, 0.75), axis=0)
        if ((high - low > ALIKE * scale) | (wide > ALIKE * narrow)).any():
            return Pooled(fresh, fresh, no_origin)
        origin = np.nan_to_num(location) if origins.any() else no_origin
        memory = Memory(location - origin, scale, fresh.slow.floor)
        quantiles = {name: np.median(getattr(states, name)) for name in ("median", "fifth", "twentieth", "threshold")}
        seen, age = np.int32(INHERITED_SEEN), np.int32(INHERITED_AGE)
        return Pooled(fresh._replace(slow=memory, fast=memory, seen=seen, age=age, **quantiles), fresh, origin)

    def carried(
        self, states: DetectorState, columns: Columns, categories: tuple[int, ...] = ()
    ) -> tuple["Detector", DetectorState]:
        """See `SliceModel.carried`. The quantiles stay where they are, and learn as after a new regime.

        With a new feature the slice is as young as it is then, too: it learns faster, and soon takes a scale for usual
        that came from two values much too close to each other.
        """
        blank = self.init(len(columns), self.width(len(columns)))
        seen = np.minimum(states.seen, RENEWED_AGE).astype(np.int32) if NEW in columns else states.seen
        found = states._replace(
            slow=carried_leaves(blank.slow, states.slow, columns),
            fast=carried_leaves(blank.fast, states.fast, columns),
            seen=seen,
            age=np.minimum(states.age, RENEWED_AGE).astype(np.int32),
        )
        sides, weights = carried_choices(self.sides, columns, 0), carried_choices(self.weights, columns, 1.0)
        return dataclasses.replace(self, sides=sides, weights=weights), found

    def contributions(self, state: DetectorState, event: Float32[Array, " d"]) -> Float64[Array, " d"]:
        """Squared standardised residuals: the score is the root of the mean of those that are known."""
        z = standardised(state.slow, event, np.isfinite(event))[0]
        return np.square(np.float64(weighed(sided(z, self.sides), self.weights)))

    def reasons(
        self, state: DetectorState, event: Float32[Array, " d"], origin: Float64[np.ndarray, " d"]
    ) -> dict[str, Any]:
        """The value `expected` of every feature, and how many `scales` from it the event's lies."""
        z, known = standardised(state.slow, event, np.isfinite(event))
        return {"expected": state.slow.location + origin, "scales": np.where(known, z, np.nan)}

    def describe(self, state: DetectorState) -> dict[str, Any]:
        """Location and scale of every feature, and the threshold of the score."""
        return {
            "location": state.slow.location,
            "scale": state.slow.scale,
            "threshold": float(state.threshold),
            "events": int(state.seen),
        }

    def _score(self, z: Float32[Array, " d"], count: Int32[Array, ""]) -> Float32[Array, ""]:
        """How odd standardised residuals are, of which `count` are known and the others 0; never negative."""
        return (namespace(z).sum(z * z) / larger(count, 1)) ** 0.5

    def _learn_quantiles(
        self, state: DetectorState, score: Float32[Array, ""], usable: Bool[Array, ""]
    ) -> tuple[Float32[Array, ""], Float32[Array, ""], Float32[Array, ""], Float32[Array, ""]]:
        """The four quantiles after a score."""
        rate = usable * quantile_rate(to_float(state.age))
        rate = rate * where(state.run < LONG_RUN, 1.0, RUN_DISTRUST)
        steps = namespace(score).log(LEVELS[2] / (REACH * self.target_rate)) / math.log(LEVELS[1] / LEVELS[2])
        reach = larger(state.twentieth * (state.twentieth / state.fifth) ** steps, NEAR * state.threshold)
        tail_rate = rate * where(score > reach, DISTRUST, 1.0)
        twentieth = moved_quantile(state.twentieth, score, LEVELS[2], rate)
        threshold = moved_quantile(state.threshold, score, self.target_rate, tail_rate)
        return (
            moved_quantile(state.median, score, LEVELS[0], rate),
            moved_quantile(state.fifth, score, LEVELS[1], rate),
            twentieth,
            larger(threshold, where(self.target_rate < LEVELS[2], twentieth, LEAST_SCORE)),
        )


def whole_registers(n_features: int) -> int:
    """Columns of an event of so many features: from 8 on they fill whole vector registers, fewer need no padding."""
    return n_features if n_features < VECTOR else -(-n_features // VECTOR) * VECTOR
