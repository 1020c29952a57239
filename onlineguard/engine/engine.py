"""Engine: a model for every slice, updated on every event. The Engine holds the state that changes; models are pure.

Calls from several threads wait for each other, so none is lost. Events of one call are learned one after the other.
"""

import asyncio
import functools
import html
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from typing import Any, Concatenate, Literal

import numpy as np

from onlineguard.engine import checkpoint, portable
from onlineguard.engine.arguments import (
    checked_categories,
    checked_cores,
    checked_features,
    checked_max_slices,
    checked_model,
    checked_patience,
    checked_rate,
    checked_sides,
    checked_weights,
    checked_width,
    columns_named,
    fitting_model,
    with_absence,
    with_categories,
)
from onlineguard.engine.batches import LARGEST_BATCH, EventBatch, aligned
from onlineguard.engine.device import available, checked_device
from onlineguard.engine.events import CodedEvents, as_targets
from onlineguard.engine.features import Features
from onlineguard.engine.fronts import Front, Tail
from onlineguard.engine.keys import SliceKeys
from onlineguard.engine.learner import Learner, Outcome
from onlineguard.engine.parts import FIRST_ROW
from onlineguard.engine.states import SAMPLE, Sample, States
from onlineguard.engine.table import Layout
from onlineguard.engine.verdicts import Verdict, Verdicts
from onlineguard.errors import InvalidArgument
from onlineguard.models.base import SliceModel


def _serialised[**P, R](method: Callable[Concatenate["Engine", P], R]) -> Callable[Concatenate["Engine", P], R]:
    """The method, which waits until no other thread is in a serialised method of the engine."""

    @functools.wraps(method)
    def alone(self: "Engine", *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:  # pyright: ignore[reportPrivateUsage]  # the Engine's own decorator
            return method(self, *args, **kwargs)

    return alone


class Engine:
    """Judges each event by the earlier events of its slice, then learns from it.

    >>> engine = Engine(n_features=2, target_rate=0.01)
    >>> rng = np.random.default_rng(0)
    >>> _ = engine.update(["de"] * 1_000, rng.normal(100.0, 5.0, (1_000, 2)))
    >>> engine.score(["de", "de"], [[101.0, 97.0], [101.0, 300.0]]).anomalous
    array([False,  True])

    n_features: numbers in an event; may be left out where `features` names them.
    target_rate: share of usual events to be flagged, in (0, 0.2]; may be changed while the engine runs.
    patience: events that a new regime must last before it counts as usual; see `Detector`. May be changed too.
    features: names of the features, needed for frames and dicts, and shown by `explain`.
    max_slices: the most slices kept; the least recently used are evicted first. May be changed while the engine runs.
    bytes_per_slice: the most that a slice may take in memory, for very many slices. The default `JointDetector` is
        taken where it fits, and the marginal `Detector` otherwise; None for no limit.
    estimator: the model of one slice, instead of the default `JointDetector(target_rate, patience)`. A `SliceModel`,
        such as a `Series`, brings its own choices. Any estimator of the core, such as
        `ClippedSGD(Covariance(4))`, is wrapped in a `Judged` with the target_rate and patience of this call.
    categories: names or numbers of the features that are categories, such as a country. Each counts by how rare it is
        in its slice; see `Categories`. Features that hold texts in the first call are categories without being named.
    only_high, only_low: names or numbers of the features of which only high, or only low, values are odd.
    weights: how many times as much as others some features count, e.g. {"latency": 2}; 0 for not at all. These three
        are for the default estimator.
    absence: whether it can be odd that features are missing; see `Absence`.
    cores: how many cores a call of thousands of events may use; None for all that the process may run on. The answers
        are the same, to the last bit.
    device: where events are stepped: "cpu", "gpu", or "auto" for calls of many events on an accelerator, if there is
        one, and for small ones on the CPU. On an accelerator answers differ by a few ulps.

    An engine can be pickled and copied. From then on the copy learns independently of the original.
    """

    __slots__ = (
        "__weakref__",
        "_cores",
        "_device",
        "_features",
        "_learner",
        "_lock",
        "_turns",
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
        bytes_per_slice: float | None = None,
        estimator: Any = None,
        categories: Sequence[str | int] = (),
        only_high: Sequence[str | int] = (),
        only_low: Sequence[str | int] = (),
        weights: Mapping[str | int, float] | None = None,
        absence: bool = False,
        cores: int | None = None,
        device: str = "auto",
    ):
        self._lock = threading.RLock()
        self._turns = ThreadPoolExecutor(1, "onlineguard")  # of `aupdate`; it starts no thread before that
        names = checked_features(features)
        n = checked_width(n_features, names)
        self._features = Features(n, names)
        columns = checked_categories(categories, n, names)
        sides = checked_sides(only_high, only_low, n, names)
        weighing = checked_weights(weights, n, names)
        if bytes_per_slice is None:
            model = checked_model(estimator, target_rate, patience, sides, weighing)
        elif estimator is None:
            model = fitting_model(n, bytes_per_slice, target_rate, patience, sides, weighing)
        else:
            raise InvalidArgument(
                "bytes_per_slice", f"is {bytes_per_slice!r}, but an estimator is named; leave one of them out"
            )
        model = with_categories(model, columns)
        self._cores, self._device = checked_cores(cores), checked_device(device)
        states = self._new_states(with_absence(model) if absence else model)
        self._learner = Learner(states, checked_max_slices(max_slices))
        self.notes: dict[str, Any] = {}  # the caller's own values, of types that JSON can hold; saved with the engine

    @property
    def model(self) -> SliceModel:
        """The model of one slice, with the values that the operator chose."""
        return self._learner.states.model

    @property
    def params(self) -> SliceModel:
        """The model as it is given to compiled programs: its numbers are float32 arrays."""
        return self._learner.states.params

    @property
    def layout(self) -> Layout:
        """Where the parts of a slice's state lie in its row of the table."""
        return self._learner.states.layout

    @property
    def categories(self) -> tuple[int, ...]:
        """The features that are categories, counted from 0."""
        return self.model.categories

    @property
    def n_features(self) -> int:
        """Numbers in an event."""
        return self._features.n

    @property
    def features(self) -> list[str] | None:
        """Names of the features, if they have any."""
        return self._features.names

    @property
    def n_events(self) -> int:
        """Events taken by `update`, over all slices."""
        return self._learner.admission.n_events

    @property
    def target_rate(self) -> float:
        """Share of usual events to be flagged. After a change the running quantiles move to the new rate."""
        return float(self.model.target_rate)

    @target_rate.setter
    def target_rate(self, target_rate: float) -> None:
        self._change(target_rate=checked_rate(target_rate))

    @property
    def patience(self) -> float:
        """Events that a new regime must last before it counts as usual. AttributeError if the model has no patience."""
        return float(self.model.patience)  # type: ignore[attr-defined]

    @patience.setter
    def patience(self, patience: float) -> None:
        self._change(patience=checked_patience(patience))

    @property
    def max_slices(self) -> int:
        """The most slices kept; the least recently used are evicted first. A smaller number takes effect at once."""
        return self._learner.slices.max_slices

    @max_slices.setter
    @_serialised
    def max_slices(self, max_slices: int) -> None:
        slices = self._learner.slices
        slices.max_slices = checked_max_slices(max_slices)
        while slices.capacity_left < 0:
            slices.evict()

    @property
    @_serialised
    def slices(self) -> list[Hashable]:
        """Keys of the known slices, oldest first."""
        return list(self._learner.slices.rows)

    @property
    def n_slices(self) -> int:
        """The number of known slices."""
        return len(self._learner.slices.rows)

    def slice_of(self, number: int) -> Hashable:
        """The key of the slice with this number in `Verdicts.slice_numbers`.

        Raises KeyError for a slice that was never known or has been forgotten.
        """
        return self._learner.slices.key_of(number)

    @property
    def capacity(self) -> int:
        """How many slices fit before the table grows. Growing compiles the programs again for the new size."""
        return min(self._learner.states.table.parts.capacity - FIRST_ROW, self._learner.slices.max_slices)

    @property
    def evicted(self) -> int:
        """Slices evicted since the start to keep within `max_slices`."""
        return self._learner.slices.evicted

    @_serialised
    def update(self, slices: Any, X: Any, y: Any = None) -> Verdicts:
        """Judge each event by the state from before it, then learn from it, in order.

        slices: one key for each event: a string, an int or a tuple of these; dates and UUIDs become texts. They
            come as a list, an array, or columns of a frame; several columns make each key a tuple. A single key stands
            for every event.
        X: (n, d) numbers, a list of dicts, or named columns with the engine's features: a dict of arrays, a frame of
            polars or pandas, or what speaks Arrow's C interface. NaN, infinite and absent features are missing. An
            event without any feature is not learned, and its verdict is not `ready`.
            Arrays of JAX, PyTorch and CuPy on an accelerator that steps this call are taken where they are, and the
            verdicts stay there until they are read; see `Verdicts.on_device`.
        y: (n,) numbers, the targets of a supervised model; NaN for an unknown target, None if all are unknown.

        Cutting a stream into other batches changes nothing, to the last bit. Raises InvalidArgument, before anything
        has changed, if a key or a number cannot be read.
        """
        return self._learner.verdicts(self._learned(slices, X, y, wait=True))

    async def aupdate(self, slices: Any, X: Any, y: Any = None) -> Verdicts:
        """`update` in a thread of the engine's own, while the event loop goes on.

        Calls are learned in the order in which they were made, also where their tasks are awaited together. The arrays
        must not change until the verdicts are there. A call that is cancelled is learned, unless it was still waiting.
        """
        return await asyncio.get_running_loop().run_in_executor(self._turns, self.update, slices, X, y)

    def update_stream(self, batches: Iterable[tuple[Any, ...]]) -> Iterator[Verdicts]:
        """The verdicts of `update` on each batch, (slices, X) or (slices, X, y), in turn.

        On an accelerator the next batch is read, and its keys are looked up, while the device works on the one before:
        the engine is a batch ahead of the verdicts. Raises as `update` does, after the verdicts of the batches before.
        """
        if not self._learner.states.table.goes_away:
            yield from (self.update(*batch) for batch in batches)
            return
        ahead: deque[Outcome] = deque()
        failed = None
        for batch in batches:
            try:
                with self._lock:
                    ahead.append(self._learned(*batch, wait=False))
            except Exception as error:  # first what was learned before it
                failed = error
                break
            if len(ahead) > 1:
                yield self._learner.verdicts(ahead.popleft())
        while ahead:
            yield self._learner.verdicts(ahead.popleft())
        if failed is not None:
            raise failed

    def _learned(self, slices: Any, X: Any, y: Any = None, *, wait: bool) -> Outcome:
        """Learn a batch; see `Stepper.run` for `wait`."""
        return self._learner.learn(*self._read(slices, X, y), wait)

    @_serialised
    def score(self, slices: Any, X: Any, y: Any = None) -> Verdicts:
        """The verdict that `update` would give to each of these events if it came next; nothing is learned."""
        events, _, rows = self._read(slices, X, y)
        return self._learner.verdicts(self._learner.judge(events, rows))

    @_serialised
    def predict(self, slices: Any, X: Any) -> np.ndarray:
        """The target of each event as the model of its slice predicts it, float32 (n,); nothing is learned.

        NaN where nothing is known. Raises InvalidArgument for a model that predicts nothing.
        """
        if not self.model.predicts:
            raise InvalidArgument(
                f"estimator is a {_kind(self.model)}, which predicts nothing; give the Engine one that has a target, "
                "e.g. ClippedSGD(LinearRegression(2))"
            )
        events, _, rows = self._read(slices, X, None)
        events = events._replace(x=np.asarray(events.x))
        return self._learner.states.predict(rows, events, self._learner.slices.end)

    def memory_for(self, front: Front) -> np.ndarray:
        """The memory for `update_from`, int32 zeros: first the front's part, then the engine's."""
        memory = aligned(1, Tail.of(front).length)[0].view(np.int32)
        memory[:] = 0
        return memory

    def brought(self, front: Front, weights: Any) -> Any:
        """The weights of a front on the device that runs it."""
        return self._learner.states.table.brought(front, weights)

    def runs_at_once(self, n: int) -> bool:
        """Whether a front of so many events had better compute them all at once, on an accelerator."""
        return self._learner.states.table.runs_at_once(n)

    @_serialised
    def update_from(
        self, front: Front, weights: Any, slices: Sequence[Hashable], memory: np.ndarray
    ) -> tuple[np.ndarray, Verdicts]:
        """`update` with events that the front computes from its memory, in one compiled loop.

        slices: the key of each event; at most `front.size` of them.
        memory: from `memory_for`, filled with the front's input for these events. It is overwritten.

        Returns another memory, as the front left it, and the verdicts. The events are float32 numbers, counted from
        zero. Raises InvalidArgument, before anything has changed, if a slice counts its events from an origin, or if
        the model is supervised.
        """
        if self._learner.states.have_origins:
            raise InvalidArgument("the engine has slices that count from origins; give all its events to `update`")
        if self.model.supervised:
            raise InvalidArgument(f"{_kind(self.model)} has a target, which no front computes; use `update`")
        return self._learner.learn_from(front, weights, slices, memory)

    @_serialised
    def warmup_from(self, front: Front, weights: Any) -> None:
        """Compile the program of a front for the present size of the table."""
        self._learner.states.table.warmup_from(front, weights, self.memory_for(front))

    @_serialised
    def explain(self, slice_: Hashable, x: Any, y: float = np.nan) -> dict[Any, float]:
        """Each feature's share of the score that x would get in the slice now, largest first; 0 where it is missing.

        Features are named, or counted from 0. If the model does not split its score by feature, the event is scored
        again without each feature, whose part is the drop of the score. Raises KeyError for an unknown slice.
        """
        row, event = self._row(slice_), self._one_event(x, y)
        parts = self._learner.states.contributions(row, event, self._learner.slices.end)
        shares = parts / max(parts.sum(), np.finfo(float).tiny)
        names = self._features.labels
        return {names[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable").tolist()}

    @_serialised
    def reasons(self, slice_: Hashable, x: Any, y: float = np.nan) -> dict[str, Any]:
        """Why x would score as it does in the slice now, in the data's own unit: numbers, and dicts by feature.

        The model chooses the entries. The default has the value `expected` of each feature from the others, the
        `nearest` usual event, and the `pair` of features whose relation is broken, if one stands out. A `Series` has
        the `nearest` value seen before, the `forecast`, the value at the `same_time` of an earlier period, and its
        evidence in decades. NaN stands for none. Raises KeyError for an unknown slice.
        """
        row, names = self._row(slice_), self._features.labels
        found = self._learner.states.reasons(row, self._one_event(x, y), self._learner.slices.end)
        return {
            name: tuple(names[i] for i in value) if isinstance(value, tuple) else self._by_feature(value)
            for name, value in found.items()
        }

    @_serialised
    def feedback(self, slice_: Hashable, x: Any, usual: bool) -> Verdict:
        """Tell a slice that x is usual ("a false alarm") or not ("you missed this"); its verdict from now on.

        The slice's threshold moves just beyond the score of x, by at most a quarter a call, and by at most a factor of
        two over all calls. It never falls below the score that 5 % of the slice's events exceed. An x that is judged
        rightly already moves nothing. If x is usual the model learns it once more, as it learns any event; a series
        does not, since an event has its place there. Raises KeyError for an unknown slice.
        """
        row, event = self._row(slice_), self._one_event(x)
        self._learner.teach(row, event, usual)
        return self.score([slice_], CodedEvents(np.asarray(event.x)))[0]

    def plot(self, slice_: Hashable, X: Any, y: Any = None, *, features: Sequence[str | int] | None = None) -> Any:
        """Draw events, and their scores against the threshold, as the slice would judge them now; nothing is learned.

        X: events as `update` takes them, in their order. Where the model tells each feature's location and scale, three
            scales on each side are shaded.
        features: which are drawn, by name or counted from 0, at most 12; else all that are no categories.

        Returns the axes of a new figure of Matplotlib, one for each feature and the last for the score; needs the extra
        `plot`. Draw the verdicts of `update` with `Verdicts.plot`. Raises KeyError for an unknown slice.
        """
        from onlineguard.engine.pictures import drawn

        found, names = self.describe(slice_), list(self._features.labels)
        numbers = [j for j in range(self.n_features) if j not in self.categories]
        columns = sorted(columns_named("features", features or numbers, self.n_features, self.features))
        location, scale, events = found.get("location"), found.get("scale"), self._events(X)
        return drawn(
            self.score(slice_, CodedEvents(events), y),
            events[:, columns],
            [str(names[j]) for j in columns],
            title=f"{slice_!r} after {found['events']:,} events",
            usual={str(name): (location[name], scale[name]) for name in names}
            if isinstance(location, dict) and isinstance(scale, dict)
            else {},
        )

    @_serialised
    def describe(self, slice_: Hashable) -> dict[str, Any]:
        """The state of a slice for a reader, in the data's own unit: numbers, and dicts with a number for each feature.

        The model chooses the entries, e.g. location, scale and threshold. `events` counts the events that the slice
        has learned, `idle` the events of all slices since its last one, and `feedback` is the factor that people put on
        the threshold. Raises KeyError for an unknown slice.
        """
        row = self._row(slice_)
        found = self._by_feature(self.model.describe(self.state(slice_)))
        idle = self.n_events - 1 - self._learner.slices.last_used(row)
        return {**found, "idle": idle, "feedback": self._learner.feedback.of(row)}

    @_serialised
    def state(self, slice_: Hashable) -> Any:
        """The learned state of a slice, in NumPy and in the data's own unit.

        Where events are counted from an origin, floats are float64, so that none of their digits is lost. Raises
        KeyError for a slice that is not known.
        """
        return self._learner.states.of(self._row(slice_))

    @_serialised
    def forget(self, slice_: Hashable) -> None:
        """Drop a slice and its state; raises KeyError for an unknown slice."""
        self._learner.slices.forget(slice_)

    def select(self, slices: Any) -> "Engine":
        """A new engine with these slices alone: a copy of this one that has forgotten all others.

        slices: a list of keys, or one key.

        The verdicts on these slices go on bit for bit, and so do their origins, their numbers and what people said of
        them. New slices start as they would here until the next pooling, which then knows these slices only. `save`
        writes the selection to a file. Raises KeyError for a slice that is not known.
        """
        with self._lock:
            return self._made(self.model, portable.selected(self.dump(), portable.as_slice_keys(slices)))

    def split(self, by: Callable[[Any], Hashable]) -> dict[Any, "Engine"]:
        """`select` for each value that `by` gives of the slices' keys: a new engine each, by that value.

        >>> engine = Engine(1)
        >>> _ = engine.update([("de", "web"), ("de", "app"), ("fr", "web")], [[1.0], [2.0], [3.0]])
        >>> {country: part.slices for country, part in engine.split(lambda key: key[0]).items()}
        {'de': [('de', 'web'), ('de', 'app')], 'fr': [('fr', 'web')]}
        """
        with self._lock:
            return {name: self._made(self.model, part) for name, part in portable.split(self.dump(), by)}

    def add(self, other: "Engine", both: Literal["refuse", "keep", "replace"] = "refuse") -> None:
        """Take in all slices of another engine, which stays as it is; their verdicts go on bit for bit.

        both: what is done with a slice that both have: "refuse" to add, "keep" this engine's, or "replace" it by the
            other's.

        The slices that come in are numbered after those that are here. Of all slices the one that was idle for most
        events is evicted first. `n_events` is the larger one of the two. New slices start as before, until the next
        pooling, which knows all slices.

        Raises InvalidArgument, before anything has changed, where the other has other features or another model, where
        both have a slice, or where `max_slices` is too small for all.
        """
        if not isinstance(other, Engine):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without types
            raise InvalidArgument("other", f"is {other!r}; it must be an Engine, e.g. one that Engine.load gives")
        if both not in ("refuse", "keep", "replace"):
            raise InvalidArgument("both", f"is {both!r}; it must be 'refuse', 'keep' or 'replace'")
        with other._lock:
            dump, model = other.dump(), other.model
        with self._lock:
            portable.check_alike(
                self.model, model, self.features or self.n_features, other.features or other.n_features
            )
            self._learner.take_in(*portable.coming(dump, self._learner.slices.rows, both, self.max_slices))

    def with_features(self, features: Sequence[str] | int, *, categories: Sequence[str | int] = ()) -> "Engine":
        """A new engine for events with other features, in which every slice keeps what it learned of those that remain.

        features: all names from now on, in order; those that are not among them are forgotten. An engine whose features
            have no names is given their number, and the first ones remain.
        categories: which of the new ones are categories; a feature that remains stays what it is.

        Locations, scales, modes, shares, origins and the relations of the features that remain go along bit for bit,
        but for rounding in the covariance of those from which another one goes. A new feature begins as one that its
        slices have not seen. The threshold stays where it is, and learns faster for some hundred events, since the
        score has another law.

        Raises InvalidArgument where nothing would remain, and for a model that does not learn feature by feature, as a
        core estimator or a `OneSided`.
        """
        with self._lock:
            return self._made(*portable.with_features(self.dump(), self.model, self.layout, features, categories))

    @_serialised
    def sample(self, most: int = SAMPLE) -> Sample | None:
        """The states of up to `most` slices, never more than 64, to be pooled with those of other engines; see `adopt`.

        They are the oldest that have seen enough. None where the model cannot be pooled.
        """
        if not self._learner.states.pools:
            return None
        return Sample(*(part[:most] for part in self._learner.sample()))

    @_serialised
    def adopt(self, sample: Sample) -> bool:
        """Have new slices start from the pool of these states, and pool no more here; returns whether it was done.

        Nothing changes where the states are those of other models or features, or where this model cannot be pooled.
        The states may come from several engines that each judge a part of the slices of a stream.
        """
        return self._learner.adopt(sample)

    @_serialised
    def warmup(self, batch: int = LARGEST_BATCH, slices: int = 0) -> None:
        """Compile the programs for calls of up to `batch` events, so that none of them waits for a compiler.

        The table doubles when it is full, which compiles the programs again. It is made large enough for `slices`
        beforehand. For an accelerator it compiles too, a minute or so, and measures from how many events on a call is
        quicker there.
        """
        self._learner.warmup(batch, slices)

    @_serialised
    def save(self, path: str | PathLike[str]) -> None:
        """Write the engine to one file: safetensors with a JSON header, no pickle.

        A crash on the way leaves the old file or the new one. Raises CheckpointError if it cannot be written.
        """
        config, tensors = self.dump()
        checkpoint.write(path, config, self.model, tensors)

    @_serialised
    def fetch(self) -> None:
        """Bring the states into NumPy, so that until the next event `dump` need not call JAX."""
        self._learner.states.fetch()

    @_serialised
    def dump(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """A copy of the engine without its model: the configuration as plain values, and the states as arrays.

        `save` writes it to a file, and the service to its snapshots.
        """
        learned, tensors = self._learner.dump()
        return {"n_features": self.n_features, "features": self.features, **learned, "notes": self.notes}, tensors

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Engine":
        """The engine that was saved; it goes on as if it had never stopped.

        Raises CheckpointError for a file that is missing, truncated, of another program or of a newer version.
        """
        return checkpoint.restored(path, cls.restored)

    @classmethod
    def restored(cls, config: dict[str, Any], estimator: Any, tensors: dict[str, np.ndarray]) -> "Engine":
        """The engine that was dumped, given its model. Raises ValueError, KeyError or TypeError for a bad dump.

        The arrays are copied, so they may be read-only, or part of a file.
        """
        engine = cls.__new__(cls)
        engine._become(config, estimator, tensors)
        return engine

    def _become(
        self,
        config: dict[str, Any],
        model: Any,
        tensors: dict[str, np.ndarray],
        cores: int | None = None,
        device: str = "auto",
    ) -> None:
        """Begin as the engine that was dumped, given its model and where it runs from now on."""
        Engine.__init__(
            self,
            config["n_features"],
            features=config["features"],
            max_slices=config["max_slices"],
            estimator=model,
            cores=cores,
            device=device,
        )
        self.notes = dict(config.get("notes", {}))  # files of earlier versions have none
        self._learner.restore(config, tensors)

    def _made(self, model: SliceModel, dump: portable.Dump) -> "Engine":
        """An engine of a dump, in the places where this one runs."""
        engine, (config, tensors) = Engine.__new__(Engine), dump
        engine._become(config, model, tensors, self._cores, self._device)
        return engine

    def __getstate__(self) -> dict[str, Any]:
        config, tensors = self.dump()
        places = {"cores": self._cores, "device": self._device}
        return {"config": config, "model": self.model, "tensors": tensors, **places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        places = state.get("cores"), available(state.get("device", "auto"))
        self._become(state["config"], state["model"], state["tensors"], *places)

    def __repr__(self) -> str:
        table = str(self._learner.states.table)
        size = f"{self.n_slices:,} slices after {self.n_events:,} events"
        return f"Engine({self._features}, estimator={self.model!r}) of {size}{table and f', {table}'}"

    def _repr_html_(self) -> str:
        """A small table, for notebooks."""
        rows = {
            "features": ", ".join(self.features) if self.features else self.n_features,
            "model": repr(self.model),
            "slices": f"{self.n_slices:,} (at most {self.max_slices:,}; {self.evicted:,} evicted)",
            "events": f"{self.n_events:,}",
        }
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table><caption>onlineguard.Engine</caption>{cells}</table>"

    @_serialised
    def _change(self, **fields: float) -> None:
        """Change fields of the model; programs are not compiled again."""
        self._learner.states.use(self.model.changed(**fields))

    def _row(self, slice_: Hashable) -> int:
        """The row of a slice; raises KeyError for an unknown one."""
        return self._learner.slices.row(slice_)

    def _read(self, slices: Any, X: Any, y: Any) -> tuple[EventBatch, SliceKeys, np.ndarray]:
        """The events, their checked keys, and the row of each key, or UNKNOWN."""
        self._features.check_key(slices, X)
        x = None if self.model.categories else self._features.there(X)
        if x is None or not self._learner.states.table.takes(x):  # the call is stepped elsewhere than where X is
            x = self._events(X)
        events = EventBatch(x, self._targets(y, len(x)))
        return events, *self._learner.looked_up(slices, events.n)

    def _events(self, X: Any) -> np.ndarray:
        """X as numbers. Before the first event is learned, features that hold texts become categories."""
        model = self.model
        x, categories = self._features.read(X, model.categories, not self._learner.admission.n_events)
        if categories != model.categories:
            self._learner.states = self._new_states(with_categories(model, categories))
        return x

    def _new_states(self, model: SliceModel) -> States:
        return States(model, self.n_features, self._cores, self._device)

    def _one_event(self, x: Any, y: float = np.nan) -> EventBatch:
        return EventBatch(self._events(self._features.one(x)), self._targets(None if y != y else [y], 1))

    def _by_feature(self, value: Any) -> Any:
        """What a model says, for a reader; see `Features.told`."""
        return self._features.told(value, self._learner.states.width)

    def _targets(self, y: Any, n: int) -> np.ndarray | None:
        if self.model.supervised:
            return as_targets(y, n)
        if y is not None:
            raise InvalidArgument(
                f"y was given, but {_kind(self.model)} has no target; leave it out, or give the Engine a supervised "
                "model, e.g. ClippedSGD(LinearRegression(2))"
            )
        return None


def _kind(model: SliceModel) -> str:
    """The name that a user knows the model by."""
    return type(getattr(model, "estimator", model)).__name__
