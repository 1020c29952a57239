"""The thresholds of a model, by the names of slices: those of its calibration, or such as follow drift from there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.model import Model
from onlineguard.slidr.pipeline import slice_name
from onlineguard.slidr.thresholds.drift import Drifting


class Limits:
    """See this module. `follow`: whether they follow drift; where the model has no bands nothing moves.

    Raises InvalidArgument for a model that has none.
    """

    def __init__(self, model: Model, follow: bool = False):
        if model.thresholds is None:
            raise InvalidArgument(f"model {model.version} has no thresholds; run onlineguard slidr calibrate on it")
        calibration = model.thresholds.calibration
        names = list(map(slice_name, model.thresholds.keys))
        self._of = dict(zip(names, calibration.thresholds.tolist(), strict=True))
        self._default = calibration.default
        self._drifting: Drifting | None = None
        if follow and calibration.band is not None:
            self._drifting = Drifting(names, calibration.thresholds, calibration.band, calibration.ivr.value)

    @property
    def slices(self) -> list[str]:
        """Those that have a threshold of their own."""
        return list(self._of)

    def warmup(self) -> None:
        """Compile."""
        if self._drifting is not None:
            self._drifting.warmup()

    def judged(self, slices: Sequence[str], p_robot: Float32[np.ndarray, " n"]) -> tuple[list[float], list[bool]]:
        """The threshold of each of n clicks, in order, and whether it is robotic."""
        limits = [self._of.get(name, self._default) for name in slices]
        if self._drifting is not None:
            moved = self._drifting.limits(slices, p_robot)
            limits = [limit if now is None else now for limit, now in zip(limits, moved, strict=True)]
        return limits, [p > limit for p, limit in zip(p_robot.tolist(), limits, strict=True)]  # as float64

    def dump(self) -> Mapping[str, Any] | None:
        """Where they have drifted to; None where they stay."""
        return None if self._drifting is None else self._drifting.dump()

    def restore(self, dump: Mapping[str, Any] | None) -> None:
        """Go on from a dump of the same model's."""
        if self._drifting is not None and dump is not None:
            self._drifting.restore(dump)
