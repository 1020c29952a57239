"""The threshold: what `target_rate` of the usual scores exceed, found also where some per cent of the events are anomalies.

A running quantile alone is spent on the anomalies: where 7 % of the events are odd, the 1 % quantile lies among them. A
histogram of the log scores tells the two apart where there is a *valley* between them: scores beyond it do not count.
Its quantile also pulls the running one, which would take thousands of events to come down.

The histogram is read one bin an event, from the top down, so that no event costs more than another.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import choose, larger, namespace, smaller, to_float, where
from onlineguard.core.protocols import Array
from onlineguard.core.quantiles import LEAST_SCORE, LEVELS, moved_quantile, quantile_rate
from onlineguard.core.shapes import Bool, Float32, Int32

BINS = 64
BIN = 0.25  # of (ln score - ln median) / (ln fifth - ln median)
LEAST_UNIT = 0.05
DEPTH = 0.35  # a valley is lower than this share of the peak beyond it,
SIGNIFICANT = 3.0  # by so many standard deviations of the difference of two counts,
BEYOND = (0.013, 0.4)  # and this share of the events lies beyond it
EMPTY = 0.02  # a bin below this share of the peak is as good as empty, and the lowest of these is the valley
PULL = 0.5
EARLY_PULL = 2_000.0
LATE_PULL = 0.1
REACH = 1 / 20
NEAR = 2.0
FAR_SHARE = 0.5  # what lies beyond reach counts as this share of target_rate, at most


class Walk(NamedTuple):
    """A reading of the histogram under way, from the top bin down."""

    at: Int32[Array, ""]  # the bin that comes next
    above: Float32[Array, ""]  # share of the events above it
    peak: Float32[Array, ""]  # highest bin above it
    lowest: Float32[Array, ""]  # lowest valley so far
    valley: Float32[Array, ""]  # where it lies, ln score
    counted: Float32[Array, ""]  # share of the events between it and here
    quantile: Float32[Array, ""]  # ln of the score that target_rate of the counted exceed; NaN until it is passed


class Budget(NamedTuple):
    """What is usual of the joint scores."""

    median: Float32[Array, ""]  # the score that 50 % of the events exceed,
    fifth: Float32[Array, ""]  # 20 %,
    twentieth: Float32[Array, ""]  # 5 %,
    threshold: Float32[Array, ""]  # and target_rate of them
    far: Float32[Array, ""]  # running share of the scores beyond reach
    histogram: Float32[Array, " bins"]  # of ln score; shares
    valley: Float32[Array, ""]  # scores beyond do not count; infinite if there is none
    walk: Walk

    @classmethod
    def blank(cls, target_rate: float) -> "Budget":
        levels = (*LEVELS, target_rate)
        quantiles = [np.float32(math.exp(0.2 * math.log(0.5 / level)) * 0.8) for level in levels]
        zero = np.float32(0.0)
        return cls(*quantiles, zero, np.zeros(BINS, np.float32), np.float32(np.inf), _start(zero))


def _start(zero):
    inf = zero + np.float32(np.inf)
    return Walk(np.int32(BINS - 1), zero, zero, inf, inf, zero, zero + np.float32(np.nan))


def learned_budget(
    budget: Budget, score: Float32[Array, ""], age: Array, usual: Array, target_rate: Array, patience: Array
) -> Budget:
    xp = namespace(score)
    middle = xp.log(budget.median)
    unit = larger(xp.log(budget.fifth) - middle, LEAST_UNIT)
    log_score = (xp.log(larger(score, 1e-6)) - middle) / unit
    rate = usual * quantile_rate(age)
    memory = larger(1.0 / patience, 2.0 / (age + 2.0))
    steps = xp.log(LEVELS[2] / (REACH * target_rate)) / math.log(LEVELS[1] / LEVELS[2])
    reach = larger(budget.twentieth * (budget.twentieth / budget.fifth) ** steps, NEAR * budget.threshold)
    beyond = score > reach
    counts = where(xp.log(score) > budget.valley, 0.0, where(beyond, smaller(FAR_SHARE * target_rate / larger(budget.far, 1e-6), 1.0), 1.0))
    far = budget.far + usual * memory * (where(beyond, 1.0, 0.0) - budget.far)
    twentieth = moved_quantile(budget.twentieth, score, LEVELS[2], where(xp.log(score) > budget.valley, 0.0, rate))
    threshold = moved_quantile(budget.threshold, score, target_rate, rate * counts)
    place = smaller(larger(xp.floor(log_score / BIN), 0.0), BINS - 1.0)
    bins = xp.where(xp.arange(BINS, dtype=np.float32) == place, 1.0, 0.0)
    histogram = budget.histogram + usual * memory * (bins - budget.histogram)
    walk, done = _walked(budget.walk, histogram, target_rate, smaller(age, patience))
    done = done & (usual > 0.0)
    pull = where(age < EARLY_PULL, PULL, LATE_PULL)
    pull = where(done & (walk.quantile == walk.quantile) & (age > 64.0), pull * usual, 0.0)
    quantile = where(pull > 0.0, middle + unit * walk.quantile, xp.log(threshold))
    threshold = threshold * xp.exp(pull * (quantile - xp.log(threshold)))
    valley = where(done, middle + unit * smaller(walk.valley, 1e3), budget.valley)
    fresh = _start(0.0 * score)
    walk = choose(done, fresh, choose(usual > 0.0, walk, budget.walk))
    return Budget(
        moved_quantile(budget.median, score, LEVELS[0], rate),
        moved_quantile(budget.fifth, score, LEVELS[1], rate),
        twentieth,
        larger(threshold, where(target_rate < LEVELS[2], budget.fifth, LEAST_SCORE)),
        far,
        histogram,
        valley,
        walk,
    )


def _walked(walk: Walk, histogram: Array, target_rate: Array, events: Array) -> tuple[Walk, Bool[Array, ""]]:
    """The reading after the next bin, and whether it was the last."""
    xp = namespace(histogram)
    below = walk.at - xp.arange(BINS, dtype=np.int32)
    place = abs(below)
    here = histogram @ xp.where(place == 0, np.float32(1.0), np.float32(0.0))
    pair = histogram @ xp.where((place == 0) | (below == 1), np.float32(0.5), np.float32(0.0))
    top = BIN * (to_float(walk.at) + 1.0)
    difference, total = walk.peak - pair, walk.peak + pair
    clear = (pair < DEPTH * walk.peak) & (2.0 * events * difference * difference > SIGNIFICANT**2 * total)
    found = clear & (walk.above > BEYOND[0]) & (walk.above < BEYOND[1])
    found = found & (pair <= larger(walk.lowest, EMPTY * walk.peak))
    counted = where(found, 0.0, walk.counted)
    usual = 1.0 - where(found, walk.above, walk.above - walk.counted)
    valley = where(found, top, walk.valley)
    goal = target_rate * usual
    passed = (counted + here >= goal)
    inside = top - BIN * (goal - counted) / larger(here, 1e-9)
    quantile = where(found, np.nan, walk.quantile)
    quantile = where(passed & ~(quantile == quantile), inside, quantile)
    after = Walk(
        walk.at - 1,
        walk.above + here,
        larger(walk.peak, pair),
        where(found, pair, walk.lowest),
        valley,
        counted + here,
        quantile,
    )
    return after, walk.at <= 0
