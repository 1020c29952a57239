"""Features that mostly repeat one value: judged in two parts, by how rare another value is, and by how far it lies.

Where more than some 85 % of the values are equal, no scale of the whole is sound: it is nearly zero, and whatever
differs is infinitely far away. A running mode, with one rival, tells how large a share p of the values it is. Every
other value takes a vote from the rival, so that the commonest value becomes the rival, and then the mode. From a share
of `MOSTLY` on, with D the scale of x - mode over the values off the mode,

    z = 0 at the mode,    z^2 = 2 ln(p / (1 - p)) + ((x - mode) / D)^2 off it:

a value that is as rare as a normal deviate of that size, and then as far as it is.

Source: the rival is that of Boyer and Moore, "MJRTY, a fast majority vote algorithm", 1981, with shares that are
forgotten in place of counts. Keeping the mode out of the vote is ours, and so are the two parts.
"""

from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32, Float64
from onlineguard.core.spread import FAR, RESOLUTION, TINY, B, K, counted_from

MOSTLY = 0.8  # below, Huber's scale is sound: 1 - B / K^2 = .84 is where it falls to its floor


class Modes(NamedTuple):
    """The commonest value of every feature."""

    value: Float32[Array, " d"]  # NaN until the first
    share: Float32[Array, " d"]  # of the events at it
    rival: Float32[Array, " d"]  # the next one, which takes its place once it is commoner
    rival_share: Float32[Array, " d"]  # less that of all values but these two, since it became the rival
    spread: Float32[Array, " d"]  # Huber's scale of x - value over the events off it; 0 until the first

    @classmethod
    def blank(cls, width: int) -> "Modes":
        """Before any value, in NumPy."""
        unknown, zeros = np.full(width, np.nan, np.float32), np.zeros(width, np.float32)
        return cls(unknown, zeros, unknown, zeros, zeros)

    def moved(self, by: Float64[np.ndarray, "*slices d"]) -> "Modes":
        """The same, or many stacked, when values are counted from `by` more; NumPy."""
        return self._replace(value=counted_from(self.value, by), rival=counted_from(self.rival, by))


def off_mode(
    modes: Modes, x: Float32[Array, " d"], rarest: Float32[Array, ""]
) -> tuple[Float32[Array, " d"], Float32[Array, " d"]]:
    """Residuals of mostly constant features, signed, and how far off the mode the values lie without their rarity.

    rarest: the least share that is told from none.
    """
    xp = namespace(x)
    away = x - modes.value
    distance = away / xp.maximum(modes.spread, RESOLUTION * abs(modes.value) + TINY)
    distance = xp.minimum(xp.maximum(distance, -FAR), FAR)
    rarity = 2.0 * xp.log(xp.maximum(modes.share / xp.maximum(1.0 - modes.share, rarest), 1.0))
    size = xp.sqrt(rarity + distance * distance)
    return xp.where(_at(modes.value, x), 0.0, xp.where(away < 0.0, -size, size)), abs(distance)


def mostly_constant(modes: Modes) -> Bool[Array, " d"]:
    """The features that mostly repeat one value."""
    return modes.share >= MOSTLY


def learned_modes(modes: Modes, x: Float32[Array, " d"], present: Bool[Array, " d"], rate: Float32[Array, ""]) -> Modes:
    """The modes after an event, whose missing features change nothing."""
    xp = namespace(x)
    at, at_rival = _at(modes.value, x), _at(modes.rival, x)
    share = modes.share + rate * (xp.where(at, 1.0, 0.0) - modes.share)
    replaced = ~at & ~at_rival & (modes.rival_share < rate)
    rival = xp.where(replaced, x, modes.rival)
    rival_share = xp.where(replaced, 0.0, modes.rival_share)
    vote = xp.where(at, 0.0, xp.where(at_rival | replaced, 1.0, -1.0))
    rival_share = rival_share + rate * (vote - rival_share)
    swapped = ~(rival_share <= share)
    away = abs(x - modes.value)
    u = xp.minimum(away / xp.maximum(modes.spread, TINY), K)
    spread = xp.where(modes.spread > 0.0, modes.spread * (1.0 + rate * (u * u - B)), away)
    spread = xp.where(at | ~(away < np.inf), modes.spread, spread)
    first = xp.isnan(modes.value)
    new = Modes(
        xp.where(first, x, xp.where(swapped, rival, modes.value)),
        xp.where(first, rate, xp.where(swapped, rival_share, share)),
        xp.where(first, modes.rival, xp.where(swapped, modes.value, rival)),
        xp.where(first, 0.0, xp.where(swapped, share, rival_share)),
        spread,
    )
    return Modes(*(xp.where(present, a, b) for a, b in zip(new, modes, strict=True)))


def _at(value: Float32[Array, " d"], x: Float32[Array, " d"]) -> Bool[Array, " d"]:
    """Whether x is the value, as far as float32 resolves it."""
    return abs(x - value) <= RESOLUTION * abs(value)
