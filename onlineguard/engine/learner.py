"""Learns the events of many slices in their order, and judges them.

A slice has a row of the table for its state, and beside it what people said of its verdicts. This module knows keys and
numbers. The names of features, and calls from several threads, are the Engine's.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.admission import Admission
from onlineguard.engine.batches import EventBatch, fetched, joined_there
from onlineguard.engine.feedback import Feedback
from onlineguard.engine.fronts import Front
from onlineguard.engine.keys import SliceKeys, as_keys, kept_keys
from onlineguard.engine.parts import FIRST_ROW
from onlineguard.engine.slices import UNKNOWN, SliceTable, first_unknown
from onlineguard.engine.states import SAMPLE, Sample, States
from onlineguard.engine.verdicts import Verdicts
from onlineguard.models.base import FIELDS

NO_JUDGEMENTS, NO_NUMBERS = np.empty((0, FIELDS), np.float32), np.empty(0, np.int64)


class Outcome(NamedTuple):
    """How a batch of events was judged: all that verdicts are made of."""

    parts: list[tuple[Array, np.ndarray]]  # judgements, and the rows of their slices
    numbers: list[np.ndarray]  # of the slices
    stays: bool  # whether the judgements stay where they are, on an accelerator


class Learner:
    """The states of at most `max_slices` slices, and what decides when the table of states changes."""

    __slots__ = ("admission", "feedback", "slices", "states")

    def __init__(self, states: States, max_slices: int):
        self.states = states
        self.slices = SliceTable(max_slices, FIRST_ROW)
        self.feedback = Feedback()
        self.admission = Admission(self.slices, states.pools)

    def looked_up(self, slices: Any, n: int) -> tuple[SliceKeys, np.ndarray]:
        """The checked key of each of n events, and its row, or UNKNOWN; see `Engine.update` for `slices`."""
        found = as_keys(slices, n)
        try:
            rows = self.slices.lookup(found)
        except TypeError:  # a key that cannot be hashed
            rows = np.full(len(found), UNKNOWN, np.int32)
        keys = kept_keys(found, first_unknown(found, rows))
        return keys, rows if keys is found else self.slices.lookup(keys)

    def learn(self, events: EventBatch, keys: SliceKeys, known: np.ndarray | None, wait: bool) -> Outcome:
        """Learn a batch whose keys have these rows, as far as they are known; see `Stepper.run` for `wait`."""
        stays = isinstance(events.x, jax.Array)
        outcome = Outcome([], [], stays)
        born = self.slices.born
        start = 0
        while start < events.n:
            reads, rows = self._admit(keys, start, lambda born, rows: self.states.begin(rows, events.part(born)), known)
            known = known if self.slices.born == born else None  # births and evictions change the rows of keys
            end = start + len(rows)

            def counted(rows: np.ndarray = rows) -> None:
                outcome.numbers.append(self.slices.numbers(rows))
                self.admission.count(rows)

            part = events.part(slice(start, end))
            outcome.parts.append((self.states.learn(reads, rows, part, wait and not stays, counted), rows))
            self._pool_when_due()
            start = end
        return outcome

    def judge(self, events: EventBatch, rows: np.ndarray) -> Outcome:
        """Judge a batch whose slices have these rows, or UNKNOWN; nothing is learned."""
        stays = isinstance(events.x, jax.Array)
        judged = self.states.judge(rows, events, self.slices.end, wait=not stays)
        return Outcome(judged, [self.slices.numbers(rows)], stays)

    def verdicts(self, outcome: Outcome) -> Verdicts:
        """The verdicts on judgements, with what people said of the slices."""
        parts, numbers, stays = outcome
        if stays and parts and self.feedback.silent:
            told = [joined_there([(judgements, len(rows)) for judgements, rows in parts])]
        else:
            told = [self.feedback.applied(fetched(judgements, len(rows)), rows) for judgements, rows in parts]
        return self._verdicts(told, _joined(numbers, NO_NUMBERS))

    def learn_from(
        self, front: Front, weights: Any, slices: Sequence[Hashable], memory: np.ndarray
    ) -> tuple[np.ndarray, Verdicts]:
        """`learn` with events that a front computes; see `Engine.update_from`."""
        n = len(slices)
        after, parts = memory, list[np.ndarray]()
        start = 0
        while start < n:
            if start:
                memory[:] = after
            rows: Any = list(map(self.slices.rows.get, slices))
            reads = rows
            if start or None in rows or self.admission.n_events + n > self.admission.pooling_at:
                reads, rows = self._admit(
                    slices,
                    start,
                    lambda born, _: self.states.begin_from(front, weights, memory, start, born),  # noqa: B023
                )
            after, judgements = self.states.table.run_from(front, weights, memory, start, (reads, rows))
            end = start + len(rows)
            parts.append(self.feedback.applied(judgements[start:end], rows))
            self.admission.count(rows)
            self._pool_when_due()
            start = end
        return after, self._verdicts(parts)

    def teach(self, row: int, event: EventBatch, usual: bool) -> None:
        """Take what a person says of one event of the slice in a row; see `Engine.feedback`."""
        at = np.array([row], np.int32)
        ((judgements, _),) = self.states.judge(at, event, self.slices.end)
        self.feedback.teach(row, judgements[0], usual)
        if usual and self.states.model.repeatable:
            self.states.learn(at, at, event)

    def sample(self) -> Sample:
        """The states of the oldest slices that have seen enough, at most SAMPLE of them; the model must pool."""
        return self.states.sampled(self.slices.used()[:SAMPLE])

    def adopt(self, sample: Sample) -> bool:
        """Start new slices from these states from now on; see `Engine.adopt`."""
        if not self.states.pools or not self.states.adopt(sample):
            return False
        self.admission.stop_pooling()
        return True

    def warmup(self, batch: int, slices: int) -> None:
        """Make the table large enough for so many slices, and compile the programs for up to `batch` events."""
        self.states.table.parts.reserve(FIRST_ROW + min(slices, self.slices.max_slices))
        self.states.warmup(batch)

    def dump(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """A copy of all that was learned: plain values, and arrays."""
        slices, tensors = self.slices.dump()
        config = {
            "max_slices": self.slices.max_slices,
            "n_events": self.admission.n_events,
            "pooling_at": self.admission.pooling_at,
            "slices": slices,
        }
        states = self.states.dump(self.slices.used(), self.slices.end)
        return config, tensors | states | self.feedback.dump()

    def restore(self, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        """Become what was dumped. Raises ValueError, KeyError or TypeError for a bad dump."""
        self.admission.n_events, self.admission.pooling_at = config["n_events"], config["pooling_at"]
        self.slices.restore(config["slices"], tensors)
        self.states.restore(tensors, self.slices.end)
        self.feedback.restore(tensors)

    def take_in(self, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        """Take in the slices of a dump, for which there is room."""
        before = self.admission.n_events
        keys, n_events = config["slices"]["keys"], max(before, config["n_events"])
        self.states.table.parts.reserve(self.slices.end + len(keys))
        self.slices.delay(n_events - before)
        rows = np.array([self.slices.rows.get(key, UNKNOWN) for key in keys], np.int64)
        rows[rows == UNKNOWN] = [self.slices.birth(keys[i]) for i in np.flatnonzero(rows == UNKNOWN).tolist()]
        self.slices.use(rows, tensors["last_used"] + (n_events - config["n_events"]))
        self.states.put(rows, tensors["table"][tensors["rows"]], tensors["origins"][tensors["rows"]])
        self.feedback.put(rows, tensors)
        self.admission.n_events = n_events
        self.admission.pooling_at = max(self.admission.pooling_at, config["pooling_at"])

    def _admit(
        self,
        keys: SliceKeys,
        start: int,
        begin: Callable[[list[int], np.ndarray], np.ndarray],
        known: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Admission.admit`; the table has room for the slices that are born."""

        def begun(born: list[int], rows: np.ndarray) -> np.ndarray:
            self.states.table.parts.reserve(self.slices.end)
            self.feedback.clear(rows)
            return begin(born, rows)

        return self.admission.admit(keys, start, self.states.table.place_of(len(keys)).largest, begun, known)

    def _pool_when_due(self) -> None:
        """Pool the slices when it is time."""
        if self.admission.pooling_due():
            self.states.pool(self.slices.used()[:SAMPLE])

    def _verdicts(self, parts: Sequence[Array], numbers: np.ndarray | None = None) -> Verdicts:
        return Verdicts(_joined(parts, NO_JUDGEMENTS), float(self.states.model.target_rate), numbers)


def _joined(parts: Sequence[Array], empty: np.ndarray) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate([empty, *parts])
