"""The schedule for NVIDIA GPUs: one program of a kernel takes one slice, its events in order.

Events are sorted by slice. A program loads the state of its slice, leaf by leaf, from the slice's packed row, steps it
through the slice's events, and writes it back: between two events the state stays in registers. The rows of the next
`AHEAD` events are on their way meanwhile, so that an event waits for no memory. The state is changed in place, and no
two programs share a row, so no order among them matters.

The step is the model's own, in operations that a kernel can hold (`padded_step`): any number of features, padded to a
power of two. Models whose step has others, such as a solver or a sort, and states too large for the registers of a
program run by `rounds`; `refusal` says why.

This is the one module that knows a kernel language, Pallas for Triton.
"""

import functools
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, use_abstract_mesh

from onlineguard.core.protocols import Array
from onlineguard.engine.padded import NotInAKernel, Padded, inside, padded_shape
from onlineguard.engine.padded_step import stepped
from onlineguard.engine.parts import WASTE
from onlineguard.engine.table import Layout
from onlineguard.models.base import FIELDS

# It says so at every kernel. Its successor, Mosaic GPU, would change this module only.
warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)

# Not timed on a GPU yet. Registers are those that Triton 3.9 gives the kernel for an H100: at d = 20 the marginal
# Detector has 59 a thread of one warp, the JointDetector 255 of four and none spilled; two warps spill.
AHEAD = 4  # rows loaded ahead: a row comes from memory in some 600 ns, and an event takes a good 100
PER_WARP = 1_024  # numbers of a state for each warp of 32 threads
MOST_WARPS = 4  # the JointDetector at d = 128 spills least in all with four, more with eight and with sixteen
LARGEST_STATE = 32_768  # numbers of a padded state: that of a JointDetector at d = 128 has 26,000, and spills
DEVICE = "NVIDIA H100"  # that `refusal` lowers for where there is none


def advance(
    params: Any, layout: Layout, table: Array, rows: np.ndarray, events: Array, n: int, interpret: bool = False
) -> tuple[Array, Array]:
    """`table.advance` by the kernel: the same answers, to a few ulps. The events are all learned or all only scored.

    interpret: run the kernel in plain JAX, on any machine, slowly.
    """
    learns = bool(n == 0 or rows[1, 0] != WASTE)
    return run(params, layout, learns, interpret, table, rows, events, np.int32(n))


def refusal(params: Any, layout: Layout, columns: int) -> str | None:
    """Why the kernel cannot run this model on events of so many columns, targets included; None if it can.

    The kernel is lowered for a GPU, which needs none.
    """
    size = sum(math.prod(padded_shape(shape)) for shape in layout.shapes)
    if size > LARGEST_STATE:
        return f"its state has {size:,} numbers, and a program holds {LARGEST_STATE:,}"
    try:
        lowered(params, layout, columns)
    except NotInAKernel as reason:
        return f"its step has {reason}"
    except (NotImplementedError, TypeError, ValueError) as error:  # from the kernel language
        return str(error).partition("\n")[0]
    return None


def lowered(params: Any, layout: Layout, columns: int, size: int = 64) -> str:
    """The kernel for `size` events in a table of as many rows, as it is given to the compiler of a GPU."""
    device = AbstractDevice(DEVICE, None, "cuda")
    mesh = AbstractMesh((1,), ("x",), axis_types=(AxisType.Auto,), abstract_device=device)
    shapes = (
        jax.ShapeDtypeStruct((size, layout.length), np.float32),
        jax.ShapeDtypeStruct((2, size), np.int32),
        jax.ShapeDtypeStruct((size, columns), np.float32),
        jax.ShapeDtypeStruct((), np.int32),
    )
    with use_abstract_mesh(mesh):
        traced = run.trace(params, layout, True, False, *shapes)
        return traced.lower(lowering_platforms=("cuda",)).as_text()


@functools.partial(jax.jit, static_argnums=(1, 2, 3), donate_argnums=(4,))
def run(
    params: Any, layout: Layout, learns: bool, interpret: bool, table: Array, rows: Array, events: Array, n: Array
) -> tuple[Array, Array]:
    """`advance` of arrays on a device; learns: whether the first n events are learned, and not only scored."""
    size = rows.shape[1]
    programs = min(size, table.shape[0]) if learns else size
    order, starts = by_slice(rows[1], n, learns, programs)
    numbers = jnp.concatenate([*map(jnp.ravel, jax.tree.leaves(params)), jnp.zeros(1, jnp.float32)])
    step = functools.partial(_program, params, layout, learns)
    whole = pl.BlockSpec(memory_space=pl.ANY)
    return pl.pallas_call(
        step,
        out_shape=(
            jax.ShapeDtypeStruct(table.shape, jnp.float32),
            jax.ShapeDtypeStruct((size, FIELDS), jnp.float32),
        ),
        grid=(programs,),
        in_specs=[whole] * 6,
        out_specs=(whole, whole),
        input_output_aliases={1: 0},
        interpret=interpret,
        compiler_params=plgpu.CompilerParams(num_warps=_warps(layout), num_stages=1),
    )(numbers, table, rows, events, order, starts)


def by_slice(writes: Array, n: Array, learns: bool, programs: int) -> tuple[Array, Array]:
    """The first n events sorted by slice, and where each slice begins, (programs + 1,); a slice ends where the next
    begins, and those behind the last are empty. An event that is only scored stands alone."""
    there = jnp.arange(writes.shape[0], dtype=jnp.int32) < n
    order = jnp.arange(writes.shape[0], dtype=jnp.int32)
    begins = there
    if learns:
        keys = jnp.where(there, writes, np.iinfo(np.int32).max)
        order = jnp.argsort(keys, stable=True).astype(jnp.int32)
        keys = keys[order]
        begins = there & (keys != jnp.concatenate([jnp.full(1, -1, keys.dtype), keys[:-1]]))
    starts = jnp.nonzero(begins, size=programs + 1, fill_value=n)[0]
    return order, starts.astype(jnp.int32)


def _program(
    params: Any,
    layout: Layout,
    learns: bool,
    numbers: Any,
    table: Any,
    rows: Any,
    events: Any,
    order: Any,
    starts: Any,
    table_after: Any,
    judgements: Any,
) -> None:
    """Step one slice through its events."""
    slice_ = pl.program_id(0)
    first, end = starts[slice_], starts[slice_ + 1]

    @pl.when(first < end)
    def _() -> None:
        own = order[first]
        leaves = [_loaded(table, rows[0, own], place) for place in _places(layout)]
        values = _numbers(params, numbers)

        def place(i: Array) -> Array:
            return order[jnp.minimum(i, end - 1)]

        def event(place: Array) -> list[Array]:
            return _event(events, place, params.supervised)

        def body(i: Array, carry: Any) -> Any:
            leaves, coming, ahead = carry
            (at, now), *later = ahead
            fetched = (coming, event(coming))
            leaves, judgement = _stepped(params, layout, events.shape[1], values, leaves, now)
            judgements[at, :] = judgement
            return leaves, place(i + AHEAD + 1), (*later, fetched)

        ahead = tuple((at, event(at)) for at in (place(first + i) for i in range(AHEAD)))
        leaves, _, _ = lax.fori_loop(first, end, body, (leaves, place(first + AHEAD), ahead))
        if learns:
            for leaf, position in zip(leaves, _places(layout), strict=True):
                _store(table_after, rows[1, own], position, leaf)


# Where a leaf lies in a row: its first number, its shape and its type.
_Place = tuple[int, tuple[int, ...], str]


def _places(layout: Layout) -> list[_Place]:
    places: list[_Place] = []
    start = 0
    for shape, dtype in zip(layout.shapes, layout.types, strict=True):
        places.append((start, shape, dtype))
        start += math.prod(shape)
    return places


def _columns(start: int, shape: tuple[int, ...]) -> tuple[Any, Array | None]:
    """Where in a row the numbers of a padded leaf are, and which of them it has."""
    if not shape:
        return np.int32(start), None
    columns, stride = start, 1
    for axis in reversed(range(len(shape))):
        columns = columns + stride * lax.broadcasted_iota(np.int32, padded_shape(shape), axis)
        stride *= shape[axis]
    return columns, inside(shape)


def _loaded(table: Any, row: Array, place: _Place) -> Array:
    """A leaf, padded; flags and counts as int32."""
    start, shape, dtype = place
    columns, there = _columns(start, shape)
    bits = plgpu.load(table.at[row, columns], mask=there, other=None if there is None else 0.0)
    return bits if dtype == "float32" else lax.bitcast_convert_type(bits, np.int32)


def _store(table: Any, row: Array, place: _Place, leaf: Array) -> None:
    start, shape, dtype = place
    columns, there = _columns(start, shape)
    bits = leaf if dtype == "float32" else lax.bitcast_convert_type(leaf, np.float32)
    plgpu.store(table.at[row, columns], bits, mask=there)


def _numbers(params: Any, numbers: Any) -> list[Padded]:
    """What the operator chose, from one array that holds all of it."""
    values: list[Padded] = []
    start = 0
    for leaf in jax.tree.leaves(params):
        columns, there = _columns(start, leaf.shape)
        values.append(Padded(plgpu.load(numbers.at[columns], mask=there), leaf.shape))
        start += leaf.size
    return values


def _event(events: Any, place: Array, supervised: bool) -> list[Array]:
    """The features of an event, padded, and its target if it has one."""
    width = events.shape[1] - supervised
    columns, there = _columns(0, (width,))
    x = plgpu.load(events.at[place, columns], mask=there, other=None if there is None else np.nan)
    return [x.astype(jnp.float32)] + [events[place, width].astype(jnp.float32)] * supervised


def _stepped(
    params: Any, layout: Layout, columns: int, values: list[Padded], leaves: list[Array], event: list[Array]
) -> tuple[list[Array], Array]:
    """The leaves after an event, and the judgement (FIELDS,)."""
    width = columns - params.supervised
    x = jax.ShapeDtypeStruct((width,), np.float32)
    given: Any = (x, jax.ShapeDtypeStruct((), np.float32)) if params.supervised else x
    state = [jax.ShapeDtypeStruct(*place) for place in zip(layout.shapes, layout.types, strict=True)]
    flags = [dtype == "bool" for dtype in layout.types]

    def step(params: Any, leaves: list[Array], event: Any) -> Any:
        after, judgement = params.step(jax.tree.unflatten(layout.structure, leaves), event)
        return jax.tree.leaves(after), [jnp.asarray(field, jnp.float32) for field in judgement]

    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    before = [leaf != 0 if flag else leaf for leaf, flag in zip(leaves, flags, strict=True)]
    shapes = [(width,), *[()] * params.supervised]
    found = stepped(
        step,
        (like, state, given),
        [*values, *map(Padded, before, layout.shapes), *map(Padded, event, shapes)],
    )
    after = [
        value.array.astype(np.int32) if flag else value.array
        for value, flag in zip(found[: len(leaves)], flags, strict=True)
    ]
    at = lax.broadcasted_iota(np.int32, (FIELDS,), 0)
    judgement = jnp.full(FIELDS, found[len(leaves)].array, jnp.float32)
    for i, field in enumerate(found[len(leaves) + 1 :], 1):
        judgement = jnp.where(at == i, field.array, judgement)
    return after, judgement


def _warps(layout: Layout) -> int:
    """Warps of a program: enough threads for the state's numbers to lie in registers."""
    size = sum(math.prod(padded_shape(shape)) for shape in layout.shapes)
    return min(MOST_WARPS, *padded_shape((-(-size // PER_WARP),)))
