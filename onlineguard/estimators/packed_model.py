"""One model stepped event by event through a compiled program, with as little dispatch as possible.

On NumPy the detectors' step takes 35 us an event, of which the arithmetic takes 0.15. A compiled call costs a few
microseconds for every array that goes in or comes out, so one row of bits holds everything: the packed state, the
operator's choices, and the last judgement. A batch runs the same loop body, so it gives the same bits.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.events import as_float32
from onlineguard.engine.origins import LOST, inexact
from onlineguard.engine.table import Layout
from onlineguard.models.base import FIELDS, SliceModel

SMALLEST_WIDTH = 8  # columns are padded to powers of two, so that few new features wait for a compiler
SMALLEST_BATCH, LARGEST_BATCH = 32, 4_096  # batches are padded to powers of two as well
IN_RANGE = 1e76  # an event of a smaller squared length has no value above 1e38; no origin is above it either
ALIGNED = 16  # in float32 numbers; JAX need not copy an array that starts at a multiple of this


class PackedModel:
    """A detector's state and the programs that step it: `judge` and `learn` take and return NumPy arrays.

    Features are counted from their first value that float32 cannot hold, as `engine.origins` says. Nothing but
    NumPy is pickled.
    """

    def __init__(self, estimator: SliceModel, smallest_width: int = SMALLEST_WIDTH):
        self.estimator, self.smallest_width = estimator, smallest_width
        self.width = 0
        self._origin = np.zeros(0)
        self._row: Any = None
        self._after: tuple[bytes, Any] | None = None  # the event judged last, and the row after it

    def grow(self, first: np.ndarray) -> None:
        """Make room for new features, given the first value of each."""
        self._origin = np.concatenate([self._origin, np.where(inexact(first), first, 0.0)])
        count, old = len(self._origin), self.width
        width = max(self.smallest_width, 1 << (count - 1).bit_length())
        if width == old:
            self._prepare()
            return
        state = self._blank(count, width)
        if self._row is not None:
            state = jax.tree.map(functools.partial(_widened, old, width), self.state, state)
        self.width = width
        choices = np.array([float(leaf) for leaf in jax.tree.leaves(self.estimator)], np.float32)
        packed = self._layout().pack(state)
        self._row = np.concatenate([packed, choices, np.zeros(FIELDS, np.float32)])
        self._prepare()

    @property
    def state(self) -> Any:
        """The estimator's state, in NumPy."""
        layout = self._layout()
        return layout.unpack(np.asarray(self._row)[: layout.length])

    def judge(self, values: np.ndarray) -> np.ndarray:
        """The judgement (FIELDS,) of an event (d,); nothing is learned."""
        if self._unset is not None and self._needs_origin(values):
            row, origin = self._row, self._origin
            self._move(values)
            after = self._run(values)
            self._row, self._origin = row, origin
            self._prepare()
            return _judgement(after)
        after = self._run(values)
        self._after = (values.tobytes(), after)
        return _judgement(after)

    def learn(self, values: np.ndarray) -> np.ndarray:
        """Learn an event (d,); returns its judgement (FIELDS,), by the state from before it."""
        if self._unset is not None and self._needs_origin(values):
            self._move(values)
        if self._after is not None and self._after[0] == values.tobytes():
            self._row = self._after[1]  # river mostly learns the event that it judged just before
        else:
            self._row = self._run(values)
        self._after = None
        return _judgement(self._row)  # reading the row also waits until the buffer may be written again

    def judge_many(self, values: np.ndarray, learn: bool) -> np.ndarray:
        """Judgements (n, FIELDS) of events (n, d), in order; if `learn`, each is learned before the next is judged."""
        judgements = np.empty((len(values), FIELDS), np.float32)
        if not learn:
            needs_origin = (inexact(values) & (self._origin == 0.0)).any(axis=1)
            judgements[~needs_origin] = self._judge_batch(values[~needs_origin], learn)
            for i in np.flatnonzero(needs_origin).tolist():
                judgements[i] = self.judge(values[i])
            return judgements
        start = 0
        while start < len(values):
            needs_origin = (inexact(values[start:]) & (self._origin == 0.0)).any(axis=1)
            end = start + int(needs_origin.argmax()) if needs_origin.any() else len(values)
            judgements[start:end] = self._judge_batch(values[start:end], learn)
            if end < len(values):
                self._move(values[end])
            start = end
        return judgements

    def relative(self, values: np.ndarray) -> np.ndarray:
        """An event (width,) as the estimator sees it."""
        self._write(values)
        return self._buffer.copy()

    def reasons(self, values: np.ndarray) -> dict[str, Any]:
        """What the estimator says of an event (width,), see `SliceModel.reasons`; not learned from."""
        origin = np.zeros(self.width)
        origin[: len(self._origin)] = self._origin
        return self.estimator.reasons(self.state, self.relative(values), origin)

    def absolute(self, values: np.ndarray) -> np.ndarray:
        """Features (d,) as the caller counts them, from the estimator's (width,)."""
        return values[: len(self._origin)] + self._origin

    def _judge_batch(self, values: np.ndarray, learn: bool) -> np.ndarray:
        """`judge_many` of events for which no origin has to move."""
        judgements = [np.zeros((0, FIELDS), np.float32)]
        for start in range(0, len(values), LARGEST_BATCH):
            chunk = values[start : start + LARGEST_BATCH] - self._origin
            n = len(chunk)
            events = np.full((max(SMALLEST_BATCH, 1 << (n - 1).bit_length()), self.width), np.nan, np.float32)
            as_float32(chunk, events[:n, : chunk.shape[1]])
            row, fields = self._many(self._row, events, np.int32(n), np.bool_(learn))
            judgements.append(np.asarray(fields)[:n])
            if learn:
                self._row, self._after = row, None
        return np.concatenate(judgements)

    def _needs_origin(self, values: np.ndarray) -> bool:
        """Whether the event holds the first value of a feature that float32 cannot hold."""
        if self._unset is None or not np.count_nonzero(values.view(np.int64) & self._unset):
            return False
        return bool((inexact(values) & (self._origin == 0.0)).any())

    def _move(self, values: np.ndarray) -> None:
        """Give an origin, the value in this event, to each feature that needs one for it and has none yet."""
        by = np.zeros(self.width)
        by[: len(values)] = np.where(inexact(values) & (self._origin == 0.0), values, 0.0)
        stacked = jax.tree.map(lambda leaf: leaf[None], self.state)
        packed = self._layout().pack(self.estimator.moved(stacked, by[None]))[0]
        self._row = np.concatenate([packed, np.asarray(self._row)[len(packed) :]])
        self._origin = self._origin + by[: len(values)]
        self._prepare()

    def _run(self, values: np.ndarray) -> Any:
        self._write(values)
        return self._one(self._row, self._buffer)

    def _write(self, values: np.ndarray) -> None:
        if values.dot(values) < IN_RANGE:
            np.subtract(values, self._origin, out=self._view, casting="same_kind")
        else:
            as_float32(values - self._origin, self._view)

    def _layout(self) -> Layout:
        return Layout.of(self._blank(len(self._origin), self.width))

    def _blank(self, count: int, width: int) -> Any:
        return self.estimator.init(count, width)  # type: ignore[call-arg]  # the detectors' init takes a width

    def _prepare(self) -> None:
        """Renew the buffer and the programs, which follow from the layout and the origins."""
        spare = np.full(self.width + ALIGNED, np.nan, np.float32)
        start = -(spare.ctypes.data // spare.itemsize) % ALIGNED
        self._buffer = spare[start : start + self.width]
        self._view = self._buffer[: len(self._origin)]
        unset = self._origin == 0.0
        self._unset = np.where(unset, LOST, 0) if unset.any() else None  # the bits that would need an origin
        self._one, self._many = _programs(jax.tree.structure(self.estimator), self._layout())
        self._after = None

    def __getstate__(self) -> dict[str, Any]:
        row = None if self._row is None else np.array(self._row)
        kept = {"estimator": self.estimator, "smallest_width": self.smallest_width, "width": self.width}
        return {**kept, "_origin": self._origin, "_row": row}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._after = None
        if self._row is not None:
            self._prepare()


def _judgement(row: Any) -> np.ndarray:
    return np.asarray(row)[-FIELDS:]


@functools.cache
def _programs(structure: Any, layout: Layout) -> tuple[Any, Any]:
    """The compiled programs for one event and for many."""
    first, last = layout.length, layout.length + structure.num_leaves

    def stepped(row: Array, event: Array) -> Array:
        row, event = jax.lax.optimization_barrier((row, event))
        choices = row[first:last]
        params = jax.tree.unflatten(structure, [choices[i] for i in range(last - first)])
        state, judgement = params.step(layout.unpack(row[:first]), event)
        fields = jnp.stack([jnp.asarray(field, jnp.float32) for field in judgement])
        return jnp.concatenate([layout.pack(state), choices, fields])

    @jax.jit
    def one(row: Array, event: Array) -> Array:
        # The compiler cannot know that this loop has one turn, so it compiles it to one function, like the loop below.
        # The loop carries the event too: computations from the event alone would otherwise be moved out of it.
        turns = jax.lax.optimization_barrier(jnp.int32(1))
        return jax.lax.fori_loop(0, turns, lambda _, carry: (stepped(*carry), carry[1]), (row, event))[0]

    @jax.jit
    def many(row: Array, events: Array, n: Array, learn: Array) -> tuple[Array, Array]:
        def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            row, judgements = carry
            after = jax.lax.optimization_barrier(stepped(row, jax.lax.dynamic_index_in_dim(events, i, keepdims=False)))
            judgements = jax.lax.dynamic_update_index_in_dim(judgements, after[-FIELDS:], i, 0)
            return jnp.where(learn, after, row), judgements

        return jax.lax.fori_loop(0, n, body, (row, jnp.zeros((events.shape[0], FIELDS), jnp.float32)))

    return one, many


def _widened(old: int, width: int, narrow: Any, blank: Any) -> Any:
    """The narrow leaf in the first columns of the blank, wider one; both may hold several blocks of columns."""
    if np.shape(narrow) == np.shape(blank):
        return narrow
    if narrow.shape == (old, old):  # a matrix of two features
        wider = blank.copy()
        wider[:old, :old] = narrow
        return wider
    axis = next(i for i, (a, b) in enumerate(zip(narrow.shape, blank.shape, strict=True)) if a != b)
    blocks = blank.shape[axis] // width
    lead, rest = blank.shape[:axis], blank.shape[axis + 1 :]
    wider = blank.reshape(*lead, blocks, width, *rest).copy()
    columns = (slice(None),) * (axis + 1) + (slice(old),)
    wider[columns] = narrow.reshape(*lead, blocks, old, *rest)
    return wider.reshape(blank.shape)
