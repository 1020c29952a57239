"""The threshold: what `target_rate` of the usual scores exceed, also where some per cent of the events are anomalies.

A running quantile alone is spent on the anomalies: where 7 % of the events are odd, the 1 % quantile lies among them. A
histogram of the log scores tells the two apart where there is a *valley* between them: scores beyond it do not count.
Without a valley the two cannot be told apart, and the threshold rises into the anomalies. The histogram's quantile
also pulls the running one, which would take thousands of events to come down. It pulls no higher than the largest score
of late: where the spread of the scores has grown, old ones lie in bins that now mean far larger ones.

The scores of features that mostly repeat one value stand apart too: where ten features differ from it in 1 % of the
events each, a tenth of the events lie beyond a valley, and all are usual. So what is odd for a rare value alone makes
no valley, and counts beyond one.

Between the scores of whole numbers are gaps as well: of counts that are 0, 1 or 2 as a rule, a tenth may be 3 or more.
There the piece of scores next below the gap is a single number, with another gap on its other side. Such a stream has
no valley.

Scores beyond the reach of a Pareto tail fitted to the upper fifth count little, but they count in full where they are
as few as half of `target_rate`: scattered far events are usual in many streams.

The histogram is read one bin an event, from the top down, so that no event costs more than another.

Source: the running quantiles are those of `core.quantiles`. Reach, valley and reading are ours.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import choose, larger, namespace, smaller, to_float, where
from onlineguard.core.protocols import Array
from onlineguard.core.quantiles import LEAST_SCORE, LEVELS, moved_quantile, quantile_rate
from onlineguard.core.shapes import Bool, Float, Float32, Int32

FOUR_FIFTHS = 0.8  # share of scores above the quantile that shapes the p-values of usual events
BINS = 64
BIN = 0.25  # width, in units of ln fifth - ln median; the bins begin at the median
LEAST_UNIT = 0.05  # nats
HALF_WAY = 8.0  # units from the median that the score which 5 % exceed is at, at most: in the middle of the bins
DEPTH = 0.35  # a valley is lower than this share of the peak beyond it,
SIGNIFICANT = 3.0  # by so many standard deviations of the difference of two counts,
BEYOND = (0.013, 0.1)  # and this share of the events lies beyond it: what is more frequent is usual
EXPLAINED = 0.5  # where a larger share of what lies beyond is odd for a rare value alone, it is usual
EMPTY = 0.02  # a bin below this share of the peak is as good as empty, and the lowest of these is the valley
# This share of the largest score of late is forgotten in as many events as the target rate allows one alarm. Where all
# of it was forgotten at each reading, a rate of .001 had 1.4 times the alarms.
LATE = 0.03
SINGLE = 1 / 3  # a piece of the scores is a single number if this share of it lies in one pair of bins
PULL = (0.5, 0.1)  # how far the histogram pulls the threshold when it has been read, early, and late; late only by what
# is more than a bin, since a running quantile is the finer one: it holds the share, whatever the law
EARLY = 2_000.0  # events
CROWDED_RATE = 0.1  # early step of the threshold where the histogram's top bin holds more than target_rate, so that it
# says nothing: a single feature that is mostly zero has scores a hundred times as far as its median
REACH = 1 / 20  # the tail is trusted down to this share of target_rate
NEAR = 2.0  # thresholds within which a score is always trusted
FAR_SHARE = 0.5  # what lies beyond reach counts as this share of target_rate, at most
FIRST_UNIT = 0.2  # nats from the median to the fifth, before any score
FIRST_MEDIAN = 0.8


class Walk(NamedTuple):
    """A reading of the histogram under way, from the top bin down; places are in units, see BIN."""

    at: Int32[Array, ""]  # the bin that comes next
    above: Float32[Array, ""]  # share of the events above it,
    unexplained: Float32[Array, ""]  # and of those among them that are odd for more than a rare value
    peak: Float32[Array, ""]  # highest pair of bins above it
    lowest: Float32[Array, ""]  # lowest valley so far; negative once gaps are seen to be usual
    valley: Float32[Array, ""]  # where it lies; infinite if there is none
    counted: Float32[Array, ""]  # share of the events between it and here, with those beyond it that are explained
    quantile: Float32[Array, ""]  # what target_rate of the counted exceed,
    explained: Float32[Array, ""]  # and of the explained alone; NaN until it is passed


class Scores(NamedTuple):
    """What is usual of the scores."""

    median: Float32[Array, ""]  # the score that 50 % of the events exceed,
    fifth: Float32[Array, ""]  # 20 %,
    twentieth: Float32[Array, ""]  # 5 %,
    threshold: Float32[Array, ""]  # target_rate
    four_fifths: Float32[Array, ""]  # and 80 % of them
    middle: Float32[Array, ""]  # slow mean of ln median, at which the bins begin,
    unit: Float32[Array, ""]  # and of ln fifth - ln median: quantiles that jitter would blur the histogram
    far: Float32[Array, ""]  # running share of the scores beyond reach
    histogram: Float32[Array, " bins"]  # shares,
    unexplained: Float32[Array, " bins"]  # and of what is odd for more than a rare value
    valley: Float32[Array, ""]  # ln of the score beyond which scores do not count
    walk: Walk

    @classmethod
    def blank(cls, target_rate: float) -> "Scores":
        """Before any score, in NumPy."""
        unit = FIRST_UNIT / math.log(LEVELS[0] / LEVELS[1])

        def quantile(level: float) -> np.float32:
            return np.float32(FIRST_MEDIAN * math.exp(unit * math.log(LEVELS[0] / level)))

        zero = np.float32(0.0)
        return cls(
            *(quantile(level) for level in (*LEVELS, target_rate, FOUR_FIFTHS)),
            middle=np.float32(math.log(FIRST_MEDIAN)),
            unit=np.float32(FIRST_UNIT),
            far=zero,
            histogram=np.zeros(BINS, np.float32),
            unexplained=np.zeros(BINS, np.float32),
            valley=np.float32(np.inf),
            walk=_start(zero),
        )


def learned_scores(
    scores: Scores,
    highest: Float32[Array, ""],
    score: Float32[Array, ""],
    rare: Bool[Array, ""],
    age: Float32[Array, ""],
    weight: Float32[Array, ""],
    target_rate: Float[Array, ""],
    patience: Float[Array, ""],
) -> tuple[Scores, Float32[Array, ""]]:
    """The scores after a score, and the ln of the highest of late.

    A weight of 0 changes nothing. `rare`: the event is odd for a rare value alone.
    """
    xp = namespace(score)
    learns = weight > 0.0
    log_score, log_median = xp.log(larger(score, LEAST_SCORE**2)), xp.log(scores.median)
    memory = weight * larger(1.0 / patience, 2.0 / (age + 2.0))
    middle = scores.middle + memory * (log_median - scores.middle)
    log_fifth, log_twentieth = xp.log(scores.fifth), xp.log(scores.twentieth)
    wide = larger(log_fifth, log_twentieth / HALF_WAY + (1.0 - 1.0 / HALF_WAY) * log_median)
    spread = scores.unit + memory * (wide - log_median - scores.unit)
    unit = larger(spread, LEAST_UNIT)
    place = smaller(larger(xp.floor((log_score - middle) / unit / BIN), 0.0), BINS - 1.0)
    bins = xp.where(xp.arange(BINS, dtype=np.float32) == place, 1.0, 0.0)
    histogram = scores.histogram + memory * (bins - scores.histogram)
    unexplained = scores.unexplained + memory * (where(rare, 0.0, 1.0) * bins - scores.unexplained)
    worth = where(spread > LEAST_UNIT, smaller(age, patience), 0.0)  # where most scores are equal, no gap is a valley
    walk, done = _walked(scores.walk, histogram, unexplained, target_rate, worth)
    done = done & learns
    highest = where(learns, larger(highest, log_score), highest)

    steps = xp.log(LEVELS[2] / (REACH * target_rate)) / math.log(LEVELS[1] / LEVELS[2])
    reach = log_twentieth + steps * (log_twentieth - log_fifth)
    far = (log_score > reach) & (score > NEAR * scores.threshold)
    trust = where(far, smaller(FAR_SHARE * target_rate / larger(scores.far, 1e-6), 1.0), 1.0)
    rate = weight * quantile_rate(age)
    crowded = (histogram[BINS - 1] > target_rate) & (age < EARLY)
    counted = where((log_score > scores.valley) & ~rare, 0.0, larger(rate, where(crowded, weight * CROWDED_RATE, 0.0)))
    twentieth = moved_quantile(scores.twentieth, score, LEVELS[2], counted)
    log_threshold = xp.log(moved_quantile(scores.threshold, score, target_rate, counted * trust))
    pulls = done & (abs(walk.quantile) < math.inf) & (age > BINS)
    pull = where(pulls, where(age < EARLY, PULL[0], PULL[1]), 0.0)
    goal = smaller(middle + unit * walk.quantile, larger(highest, log_threshold))
    gap = where(pulls, goal, log_threshold) - log_threshold
    idle = where(age < EARLY, 0.0, BIN * unit)
    gap = where(gap > 0.0, larger(gap - idle, 0.0), smaller(gap + idle, 0.0))
    threshold = xp.exp(log_threshold + pull * gap)
    learned = Scores(
        moved_quantile(scores.median, score, LEVELS[0], rate),
        moved_quantile(scores.fifth, score, LEVELS[1], rate),
        twentieth,
        larger(threshold, where(target_rate < LEVELS[1], scores.fifth, LEAST_SCORE)),
        moved_quantile(scores.four_fifths, score, FOUR_FIFTHS, rate),
        middle,
        spread,
        scores.far + memory * (where(far, 1.0, 0.0) - scores.far),
        histogram,
        unexplained,
        where(done, middle + unit * walk.valley, scores.valley),
        choose(done, _start(0.0 * score), choose(learns, walk, scores.walk)),
    )
    forgotten = smaller(LATE * BINS * target_rate, 1.0) * (highest - log_median)
    return learned, highest - where(done, forgotten, 0.0)


def _start(zero: Float32[Array, ""]) -> Walk:
    """Before the top bin."""
    inf, nan = zero + np.float32(np.inf), zero + np.float32(np.nan)
    return Walk(np.int32(BINS - 1), zero, zero, zero, inf, inf, zero, nan, nan)


def _walked(
    walk: Walk,
    histogram: Float32[Array, " bins"],
    unexplained: Float32[Array, " bins"],
    target_rate: Float[Array, ""],
    events: Float32[Array, ""],
) -> tuple[Walk, Bool[Array, ""]]:
    """The reading after the next bin, and whether it was the last; the histogram is worth so many events."""
    here = histogram[walk.at]
    pair = 0.5 * (here + where(walk.at > 0, histogram[larger(walk.at - 1, 0)], 0.0))
    top = BIN * (to_float(walk.at) + 1.0)
    difference, total = walk.peak - pair, walk.peak + pair
    clear = (pair < DEPTH * walk.peak) & (2.0 * events * difference * difference > SIGNIFICANT**2 * total)
    found = clear & (walk.unexplained > larger(BEYOND[0], EXPLAINED * walk.above)) & (walk.above < BEYOND[1])
    found = found & (pair <= larger(walk.lowest, EMPTY * walk.peak)) & (walk.lowest >= 0.0)
    single = (walk.peak > SINGLE * walk.counted) & (2.0 * walk.counted > walk.above)
    usual = clear & ~found & (walk.valley < math.inf) & single
    explained = walk.above - walk.unexplained
    counted = where(found, explained, walk.counted)
    quantile = where(found, walk.explained, walk.quantile)
    passed = _passed(top, here, counted, target_rate * (1.0 - walk.above + counted), quantile)
    alone = _passed(top, here - unexplained[walk.at], explained, target_rate * (1.0 - walk.unexplained), walk.explained)
    after = Walk(
        walk.at - 1,
        walk.above + here,
        walk.unexplained + unexplained[walk.at],
        larger(walk.peak, pair),
        where(usual, -1.0, where(found, pair, walk.lowest)),
        where(usual, math.inf, where(found, top, walk.valley)),
        counted + here,
        where(usual, math.inf, passed),
        alone,
    )
    return after, walk.at <= 0


def _passed(
    top: Float32[Array, ""],
    here: Float32[Array, ""],
    above: Float32[Array, ""],
    goal: Float32[Array, ""],
    quantile: Float32[Array, ""],
) -> Float32[Array, ""]:
    """The quantile, or where above + here reach the goal in this bin, if they do for the first time."""
    into = larger(goal - above, 0.0) / larger(here, 1e-9)
    inside = where(top >= BIN * BINS, math.inf, top - BIN * into)  # the top bin has no end
    return where((above + here >= goal) & ~(quantile == quantile), inside, quantile)
