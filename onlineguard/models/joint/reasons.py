"""Why an event is far from what is usual, in the unit of the data; NumPy, for people."""

import math

import numpy as np

from onlineguard.core.shapes import Float32, Float64
from onlineguard.core.spread import Memory
from onlineguard.models.joint.covariance import Covariance
from onlineguard.models.joint.mostly_constant import Modes, mostly_constant

OFF_MODE = 0.9  # half the residual of a value off a mode that has 85 % of the events; rarer ones have larger ones
PAIR = 0.25  # least share of the Mahalanobis distance that a pair is named for


def expected(
    covariance: Covariance, y: Float32[np.ndarray, " d"], py: Float32[np.ndarray, " d"]
) -> Float64[np.ndarray, " d"]:
    """The residual of each feature that follows from those of all others: their regression on each other.

    Source: with P the inverse covariance, E(y_j | the others) = y_j - (P y)_j / P_jj.
    """
    return y.astype(np.float64) - py / np.diagonal(covariance.inverse)


def pair(covariance: Covariance, y: Float32[np.ndarray, " d"], quadratic: float) -> tuple[int, ...]:
    """The two features whose relation the event breaks most; () if none is worth a quarter of the distance."""
    terms = np.triu(2.0 * covariance.inverse * y[:, None] * y[None], 1)
    at = int(terms.argmax())
    return divmod(at, len(y)) if terms.flat[at] > PAIR * quadratic else ()


def as_values(
    residuals: Float64[np.ndarray, " d"], memory: Memory, modes: Modes, far: float
) -> Float64[np.ndarray, " d"]:
    """Residuals as values; of a mostly constant feature its mode, and NaN where the residual is rather one off it.

    Residuals beyond `far` had been shortened to far (1 + ln(z / far)).
    """
    size = abs(residuals)
    z = np.where(size > far, np.copysign(far * np.exp(np.minimum(size, 80.0 * far) / far - 1.0), residuals), residuals)
    at_mode = np.where(size < OFF_MODE, modes.value, math.nan)
    return np.where(mostly_constant(modes), at_mode, memory.location + z * memory.scale)
