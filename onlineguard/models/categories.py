"""Categories among the features of a slice: each counts by how rare it is there.

A category, such as a country or a status, has no distance from another one. What can be odd about it is that it is
rare in its slice. So a model of numbers is given, in place of category c,

    rarity(c) = -ln((m share(c) + 1/2) / (m + 1)),        m = min(events seen, patience),

which is the surprise at c in nats. An unseen category after a thousand events counts 7.6, one of two equally frequent
ones 0.7. Shares are running ones, with a memory of `patience` events, so a category that becomes frequent becomes
usual. Odd events are learned at a twentieth of the usual rate, so a burst of a new category does not hide itself.

**Bounded memory.** Nothing is kept by name. A category is known by a code of 24 bits, which a float32 holds exactly.
A code has one of 64 places in each of two rows of shares, and its share is the smaller of its two places'. The share
is never too small by that. It is too large where a category meets a frequent one in both rows: among k frequent
categories this happens to a new one with a probability of about (k / 64)^2.

Source: the count-min sketch of Cormode and Muthukrishnan, "An improved data stream summary", Journal of Algorithms,
2005, with shares that fade. The sizes are ours.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace, saturating_add, smaller, to_float
from onlineguard.core.protocols import Array, Event
from onlineguard.core.pytree import pytree, static
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float, Float32, Float64, Int32
from onlineguard.models.base import Judgement, SliceModel
from onlineguard.models.carrying import NEW, Columns, carried_leaves
from onlineguard.models.wrapper import UNSEEN, Wrapper

ROWS, PLACES = 2, 64  # 128 numbers a feature; half as many double the chance that a new category looks frequent
CODES = 1 << 24  # float32 tells whole numbers apart up to here


class CategoriesState(NamedTuple):
    """What the stream taught one slice."""

    shares: Float32[Array, "categories rows places"]  # of the events, by place
    counted: Int32[Array, " categories"]  # events that held a category
    model: Any  # the state of the model of numbers


@register("Categories")
@pytree
class Categories(Wrapper):
    """A model of numbers, some of whose features are categories.

    model: any other model of one slice; it judges the rarity of each category as one of its numbers.
    categories: which features are categories, counted from 0.
    patience: events that a share remembers.

    An event holds the code of a category, a whole number below 2^24. The Engine makes codes of texts.
    """

    model: SliceModel
    categories: tuple[int, ...] = static(default=())
    patience: Float[Array, ""] = 5_000.0

    def init(self, n_features: int, width: int | None = None) -> CategoriesState:
        """The state before any event, in NumPy."""
        count = len(self.categories)
        return CategoriesState(
            np.zeros((count, ROWS, PLACES), np.float32), np.zeros(count, np.int32), self._start(n_features, width)
        )

    def step(self, state: CategoriesState, event: Event) -> tuple[CategoriesState, Judgement]:
        """Let the model of numbers judge and learn the rarities, then learn the shares. A missing category is NaN."""
        x = event[0] if self.supervised else event
        places, there = self._places(x)
        numbers = self._with_rarities(state, x, places, there)
        inner, judgement = self._inner_step(state, numbers, event)
        rate = self._share_rate(state.counted, there, judgement)
        shares = state.shares + rate[:, None, None] * (places - state.shares)
        counted = saturating_add(state.counted, there)
        return CategoriesState(shares.astype(np.float32), counted, inner), judgement

    def given(self, state: CategoriesState, x: Float32[Array, " width"]) -> Float32[Array, " width"]:
        """The event with the rarity of each category in its column."""
        return self._with_rarities(state, x, *self._places(x))

    def carried(
        self, states: CategoriesState, columns: Columns, categories: tuple[int, ...] = ()
    ) -> tuple[SliceModel, Any]:
        """See `SliceModel.carried`; without categories it is the model of numbers by itself."""
        model, inner = self.model.carried(states.model, columns)
        if not categories:
            return model, inner
        places = [self.categories.index(columns[j]) if columns[j] in self.categories else NEW for j in categories]
        count = len(categories)
        found = CategoriesState(
            carried_leaves(np.zeros((count, ROWS, PLACES), np.float32), states.shares, places),
            carried_leaves(np.zeros(count, np.int32), states.counted, places),
            inner,
        )
        return dataclasses.replace(self, model=model, categories=categories), found

    def moved(self, states: CategoriesState, by: Float64[np.ndarray, "slices width"]) -> CategoriesState:
        """See `SliceModel.moved`; categories have no origin."""
        by = by.copy()
        by[:, list(self.categories)] = 0.0
        return states._replace(model=self.model.moved(states.model, by))

    def reasons(
        self, state: CategoriesState, event: Float32[Array, " width"], origin: Float64[np.ndarray, " width"]
    ) -> dict[str, Any]:
        """Those of the model of numbers, with values of features that are numbers only; and each category's share."""
        columns = list(self.categories)
        rarities = np.isin(np.arange(len(event)), columns)
        found = {
            name: np.where(rarities, np.nan, value) if isinstance(value, np.ndarray) and value.ndim else value
            for name, value in super().reasons(state, event, origin).items()
        }
        places, there = self._places(event)
        share = np.full(len(event), np.nan)
        share[columns] = np.where(there, np.sum(state.shares * places, -1).min(-1), np.nan)
        return found | {"share": share}

    def describe(self, state: CategoriesState) -> dict[str, Any]:
        """What the model of numbers says, in rarities for categories; and the memory for categories, in bytes."""
        return {**self.model.describe(state.model), "category_bytes": 4 * state.shares.size}

    def _places(self, x: Float32[Array, " width"]) -> tuple[Float32[Array, "categories rows places"], Any]:
        """1 in the place of each category in each row, 0 elsewhere; and which categories are there."""
        xp = namespace(x)
        codes = xp.stack([x[column] for column in self.categories])
        there = xp.isfinite(codes)
        whole = xp.where(there, abs(codes), 0.0).astype(np.int32)
        rows = xp.stack((whole % PLACES, (whole // PLACES) % PLACES), axis=1)
        return (rows[:, :, None] == np.arange(PLACES, dtype=np.int32)[None, None]).astype(np.float32), there

    def _with_rarities(
        self, state: CategoriesState, x: Float32[Array, " width"], places: Array, there: Array
    ) -> Float32[Array, " width"]:
        """The event with the rarity of each category in its column."""
        xp = namespace(x)
        known = smaller(to_float(state.counted), self.patience + xp.zeros(len(self.categories), np.float32))
        share = xp.min(xp.sum(state.shares * places, -1), -1)
        rarity = xp.where(there, -xp.log((known * share + UNSEEN) / (known + 1.0)), np.nan)
        for i, column in enumerate(self.categories):
            x = xp.where(np.arange(x.shape[-1]) == column, rarity[i], x)
        return x.astype(np.float32)


def carried_with(
    model: SliceModel, states: Any, columns: Columns, categories: tuple[int, ...]
) -> tuple[SliceModel, Any]:
    """`carried` of a model that may have had no categories so far."""
    if categories and not model.categories and not isinstance(model, Wrapper):
        n = len(model.seen(states))
        states = CategoriesState(np.zeros((n, 0, ROWS, PLACES), np.float32), np.zeros((n, 0), np.int32), states)
        model = Categories(model, (), getattr(model, "patience", Categories.patience))
    return model.carried(states, columns, categories)
