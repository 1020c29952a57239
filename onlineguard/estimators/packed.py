"""A state kept in one row of bits, and the compiled programs that step it, with as little dispatch as possible.

On NumPy a step takes 35 to 500 us an event, of which the arithmetic takes one. A compiled call costs a few microseconds
for every array that goes in or comes out, so one row holds everything: the packed state, the operator's choices, and
the last answer. A batch runs the same loop body, so it gives the same bits.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.batches import padded_size
from onlineguard.engine.events import as_float32
from onlineguard.engine.forks import check_fork
from onlineguard.engine.origins import LOST, inexact
from onlineguard.engine.table import Layout

SMALLEST_WIDTH = 8  # columns are padded to powers of two, so that few new features wait for a compiler
LARGEST_BATCH = 4_096  # events that are stepped by one call of a program
IN_RANGE = 1e38  # an event of a smaller length has no larger value; no origin is above it either
ALIGNED = 16  # in float32 numbers; JAX need not copy an array that starts at a multiple of this

# The state after an event, and the answer (n,) in float32 that a row ends with, from the model and the state before.
Step = Callable[[Any, Any, Array], tuple[Any, Array]]


class Packed:
    """A state in a row, of features that may become more, and the programs that step it.

    Features are counted from their first value that float32 cannot hold, as `engine.origins` says, if the model is
    shiftable. Nothing but NumPy is pickled.

    estimator: the model, or what makes it for a number of columns.
    extra: numbers of an event that come after its features.
    """

    estimator: Any
    step: Step  # a function of a module, by which programs are known
    answers: int  # numbers of an answer

    def __init__(self, estimator: Any, smallest_width: int = SMALLEST_WIDTH, extra: int = 0):
        self._made = estimator if callable(estimator) else None
        self.estimator = self._made(smallest_width) if self._made else estimator
        self.smallest_width, self._extra = smallest_width, extra
        self.width = 0
        self._origin = np.zeros(0)
        self._row: Any = None

    def grow(self, first: np.ndarray) -> None:
        """Make room for new features, given the first value of each."""
        origins = np.where(inexact(first), first, 0.0) if self.estimator.shiftable else np.zeros(len(first))
        self._origin = np.concatenate([self._origin, origins])
        count, old = len(self._origin), self.width
        width = max(self.smallest_width, 1 << (count - 1).bit_length())
        if width == old:
            self._prepare()
            return
        kept = None if self._row is None else self.state
        if self._made:
            self.estimator = self._made(width)
        state = self._blank(count, width)
        if kept is not None:
            state = jax.tree.map(functools.partial(_widened, old, width), kept, state)
        self.width = width
        self._put(state)

    def use(self, estimator: Any) -> None:
        """Go on with an estimator that differs in its numbers alone; no program is compiled again."""
        kept = None if self._row is None else self.state
        self.estimator = estimator
        if kept is not None:
            self._put(kept)

    @property
    def state(self) -> Any:
        """The estimator's state, in NumPy."""
        layout = self._layout()
        return layout.unpack(np.asarray(self._row)[: layout.length])

    def relative(self, values: np.ndarray) -> np.ndarray:
        """An event (width,) as the estimator sees it."""
        self._write(values)
        return self._buffer[: self.width].copy()

    def absolute(self, values: np.ndarray) -> np.ndarray:
        """Features (d,) as the caller counts them, from the estimator's (width,)."""
        return values[: len(self._origin)] + self._origin

    def _blank(self, count: int, width: int) -> Any:
        """The state before any event of so many features in so many columns."""
        return self.estimator.init(count, width)

    def _put(self, state: Any) -> None:
        """Start a row from a state, and from no answer yet."""
        choices = np.array([float(leaf) for leaf in _numbers(self.estimator)[0]], np.float32)
        self._row = np.concatenate([self._layout().pack(state), choices, self._answer(state)])
        self._prepare()

    def _answer(self, state: Any) -> np.ndarray:
        """What a row ends with before its first event; the state may have learned before."""
        return np.zeros(self.answers, np.float32)

    def _stretches(self, values: np.ndarray) -> Any:
        """Ranges of events (n, d) in which no origin has to move, but before the first of each; and whether it has."""
        start, moves = 0, False
        while start < len(values):
            if moves:
                self._move(values[start])
            needs_origin = self._rows_that_need_origins(values[start:])
            end = start + int(needs_origin.argmax()) if needs_origin.any() else len(values)
            yield start, end
            start, moves = end, True

    def _rows_that_need_origins(self, values: np.ndarray) -> np.ndarray:
        if not self.estimator.shiftable:
            return np.zeros(len(values), bool)
        return (inexact(values) & (self._origin == 0.0)).any(axis=1)

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
        """The row after an event (d,); the row itself stays."""
        check_fork()
        self._write(values)
        return self._one(self._row, self._buffer)

    def _run_many(self, values: np.ndarray, learn: bool, extra: np.ndarray | None = None) -> np.ndarray:
        """Answers (n, answers) to events (n, d), for which no origin has to move; `extra` is (n, extra)."""
        check_fork()
        answers = [np.zeros((0, self.answers), np.float32)]
        for start in range(0, len(values), LARGEST_BATCH):
            chunk = values[start : start + LARGEST_BATCH] - self._origin
            n = len(chunk)
            shape = (padded_size(n), self.width + self._extra)
            events = np.full(shape, np.nan, np.float32)
            as_float32(chunk, events[:n, : chunk.shape[1]])
            if extra is not None:
                as_float32(extra[start : start + n], events[:n, self.width :])
            row, found = self._many(self._row, events, np.int32(n), np.bool_(learn))
            answers.append(np.asarray(found)[:n])
            if learn:
                self._row = row
        return np.concatenate(answers)

    def _write(self, values: np.ndarray) -> None:
        if math.hypot(*values.tolist()) < IN_RANGE:  # unlike a product with itself it never overflows
            np.subtract(values, self._origin, out=self._view, casting="same_kind")
        else:
            as_float32(values - self._origin, self._view)

    def _layout(self) -> Layout:
        return Layout.of(self._blank(len(self._origin), self.width))

    def _prepare(self) -> None:
        """Renew the buffer and the programs, which follow from the layout and the origins."""
        columns = self.width + self._extra
        spare = np.full(columns + ALIGNED, np.nan, np.float32)
        start = -(spare.ctypes.data // spare.itemsize) % ALIGNED
        self._buffer = spare[start : start + columns]
        self._view = self._buffer[: len(self._origin)]
        unset = (self._origin == 0.0) & self.estimator.shiftable
        self._unset = np.where(unset, LOST, 0) if unset.any() else None  # the bits that would need an origin
        self._one, self._many = _programs(type(self).step, self.answers, _numbers(self.estimator)[1], self._layout())

    def __getstate__(self) -> dict[str, Any]:
        row = None if self._row is None else np.array(self._row)
        kept = {"_made": self._made, "estimator": self.estimator, "smallest_width": self.smallest_width}
        return {**kept, "width": self.width, "_extra": self._extra, "_origin": self._origin, "_row": row}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._row is not None:
            self._prepare()


class _Structure(NamedTuple):
    """A model without its numbers, hashable: what a program is compiled for."""

    tree: Any
    others: tuple[Any, ...]  # leaves that are no numbers, such as a rate of the caller's own; None in place of a number

    def model(self, numbers: list[Any]) -> Any:
        """The model with these numbers."""
        left = iter(numbers)
        return jax.tree.unflatten(self.tree, [next(left) if other is None else other for other in self.others])


def _numbers(model: Any) -> tuple[list[Any], _Structure]:
    """The numbers that the operator chose, and the model around them."""
    leaves, tree = jax.tree.flatten(model)
    others = tuple(None if np.isscalar(leaf) or isinstance(leaf, np.ndarray) else leaf for leaf in leaves)
    return [leaf for leaf, other in zip(leaves, others, strict=True) if other is None], _Structure(tree, others)


@functools.cache
def _programs(step: Step, answers: int, structure: _Structure, layout: Layout) -> tuple[Any, Any]:
    """The compiled programs for one event and for many."""
    first, last = layout.length, layout.length + structure.others.count(None)

    def stepped(row: Array, event: Array) -> Array:
        row, event = jax.lax.optimization_barrier((row, event))
        choices = row[first:last]
        model = structure.model([choices[i] for i in range(last - first)])
        state, answer = step(model, layout.unpack(row[:first]), event)
        return jnp.concatenate([layout.pack(state), choices, answer])

    @jax.jit
    def one(row: Array, event: Array) -> Array:
        # The compiler cannot know that this loop has one turn, so it compiles it to one function, like the loop below.
        # The loop carries the event too: computations from the event alone would otherwise be moved out of it.
        turns = jax.lax.optimization_barrier(jnp.int32(1))
        return jax.lax.fori_loop(0, turns, lambda _, carry: (stepped(*carry), carry[1]), (row, event))[0]

    @jax.jit
    def many(row: Array, events: Array, n: Array, learn: Array) -> tuple[Array, Array]:
        def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            row, found = carry
            after = jax.lax.optimization_barrier(stepped(row, jax.lax.dynamic_index_in_dim(events, i, keepdims=False)))
            found = jax.lax.dynamic_update_index_in_dim(found, after[-answers:], i, 0)
            return jnp.where(learn, after, row), found

        return jax.lax.fori_loop(0, n, body, (row, jnp.zeros((events.shape[0], answers), jnp.float32)))

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
