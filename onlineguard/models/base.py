"""The protocol of a model of one slice: what the Engine needs of it, and nothing else.

    class RunningRange(SliceModel):
        def init(self, n_features): ...          the state before any event
        def step(self, state, event): ...        the next state, and a Judgement made with the state from before

A model is a frozen pytree of what the operator chose; its state is a pytree of what the stream taught. The Engine keeps
one state for every slice, packed into a row of bits, and runs `step` on every event inside a compiled loop.

**Events.** An event is x, float32 (width,), with NaN where a feature is missing. For a model that is `supervised` it is
the pair (x, y), y a float32 number, NaN where the target is not known.

**Laws.** `onlineguard.check_model` tests all of them:

- `step` is pure: arithmetic of JAX, no Python branch on a value, no clock and no random number of its own.
- It keeps the structure of the state, and the shape and the type of every leaf: float32, int32 or bool.
- The judgement comes from the state before the event.
- An event whose features are all missing leaves the state as it is, and is not ready. Of a supervised model this holds
  where the target is missing as well.
- If the model is `shiftable`: judging x from a state is judging x - by from `moved(state, by)`. Where the state before
  any event holds no position, scores do not depend on the zero of the stream.
- If the model has `categories`: one that was never seen is odder than the most frequent one.
"""

import dataclasses
import html
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from onlineguard.core.protocols import Array, Event
from onlineguard.core.shapes import Bool, Float, Float32, Float64, Int32
from onlineguard.errors import InvalidArgument
from onlineguard.models.carrying import Columns

MIN_SEEN = 100  # events before a slice is judged, and before it is part of a pooled model


class Judgement(NamedTuple):
    """One event under the state from before it. The fields from `median` on shape the p-value.

    Without one of the first four of them it is NaN, and without the last it is less exact for events that are usual.
    """

    score: Float32[Array, ""]  # how odd the event is, positive, higher is odder; NaN if nothing could be scored
    threshold: Float32[Array, ""]  # an event with a larger score is odd
    ready: Bool[Array, ""]  # the event could be scored, and the slice had seen enough to be judged
    median: Float32[Array, ""] = np.nan  # the scores that 50 %,
    fifth: Float32[Array, ""] = np.nan  # 20 %,
    twentieth: Float32[Array, ""] = np.nan  # 5 %,
    tail: Float32[Array, ""] = np.nan  # target_rate
    four_fifths: Float32[Array, ""] = np.nan  # and 80 % of the slice's events exceed


FIELDS = len(Judgement._fields)
SCORE, THRESHOLD, READY = map(Judgement._fields.index, ("score", "threshold", "ready"))


class Pooled(NamedTuple):
    """Where slices start that are seen for the first time."""

    typical: Any  # the state of one that is like most, relative to `origin`
    fresh: Any  # the state of one whose first event would be odd under the typical state
    origin: Float64[np.ndarray, " width"]


class SliceModel(ABC):
    """See this module. Methods other than `step` and `predict` run in NumPy, now and then, and need no JAX."""

    target_rate: Float[Array, ""]  # share of usual events to be flagged, in (0, 0.2]

    supervised: ClassVar[bool] = False  # events are pairs (x, y)
    predicts: ClassVar[bool] = False  # the model has a `predict`
    shiftable: ClassVar[bool] = False  # the model has a `moved`; without it values are taken as float32 holds them
    min_seen: ClassVar[int] = MIN_SEEN  # events before the first that is judged
    repeatable: ClassVar[bool] = True  # an event may be learned twice; not in a series, where each has its place
    categories: tuple[int, ...] = ()  # features, counted from 0, whose numbers are codes of categories

    def width(self, n_features: int) -> int:
        """Columns of an event of so many features; those beyond them are always missing. More can be quicker."""
        return n_features

    @abstractmethod
    def init(self, n_features: int) -> Any:
        """The state before any event, in NumPy. Where `width` gives more columns, it takes that as `width` as well."""

    @abstractmethod
    def step(self, state: Any, event: Event) -> tuple[Any, Judgement]:
        """The state after the event, and the judgement of the event under the state from before it."""

    def changed(self, **fields: float) -> "SliceModel":
        """The model with other numbers in these fields, while it runs. Raises InvalidArgument for one it has not."""
        name = next(iter(fields))
        if not dataclasses.is_dataclass(self) or name not in {field.name for field in dataclasses.fields(self)}:
            raise InvalidArgument(name, f"is not a field of {type(self).__name__}; choose it where the model is made")
        return dataclasses.replace(self, **fields)

    def predict(self, state: Any, x: Float32[Array, " width"]) -> Float32[Array, ""]:
        """What the model expects the target of x to be; only of models that say `predicts`."""
        raise TypeError(f"{type(self).__name__} predicts nothing")

    def seen(self, states: Any) -> Int32[np.ndarray, " slices"]:
        """How many events taught each of the stacked states."""
        return states.seen

    def moved(self, states: Any, by: Float64[np.ndarray, "slices width"]) -> Any:
        """Stacked states (slices, ...) when events are counted from `by` more."""
        raise TypeError(f"{type(self).__name__} cannot be shifted")

    def pooled(self, states: Any, origins: Float64[np.ndarray, "slices width"]) -> Pooled | None:
        """Where new slices start, learned from the stacked states of known ones; None where they start from `init`.

        `origins` are what the states are relative to.
        """
        return None

    def carried(self, states: Any, columns: Columns, categories: tuple[int, ...] = ()) -> tuple["SliceModel", Any]:
        """The model, and the stacked states of its slices, for events that have other features; see `carrying`.

        `categories` are those among the features from now on. Raises InvalidArgument where it cannot be.
        """
        name = type(getattr(self, "estimator", self)).__name__
        raise InvalidArgument(
            "features",
            f"cannot change in a state of {name}, which does not keep what it learns feature by feature; begin a new "
            "Engine with these features, and let it learn beside this one",
        )

    def contributions(self, state: Any, event: Float32[Array, " width"]) -> Float[Array, " width"] | None:
        """What each feature of an event adds to its score; None lets the Engine leave out one at a time."""
        return None

    def reasons(
        self, state: Any, event: Float32[Array, " width"], origin: Float64[np.ndarray, " width"]
    ) -> dict[str, Any]:
        """Why an event scores as it does, for people: plain numbers, arrays (width,), and pairs of features by number.

        Values are in the unit of the data: state and event are relative to `origin`.
        """
        return {}

    def describe(self, state: Any) -> dict[str, Any]:
        """What the state says, in the unit of the data: plain numbers, and arrays (width,), one number a feature."""
        return {"events": int(self.seen(state))}

    def _repr_html_(self) -> str:
        """The values that the operator chose, for notebooks."""
        rows = "".join(
            f"<tr><th>{field.name}</th><td>{html.escape(repr(getattr(self, field.name)))}</td></tr>"
            for field in dataclasses.fields(self)  # type: ignore[arg-type]  # every model is a pytree
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"
