"""How far residuals lie along the directions in which they hardly vary: a running inverse covariance.

With C the forgetting covariance of the residuals y, the squared distance is y' C^-1 y / d. P = C^-1 itself is kept:

    C <- (1 - r) C + r w y y' + r RIDGE d e_j e_j'

are two rank-one changes, each of which changes P by an outer product (Sherman and Morrison). j goes round the
features, so that the second keeps C above RIDGE in every direction. w = min(1, CLIP^2 / (y' P y / d)) shortens
odd events to CLIP.

Source: recursive least squares with exponential forgetting and leakage; the weight is Huber's, as in Maronna,
"Robust M-estimators of multivariate location and scatter", Annals of Statistics, 1976.
"""

from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import barrier, in_one_loop, larger, smaller, where
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Float32, Int32
from onlineguard.models.carrying import Columns, remaining

RIDGE = 0.02  # least variance in any direction; .005 and .08 rank alike
CLIP = 2.5  # scales; 1.5 and 5 rank alike
LEAST = 1e-6  # of y' P y, to divide by


class Covariance(NamedTuple):
    """The inverse covariance of the residuals."""

    inverse: Float32[Array, "d d"]  # symmetric, bit for bit
    turn: Int32[Array, ""]  # the feature whose ridge is renewed next

    @classmethod
    def blank(cls, width: int) -> "Covariance":
        """Of independent residuals of unit variance, in NumPy."""
        return cls(np.eye(width, dtype=np.float32), np.int32(0))


def transformed(covariance: Covariance, y: Float32[Array, " d"]) -> Float32[Array, " d"]:
    """P y, of which the product with y is the squared Mahalanobis distance."""
    return in_one_loop(covariance.inverse) @ y


def learned_covariance(
    covariance: Covariance,
    y: Float32[Array, " d"],
    py: Float32[Array, " d"],
    quadratic: Float32[Array, ""],
    count: Float32[Array, ""],
    rate: Float32[Array, ""],
) -> Covariance:
    """The covariance after residuals y with P y and y' P y; a rate of 0 changes nothing."""
    p, turn = covariance
    d = y.shape[-1]
    weight = smaller(CLIP * CLIP * count / larger(quadratic, LEAST), 1.0)
    keep = 1.0 - rate
    # (keep C + g y y')^-1 = (P - a P y y' P) / keep
    gain = rate * weight
    u = py * (gain / (keep + gain * larger(quadratic, 0.0))) ** 0.5
    column = (p[turn] - u * u[turn]) / keep
    gain = rate * RIDGE * d
    v = column * (gain / (1.0 + gain * larger(column[turn], 0.0))) ** 0.5
    u, v, scale = barrier(u, v, 1.0 / keep)
    inverse = (p - u[:, None] * u[None]) * scale - v[:, None] * v[None]
    return Covariance(inverse, where(rate > 0.0, where(turn + 1 >= d, 0, turn + 1), turn))


def carried_covariance(covariances: Covariance, columns: Columns, width: int) -> Covariance:
    """Stacked covariances for other features; NumPy.

    The covariance of those that remain is as it was, up to rounding: for each that goes, P - p p' / P_jj with p its
    column. New ones are independent of all others and have unit variance.
    """
    after, before = remaining(columns)
    inverse = covariances.inverse.astype(np.float64)
    for j in np.setdiff1d(np.arange(inverse.shape[-1]), before):
        column = inverse[:, j].copy()
        pivot = np.maximum(column[:, j], LEAST)
        inverse -= column[:, :, None] * column[:, None, :] / pivot[:, None, None]
    found = np.repeat(np.eye(width, dtype=np.float32)[None], len(inverse), axis=0)
    found[:, after[:, None], after] = inverse[:, before[:, None], before]
    return Covariance(found, covariances.turn % np.int32(width))
