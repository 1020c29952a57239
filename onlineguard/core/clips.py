"""How long a gradient may be before it is shortened.

`Adaptive` follows a quantile of the gradient norms by steps in their log, so that no scale need be told. Sources: the
geometric quantile tracker of Galen Andrew et al., Differentially private learning with adaptive clipping, NeurIPS
2021; quantile clipping of SGD, Ibrahim Merad and Stephane Gaiffas, Robust stochastic optimization via gradient quantile
clipping, TMLR 2024. The start-up and the growing memory are ours.
"""

from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import choose, exp, log, where
from onlineguard.core.protocols import Array
from onlineguard.core.pytree import pytree
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float

FIRST, SECOND, THIRD = 2.0, 1.5, 0.75  # the gain is 2 before the first norm, 1 before the second, 2/3 before the third


@register("Fixed")
@pytree
class Fixed:
    """The same limit always, in the gradient's unit."""

    limit: Float[Array, ""]

    def init(self) -> tuple[()]:
        return ()

    def observe(
        self, state: tuple[()], norm: Float[Array, "*lead"], bounds: tuple[Float[Array, ""], Float[Array, ""]]
    ) -> tuple[Float[Array, ""], tuple[()]]:
        """The limit; the estimand's own bounds do not override what the operator fixed."""
        return self.limit, state


class Tracked(NamedTuple):
    """What an adaptive clip learned."""

    log_limit: Float[Array, "*lead"]  # log of the running quantile; without meaning before the first non-zero norm
    gain: Float[Array, "*lead"]  # length of the next step in the log before it is held at `rate`: 2, 1, 2/3, 1/2, ...


@register("Adaptive")
@pytree
class Adaptive:
    """A running quantile of the non-zero gradient norms.

    Safe while the share of corrupted events lies below 1 - quantile; a low quantile biases the estimate of a skewed
    stream. One norm moves the limit by at most a factor exp(rate), more in the first 2 / rate norms. The first norm is
    used whole, and the second replaces it if smaller: the first often measures only how far the template was.
    """

    quantile: Float[Array, ""] = 0.5
    rate: Float[Array, ""] = 0.05

    def init(self) -> Tracked:
        return Tracked(np.float32(0.0), np.float32(FIRST))

    def observe(
        self, state: Tracked, norm: Float[Array, "*lead"], bounds: tuple[Float[Array, ""], Float[Array, ""]]
    ) -> tuple[Float[Array, "*lead"], Tracked]:
        """The limit for this norm, within the estimand's bounds, and the state after it; zero teaches nothing."""
        positive = norm > 0.0
        log_norm = log(where(positive, norm, 1.0))
        above = log_norm > state.log_limit
        start = state.gain > where(above, SECOND, THIRD)
        log_limit = where(start, log_norm, state.log_limit)
        gain = where(state.gain > self.rate, state.gain, self.rate)
        moved = log_limit + gain * where(above, self.quantile, self.quantile - 1.0)
        learned = Tracked(where(state.gain > THIRD, log_limit, moved), state.gain / (1.0 + state.gain / FIRST))
        limit = where(start, norm, exp(log_limit))  # not exp(log(norm)), which may round to less than norm
        low, high = bounds
        limit = where(limit > low, limit, low)
        return where(limit < high, limit, high), choose(positive, learned, state)
