"""Absence: which features an event lacks can be odd by itself, and counts by how rare it is in the slice.

With p_j the running share of events that lack feature j, an event that lacks the features A gets one more number,

    absence(A) = sum over j of ln(max(p_j, 1 - p_j) / P_j),        P_j = p_j if j lies in A, else 1 - p_j,

in nats: 0 if every feature does what it mostly does, and 7.6 if one is lacking that never was in a thousand events. A
model of numbers judges it beside the others. Features are taken to be absent independently of each other.

Source: ours.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace, saturating_add, smaller, to_float, where
from onlineguard.core.protocols import Array, Event
from onlineguard.core.pytree import pytree
from onlineguard.core.registry import register
from onlineguard.core.shapes import Bool, Float, Float32, Float64, Int32
from onlineguard.models.base import Judgement, SliceModel
from onlineguard.models.carrying import Columns, carried_leaves
from onlineguard.models.categories import carried_with
from onlineguard.models.wrapper import UNSEEN, Wrapper


class AbsenceState(NamedTuple):
    """What the stream taught one slice."""

    shares: Float32[Array, " features"]  # of the events that lack a feature
    counted: Int32[Array, ""]  # events
    model: Any  # the state of the model of numbers


@register("Absence")
@pytree
class Absence(Wrapper):
    """A model of numbers, with one number more: how rare it is that just these features are absent.

    model: any other model of one slice.
    patience: events that a share remembers.
    """

    model: SliceModel
    patience: Float[Array, ""] = 5_000.0

    @property
    def categories(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The features that are categories to the model of numbers."""
        return self.model.categories

    def width(self, n_features: int) -> int:
        """That of the model of numbers for one feature more."""
        return self.model.width(n_features + 1)

    def init(self, n_features: int, width: int | None = None) -> AbsenceState:
        """The state before any event, in NumPy."""
        return AbsenceState(np.zeros(n_features, np.float32), np.int32(0), self._start(n_features + 1, width))

    def step(self, state: AbsenceState, event: Event) -> tuple[AbsenceState, Judgement]:
        """Let the model of numbers judge and learn, then learn which features are absent."""
        x = event[0] if self.supervised else event
        absent, surprises, there = self._surprises(state, x)
        numbers = _with(x, namespace(x).sum(surprises), len(surprises), there)
        inner, judgement = self._inner_step(state, numbers, event)
        rate = self._share_rate(state.counted, there, judgement)
        shares = state.shares + rate * (absent - state.shares)
        return AbsenceState(shares.astype(np.float32), saturating_add(state.counted, there), inner), judgement

    def given(self, state: AbsenceState, x: Float32[Array, " width"]) -> Float32[Array, " width"]:
        """The event with its absence as one more number."""
        _, surprises, there = self._surprises(state, x)
        return _with(x, namespace(x).sum(surprises), len(surprises), there)

    def carried(
        self, states: AbsenceState, columns: Columns, categories: tuple[int, ...] = ()
    ) -> tuple[SliceModel, AbsenceState]:
        """See `SliceModel.carried`. Of a new feature nothing is surprising at first, neither its absence nor it."""
        own = states.shares.shape[-1]
        model, inner = carried_with(self.model, states.model, [*columns, own], categories)
        half = np.full(len(columns), 0.5, np.float32)
        found = AbsenceState(carried_leaves(half, states.shares, columns), states.counted, inner)
        return dataclasses.replace(self, model=model), found

    def moved(self, states: AbsenceState, by: Float64[np.ndarray, "slices width"]) -> AbsenceState:
        """See `SliceModel.moved`; an absence has no origin."""
        by = by.copy()
        by[:, states.shares.shape[-1]] = 0.0
        return states._replace(model=self.model.moved(states.model, by))

    def contributions(self, state: AbsenceState, event: Float32[Array, " width"]) -> Float[Array, " width"] | None:
        """What each feature adds to the score: by its value, and where it is absent by that."""
        parts = super().contributions(state, event)
        if parts is None:
            return None
        surprises = self._surprises(state, event)[1]
        n = len(surprises)
        parts = np.array(parts, np.float64)
        parts[:n] += parts[n] * surprises / max(float(surprises.sum()), 1e-30)
        parts[n] = 0.0
        return parts

    def reasons(
        self, state: AbsenceState, event: Float32[Array, " width"], origin: Float64[np.ndarray, " width"]
    ) -> dict[str, Any]:
        """Those of the model of numbers, but no pair of a feature and the absence, which is none."""
        found = super().reasons(state, event, origin)
        own = state.shares.shape[-1]
        return {name: value for name, value in found.items() if not (isinstance(value, tuple) and own in value)}

    def describe(self, state: AbsenceState) -> dict[str, Any]:
        """What the model of numbers says, and the share of events that lack each feature."""
        return {**self.model.describe(state.model), "absent": state.shares}

    def _surprises(
        self, state: AbsenceState, x: Float32[Array, " width"]
    ) -> tuple[Float32[Array, " features"], Float32[Array, " features"], Bool[Array, ""]]:
        """1 for each absent feature, the surprise at each feature, and whether any is there."""
        xp = namespace(x)
        n = state.shares.shape[-1]
        here = xp.isfinite(x[:n])
        known = smaller(to_float(state.counted), self.patience)
        gone = (known * state.shares + UNSEEN) / (known + 1.0)
        usual = xp.maximum(gone, 1.0 - gone)
        surprises = xp.log(usual / xp.where(here, 1.0 - gone, gone))
        return 1.0 - here.astype(np.float32), surprises.astype(np.float32), xp.any(here)


def _with(x: Any, absence: Any, column: int, there: Any) -> Any:
    """The event with its absence in a column; NaN where no feature is there, since that is no event."""
    xp = namespace(x)
    return xp.where(np.arange(x.shape[-1]) == column, where(there, absence, np.float32(np.nan)), x).astype(np.float32)
