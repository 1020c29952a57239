"""The default model for points: how far is an event from what is usual, feature by feature and as a whole?

1. **Residuals** (`memories`, `mostly_constant`). Every feature has a running location and scale, ruled by no outlier.
   A residual beyond 5 scales counts as 5 (1 + ln(z / 5)), so that one absurd feature does not drown the others.
2. **Two distances**. The Mahalanobis distance (`covariance`) sees what breaks a linear relation of the features. The
   distance from a sample of usual events (`neighbours`) sees gaps, modes and curves. The score is their geometric mean.
3. **Two runs** that are odd though their events are not: too regular ones (`regularity`), such as a script that repeats
   a request, and ones that pull together (`collective`), such as a burst that keeps just under the threshold.
4. **Threshold** (`threshold`): the score that `target_rate` of the usual events exceed.

What is odd is not learned: a run of odd events teaches the slow memory at a small share of 1 / patience, and the rest
nothing. Once odd events have outnumbered usual ones for `patience` events they are a new regime, and the slow
memory takes over what the fast one has learned. A young slice accepts a regime sooner, and its scores begin anew.
Shorter regimes that end and come back are learned as well, see `returning`.

`docs/decisions/joint-detector.md` says why these parts and no others; `benchmarks/ablate_joint.py` what each is worth.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import barrier, choose, larger, namespace, saturating_add, smaller, to_float, where
from onlineguard.core.emphasis import Sides, Weights, sided, weighed
from onlineguard.core.protocols import Array
from onlineguard.core.pytree import pytree, static
from onlineguard.core.registry import register
from onlineguard.core.shapes import Bool, Float, Float32, Float64, Int32
from onlineguard.core.spread import K, standardised
from onlineguard.models.base import MIN_SEEN, Judgement, Pooled, SliceModel
from onlineguard.models.carrying import Columns, carried_choices, carried_leaves
from onlineguard.models.detector import (
    ALIKE,
    IN_A_ROW,
    INHERITED_AGE,
    INHERITED_SEEN,
    LEAST_ALIKE,
    LONG_RUN,
    LONGEST_RUN,
    ODD_SHARE,
    RENEWED_AGE,
    YOUNG,
    whole_registers,
)
from onlineguard.models.joint import reasons
from onlineguard.models.joint.collective import Collective, drawn
from onlineguard.models.joint.covariance import Covariance, carried_covariance, learned_covariance, transformed
from onlineguard.models.joint.memories import START, Memories, first_memories, learned_memories, pace
from onlineguard.models.joint.mostly_constant import Modes, learned_modes, mostly_constant, off_mode
from onlineguard.models.joint.neighbours import Sample, learned_sample, nearest_rows, sparsity
from onlineguard.models.joint.regularity import Regularity, learned_regularity, regular
from onlineguard.models.joint.returning import Returning, returned, widened
from onlineguard.models.joint.threshold import Scores, learned_scores

FAR = 5.0  # residuals beyond count by their logarithm
LEAST_DISTANCE = 0.1  # what is nearer than this, in scales, is where usual events are
SPARSE = 2.0  # the distance from neighbours in these units is about 1 for usual events, as the Mahalanobis one is
CAUTION = 32.0  # the first scores are drawn towards 1: n events are trusted by n / (n + CAUTION)
SETTLED = 5  # values of a feature that came later than its slice; the scale of fewer is often far too small
PRIOR = 8.0  # events that the covariance of independent residuals counts for at first, beside one a feature
REGULAR_RATE = 0.02  # memory of how much of a run was too regular
REGULAR_SHARE = 0.2  # a run of which this share is too regular needs the full patience, in a young slice too
SHORTEST_REGIME = 32.0  # events: a young slice accepts none that is shorter,
HALF_SURE = 1_000.0  # and none below half of seen / (seen + HALF_SURE) of all it has seen: the more events speak for
# what was usual before, the longer. A burst of 2,000 after 3,000 events is odd to its end
RAISED = 0.02  # by how much a run's event lies over the threshold, per unit of its regularity


class JointState(NamedTuple):
    """What the stream taught one slice."""

    memories: Memories
    modes: Modes
    covariance: Covariance
    sample: Sample
    regularity: Regularity
    collective: Collective
    scores: Scores
    values: Int32[Array, " d"]  # of every feature
    seen: Int32[Array, ""]  # events learned
    age: Int32[Array, ""]  # events the threshold learned from; a new regime makes it younger
    run: Int32[Array, ""]  # odd events ahead of usual ones, LONGEST_RUN at most
    lasted: Int32[Array, ""]  # events since odd ones were last not ahead: the length of a regime that is not yet usual
    repeats: Float32[Array, ""]  # running share of a run's events that were too regular
    returning: Returning  # whether odd runs belong to the stream
    highest: Float32[Array, ""]  # ln of the largest score of late; the last field, since rows of earlier versions end
    # before it


class Residuals(NamedTuple):
    """An event, as the slice sees it."""

    present: Bool[Array, " d"]
    count: Float32[Array, ""]  # features known
    z: Float32[Array, " d"]  # in scales of the slow memory, 0 where unknown
    y: Float32[Array, " d"]  # what is scored: also off the mode, far ones shortened
    py: Float32[Array, " d"]  # P y, P the inverse covariance of the y
    quadratic: Float32[Array, ""]  # y' P y
    rare: Bool[Array, ""]  # a mostly constant feature is off its mode, and no value is far: odd for that alone


@register("JointDetector")
@pytree
class JointDetector(SliceModel):
    """The default model for points: what the operator chose. Fields may change without recompiling.

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

    def init(self, n_features: int, width: int | None = None) -> JointState:
        """The state before any event, in NumPy."""
        width = width or n_features
        return JointState(
            Memories.blank(width),
            Modes.blank(width),
            Covariance.blank(width),
            Sample.blank(width),
            Regularity.blank(width),
            Collective.blank(width),
            Scores.blank(float(self.target_rate)),
            np.zeros(width, np.int32),
            *np.zeros(4, np.int32),
            repeats=np.float32(0.0),
            returning=Returning.blank(),
            highest=np.float32(-np.inf),
        )

    def step(self, state: JointState, event: Float32[Array, " d"]) -> tuple[JointState, Judgement]:
        """Judge an event with the state from before it, then learn it.

        A NaN or infinite feature is missing: it is not scored and exerts no pull. An event without any finite feature
        changes nothing. The first 8 events give location and scale, see `start_memories`.
        """
        x = event
        seen, age = to_float(state.seen), to_float(state.age)
        residuals = Residuals(*barrier(*self._residuals(state, x)))
        present, count, z, y, py, quadratic, rare = residuals
        usable = namespace(x).any(present)
        score = self._score(state, residuals)
        regularity = regular(state.regularity, y)
        short = smaller(K * (larger(count, 1.0) / larger(quadratic, 1e-6)) ** 0.5, 1.0)  # as Huber shortens y
        collective, along = drawn(state.collective, y * short, py * short, count, age)

        ready = (state.seen >= MIN_SEEN) & (count > 0)
        threshold = state.scores.threshold
        trusted = ~state.returning.open
        too_regular, along = regularity.odd & ready & trusted, along & ready & trusted
        in_odd_run, far = too_regular | along, score > threshold
        raised = where(in_odd_run, larger(score, threshold * (1.0 + RAISED * regularity.mean)), score)
        odd = ready & (raised > threshold)
        score, raised, odd, in_odd_run, usable = barrier(score, raised, odd, in_odd_run, usable)

        young = state.seen < YOUNG
        learns = usable & ~young & (count > 0)
        in_a_row = (state.run >= where(odd, IN_A_ROW, LONG_RUN)) & trusted
        unusual = in_a_row | (in_odd_run & odd)
        slow = pace(state.memories, self.patience)
        waits = (state.run > 0) | ~trusted  # what follows an odd event waits for it
        slow = where(waits, smaller(slow, 1.0 / self.patience), slow)
        early = START / (to_float(state.values) + START)
        slow_rate = where(unusual, ODD_SHARE / self.patience, larger(slow, early))
        memories = choose(
            young,
            first_memories(state.memories, x, present, state.seen >= YOUNG - 1),
            learned_memories(state.memories, x, present, z, slow_rate, seen, self.patience),
        )
        weight = where(learns, 1.0, 0.0)
        known_for = smaller(seen, age)
        covariance_rate = where(odd & unusual, 0.0, weight) * larger(slow, 1.0 / (known_for + count + PRIOR))
        mode_rate = where(in_odd_run & odd, ODD_SHARE, 1.0) / self.patience
        counts = where(in_odd_run | ((state.run >= LONG_RUN) & trusted), 0.0, weight)
        run, lasted, repeats, new_regime = self._regime(state, odd, too_regular, usable)
        over, replays = (run == 0) | new_regime, too_regular & ~far
        returning = returned(state.returning, state.lasted, over, replays, seen, usable, self.patience)
        memories = memories._replace(slow=widened(_renewed(memories, new_regime), memories.fast, returning.open))
        usual = learns & ~odd
        next_age = saturating_add(state.age, learns)
        renewed_age = where(seen < self.patience, 0, RENEWED_AGE)  # a young slice has few scores to lose
        scores, highest = learned_scores(
            state.scores, state.highest, score, rare, age, counts, self.target_rate, self.patience
        )
        learned = JointState(
            memories,
            learned_modes(state.modes, x, present, larger(mode_rate, where(unusual, 0.0, early))),
            learned_covariance(state.covariance, y, py, quadratic, count, covariance_rate),
            learned_sample(state.sample, y, known_for, self.patience, usual & (score <= state.scores.fifth)),
            learned_regularity(state.regularity, y, regularity, age, learns, usual),
            choose(learns, collective, state.collective),
            scores,
            saturating_add(state.values, present),
            saturating_add(state.seen, usable),
            where(new_regime, smaller(next_age, renewed_age), next_age),
            where(new_regime, 0, run),
            where(new_regime, 0, lasted),
            repeats,
            returning,
            highest,
        )
        known_score = where(count > 0, raised, math.nan)
        quantiles = (
            state.scores.median,
            state.scores.fifth,
            state.scores.twentieth,
            threshold,
            state.scores.four_fifths,
        )
        return learned, Judgement(known_score, threshold, ready, *quantiles)

    def moved(self, states: JointState, by: Float64[np.ndarray, "slices d"]) -> JointState:
        """See `SliceModel.moved`; all but locations and modes is in scales."""
        return states._replace(memories=states.memories.moved(by), modes=states.modes.moved(by))

    def seen(self, states: JointState) -> Int32[np.ndarray, " slices"]:
        """See `SliceModel.seen`."""
        return states.seen

    def pooled(self, states: JointState, origins: Float64[np.ndarray, "slices d"]) -> Pooled:
        """Where new slices start, from the stacked states of known ones: as the typical one, or with no location yet.

        The typical state is that of the slice in the middle, with the medians of location and scale, worth
        `INHERITED_SEEN` events; but only if at least `LEAST_ALIKE` slices are alike: the middle half of them within
        `ALIKE` scales in location, and within that factor in scale. It is expressed relative to the origin that comes
        third. The other state is `init`: a slice that is unlike the others starts as if it were alone.
        """
        locations, scales = states.memories.slow.location + origins, states.memories.slow.scale
        low, location, high = np.quantile(locations, (0.25, 0.5, 0.75), axis=0)
        narrow, scale, wide = np.quantile(scales, (0.25, 0.5, 0.75), axis=0)
        away = np.nan_to_num(abs(locations - location) / scale).sum(axis=1)
        middle = int(np.lexsort((np.arange(len(away)), away))[0])
        one = _at(states, middle)
        no_origin = np.zeros(origins.shape[1])
        fresh = self.init(origins.shape[1])
        if len(origins) < LEAST_ALIKE or ((high - low > ALIKE * scale) | (wide > ALIKE * narrow)).any():
            return Pooled(fresh, fresh, no_origin)
        origin = np.nan_to_num(location) if origins.any() else no_origin
        memory = one.memories.slow._replace(location=location - origin, scale=scale)
        typical = one._replace(
            memories=one.memories._replace(slow=memory, fast=memory),
            modes=one.modes.moved(origin - origins[middle]),
            values=np.minimum(one.values, INHERITED_SEEN),
            seen=np.int32(INHERITED_SEEN),
            age=np.int32(INHERITED_AGE),
            run=np.int32(0),
            lasted=np.int32(0),
            regularity=fresh.regularity,
            collective=fresh.collective,
            returning=fresh.returning,
            highest=fresh.highest,
        )
        return Pooled(typical, fresh, origin)

    def carried(
        self, states: JointState, columns: Columns, categories: tuple[int, ...] = ()
    ) -> tuple["JointDetector", JointState]:
        """See `SliceModel.carried`. A feature that goes leaves the covariance of the others as it is.

        New ones begin independent of the others, and as if all events so far had lacked them. The threshold stays where
        it is, and learns as after a new regime.
        """
        blank = self.init(len(columns), self.width(len(columns)))

        def kept(name: str, axis: int = 0) -> Any:
            return carried_leaves(getattr(blank, name), getattr(states, name), columns, axis)

        covariance = carried_covariance(states.covariance, columns, self.width(len(columns)))
        mean = carried_leaves(blank.collective.mean, states.collective.mean, columns)
        found = states._replace(
            memories=states.memories._replace(
                slow=carried_leaves(blank.memories.slow, states.memories.slow, columns),
                fast=carried_leaves(blank.memories.fast, states.memories.fast, columns),
            ),
            modes=kept("modes"),
            covariance=covariance,
            sample=states.sample._replace(rows=carried_leaves(blank.sample.rows, states.sample.rows, columns, 1)),
            regularity=states.regularity._replace(
                last=carried_leaves(blank.regularity.last, states.regularity.last, columns, 1)
            ),
            collective=states.collective._replace(
                mean=mean, whitened=(covariance.inverse * mean[:, None, :]).sum(axis=-1, dtype=np.float32)
            ),
            values=kept("values"),
            age=np.minimum(states.age, RENEWED_AGE).astype(np.int32),
        )
        sides, weights = carried_choices(self.sides, columns, 0), carried_choices(self.weights, columns, 1.0)
        return dataclasses.replace(self, sides=sides, weights=weights), found

    def contributions(self, state: JointState, event: Float32[Array, " d"]) -> Float64[Array, " d"]:
        """Each feature's share of the two squared distances, half from each; no feature has a negative one."""
        residuals = self._residuals(state, event)
        y = weighed(residuals.y.astype(np.float64), self.weights)
        covered = np.maximum(y * transformed(state.covariance, y), 0.0)
        away = abs(residuals.y - nearest_rows(state.sample, residuals.y)).mean(axis=0)
        sparse = weighed(away.astype(np.float64), self.weights) * (residuals.y != 0.0)
        return sum(part / max(part.sum(), 1e-300) for part in (covered, sparse))  # type: ignore[return-value]

    def reasons(
        self, state: JointState, event: Float32[Array, " d"], origin: Float64[np.ndarray, " d"]
    ) -> dict[str, Any]:
        """What each value should be by the others, the nearest usual event, and the pair whose relation is broken.

        `expected` and `nearest` are NaN where the event has no value; `pair` is left out where no pair stands out.
        """
        found = self._residuals(state, event)
        rows = nearest_rows(state.sample, found.y)
        nearest = rows[abs(rows - found.y).sum(axis=1).argmin()]
        broken = reasons.pair(state.covariance, found.y, float(found.quadratic))
        expected = reasons.expected(state.covariance, found.y, found.py)
        values: dict[str, Any] = {}
        for name, y in (("expected", expected), ("nearest", nearest)):
            value = reasons.as_values(y, state.memories.slow, state.modes, FAR) + origin
            values[name] = np.where(found.present, value, math.nan)
        return {**values, "pair": broken} if broken else values

    def describe(self, state: JointState) -> dict[str, Any]:
        """Location and scale of every feature, the mode of those that mostly repeat it, and the score's threshold."""
        return {
            "location": state.memories.slow.location,
            "scale": state.memories.slow.scale,
            "mode": np.where(mostly_constant(state.modes), state.modes.value, math.nan),
            "threshold": float(state.scores.threshold),
            "events": int(state.seen),
        }

    def _residuals(self, state: JointState, x: Float32[Array, " d"]) -> Residuals:
        xp = namespace(x)
        present = xp.isfinite(x)
        z, known = standardised(state.memories.slow, x, present)
        known = known & ((state.values >= SETTLED) | (state.seen < YOUNG))
        rarest = 1.0 / larger(smaller(to_float(state.seen), self.patience), 2.0)
        constant = known & mostly_constant(state.modes) & (state.seen >= YOUNG)
        off, distance = off_mode(state.modes, x, rarest)
        y = xp.where(constant, off, xp.where(known, z, 0.0))
        rare = xp.any(constant & (y != 0.0)) & (xp.max(xp.where(constant & (y != 0.0), distance, abs(y))) < FAR)
        size = xp.maximum(abs(y), FAR)
        far = FAR * (1.0 + xp.log(size / FAR))
        y = xp.where(abs(y) > FAR, xp.where(y < 0.0, -far, far), y)
        (y,) = barrier(sided(y, self.sides))
        py = transformed(state.covariance, y)
        (py,) = barrier(py)
        return Residuals(present, to_float(xp.sum(known)), z, y, py, y @ py, rare)

    def _score(self, state: JointState, residuals: Residuals) -> Float32[Array, ""]:
        """The geometric mean of the two distances, positive."""
        xp = namespace(residuals.y)
        age, count = to_float(state.age), larger(residuals.count, 1.0)
        quadratic = residuals.quadratic
        if self.weights:
            y = weighed(residuals.y, self.weights)
            quadratic = y @ transformed(state.covariance, y)
        spread = larger(quadratic / count, 0.0) + LEAST_DISTANCE**2
        sparse = SPARSE * sparsity(state.sample, residuals.y, self.weights) / count + LEAST_DISTANCE
        return xp.exp((0.25 * xp.log(spread) + 0.5 * xp.log(sparse)) * age / (age + CAUTION))

    def _regime(
        self, state: JointState, odd: Bool[Array, ""], too_regular: Bool[Array, ""], usable: Bool[Array, ""]
    ) -> tuple[Int32[Array, ""], Int32[Array, ""], Float32[Array, ""], Bool[Array, ""]]:
        """Run, length and regularity of a regime that is not yet usual, and whether it now is."""
        run = smaller(larger(state.run + where(usable, where(odd, 1, -1), 0), 0), LONGEST_RUN)
        lasted = where(run > 0, saturating_add(state.lasted, usable), 0)
        rate = where(usable, REGULAR_RATE, 0.0)
        repeats = where(run > 0, state.repeats + rate * (where(too_regular, 1.0, 0.0) - state.repeats), 0.0)
        seen = to_float(state.seen)
        enough = smaller(self.patience, larger(SHORTEST_REGIME, 0.5 * seen * (seen / (seen + HALF_SURE))))
        enough = where(repeats > REGULAR_SHARE, self.patience, enough)
        return run, lasted, repeats, (to_float(lasted) >= enough) & (run >= LONG_RUN)


def _renewed(memories: Memories, new_regime: Bool[Array, ""]) -> Any:
    """The slow memory, which takes over what the fast one has learned where a new regime counts as usual."""
    slow, fast = memories.slow, memories.fast
    return slow._replace(
        location=where(new_regime, fast.location, slow.location),
        scale=where(new_regime, fast.scale, slow.scale),
        floor=where(new_regime, 0.0, 1.0) * slow.floor,
    )


def _at(states: Any, i: int) -> Any:
    """One of stacked states."""
    if isinstance(states, tuple):
        return type(states)(*(_at(part, i) for part in states))  # type: ignore[call-arg]
    return np.asarray(states)[i]
