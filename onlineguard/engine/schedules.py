"""The same step over many events: schedules differ in speed, never in meaning.

A stream may be cut anywhere without changing a bit, so a batch of one event must run the same compiled body as a batch
of a million. Therefore every loop counts to a bound that the compiler cannot see, over arrays of at least two events.
A batch of a new length compiles again.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from onlineguard.core.protocols import Array, Estimator, Event, Score


@jax.jit
def scan(params: Estimator, state: Any, events: Event) -> tuple[Any, Score]:
    """One model over a batch of events, in order.

    Every array of `events` has the events on its first axis. Returns the state after the last event, and each
    event's score from the state before it.
    """

    count, events = _padded(events)

    def body(i: Array, carry: Any) -> Any:
        state, scores = carry
        state, score = params.step(state, _at(events, i))
        return state, scores.at[i].set(score)

    return _loop(body, _strong(state), count)


@partial(jax.jit, donate_argnums=1)
def scan_arrivals(params: Estimator, states: Any, rows: Array, events: Event) -> tuple[Any, Score]:
    """Many models, one a slice, over a batch of events in the order of arrival.

    Every array of `states` has the slices on its first axis; `rows[i]`, int32, is the slice of `events[i]`. A row
    below zero marks padding: it changes nothing and scores NaN. `states` is donated: use the states that
    come back, not the argument.
    """

    count, (rows, events) = _padded((rows, events))

    def body(i: Array, carry: Any) -> Any:
        states, scores = carry
        there = rows[i] >= 0
        row = jnp.maximum(rows[i], 0)
        # without the barrier XLA fuses the read into the write and copies the whole table for every event
        state = lax.optimization_barrier(_at(states, row))
        after, score = params.step(state, _at(events, i))
        after, score = lax.optimization_barrier((after, score))
        next_state = jax.tree.map(lambda a, b: jnp.where(there, a, b), after, state)
        states = jax.tree.map(
            lambda table, leaf: lax.dynamic_update_index_in_dim(table, leaf, row, 0), states, next_state
        )
        return states, scores.at[i].set(jnp.where(there, score, jnp.nan))

    return _loop(body, _strong(states), count)


@jax.jit
def scan_lanes(params: Estimator, states: Any, events: Event, mask: Array) -> tuple[Any, Score]:
    """Many models, each over its own lane of events, all at once.

    `states` has the slices on its first axis; arrays of `events` have slices first and events second; `mask`, bool
    of the same two axes, is false for padding, which changes nothing and scores NaN.
    """

    def lane(state: Any, events: Event, mask: Array) -> tuple[Any, Score]:
        count, (mask, events) = _padded((mask, events))

        def body(i: Array, carry: Any) -> Any:
            state, scores = carry
            after, score = params.step(state, _at(events, i))
            state = jax.tree.map(lambda a, b: jnp.where(mask[i], a, b), after, state)
            return state, scores.at[i].set(jnp.where(mask[i], score, jnp.nan))

        return _loop(body, state, count)

    return jax.vmap(lane)(_strong(states), events, mask)


def _loop(body: Any, state: Any, count: int) -> tuple[Any, Score]:
    bound = lax.optimization_barrier(jnp.int32(count))
    state, scores = lax.fori_loop(0, bound, body, (state, jnp.full(max(count, 2), jnp.nan, jnp.float32)))
    return state, scores[:count]


def _padded(tree: Any) -> tuple[int, Any]:
    """The number of events, and the events padded to at least two. The loop never reaches the padding."""
    count: int = jax.tree.leaves(tree)[0].shape[0]
    n_padding = max(2 - count, 0)
    return count, jax.tree.map(lambda leaf: jnp.pad(leaf, ((0, n_padding),) + ((0, 0),) * (leaf.ndim - 1)), tree)


def _at(tree: Any, i: Array) -> Any:
    return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, i, 0, keepdims=False), tree)


def _strong(tree: Any) -> Any:
    """Arrays of strong types, which no later event can change."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), tree)
