"""The states of all slices' models, one row of a table each, and the origins that their events are counted from.

This module knows rows, not slices. The Engine decides which slice has which row, and when the table must change.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.arrays import as_params
from onlineguard.engine.batches import EventBatch
from onlineguard.engine.fronts import Front
from onlineguard.engine.origins import Origins
from onlineguard.engine.parts import FIRST_ROW, FRESH, TYPICAL, WASTE
from onlineguard.engine.slices import UNKNOWN
from onlineguard.engine.stepper import Stepper
from onlineguard.engine.table import Layout
from onlineguard.errors import CheckpointError
from onlineguard.models.base import FIELDS, MIN_SEEN, SliceModel

SAMPLE = 64  # slices that are pooled
APART = 256  # states moved at once; also events judged at once where states have to be copied for it
LIKELY = 10.0  # a new slice starts from the typical state if its first event scores less than this there
LARGEST_SCORE = 3e38  # an infinite score counts as this where scores are compared


class Sample(NamedTuple):
    """The states of some slices, for engines of the same model and features to pool; see `Engine.sample`."""

    rows: np.ndarray  # int32 (n, length), packed
    origins: np.ndarray  # float64 (n, d)


class States:
    """A table of model states, for events of `n_features` numbers. At first it has only the rows of no slice."""

    __slots__ = (
        "_anchored",
        "_model",
        "_n_features",
        "_origins",
        "_params",
        "_sample",
        "_width",
        "layout",
        "table",
    )

    def __init__(self, model: SliceModel, n_features: int, most_cores: int | None = None, device: str = "auto"):
        self._n_features = n_features
        self._width = model.width(n_features)
        narrow = self._width == n_features
        start = model.init(n_features) if narrow else model.init(n_features, self._width)  # type: ignore[call-arg]
        self.layout = Layout.of(start)  # of a row of the table
        self._origins = Origins(n_features, model.shiftable)
        self._sample: tuple[Callable[[], np.ndarray], np.ndarray] | None = None  # rows and origins still to be pooled
        self.table = Stepper(model, self.layout, self._width, self._origins, most_cores, device)
        self.use(model)
        rows = np.zeros((FIRST_ROW, self.layout.length), np.float32)
        rows[[FRESH, TYPICAL]] = np.asarray(self.layout.pack(start))
        self.table.restore(rows)
        self._anchored = self._is_anchored(start)

    @property
    def model(self) -> SliceModel:
        """The model of one slice, as it was given."""
        return self._model

    @property
    def params(self) -> SliceModel:
        """The model as it is given to compiled programs: its numbers are float32 arrays."""
        return self._params

    def use(self, model: SliceModel) -> None:
        """Go on with a model of other numbers; programs are not compiled again."""
        self._pool_sample()
        self._model = model
        self._params = as_params(model)
        self.table.use(self._params)

    @property
    def pools(self) -> bool:
        """Whether the model says where new slices start."""
        return type(self._model).pooled is not SliceModel.pooled

    @property
    def width(self) -> int:
        """Numbers in an event as the model gets it: those of the caller, padded with missing ones."""
        return self._width

    def of(self, row: int) -> Any:
        """The state in a row, in NumPy and in the data's own unit; see `Engine.state`."""
        rows = np.array([row], np.int32)
        states = self.layout.unpack(self.table.parts.take(rows))
        origins = self._origins.of(rows)
        if origins.any():
            wide = np.zeros((1, self._width))
            wide[:, : self._n_features] = origins
            finer = jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, states)
            states = self._model.moved(finer, -wide)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[0], states)

    def begin(self, rows: np.ndarray, events: EventBatch) -> np.ndarray:
        """The rows that hold the starting states of new slices, given the first event of each; sets their origins."""
        self._pool_sample()
        reads = np.full(len(rows), FRESH, np.int32)
        origins = self._origins.first(events.x)
        if self.pools:
            typical = np.full_like(reads, TYPICAL)
            likely = self.table.run(typical, np.full_like(reads, WASTE), events, typical)[:, 0] < LIKELY
            reads = np.where(likely, typical, reads)
            origins = np.where(likely[:, None], self._origins.of(typical), origins)
        self._origins.put(rows, origins)
        if self._anchored:
            to_move = np.flatnonzero((reads == FRESH) & origins.any(axis=1))
            if len(to_move):
                self._move(reads[to_move], reads[to_move], rows[to_move], origins[to_move])
                reads[to_move] = rows[to_move]
        return reads

    def learn(
        self,
        reads: np.ndarray,
        rows: np.ndarray,
        events: EventBatch,
        wait: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Array:
        """Run events from the states in `reads`, write these to `rows`; judgements (n, FIELDS), see `Stepper.run`.

        A slice stops before an event that moves its origin. Slices never touch each other, so the others run on. Then
        all stopped slices are moved at once, and go on.
        """
        needed = self._origins.needed(rows, events.x)
        if needed is None:
            return self.table.run(reads, rows, events, rows, wait, meanwhile)
        meanwhile()
        reads, judgements = reads.copy(), np.empty((events.n, FIELDS), np.float32)
        waiting = np.arange(events.n)
        while needed is not None:
            movers = np.flatnonzero(needed.any(axis=1))
            first = movers[np.unique(rows[waiting[movers]], return_index=True)[1]]
            stop = np.full(rows.max() + 1, len(waiting))
            stop[rows[waiting[first]]] = first
            stopped = np.arange(len(waiting)) >= stop[rows[waiting]]
            running, at = waiting[~stopped], waiting[first]
            judgements[running] = self.table.run(reads[running], rows[running], events.part(running), rows[running])
            self._move(reads[at], rows[at], rows[at], np.where(needed[first], events.x[at], 0.0))
            reads[at] = rows[at]
            waiting = waiting[stopped]
            needed = self._origins.needed(rows[waiting], events.x[waiting])
        judgements[waiting] = self.table.run(reads[waiting], rows[waiting], events.part(waiting), rows[waiting])
        return judgements

    def judge(
        self, rows: np.ndarray, events: EventBatch, spare: int, wait: bool = True
    ) -> list[tuple[Array, np.ndarray]]:
        """The judgements, in parts, of events in these rows, some UNKNOWN, and the rows; nothing is learned.

        spare: the first row that no slice has. It and those behind it hold temporary states; a slice that gets one
            of them later overwrites it.
        wait: see `Stepper.run`.
        """
        parts: list[tuple[Array, np.ndarray]] = []
        start = 0
        for reads, homes, part in self._looked_up(rows, events, spare):
            judged = self.table.run(reads, np.full_like(reads, WASTE), part, homes, wait)
            parts.append((judged, rows[start : start + part.n]))
            start += part.n
        return parts

    def predict(self, rows: np.ndarray, events: EventBatch, spare: int) -> np.ndarray:
        """The targets that the models in these rows, some UNKNOWN, predict: float32 (n,). See `judge`."""
        parts: list[np.ndarray] = [np.empty(0, np.float32)]
        for reads, homes, part in self._looked_up(rows, events, spare):
            parts.append(self.table.predict(reads, homes, part))
        return np.concatenate(parts)

    def contributions(self, row: int, event: EventBatch, spare: int) -> np.ndarray:
        """The part of each feature in the score that an event would get in a row, (d,). See `judge`."""
        reads, homes, event = self._one(row, event, spare)
        with np.errstate(all="ignore"):
            parts = self._model.contributions(*self._unpacked(reads, homes, event))
        if parts is None:
            parts = self._left_out(reads, homes, event)
        return np.asarray(parts, np.float64)[: self._n_features]

    def reasons(self, row: int, event: EventBatch, spare: int) -> dict[str, Any]:
        """What the model says of an event in a row, see `SliceModel.reasons`."""
        reads, homes, event = self._one(row, event, spare)
        origin = np.zeros(self._width)
        origin[: self._n_features] = self._origins.of(homes)[0]
        with np.errstate(all="ignore"):
            found = self._model.reasons(*self._unpacked(reads, homes, event), origin)
        return found

    def _one(self, row: int, event: EventBatch, spare: int) -> tuple[np.ndarray, np.ndarray, EventBatch]:
        """`_looked_up` for a single event."""
        (found,) = self._looked_up(np.array([row], np.int32), event, spare)
        return found

    def _unpacked(self, reads: np.ndarray, homes: np.ndarray, event: EventBatch) -> tuple[Any, np.ndarray]:
        """A state in NumPy, and the event (width,) relative to its origin."""
        state = jax.tree.map(lambda leaf: leaf[0], self.layout.unpack(self.table.parts.take(reads)))
        return state, self.table.padded(homes, event, 1)[0, : self._width]

    @property
    def have_origins(self) -> bool:
        """Whether any slice counts its events from an origin other than zero."""
        return len(self._origins.table) > 0

    def begin_from(self, front: Front, weights: Any, memory: np.ndarray, start: int, born: list[int]) -> np.ndarray:
        """`begin` for a front, which computes the events once for their scores only; the memory after is dropped."""
        if not self.pools:
            return np.full(len(born), FRESH, np.int32)
        self._pool_sample()
        typical = np.full(born[-1] + 1 - start, TYPICAL, np.int32)
        _, judgements = self.table.run_from(front, weights, memory, start, (typical, np.full_like(typical, WASTE)))
        return np.where(judgements[born, 0] < LIKELY, TYPICAL, FRESH)

    def pool(self, sample: np.ndarray) -> None:
        """Renew the state that new slices start from: the median of those in at most SAMPLE rows.

        The rows are copied as they are now, and their median is only taken once it is needed.
        """
        if self.pools:
            rows = np.full(SAMPLE, WASTE, np.int32)  # which is compiled for
            rows[: len(sample)] = sample
            self._sample = self.table.parts.taking(rows), self._origins.of(sample)

    def sampled(self, rows: np.ndarray) -> Sample:
        """Copies of those of at most SAMPLE rows that have seen enough to be pooled."""
        wide = np.full(SAMPLE, WASTE, np.int32)
        wide[: len(rows)] = rows
        taken, origins = self.table.parts.take(wide)[: len(rows)], self._origins.of(rows)
        seasoned = self._model.seen(self.layout.unpack(taken)) >= MIN_SEEN
        return Sample(taken[seasoned].view(np.int32), origins[seasoned])

    def adopt(self, sample: Sample) -> bool:
        """Have new slices start from the median of these states, if they are of such a table; whether they are."""
        rows, origins = sample
        if rows.ndim != 2 or rows.shape[1] != self.layout.length or origins.shape != (len(rows), self._n_features):
            return False
        self._sample = None
        if len(rows):
            self._pool(self.layout.unpack(np.ascontiguousarray(rows, np.int32).view(np.float32)), origins)
        return True

    def _put(self, row: int, state: Any) -> None:
        """Set the state in a row."""
        self.table.parts.put(np.array([row], np.int32), self.layout.pack(state)[None])

    def _pool_sample(self) -> None:
        """Put the states in place that new slices start from, if the last `pool` has not done so yet."""
        if self._sample is None:
            return
        (take, origins), self._sample = self._sample, None
        states = self.layout.unpack(take()[: len(origins)])
        seasoned = self._model.seen(states) >= MIN_SEEN
        if seasoned.any():
            self._pool(jax.tree.map(lambda leaf: leaf[seasoned], states), origins[seasoned])

    def _pool(self, states: Any, origins: np.ndarray) -> None:
        """Put the median of states in place, if the model finds one."""
        padded = np.zeros((len(origins), self._width))
        padded[:, : self._n_features] = origins
        pooled = self._model.pooled(states, padded)
        if pooled is not None:
            self._put(TYPICAL, pooled.typical)
            self._put(FRESH, pooled.fresh)
            self._origins.put(np.array([TYPICAL]), pooled.origin[None, : self._n_features])
            self._anchored = self._is_anchored(pooled.fresh)

    def warmup(self, batch: int) -> None:
        """Compile the programs for up to `batch` events at once; see `Stepper.warmup`."""
        x = np.full((1, self._n_features), np.nan, np.float32)
        nothing = EventBatch(x, np.full(1, np.nan, np.float32) if self._model.supervised else None)
        self.table.warmup(batch, nothing, (1, SAMPLE, APART))
        if self._model.shiftable:
            waste = np.full(1, WASTE, np.int32)
            self._move(waste, waste, waste, np.zeros((1, self._n_features)))

    def fetch(self) -> np.ndarray:
        """The table in NumPy, float32 (rows, length); at hand until it changes."""
        self._pool_sample()
        return self.table.parts.fetch()

    def dump(self, used: np.ndarray, end: int) -> dict[str, np.ndarray]:
        """Copies of the table, as bits in int32, and of the origins up to row `end`; zeros in rows that nobody uses."""
        table = self.fetch()
        rows = np.concatenate([[FRESH, TYPICAL], used])
        tensors = {"table": np.zeros((end, self.layout.length), np.int32), "origins": np.zeros((end, self._n_features))}
        tensors["table"][rows] = table[rows].view(np.int32)
        tensors["origins"][rows] = self._origins.of(rows)
        return tensors

    def put(self, rows: np.ndarray, table: np.ndarray, origins: np.ndarray) -> None:
        """Set the states in rows for which there is room, from bits and origins that were dumped."""
        self._origins.put(rows, origins)
        for start in range(0, len(rows), APART):
            part = slice(start, start + APART)
            to, values = np.full(APART, WASTE, np.int32), np.zeros((APART, self.layout.length), np.int32)
            to[: len(rows[part])], values[: len(rows[part])] = rows[part], table[part]
            self.table.parts.put(to, values.view(np.float32))

    def restore(self, tensors: dict[str, np.ndarray], end: int) -> None:
        """Go on from a dump; raises CheckpointError, ValueError, KeyError or TypeError for a bad one."""
        if tensors["origins"].any():
            self._origins.table = np.array(tensors["origins"])
        table = tensors["table"]
        if table.shape != (end, self.layout.length):
            raise CheckpointError(
                f"it holds {' by '.join(map(str, table.shape))} numbers for states that take {end} by "
                f"{self.layout.length} today: another version of onlineguard saved it, or it is damaged. Go on with "
                "that version, or start anew"
            )
        if table.dtype == np.float32:  # of format 1, where counts were floats
            table = self.layout.from_floats(table)
        table = table.view(np.float32)
        self.table.restore(table)
        self._sample = None
        self._anchored = self._is_anchored(self.layout.unpack(table[FRESH]))

    def _is_anchored(self, fresh: Any) -> bool:
        """Whether the state before any event holds a position, so that it must be moved when a slice gets an origin."""
        if not self._model.shiftable:
            return False
        stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[None], fresh)
        moved = self.layout.pack(self._model.moved(stacked, np.ones((1, self._width))))
        return bool((moved != self.layout.pack(stacked)).any())

    def _looked_up(
        self, rows: np.ndarray, events: EventBatch, spare: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, EventBatch]]:
        """Parts of events that are judged and not learned: rows of their states, rows of their origins, and the events.

        Parts are smaller where states have to be copied.
        """
        plain = (rows != UNKNOWN).all() and self._origins.needed(rows, events.x) is None
        step = self.table.place_of(events.n).largest if plain else APART
        for start in range(0, events.n, step):
            part = events.part(slice(start, start + step))
            homes = rows[start : start + step]
            reads = homes
            if not plain:
                reads, homes = homes.copy(), homes.copy()
                new = np.flatnonzero(homes == UNKNOWN)
                if len(new):
                    homes[new] = spare + new
                    reads[new] = self.begin(homes[new], part.part(new))
                reads, homes = self._apart(reads, homes, part, spare)
            yield reads, homes, part

    def _apart(
        self, reads: np.ndarray, homes: np.ndarray, events: EventBatch, spare: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows to read states and origins from. An event that would move its origin reads a moved copy."""
        needed = self._origins.needed(homes, events.x)
        if needed is None:
            return reads, homes
        at = np.flatnonzero(needed.any(axis=1))
        copies = (spare + at).astype(np.int32)
        self._move(reads[at], homes[at], copies, np.where(needed[at], events.x[at], 0.0))
        reads, homes = reads.copy(), homes.copy()
        reads[at] = homes[at] = copies
        return reads, homes

    def _left_out(self, reads: np.ndarray, homes: np.ndarray, events: EventBatch) -> np.ndarray:
        """The drop of one event's score when each feature in turn is missing, (d,); not below 0."""
        d = self._n_features
        x = np.repeat(events.x, d + 1, axis=0)
        x[np.arange(1, d + 1), np.arange(d)] = np.nan
        many = EventBatch(x, None if events.y is None else np.repeat(events.y, d + 1))
        at = np.repeat(reads, d + 1)
        scores = self.table.run(at, np.full_like(at, WASTE), many, np.repeat(homes, d + 1))[:, 0].astype(np.float64)
        whole, *without = np.nan_to_num(scores, nan=0.0, posinf=LARGEST_SCORE)
        return np.where(np.isfinite(events.x[0]), np.maximum(whole - np.array(without), 0.0), 0.0)

    def _move(self, reads: np.ndarray, homes: np.ndarray, targets: np.ndarray, shift: np.ndarray) -> None:
        """Copy states from rows `reads` to rows `targets`, with the origins of `homes` shifted by `shift` (n, d)."""
        self._origins.put(targets, self._origins.of(homes) + shift)
        self.table.parts.reserve(int(targets.max()) + 1)
        for start in range(0, len(reads), APART):
            n = len(reads[start : start + APART])
            rows, wide = np.full((2, APART), WASTE, np.int32), np.zeros((APART, self._width))
            rows[:, :n] = reads[start : start + APART], targets[start : start + APART]
            wide[:n, : self._n_features] = shift[start : start + APART]
            states = self.layout.unpack(self.table.parts.take(rows[0]))
            self.table.parts.put(rows[1], self.layout.pack(self._model.moved(states, wide)))
