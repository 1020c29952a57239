"""River-style estimators. Each learns one stream of feature dicts, event by event, and needs no tuning.

Each public name is loaded when it is first used; the first one loads river and JAX too.
"""

from typing import TYPE_CHECKING

from onlineguard.lazy import loading

if TYPE_CHECKING:
    from onlineguard.estimators.covariance import ClippedCovariance
    from onlineguard.estimators.detector import DriftRobustDetector, MarginalDetector, SeriesDetector
    from onlineguard.estimators.drift import ClippedChangePoint
    from onlineguard.estimators.linear import ClippedLinearRegression, ClippedLogisticRegression
    from onlineguard.estimators.location import ClippedMean
    from onlineguard.estimators.neighbours import FitnessDetector, NeighboursDetector
    from onlineguard.estimators.quantile import ClippedQuantile
    from onlineguard.estimators.scale import ClippedScale
    from onlineguard.estimators.threshold import AdaptiveThreshold
    from onlineguard.estimators.verdicts import VerdictFilter, judge_one

__all__ = [
    "AdaptiveThreshold",
    "ClippedChangePoint",
    "ClippedCovariance",
    "ClippedLinearRegression",
    "ClippedLogisticRegression",
    "ClippedMean",
    "ClippedQuantile",
    "ClippedScale",
    "DriftRobustDetector",
    "FitnessDetector",
    "MarginalDetector",
    "NeighboursDetector",
    "SeriesDetector",
    "VerdictFilter",
    "judge_one",
]

_NAMES = {
    "covariance": ["ClippedCovariance"],
    "detector": ["DriftRobustDetector", "MarginalDetector", "SeriesDetector"],
    "drift": ["ClippedChangePoint"],
    "linear": ["ClippedLinearRegression", "ClippedLogisticRegression"],
    "location": ["ClippedMean"],
    "neighbours": ["FitnessDetector", "NeighboursDetector"],
    "quantile": ["ClippedQuantile"],
    "scale": ["ClippedScale"],
    "threshold": ["AdaptiveThreshold"],
    "verdicts": ["VerdictFilter", "judge_one"],
}
__getattr__, __dir__ = loading(__name__, _NAMES, extra="river")
