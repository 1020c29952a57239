"""What the operator says of features: that only one side of one is odd, or that one weighs more than others.

Both act on standardised residuals before a score is made of them. Learning never sees them, so they change no location
and no scale.
"""

import numpy as np

from onlineguard.core.arrays import namespace
from onlineguard.core.shapes import Float32

Sides = tuple[int, ...]  # for each feature: 1 where only high values are odd, -1 where only low ones, 0 for both
Weights = tuple[float, ...]  # for each feature: its residual counts as that many times as large


def sided(z: Float32[np.ndarray, " width"], sides: Sides) -> Float32[np.ndarray, " width"]:
    """Residuals, 0 on the side that is not odd."""
    if not any(sides):
        return z
    return namespace(z).where(_padded(sides, 0, z.shape[-1]) * z < 0.0, 0.0, z)


def weighed(z: Float32[np.ndarray, "*rows width"], weights: Weights) -> Float32[np.ndarray, "*rows width"]:
    """Residuals, each as many times as large as its feature counts."""
    if not weights:
        return z
    return z * _padded(weights, 1, z.shape[-1]).reshape((1,) * (z.ndim - 1) + (-1,))


def _padded(values: tuple[float, ...], spare: float, width: int) -> Float32[np.ndarray, " width"]:
    return np.array([*values, *[spare] * (width - len(values))], np.float32)
