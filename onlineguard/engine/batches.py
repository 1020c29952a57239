"""Events as programs take them: float32, padded to few lengths, in memory that XLA need not copy."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.table import LANES, taken_rows

LARGEST_BATCH = 65_536  # events that a CPU runs at once
SMALLEST_BATCH = 64  # events that a smaller batch is padded to


class EventBatch(NamedTuple):
    """Events (n, d), and their targets (n,), None where the model has none.

    x is float32 or float64 in NumPy, as it was given, or float32 or bfloat16 on an accelerator.
    """

    x: Array
    y: np.ndarray | None
    length: int | None = None  # where x is longer than the events are many

    def part(self, which: Any) -> "EventBatch":
        """The events that an index or a slice selects; those of an index are brought to NumPy."""
        if isinstance(which, slice) and which.indices(self.n) == (0, self.n, 1):
            return self
        y = None if self.y is None else self.y[which]
        if not isinstance(self.x, jax.Array):
            return EventBatch(self.x[which], y)
        chosen = np.arange(self.n)[which]
        at = np.zeros(padded_size(len(chosen)), np.int32)  # a new length would be compiled
        at[: len(chosen)] = chosen
        x = taken_rows(self.x, at)
        if isinstance(which, slice):
            return EventBatch(x, y, len(chosen))
        return EventBatch(np.asarray(x, np.float32)[: len(chosen)], y)

    @property
    def n(self) -> int:
        """The number of events."""
        return len(self.x) if self.length is None else self.length


def aligned(rows: int, columns: int) -> np.ndarray:
    """NaNs (rows, columns), float32, aligned so that XLA need not copy them."""
    spare = np.full(rows * columns + LANES, np.nan, np.float32)
    start = -(spare.ctypes.data // spare.itemsize) % LANES
    return spare[start : start + rows * columns].reshape(rows, columns)


def padded_size(n: int, smallest: int = SMALLEST_BATCH) -> int:
    """The length that n events are padded to: a power of four, so that few programs have to be compiled.

    The loop runs over the n events only, so that padding costs memory and little time.
    """
    return max(smallest, 4 ** -(-(n - 1).bit_length() // 2))


def fetched(judgements: Array, n: int) -> np.ndarray:
    """The first n rows in NumPy. From an accelerator only pieces of LARGEST_BATCH that have some of them are copied."""
    if len(judgements) <= LARGEST_BATCH or not isinstance(judgements, jax.Array):
        return np.asarray(judgements)[:n]
    pieces = [np.asarray(_piece(judgements, start)) for start in range(0, n, LARGEST_BATCH)]
    return np.concatenate(pieces)[:n]


@jax.jit
def _piece(whole: Array, start: Array) -> Array:
    return jax.lax.dynamic_slice_in_dim(whole, start, LARGEST_BATCH)


@functools.partial(jax.jit, donate_argnums=(0,))
def with_piece(whole: Array, piece: Array, start: Array) -> Array:
    """An array with some rows from `start` on replaced, in place."""
    return jax.lax.dynamic_update_slice_in_dim(whole, piece, start, 0)


def joined_there(parts: Sequence[tuple[Array, int]]) -> Array:
    """The first rows of each part, so many, in one array where they are; compiled for each length of the whole only."""
    n = sum(count for _, count in parts)
    if len(parts) == 1 and len(parts[0][0]) == n:
        return parts[0][0]
    whole = jnp.zeros((n + max(len(part) for part, _ in parts), parts[0][0].shape[1]), jnp.float32)
    start = 0
    for part, count in parts:
        whole = with_piece(whole, part, np.int32(start))
        start += count
    return whole[:n]


@functools.partial(jax.jit, static_argnums=(2, 3))
def widened(x: Array, y: Array | None, size: int, width: int) -> Array:
    """Events on an accelerator, padded with NaN to (size, width), and a last column of targets (size,) if any."""
    x = jnp.pad(x, ((0, size - x.shape[0]), (0, width - x.shape[1])), constant_values=jnp.nan)
    if y is None:
        return x
    return jnp.concatenate([x, y[:, None].astype(x.dtype)], axis=1)
