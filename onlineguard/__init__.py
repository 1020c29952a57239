"""A small robust model per slice of a stream, updated on every event.

Each public name is loaded when first used, so `import onlineguard` costs no JAX.
"""

from typing import TYPE_CHECKING

from onlineguard.lazy import loading

if TYPE_CHECKING:
    from onlineguard.core.chain import Chain
    from onlineguard.core.change_point import ChangePoint
    from onlineguard.core.clipped_sgd import ClippedSGD, State, step
    from onlineguard.core.clips import Adaptive, Fixed
    from onlineguard.core.estimands import Covariance, LinearRegression, LogisticRegression, LogScale, Mean, Quantile
    from onlineguard.core.experts import Experts
    from onlineguard.core.neighbours import Fitness, Neighbours
    from onlineguard.core.pytree import pytree
    from onlineguard.core.rates import Constant, Decay, Derived
    from onlineguard.core.registry import register
    from onlineguard.core.regressions import linear_regression, logistic_regression
    from onlineguard.core.standardised import Standardised
    from onlineguard.engine.checking import check_model
    from onlineguard.engine.engine import Engine
    from onlineguard.engine.frames import in_batches
    from onlineguard.engine.verdicts import Verdicts
    from onlineguard.errors import CheckpointError, InvalidArgument, OnlineguardError, SourceError
    from onlineguard.models.absence import Absence
    from onlineguard.models.base import Judgement, SliceModel
    from onlineguard.models.categories import Categories
    from onlineguard.models.detector import Detector
    from onlineguard.models.joint.detector import JointDetector
    from onlineguard.models.judged import Judged
    from onlineguard.models.keyed import KeyedModel
    from onlineguard.models.lagged import Lagged
    from onlineguard.models.series import Series

__version__ = "0.1.0"

__all__ = [
    "Absence",
    "Adaptive",
    "Categories",
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
    "Fitness",
    "Fixed",
    "InvalidArgument",
    "JointDetector",
    "Judged",
    "Judgement",
    "KeyedModel",
    "Lagged",
    "LinearRegression",
    "LogScale",
    "LogisticRegression",
    "Mean",
    "Neighbours",
    "OnlineguardError",
    "Quantile",
    "Series",
    "SliceModel",
    "SourceError",
    "Standardised",
    "State",
    "Verdicts",
    "check_model",
    "in_batches",
    "linear_regression",
    "logistic_regression",
    "pytree",
    "register",
    "step",
]

_NAMES = {
    "core.chain": ["Chain"],
    "core.change_point": ["ChangePoint"],
    "core.clipped_sgd": ["ClippedSGD", "State", "step"],
    "core.clips": ["Adaptive", "Fixed"],
    "models.base": ["Judgement", "SliceModel"],
    "models.absence": ["Absence"],
    "models.categories": ["Categories"],
    "models.detector": ["Detector"],
    "models.joint.detector": ["JointDetector"],
    "models.judged": ["Judged"],
    "models.keyed": ["KeyedModel"],
    "models.lagged": ["Lagged"],
    "engine.engine": ["Engine"],
    "engine.frames": ["in_batches"],
    "errors": ["CheckpointError", "InvalidArgument", "OnlineguardError", "SourceError"],
    "core.estimands": ["Covariance", "LinearRegression", "LogScale", "LogisticRegression", "Mean", "Quantile"],
    "core.experts": ["Experts"],
    "core.neighbours": ["Fitness", "Neighbours"],
    "core.pytree": ["pytree"],
    "core.regressions": ["linear_regression", "logistic_regression"],
    "core.standardised": ["Standardised"],
    "core.rates": ["Constant", "Decay", "Derived"],
    "core.registry": ["register"],
    "engine.checking": ["check_model"],
    "models.series": ["Series"],
    "engine.verdicts": ["Verdicts"],
}
__getattr__, __dir__ = loading(__name__, _NAMES)
