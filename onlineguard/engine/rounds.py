"""The schedule for accelerators in plain XLA: in round r, the r-th event of each slice, all slices at once.

Slices never touch each other, so their events may be stepped together, as long as each slice takes its own in order.
Slices are sorted by how many events they have in the batch, most first. So round r is of the first m_r slices, and
m_r falls. Events are sorted by round, then by slice: each round reads a stretch of events and writes a stretch of
judgements. A stretch is padded to a power of two. What the padding writes behind it the next round overwrites.

A batch in which one slice has most events is slower here than on one core: its events are rounds of one. The compiler
may add up rounds of another width in another order, so another cut of a stream can change the last bit of a sum.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Int, Int32
from onlineguard.engine.parts import WASTE
from onlineguard.engine.table import Layout, put_rows, taken_rows
from onlineguard.models.base import FIELDS

NARROWEST = 8  # slices in a round at least; of fewer a program is hardly quicker


class Plan(NamedTuple):
    """In which round each event of a batch comes."""

    order: Int[np.ndarray, " n"]  # the events, by round and then by slice
    offsets: Int32[np.ndarray, " rounds+1"]  # where in the order each round begins, and where the last one ends
    reads: Int32[np.ndarray, " slices"]  # the row of each slice's state before the batch
    writes: Int32[np.ndarray, " slices"]  # and after it

    @classmethod
    def of(cls, reads: np.ndarray, writes: np.ndarray) -> "Plan":
        """The plan for n events that read and write these rows, see `table.advance`.

        An event that is only scored, which writes to WASTE, stands alone: it is in the first round.
        """
        n = len(writes)
        slices = np.where(writes == WASTE, -1 - np.arange(n), writes)
        by_slice = np.argsort(slices, kind="stable")
        starts = np.flatnonzero(np.diff(slices[by_slice], prepend=slices[by_slice[:1]] - 1))
        counts = np.diff(starts, append=n)
        longest_first = np.argsort(-counts, kind="stable")
        place = np.empty_like(longest_first)
        place[longest_first] = np.arange(len(place))
        round_ = np.arange(n) - np.repeat(starts, counts)
        order = by_slice[np.lexsort((np.repeat(place, counts), round_))]
        first = by_slice[starts[longest_first]]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(round_, minlength=1))]).astype(np.int32)
        return cls(order, offsets, reads[first], writes[first])

    def stretches(self) -> Iterator[tuple[int, int, int]]:
        """The width of consecutive rounds, the first of them, and the one after the last."""
        widths = np.array([padded(size) for size in np.diff(self.offsets)])
        ends = np.append(np.flatnonzero(np.diff(widths)) + 1, len(widths))
        for first, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            yield int(widths[first]), first, end


def padded(slices: int) -> int:
    """Slices that a round of so many is padded to: a power of two, so that few programs have to be compiled."""
    return max(NARROWEST, 1 << (int(slices) - 1).bit_length())


def advance(params: Any, layout: Layout, table: Array, rows: np.ndarray, events: Array, n: int) -> tuple[Array, Array]:
    """`table.advance` by rounds: the same answers, to a few ulps. The events are all learned or all only scored."""
    plan = Plan.of(rows[0, :n], rows[1, :n])
    widest, n_slices = padded(len(plan.reads)), len(plan.reads)
    # Twice as long as the batch, so that no stretch ends beyond it. What the padding is of is never kept.
    order, offsets = np.zeros((2, 2 * max(len(events), widest)), np.int32)
    order[:n], offsets[: len(plan.offsets)] = plan.order, plan.offsets
    reads, writes = np.full((2, widest), WASTE, np.int32)
    reads[:n_slices], writes[:n_slices] = plan.reads, plan.writes
    states = taken_rows(table, reads)
    sorted_events = taken_rows(jax.device_put(events, table.sharding), order)
    judgements = jnp.zeros((len(order), FIELDS), jnp.float32, device=table.sharding)
    for width, first, end in plan.stretches():
        states, judgements = _rounds(
            params, layout, width, states, sorted_events, judgements, offsets, np.int32(first), np.int32(end)
        )
    places = np.zeros(len(events), np.int32)
    places[plan.order] = np.arange(n)
    return put_rows(table, states, writes), taken_rows(judgements, places)


@functools.partial(jax.jit, static_argnums=(1,))
def predicted(params: Any, layout: Layout, table: Array, rows: Array, events: Array, n: Array) -> Array:
    """`table.predicted` for all events at once; of those from number n on it means nothing."""

    def of(row: Array, event: Array) -> Array:
        return jnp.asarray(params.predict(layout.unpack(row), event), jnp.float32)

    return jax.vmap(of)(taken_rows(table, rows), events)


@functools.partial(jax.jit, static_argnums=(1, 2), donate_argnums=(3, 5))
def _rounds(
    params: Any,
    layout: Layout,
    width: int,
    states: Array,
    events: Array,
    judgements: Array,
    offsets: Array,
    first: Array,
    end: Array,
) -> tuple[Array, Array]:
    """Rounds `first` to `end` of at most `width` slices; the states of all slices, and the judgements."""

    def step(row: Array, event: Array) -> tuple[Array, Array]:
        event = event.astype(jnp.float32)
        given = (event[:-1], event[-1]) if params.supervised else event
        state, judgement = params.step(layout.unpack(row), given)
        return layout.pack(state), jnp.stack([jnp.asarray(field, jnp.float32) for field in judgement])

    def body(r: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, judgements = carry
        start = offsets[r]
        after, fields = jax.vmap(step)(rows, jax.lax.dynamic_slice_in_dim(events, start, width))
        there = jnp.arange(width) < offsets[r + 1] - start
        return jnp.where(there[:, None], after, rows), jax.lax.dynamic_update_slice(judgements, fields, (start, 0))

    rows, judgements = jax.lax.fori_loop(first, end, body, (states[:width], judgements))
    return jax.lax.dynamic_update_slice(states, rows, (0, 0)), judgements
