"""Lags: an event is judged together with the latest events of its slice, as one longer event.

With x_t the event and k lags, a model of numbers is given

    (x_t, x_{t-1}, ..., x_{t-k}),

so a value can be odd for what came before it, though it is usual by itself. It takes k + 1 times the numbers, and the
`JointDetector` a matrix of them, so a few lags are meant: 1 to 10. An event without any feature is no event, and is
not among the latest ones; a single missing feature is missing in its place for k events.

Source: delay coordinates, Takens, "Detecting strange attractors in turbulence", Lecture Notes in Mathematics 898, 1981.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace
from onlineguard.core.protocols import Array, Event
from onlineguard.core.pytree import pytree, static
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float, Float32, Float64
from onlineguard.models.base import Judgement, SliceModel
from onlineguard.models.carrying import NEW, Columns, carried_leaves
from onlineguard.models.wrapper import Wrapper


class LaggedState(NamedTuple):
    """What the stream taught one slice."""

    latest: Float32[Array, "lags features"]  # the latest events, the last one first; NaN where there was none
    model: Any  # the state of the model of numbers


@register("Lagged")
@pytree
class Lagged(Wrapper):
    """A model of numbers that is given each event with the `lags` events of its slice before it.

    model: any other model of one slice that is not supervised.
    lags: how many events, at least 1.
    """

    model: SliceModel
    lags: int = static(default=1)

    repeatable = False  # type: ignore[assignment]  # pyright: ignore  # an event has its place
    supervised = False  # type: ignore[assignment]  # pyright: ignore
    pooled = SliceModel.pooled  # a new slice starts from `init`: it has no events before its first one

    @property
    def patience(self) -> Float[Array, ""]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the model of numbers."""
        return self.model.patience  # type: ignore[attr-defined]

    def changed(self, **fields: float) -> "Lagged":
        """See `SliceModel.changed`: the choices are those of the model of numbers."""
        return dataclasses.replace(self, model=self.model.changed(**fields))

    def width(self, n_features: int) -> int:
        """That of the model of numbers for an event and those before it."""
        return self.model.width(n_features * (self.lags + 1))

    def init(self, n_features: int, width: int | None = None) -> LaggedState:
        """The state before any event, in NumPy."""
        latest = np.full((self.lags, n_features), np.nan, np.float32)
        return LaggedState(latest, self._start(n_features * (self.lags + 1), width))

    def step(self, state: LaggedState, event: Event) -> tuple[LaggedState, Judgement]:
        """Let the model of numbers judge and learn the event and those before it, then remember the event."""
        xp = namespace(event)
        n = state.latest.shape[-1]
        there = xp.any(xp.isfinite(event[:n]))
        inner, judgement = self.model.step(state.model, self.given(state, event))
        latest = xp.concatenate([event[None, :n], state.latest[:-1]])
        return LaggedState(xp.where(there, latest, state.latest).astype(np.float32), inner), judgement

    def given(self, state: LaggedState, x: Float32[Array, " width"]) -> Float32[Array, " width"]:
        """The event with those before it; nothing where it has no feature, since that is no event."""
        xp = namespace(x)
        lags, n = state.latest.shape[-2:]
        there = xp.any(xp.isfinite(x[:n]))
        before = xp.where(there, xp.reshape(state.latest, (-1,)), np.float32(np.nan))
        return xp.concatenate([x[:n], before, x[n * (lags + 1) :]]).astype(np.float32)

    def carried(
        self, states: LaggedState, columns: Columns, categories: tuple[int, ...] = ()
    ) -> tuple[SliceModel, LaggedState]:
        """See `SliceModel.carried`. A new feature has no values before its first event."""
        own = states.latest.shape[-1]
        wide = [NEW if column == NEW else column + lag * own for lag in range(self.lags + 1) for column in columns]
        model, inner = self.model.carried(states.model, wide)
        latest = carried_leaves(np.full((self.lags, len(columns)), np.nan, np.float32), states.latest, columns, 1)
        return dataclasses.replace(self, model=model), LaggedState(latest, inner)

    def moved(self, states: LaggedState, by: Float64[np.ndarray, "slices width"]) -> LaggedState:
        """See `SliceModel.moved`: the events before are counted from the same origin."""
        own = by[:, : states.latest.shape[-1]]
        latest = (states.latest - own[:, None, :]).astype(states.latest.dtype)
        return LaggedState(latest, self.model.moved(states.model, self._wide(own, by.shape[-1])))

    def contributions(self, state: LaggedState, event: Float32[Array, " width"]) -> Float[Array, " width"] | None:
        """What each feature adds to the score, by its value and those before it."""
        parts = super().contributions(state, event)
        if parts is None:
            return None
        n = state.latest.shape[-1]
        found = np.zeros(len(event))
        found[:n] = np.asarray(parts, np.float64)[: n * (self.lags + 1)].reshape(-1, n).sum(0)
        return found

    def reasons(
        self, state: LaggedState, event: Float32[Array, " width"], origin: Float64[np.ndarray, " width"]
    ) -> dict[str, Any]:
        """Those of the model of numbers for the event itself, without pairs with events before it."""
        n = state.latest.shape[-1]
        origins = self._wide(origin[None, :n], len(origin))[0]
        found = self.model.reasons(state.model, self.given(state, event), origins)
        return {name: value for name, value in found.items() if not (isinstance(value, tuple) and max(value) >= n)}

    def describe(self, state: LaggedState) -> dict[str, Any]:
        """What the model of numbers says of the features, and how many events it was given with each."""
        return {**self.model.describe(state.model), "lags": self.lags}

    def _wide(self, own: np.ndarray, width: int) -> np.ndarray:
        """The origins of features (slices, n), for the event and those before it, in `width` columns."""
        wide = np.zeros((len(own), width))
        wide[:, : own.shape[1] * (self.lags + 1)] = np.tile(own, (1, self.lags + 1))
        return wide
