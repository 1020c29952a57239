"""How far one step goes: functions of the number of events already learned.

`Derived` follows the T^(-2/3) rate of clipped SGD. Source: Abishek Sankararaman and Balakrishnan Narayanaswamy, Online
robust non-stationary estimation, NeurIPS 2023. The paper's constants are not reproduced: c = 1 is ours, and makes the
first step of a mean go all the way to the first event.
"""

from onlineguard.core.arrays import to_float, where
from onlineguard.core.protocols import Array
from onlineguard.core.pytree import pytree
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float, Int32


@register("Constant")
@pytree
class Constant:
    """The same step always: tracks drift, and never settles."""

    eta: Float[Array, ""]

    def __call__(self, seen: Int32[Array, "*lead"]) -> Float[Array, ""]:
        return self.eta


@register("Decay")
@pytree
class Decay:
    """eta / (seen + 1)^power, but never less than `floor`: with the defaults a running mean.

    With a floor it is a running mean until its memory, 1 / floor events, is full, and forgets from then on.
    """

    eta: Float[Array, ""] = 1.0
    power: Float[Array, ""] = 1.0
    floor: Float[Array, "*#lead"] = 0.0

    def __call__(self, seen: Int32[Array, "*lead"]) -> Float[Array, "*lead"]:
        rate = self.eta * (to_float(seen) + 1.0) ** -self.power
        return where(rate > self.floor, rate, self.floor)


@register("Derived")
@pytree
class Derived:
    """scale / (m n^alpha) through an epoch of n = 1, 2, 4, 8, ... events: the doubling trick, for an unknown length.

    `m` is the loss's strong convexity (1 for a mean). The epoch follows from the count alone, so there is no state.
    """

    alpha: Float[Array, ""] = 2 / 3
    m: Float[Array, ""] = 1.0
    scale: Float[Array, ""] = 1.0

    def __call__(self, seen: Int32[Array, "*lead"]) -> Float[Array, "*lead"]:
        return self.scale / self.m * to_float(epoch(seen)) ** -self.alpha


def epoch(seen: Int32[Array, "*lead"]) -> Int32[Array, "*lead"]:
    """The power of two not above seen + 1: the length of the epoch that the next event falls into.

    In integers, since a logarithm may round differently on each backend and so move the border.
    """
    bits = seen + 1  # counts saturate one below what int32 holds
    for shift in (1, 2, 4, 8, 16):
        bits = bits | (bits >> shift)
    return bits - (bits >> 1)
