"""Where the upper tail of usual numbers should end, read from their lower side, which high anomalies do not touch.

A quantile of all numbers is spent on the anomalies: where 5 % of the numbers are anomalies, the number that 1 % exceed
lies among them. What is usual shows elsewhere. With L(p) and U(p) the distances from the median m to the quantiles that
a share p lies below and above, Tukey's g-and-h laws have U(p) / L(p) = exp(g t(p)), t the normal quantile: one skewness
g, whatever the tails. At one sigma t = 1, so the middle of the numbers tells g, and their lower tail the rest:

    U(p) = L(p) (U(s) / L(s))^t(p),        s = 15.87 %.

This is exact for every symmetric law, heavy tails included, and for lognormal ones, and close for exponential, gamma,
chi and half-normal laws. Where far more numbers lie beyond than were asked for, the excess are anomalies. What lies
beyond the threshold then counts less in the quantiles here, or a tenth of anomalies would pass for skewness.

It cannot tell anomalies that overlap the tail from a tail: a hump that begins at the usual quantile itself looks like a
skewed law, and is taken for one.

Source: Tukey, "Modern techniques in data analysis", 1977; Hoaglin, "Summarizing shape numerically: the g-and-h
distributions", in "Exploring data tables, trends, and shapes", 1985. Tracking it online and the gate are ours.
"""

from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import larger, namespace, smaller, strong, where
from onlineguard.core.protocols import Array
from onlineguard.core.quantiles import normal_quantile
from onlineguard.core.shapes import Bool, Float, Float32

SIGMA = 0.15865525  # share of a normal law beyond one sigma on one side
RATE = (
    1e-3  # step of the three middle quantiles: a memory of some 4,000 numbers, or the ratio's noise is raised too high
)
LOW_RATE = 0.03  # and of the low one, which few numbers move; it must get there within a thousand of them
LOW_START = (20.0, 200.0)  # early step of the low one, 20 / (age + 200),
START = 50.0  # of the middle ones, 1 / (age + 50),
BEYOND_START = 500.0  # and of the share beyond, 1 / (age + 500)
GATE = 3.0  # target rates beyond the expected end from which on the excess begins to count, and in full one further
STEEPEST = 3.0  # a larger ratio U(s) / L(s) is a tail too heavy to be read from its lower side: a Pareto law of index 1
SHALLOWEST = 0.7  # below this the lower tail is much the longer one, and its noise drowns the upper one
NARROWEST = 0.1  # and smaller spreads than this are those of numbers that are mostly constant


class Tail(NamedTuple):
    """Running quantiles of standardised numbers, and how many lie beyond where usual ones should end."""

    lowest: Float32[Array, ""]  # a share target_rate lies below,
    lower: Float32[Array, ""]  # 16 %,
    middle: Float32[Array, ""]  # 50 %,
    upper: Float32[Array, ""]  # and 84 %
    beyond: Float32[Array, ""]  # share of the numbers above `end`


def start_tail(target_rate: float) -> Tail:
    """The quantiles of a normal law, in NumPy."""
    return Tail(*np.array([-normal_quantile(target_rate), -1.0, 0.0, 1.0, target_rate], np.float32))


def end(tail: Tail, target_rate: Float[Array, ""]) -> Float32[Array, ""]:
    """The number that a share `target_rate` of the usual ones should exceed."""
    steepness = smaller(_ratio(tail), STEEPEST)
    distance = tail.middle - tail.lowest
    return larger(tail.middle + distance * steepness ** upper_quantile(target_rate), tail.upper)


def trust(tail: Tail, target_rate: Float[Array, ""]) -> Float32[Array, ""]:
    """How far `end` is to be believed rather than a quantile of all numbers, from 0 to 1."""
    narrow = smaller(tail.upper - tail.middle, tail.middle - tail.lower) < NARROWEST
    ratio = _ratio(tail)
    readable = ~narrow & (ratio > SHALLOWEST) & (ratio < STEEPEST)
    excess = tail.beyond / target_rate - GATE
    return where(readable, smaller(larger(excess, 0.0 * excess), 0.0 * excess + 1.0), 0.0 * excess)


def learned_tail(
    tail: Tail,
    number: Float32[Array, ""],
    odd: Bool[Array, ""],
    target_rate: Float[Array, ""],
    age: Float32[Array, ""],
    weight: Float32[Array, ""],
) -> Tail:
    """The tail after one more number, `odd` where it lay beyond the threshold; a weight of 0 leaves it as it is."""
    counted = weight * where(odd, smaller(target_rate / larger(tail.beyond, strong(1e-6)), strong(1.0)), strong(1.0))
    step = counted * larger(strong(RATE), 1.0 / (age + START))
    low = counted * larger(strong(LOW_RATE), LOW_START[0] / (age + LOW_START[1]))
    low = low * larger(strong(1.0), -tail.lowest)  # in units of its own size: a heavy tail is far away
    beyond = weight * larger(strong(RATE), 1.0 / (age + BEYOND_START))

    def moved(quantile: Array, level: Array, rate: Array) -> Array:
        return quantile + rate * where(number > quantile, 1.0 - level, -level)

    past = where(number > end(tail, target_rate), strong(1.0), strong(0.0))
    return Tail(
        moved(tail.lowest, 1.0 - target_rate, low),
        moved(tail.lower, strong(1.0 - SIGMA), step),
        moved(tail.middle, strong(0.5), step),
        moved(tail.upper, strong(SIGMA), step),
        tail.beyond + beyond * (past - tail.beyond),
    )


def upper_quantile(share: Float[Array, ""]) -> Float32[Array, ""]:
    """What a standard normal value exceeds with a probability `share` up to .5, to within .0005.

    Source: Hastings, "Approximations for digital computers", 1955 (Abramowitz and Stegun, 26.2.23).
    """
    xp = namespace(share)
    t = xp.sqrt(-2.0 * xp.log(share))
    return t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)))


def _ratio(tail: Tail) -> Float32[Array, ""]:
    """U(s) / L(s), of spreads held at NARROWEST."""
    upper, lower = tail.upper - tail.middle, tail.middle - tail.lower
    return larger(upper, strong(NARROWEST)) / larger(lower, strong(NARROWEST))
