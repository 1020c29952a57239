"""What a model's step is made of, on arrays padded to powers of two.

- What works number by number is done on the padding as well.
- A reduction first puts what changes nothing in the padding: 0 in a sum, the least number in a maximum.
- A number or a row at an index that is computed is a sum over all of them, of which all but one count as 0.
- A product with a vector is an elementwise product and a sum, in float32 and not by tensor cores, which round.
- A maximum is NaN where one of its numbers is, and a quotient right where the divisor is beyond 2^126: the GPU's own
  instructions differ from XLA on the CPU there.

An operation that is not listed here cannot be done: a solver, a sort, a gather of many rows.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from onlineguard.core.protocols import Array
from onlineguard.engine.padded import (
    Folded,
    NotInAKernel,
    Padded,
    Value,
    as_padded,
    chosen,
    filled_like,
    inside,
    padded_shape,
    reshaped,
    total,
)

LARGEST_SHIFT = 4_096  # numbers compared to move a part of an array to another place
LARGEST_DIVISOR = 2.0**126  # a GPU's quotient by more is 0
INT32_BEYOND = 2.0**31  # a float that is not below this, or below minus this, is no int32


def _bind(primitive: Any, parameters: Any, *arrays: Array) -> Array:
    return primitive.bind(*arrays, **parameters)


def _larger(primitive: Any, parameters: Any, x: Array, y: Array) -> Array:
    """The maximum, or the minimum, and NaN where one of the two is."""
    found = primitive.bind(x, y, **parameters)
    if not jnp.issubdtype(jnp.result_type(x), np.floating):
        return found
    return chosen(x != x, x, chosen(y != y, y, found))


def _quotient(primitive: Any, parameters: Any, x: Array, y: Any) -> Array:
    """x / y, both a quarter of themselves where y is very large."""
    if not jnp.issubdtype(jnp.result_type(x), np.floating):
        return primitive.bind(x, y, **parameters)
    if isinstance(y, (np.ndarray, np.generic)) and not (np.abs(y) > LARGEST_DIVISOR).any():
        return primitive.bind(x, y, **parameters)
    divisor: Any = y
    large = abs(divisor) > np.float32(LARGEST_DIVISOR)
    quarter = chosen(large, filled_like(y, 0.25), filled_like(y, 1.0))
    return primitive.bind(x * quarter, y * quarter, **parameters)


def _power(primitive: Any, parameters: Any, x: Array, y: Array) -> Array:
    """x ** y, and the square root where y is one half everywhere."""
    if isinstance(y, (np.ndarray, np.generic)) and (y == 0.5).all():
        return lax.sqrt(x)
    return primitive.bind(x, y, **parameters)


def _converted(primitive: Any, parameters: Any, x: Array) -> Array:
    """Another type; a float that is no int32 becomes the nearest, and NaN becomes 0, as XLA does it."""
    if parameters["new_dtype"] == np.int32 and jnp.issubdtype(jnp.result_type(x), np.floating):
        x = chosen(x == x, x, filled_like(x, 0.0))
        high, low = x >= np.float32(INT32_BEYOND), x < np.float32(-INT32_BEYOND)
        whole = primitive.bind(chosen(high | low, filled_like(x, 0.0), x), **parameters)
        return chosen(high, filled_like(whole, 2**31 - 1), chosen(low, filled_like(whole, -(2**31)), whole))
    return primitive.bind(x, **parameters)


def _remainder(primitive: Any, parameters: Any, x: Array, y: Array) -> Array:
    if jnp.issubdtype(jnp.result_type(x), np.floating):
        raise NotInAKernel("the remainder of floats")
    return primitive.bind(x, y, **parameters)


def _reshaped(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    """Another shape: with other axes of size 1, of sizes that are powers of two, or until it has its own again."""
    (value,), (shape,) = values, shapes
    if isinstance(value, Folded):
        if value.whole.shape != shape:
            raise NotInAKernel(f"{value.whole.shape} as {value.shape} as {shape}")
        return [value.whole]
    x = as_padded(value)
    same = [n for n in x.shape if n != 1] == [n for n in shape if n != 1]
    if same or (padded_shape(x.shape) == x.shape and padded_shape(shape) == shape):
        return [Padded(reshaped(x.array, padded_shape(shape)), shape)]
    return [Folded(x, shape)]


def _broadcast(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    x, shape = as_padded(values[0]), shapes[0]
    whole = padded_shape(shape)
    return [Padded(lax.broadcast_in_dim(x.array, whole, parameters["broadcast_dimensions"]), shape)]


def _reduction(neutral: Callable[[Any], float], reduce: Callable[..., Array]) -> Any:
    """A reduction, with a number in the padding that changes nothing."""

    def rule(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
        x, axes = as_padded(values[0]), tuple(parameters["axes"])
        array, there = x.array, inside(x.shape, axes)
        if there is not None:
            array = chosen(there, array, lax.full(array.shape, neutral(array.dtype), array.dtype))
        return [Padded(reduce(array, axes), shapes[0])]

    return rule


def _extreme(reduce: Callable[..., Array]) -> Callable[..., Array]:
    """A maximum or a minimum that is NaN where one of the numbers is."""

    def whole(array: Array, axes: tuple[int, ...]) -> Array:
        found = reduce(array, axes)
        if not jnp.issubdtype(array.dtype, np.floating):
            return found
        unknown = lax.reduce_sum((array != array).astype(np.int32), axes) > 0
        return chosen(unknown, filled_like(found, math.nan), found)

    return whole


def _least(dtype: Any) -> float:
    return -math.inf if jnp.issubdtype(dtype, np.floating) else int(np.iinfo(dtype).min)


def _most(dtype: Any) -> float:
    return math.inf if jnp.issubdtype(dtype, np.floating) else int(np.iinfo(dtype).max)


def _dot(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    """A product of a vector with a vector or a matrix."""
    ((left_axes, right_axes), batch) = parameters["dimension_numbers"]
    x, y = map(as_padded, values)
    if any(batch) or len(left_axes) != 1 or min(len(x.shape), len(y.shape)) != 1:
        raise NotInAKernel(f"a product of {x.shape} and {y.shape}")
    if len(x.shape) == 1:
        x, y, axis = y, x, right_axes[0]
    else:
        axis = left_axes[0]
    product = x.array * lax.broadcast_in_dim(y.array, x.array.shape, (axis,))
    there = inside(x.shape, (axis,))
    if there is not None:
        product = chosen(there, product, lax.full(product.shape, 0, product.dtype))
    return [Padded(lax.reduce_sum(product, (axis,)), shapes[0])]


def _iota(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    whole = padded_shape(shapes[0])
    return [Padded(lax.broadcasted_iota(parameters["dtype"], whole, parameters["dimension"]), shapes[0])]


def _picked(x: Padded, axis: int, index: Array | int) -> Padded:
    """The part at an index, without that axis."""
    there = lax.broadcasted_iota(np.int32, x.array.shape, axis) == index
    part = total(chosen(there, x.array, lax.full(x.array.shape, 0, x.array.dtype)), (axis,))
    return Padded(part, x.shape[:axis] + x.shape[axis + 1 :])


def _expanded(x: Padded, axis: int) -> Padded:
    """With an axis of size 1."""
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return Padded(reshaped(x.array, padded_shape(shape)), shape)


def _moved(x: Padded, axis: int, size: int, by: int) -> Padded:
    """The numbers i + by of x as numbers i of `size`, 0 where x has none."""
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    before, after = x.array.shape[axis], padded_shape((size,))[0]
    if before == after and by == 0:
        return Padded(x.array, shape)
    if by >= 0 and by % after == 0 and before % after == 0:  # a whole block
        blocks = reshaped(x.array, (*x.array.shape[:axis], before // after, after, *x.array.shape[axis + 1 :]))
        return Padded(_picked(Padded(blocks, blocks.shape), axis, by // after).array, shape)
    if math.prod(x.array.shape) * after > LARGEST_SHIFT:
        raise NotInAKernel(f"a part of {x.shape} at another place")
    wide = (*x.array.shape[:axis], after, *x.array.shape[axis:])
    source = lax.broadcasted_iota(np.int32, wide, axis + 1)
    there = (source == lax.broadcasted_iota(np.int32, wide, axis) + by) & (source < x.shape[axis])
    kept = tuple(i for i in range(len(wide)) if i != axis)
    spread = lax.broadcast_in_dim(x.array, wide, kept)
    return Padded(total(chosen(there, spread, lax.full(wide, 0, x.array.dtype)), (axis + 1,)), shape)


def _slice(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    x = as_padded(values[0])
    if any(stride != 1 for stride in parameters["strides"] or ()):
        raise NotInAKernel("every other part of an array")
    for axis, (start, end) in enumerate(zip(parameters["start_indices"], parameters["limit_indices"], strict=True)):
        if end - start == 1 < x.shape[axis]:
            x = _expanded(_picked(x, axis, start), axis)
        elif end - start < x.shape[axis]:
            x = _moved(x, axis, end - start, start)
    return [x]


def _dynamic_slice(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    """A part at an index: a single one of an axis, or all of it."""
    x = as_padded(values[0])
    for axis, size in enumerate(parameters["slice_sizes"]):
        if size == 1 < x.shape[axis]:
            x = _expanded(_picked(x, axis, _index(values[1 + axis], x.shape[axis])), axis)
        elif size != x.shape[axis]:
            raise NotInAKernel(f"{size} of {x.shape[axis]} rows at an index")
    return [x]


def _dynamic_update(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    """A part at an index replaced: a single one of an axis, or all of it."""
    x, part = as_padded(values[0]), as_padded(values[1])
    there = None
    for axis, (size, whole) in enumerate(zip(part.shape, x.shape, strict=True)):
        if size == 1 < whole:
            here = lax.broadcasted_iota(np.int32, x.array.shape, axis) == _index(values[2 + axis], whole)
            there = here if there is None else there & here
        elif size != whole:
            raise NotInAKernel(f"{size} of {whole} rows at an index")
    new = jnp.broadcast_to(part.array, x.array.shape)
    return [Padded(new if there is None else chosen(there, new, x.array), x.shape)]


def _index(value: Value, size: int) -> Array:
    """An index as XLA takes it: within the array."""
    return jnp.minimum(jnp.maximum(as_padded(value).array, 0), size - 1)


def _stack(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    return _joined([_expanded(as_padded(value), parameters["axis"]) for value in values], parameters["axis"], shapes[0])


def _concatenate(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    return _joined(list(map(as_padded, values)), parameters["dimension"], shapes[0])


def _joined(parts: list[Padded], axis: int, shape: tuple[int, ...]) -> list[Value]:
    """The parts one behind the other."""
    whole = padded_shape(shape)
    at = lax.broadcasted_iota(np.int32, whole, axis)
    found, start = None, 0
    for part in parts:
        size = part.shape[axis]
        placed = part if size == 1 else _moved(part, axis, shape[axis], -start)
        array = jnp.broadcast_to(placed.array, whole)
        found = array if found is None else chosen(at >= start, array, found)
        start += size
    return [Padded(found, shape)]


def _unstack(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    x = as_padded(values[0])
    return [_picked(x, parameters["axis"], i) for i in range(len(shapes))]


def _split(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    x, axis, start = as_padded(values[0]), parameters["axis"], 0
    parts: list[Value] = []
    for size in parameters["sizes"]:
        parts.append(_moved(x, axis, size, start))
        start += size
    return parts


def _best(reduce: Callable[..., Array], neutral: float) -> Any:
    """The number of the largest, or the smallest, of the numbers: the first of equal ones."""

    def rule(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
        x, axes = as_padded(values[0]), tuple(parameters["axes"])
        array, there = x.array, inside(x.shape, axes)
        if there is not None:
            array = chosen(there, array, lax.full(array.shape, neutral, array.dtype))
        return [Padded(reduce(array, axes[0], np.int32), shapes[0])]

    return rule


PLAIN = (
    "abs add and ceil eq erf_inv exp exp2 expm1 floor ge gt integer_pow is_finite le log log1p logistic lt mul ne neg "
    "not or rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sqrt square sub tanh xor "
    "bitcast_convert_type"
).split()
NUMBER_BY_NUMBER: dict[str, Callable[..., Array]] = {
    **dict.fromkeys(PLAIN, _bind),
    "convert_element_type": _converted,
    "div": _quotient,
    "max": _larger,
    "min": _larger,
    "pow": _power,
    "rem": _remainder,
}
RULES: dict[str, Callable[..., Sequence[Value]]] = {
    "argmax": _best(lax.argmax, -math.inf),
    "argmin": _best(lax.argmin, math.inf),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "iota": _iota,
    "reduce_max": _reduction(_least, _extreme(lax.reduce_max)),
    "reduce_min": _reduction(_most, _extreme(lax.reduce_min)),
    "reduce_or": _reduction(lambda _: False, total),
    "reduce_sum": _reduction(lambda _: 0, total),
    "reshape": _reshaped,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshaped,
    "stack": _stack,
    "unstack": _unstack,
}
