"""Engine: a model for every slice, updated on every event. The one mutable thing; everything it calls is pure.

Calls from several threads wait for each other, so none is lost; events of one call are learned one after the other.
"""

import dataclasses
import functools
import html
import threading
from collections.abc import Callable, Hashable, Sequence
from os import PathLike
from typing import Any, Concatenate, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.engine import checkpoint
from onlineguard.engine.arguments import (
    checked_features,
    checked_max_slices,
    checked_model,
    checked_patience,
    checked_rate,
    checked_width,
)
from onlineguard.engine.events import as_events, as_targets
from onlineguard.engine.origins import Origins
from onlineguard.engine.slices import UNKNOWN, SliceKeys, SliceTable, as_keys, check_key, first_unknown
from onlineguard.engine.table import (
    FIELDS,
    LANES,
    READY,
    Front,
    Layout,
    Tail,
    advance,
    advance_from,
    grown,
    predicted,
    put_row,
    put_rows,
    taken_rows,
)
from onlineguard.engine.verdicts import Verdicts
from onlineguard.errors import InvalidArgument
from onlineguard.models.base import MIN_SEEN, SliceModel

# The first rows of the table belong to no slice.
WASTE = 0  # where states go that nobody keeps: those of events that are only scored
FRESH = 1  # the state before any event
TYPICAL = 2  # the pooled state of all slices, from which a new one starts
FIRST_ROW = 3

SMALLEST_BATCH, LARGEST_BATCH = 32, 65_536  # batches are padded to powers of two between, and cut at the larger
FIRST_CAPACITY = 1_024  # rows; doubled when full
POOL_SAMPLE = 64  # slices, those of the lowest rows, that the pooled model is the median of
POOL_FIRST, POOL_EVERY = 1_024, 65_536  # pooled at these events: powers of two from the first, then multiples
NEVER = 2**62  # the event at which models are pooled that cannot be
APART = 256  # states moved at once, and events scored at once where states have to be moved for it
LIKELY = 10.0  # a new slice starts from the typical one if its first event scores less than this under it
LARGEST_SCORE = 3e38  # an infinite score counts as this where scores are compared


class Events(NamedTuple):
    """Events as they were given, (n, d) float32 or float64, and their targets (n,), None where the model has none."""

    x: np.ndarray
    y: np.ndarray | None

    def part(self, which: Any) -> "Events":
        """Those that an index or a slice selects."""
        return Events(self.x[which], None if self.y is None else self.y[which])

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.x)


def _serialised[**P, R](method: Callable[Concatenate["Engine", P], R]) -> Callable[Concatenate["Engine", P], R]:
    """A method that waits until no other thread is in one."""

    @functools.wraps(method)
    def alone(self: "Engine", *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:  # pyright: ignore[reportPrivateUsage]  # the Engine's own decorator
            return method(self, *args, **kwargs)

    return alone


class Engine:
    """Score every event with what was known of its slice before it, then learn it.

    >>> engine = Engine(n_features=2, target_rate=0.01)
    >>> rng = np.random.default_rng(0)
    >>> _ = engine.update(["de"] * 1_000, rng.normal(100.0, 5.0, (1_000, 2)))
    >>> engine.score(["de", "de"], [[101.0, 97.0], [101.0, 300.0]]).anomalous
    array([False,  True])

    n_features: numbers in an event; may be left out where `features` names them.
    target_rate: share of usual events to be flagged, in (0, 0.2]; may be changed while the engine runs.
    patience: events that a new regime must last before it counts as usual; see `Detector`. May be changed too.
    features: names of the features, needed for frames and dicts, and shown by `explain`.
    max_slices: slices kept; the least recently used go first. May be changed while the engine runs.
    estimator: the model of one slice, instead of the default `Detector(target_rate, patience)`. A `SliceModel`, such as
        a `Series`, brings its own target_rate and patience. Any estimator of the core, such as
        `ClippedSGD(Covariance(4))`, is wrapped in a `Judged` with those of this call.

    An engine can be pickled and copied; the copy learns on by itself.
    """

    __slots__ = (
        "__weakref__",
        "_anchored",
        "_buffers",
        "_features",
        "_lock",
        "_model",
        "_n_events",
        "_n_features",
        "_origins",
        "_params",
        "_pooling_at",
        "_slices",
        "_table",
        "_width",
        "layout",
        "notes",
    )

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
        self._lock = threading.RLock()
        self._features = checked_features(features)
        self._n_features = checked_width(n_features, self._features)
        self._model = checked_model(estimator, target_rate, patience)
        self._n_events = 0
        self.notes: dict[str, Any] = {}  # the caller's own, saved along: whatever JSON can hold
        self._pooling_at = POOL_FIRST if self._pools else NEVER
        self._width = self._model.width(self._n_features)
        narrow = self._width == self._n_features
        start = self._model.init(self._n_features) if narrow else self._model.init(self._n_features, self._width)  # type: ignore[call-arg]
        self.layout = Layout.of(start)  # of a row of the table
        self._params = self._steppable()
        self._table = jnp.zeros((max(FIRST_CAPACITY, FIRST_ROW), self.layout.length), jnp.int32)
        self._slices = SliceTable(checked_max_slices(max_slices), FIRST_ROW)
        self._origins = Origins(self._n_features, self._model.shiftable)
        self._put(FRESH, start)
        self._put(TYPICAL, start)
        self._anchored = self._is_anchored(start)
        # By batch size: fresh memory for every call costs a third of its time.
        self._buffers: dict[int, np.ndarray] = {}

    @property
    def model(self) -> SliceModel:
        """The model of one slice: what the operator chose."""
        return self._model

    @property
    def params(self) -> SliceModel:
        """The model as it is given to compiled programs: its numbers are float32 arrays."""
        return self._params

    @property
    def n_features(self) -> int:
        """Numbers in an event."""
        return self._n_features

    @property
    def features(self) -> list[str] | None:
        """Names of the features, if they have any."""
        return self._features

    @property
    def n_events(self) -> int:
        """Events taken by `update`, over all slices."""
        return self._n_events

    @property
    def target_rate(self) -> float:
        """Share of usual events to be flagged. A new one is reached as the running quantiles move there."""
        return float(self._model.target_rate)

    @target_rate.setter
    def target_rate(self, target_rate: float) -> None:
        self._change(target_rate=checked_rate(target_rate))

    @property
    def patience(self) -> float:
        """Events that a new regime must last before it counts as usual; of models that have a patience."""
        return float(self._model.patience)  # type: ignore[attr-defined]

    @patience.setter
    def patience(self, patience: float) -> None:
        self._change(patience=checked_patience(patience))

    @property
    def max_slices(self) -> int:
        """Slices kept; the least recently used go first, at once where a new number is smaller."""
        return self._slices.max_slices

    @max_slices.setter
    @_serialised
    def max_slices(self, max_slices: int) -> None:
        self._slices.max_slices = checked_max_slices(max_slices)
        while len(self._slices.rows) > self._slices.max_slices:
            self._slices.evict()

    @property
    @_serialised
    def slices(self) -> list[Hashable]:
        """Keys of the slices now known, oldest first."""
        return list(self._slices.rows)

    @property
    def n_slices(self) -> int:
        """How many slices are now known."""
        return len(self._slices.rows)

    def slice_of(self, number: int) -> Hashable:
        """The key of the slice with a number of `Verdicts.slice_numbers`.

        Raises KeyError for a slice that is not known, or no longer.
        """
        return self._slices.key_of(number)

    @property
    def capacity(self) -> int:
        """How many slices may be known before the table grows, and its programs are compiled again for its new size."""
        return min(self._table.shape[0] - FIRST_ROW, self._slices.max_slices)

    @property
    def evicted(self) -> int:
        """Slices that had to go since the start because `max_slices` were known."""
        return self._slices.evicted

    @_serialised
    def update(self, slices: Any, X: Any, y: Any = None) -> Verdicts:
        """Judge each event with what was known before it, then learn it, in order.

        slices: one key an event: strings, ints or tuples of such; a list, an array, or one or several columns of a
            frame, where several make tuples. A single key stands for every event.
        X: (n, d) numbers, a polars or pandas frame with the engine's features, or a list of dicts. NaN, infinite and
            absent features are missing; an event with nothing else is not learned, and its verdict is not `ready`.
        y: (n,) numbers, the targets of a supervised model; NaN where one is not known, None where none is.

        How a stream is cut into batches changes nothing, to the last bit. Raises InvalidArgument, before anything has
        changed, if a key or a number cannot be read.
        """
        events, keys, known = self._read(slices, X, y)
        parts: list[np.ndarray] = []
        numbers: list[np.ndarray] = []
        born = self._slices.born
        start = 0
        while start < events.n:
            reads, rows = self._admit(keys, start, lambda born, rows: self._start(events.part(born), rows), known)
            known = known if self._slices.born == born else None  # births and evictions have changed it
            end = start + len(rows)
            parts.append(self._learn(reads, rows, events.part(slice(start, end))))
            numbers.append(self._slices.numbers(rows))
            self._slices.touch(rows, self._n_events)
            self._n_events += len(rows)
            if self._n_events == self._pooling_at:
                self._pool()
            start = end
        return self._verdicts(parts, numbers)

    @_serialised
    def score(self, slices: Any, X: Any, y: Any = None) -> Verdicts:
        """The verdict that `update` would give to each of these events if it came next; nothing is learned."""
        events, _, rows = self._read(slices, X, y)
        parts: list[np.ndarray] = []
        for cut in self._cuts(rows, events):
            reads, homes = self._looked_up(rows[cut], events.part(cut))
            parts.append(self._run(reads, np.full_like(reads, WASTE), events.part(cut), homes))
        return self._verdicts(parts, [self._slices.numbers(rows)])

    @_serialised
    def predict(self, slices: Any, X: Any) -> np.ndarray:
        """What the model of its slice expects the target of each event to be: float32 (n,); nothing is learned.

        NaN where nothing is known. Raises InvalidArgument for a model that predicts nothing.
        """
        if not self._model.predicts:
            raise InvalidArgument(
                f"estimator is a {_kind(self._model)}, which predicts nothing; give the Engine one that has a target, "
                "e.g. ClippedSGD(LinearRegression(2))"
            )
        events, _, rows = self._read(slices, X, None)
        parts: list[np.ndarray] = [np.empty(0, np.float32)]
        for cut in self._cuts(rows, events):
            part = events.part(cut)
            reads, homes = self._looked_up(rows[cut], part)
            size = _padded_size(part.n)
            padded = self._padded(homes, part, size)[:, : self._width]
            at = np.zeros(size, np.int32)
            at[: part.n] = reads
            answers = predicted(self._params, self.layout, self._table, at, padded, np.int32(part.n))
            parts.append(np.asarray(answers)[: part.n])
        return np.concatenate(parts)

    def memory_for(self, front: Front) -> np.ndarray:
        """Zeros for `update_from`, int32: those of the front, and behind them room for the engine's own."""
        memory = aligned(1, Tail.of(front).length)[0].view(np.int32)
        memory[:] = 0
        return memory

    @_serialised
    def update_from(
        self, front: Front, weights: Any, slices: Sequence[Hashable], memory: np.ndarray
    ) -> tuple[np.ndarray, Verdicts]:
        """`update` with events that the front computes from what lies in the memory, in one compiled loop.

        slices: the key of each event; at most `front.size` of them.
        memory: what `memory_for` gave, with what the front needs of these events; it is written to.

        Returns another memory, as the front left it, and the verdicts. Events are float32 numbers that are counted from
        zero. Raises InvalidArgument, with nothing changed, if the engine was given others, which have origins.
        """
        if len(self._origins.table):
            raise InvalidArgument("the engine has slices that count from origins; give all its events to `update`")
        if self._model.supervised:
            raise InvalidArgument(f"{_kind(self._model)} has a target, which no front computes; use `update`")
        n, tail = len(slices), Tail.of(front)
        program = advance_from(front, self.layout, self._width)

        def run(start: int, reads: Any, writes: Any) -> tuple[np.ndarray, np.ndarray]:
            end = start + len(reads)
            memory[tail.first], memory[tail.end] = start, end
            memory[tail.reads + start : tail.reads + end] = reads
            memory[tail.writes + start : tail.writes + end] = writes
            self._table, after = program(self._params, weights, self._table, memory)
            after = np.asarray(after)
            return after, after[tail.judgements : tail.length].view(np.float32).reshape(-1, FIELDS)

        def begin(born: list[int], rows: np.ndarray) -> np.ndarray:
            """As `_start`: the events are computed once for their scores alone, and the memory after is dropped."""
            if not self._pools:
                return np.full(len(born), FRESH, np.int32)
            typical = np.full(born[-1] + 1 - start, TYPICAL, np.int32)
            _, judgements = run(start, typical, np.full_like(typical, WASTE))
            return np.where(judgements[born, 0] < LIKELY, TYPICAL, FRESH)

        after, parts = memory, list[np.ndarray]()
        start = 0
        while start < n:
            if start:
                memory[:] = after
            rows: Any = list(map(self._slices.rows.get, slices))
            reads = rows
            if start or None in rows or self._n_events + n > self._pooling_at:
                reads, rows = self._admit(slices, start, begin)
            after, judgements = run(start, reads, rows)
            end = start + len(rows)
            parts.append(judgements[start:end])
            self._slices.touch(rows, self._n_events)
            self._n_events += len(rows)
            if self._n_events == self._pooling_at:
                self._pool()
            start = end
        return after, self._verdicts(parts)

    @_serialised
    def warmup_from(self, front: Front, weights: Any) -> None:
        """Compile the program of a front for the table as large as it is now."""
        program = advance_from(front, self.layout, self._width)
        self._table, _ = program(self._params, weights, self._table, self.memory_for(front))

    @_serialised
    def explain(self, slice_: Hashable, x: Any, y: float = np.nan) -> dict[Hashable, float]:
        """Each feature's share of the score that x would get in the slice now, largest first; 0 where it is missing.

        Features are named, or counted from 0. A model that does not say what a feature adds to its score is asked for
        the score without it: what the score loses is the feature's part. Raises KeyError for a slice that is not known.
        """
        row = np.array([self._slices.rows[slice_]], np.int32)
        events = Events(as_events([x], self._n_features, self._features), self._targets(None if y != y else [y], 1))
        reads, homes = self._apart(row, row, events)
        state = jax.tree.map(lambda leaf: leaf[0], self.layout.unpack(np.asarray(taken_rows(self._table, reads))))
        event = self._padded(homes, events, 1)[0, : self._width]
        with np.errstate(all="ignore"):
            parts = self._model.contributions(state, event)
        if parts is None:
            parts = self._left_out(reads, homes, events)
        parts = np.asarray(parts, np.float64)[: self._n_features]
        shares = parts / max(parts.sum(), np.finfo(float).tiny)
        names: Sequence[Hashable] = self._features or range(self._n_features)
        return {names[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable").tolist()}

    @_serialised
    def describe(self, slice_: Hashable) -> dict[str, Any]:
        """What is known of a slice, in the data's own unit: plain numbers, and a number for each feature by its name.

        The model says what there is, e.g. location, scale and threshold. Besides: `events` that taught it, and `idle`,
        events of all slices since its last one. Raises KeyError for a slice that is not known.
        """
        row = self._slices.rows[slice_]
        names: Sequence[Hashable] = self._features or range(self._n_features)

        def readable(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: readable(item) for name, item in value.items()}
            if np.shape(value) == (self._width,):
                return dict(zip(names, np.asarray(value)[: self._n_features].tolist(), strict=True))
            return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value

        found = readable(self._model.describe(self.state(slice_)))
        return {**found, "idle": self._n_events - 1 - self._slices.last_used(row)}

    @_serialised
    def state(self, slice_: Hashable) -> Any:
        """What the stream taught the slice, in NumPy and in the data's own unit.

        Where events are counted from an origin, floats are float64, so that none of their digits is lost. Raises
        KeyError for a slice that is not known.
        """
        rows = np.array([self._slices.rows[slice_]])
        states = self.layout.unpack(np.asarray(self._table[rows]))
        origins = self._origins.of(rows)
        if origins.any():
            wide = np.zeros((1, self._width))
            wide[:, : self._n_features] = origins
            finer = jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, states)
            states = self._model.moved(finer, -wide)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[0], states)

    @_serialised
    def forget(self, slice_: Hashable) -> None:
        """Drop a slice and all it has taught; raises KeyError if it is not known."""
        self._slices.forget(slice_)

    @_serialised
    def warmup(self, batch: int = LARGEST_BATCH, slices: int = 0) -> None:
        """Compile the programs for calls of up to `batch` events, so that none of them waits for a compiler.

        A table that has to grow compiles again. It grows by doubling; `slices` makes room for so many beforehand.
        """
        self._reserve(FIRST_ROW + min(slices, self._slices.max_slices))
        n = SMALLEST_BATCH
        while n < 2 * min(batch, LARGEST_BATCH):
            rows = np.full(n, WASTE, np.int32)
            self._run(rows, rows, self._nothing(n), rows)
            n *= 2
        self._put(WASTE, self.layout.unpack(np.asarray(self._table[WASTE])))
        waste = np.full(1, WASTE, np.int32)
        np.asarray(taken_rows(self._table, waste))
        if self._model.shiftable:
            self._move(waste, waste, waste, np.zeros((1, self._n_features)))

    @_serialised
    def save(self, path: str | PathLike[str]) -> None:
        """Write the engine to one file: safetensors with a JSON header, no pickle.

        A crash on the way leaves the old file or the new one. Raises CheckpointError if it cannot be written.
        """
        config, tensors = self.dump()
        checkpoint.write(path, config, self._model, tensors)

    @_serialised
    def fetch(self) -> None:
        """Have the states at hand in NumPy; until the next event `dump` then asks JAX for nothing."""
        np.asarray(self._table)

    @_serialised
    def dump(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """A copy of all that the operator chose and the stream taught but for the model: plain values, and arrays.

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
        tensors["table"] = np.zeros((self._slices.end, self.layout.length), np.int32)
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
        """The engine that was dumped, given its model; raises ValueError, KeyError or TypeError if it is none.

        Nothing of the arrays is kept: they may be read-only, or part of a file.
        """
        engine = cls(
            config["n_features"], features=config["features"], max_slices=config["max_slices"], estimator=estimator
        )
        engine._restore(config, tensors)
        return engine

    def _restore(self, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        self._n_events, self._pooling_at = config["n_events"], config["pooling_at"]
        self.notes = dict(config.get("notes", {}))  # files of earlier versions have none
        self._slices.restore(config["slices"], tensors)
        if tensors["origins"].any():
            self._origins.table = np.array(tensors["origins"])
        table = tensors["table"]
        if table.shape != (self._slices.end, self.layout.length):
            raise ValueError(f"its table has shape {table.shape}")
        if table.dtype == np.float32:  # of format 1, where counts were floats
            table = self.layout.from_floats(table)
        capacity = max(FIRST_CAPACITY, 1 << (len(table) - 1).bit_length())
        self._table = grown(jnp.array(table), capacity)
        self._anchored = self._is_anchored(self.layout.unpack(table[FRESH]))

    def __getstate__(self) -> dict[str, Any]:
        config, tensors = self.dump()
        return {"config": config, "model": self._model, "tensors": tensors}

    def __setstate__(self, state: dict[str, Any]) -> None:
        config = state["config"]
        Engine.__init__(
            self,
            config["n_features"],
            features=config["features"],
            max_slices=config["max_slices"],
            estimator=state["model"],
        )
        self._restore(config, state["tensors"])

    def __repr__(self) -> str:
        what = f"features={self._features}" if self._features else f"n_features={self._n_features}"
        return f"Engine({what}, estimator={self._model!r}) of {self.n_slices:,} slices after {self._n_events:,} events"

    def _repr_html_(self) -> str:
        """A small table, for notebooks."""
        rows = {
            "features": ", ".join(self._features) if self._features else self._n_features,
            "model": repr(self._model),
            "slices": f"{self.n_slices:,} (at most {self.max_slices:,}; {self.evicted:,} evicted)",
            "events": f"{self._n_events:,}",
        }
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table><caption>onlineguard.Engine</caption>{cells}</table>"

    @_serialised
    def _change(self, **fields: float) -> None:
        """Change fields of the model; programs are not compiled again."""
        name = next(iter(fields))
        if not dataclasses.is_dataclass(self._model) or name not in {f.name for f in dataclasses.fields(self._model)}:
            raise InvalidArgument(f"{name} is not a field of {_kind(self._model)}; choose it where the model is made")
        self._model = dataclasses.replace(self._model, **fields)
        self._params = self._steppable()

    @property
    def _pools(self) -> bool:
        """Whether the model says where new slices start."""
        return type(self._model).pooled is not SliceModel.pooled

    def _steppable(self) -> SliceModel:
        return jax.tree.map(jnp.float32, self._model)

    def _is_anchored(self, fresh: Any) -> bool:
        """Whether the state before any event says where events are, so that an origin has to be told to it."""
        if not self._model.shiftable:
            return False
        stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[None], fresh)
        there = self.layout.pack(self._model.moved(stacked, np.ones((1, self._width))))
        return bool((there != self.layout.pack(stacked)).any())

    def _read(self, slices: Any, X: Any, y: Any) -> tuple[Events, SliceKeys, np.ndarray]:
        """Events, their keys, all of which can be used as such, and the keys' rows or UNKNOWN."""
        x = as_events(X, self._n_features, self._features)
        events = Events(x, self._targets(y, len(x)))
        keys = as_keys(slices, events.n)
        try:
            rows = self._slices.lookup(keys)
        except TypeError:  # a key that cannot be hashed
            rows = np.full(len(keys), UNKNOWN, np.int32)
        for i in first_unknown(keys, rows):
            check_key(keys[i], i)
        return events, keys, rows

    def _targets(self, y: Any, n: int) -> np.ndarray | None:
        if self._model.supervised:
            return as_targets(y, n)
        if y is not None:
            raise InvalidArgument(
                f"y was given, but {_kind(self._model)} has no target; leave it out, or give the Engine a supervised "
                "model, e.g. ClippedSGD(LinearRegression(2))"
            )
        return None

    def _admit(
        self,
        keys: SliceKeys,
        start: int,
        begin: Callable[[list[int], np.ndarray], np.ndarray],
        known: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows to read from and write to, for the events from `start` to the next point where the table must change.

        Such points are a full table and the pooling of the slices. Both lie at fixed events of the stream, wherever
        batches are cut. `begin` is given the events that are the first of a slice, and the rows of these slices. It
        says which rows to read their start from.
        """
        end = min(len(keys), start + LARGEST_BATCH, start + self._pooling_at - self._n_events)
        part = keys[start:end]
        rows = self._slices.lookup(part) if known is None else known[start:end]
        born: list[int] = []
        for i in first_unknown(part, rows):
            key = check_key(part[i], start + i)
            if key not in self._slices.rows:
                if not self._slices.capacity_left and i == 0:
                    self._slices.evict()
                    return self._admit(keys, start, begin)
                if not self._slices.capacity_left:
                    rows = rows[:i]
                    break
                self._slices.birth(key)
                born.append(i)
        if born:
            rows = self._slices.lookup(part[: len(rows)])
        self._reserve(self._slices.end)
        reads = rows
        if born:
            reads = rows.copy()
            reads[born] = begin([start + i for i in born], rows[born])
        return reads, rows

    def _start(self, events: Events, rows: np.ndarray) -> np.ndarray:
        """Rows to read the start of new slices from, given the first event of each; `rows` get their origins."""
        reads = np.full(len(rows), FRESH, np.int32)
        origins = self._origins.first(events.x)
        if self._pools:
            typical = np.full_like(reads, TYPICAL)
            likely = self._run(typical, np.full_like(reads, WASTE), events, typical)[:, 0] < LIKELY
            reads = np.where(likely, typical, reads)
            origins = np.where(likely[:, None], self._origins.of(typical), origins)
        self._origins.put(rows, origins)
        if self._anchored:
            told = np.flatnonzero((reads == FRESH) & origins.any(axis=1))
            if len(told):
                self._move(reads[told], reads[told], rows[told], origins[told])
                reads[told] = rows[told]
        return reads

    def _learn(self, reads: np.ndarray, rows: np.ndarray, events: Events) -> np.ndarray:
        """Run events and write the states back; judgements (n, FIELDS).

        A slice whose origin has to move stops before that event. Slices never touch each other, so all run until there,
        all that stopped are moved at once, and they go on.
        """
        needed = self._origins.needed(rows, events.x)
        if needed is None:
            return self._run(reads, rows, events, rows)
        reads, judgements = reads.copy(), np.empty((events.n, FIELDS), np.float32)
        waiting = np.arange(events.n)
        while needed is not None:
            movers = np.flatnonzero(needed.any(axis=1))
            first = movers[np.unique(rows[waiting[movers]], return_index=True)[1]]
            stop = np.full(rows.max() + 1, len(waiting))
            stop[rows[waiting[first]]] = first
            stopped = np.arange(len(waiting)) >= stop[rows[waiting]]
            go, at = waiting[~stopped], waiting[first]
            judgements[go] = self._run(reads[go], rows[go], events.part(go), rows[go])
            self._move(reads[at], rows[at], rows[at], np.where(needed[first], events.x[at], 0.0))
            reads[at] = rows[at]
            waiting = waiting[stopped]
            needed = self._origins.needed(rows[waiting], events.x[waiting])
        judgements[waiting] = self._run(reads[waiting], rows[waiting], events.part(waiting), rows[waiting])
        return judgements

    def _cuts(self, rows: np.ndarray, events: Events) -> list[slice]:
        """Parts of events that are only looked at: smaller ones where states have to be copied for it."""
        plain = (rows != UNKNOWN).all() and self._origins.needed(rows, events.x) is None
        step = LARGEST_BATCH if plain else APART
        return [slice(start, start + step) for start in range(0, events.n, step)]

    def _looked_up(self, rows: np.ndarray, events: Events) -> tuple[np.ndarray, np.ndarray]:
        """Rows to read the states and the origins from, for slices in these rows, some of them UNKNOWN."""
        reads, homes = rows.copy(), rows.copy()
        new = np.flatnonzero(rows == UNKNOWN)
        if len(new):
            homes[new] = self._slices.end + new
            reads[new] = self._start(events.part(new), homes[new])
        return self._apart(reads, homes, events)

    def _apart(self, reads: np.ndarray, homes: np.ndarray, events: Events) -> tuple[np.ndarray, np.ndarray]:
        """Rows to read the states and the origins from: where an event would move an origin, those of a moved copy."""
        needed = self._origins.needed(homes, events.x)
        if needed is None:
            return reads, homes
        at = np.flatnonzero(needed.any(axis=1))
        spare = (self._slices.end + at).astype(np.int32)  # no slice has these rows; one that gets them overwrites them
        self._move(reads[at], homes[at], spare, np.where(needed[at], events.x[at], 0.0))
        reads, homes = reads.copy(), homes.copy()
        reads[at] = homes[at] = spare
        return reads, homes

    def _left_out(self, reads: np.ndarray, homes: np.ndarray, events: Events) -> np.ndarray:
        """What the score of one event loses when each of its features is missing, (d,); not below 0."""
        d = self._n_features
        x = np.repeat(events.x, d + 1, axis=0)
        x[np.arange(1, d + 1), np.arange(d)] = np.nan
        many = Events(x, None if events.y is None else np.repeat(events.y, d + 1))
        at = np.repeat(reads, d + 1)
        scores = self._run(at, np.full_like(at, WASTE), many, np.repeat(homes, d + 1))[:, 0].astype(np.float64)
        whole, *without = np.nan_to_num(scores, nan=0.0, posinf=LARGEST_SCORE)
        return np.where(np.isfinite(events.x[0]), np.maximum(whole - np.array(without), 0.0), 0.0)

    def _move(self, reads: np.ndarray, homes: np.ndarray, targets: np.ndarray, shift: np.ndarray) -> None:
        """Copy states from the rows `reads`, counted from the origins of `homes`, to `targets`, and shift their origin
        by `shift` (n, d).
        """
        self._origins.put(targets, self._origins.of(homes) + shift)
        self._reserve(int(targets.max()) + 1)
        for start in range(0, len(reads), APART):
            n = len(reads[start : start + APART])
            rows, wide = np.full((2, APART), WASTE, np.int32), np.zeros((APART, self._width))
            rows[:, :n] = reads[start : start + APART], targets[start : start + APART]
            wide[:n, : self._n_features] = shift[start : start + APART]
            states = self.layout.unpack(np.asarray(taken_rows(self._table, rows[0])))
            self._table = put_rows(self._table, self.layout.pack(self._model.moved(states, wide)), rows[1])

    def _reserve(self, rows: int) -> None:
        """Double the table until it has so many rows."""
        while rows > self._table.shape[0]:
            self._table = grown(self._table, 2 * self._table.shape[0])

    def _run(self, reads: np.ndarray, writes: np.ndarray, events: Events, homes: np.ndarray) -> np.ndarray:
        """Run at most LARGEST_BATCH events, counted from the origins of `homes`, through the table.

        Returns their judgements (n, FIELDS).
        """
        n = events.n
        size = _padded_size(n)
        rows = np.zeros((2, size), np.int32)
        rows[0, :n], rows[1, :n] = reads, writes
        padded = self._padded(homes, events, size)
        self._table, judgements = advance(self._params, self.layout, self._table, rows, padded, np.int32(n))
        return np.asarray(judgements)[:n]

    def _padded(self, homes: np.ndarray, events: Events, size: int) -> np.ndarray:
        """Events relative to their origins, float32 (size, width), and a last column of targets if there are any.

        What pads them is missing, or never read.
        """
        padded = self._buffers.get(size)
        if padded is None:
            padded = self._buffers[size] = aligned(size, self._width + self._model.supervised)
        self._origins.relative(homes, events.x, padded[: events.n, : self._n_features])
        if events.y is not None:
            padded[: events.n, self._width] = events.y
        return padded

    def _nothing(self, n: int) -> Events:
        """Events without any feature."""
        x = np.full((n, self._n_features), np.nan, np.float32)
        return Events(x, np.full(n, np.nan, np.float32) if self._model.supervised else None)

    def _put(self, row: int, state: Any) -> None:
        self._table = put_row(self._table, self.layout.pack(state), np.int32(row))

    def _pool(self) -> None:
        """Renew what new slices start from: the median of the states of the slices in the lowest rows."""
        self._pooling_at += min(self._pooling_at, POOL_EVERY)
        sample = self._slices.used()[:POOL_SAMPLE]
        states = self.layout.unpack(np.asarray(self._table)[sample])
        seasoned = self._model.seen(states) >= MIN_SEEN
        if not seasoned.any():
            return
        padded = np.zeros((int(seasoned.sum()), self._width))
        padded[:, : self._n_features] = self._origins.of(sample[seasoned])
        pooled = self._model.pooled(jax.tree.map(lambda leaf: leaf[seasoned], states), padded)
        if pooled is not None:
            self._put(TYPICAL, pooled.typical)
            self._put(FRESH, pooled.fresh)
            self._origins.put(np.array([TYPICAL]), pooled.origin[None, : self._n_features])
            self._anchored = self._is_anchored(pooled.fresh)

    def _verdicts(self, parts: list[np.ndarray], numbers: list[np.ndarray] | None = None) -> Verdicts:
        fields = parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, FIELDS), np.float32), *parts])
        of = None if numbers is None else np.concatenate([np.empty(0, np.int64), *numbers])
        quantiles, tail = fields[:, READY + 1 : READY + 4], fields[:, READY + 4]
        return Verdicts(fields[:, 0], fields[:, 1], fields[:, READY] > 0, quantiles, self.target_rate, of, tail)


def aligned(rows: int, columns: int) -> np.ndarray:
    """NaNs (rows, columns), float32, that start where XLA can use them as they lie instead of copying them."""
    spare = np.full(rows * columns + LANES, np.nan, np.float32)
    start = -(spare.ctypes.data // spare.itemsize) % LANES
    return spare[start : start + rows * columns].reshape(rows, columns)


def _padded_size(n: int) -> int:
    """Events that a program of its own runs: powers of two, so that few have to be compiled."""
    return max(SMALLEST_BATCH, 1 << (n - 1).bit_length())


def _kind(model: SliceModel) -> str:
    """What a user calls the model."""
    return type(getattr(model, "estimator", model)).__name__
