"""A model around another one: it changes what the inner model is given, and is otherwise as that is."""

import dataclasses
from typing import Any, Self

import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Float, Int32
from onlineguard.models.base import SliceModel


class Wrapper(SliceModel):
    """A slice model with a field `model`, the inner one. Its state has a field `model` too, the inner model's state."""

    model: SliceModel

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

    def _start(self, n_features: int, width: int | None) -> Any:
        """The inner model's state before any event of so many features."""
        if width in (None, n_features):
            return self.model.init(n_features)
        return self.model.init(n_features, width)  # type: ignore[call-arg]
