"""Arrays padded to powers of two, the only sizes that a Triton kernel knows.

What is computed of the padding means nothing, so an operation that mixes numbers keeps it out. A number or an array
that is known while a step is traced is kept in NumPy.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from onlineguard.core.protocols import Array

LONGEST_CONSTANT = 64  # numbers of a constant array, each a comparison and a choice


class NotInAKernel(Exception):
    """A step has an operation that no kernel can hold; the message names it."""


class Padded(NamedTuple):
    """An array whose sizes are rounded up to powers of two; what lies beyond `shape` means nothing."""

    array: Array
    shape: tuple[int, ...]


class Folded(NamedTuple):
    """An array that was given another shape, in which nothing may be done with it until it has its own again."""

    whole: Padded
    shape: tuple[int, ...]


Value = Padded | Folded | np.ndarray | np.generic


def padded_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The sizes, rounded up to powers of two."""
    return tuple(1 << (max(size, 1) - 1).bit_length() for size in shape)


def inside(shape: Sequence[int], axes: Sequence[int] | None = None) -> Array | None:
    """Where an array of this shape, padded, holds its numbers; None if it has no padding along these axes."""
    whole = padded_shape(shape)
    found = None
    for axis in range(len(shape)) if axes is None else axes:
        if shape[axis] != whole[axis]:
            there = lax.broadcasted_iota(np.int32, whole, axis) < shape[axis]
            found = there if found is None else found & there
    return found


def as_padded(value: Value) -> Padded:
    """A value as a padded array."""
    if isinstance(value, Padded):
        return value
    if isinstance(value, Folded):
        raise NotInAKernel(f"arithmetic on {value.whole.shape} as {value.shape}")
    numbers: Any = np.asarray(value)
    shape = numbers.shape
    whole = padded_shape(shape)
    first = numbers.flat[0]
    if (numbers == first).all() or (numbers != numbers).all():
        return Padded(lax.full(whole, first, numbers.dtype) if shape else first, shape)
    if numbers.size > LONGEST_CONSTANT or numbers.size != max(shape):
        raise NotInAKernel(f"a constant array of shape {shape}")
    at = lax.broadcasted_iota(np.int32, whole, shape.index(numbers.size))
    array = lax.full(whole, first, numbers.dtype)
    for i, number in enumerate(numbers.flat[1:], 1):
        array = jnp.where(at == i, number, array)
    return Padded(array, shape)


def spread(value: Value, whole: tuple[int, ...]) -> Array:
    """The padded array of a value, a single number on all places."""
    array = as_padded(value).array
    return array if np.shape(array) == whole else jnp.broadcast_to(array, whole)


def chosen(condition: Array, x: Array, y: Array) -> Array:
    return lax.select_n(condition, y, x)


def filled_like(x: Array, number: float) -> Array:
    """An array like x, of one number."""
    return lax.full(np.shape(x), number, jnp.result_type(x)) if np.ndim(x) else jnp.result_type(x).type(number)


def reshaped(array: Array, shape: tuple[int, ...]) -> Array:
    return array if array.shape == shape else lax.reshape(array, shape)


def total(array: Array, axes: tuple[int, ...]) -> Array:
    """The sum over axes; of flags, whether there is any."""
    if array.dtype == np.bool_:
        return lax.reduce_sum(array.astype(np.int32), axes) > 0
    return lax.reduce_sum(array, axes)
