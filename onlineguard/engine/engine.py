"""Engine: a model for every slice, updated on every event. The one mutable thing; everything it calls is pure."""

from collections.abc import Callable, Hashable, Sequence
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.engine import checkpoint
from onlineguard.engine.events import as_events
from onlineguard.engine.origins import Origins, inexact, moved
from onlineguard.engine.slices import UNKNOWN, Keys, SliceTable, as_keys, check_key
from onlineguard.engine.table import (
    FIELDS,
    LANES,
    Front,
    Layout,
    Tail,
    advance,
    advance_from,
    grown,
    put_row,
    put_rows,
    taken_rows,
)
from onlineguard.engine.verdicts import Verdicts
from onlineguard.errors import InvalidArgument
from onlineguard.models.detector import MIN_SEEN, Detector

# The first rows of the table belong to no slice.
WASTE = 0  # where states go that nobody keeps: those of events that are only scored
FRESH = 1  # the state before any event
TYPICAL = 2  # the pooled state of all slices, from which a new one starts
FIRST_ROW = 3

SMALLEST_BATCH, LARGEST_BATCH = 32, 65_536  # batches are padded to powers of two between, and cut at the larger
FIRST_CAPACITY = 1_024  # rows; doubled when full
POOL_SAMPLE = 64  # slices, those of the lowest rows, that the pooled model is the median of
POOL_FIRST, POOL_EVERY = 1_024, 65_536  # pooled at these events: powers of two from the first, then multiples
APART = 256  # states moved at once, and events scored at once where states have to be moved for it
LIKELY = 10.0  # a new slice starts from the typical one if its first event scores less than this under it


class Engine:
    """Score every event with what was known of its slice before it, then learn it.

    >>> engine = Engine(n_features=2, target_rate=0.01)
    >>> rng = np.random.default_rng(0)
    >>> _ = engine.update(["de"] * 1_000, rng.normal(100.0, 5.0, (1_000, 2)))
    >>> engine.score(["de", "de"], [[101.0, 97.0], [101.0, 300.0]]).anomalous
    array([False,  True])

    n_features: numbers in an event; may be left out where `features` names them.
    target_rate: share of usual events to be flagged, in (0, 0.2].
    patience: events that a new regime must last before it counts as usual; see `Detector`.
    features: names of the features, needed for frames and dicts, and shown by `explain`.
    max_slices: slices kept; the least recently used go first.
    estimator: the model of one slice, instead of the default `Detector(target_rate, patience)`, e.g. a `Series`; it
        brings its own target_rate and patience.
    """

    def __init__(
        self,
        n_features: int | None = None,
        target_rate: float = 0.01,
        *,
        patience: float = 5_000,
        features: Sequence[str] | None = None,
        max_slices: int = 1_000_000,
        estimator: Any = None,
    ):
        self.features = _checked_features(features)
        self.n_features = _checked_width(n_features, self.features)
        if not _is_number(patience) or not patience >= 1:
            raise InvalidArgument(f"patience is {patience!r}; it must be at least 1 event, e.g. 5000")
        if not _is_number(max_slices) or max_slices < 1 or max_slices != int(max_slices):
            raise InvalidArgument(
                f"max_slices is {max_slices!r}; it must be a whole number of at least 1, e.g. 1_000_000"
            )
        self.estimator = estimator or Detector(_checked_rate(target_rate), float(patience))
        self.target_rate = _checked_rate(self.estimator.target_rate)
        self.n_events = 0  # taken by update, over all slices
        self.notes: dict[str, Any] = {}  # the caller's own, saved along: whatever JSON can hold
        self._pooling_at = POOL_FIRST
        # One feature needs no padding; more are padded to whole vector registers with features that are always missing.
        self._width = self.n_features if self.n_features < 8 else -(-self.n_features // 8) * 8
        start = self.estimator.init(self.n_features, self._width)
        self.layout = Layout.of(start)  # of a row of the table
        self.params = jax.tree.map(jnp.float32, self.estimator)  # what steps it
        self._table = jnp.zeros((FIRST_CAPACITY, self.layout.length), jnp.float32)
        self._put(FRESH, start)
        self._put(TYPICAL, start)
        self._slices = SliceTable(int(max_slices), FIRST_ROW)
        self._origins = Origins(self.n_features)
        self._buffers: dict[
            int, np.ndarray
        ] = {}  # by batch size: fresh memory for every call costs a third of its time

    @property
    def slices(self) -> list[Hashable]:
        """Keys of the slices now known, oldest first."""
        return list(self._slices.rows)

    @property
    def n_slices(self) -> int:
        """How many slices are now known."""
        return len(self._slices.rows)

    @property
    def room(self) -> int:
        """How many slices may be known before the table grows, and its programs are compiled again for its new size."""
        return min(self._table.shape[0] - FIRST_ROW, self._slices.max_slices)

    @property
    def evicted(self) -> int:
        """Slices that had to go since the start because `max_slices` were known."""
        return self._slices.evicted

    def update(self, slices: Any, X: Any) -> Verdicts:
        """Judge each event with what was known before it, then learn it, in order.

        slices: one key an event: strings, ints or tuples of such; a list, an array or a column of a frame.
        X: (n, d) numbers, a polars or pandas frame with the engine's features, or a list of dicts. NaN, infinite and
            absent features are missing; an event with nothing else is not learned, and its verdict is not `ready`.

        How a stream is cut into batches changes nothing, to the last bit. Raises InvalidArgument, before anything has
        changed, if a key or a number cannot be read.
        """
        events, keys, known = self._read(slices, X)
        parts: list[np.ndarray] = []
        start = 0
        while start < len(events):
            reads, rows = self._admit(keys, start, lambda born: self._starts(events[born]), known)
            known = None  # births and evictions may have changed it
            end = start + len(rows)
            parts.append(self._learn(reads, rows, events[start:end]))
            self._slices.touch(rows, self.n_events)
            self.n_events += len(rows)
            if self.n_events == self._pooling_at:
                self._pool()
            start = end
        return self._verdicts(parts)

    def score(self, slices: Any, X: Any) -> Verdicts:
        """The verdict that `update` would give to each of these events if it came next; nothing is learned."""
        events, _, rows = self._read(slices, X)
        plain = (rows != UNKNOWN).all() and self._origins.due(rows, events) is None
        step = LARGEST_BATCH if plain else APART
        cuts = [slice(start, start + step) for start in range(0, len(events), step)]
        return self._verdicts([self._peek(rows[cut], events[cut]) for cut in cuts])

    def memory_for(self, front: Front) -> np.ndarray:
        """Zeros for `update_from`, int32: those of the front, and behind them room for the engine's own."""
        memory = aligned(1, Tail.of(front).length)[0].view(np.int32)
        memory[:] = 0
        return memory

    def update_from(
        self, front: Front, weights: Any, slices: Sequence[Hashable], memory: np.ndarray
    ) -> tuple[np.ndarray, Verdicts]:
        """`update` with events that the front computes from what lies in the memory, in one compiled loop.

        slices: the key of each event; at most `front.size` of them.
        memory: what `memory_for` gave, with what the front needs of these events; it is written to.

        Returns another memory, that after them, and their verdicts. Their events are float32, counted from zero. Raises
        InvalidArgument, with nothing changed, if the engine was given others, which have origins.
        """
        if len(self._origins.table):
            raise InvalidArgument("the engine has slices that count from origins; give all its events to `update`")
        n, tail = len(slices), Tail.of(front)
        program = advance_from(front, self.layout, self._width)

        def run(start: int, reads: Any, writes: Any) -> tuple[np.ndarray, np.ndarray]:
            end = start + len(reads)
            memory[tail.first], memory[tail.end] = start, end
            memory[tail.reads + start : tail.reads + end] = reads
            memory[tail.writes + start : tail.writes + end] = writes
            self._table, after = program(self.params, weights, self._table, memory)
            after = np.asarray(after)
            return after, after[tail.judgements : tail.length].view(np.float32).reshape(-1, FIELDS)

        def starts(born: list[int]) -> tuple[np.ndarray, np.ndarray]:
            """As `_starts`: the events are computed once for their scores alone, and the memory after is dropped."""
            rows = np.full(born[-1] + 1 - start, TYPICAL, np.int32)
            _, judgements = run(start, rows, np.full_like(rows, WASTE))
            likely = judgements[born, 0] < LIKELY
            return np.where(likely, TYPICAL, FRESH), np.zeros((len(born), self.n_features))

        after, parts = memory, list[np.ndarray]()
        start = 0
        while start < n:
            if start:
                memory[:] = after
            rows = reads = list(map(self._slices.rows.get, slices))
            if start or None in rows or self.n_events + n > self._pooling_at:
                reads, rows = self._admit(slices, start, starts)
            after, judgements = run(start, reads, rows)
            end = start + len(rows)
            parts.append(judgements[start:end])
            self._slices.touch(rows, self.n_events)
            self.n_events += len(rows)
            if self.n_events == self._pooling_at:
                self._pool()
            start = end
        return after, self._verdicts(parts)

    def warmup_from(self, front: Front, weights: Any) -> None:
        """Compile the program of a front for the table as large as it is now."""
        program = advance_from(front, self.layout, self._width)
        self._table, _ = program(self.params, weights, self._table, self.memory_for(front))

    def explain(self, slice_: Hashable, x: Any) -> dict[Hashable, float]:
        """Each feature's share of the score that x would get in the slice now, largest first; 0 where it is missing.

        Features are named, or counted from 0. Raises KeyError for a slice that is not known.
        """
        row = np.array([self._slices.rows[slice_]], np.int32)
        event = as_events([x], self.n_features, self.features)
        reads, homes = self._apart(row, row, event)
        state = self.layout.unpack(np.asarray(taken_rows(self._table, reads)))
        state = jax.tree.map(lambda leaf: leaf[0], state)
        relative = self._padded(homes, event, 1)[0]
        with np.errstate(all="ignore"):
            squares = np.square(np.float64(self.estimator.residuals(state, relative)))[: self.n_features]
        shares = squares / max(squares.sum(), np.finfo(float).tiny)
        names: Sequence[Hashable] = self.features or range(self.n_features)
        return {names[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable").tolist()}

    def state(self, slice_: Hashable) -> Any:
        """What the stream taught the slice, in NumPy; events are counted from the slice's origin, if it has one.

        Raises KeyError for a slice that is not known.
        """
        return self.layout.unpack(np.asarray(self._table[self._slices.rows[slice_]]))

    def forget(self, slice_: Hashable) -> None:
        """Drop a slice and all it has taught; raises KeyError if it is not known."""
        self._slices.forget(slice_)

    def warmup(self, batch: int = LARGEST_BATCH, slices: int = 0) -> None:
        """Compile the programs for calls of up to `batch` events, so that none of them waits for a compiler.

        A table that has to grow compiles again. It grows by doubling; `slices` makes room for so many beforehand.
        """
        self._reserve(FIRST_ROW + min(slices, self._slices.max_slices))
        n = SMALLEST_BATCH
        while n < 2 * min(batch, LARGEST_BATCH):
            rows = np.full(n, WASTE, np.int32)
            self._run(rows, rows, np.full((n, self.n_features), np.nan, np.float32), rows)
            n *= 2
        self._put(WASTE, self.layout.unpack(np.asarray(self._table[WASTE])))
        waste = np.full(1, WASTE, np.int32)
        np.asarray(taken_rows(self._table, waste))
        self._move(waste, waste, waste, np.zeros((1, self.n_features)))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the engine to one file: safetensors with a JSON header, no pickle.

        A crash on the way leaves the old file or the new one. Raises CheckpointError if it cannot be written.
        """
        config, tensors = self.dump()
        checkpoint.write(path, config, self.estimator, tensors)

    def fetch(self) -> None:
        """Have the states at hand in NumPy; until the next event `dump` then asks JAX for nothing."""
        np.asarray(self._table)

    def dump(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """A copy of all that the operator chose and the stream taught but for the estimator: plain values, and arrays.

        What `save` writes; a service keeps it in snapshots of its own.
        """
        slices, tensors = self._slices.dump()
        config = {
            "n_features": self.n_features,
            "features": self.features,
            "max_slices": self._slices.max_slices,
            "n_events": self.n_events,
            "pooling_at": self._pooling_at,
            "slices": slices,
            "notes": self.notes,
        }
        used = np.concatenate([[FRESH, TYPICAL], self._slices.used()])
        tensors["table"] = np.zeros((self._slices.end, self.layout.length), np.float32)
        tensors["table"][used] = np.asarray(self._table)[used]
        tensors["origins"] = np.zeros((self._slices.end, self.n_features))
        tensors["origins"][used] = self._origins.of(used)
        return config, tensors

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Engine":
        """The engine that was saved; it goes on as if it had never stopped.

        Raises CheckpointError for a file that is missing, truncated, of another program or of a newer version.
        """
        return checkpoint.restored(path, cls.restored)

    @classmethod
    def restored(cls, config: dict[str, Any], estimator: Any, tensors: dict[str, np.ndarray]) -> "Engine":
        """The engine that was dumped, given its estimator; raises ValueError, KeyError or TypeError if it is none."""
        engine = cls(
            config["n_features"], features=config["features"], max_slices=config["max_slices"], estimator=estimator
        )
        engine.n_events, engine._pooling_at = config["n_events"], config["pooling_at"]
        engine.notes = dict(config.get("notes", {}))  # files of earlier versions have none
        engine._slices.restore(config["slices"], tensors)
        if tensors["origins"].any():
            engine._origins.table = tensors["origins"]
        rows = max(FIRST_CAPACITY, 1 << (len(tensors["table"]) - 1).bit_length())
        if tensors["table"].shape != (engine._slices.end, engine.layout.length):
            raise ValueError(f"its table has shape {tensors['table'].shape}")
        engine._table = grown(jnp.asarray(tensors["table"]), rows)
        return engine

    def _read(self, slices: Any, X: Any) -> tuple[np.ndarray, Keys, np.ndarray]:
        """Events (n, d), their keys, all of which can be used as such, and the keys' rows or UNKNOWN."""
        events = as_events(X, self.n_features, self.features)
        keys = as_keys(slices, len(events))
        try:
            rows = self._slices.lookup(keys)
        except TypeError:  # a key that cannot be hashed
            rows = np.full(len(keys), UNKNOWN, np.int32)
        for i in np.flatnonzero(rows == UNKNOWN).tolist():
            check_key(keys[i], i)
        return events, keys, rows

    def _admit(
        self,
        keys: Keys,
        start: int,
        starts: Callable[[list[int]], tuple[np.ndarray, np.ndarray]],
        known: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows to read from and write to, for the events from `start` to the next point where the table must change.

        Such points are a full table and the pooling of the slices. Both lie at fixed events of the stream, wherever
        batches are cut. `starts` says from which rows the new slices of some events start, and their origins.
        """
        end = min(len(keys), start + LARGEST_BATCH, start + self._pooling_at - self.n_events)
        rows = self._slices.lookup(keys[start:end]) if known is None else known[start:end]
        born: list[int] = []
        for i in np.flatnonzero(rows == UNKNOWN).tolist():
            key = check_key(keys[start + i], start + i)
            if key not in self._slices.rows:
                if not self._slices.room and i == 0:
                    self._slices.evict()
                    return self._admit(keys, start, starts)
                if not self._slices.room:
                    rows = rows[:i]
                    break
                self._slices.birth(key)
                born.append(i)
            rows[i] = self._slices.rows[key]
        self._reserve(self._slices.end)
        reads = rows
        if born:
            reads = rows.copy()
            reads[born], origins = starts([start + i for i in born])
            self._origins.put(rows[born], origins)
        return reads, rows

    def _starts(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows that new slices start from, given the first event of each, and their origins."""
        rows = np.full(len(events), TYPICAL, np.int32)
        scores = self._run(rows, np.full_like(rows, WASTE), events, rows)[:, 0]
        likely = scores < LIKELY
        values = events.astype(np.float64)
        fresh = np.where(inexact(values), values, 0.0)
        return np.where(likely, TYPICAL, FRESH), np.where(likely[:, None], self._origins.of(rows), fresh)

    def _learn(self, reads: np.ndarray, rows: np.ndarray, events: np.ndarray) -> np.ndarray:
        """Run events and write the states back; judgements (n, 6).

        A slice whose origin has to move stops before that event. Slices never touch each other, so all run until there,
        all that stopped are moved at once, and they go on.
        """
        due = self._origins.due(rows, events)
        if due is None:
            return self._run(reads, rows, events, rows)
        reads, judgements = reads.copy(), np.empty((len(events), FIELDS), np.float32)
        waiting = np.arange(len(events))
        while due is not None:
            movers = np.flatnonzero(due.any(axis=1))
            first = movers[np.unique(rows[waiting[movers]], return_index=True)[1]]
            stop = np.full(rows.max() + 1, len(waiting))
            stop[rows[waiting[first]]] = first
            stopped = np.arange(len(waiting)) >= stop[rows[waiting]]
            go, at = waiting[~stopped], waiting[first]
            judgements[go] = self._run(reads[go], rows[go], events[go], rows[go])
            self._move(reads[at], rows[at], rows[at], np.where(due[first], events[at], 0.0))
            reads[at] = rows[at]
            waiting = waiting[stopped]
            due = self._origins.due(rows[waiting], events[waiting])
        judgements[waiting] = self._run(reads[waiting], rows[waiting], events[waiting], rows[waiting])
        return judgements

    def _peek(self, rows: np.ndarray, events: np.ndarray) -> np.ndarray:
        """Judgements (n, 6) of events of slices in these rows, some of them UNKNOWN; nothing is learned."""
        reads, homes = rows.copy(), rows.copy()
        new = np.flatnonzero(rows == UNKNOWN)
        if len(new):
            homes[new] = self._slices.end + new
            reads[new], origins = self._starts(events[new])
            self._origins.put(homes[new], origins)
        reads, homes = self._apart(reads, homes, events)
        return self._run(reads, np.full_like(reads, WASTE), events, homes)

    def _apart(self, reads: np.ndarray, homes: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows to read the states and the origins from: where an event would move an origin, those of a moved copy."""
        due = self._origins.due(homes, events)
        if due is None:
            return reads, homes
        at = np.flatnonzero(due.any(axis=1))
        spare = (self._slices.end + at).astype(np.int32)  # no slice has these rows; one that gets them overwrites them
        self._move(reads[at], homes[at], spare, np.where(due[at], events[at], 0.0))
        reads, homes = reads.copy(), homes.copy()
        reads[at] = homes[at] = spare
        return reads, homes

    def _move(self, reads: np.ndarray, homes: np.ndarray, targets: np.ndarray, by: np.ndarray) -> None:
        """Copy states from the rows `reads`, counted from the origins of `homes`, to `targets`; these count from `by`
        (n, d) more.
        """
        self._origins.put(targets, self._origins.of(homes) + by)
        self._reserve(int(targets.max()) + 1)
        for start in range(0, len(reads), APART):
            n = len(reads[start : start + APART])
            rows, wide = np.full((2, APART), WASTE, np.int32), np.zeros((APART, self._width))
            rows[:, :n] = reads[start : start + APART], targets[start : start + APART]
            wide[:n, : self.n_features] = by[start : start + APART]
            states = self.layout.unpack(np.asarray(taken_rows(self._table, rows[0])))
            self._table = put_rows(self._table, self.layout.pack(moved(states, wide)), rows[1])

    def _reserve(self, rows: int) -> None:
        """Double the table until it has so many rows."""
        while rows > self._table.shape[0]:
            self._table = grown(self._table, 2 * self._table.shape[0])

    def _run(self, reads: np.ndarray, writes: np.ndarray, events: np.ndarray, homes: np.ndarray) -> np.ndarray:
        """Run at most LARGEST_BATCH events, counted from the origins of `homes`, through the table.

        Returns their judgements (n, 6).
        """
        n = len(events)
        size = max(SMALLEST_BATCH, 1 << (n - 1).bit_length())
        rows = np.zeros((2, size), np.int32)
        rows[0, :n], rows[1, :n] = reads, writes
        padded = self._padded(homes, events, size)
        self._table, judgements = advance(self.params, self.layout, self._table, rows, padded, np.int32(n))
        return np.asarray(judgements)[:n]

    def _padded(self, homes: np.ndarray, events: np.ndarray, size: int) -> np.ndarray:
        """Events relative to their origins, float32 (size, width); what pads them is missing, or never read."""
        padded = self._buffers.get(size)
        if padded is None:
            padded = self._buffers[size] = aligned(size, self._width)
        self._origins.relative(homes, events, padded[: len(events), : self.n_features])
        return padded

    def _put(self, row: int, state: Any) -> None:
        self._table = put_row(self._table, self.layout.pack(state), np.int32(row))

    def _pool(self) -> None:
        """Renew what new slices start from: the median of the states of the slices in the lowest rows."""
        self._pooling_at += min(self._pooling_at, POOL_EVERY)
        sample = self._slices.used()[:POOL_SAMPLE]
        states = self.layout.unpack(np.asarray(self._table)[sample])
        seasoned = states.seen >= MIN_SEEN
        if seasoned.any():
            padded = np.zeros((int(seasoned.sum()), self._width))
            padded[:, : self.n_features] = self._origins.of(sample[seasoned])
            typical, fresh, origin = self.estimator.pooled(jax.tree.map(lambda leaf: leaf[seasoned], states), padded)
            self._put(TYPICAL, typical)
            self._put(FRESH, fresh)
            self._origins.put(np.array([TYPICAL]), origin[None, : self.n_features])

    def _verdicts(self, parts: list[np.ndarray]) -> Verdicts:
        fields = parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, FIELDS), np.float32), *parts])
        return Verdicts(fields[:, 0], fields[:, 1], fields[:, 5] > 0, fields[:, 2:5], self.target_rate)


def aligned(rows: int, columns: int) -> np.ndarray:
    """NaNs (rows, columns), float32, that start where XLA can use them as they lie instead of copying them."""
    spare = np.full(rows * columns + LANES, np.nan, np.float32)
    start = -(spare.ctypes.data // spare.itemsize) % LANES
    return spare[start : start + rows * columns].reshape(rows, columns)


def _checked_features(features: Sequence[str] | None) -> list[str] | None:
    if features is None:
        return None
    names = [] if isinstance(features, str) else list(features)
    if not names or len(set(names)) != len(names) or not {*map(type, names)} <= {str}:
        raise InvalidArgument(
            f"features is {features!r}; it must be a list of names, each once, e.g. ['load', 'bytes']"
        )
    return names


def _checked_width(n_features: int | None, features: list[str] | None) -> int:
    if features is not None:
        if n_features not in (None, len(features)):
            raise InvalidArgument(f"n_features is {n_features}, but {len(features)} features are named; leave it out")
        return len(features)
    if isinstance(n_features, bool) or not isinstance(n_features, (int, np.integer)) or n_features < 1:
        raise InvalidArgument(f"n_features is {n_features!r}; it must be a whole number of at least 1, e.g. 20")
    return int(n_features)


def _checked_rate(target_rate: float) -> float:
    if not _is_number(target_rate) or not 0.0 < target_rate <= 0.2:
        raise InvalidArgument(
            f"target_rate is {target_rate!r}; it must lie in (0, 0.2], e.g. 0.01 for 1 % of usual events"
        )
    return float(target_rate)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
