"""The table of states at its place, and the programs that step events through it there.

A large call divides the table among the cores, or moves it to an accelerator (`device`). Among cores each takes the
events of its own slices, from the caller's array to its judgements, so that little is left for one core to do alone.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.arrays import as_params
from onlineguard.engine.batches import (
    LARGEST_BATCH,
    SMALLEST_BATCH,
    EventBatch,
    aligned,
    fetched,
    padded_size,
    widened,
    with_piece,
)
from onlineguard.engine.device import Place, places
from onlineguard.engine.events import whole_rows
from onlineguard.engine.forks import check_fork
from onlineguard.engine.fronts import Front, Tail, advance_at_once, advance_from
from onlineguard.engine.origins import Origins
from onlineguard.engine.parts import FRESH, WASTE, Parts, at_once
from onlineguard.engine.table import Layout
from onlineguard.models.base import FIELDS, SliceModel
from onlineguard.programs import Program

FIRST_CAPACITY = 1_024  # rows; doubled when full
# Events of a call that is large: several cores step it, or an accelerator, unless `warmup` has measured another number.
SPLIT_FROM = 8_192  # with 4,096 the marginal Detector is no quicker by two cores
NEVER = 2**62  # events of a call for which an accelerator is quicker, where it is for none


class Stepper:
    """A table of rows of one layout, and what steps events of `width` numbers through it.

    origins: what events of each row are counted from; without them they are copied as they are.
    """

    __slots__ = (
        "_buffers",
        "_here",
        "_large_from",
        "_large_place",
        "_last_front",
        "_layout",
        "_origins",
        "_params",
        "_running",
        "_small",
        "_small_place",
        "_supervised",
        "_width",
        "parts",
        "place",
    )

    def __init__(
        self, model: SliceModel, layout: Layout, width: int, origins: Origins, most_cores: int | None, device: str
    ):
        check_fork()
        self._layout, self._width, self._origins = layout, width, origins
        self._supervised = model.supervised
        params = as_params(model)
        self._small_place, self._large_place = places(device, most_cores, params, layout, width + model.supervised)
        self.place = self._small_place
        self.use(params)
        self.parts = Parts(FIRST_CAPACITY, layout.length, self.place.devices)
        self._small = 0  # events of small calls in a row
        self._large_from = SPLIT_FROM
        # By part and batch size. New memory would take a third of the time of every call.
        self._buffers: dict[tuple[int, int], np.ndarray] = {}
        # By schedule, parts and rows of the table, and batch size. To look for it by all arguments would take some us.
        self._running: dict[tuple[Program, int, int, int], Callable[..., Any]] = {}
        self._last_front: tuple[Front, Tail, Any] | None = None  # the last front, with its tail and its program

    def use(self, params: Any) -> None:
        """Go on with a model of other numbers; programs are not compiled again."""
        self._params = params
        self._here = self.place.put(params)

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

    def place_of(self, n: int) -> Place:
        """Where a call of n events is stepped."""
        return self._large_place if n >= self._large_from else self._small_place

    def takes(self, x: jax.Array) -> bool:
        """Whether a call of these events is stepped where they are, so that they need not be copied."""
        place = self.place_of(len(x))
        return place.away and x.devices() <= set(place.devices) and not len(self._origins.table)

    def run(
        self,
        reads: np.ndarray,
        writes: np.ndarray,
        events: EventBatch,
        homes: np.ndarray,
        wait: bool = True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Array:
        """Run events, counted from the origins of `homes`, through the table; their judgements (n, FIELDS).

        Without `wait` they may be longer, and an accelerator may still be at work on them. `meanwhile` is called while
        other threads or an accelerator work, unless this thread does all. The table comes back from
        where large calls are stepped once small ones have brought as many events as it has rows, so that copying it
        costs less than they do.
        """
        check_fork()
        large = events.n >= self._large_from
        self._small = 0 if large else self._small + events.n
        if large:
            self._settle(self._large_place)
        elif self._small > self.parts.capacity:
            self._settle(self._small_place)
        if isinstance(events.x, jax.Array) and not self.place.away:
            events = EventBatch(np.asarray(events.x, np.float32)[: events.n], events.y)
        if self.parts.count == 1:
            judgements = self._step(0, reads, writes, events, homes, wait=wait)
            meanwhile()
            return fetched(judgements, events.n) if wait else judgements
        return self._in_parts(reads, writes, events, homes, large, meanwhile)

    def _in_parts(
        self,
        reads: np.ndarray,
        writes: np.ndarray,
        events: EventBatch,
        homes: np.ndarray,
        large: bool,
        meanwhile: Callable[[], None],
    ) -> np.ndarray:
        """`run` in a divided table, in all parts at once where there are many events."""
        learned = bool(len(writes) and writes[0] != WASTE)
        part, within = self.parts.places(writes if learned else reads)
        reads_there = self.parts.places(reads)[1] if learned and reads is not writes else within
        writes_there = within if learned else writes
        judgements = np.empty((events.n, FIELDS), np.float32)
        rows = whole_rows(judgements)
        if len(self._origins.table):
            self._origins.cover(homes)  # now, since all parts read them at once

        def run(i: int) -> None:
            at = np.flatnonzero(part == i)
            if len(at):
                judged = self._step(i, reads_there, writes_there, events, homes, at)
                rows[at] = whole_rows(fetched(judged, len(at)))

        runs = [functools.partial(run, i) for i in range(self.parts.count)]
        if large:
            at_once(runs, meanwhile)
        else:
            for each in (*runs, meanwhile):
                each()
        return judgements

    def _step(
        self,
        part: int,
        reads: np.ndarray,
        writes: np.ndarray,
        events: EventBatch,
        homes: np.ndarray,
        at: np.ndarray | None = None,
        wait: bool = True,
    ) -> Array:
        """`run` in one part of the table, whose rows `reads` and `writes` are, of the events with the numbers `at`.

        The judgements may be longer, and an accelerator may still be at work on them.
        """
        n = events.n if at is None else len(at)
        size = padded_size(n, self.place.smallest)
        rows = np.zeros((2, size), np.int32)
        rows[0, :n], rows[1, :n] = (reads, writes) if at is None else (reads.take(at), writes.take(at))
        padded = self.padded(homes, events, size, part, at)
        judgements = self._advanced(part, rows, padded, n)
        if not wait:
            self._buffers.pop((part, size), None)  # it may still be on its way to the device
        return judgements

    def _advanced(self, part: int, rows: np.ndarray, padded: Array, n: int) -> Array:
        """The judgements of the first n events, whose rows in a part of the table are `rows`; see `table.advance`."""
        table, params = self.parts.arrays[part], self._here[part % len(self._here)]
        args = params, self._layout, table, rows, padded, np.int32(n)
        self.parts.arrays[part], judgements = self._runs(self.place.advance, rows.shape[1], args)(*args)
        return judgements

    def _runs(self, schedule: Callable[..., Any], size: int, args: tuple[Any, ...]) -> Callable[..., Any]:
        """What runs a schedule on batches of a size in the table as large as it is now."""
        if not isinstance(schedule, Program):
            return schedule
        key = (schedule, len(self.parts.arrays), self.parts.capacity, size)
        run = self._running.get(key)
        if run is None:
            run = self._running[key] = schedule.at(*args)
        return run

    def padded(
        self, homes: np.ndarray, events: EventBatch, size: int, part: int = 0, at: np.ndarray | None = None
    ) -> Array:
        """Events relative to their origins, float32 (size, width), and a last column of targets if there are any.

        at: the numbers of the events that are wanted; None for all. The columns of the padding are NaN; its rows are
        never read.
        """
        if isinstance(events.x, jax.Array):
            return self._widened(events, size, part, at)
        if size > LARGEST_BATCH:
            return self._in_pieces(homes, events, size, part, at)
        padded = self._buffers.get((part, size))
        if padded is None:
            padded = self._buffers[part, size] = aligned(size, self._width + self._supervised)
        self._write(homes, events, at, padded)
        return padded

    def _write(self, homes: np.ndarray, events: EventBatch, at: np.ndarray | None, out: np.ndarray) -> None:
        """Write events relative to their origins, and their targets, into the first rows of `out`."""
        n, d = events.n if at is None else len(at), events.x.shape[1]
        self._origins.relative(homes, events.x, out[:n, :d], at)
        if events.y is not None:
            out[:n, self._width] = events.y if at is None else events.y.take(at)

    def _in_pieces(self, homes: np.ndarray, events: EventBatch, size: int, part: int, at: np.ndarray | None) -> Array:
        """`padded` of more events than a CPU takes: each piece is on its way to the accelerator while the next is read.

        So the padding need not go there.
        """
        device = self.place.devices[part % len(self.place.devices)]
        columns = self._width + self._supervised
        whole = jnp.full((size, columns), np.nan, np.float32, device=device)
        at = np.arange(events.n) if at is None else at
        for start in range(0, len(at), LARGEST_BATCH):
            piece = aligned(LARGEST_BATCH, columns)
            self._write(homes, events, at[start : start + LARGEST_BATCH], piece)
            whole = with_piece(whole, piece, np.int32(start))
        return whole

    def _widened(self, events: EventBatch, size: int, part: int, at: np.ndarray | None) -> Array:
        """`padded` of events on an accelerator, which have no origins; they are not copied if they have this size."""
        x, y = events.x, None
        if at is not None:
            chosen = np.zeros(size, np.int32)
            chosen[: len(at)] = at
            x = jnp.take(x, chosen, axis=0)
        if events.y is not None:
            y = np.zeros(size, np.float32)
            y[: events.n if at is None else len(at)] = events.y if at is None else events.y[at]
        whole = (size, self._width)
        if x.shape != whole or y is not None:
            x = widened(x, y, *whole)
        return jax.device_put(x, self.place.devices[part % len(self.place.devices)])

    def predict(self, reads: np.ndarray, homes: np.ndarray, events: EventBatch) -> np.ndarray:
        """The targets that the models in the rows `reads` predict, float32 (n,)."""
        self._settle(self._small_place)
        size = padded_size(events.n, self.place.smallest)
        padded = self.padded(homes, events, size)[:, : self._width]
        at = np.zeros(size, np.int32)
        at[: events.n] = reads
        answers = self.place.predicted(
            self._here[0], self._layout, self.parts.arrays[0], at, padded, np.int32(events.n)
        )
        return np.asarray(answers)[: events.n]

    def runs_at_once(self, n: int) -> bool:
        """Whether a front of n events is quicker at once, on an accelerator, than one by one."""
        return self._front_place.away and (self._small_place.away or n >= self._large_from)

    @property
    def _front_place(self) -> Place:
        """Where fronts that run at once do: one program has one part of a table."""
        return self._large_place if self._large_place.parts == 1 else self._small_place

    def brought(self, front: Front, weights: Any) -> Any:
        """The weights of a front where it runs."""
        return (self._front_place if front.at_once else self._small_place).put(weights)[0]

    def run_from(
        self, front: Front, weights: Any, memory: np.ndarray, start: int, rows: tuple[Any, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run the events from `start` on that a front computes: read states from rows[0], write them to rows[1].

        Returns another memory, as the front left it, and the judgements of all its events. `memory` is written to.
        """
        if self._last_front is None or self._last_front[0] is not front:  # hashing it takes 2 us
            self._last_front = front, Tail.of(front), self._program(front)
        _, tail, program = self._last_front
        n = len(rows[0])
        memory[tail.first : tail.end + 1] = start, start + n
        memory[tail.reads + start : tail.reads + start + n] = rows[0]
        memory[tail.writes + start : tail.writes + start + n] = rows[1]
        after = np.asarray(program(weights, memory, rows))
        return after, after[tail.judgements : tail.length].view(np.float32).reshape(-1, FIELDS)

    def _program(self, front: Front) -> Callable[..., Array]:
        """What runs a front: takes its weights, its memory and the rows, and returns the memory after."""
        if not front.at_once:
            run = advance_from(front, self._layout, self._width)

            def one_by_one(weights: Any, memory: np.ndarray, rows: Any) -> Array:
                self._settle(self._small_place)
                args = self._here[0], weights, self.parts.arrays[0], memory
                self.parts.arrays[0], after = self._runs(run, front.size, args)(*args)
                return after

            return one_by_one

        def at_once(weights: Any, memory: np.ndarray, rows: Any) -> Array:
            self._settle(self._front_place)
            n = len(rows[0])
            both = np.full((2, front.size), WASTE, np.int32)
            both[:, :n] = rows
            schedule: Any = self.place.advance
            traced = schedule.traced(bool(not n or both[1, 0] != WASTE))
            run = advance_at_once(front, self._width, traced or schedule, traced is not None)
            self.parts.arrays[0], after = run(
                self._here[0], weights, self.parts.arrays[0], memory, self._layout, both, np.int32(n)
            )
            return after

        return at_once

    def warmup(self, batch: int, nothing: EventBatch, copied: Sequence[int]) -> None:
        """Compile the programs for up to `batch` events at once, and measure which of them an accelerator is for.

        nothing: an event without any feature.
        copied: how many rows are taken at once; one is also put.
        """
        between = self._large_place.away and not self._small_place.away
        large = batch >= self._large_from or between
        for place in dict.fromkeys([self._small_place, self._large_place if large else self._small_place]):
            self._settle(place)
            n, largest = place.smallest, padded_size(min(batch, place.largest), place.smallest)
            while n <= largest:
                rows, events = np.full(n, WASTE, np.int32), _repeated(nothing, n)
                for part in range(len(place.devices)):
                    self._step(part, rows, rows, events, rows)
                    if place.away:  # what is learned is another program there
                        self._advanced(part, np.zeros((2, n), np.int32), self.padded(rows, events, n, part), 0)
                n = padded_size(n + 1)
            for n in copied:
                rows = self.parts.take(np.full(n, WASTE, np.int32))
                if n == 1:
                    self.parts.put(np.full(n, WASTE, np.int32), rows)
        if between:
            self._large_from = self._measured(batch, nothing)

    def warmup_from(self, front: Front, weights: Any, memory: np.ndarray) -> None:
        """Compile the program of a front for the table as large as it is now."""
        none = np.zeros(0, np.int32)
        self.run_from(front, weights, memory, 0, (none, none))
        if front.at_once:  # what is learned is another program
            self.run_from(front, weights, memory, 0, ([FRESH], [WASTE]))

    def restore(self, table: np.ndarray) -> None:
        """Go on with another table."""
        capacity = max(FIRST_CAPACITY, 1 << (len(table) - 1).bit_length())
        self.parts = Parts.of(table, capacity, self.place.devices)

    def _settle(self, place: Place) -> None:
        """Bring the table to a place, unless it is there."""
        if place is not self.place:
            self.place = place
            self._here = place.put(self._params)
        self.parts.divide(place.parts, place.devices)

    def _measured(self, batch: int, nothing: EventBatch) -> int:
        """From how many events on a call is quicker at the large place than at the small one, each of another slice."""
        sizes = [4**i for i in range(3, 9) if SMALLEST_BATCH <= 4**i <= padded_size(min(batch, LARGEST_BATCH))]
        times = {}
        for place in (self._small_place, self._large_place):
            self._settle(place)
            times[place] = [self._time(n, nothing) for n in sizes]
        quicker = [n for n, here, there in zip(sizes, *times.values(), strict=True) if there < here]
        self._settle(self._small_place)
        return quicker[0] if quicker else NEVER

    def _time(self, n: int, nothing: EventBatch) -> float:
        """Seconds that a call of n events takes, the least of three."""
        rows = np.full(n, WASTE, np.int32)
        events = _repeated(nothing, n)
        events.x[:] = 0.0
        times = []
        for _ in range(3):
            start = time.perf_counter()
            np.asarray(self._step(0, rows, rows, events, rows))
            times.append(time.perf_counter() - start)
        return min(times)


def _repeated(event: EventBatch, n: int) -> EventBatch:
    return EventBatch(event.x.repeat(n, axis=0), None if event.y is None else event.y.repeat(n))
