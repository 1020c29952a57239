"""A table of many slices' states, one packed float32 row each, and the loop that runs events through it in order.

One row is read, stepped and written back an event. Under donation the table is changed in place, and XLA compiles the
whole loop to one tight function: about 130 ns an event at 24 features, measured by `benchmarks/bench_engine.py`.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array

# A call with one event takes 10 us instead of 20 if the calling thread runs it. It can only be said before the first
# array is made on the CPU; after that it has no effect.
jax.config.update("jax_cpu_enable_async_dispatch", False)

LANES = 16  # row lengths are multiples of this, so that a row is a whole number of vector registers
FIELDS = 6  # numbers of a Judgement


@dataclass(frozen=True)
class Layout:
    """Where the leaves of a state lie in a packed row. Hashable: another layout means another compilation."""

    structure: Any  # jax.tree_util.PyTreeDef
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, state: Any) -> "Layout":
        leaves, structure = jax.tree.flatten(state)
        return cls(structure, tuple(np.shape(leaf) for leaf in leaves))

    def __hash__(self) -> int:
        return self._hash  # JAX asks at every call

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.structure, self.shapes))

    @property
    def length(self) -> int:
        """Numbers in a row."""
        return -(-sum(map(math.prod, self.shapes)) // LANES) * LANES

    def pack(self, state: Any) -> Array:
        """The leaves of a state in one row (length,), or of stacked states in rows (..., length).

        NumPy in gives NumPy out, and so for JAX.
        """
        leaves = jax.tree.leaves(state)
        xp = jnp if any(isinstance(leaf, jax.Array) for leaf in leaves) else np
        lead = np.shape(leaves[0])[: np.ndim(leaves[0]) - len(self.shapes[0])]
        parts = [xp.reshape(xp.asarray(leaf, dtype=np.float32), (*lead, -1)) for leaf in leaves]
        spare = self.length - sum(part.shape[-1] for part in parts)
        return xp.concatenate([*parts, xp.zeros((*lead, spare), dtype=np.float32)], axis=-1)

    def unpack(self, rows: Array) -> Any:
        """The state in a row (length,), or the stacked states in rows (..., length)."""
        parts: list[Array] = []
        start = 0
        for shape in self.shapes:
            end = start + math.prod(shape)
            parts.append(rows[..., start:end].reshape(rows.shape[:-1] + shape))
            start = end
        return jax.tree.unflatten(self.structure, parts)


@functools.partial(jax.jit, static_argnums=(1,), donate_argnums=(2,))
def advance(params: Any, layout: Layout, table: Array, rows: Array, events: Array, n: Array) -> Any:
    """Step the first n events in order; returns the table and the judgements, (events, 6), of which n are filled.

    Event i starts from the state in row rows[0, i] and its new state goes to row rows[1, i]: the same one to learn,
    another to copy on the way (a new slice) or to throw away (scoring only).
    """

    def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        table, judgements = carry
        event = jax.lax.dynamic_index_in_dim(events, i, keepdims=False)
        table, fields = stepped(params, layout, table, (rows[0, i], rows[1, i]), event)
        return table, jax.lax.dynamic_update_index_in_dim(judgements, fields, i, 0)

    judgements = jnp.zeros((events.shape[0], FIELDS), jnp.float32)
    return jax.lax.fori_loop(0, n, body, (table, judgements))


def stepped(params: Any, layout: Layout, table: Array, rows: tuple[Array, Array], event: Array) -> tuple[Array, Array]:
    """One event, within a compiled loop: the table with the state from row rows[0], stepped, in row rows[1]; and the
    judgement, (6,)."""
    # Without the barrier the row is read once per use, and XLA must copy the table to keep the old one alive.
    row = jax.lax.optimization_barrier(jax.lax.dynamic_index_in_dim(table, rows[0], keepdims=False))
    state, judgement = params.step(layout.unpack(row), event)
    fields = jnp.stack([jnp.asarray(field, jnp.float32) for field in judgement])
    return jax.lax.dynamic_update_index_in_dim(table, layout.pack(state), rows[1], 0), fields


class Front(Protocol):
    """Computes events from raw inputs, within the compiled loop of `advance_from`. Equal ones share a program.

    What it reads and writes is one array, its memory: each array that a call is given takes it as long as an event.
    """

    @property
    def size(self) -> int:
        """Events in a batch, at most."""
        ...

    @property
    def length(self) -> int:
        """Numbers of the memory, int32, that belong to the front."""
        ...

    def step(self, weights: Any, memory: Array, i: Array) -> tuple[Array, Array]:
        """The memory after event i, and the event (d,) float32, as the engine is to judge and learn it."""
        ...

    def __hash__(self) -> int: ...


class Tail(NamedTuple):
    """Where the engine's own part of a front's memory lies: what to run, and behind it the judgements."""

    first: int  # the number of the first event to run; here the front's part ends
    end: int  # and of the one after the last
    reads: int  # (size,) the rows that the events' states come from,
    writes: int  # (size,) and go to
    judgements: int  # (size, FIELDS) bits of float32
    length: int  # numbers in all

    @classmethod
    @functools.lru_cache
    def of(cls, front: Front) -> "Tail":
        """That of the memory of a front."""
        size = front.size
        return cls(*itertools.accumulate((1, 1, size, size, FIELDS * size), initial=front.length))


@functools.lru_cache
def advance_from(front: Front, layout: Layout, width: int) -> Callable[..., tuple[Array, Array]]:
    """The compiled loop for events that the front computes, with `width` columns when missing ones pad them.

    It takes the estimator, the front's weights, the table, donated, and the memory: what the front needs, and the
    engine's part, see `Tail`. It returns the table and the memory.
    """
    tail = Tail.of(front)

    @functools.partial(jax.jit, donate_argnums=(2,))
    def run(params: Any, weights: Any, table: Array, memory: Array) -> tuple[Array, Array]:
        def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            table, memory = carry
            rows = [jax.lax.dynamic_index_in_dim(memory, at + i, keepdims=False) for at in (tail.reads, tail.writes)]
            # The rows, since what is read after a write makes XLA copy the memory; the estimator with the memory, which
            # is another each time: what follows of it alone would else be moved out of the loop, in parts that count.
            estimator, (read, write), memory = jax.lax.optimization_barrier((params, rows, memory))
            memory, x = front.step(weights, memory, i)
            event = jnp.pad(x, (0, width - x.shape[0]), constant_values=jnp.nan)
            table, fields = stepped(estimator, layout, table, (read, write), event)
            bits = fields.view(np.int32)
            return table, jax.lax.dynamic_update_slice(memory, bits, (tail.judgements + FIELDS * i,))

        # What is not in the loop, such as making zeros, is a part of the program by itself, and with more than a few
        # parts XLA hands them to a pool of threads, which takes ten times as long.
        return jax.lax.fori_loop(memory[tail.first], memory[tail.end], body, (table, memory))

    return run


@functools.partial(jax.jit, donate_argnums=(0,))
def put_row(table: Array, row: Array, at: Array) -> Array:
    """The table with one row replaced, in place."""
    return jax.lax.dynamic_update_index_in_dim(table, row, at, 0)


@jax.jit
def taken_rows(table: Array, at: Array) -> Array:
    """Rows of the table."""
    return table[at]


@functools.partial(jax.jit, donate_argnums=(0,))
def put_rows(table: Array, rows: Array, at: Array) -> Array:
    """The table with some rows replaced, in place."""
    return table.at[at].set(rows)


@functools.partial(jax.jit, static_argnums=(1,))
def grown(table: Array, rows: int) -> Array:
    """The table with zero rows appended up to `rows`."""
    return jnp.pad(table, ((0, rows - table.shape[0]), (0, 0)))
