"""A detector of a single number that is odd only where it is high, such as the score of another model."""

import numpy as np

from onlineguard.core.arrays import larger, namespace, smaller
from onlineguard.core.protocols import Array
from onlineguard.core.pytree import pytree
from onlineguard.core.quantiles import LEVELS, normal_quantile
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float32, Int32
from onlineguard.models.detector import Detector, DetectorState


@register("OneSided")
@pytree
class OneSided(Detector):
    """`Detector` for one number of any unit and sign.

    In place of a distance comes the height h = 1 + z for z > 0, exp(z) below, z the standardised number: positive, so
    that its quantiles can be tracked in the log, and rising with the number everywhere.
    """

    def init(self, n_features: int, width: int | None = None) -> DetectorState:
        """The state before any event; the quantiles start where a normal law puts them."""
        z = [normal_quantile(level) for level in (*LEVELS, float(self.target_rate))]
        median, fifth, twentieth, threshold = np.float32(1.0) + np.array(z, np.float32)
        start = super().init(n_features, width)
        return start._replace(median=median, fifth=fifth, twentieth=twentieth, threshold=threshold)

    def height(self, state: DetectorState, number: Float32[Array, ""]) -> Float32[Array, ""]:
        """The height of a number under the state; NaN before the second number."""
        z = (number - state.slow.location[0]) / state.slow.scale[0]
        return _height(z)

    def number(self, state: DetectorState, height: Float32[Array, ""]) -> Float32[Array, ""]:
        """The number that has this height under the state: the inverse of `height`."""
        xp = namespace(height)
        z = xp.where(height > 1.0, height - 1.0, xp.log(height))
        return state.slow.location[0] + z * state.slow.scale[0]

    def _score(self, z: Float32[Array, " d"], count: Int32[Array, ""]) -> Float32[Array, ""]:
        """The height of the one known number; all others are 0."""
        return _height(namespace(z).sum(z))


def _height(z: Float32[Array, ""]) -> Float32[Array, ""]:
    return larger(1.0 + z, namespace(z).exp(smaller(z, 0.0 * z)))
