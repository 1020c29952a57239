"""The thresholds of a model, by the names of slices."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.model import Model
from onlineguard.slidr.pipeline import slice_name


class Limits:
    """See this module. Raises InvalidArgument for a model that has none."""

    def __init__(self, model: Model):
        if model.thresholds is None:
            raise InvalidArgument(f"model {model.version} has no thresholds; run onlineguard slidr calibrate on it")
        calibration = model.thresholds.calibration
        names = map(slice_name, model.thresholds.keys)
        self._of = dict(zip(names, calibration.thresholds.tolist(), strict=True))
        self._default = calibration.default

    @property
    def slices(self) -> list[str]:
        """Those that have a threshold of their own."""
        return list(self._of)

    def judged(self, slices: Sequence[str], p_robot: Float32[np.ndarray, " n"]) -> tuple[list[float], list[bool]]:
        """The threshold of each of n clicks, and whether it is robotic."""
        limits = [self._of.get(name, self._default) for name in slices]
        return limits, [p > limit for p, limit in zip(p_robot.tolist(), limits, strict=True)]  # as float64
