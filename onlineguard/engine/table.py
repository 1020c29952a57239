"""A table of many slices' states, one packed row each, and the loop that runs events through it in order.

A row keeps the bits of every leaf: floats as they are, counts and flags by the bits of an int32. For each
event one row is read, stepped and written back. Under donation the table is changed in place, and XLA compiles the
whole loop to one tight function: about 130 ns an event at 24 features, measured by `benchmarks/bench_engine.py`.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.compilation import keep_programs
from onlineguard.core.protocols import Array
from onlineguard.errors import InvalidArgument
from onlineguard.models.base import FIELDS
from onlineguard.plugins import say_failures_in_one_line
from onlineguard.programs import program

# A call with one event takes 10 us instead of 20 if the calling thread runs it. The option only works before the first
# array is made on the CPU, so it is set on import.
jax.config.update("jax_cpu_enable_async_dispatch", False)
keep_programs()
say_failures_in_one_line()

LANES = 16  # row lengths are multiples of this, so that a row is a whole number of vector registers
TYPES = ("float32", "int32", "bool")  # of the leaves of a state


@dataclass(frozen=True)
class Layout:
    """Where the leaves of a state lie in a packed row. Hashable: another layout means another compilation."""

    structure: Any  # jax.tree_util.PyTreeDef
    shapes: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]

    @classmethod
    def of(cls, state: Any) -> "Layout":
        """The layout of states like this one. Raises InvalidArgument for a leaf of a type that no row can hold."""
        leaves, structure = jax.tree.flatten(state)
        types = tuple(np.asarray(leaf).dtype.name for leaf in leaves)
        for i, name in enumerate(types):
            if name not in TYPES:
                path = jax.tree_util.keystr(jax.tree_util.tree_flatten_with_path(state)[0][i][0])
                raise InvalidArgument(
                    f"the model's state{path} is {name}; it must be one of {', '.join(TYPES)}, e.g. np.float32(0.0)"
                )
        return cls(structure, tuple(np.shape(leaf) for leaf in leaves), types)

    def __hash__(self) -> int:
        return self._hash  # JAX asks at every call

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.structure, self.shapes, self.types))

    @property
    def length(self) -> int:
        """Numbers in a row."""
        return -(-sum(map(math.prod, self.shapes)) // LANES) * LANES

    def pack(self, state: Any) -> Array:
        """The leaves of a state in one row (length,), float32, or of stacked states in rows (..., length).

        NumPy leaves give a NumPy row, and JAX leaves a JAX row.
        """
        leaves = jax.tree.leaves(state)
        xp = jnp if any(isinstance(leaf, jax.Array) for leaf in leaves) else np
        lead = np.shape(leaves[0])[: np.ndim(leaves[0]) - len(self.shapes[0])] if leaves else ()
        parts = [
            xp.reshape(_as_floats(xp.asarray(leaf, dtype=dtype), xp), (*lead, -1))
            for leaf, dtype in zip(leaves, self.types, strict=True)
        ]
        spare = self.length - sum(part.shape[-1] for part in parts)
        return xp.concatenate([*parts, xp.zeros((*lead, spare), dtype=np.float32)], axis=-1)

    def from_floats(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, length) of a checkpoint of format 1, which kept every leaf as float32, as rows of today."""
        whole = dataclasses.replace(self, types=("float32",) * len(self.types))
        return self.pack(whole.unpack(rows))

    def unpack(self, rows: Array) -> Any:
        """The state in a row (length,), or the stacked states in rows (..., length)."""
        xp = jnp if isinstance(rows, jax.Array) else np
        parts: list[Array] = []
        start = 0
        for shape, dtype in zip(self.shapes, self.types, strict=True):
            end = start + math.prod(shape)
            part = rows[..., start:end].reshape(rows.shape[:-1] + shape)
            parts.append(_from_floats(part, dtype, xp))
            start = end
        return jax.tree.unflatten(self.structure, parts)


def _as_floats(leaf: Array, xp: Any) -> Array:
    """A leaf's bits as float32. Rows are float32, as most leaves are: int32 rows cost a tenth of the step's time."""
    if leaf.dtype == np.float32:
        return leaf
    whole = leaf.astype(np.int32)
    return jax.lax.bitcast_convert_type(whole, np.float32) if xp is jnp else whole.view(np.float32)


def _from_floats(part: Array, dtype: str, xp: Any) -> Array:
    if dtype == "float32":
        return part
    whole = jax.lax.bitcast_convert_type(part, np.int32) if xp is jnp else part.view(np.int32)
    return whole.astype(dtype)


@program(static_argnums=(1,), donate_argnums=(2,))
def advance(params: Any, layout: Layout, table: Array, rows: Array, events: Array, n: Array) -> Any:
    """Step the first n events in order; returns the table and the judgements, (events, FIELDS), of which n are filled.

    An event is (width,), or (width + 1,) for a supervised model, with the target last.

    Event i starts from the state in row rows[0, i], and its new state goes to row rows[1, i]: the same row to learn,
    the slice's own row if it is new, or a row that nobody reads if the event is only scored.
    """

    def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        table, judgements = carry
        event = jax.lax.dynamic_index_in_dim(events, i, keepdims=False)
        table, fields = stepped(params, layout, table, (rows[0, i], rows[1, i]), event)
        return table, jax.lax.dynamic_update_index_in_dim(judgements, fields, i, 0)

    judgements = jnp.zeros((events.shape[0], FIELDS), jnp.float32)
    return jax.lax.fori_loop(0, n, body, (table, judgements))


def stepped(params: Any, layout: Layout, table: Array, rows: tuple[Array, Array], event: Array) -> tuple[Array, Array]:
    """Step one event, within a compiled loop, from the state in row rows[0] to row rows[1].

    Returns the table, and the judgement (FIELDS,).
    """
    # Without the barrier the row is read once per use, and XLA must copy the table to keep the old one alive.
    row = jax.lax.optimization_barrier(jax.lax.dynamic_index_in_dim(table, rows[0], keepdims=False))
    given = (event[:-1], event[-1]) if params.supervised else event
    state, judgement = params.step(layout.unpack(row), given)
    fields = jnp.stack([jnp.asarray(field, jnp.float32) for field in judgement])
    return jax.lax.dynamic_update_index_in_dim(table, layout.pack(state), rows[1], 0), fields


@program()
def taken_rows(table: Array, at: Array) -> Array:
    """Rows of the table."""
    return table[at]


@program(donate_argnums=(0,))
def put_rows(table: Array, rows: Array, at: Array) -> Array:
    """The table with some rows replaced, in place."""
    return table.at[at].set(rows)


@program(static_argnums=(1,))
def grown(table: Array, rows: int) -> Array:
    """The table with zero rows appended up to `rows`."""
    return jnp.pad(table, ((0, rows - table.shape[0]), (0, 0)))


@functools.partial(jax.jit, static_argnums=(1,))
def predicted(params: Any, layout: Layout, table: Array, rows: Array, events: Array, n: Array) -> Array:
    """The predictions of the models in the rows for the first n events (events, width): float32 (events,)."""

    def body(i: Array, answers: Array) -> Array:
        row = jax.lax.dynamic_index_in_dim(table, rows[i], keepdims=False)
        event = jax.lax.dynamic_index_in_dim(events, i, keepdims=False)
        answer = jnp.asarray(params.predict(layout.unpack(row), event), jnp.float32)
        return jax.lax.dynamic_update_index_in_dim(answers, answer, i, 0)

    return jax.lax.fori_loop(0, n, body, jnp.zeros(events.shape[0], jnp.float32))
