"""Engine: a model for every slice, updated on every event. The one mutable thing; everything it calls is pure.

Calls from several threads wait for each other, so none is lost; events of one call are learned one after the other.
"""

import dataclasses
import functools
import html
import threading
from collections.abc import Callable, Hashable, Sequence
from os import PathLike
from typing import Any, Concatenate

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
from onlineguard.engine.slices import UNKNOWN, SliceKeys, SliceTable, as_keys, check_key, first_unknown
from onlineguard.engine.states import FIRST_ROW, LARGEST_BATCH, EventBatch, States, aligned
from onlineguard.engine.table import Front, Layout, Tail
from onlineguard.engine.verdicts import Verdicts
from onlineguard.errors import InvalidArgument
from onlineguard.models.base import FIELDS, SliceModel

POOL_SAMPLE = 64  # slices, those of the lowest rows, that the pooled model is the median of
POOL_FIRST, POOL_EVERY = 1_024, 65_536  # pooled at these events: powers of two from the first, then multiples
NEVER = 2**62  # the event at which models are pooled that cannot be


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
        "_features",
        "_lock",
        "_n_events",
        "_n_features",
        "_pooling_at",
        "_slices",
        "_states",
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
        self._states = States(checked_model(estimator, target_rate, patience), self._n_features)
        self._slices = SliceTable(checked_max_slices(max_slices), FIRST_ROW)
        self._n_events = 0
        self._pooling_at = POOL_FIRST if self._states.pools else NEVER
        self.notes: dict[str, Any] = {}  # the caller's own, saved along: whatever JSON can hold

    @property
    def model(self) -> SliceModel:
        """The model of one slice: what the operator chose."""
        return self._states.model

    @property
    def params(self) -> SliceModel:
        """The model as it is given to compiled programs: its numbers are float32 arrays."""
        return self._states.params

    @property
    def layout(self) -> Layout:
        """Where the parts of a slice's state lie in its row of the table."""
        return self._states.layout

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
        return float(self.model.target_rate)

    @target_rate.setter
    def target_rate(self, target_rate: float) -> None:
        self._change(target_rate=checked_rate(target_rate))

    @property
    def patience(self) -> float:
        """Events that a new regime must last before it counts as usual; of models that have a patience."""
        return float(self.model.patience)  # type: ignore[attr-defined]

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
        return min(self._states.capacity - FIRST_ROW, self._slices.max_slices)

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
            reads, rows = self._admit(
                keys, start, lambda born, rows: self._states.begin(rows, events.part(born)), known
            )
            known = known if self._slices.born == born else None  # births and evictions have changed it
            end = start + len(rows)
            parts.append(self._states.learn(reads, rows, events.part(slice(start, end))))
            numbers.append(self._slices.numbers(rows))
            self._count(rows)
            start = end
        return self._verdicts(parts, numbers)

    @_serialised
    def score(self, slices: Any, X: Any, y: Any = None) -> Verdicts:
        """The verdict that `update` would give to each of these events if it came next; nothing is learned."""
        events, _, rows = self._read(slices, X, y)
        parts = self._states.judge(rows, events, self._slices.end)
        return self._verdicts(parts, [self._slices.numbers(rows)])

    @_serialised
    def predict(self, slices: Any, X: Any) -> np.ndarray:
        """What the model of its slice expects the target of each event to be: float32 (n,); nothing is learned.

        NaN where nothing is known. Raises InvalidArgument for a model that predicts nothing.
        """
        if not self.model.predicts:
            raise InvalidArgument(
                f"estimator is a {_kind(self.model)}, which predicts nothing; give the Engine one that has a target, "
                "e.g. ClippedSGD(LinearRegression(2))"
            )
        events, _, rows = self._read(slices, X, None)
        return self._states.predict(rows, events, self._slices.end)

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
        if self._states.have_origins:
            raise InvalidArgument("the engine has slices that count from origins; give all its events to `update`")
        if self.model.supervised:
            raise InvalidArgument(f"{_kind(self.model)} has a target, which no front computes; use `update`")
        n = len(slices)
        after, parts = memory, list[np.ndarray]()
        start = 0
        while start < n:
            if start:
                memory[:] = after
            rows: Any = list(map(self._slices.rows.get, slices))
            reads = rows
            if start or None in rows or self._n_events + n > self._pooling_at:
                reads, rows = self._admit(
                    slices,
                    start,
                    lambda born, _: self._states.begin_from(front, weights, memory, start, born),  # noqa: B023
                )
            after, judgements = self._states.run_from(front, weights, memory, start, (reads, rows))
            end = start + len(rows)
            parts.append(judgements[start:end])
            self._count(rows)
            start = end
        return after, self._verdicts(parts)

    @_serialised
    def warmup_from(self, front: Front, weights: Any) -> None:
        """Compile the program of a front for the table as large as it is now."""
        self._states.warmup_from(front, weights, self.memory_for(front))

    @_serialised
    def explain(self, slice_: Hashable, x: Any, y: float = np.nan) -> dict[Hashable, float]:
        """Each feature's share of the score that x would get in the slice now, largest first; 0 where it is missing.

        Features are named, or counted from 0. A model that does not say what a feature adds to its score is asked for
        the score without it: what the score loses is the feature's part. Raises KeyError for a slice that is not known.
        """
        row = self._slices.rows[slice_]
        event = EventBatch(as_events([x], self._n_features, self._features), self._targets(None if y != y else [y], 1))
        parts = self._states.contributions(row, event, self._slices.end)
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
            if np.shape(value) == (self._states.width,):
                return dict(zip(names, np.asarray(value)[: self._n_features].tolist(), strict=True))
            return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value

        found = readable(self.model.describe(self.state(slice_)))
        return {**found, "idle": self._n_events - 1 - self._slices.last_used(row)}

    @_serialised
    def state(self, slice_: Hashable) -> Any:
        """What the stream taught the slice, in NumPy and in the data's own unit.

        Where events are counted from an origin, floats are float64, so that none of their digits is lost. Raises
        KeyError for a slice that is not known.
        """
        return self._states.of(self._slices.rows[slice_])

    @_serialised
    def forget(self, slice_: Hashable) -> None:
        """Drop a slice and all it has taught; raises KeyError if it is not known."""
        self._slices.forget(slice_)

    @_serialised
    def warmup(self, batch: int = LARGEST_BATCH, slices: int = 0) -> None:
        """Compile the programs for calls of up to `batch` events, so that none of them waits for a compiler.

        A table that has to grow compiles again. It grows by doubling; `slices` makes room for so many beforehand.
        """
        self._states.reserve(FIRST_ROW + min(slices, self._slices.max_slices))
        self._states.warmup(batch)

    @_serialised
    def save(self, path: str | PathLike[str]) -> None:
        """Write the engine to one file: safetensors with a JSON header, no pickle.

        A crash on the way leaves the old file or the new one. Raises CheckpointError if it cannot be written.
        """
        config, tensors = self.dump()
        checkpoint.write(path, config, self.model, tensors)

    @_serialised
    def fetch(self) -> None:
        """Have the states at hand in NumPy; until the next event `dump` then asks JAX for nothing."""
        self._states.fetch()

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
        return config, tensors | self._states.dump(self._slices.used(), self._slices.end)

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
        self._states.restore(tensors, self._slices.end)

    def __getstate__(self) -> dict[str, Any]:
        config, tensors = self.dump()
        return {"config": config, "model": self.model, "tensors": tensors}

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
        return f"Engine({what}, estimator={self.model!r}) of {self.n_slices:,} slices after {self._n_events:,} events"

    def _repr_html_(self) -> str:
        """A small table, for notebooks."""
        rows = {
            "features": ", ".join(self._features) if self._features else self._n_features,
            "model": repr(self.model),
            "slices": f"{self.n_slices:,} (at most {self.max_slices:,}; {self.evicted:,} evicted)",
            "events": f"{self._n_events:,}",
        }
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table><caption>onlineguard.Engine</caption>{cells}</table>"

    @_serialised
    def _change(self, **fields: float) -> None:
        """Change fields of the model; programs are not compiled again."""
        name = next(iter(fields))
        if not dataclasses.is_dataclass(self.model) or name not in {f.name for f in dataclasses.fields(self.model)}:
            raise InvalidArgument(f"{name} is not a field of {_kind(self.model)}; choose it where the model is made")
        self._states.use(dataclasses.replace(self.model, **fields))

    def _read(self, slices: Any, X: Any, y: Any) -> tuple[EventBatch, SliceKeys, np.ndarray]:
        """Events, their keys, all of which can be used as such, and the keys' rows or UNKNOWN."""
        x = as_events(X, self._n_features, self._features)
        events = EventBatch(x, self._targets(y, len(x)))
        keys = as_keys(slices, events.n)
        try:
            rows = self._slices.lookup(keys)
        except TypeError:  # a key that cannot be hashed
            rows = np.full(len(keys), UNKNOWN, np.int32)
        for i in first_unknown(keys, rows):
            check_key(keys[i], i)
        return events, keys, rows

    def _targets(self, y: Any, n: int) -> np.ndarray | None:
        if self.model.supervised:
            return as_targets(y, n)
        if y is not None:
            raise InvalidArgument(
                f"y was given, but {_kind(self.model)} has no target; leave it out, or give the Engine a supervised "
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
        self._states.reserve(self._slices.end)
        reads = rows
        if born:
            reads = rows.copy()
            reads[born] = begin([start + i for i in born], rows[born])
        return reads, rows

    def _count(self, rows: Any) -> None:
        """Count the events that these rows have learned. At some of them new slices get another start."""
        self._slices.touch(rows, self._n_events)
        self._n_events += len(rows)
        if self._n_events == self._pooling_at:
            self._pooling_at += min(self._pooling_at, POOL_EVERY)
            self._states.pool(self._slices.used()[:POOL_SAMPLE])

    def _verdicts(self, parts: list[np.ndarray], numbers: list[np.ndarray] | None = None) -> Verdicts:
        fields = _joined(parts, np.empty((0, FIELDS), np.float32))
        of = None if numbers is None else _joined(numbers, np.empty(0, np.int64))
        return Verdicts(fields, self.target_rate, of)


def _joined(parts: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate([empty, *parts])


def _kind(model: SliceModel) -> str:
    """What a user calls the model."""
    return type(getattr(model, "estimator", model)).__name__
