"""Array operations that mean the same for NumPy and for JAX, and are quick for single numbers.

`np.where` between two NumPy scalars takes 1 us, a conditional expression 0.05 us; an estimator stepped one event at a
time is made of such scalars. Those in float64 are plain Python floats where they can be, the quickest of all.
"""

import math
from typing import Any

import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float, Int32

LARGE = 1e17  # distances beyond this count as this: their squares, and sums of these, stay within float32
SMALL = 1e-30  # and lengths below this count as zero: their reciprocals stay within float32
LOG_OVERFLOW = 709.0  # e to more than this is beyond float64
COUNT_LIMIT = 2**31 - 2  # leaves room for one more in int32

_NUMPY = (np.ndarray, np.generic, float, int)


def namespace(x: Array) -> Any:
    """The array library of `x`: numpy for NumPy arrays and plain numbers, jax.numpy for JAX arrays and tracers."""
    return np if isinstance(x, _NUMPY) else x.__array_namespace__()


def where(condition: Bool[Array, "..."], x: Array, y: Array) -> Array:
    """`x` where the condition holds, else `y`; the condition has the shape of the result."""
    if condition is True or condition is False or isinstance(condition, np.bool):  # in the order of their frequency
        return x if condition else y
    xp = namespace(condition)
    return np.where(condition, strong(x), strong(y)) if xp is np else xp.where(condition, x, y)


def choose(condition: Bool[Array, "*lead"], new: Any, old: Any) -> Any:
    """`where` for arrays and named tuples whose leading axes are those of the condition."""
    if condition is True or condition is False or isinstance(condition, np.bool):
        return new if condition else old
    if isinstance(new, tuple):
        return type(new)(*(choose(condition, a, b) for a, b in zip(new, old, strict=True)))  # type: ignore[call-arg]
    return where(lengthen(condition, new), new, old)


def lengthen(x: Array, like: Array) -> Array:
    """`x` with unit axes appended until it has as many as `like`, whose leading axes it shares."""
    axes: int = getattr(x, "ndim", 0)
    return x if axes == 0 else x.reshape(x.shape + (1,) * (like.ndim - axes))


def log(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The natural logarithm of a positive number; a plain float for a plain float or a NumPy float64."""
    return math.log(x) if isinstance(x, float) else namespace(x).log(x)


def exp(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """e^x, infinite where it overflows; a plain float for a plain float or a NumPy float64."""
    if isinstance(x, float):
        return math.exp(x) if x < LOG_OVERFLOW else math.inf
    return namespace(x).exp(x)


def plain(state: Any) -> Any:
    """A state, in NumPy, with plain Python numbers in place of scalars."""
    if isinstance(state, tuple):
        return type(state)(*map(plain, state)) if hasattr(state, "_fields") else tuple(map(plain, state))  # type: ignore[call-arg]
    return state.item() if np.ndim(state) == 0 and isinstance(state, np.generic | np.ndarray) else state


def to_float(count: Int32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """An int32 count as float32, or as a plain float, which takes the type of what it meets."""
    return float(count) if isinstance(count, np.generic | int) else count.astype(np.float32)


def strong(x: Array) -> Array:
    """A plain float as a NumPy float32; what it meets then keeps that type. Arrays stay as they are."""
    return np.float32(x) if isinstance(x, float | int) else x


def saturating_add(count: Int32[Array, "*shape"], more: Bool[Array, "*shape"]) -> Int32[Array, "*shape"]:
    """`count + 1` where `more` holds, else `count`; stays at the largest count instead of wrapping."""
    return where(more & (count < COUNT_LIMIT), count + 1, count)


def finite(x: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Whether x is neither NaN nor infinite."""
    return abs(x) < np.inf if isinstance(x, np.floating) else namespace(x).isfinite(x)


def capped(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x` held within the largest distance that is told apart; NaN stays NaN."""
    if isinstance(x, np.floating):
        x = x if x < LARGE else np.float32(LARGE) if x > 0 else x
        return x if not x < -LARGE else np.float32(-LARGE)
    xp = namespace(x)
    return xp.minimum(xp.maximum(x, -LARGE), LARGE)


def put(rows: Array, at: Int32[Array, ""], row: Array) -> Array:
    """The rows with the one at an index replaced; none if the index is -1. A mask is quicker than a scatter here."""
    xp = namespace(rows)
    there = xp.arange(rows.shape[0], dtype=np.int32) == at
    return xp.where(there[:, None], row[None], rows) if rows.ndim > 1 else xp.where(there, row, rows)


def safe_norm(x: Float[Array, "..."], axes: int = 1) -> Float[Array, "*lead"]:
    """L2 norm over the last `axes` axes; a length below 1e-30 counts as zero.

    Scaled by the largest component, so that no square overflows or vanishes; the bounds keep its reciprocal from doing
    so either, into which XLA turns a division.
    """
    xp = namespace(x)
    trailing = tuple(range(-axes, 0))
    peak = abs(x).max(trailing)
    positive = peak > SMALL
    unit = x / lengthen(where(positive, peak, 1.0), x)
    return where(positive, peak * xp.sqrt((unit * unit).sum(trailing)), 0.0 * peak)


def larger(a: Array, b: Array) -> Array:
    """The larger of two numbers; a where they cannot be compared."""
    return where(b > a, b, a)


def smaller(a: Array, b: Array) -> Array:
    """The smaller of two numbers; a where they cannot be compared."""
    return where(b < a, b, a)


def barrier(*values: Array) -> tuple[Array, ...]:
    """The same values, computed once: left alone, XLA computes a sum again for every element that depends on it."""
    if isinstance(values[0], _NUMPY):
        return values
    import jax  # here and not above: NumPy needs no JAX, which may not be installed

    return jax.lax.optimization_barrier(values)


def in_one_loop(x: Array) -> Array:
    """The same values, computed once, in one loop over all of them: XLA makes scalar code of one over short rows."""
    return x if isinstance(x, _NUMPY) else barrier(x.reshape(-1))[0].reshape(x.shape)
