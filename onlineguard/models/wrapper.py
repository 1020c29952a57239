"""A model around another one: it changes what the inner model is given, and is otherwise as that is.

What a wrapper learns of its own are running shares of the events, as those with a category or without a feature.
"""

import dataclasses
from abc import abstractmethod
from typing import Any, Self

import jax
import numpy as np

from onlineguard.core.arrays import smaller, to_float, where
from onlineguard.core.protocols import Array, Event
from onlineguard.core.shapes import Bool, Float, Float32, Float64, Int32
from onlineguard.models.base import Judgement, Pooled, SliceModel

ODD_SHARE = 0.05  # of an odd event that the shares learn, so that a burst of what is new is odd for hundreds of events
UNSEEN = 0.5  # events that something counts for before it was ever seen


class Wrapper(SliceModel):
    """A slice model with a field `model`, the inner one. Its state has a field `model` too, the inner model's state.

    patience: events that a share remembers.
    """

    model: SliceModel
    patience: Float[Array, ""]

    @abstractmethod
    def given(self, state: Any, x: Float32[Array, " width"]) -> Float32[Array, " width"]:
        """The event that the inner model gets in place of x."""

    @property
    def target_rate(self) -> Float[Array, ""]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the inner model."""
        return self.model.target_rate

    @property
    def supervised(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the inner model is given pairs (x, y)."""
        return self.model.supervised

    @property
    def predicts(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the inner model has a `predict`."""
        return self.model.predicts

    @property
    def shiftable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the inner model can be told that events are counted from elsewhere."""
        return self.model.shiftable

    @property
    def min_seen(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the inner model."""
        return self.model.min_seen

    @property
    def repeatable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the inner model may learn an event twice."""
        return self.model.repeatable

    def width(self, n_features: int) -> int:
        """That of the inner model."""
        return self.model.width(n_features)

    def changed(self, **fields: float) -> Self:
        """See `SliceModel.changed`; a patience is that of both models."""
        own = {name: value for name, value in fields.items() if name == "patience"}
        return dataclasses.replace(self, model=self.model.changed(**fields), **own)  # type: ignore[type-var]

    def seen(self, states: Any) -> Int32[np.ndarray, " slices"]:
        """Those that the inner model has seen."""
        return self.model.seen(states.model)

    def predict(self, state: Any, x: Float32[Array, " width"]) -> Float32[Array, ""]:
        """What the inner model predicts for the event that it is given."""
        return self.model.predict(state.model, self.given(state, x))

    def pooled(self, states: Any, origins: Float64[np.ndarray, "slices width"]) -> Pooled | None:
        """Where the inner model starts; the shares start anew."""
        found = self.model.pooled(states.model, origins)
        if found is None:
            return None
        blank = jax.tree.map(lambda leaf: np.zeros_like(leaf[0]), states._replace(model=()))
        return Pooled(blank._replace(model=found.typical), blank._replace(model=found.fresh), found.origin)

    def contributions(self, state: Any, event: Float32[Array, " width"]) -> Float[Array, " width"] | None:
        """What each number that the inner model is given adds to the score."""
        return self.model.contributions(state.model, self.given(state, event))

    def reasons(
        self, state: Any, event: Float32[Array, " width"], origin: Float64[np.ndarray, " width"]
    ) -> dict[str, Any]:
        """Those of the inner model for the event that it is given."""
        return self.model.reasons(state.model, self.given(state, event), origin)

    def _inner_step(self, state: Any, numbers: Float32[Array, " width"], event: Event) -> tuple[Any, Judgement]:
        """The inner model's step with these numbers in place of the event's."""
        return self.model.step(state.model, (numbers, event[1]) if self.supervised else numbers)

    def _share_rate(
        self, counted: Int32[Array, "*shape"], there: Bool[Array, "*shape"], judgement: Judgement
    ) -> Float32[Array, "*shape"]:
        """The step of shares that so many events have taught; 0 where there is nothing to learn."""
        odd = judgement.ready & (judgement.score > judgement.threshold)
        return there * where(odd, ODD_SHARE, 1.0) / (smaller(to_float(counted), self.patience - 1.0) + 1.0)

    def _start(self, n_features: int, width: int | None) -> Any:
        """The inner model's state before any event of so many features."""
        if width in (None, n_features):
            return self.model.init(n_features)
        return self.model.init(n_features, width)  # type: ignore[call-arg]
