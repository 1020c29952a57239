"""Odd together: residuals that all point the same way, though none of them is odd by itself.

c is the running mean of the residuals. Its squared length is, like the score, a geometric mean: of the plain one, c' c,
and of the Mahalanobis one, c' P c. Where it is longer than chance makes it, and longer than the slice has shown before,
something pulls the stream aside. The events that go along are odd until c has come back half-way.
"""

from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import larger, namespace, where
from onlineguard.core.protocols import Array
from onlineguard.core.quantiles import quantile_rate
from onlineguard.core.shapes import Bool, Float32
from onlineguard.models.base import MIN_SEEN

RATE = 1 / 32  # of c: it takes some thirty events to notice
LEAST = 4.0  # squared length, beyond that of independent residuals
BEYOND = 2.0  # times what the squared length exceeds
LEVEL = 0.005  # in this share of the events
SETTLING = 32.0  # first events, which say more of a location that is not known yet
BACK = 0.5  # of the limit ends a pull
ALONG = 0.5  # an event goes along that lies at least half as far as c, in its direction


class Collective(NamedTuple):
    """Where the residuals have gone together."""

    mean: Float32[Array, " d"]  # of the residuals u, each shortened to K scales
    whitened: Float32[Array, " d"]  # of P u
    high: Float32[Array, ""]  # the squared length that LEVEL of the events exceed
    pulled: Bool[Array, ""]

    @classmethod
    def blank(cls, width: int) -> "Collective":
        """Before any event, in NumPy."""
        zeros = np.zeros(width, np.float32)
        return cls(zeros, zeros, np.float32(1.0), np.bool_(False))


def drawn(
    state: Collective,
    u: Float32[Array, " d"],
    pu: Float32[Array, " d"],
    count: Float32[Array, ""],
    age: Float32[Array, ""],
) -> tuple[Collective, Bool[Array, ""]]:
    """The state after residuals u, and whether the event goes along with a pull."""
    mean = state.mean + RATE * (u - state.mean)
    whitened = state.whitened + RATE * (pu - state.whitened)
    both = namespace(u).stack([mean, u])  # two products of a matrix and a vector are quicker than four of vectors
    (plain, along), (covered, along_whitened) = both @ mean, both @ whitened
    covered = larger(covered, 0.0)
    length = (plain * covered) ** 0.5
    limit = larger(LEAST + 3.0 * count * RATE / 2.0, BEYOND * state.high)
    pulled = (age >= MIN_SEEN) & (length > where(state.pulled, BACK, 1.0) * limit)
    along = pulled & ((along > ALONG * plain) | (along_whitened > ALONG * covered))
    rate = where(pulled | (age < SETTLING), 0.0, quantile_rate(age))
    high = state.high * (1.0 + rate * (where(length > state.high, 1.0, 0.0) - LEVEL))
    return Collective(mean, whitened, larger(high, 1e-3), pulled), along
