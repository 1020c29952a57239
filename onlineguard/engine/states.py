"""The states of all slices' models, one row of a table each, and the origins that their events are counted from.

This module knows rows, not slices. The Engine decides which slice has which row, and when the table must change.
"""

import functools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.device import SMALLEST_BATCH, Place, places
from onlineguard.engine.origins import Origins
from onlineguard.engine.parts import FIRST_ROW, FRESH, TYPICAL, WASTE, Parts, at_once
from onlineguard.engine.slices import UNKNOWN
from onlineguard.engine.table import (
    LANES,
    Front,
    Layout,
    Tail,
    advance_from,
)
from onlineguard.models.base import FIELDS, MIN_SEEN, SliceModel

LARGEST_BATCH = 65_536  # events that are run at once
FIRST_CAPACITY = 1_024  # rows; doubled when full
# Events of a call that is large: several cores step it, or an accelerator, unless `warmup` has measured another number.
SPLIT_FROM = 8_192  # with 4,096 the marginal Detector is no quicker by two cores
APART = 256  # states moved at once; also events judged at once where states have to be copied for it
NEVER = 2**62  # events of a call for which an accelerator is quicker, where it is for none
LIKELY = 10.0  # a new slice starts from the typical state if its first event scores less than this there
LARGEST_SCORE = 3e38  # an infinite score counts as this where scores are compared


class EventBatch(NamedTuple):
    """Events as they were given, (n, d) float32 or float64, and their targets (n,), None where the model has none."""

    x: np.ndarray
    y: np.ndarray | None

    def part(self, which: Any) -> "EventBatch":
        """The events that an index or a slice selects."""
        return EventBatch(self.x[which], None if self.y is None else self.y[which])

    @property
    def n(self) -> int:
        """The number of events."""
        return len(self.x)


class States:
    """A table of model states, for events of `n_features` numbers. At first it has only the rows of no slice."""

    __slots__ = (
        "_anchored",
        "_buffers",
        "_here",
        "_large_from",
        "_large_place",
        "_last_front",
        "_model",
        "_n_features",
        "_origins",
        "_params",
        "_parts",
        "_place",
        "_small",
        "_small_place",
        "_width",
        "layout",
    )

    def __init__(self, model: SliceModel, n_features: int, most_cores: int | None = None, device: str = "auto"):
        self._n_features = n_features
        self._width = model.width(n_features)
        narrow = self._width == n_features
        start = model.init(n_features) if narrow else model.init(n_features, self._width)  # type: ignore[call-arg]
        self.layout = Layout.of(start)  # of a row of the table
        columns = self._width + model.supervised
        params = jax.tree.map(jnp.float32, model)
        self._small_place, self._large_place = places(device, most_cores, params, self.layout, columns)
        self._place = self._small_place
        self.use(model)
        self._parts = Parts(FIRST_CAPACITY, self.layout.length, self._place.devices)
        self._small = 0  # events of small calls in a row
        self._large_from = SPLIT_FROM
        self._origins = Origins(n_features, model.shiftable)
        self.put(FRESH, start)
        self.put(TYPICAL, start)
        self._anchored = self._is_anchored(start)
        # By part and batch size. New memory would take a third of the time of every call.
        self._buffers: dict[tuple[int, int], np.ndarray] = {}
        self._last_front: tuple[Front, Tail, Any] | None = None  # the last front, with its tail and its program

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
        self._model = model
        self._params = jax.tree.map(jnp.float32, model)
        self._here = self._place.put(self._params)

    @property
    def goes_away(self) -> bool:
        """Whether some calls are stepped on an accelerator."""
        return self._large_place.away

    def __str__(self) -> str:
        """Where events are stepped; empty on a machine that has nothing but cores."""
        if not self._large_place.away:
            return ""
        away = f"on {self._large_place.name} by {self._large_place.advance}"
        if self._small_place.away:
            return away
        least = "no calls" if self._large_from == NEVER else f"calls of {self._large_from:,} events or more"
        return f"{least} {away}"

    @property
    def pools(self) -> bool:
        """Whether the model says where new slices start."""
        return type(self._model).pooled is not SliceModel.pooled

    @property
    def width(self) -> int:
        """Numbers in an event as the model gets it: those of the caller, padded with missing ones."""
        return self._width

    @property
    def capacity(self) -> int:
        """Rows of the table."""
        return self._parts.capacity

    def reserve(self, rows: int) -> None:
        """Double the table until it has at least this many rows."""
        self._parts.reserve(rows)

    def put(self, row: int, state: Any) -> None:
        """Set the state in a row."""
        self._parts.put(np.array([row], np.int32), self.layout.pack(state)[None])

    def of(self, row: int) -> Any:
        """The state in a row, in NumPy and in the data's own unit; see `Engine.state`."""
        rows = np.array([row], np.int32)
        states = self.layout.unpack(self._parts.take(rows))
        origins = self._origins.of(rows)
        if origins.any():
            wide = np.zeros((1, self._width))
            wide[:, : self._n_features] = origins
            finer = jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, states)
            states = self._model.moved(finer, -wide)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[0], states)

    def begin(self, rows: np.ndarray, events: EventBatch) -> np.ndarray:
        """The rows that hold the starting states of new slices, given the first event of each; sets their origins."""
        reads = np.full(len(rows), FRESH, np.int32)
        origins = self._origins.first(events.x)
        if self.pools:
            typical = np.full_like(reads, TYPICAL)
            likely = self._run(typical, np.full_like(reads, WASTE), events, typical)[:, 0] < LIKELY
            reads = np.where(likely, typical, reads)
            origins = np.where(likely[:, None], self._origins.of(typical), origins)
        self._origins.put(rows, origins)
        if self._anchored:
            to_move = np.flatnonzero((reads == FRESH) & origins.any(axis=1))
            if len(to_move):
                self._move(reads[to_move], reads[to_move], rows[to_move], origins[to_move])
                reads[to_move] = rows[to_move]
        return reads

    def learn(self, reads: np.ndarray, rows: np.ndarray, events: EventBatch, wait: bool = True) -> Array:
        """Run at most LARGEST_BATCH events from the states in `reads`, write these to `rows`; judgements (n, FIELDS).

        Without `wait` they may be longer, and an accelerator may still be at work on them.

        A slice stops before an event that moves its origin. Slices never touch each other, so the others run on. Then
        all stopped slices are moved at once, and go on.
        """
        needed = self._origins.needed(rows, events.x)
        if needed is None:
            return self._run(reads, rows, events, rows, wait)
        reads, judgements = reads.copy(), np.empty((events.n, FIELDS), np.float32)
        waiting = np.arange(events.n)
        while needed is not None:
            movers = np.flatnonzero(needed.any(axis=1))
            first = movers[np.unique(rows[waiting[movers]], return_index=True)[1]]
            stop = np.full(rows.max() + 1, len(waiting))
            stop[rows[waiting[first]]] = first
            stopped = np.arange(len(waiting)) >= stop[rows[waiting]]
            running, at = waiting[~stopped], waiting[first]
            judgements[running] = self._run(reads[running], rows[running], events.part(running), rows[running])
            self._move(reads[at], rows[at], rows[at], np.where(needed[first], events.x[at], 0.0))
            reads[at] = rows[at]
            waiting = waiting[stopped]
            needed = self._origins.needed(rows[waiting], events.x[waiting])
        judgements[waiting] = self._run(reads[waiting], rows[waiting], events.part(waiting), rows[waiting])
        return judgements

    def judge(self, rows: np.ndarray, events: EventBatch, spare: int) -> list[np.ndarray]:
        """The judgements (n, FIELDS), in parts, of events in these rows, some UNKNOWN; nothing is learned.

        spare: the first row that no slice has. It and those behind it hold temporary states; a slice that gets one
            of them later overwrites it.
        """
        return [
            self._run(reads, np.full_like(reads, WASTE), part, homes)
            for reads, homes, part in self._looked_up(rows, events, spare)
        ]

    def predict(self, rows: np.ndarray, events: EventBatch, spare: int) -> np.ndarray:
        """The targets that the models in these rows, some UNKNOWN, predict: float32 (n,). See `judge`."""
        parts: list[np.ndarray] = [np.empty(0, np.float32)]
        for reads, homes, part in self._looked_up(rows, events, spare):
            self._settle(self._small_place)
            size = padded_size(part.n, self._place.smallest)
            padded = self._padded(homes, part, size)[:, : self._width]
            at = np.zeros(size, np.int32)
            at[: part.n] = reads
            table = self._parts.arrays[0]
            answers = self._place.predicted(self._here[0], self.layout, table, at, padded, np.int32(part.n))
            parts.append(np.asarray(answers)[: part.n])
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
        state = jax.tree.map(lambda leaf: leaf[0], self.layout.unpack(self._parts.take(reads)))
        return state, self._padded(homes, event, 1)[0, : self._width]

    @property
    def have_origins(self) -> bool:
        """Whether any slice counts its events from an origin other than zero."""
        return len(self._origins.table) > 0

    def run_from(
        self, front: Front, weights: Any, memory: np.ndarray, start: int, rows: tuple[Any, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run the events from `start` on that a front computes: read states from rows[0], write them to rows[1].

        Returns another memory, as the front left it, and the judgements of all its events. `memory` is written to.
        """
        if self._last_front is None or self._last_front[0] is not front:  # hashing it takes 2 us
            self._last_front = front, Tail.of(front), advance_from(front, self.layout, self._width)
        _, tail, program = self._last_front
        end = start + len(rows[0])
        memory[tail.first : tail.end + 1] = start, end
        memory[tail.reads + start : tail.reads + end] = rows[0]
        memory[tail.writes + start : tail.writes + end] = rows[1]
        self._settle(self._small_place)
        self._parts.arrays[0], after = program(self._here[0], weights, self._parts.arrays[0], memory)
        after = np.asarray(after)
        return after, after[tail.judgements : tail.length].view(np.float32).reshape(-1, FIELDS)

    def begin_from(self, front: Front, weights: Any, memory: np.ndarray, start: int, born: list[int]) -> np.ndarray:
        """`begin` for a front, which computes the events once for their scores only; the memory after is dropped."""
        if not self.pools:
            return np.full(len(born), FRESH, np.int32)
        typical = np.full(born[-1] + 1 - start, TYPICAL, np.int32)
        _, judgements = self.run_from(front, weights, memory, start, (typical, np.full_like(typical, WASTE)))
        return np.where(judgements[born, 0] < LIKELY, TYPICAL, FRESH)

    def pool(self, sample: np.ndarray) -> None:
        """Renew the state that new slices start from: the median of the states in these rows."""
        rows = np.full(APART, WASTE, np.int32)  # as `_move` takes them, which is compiled for
        rows[: len(sample)] = sample
        states = self.layout.unpack(self._parts.take(rows)[: len(sample)])
        seasoned = self._model.seen(states) >= MIN_SEEN
        if not seasoned.any():
            return
        padded = np.zeros((int(seasoned.sum()), self._width))
        padded[:, : self._n_features] = self._origins.of(sample[seasoned])
        pooled = self._model.pooled(jax.tree.map(lambda leaf: leaf[seasoned], states), padded)
        if pooled is not None:
            self.put(TYPICAL, pooled.typical)
            self.put(FRESH, pooled.fresh)
            self._origins.put(np.array([TYPICAL]), pooled.origin[None, : self._n_features])
            self._anchored = self._is_anchored(pooled.fresh)

    def warmup(self, batch: int) -> None:
        """Compile the programs for up to `batch` events at once, and measure which of them an accelerator is for."""
        waste = np.full(1, WASTE, np.int32)
        between = self._large_place.away and not self._small_place.away
        large = batch >= self._large_from or between
        for place in dict.fromkeys([self._small_place, self._large_place if large else self._small_place]):
            self._settle(place)
            n, largest = place.smallest, padded_size(min(batch, LARGEST_BATCH), place.smallest)
            while n <= largest:
                rows, nothing = np.full(n, WASTE, np.int32), self._nothing(n)
                for part in range(len(place.devices)):
                    self._step(part, rows, rows, nothing, rows)
                    if place.away:  # what is learned is another program there
                        self._advanced(part, np.zeros((2, n), np.int32), self._padded(rows, nothing, n, part), 0)
                n = padded_size(n + 1)
            self._parts.put(waste, self._parts.take(waste))
            self._parts.take(np.full(APART, WASTE, np.int32))
        if between:
            self._large_from = self._measured(batch)
        if self._model.shiftable:
            self._move(waste, waste, waste, np.zeros((1, self._n_features)))

    def warmup_from(self, front: Front, weights: Any, memory: np.ndarray) -> None:
        """Compile the program of a front for the table as large as it is now."""
        self._settle(self._small_place)
        table = self._parts.arrays[0]
        self._parts.arrays[0], _ = advance_from(front, self.layout, self._width)(self._here[0], weights, table, memory)

    def fetch(self) -> np.ndarray:
        """The table in NumPy, float32 (rows, length); at hand until it changes."""
        return self._parts.fetch()

    def dump(self, used: np.ndarray, end: int) -> dict[str, np.ndarray]:
        """Copies of the table, as bits in int32, and of the origins up to row `end`; zeros in rows that nobody uses."""
        rows = np.concatenate([[FRESH, TYPICAL], used])
        tensors = {"table": np.zeros((end, self.layout.length), np.int32), "origins": np.zeros((end, self._n_features))}
        tensors["table"][rows] = self.fetch()[rows].view(np.int32)
        tensors["origins"][rows] = self._origins.of(rows)
        return tensors

    def restore(self, tensors: dict[str, np.ndarray], end: int) -> None:
        """Go on from a dump; raises ValueError, KeyError or TypeError for a bad one."""
        if tensors["origins"].any():
            self._origins.table = np.array(tensors["origins"])
        table = tensors["table"]
        if table.shape != (end, self.layout.length):
            raise ValueError(f"its table has shape {table.shape}")
        if table.dtype == np.float32:  # of format 1, where counts were floats
            table = self.layout.from_floats(table)
        table = table.view(np.float32)
        capacity = max(FIRST_CAPACITY, 1 << (len(table) - 1).bit_length())
        self._parts = Parts(len(table), self.layout.length, self._place.devices)
        self._parts.arrays[0] = jnp.array(table, device=self._place.devices[0])
        self._parts.reserve(capacity)
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
        step = LARGEST_BATCH if plain else APART
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
        scores = self._run(at, np.full_like(at, WASTE), many, np.repeat(homes, d + 1))[:, 0].astype(np.float64)
        whole, *without = np.nan_to_num(scores, nan=0.0, posinf=LARGEST_SCORE)
        return np.where(np.isfinite(events.x[0]), np.maximum(whole - np.array(without), 0.0), 0.0)

    def _move(self, reads: np.ndarray, homes: np.ndarray, targets: np.ndarray, shift: np.ndarray) -> None:
        """Copy states from rows `reads` to rows `targets`, with the origins of `homes` shifted by `shift` (n, d)."""
        self._origins.put(targets, self._origins.of(homes) + shift)
        self.reserve(int(targets.max()) + 1)
        for start in range(0, len(reads), APART):
            n = len(reads[start : start + APART])
            rows, wide = np.full((2, APART), WASTE, np.int32), np.zeros((APART, self._width))
            rows[:, :n] = reads[start : start + APART], targets[start : start + APART]
            wide[:n, : self._n_features] = shift[start : start + APART]
            states = self.layout.unpack(self._parts.take(rows[0]))
            self._parts.put(rows[1], self.layout.pack(self._model.moved(states, wide)))

    def _run(
        self, reads: np.ndarray, writes: np.ndarray, events: EventBatch, homes: np.ndarray, wait: bool = True
    ) -> Any:
        """Run at most LARGEST_BATCH events, counted from the origins of `homes`, through the table.

        Returns their judgements (n, FIELDS). A large batch divides the table among the cores, or moves it to the
        accelerator. It comes back once small ones have brought as many events as it has rows, so that copying it costs
        less than they do.
        """
        large = events.n >= self._large_from
        self._small = 0 if large else self._small + events.n
        if large:
            self._settle(self._large_place)
        elif self._small > self._parts.capacity:
            self._settle(self._small_place)
        if self._parts.count == 1:
            return self._step(0, reads, writes, events, homes, wait)
        part, _ = self._parts.places(np.where(writes < FIRST_ROW, reads, writes))
        (_, reads), (_, writes) = self._parts.places(reads), self._parts.places(writes)
        judgements = np.empty((events.n, FIELDS), np.float32)
        if self.have_origins:
            self._origins.cover(homes)  # now, since all parts read them at once

        def run(i: int) -> None:
            at = np.flatnonzero(part == i)
            if len(at):
                judgements[at] = self._step(i, reads[at], writes[at], events.part(at), homes[at])

        runs = [functools.partial(run, i) for i in range(self._parts.count)]
        if large:
            at_once(runs)
        else:
            for run_part in runs:
                run_part()
        return judgements

    def _step(
        self,
        part: int,
        reads: np.ndarray,
        writes: np.ndarray,
        events: EventBatch,
        homes: np.ndarray,
        wait: bool = True,
    ) -> Any:
        """`_run` in one part of the table, whose rows `reads` and `writes` are."""
        n = events.n
        size = padded_size(n, self._place.smallest)
        rows = np.zeros((2, size), np.int32)
        rows[0, :n], rows[1, :n] = reads, writes
        padded = self._padded(homes, events, size, part)
        judgements = self._advanced(part, rows, padded, n)
        if wait:
            return np.asarray(judgements)[:n]
        self._buffers.pop((part, size))  # it may still be on its way to the device
        return judgements

    def _advanced(self, part: int, rows: np.ndarray, padded: np.ndarray, n: int) -> Array:
        """The judgements of the first n events, whose rows in a part of the table are `rows`; see `table.advance`."""
        table, params = self._parts.arrays[part], self._here[part % len(self._here)]
        self._parts.arrays[part], judgements = self._place.advance(
            params, self.layout, table, rows, padded, np.int32(n)
        )
        return judgements

    def _settle(self, place: Place) -> None:
        """Bring the table to a place, unless it is there."""
        if place is not self._place:
            self._place = place
            self._here = place.put(self._params)
        self._parts.divide(place.parts, place.devices)

    def _measured(self, batch: int) -> int:
        """From how many events on a call is quicker at the large place than at the small one, each of another slice."""
        sizes = [4**i for i in range(3, 9) if SMALLEST_BATCH <= 4**i <= padded_size(min(batch, LARGEST_BATCH))]
        times = {}
        for place in (self._small_place, self._large_place):
            self._settle(place)
            times[place] = [self._time(n) for n in sizes]
        quicker = [n for n, here, there in zip(sizes, *times.values(), strict=True) if there < here]
        self._settle(self._small_place)
        return quicker[0] if quicker else NEVER

    def _time(self, n: int) -> float:
        """Seconds that a call of n events takes, the least of three."""
        rows = np.full(n, WASTE, np.int32)
        events = self._nothing(n)
        events.x[:] = 0.0
        times = []
        for _ in range(3):
            start = time.perf_counter()
            self._step(0, rows, rows, events, rows)
            times.append(time.perf_counter() - start)
        return min(times)

    def _padded(self, homes: np.ndarray, events: EventBatch, size: int, part: int = 0) -> np.ndarray:
        """Events relative to their origins, float32 (size, width), and a last column of targets if there are any.

        The columns of the padding are NaN; its rows are never read.
        """
        padded = self._buffers.get((part, size))
        if padded is None:
            padded = self._buffers[part, size] = aligned(size, self._width + self._model.supervised)
        self._origins.relative(homes, events.x, padded[: events.n, : self._n_features])
        if events.y is not None:
            padded[: events.n, self._width] = events.y
        return padded

    def _nothing(self, n: int) -> EventBatch:
        """A batch of n events without any feature."""
        x = np.full((n, self._n_features), np.nan, np.float32)
        return EventBatch(x, np.full(n, np.nan, np.float32) if self._model.supervised else None)


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
