"""A small robust model per slice of a stream, updated on every event.

Each public name is loaded when first used, so `import onlineguard` costs no JAX.
"""

from typing import TYPE_CHECKING

from onlineguard.lazy import loading

if TYPE_CHECKING:
    from onlineguard.chain import Chain
    from onlineguard.change_point import ChangePoint
    from onlineguard.clipped_sgd import ClippedSGD, State, step
    from onlineguard.clips import Adaptive, Fixed
    from onlineguard.detector import Detector
    from onlineguard.engine import Engine
    from onlineguard.errors import CheckpointError, InvalidArgument, OnlineguardError, SourceError
    from onlineguard.estimands import Covariance, LinearRegression, LogisticRegression, LogScale, Mean, Quantile
    from onlineguard.experts import Experts
    from onlineguard.rates import Constant, Decay, Derived
    from onlineguard.series import Series
    from onlineguard.verdicts import Verdicts

__version__ = "0.1.0"

__all__ = [
    "Adaptive",
    "Chain",
    "ChangePoint",
    "CheckpointError",
    "ClippedSGD",
    "Constant",
    "Covariance",
    "Decay",
    "Derived",
    "Detector",
    "Engine",
    "Experts",
    "Fixed",
    "InvalidArgument",
    "LinearRegression",
    "LogScale",
    "LogisticRegression",
    "Mean",
    "OnlineguardError",
    "Quantile",
    "Series",
    "SourceError",
    "State",
    "Verdicts",
    "step",
]

_NAMES = {
    "chain": ["Chain"],
    "change_point": ["ChangePoint"],
    "clipped_sgd": ["ClippedSGD", "State", "step"],
    "clips": ["Adaptive", "Fixed"],
    "detector": ["Detector"],
    "engine": ["Engine"],
    "errors": ["CheckpointError", "InvalidArgument", "OnlineguardError", "SourceError"],
    "estimands": ["Covariance", "LinearRegression", "LogScale", "LogisticRegression", "Mean", "Quantile"],
    "experts": ["Experts"],
    "rates": ["Constant", "Decay", "Derived"],
    "series": ["Series"],
    "verdicts": ["Verdicts"],
}
__getattr__, __dir__ = loading(__name__, _NAMES)
