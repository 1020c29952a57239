"""Float32 numbers by their bits: exact orders and logarithms that NumPy and every backend agree on to the last bit.

The bits of a number that is not negative, read as an int32, are in the order of the numbers. The compiler turns a sum,
a minimum or a maximum of integers into vector instructions, which it may not do with floats, whose sums depend on the
order and whose minima on NaN.
"""

import numpy as np

from onlineguard.core.arrays import namespace
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Float32, Int32

MANTISSA = 23  # bits after the exponent's
BIAS = 127  # of the exponent: 1.0 has this one
REST = (1 << MANTISSA) - 1  # the bits of the mantissa
QUARTERS = tuple(int(np.float32(2.0 ** (i / 4)).view(np.int32)) & REST for i in (1, 2, 3))  # of 2^(1/4), 2^(1/2), ...


def bits(x: Float32[Array, "*shape"]) -> Int32[Array, "*shape"]:
    """The bits of numbers that are not negative; in their order."""
    return _viewed(x, np.int32)


def from_bits(x: Int32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """The numbers that have these bits."""
    return _viewed(x, np.float32)


def octave(x: Float32[Array, "*shape"]) -> Int32[Array, "*shape"]:
    """The floor of log2 x of a normal positive number; -127 for 0."""
    return (bits(x) >> MANTISSA) - BIAS


def fraction(x: Float32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """How far a normal positive number lies in its octave, in [0, 1)."""
    return (bits(x) & REST).astype(np.float32) * np.float32(2.0**-MANTISSA)


def quarter(x: Float32[Array, "*shape"]) -> Int32[Array, "*shape"]:
    """The floor of 4 log2 x of a normal positive number; -508 for 0."""
    rest = bits(x) & REST
    steps = sum((rest >= edge).astype(np.int32) for edge in QUARTERS)
    return 4 * octave(x) + steps


def least(x: Float32[Array, "*lead n"]) -> Float32[Array, "*lead"]:
    """The smallest along the last axis of numbers that are not negative."""
    return from_bits(namespace(x).min(bits(x), -1))


def _viewed(x: Array, kind: type[np.generic]) -> Array:
    """The same bits as numbers of another type."""
    if isinstance(x, np.ndarray | np.generic):
        return x.view(kind)
    import jax  # here and not above: NumPy needs no JAX, which may not be installed

    return jax.lax.bitcast_convert_type(x, kind)
