"""A model's step in operations that a GPU kernel can hold: every array is padded to powers of two.

A Triton kernel works on arrays whose sizes are powers of two, and knows neither gathers nor solvers nor sums of few
numbers. A model knows nothing of that. So its `step` is traced to JAX's intermediate form, and every operation of that
is carried out on padded arrays:

- what works number by number is done on the padding as well, whose numbers mean nothing;
- a reduction first puts what changes nothing in the padding: 0 in a sum, the least number in a maximum;
- a number or a row at an index that is computed is a sum over all of them, of which all but one count as 0;
- a product with a vector is an elementwise product and a sum, in float32 and not by tensor cores, which round;
- a maximum is NaN where one of its numbers is, and a quotient right where the divisor is beyond 2^126: the GPU's own
  instructions differ from XLA on the CPU there.

An operation that is not listed here raises `NotInAKernel`, which names it: a solver, a sort, a gather of many rows.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, use_abstract_mesh

from onlineguard.core.protocols import Array

LONGEST_CONSTANT = 64  # numbers of a constant array, each a comparison and a choice
LARGEST_SHIFT = 4_096  # numbers compared to move a part of an array to another place
LARGEST_DIVISOR = 2.0**126  # a GPU's quotient by more is 0
INT32_BEYOND = 2.0**31  # a float that is not below this, or below minus this, is no int32
NO_MESH = AbstractMesh((), ())  # a step is traced, and what is known computed, as if for this machine


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


# A number or an array that is known while the step is traced is kept in NumPy.
Value = Padded | Folded | np.ndarray | np.generic


def padded_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The sizes, rounded up to powers of two."""
    return tuple(1 << (max(size, 1) - 1).bit_length() for size in shape)


def stepped(step: Callable[..., Any], like: Sequence[Any], values: Sequence[Padded]) -> list[Padded]:
    """The leaves of `step(*like)`, of padded leaves of its arguments.

    `like` are arguments of which only the shapes and types count. Raises NotInAKernel.
    """
    with use_abstract_mesh(NO_MESH):
        closed: Any = jax.make_jaxpr(step)(*like)
    return [_array(value) for value in _run(closed, values)]


def inside(shape: Sequence[int], axes: Sequence[int] | None = None) -> Array | None:
    """Where an array of this shape, padded, holds its numbers; None if it has no padding along these axes."""
    whole = padded_shape(shape)
    found = None
    for axis in range(len(shape)) if axes is None else axes:
        if shape[axis] != whole[axis]:
            there = lax.broadcasted_iota(np.int32, whole, axis) < shape[axis]
            found = there if found is None else found & there
    return found


def _run(closed: Any, inputs: Sequence[Value]) -> list[Value]:
    """The outputs of traced code."""
    jaxpr = getattr(closed, "jaxpr", closed)
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, getattr(closed, "consts", ())), strict=False))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    for equation in jaxpr.eqns:
        values = [_read(atom, known) for atom in equation.invars]
        known.update(zip(equation.outvars, _done(equation, values), strict=True))
    return [_read(atom, known) for atom in jaxpr.outvars]


def _read(atom: Any, known: dict[Any, Value]) -> Value:
    """The value of a variable, or of a literal."""
    return np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else known[atom]


def _done(equation: Any, values: list[Value]) -> Sequence[Value]:
    """The outputs of one operation."""
    name, parameters = equation.primitive.name, equation.params
    if name in CALLS:
        return _run(next(parameters[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in parameters), values)
    if name in AS_THEY_ARE:
        return values
    if all(isinstance(value, (np.ndarray, np.generic)) for value in values) and values:
        with use_abstract_mesh(NO_MESH), jax.ensure_compile_time_eval():
            found = equation.primitive.bind(*values, **parameters)
        return list(map(np.asarray, found)) if equation.primitive.multiple_results else [np.asarray(found)]
    shapes = [tuple(variable.aval.shape) for variable in equation.outvars]
    if name in NUMBER_BY_NUMBER:
        whole = padded_shape(shapes[0])
        arrays = [_spread(value, whole) for value in values]
        return [Padded(NUMBER_BY_NUMBER[name](equation.primitive, parameters, *arrays), shapes[0])]
    if name not in RULES:
        raise NotInAKernel(f"`{name}`")
    return RULES[name](values, parameters, shapes)


def _array(value: Value) -> Padded:
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


def _spread(value: Value, whole: tuple[int, ...]) -> Array:
    """The padded array of a value, a single number on all places."""
    array = _array(value).array
    return array if np.shape(array) == whole else jnp.broadcast_to(array, whole)


def _bind(primitive: Any, parameters: Any, *arrays: Array) -> Array:
    return primitive.bind(*arrays, **parameters)


def _larger(primitive: Any, parameters: Any, x: Array, y: Array) -> Array:
    """The maximum, or the minimum, and NaN where one of the two is."""
    found = primitive.bind(x, y, **parameters)
    if not jnp.issubdtype(jnp.result_type(x), np.floating):
        return found
    return _chosen(x != x, x, _chosen(y != y, y, found))


def _quotient(primitive: Any, parameters: Any, x: Array, y: Any) -> Array:
    """x / y, both a quarter of themselves where y is very large."""
    if not jnp.issubdtype(jnp.result_type(x), np.floating):
        return primitive.bind(x, y, **parameters)
    if isinstance(y, (np.ndarray, np.generic)) and not (abs(y) > LARGEST_DIVISOR).any():
        return primitive.bind(x, y, **parameters)
    large = abs(y) > np.float32(LARGEST_DIVISOR)
    quarter = _chosen(large, _like(y, 0.25), _like(y, 1.0))
    return primitive.bind(x * quarter, y * quarter, **parameters)


def _power(primitive: Any, parameters: Any, x: Array, y: Array) -> Array:
    """x ** y, and the square root where y is one half everywhere."""
    if isinstance(y, (np.ndarray, np.generic)) and (y == 0.5).all():
        return lax.sqrt(x)
    return primitive.bind(x, y, **parameters)


def _converted(primitive: Any, parameters: Any, x: Array) -> Array:
    """Another type; a float that is no int32 becomes the nearest, and NaN becomes 0, as XLA does it."""
    if parameters["new_dtype"] == np.int32 and jnp.issubdtype(jnp.result_type(x), np.floating):
        x = _chosen(x == x, x, _like(x, 0.0))
        high, low = x >= np.float32(INT32_BEYOND), x < np.float32(-INT32_BEYOND)
        whole = primitive.bind(_chosen(high | low, _like(x, 0.0), x), **parameters)
        return _chosen(high, _like(whole, 2**31 - 1), _chosen(low, _like(whole, -(2**31)), whole))
    return primitive.bind(x, **parameters)


def _remainder(primitive: Any, parameters: Any, x: Array, y: Array) -> Array:
    if jnp.issubdtype(jnp.result_type(x), np.floating):
        raise NotInAKernel("the remainder of floats")
    return primitive.bind(x, y, **parameters)


def _like(x: Array, number: float) -> Array:
    """An array like x, of one number."""
    return lax.full(np.shape(x), number, jnp.result_type(x)) if np.ndim(x) else jnp.result_type(x).type(number)


def _chosen(condition: Array, x: Array, y: Array) -> Array:
    return lax.select_n(condition, y, x)


def _reshaped(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    """Another shape: with other axes of size 1, of sizes that are powers of two, or until it has its own again."""
    (value,), (shape,) = values, shapes
    if isinstance(value, Folded):
        if value.whole.shape != shape:
            raise NotInAKernel(f"{value.whole.shape} as {value.shape} as {shape}")
        return [value.whole]
    x = _array(value)
    same = [n for n in x.shape if n != 1] == [n for n in shape if n != 1]
    if same or (padded_shape(x.shape) == x.shape and padded_shape(shape) == shape):
        return [Padded(_as(x.array, padded_shape(shape)), shape)]
    return [Folded(x, shape)]


def _as(array: Array, shape: tuple[int, ...]) -> Array:
    return array if array.shape == shape else lax.reshape(array, shape)


def _broadcast(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    x, shape = _array(values[0]), shapes[0]
    whole = padded_shape(shape)
    return [Padded(lax.broadcast_in_dim(x.array, whole, parameters["broadcast_dimensions"]), shape)]


def _total(array: Array, axes: tuple[int, ...]) -> Array:
    """The sum over axes; of flags, whether there is any."""
    if array.dtype == np.bool_:
        return lax.reduce_sum(array.astype(np.int32), axes) > 0
    return lax.reduce_sum(array, axes)


def _reduction(neutral: Callable[[Any], float], reduce: Callable[..., Array]) -> Any:
    """A reduction, with a number in the padding that changes nothing."""

    def rule(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
        x, axes = _array(values[0]), tuple(parameters["axes"])
        array, there = x.array, inside(x.shape, axes)
        if there is not None:
            array = _chosen(there, array, lax.full(array.shape, neutral(array.dtype), array.dtype))
        return [Padded(reduce(array, axes), shapes[0])]

    return rule


def _extreme(reduce: Callable[..., Array]) -> Callable[..., Array]:
    """A maximum or a minimum that is NaN where one of the numbers is."""

    def whole(array: Array, axes: tuple[int, ...]) -> Array:
        found = reduce(array, axes)
        if not jnp.issubdtype(array.dtype, np.floating):
            return found
        unknown = lax.reduce_sum((array != array).astype(np.int32), axes) > 0
        return _chosen(unknown, _like(found, math.nan), found)

    return whole


def _least(dtype: Any) -> float:
    return -math.inf if jnp.issubdtype(dtype, np.floating) else int(np.iinfo(dtype).min)


def _most(dtype: Any) -> float:
    return math.inf if jnp.issubdtype(dtype, np.floating) else int(np.iinfo(dtype).max)


def _dot(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    """A product of a vector with a vector or a matrix."""
    ((left_axes, right_axes), batch) = parameters["dimension_numbers"]
    x, y = map(_array, values)
    if any(batch) or len(left_axes) != 1 or min(len(x.shape), len(y.shape)) != 1:
        raise NotInAKernel(f"a product of {x.shape} and {y.shape}")
    if len(x.shape) == 1:
        x, y, axis = y, x, right_axes[0]
    else:
        axis = left_axes[0]
    product = x.array * lax.broadcast_in_dim(y.array, x.array.shape, (axis,))
    there = inside(x.shape, (axis,))
    if there is not None:
        product = _chosen(there, product, lax.full(product.shape, 0, product.dtype))
    return [Padded(lax.reduce_sum(product, (axis,)), shapes[0])]


def _iota(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    whole = padded_shape(shapes[0])
    return [Padded(lax.broadcasted_iota(parameters["dtype"], whole, parameters["dimension"]), shapes[0])]


def _picked(x: Padded, axis: int, index: Array | int) -> Padded:
    """The part at an index, without that axis."""
    there = lax.broadcasted_iota(np.int32, x.array.shape, axis) == index
    part = _total(_chosen(there, x.array, lax.full(x.array.shape, 0, x.array.dtype)), (axis,))
    return Padded(part, x.shape[:axis] + x.shape[axis + 1 :])


def _expanded(x: Padded, axis: int) -> Padded:
    """With an axis of size 1."""
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return Padded(_as(x.array, padded_shape(shape)), shape)


def _moved(x: Padded, axis: int, size: int, by: int) -> Padded:
    """The numbers i + by of x as numbers i of `size`, 0 where x has none."""
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    before, after = x.array.shape[axis], padded_shape((size,))[0]
    if before == after and by == 0:
        return Padded(x.array, shape)
    if by >= 0 and by % after == 0 and before % after == 0:  # a whole block
        blocks = _as(x.array, (*x.array.shape[:axis], before // after, after, *x.array.shape[axis + 1 :]))
        return Padded(_picked(Padded(blocks, blocks.shape), axis, by // after).array, shape)
    if math.prod(x.array.shape) * after > LARGEST_SHIFT:
        raise NotInAKernel(f"a part of {x.shape} at another place")
    wide = (*x.array.shape[:axis], after, *x.array.shape[axis:])
    source = lax.broadcasted_iota(np.int32, wide, axis + 1)
    there = (source == lax.broadcasted_iota(np.int32, wide, axis) + by) & (source < x.shape[axis])
    kept = tuple(i for i in range(len(wide)) if i != axis)
    spread = lax.broadcast_in_dim(x.array, wide, kept)
    return Padded(_total(_chosen(there, spread, lax.full(wide, 0, x.array.dtype)), (axis + 1,)), shape)


def _slice(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    x = _array(values[0])
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
    x = _array(values[0])
    for axis, size in enumerate(parameters["slice_sizes"]):
        if size == 1 < x.shape[axis]:
            x = _expanded(_picked(x, axis, _index(values[1 + axis], x.shape[axis])), axis)
        elif size != x.shape[axis]:
            raise NotInAKernel(f"{size} of {x.shape[axis]} rows at an index")
    return [x]


def _dynamic_update(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    """A part at an index replaced: a single one of an axis, or all of it."""
    x, part = _array(values[0]), _array(values[1])
    there = None
    for axis, (size, whole) in enumerate(zip(part.shape, x.shape, strict=True)):
        if size == 1 < whole:
            here = lax.broadcasted_iota(np.int32, x.array.shape, axis) == _index(values[2 + axis], whole)
            there = here if there is None else there & here
        elif size != whole:
            raise NotInAKernel(f"{size} of {whole} rows at an index")
    new = jnp.broadcast_to(part.array, x.array.shape)
    return [Padded(new if there is None else _chosen(there, new, x.array), x.shape)]


def _index(value: Value, size: int) -> Array:
    """An index as XLA takes it: within the array."""
    return jnp.minimum(jnp.maximum(_array(value).array, 0), size - 1)


def _stack(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    return _joined([_expanded(_array(value), parameters["axis"]) for value in values], parameters["axis"], shapes[0])


def _concatenate(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    return _joined(list(map(_array, values)), parameters["dimension"], shapes[0])


def _joined(parts: list[Padded], axis: int, shape: tuple[int, ...]) -> list[Value]:
    """The parts one behind the other."""
    whole = padded_shape(shape)
    at = lax.broadcasted_iota(np.int32, whole, axis)
    found, start = None, 0
    for part in parts:
        size = part.shape[axis]
        placed = part if size == 1 else _moved(part, axis, shape[axis], -start)
        array = jnp.broadcast_to(placed.array, whole)
        found = array if found is None else _chosen(at >= start, array, found)
        start += size
    return [Padded(found, shape)]


def _unstack(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    x = _array(values[0])
    return [_picked(x, parameters["axis"], i) for i in range(len(shapes))]


def _split(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
    x, axis, start = _array(values[0]), parameters["axis"], 0
    parts: list[Value] = []
    for size in parameters["sizes"]:
        parts.append(_moved(x, axis, size, start))
        start += size
    return parts


def _best(reduce: Callable[..., Array], neutral: float) -> Any:
    """The number of the largest, or the smallest, of the numbers: the first of equal ones."""

    def rule(values: list[Value], parameters: Any, shapes: list[tuple[int, ...]]) -> list[Value]:
        x, axes = _array(values[0]), tuple(parameters["axes"])
        array, there = x.array, inside(x.shape, axes)
        if there is not None:
            array = _chosen(there, array, lax.full(array.shape, neutral, array.dtype))
        return [Padded(reduce(array, axes[0], np.int32), shapes[0])]

    return rule


CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint"}
AS_THEY_ARE = {"optimization_barrier", "stop_gradient", "copy", "copy_p"}
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
    "reduce_or": _reduction(lambda _: False, _total),
    "reduce_sum": _reduction(lambda _: 0, _total),
    "reshape": _reshaped,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshaped,
    "stack": _stack,
    "unstack": _unstack,
}
