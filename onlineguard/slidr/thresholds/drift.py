"""Thresholds that follow the drift of scores between two trainings, each in a band set at calibration (`bands`).

In its slice's band, from `low` to `high`, a click's score p lies at

    x = (logit p - logit low) / (logit high - logit low)

and the threshold at q, which moves after every click of the slice by the library's online quantile,

    q <- q - eta (1[x < q] - level),   level = 1 - the IVR of the slice at calibration,

and is held between 0 and 1. So the share of clicks above it stays about what calibration promised while scores drift,
until the band ends. In the band the IVR goes from twice to half of that, so near the middle q forgets within
1 / (1.5 eta) marked clicks, whatever the slice and its scores: `MEMORY` of them.

A quantile cannot tell drift from robots: a flood raises q as drift does. What is lost by that is bounded by the band
alone. A slice without one keeps its threshold.

Source: the quantile is `core.estimands.Quantile` by `core.clipped_sgd`; see there.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32

from onlineguard.core.clipped_sgd import ClippedSGD, State
from onlineguard.core.clips import Fixed
from onlineguard.core.estimands import Quantile
from onlineguard.core.protocols import Array
from onlineguard.core.rates import Constant

MEMORY = 100  # marked clicks; of 50 to 200 about the same is kept of a promise, of 1,000 a third
MOST = 64  # clicks that one call of the program takes
_EDGE = 1e-7  # a score is taken to lie at least this far from 0 and 1, about as near as float32 comes to 1


class Drifting:
    """The thresholds of some slices, as they move.

    slices: their names; thresholds, bands, ivr: theirs at calibration.
    """

    def __init__(
        self,
        slices: Sequence[str],
        thresholds: Float[np.ndarray, " slices"],
        bands: Float[np.ndarray, "slices 2"],
        ivr: Float[np.ndarray, " slices"],
        memory: float = MEMORY,
    ):
        moving: Bool[np.ndarray, " slices"] = bands[:, 0] < bands[:, 1]
        self._rows = {name: row for row, name in enumerate(name for name, it in zip(slices, moving, strict=True) if it)}
        self._bands = bands[moving].tolist()
        self._ends = [(_logit(low), _logit(high)) for low, high in self._bands]
        begin = [self._place(row, limit) for row, limit in enumerate(thresholds[moving].tolist())]
        self._size = 1 << max(6, len(begin).bit_length())  # of padded arrays; the last row is nobody's
        self._q = np.zeros(self._size, np.float32)
        self._q[: len(begin)] = begin
        self._levels = np.full(self._size, 0.5, np.float32)
        self._levels[: len(begin)] = 1.0 - ivr[moving]
        self._eta = np.float32(1.0 / (1.5 * memory))

    def limits(self, slices: Sequence[str], p_robot: Float32[np.ndarray, " n"]) -> list[float | None]:
        """The threshold of each of n clicks, in order, each by all clicks before it; None for a slice without a band.

        A score of NaN moves nothing.
        """
        return [
            limit
            for start in range(0, len(slices), MOST)
            for limit in self._some(slices[start : start + MOST], p_robot[start : start + MOST].tolist())
        ]

    def warmup(self) -> None:
        """Compile."""
        self._some([], [])

    def dump(self) -> Mapping[str, Any]:
        """Where each threshold is in its band."""
        return {"q": self._q.copy()}

    def restore(self, dump: Mapping[str, Any]) -> None:
        """Go on from a dump of the same slices."""
        self._q = dump["q"].copy()

    def _some(self, slices: Sequence[str], p_robot: Sequence[float]) -> list[float | None]:
        rows = [self._rows.get(name, self._size - 1) for name in slices]
        x = np.full(MOST, np.nan, np.float32)
        at = np.full(MOST, self._size - 1, np.int32)
        at[: len(rows)] = rows
        for i, (row, p) in enumerate(zip(rows, p_robot, strict=True)):
            if row < len(self._ends):
                x[i] = self._place(row, p)
        if len(rows) and not self._ends:
            return [None] * len(rows)
        q, before = _followed(self._q, self._levels, self._eta, at, x, np.int32(len(rows)))
        self._q = np.asarray(q)
        return [
            self._limit(row, place) if row < len(self._ends) else None
            for row, place in zip(rows, np.asarray(before).tolist(), strict=False)
        ]

    def _place(self, row: int, p: float) -> float:
        low, high = self._ends[row]
        return (_logit(p) - low) / (high - low)

    def _limit(self, row: int, place: float) -> float:
        low, high = self._ends[row]
        least, most = self._bands[row]
        return min(max(1.0 / (1.0 + math.exp(-(low + place * (high - low)))), least), most)


@jax.jit
def _followed(q: Array, levels: Array, eta: Array, rows: Array, x: Array, n: Array) -> tuple[Array, Array]:
    """q (slices,) after n clicks, and what it was of each click's slice before it (MOST,)."""

    def one(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        q, before = carry
        row = rows[i]
        estimator = ClippedSGD(Quantile(levels[row]), Constant(eta), Fixed(jnp.float32(1.0)))
        state, _ = estimator.step(State(q[row], (), jnp.int32(0), jnp.int32(0)), x[i])
        return q.at[row].set(jnp.clip(state.theta, 0.0, 1.0)), before.at[i].set(q[row])

    return jax.lax.fori_loop(0, n, one, (q, jnp.zeros(MOST, jnp.float32)))


def _logit(p: float) -> float:
    held = min(max(p, _EDGE), 1.0 - _EDGE)
    return math.log(held) - math.log1p(-held) if p == p else math.nan
