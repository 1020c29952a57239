"""Running quantiles of positive scores, tracked in the log: q <- q (1 + rate (1{score > q} - level)).

A step changes a quantile by a share of itself, so nobody has to name a unit. The share of scores above q converges to
`level`: over n events it differs from it by at most |ln q_n - ln q_0| / (rate n).

Source: the geometric quantile tracker of Andrew et al., "Differentially private learning with adaptive clipping",
NeurIPS 2021. Levels and rates are ours.
"""

import math
from statistics import NormalDist

from onlineguard.core.arrays import larger, where
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Float

# `docs/detector-constants.md` has the reason for each of these, and what changes when it is halved or doubled.
LEVELS = (0.5, 0.2, 0.05)  # shares of scores above the quantiles that shape a p-value, beside the target rate
LEVEL_RATE = 0.01  # step of the quantiles: a memory of some hundred events, 1 % of noise in a quantile
LEVEL_START = (20.0, 200.0)  # early step, 20 / (age + 200): ten times as long for the first 200 events
LEAST_SCORE = 0.1  # no quantile falls below: on a constant stream a change of one ulp is not odd


def quantile_rate(age: Float[Array, ""]) -> Float[Array, ""]:
    """The step of quantiles that `age` events have taught."""
    return larger(LEVEL_RATE, LEVEL_START[0] / (age + LEVEL_START[1]))


def moved_quantile(
    quantile: Float[Array, ""], score: Float[Array, ""], level: Float[Array, ""], rate: Float[Array, ""]
) -> Float[Array, ""]:
    """The running quantile that a share `level` of the scores exceeds, after one more score."""
    return larger(quantile * (1.0 + rate * where(score > quantile, 1.0 - level, -level)), LEAST_SCORE)


def normal_quantile(level: float) -> float:
    """What a standard normal value exceeds with probability `level`."""
    return NormalDist().inv_cdf(1.0 - level)


def rms_quantile(level: float, n_features: int) -> float:
    """What the root mean square of n independent standard normal values exceeds with probability `level`.

    Source: Wilson and Hilferty, "The distribution of chi-square", PNAS, 1931; within 2 % for the levels used here.
    """
    spread = 2.0 / (9.0 * n_features)
    return (1.0 - spread + normal_quantile(level) * math.sqrt(spread)) ** 1.5
