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

import math
from statistics import NormalDist
from typing import NamedTuple

import jax
import numpy as np

from onlineguard.core.arrays import namespace, where
from onlineguard.core.protocols import Array
from onlineguard.core.pytree import pytree

K = 2.5  # where a standardised residual is clipped; 99 % of a normal law lies within
B = 0.9775598  # E min(Z^2, K^2) for a standard normal Z: makes the scale of a normal law its standard deviation
START = 4.0  # early rate START / (seen + START): first values are forgotten as seen^-START
ODD_SHARE = 0.05  # pull on the slow memory of odd events in a row, in units of 1 / patience
IN_A_ROW = 2.0  # odd events ahead of usual ones that make the next odd one no longer scattered
LEVELS = (0.5, 0.2, 0.05)  # exceedance levels of the quantiles that shape a p-value, beside the target rate
LEVEL_RATE = 0.01  # of the quantiles: share and level differ by at most |change of ln q| / (LEVEL_RATE * events)
LEVEL_START = (20.0, 200.0)  # early rate of the quantiles, 20 / (age + 200)
RENEWED_AGE = 200.0  # age of the quantiles, at most, after a new regime
LEAST_SCORE = 0.1  # no quantile falls below: on a constant stream a change of one ulp is not odd
DISTRUST = 0.01  # weight in the quantiles of scores beyond the tail's reach,
RUN_DISTRUST = 0.001  # and of scores in a long odd run
REACH = 1 / 20  # the tail is trusted down to this share of target_rate
NEAR = 2.0  # thresholds within which a score is always trusted
LONG_RUN = 20.0  # odd events ahead of usual ones that make a run long
LONGEST_RUN = 100.0  # usual events in a row, at most, that end a run
MIN_SEEN = 100.0  # events before a slice is judged
YOUNG = 8.0  # first events, from which location and scale start
LEAST_REGIME = 100.0  # a young slice accepts a regime half as long as all it has seen, but none shorter than this
FLOOR_SHARE = 1e-3  # the scale falls fast to this share of its recent peak,
FLOOR_DECAY = 0.02  # and at this rate from there, in units of 1 / patience; the quantiles must keep up with it
RESOLUTION = 2.0**-18  # least scale relative to the location: what float32 resolves, with room
TINY = 1e-30  # least scale of all, so that a stream of zeros can be divided by it
FAR = 1e15  # standardised residuals end here, so that their squares add up in float32
INHERITED_SEEN = 16.0  # events that a new slice's start from the typical one counts for,
INHERITED_AGE = 500.0  # and its quantiles'
LEAST_ALIKE = 4  # slices, at least, that make one typical
ALIKE = 4.0  # how far they may lie apart: this many scales in location, this factor in scale
LAST_COUNT = 2.0**23  # counts stop here, where float32 still tells neighbours apart


class Memory(NamedTuple):
    """What is usual of every feature, in the feature's unit; shape (d,) each."""

    location: Array  # NaN until the first value
    scale: Array  # NaN until the second value
    floor: Array  # what the scale may not fall under


class State(NamedTuple):
    """What the stream taught one slice."""

    slow: Memory
    fast: Memory
    median: Array  # the score that 50 % of the events exceed,
    fifth: Array  # 20 %,
    twentieth: Array  # 5 %,
    threshold: Array  # and target_rate of them
    seen: Array  # events learned
    age: Array  # events the quantiles learned from; a new regime makes them younger
    run: Array  # odd events ahead of usual ones, LONGEST_RUN at most
    lasted: Array  # events since odd ones were last not ahead: the length of a regime that is not yet usual


class Judgement(NamedTuple):
    """One event under the state from before it."""

    score: Array  # root mean square of the standardised residuals; NaN if nothing could be scored
    threshold: Array  # an event with a larger score is odd
    median: Array  # of the slice's scores, as are the next two: what a p-value is read from
    fifth: Array
    twentieth: Array
    ready: Array  # 1.0 where the event could be scored and the slice had seen enough to be judged, else 0.0


@pytree
class Detector:
    """Location, scale and threshold of one slice: what the operator chose. Fields may change without recompiling.

    target_rate: share of usual events to be flagged, in (0, 0.2].
    patience: events that a new regime must last before it counts as usual. The default outlasts a burst of 2,000.
    """

    target_rate: Array = 0.01
    patience: Array = 5_000.0

    def init(self, n_features: int, width: int | None = None) -> State:
        """The state before any event, in NumPy; the quantiles start where independent normal features put them.

        `width` is the number of columns of the events, where features that are always missing pad them to more.
        """
        unknown = np.full(width or n_features, math.nan, np.float32)
        memory = Memory(unknown, unknown, np.zeros_like(unknown))
        levels = (*LEVELS, float(self.target_rate))
        quantiles = [np.float32(rms_quantile(level, n_features)) for level in levels]
        return State(memory, memory, *quantiles, *np.zeros(4, np.float32))

    def step(self, state: State, x: Array) -> tuple[State, Judgement]:
        """Judge x of shape (d,) with the state from before it, then learn it.

        A NaN or infinite feature is missing: it is not scored and exerts no pull. An event without any finite feature
        changes nothing. Of a slice's first 8 events the two closest in a row give location and scale; a feature that
        comes later has its first value as location, and its second one gives the scale.
        """
        xp = namespace(x)
        present = xp.isfinite(x)
        z, known = standardised(state.slow, x, present)
        count, usable = xp.sum(known), xp.any(present)
        score = self._score(z, count)
        ready = (state.seen >= MIN_SEEN) & (count > 0)
        odd = ready & (score > state.threshold)
        z, score, ready, odd, usable = once(z, score, ready, odd, usable)

        usual_rate = larger(self.patience ** (-2 / 3), START / (state.seen + START))
        in_a_row = state.run >= where(odd, IN_A_ROW, LONG_RUN)
        slow_rate = where(in_a_row, ODD_SHARE / self.patience, usual_rate)
        z_fast = standardised(state.fast, x, present)[0]
        slow = remembered(state.slow, x, present, z, slow_rate, 1.0 - FLOOR_DECAY / self.patience)
        fast = remembered(state.fast, x, present, z_fast, usual_rate, 1.0 - usual_rate)
        young = state.seen < YOUNG
        first_slow, first_fast = begun(state.slow, state.fast, x, present, state.seen >= YOUNG - 1)
        slow = Memory(*(where(young, a, b) for a, b in zip(first_slow, slow, strict=True)))
        fast = Memory(*(where(young, a, b) for a, b in zip(first_fast, fast, strict=True)))

        run = smaller(larger(state.run + where(usable, where(odd, 1.0, -1.0), 0.0), 0.0), LONGEST_RUN)
        lasted = where(run > 0, state.lasted + usable, 0.0)
        enough = smaller(self.patience, larger(LEAST_REGIME, 0.5 * state.seen))
        new_regime = (lasted >= enough) & (run >= LONG_RUN)
        learned = State(
            Memory(
                where(new_regime, fast.location, slow.location),
                where(new_regime, fast.scale, slow.scale),
                where(new_regime, 0.0, 1.0) * slow.floor,
            ),
            fast,
            *self._learn_quantiles(state, score, usable),
            smaller(state.seen + usable, LAST_COUNT),
            smaller(state.age + usable, where(new_regime, RENEWED_AGE, LAST_COUNT)),
            where(new_regime, 0.0, run),
            where(new_regime, 0.0, lasted),
        )
        known_score = where(count > 0, score, math.nan)
        return learned, Judgement(known_score, state.threshold, state.median, state.fifth, state.twentieth, 1.0 * ready)

    def pooled(self, states: State, origins: Array) -> tuple[State, State, Array]:
        """Where new slices start, from the stacked states of known ones: as the typical one, or with no location yet.

        Both have the medians of the score quantiles. The typical one has those of location and scale as well, worth
        `INHERITED_SEEN` events, but only if at least `LEAST_ALIKE` slices are alike: the middle half of them within
        `ALIKE` scales in location, and within that factor in scale. It is expressed relative to the origin (d,) that
        comes third; `origins` (slices, d) are what the states' locations are relative to.
        """
        quantiles = {name: np.median(getattr(states, name)) for name in ("median", "fifth", "twentieth", "threshold")}
        fresh = self.init(origins.shape[1])._replace(age=np.float32(INHERITED_AGE), **quantiles)
        no_origin = np.zeros(origins.shape[1])
        if len(origins) < LEAST_ALIKE:
            return fresh, fresh, no_origin
        low, location, high = np.quantile(states.slow.location + origins, (0.25, 0.5, 0.75), axis=0)
        narrow, scale, wide = np.quantile(states.slow.scale, (0.25, 0.5, 0.75), axis=0)
        if ((high - low > ALIKE * scale) | (wide > ALIKE * narrow)).any():
            return fresh, fresh, no_origin
        origin = np.nan_to_num(location) if origins.any() else no_origin
        memory = Memory(location - origin, scale, fresh.slow.floor)
        return fresh._replace(slow=memory, fast=memory, seen=np.float32(INHERITED_SEEN)), fresh, origin

    def residuals(self, state: State, x: Array) -> Array:
        """Standardised residuals (d,) of x, signed, 0 where missing: what its score is the root mean square of."""
        return standardised(state.slow, x, namespace(x).isfinite(x))[0]

    def _score(self, z: Array, count: Array) -> Array:
        """How odd standardised residuals (d,) are, of which `count` are known and the others 0; never negative."""
        return (namespace(z).sum(z * z) / larger(count, 1)) ** 0.5

    def _learn_quantiles(self, state: State, score: Array, usable: Array) -> tuple[Array, Array, Array, Array]:
        """The four quantiles after a score."""
        rate = usable * larger(LEVEL_RATE, LEVEL_START[0] / (state.age + LEVEL_START[1]))
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


def standardised(memory: Memory, x: Array, present: Array) -> tuple[Array, Array]:
    """Residuals in scales, shape (d,), 0 where x is missing or the memory empty; and which ones are neither."""
    xp = namespace(x)
    known = present & (memory.scale > 0)
    z = (x - memory.location) / memory.scale
    return xp.where(known, xp.minimum(xp.maximum(z, -FAR), FAR), 0.0), known


def remembered(memory: Memory, x: Array, present: Array, z: Array, rate: Array, floor_decay: Array) -> Memory:
    """The memory after x, whose standardised residuals are z."""
    xp = namespace(x)
    u = xp.minimum(xp.maximum(z, -K), K)
    location = memory.location + rate * u * memory.scale
    scale = memory.scale * (1.0 + rate * (u * u - B))
    first = xp.isnan(memory.location)
    least = RESOLUTION * abs(memory.location) + TINY
    unscaled = ~first & ~(memory.scale > least)  # a constant stream so far: the first other value gives the scale
    location = xp.where(first, x, xp.where(unscaled, memory.location, location))
    scale = xp.where(unscaled, abs(x - memory.location), scale)
    floor = xp.fmax(xp.fmax(memory.floor * floor_decay, FLOOR_SHARE * scale), least)
    return Memory(
        xp.where(present, location, memory.location),
        xp.where(present, xp.maximum(scale, floor), memory.scale),
        xp.where(present, floor, memory.floor),
    )


def begun(slow: Memory, fast: Memory, x: Array, present: Array, last: Array) -> tuple[Memory, Memory]:
    """The memories after one of the first events, `last` telling the last of them.

    The slow one keeps the two closest of consecutive values, as location and scale, so that absurd ones among the
    first few have no say; the fast one keeps the latest value until it starts from the slow one as well.
    """
    xp = namespace(x)
    step = abs(x - fast.location)
    closer = (step > 0) & (step < math.inf) & ~(step >= slow.scale)
    location = xp.where(closer | xp.isnan(fast.location), x, slow.location)
    scale = xp.where(present, xp.where(closer, step, slow.scale), slow.scale)
    return (
        Memory(xp.where(present, location, slow.location), scale, slow.floor),
        Memory(xp.where(present, where(last, location, x), fast.location), scale, slow.floor),
    )


def moved_quantile(quantile: Array, score: Array, level: Array, rate: Array) -> Array:
    """The running quantile that a share `level` of the scores exceeds, after one more score."""
    return larger(quantile * (1.0 + rate * where(score > quantile, 1.0 - level, -level)), LEAST_SCORE)


def rms_quantile(level: float, n_features: int) -> float:
    """What the root mean square of n independent standard normal values exceeds with probability `level`.

    Source: Wilson and Hilferty, "The distribution of chi-square", PNAS, 1931; within 2 % for the levels used here.
    """
    spread = 2.0 / (9.0 * n_features)
    return (1.0 - spread + NormalDist().inv_cdf(1.0 - level) * math.sqrt(spread)) ** 1.5


def larger(a: Array, b: Array) -> Array:
    """The larger of two numbers; a where they cannot be compared."""
    return where(b > a, b, a)


def smaller(a: Array, b: Array) -> Array:
    """The smaller of two numbers; a where they cannot be compared."""
    return where(b < a, b, a)


def once(*values: Array) -> tuple[Array, ...]:
    """The same values, computed once: left alone, XLA computes a sum again for every element that depends on it."""
    return jax.lax.optimization_barrier(values) if isinstance(values[0], jax.Array) else values
