"""Fronts: what computes events from raw inputs in the very program that steps them.

On a CPU a front computes an event after the other, in the loop. On an accelerator it computes all of a batch at once,
and then they are stepped by slice: by the kernel in the same program, and by rounds in programs that follow it.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.table import Layout, stepped
from onlineguard.models.base import FIELDS
from onlineguard.programs import Program


class Front(Protocol):
    """Computes events from raw inputs, in the program that steps them. Equal fronts share a program.

    A front reads and writes one array, its memory, since each array that is passed to a call takes as long as an event.
    """

    @property
    def size(self) -> int:
        """Events in a batch, at most."""
        ...

    @property
    def length(self) -> int:
        """Numbers of the memory, int32, that belong to the front."""
        ...

    @property
    def at_once(self) -> bool:
        """Whether its events are computed all together by `all`, on an accelerator, and not one by one by `step`."""
        ...

    def step(self, weights: Any, memory: Array, i: Array) -> tuple[Array, Array]:
        """The memory after event i, and the event (d,) float32, as the engine is to judge and learn it."""
        ...

    def all(self, weights: Any, memory: Array) -> tuple[Array, Array]:
        """The memory after all events, and the events (size, d) float32; those behind the last mean nothing."""
        ...

    def __hash__(self) -> int: ...


class Tail(NamedTuple):
    """Where the engine's part of a front's memory lies: the events and rows to run, then the judgements."""

    first: int  # number of the first event to run; the front's part ends here
    end: int  # number of the event after the last one to run
    reads: int  # (size,) rows that the events' states are read from
    writes: int  # (size,) rows that they are written to
    judgements: int  # (size, FIELDS) bits of float32
    length: int  # numbers in all

    @classmethod
    @functools.lru_cache
    def of(cls, front: Front) -> "Tail":
        """The tail of a front's memory."""
        size = front.size
        return cls(*itertools.accumulate((1, 1, size, size, FIELDS * size), initial=front.length))


@functools.lru_cache
def advance_from(front: Front, layout: Layout, width: int) -> Program:
    """The compiled loop for events that the front computes, padded with missing values to `width` columns.

    It takes the estimator, the front's weights, the table, which is donated, and the memory: the front's part, then the
    engine's, see `Tail`. It returns the table and the memory.
    """
    tail = Tail.of(front)

    def run(params: Any, weights: Any, table: Array, memory: Array) -> tuple[Array, Array]:
        def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            table, memory = carry
            rows = [jax.lax.dynamic_index_in_dim(memory, at + i, keepdims=False) for at in (tail.reads, tail.writes)]
            # The rows are read before the barrier, since a read after a write makes XLA copy the memory. The estimator
            # is tied to the memory, which differs in each turn. Otherwise XLA moves the computations from the estimator
            # alone out of the loop, where each is a further part of the program (see below).
            estimator, (read, write), memory = jax.lax.optimization_barrier((params, rows, memory))
            memory, x = front.step(weights, memory, i)
            event = jnp.pad(x, (0, width - x.shape[0]), constant_values=jnp.nan)
            table, fields = stepped(estimator, layout, table, (read, write), event)
            bits = fields.view(np.int32)
            return table, jax.lax.dynamic_update_slice(memory, bits, (tail.judgements + FIELDS * i,))

        # A computation outside the loop, e.g. of zeros, is a part of the program by itself. XLA hands a program of more
        # than a few parts to a pool of threads, which takes ten times as long.
        return jax.lax.fori_loop(memory[tail.first], memory[tail.end], body, (table, memory))

    return Program(run, donate_argnums=(2,), of=(front, layout, width))


@functools.lru_cache
def advance_at_once(front: Front, width: int, schedule: Callable[..., Any], traced: bool) -> Callable[..., Any]:
    """`advance_from` for a front that computes its events at once, stepped by a schedule; see `Place.advance`.

    It takes the layout and rows (2, size) as well, and how many events there are from memory[Tail.first] on.
    traced: whether the schedule may be part of a program, which is then the only one.
    """
    tail = Tail.of(front)

    @jax.jit
    def before(weights: Any, memory: Array) -> tuple[Array, Array]:
        memory, x = front.all(weights, memory)
        events = jnp.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=jnp.nan)
        return memory, jnp.roll(events, -memory[tail.first], axis=0)

    @jax.jit
    def after(memory: Array, judgements: Array) -> Array:
        first, end = memory[tail.first], memory[tail.end]
        at = jnp.arange(front.size)[:, None]
        found = jnp.roll(judgements[: front.size], first, axis=0).view(np.int32)
        earlier = memory[tail.judgements : tail.length].reshape(front.size, FIELDS)
        kept = jnp.where((at >= first) & (at < end), found, earlier)
        return memory.at[tail.judgements : tail.length].set(kept.ravel())

    def run(params: Any, weights: Any, table: Array, memory: Array, layout: Layout, rows: Array, n: Any) -> Any:
        memory, events = before(weights, memory)
        table, judgements = schedule(params, layout, table, rows, events, n)
        return table, after(memory, judgements)

    return jax.jit(run, static_argnums=(4,), donate_argnums=(2,)) if traced else run
