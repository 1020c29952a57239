"""River-style estimators: one stream of feature dicts each, learned event by event, none of which needs tuning.

Importing this loads river and JAX.
"""

from onlineguard.estimators.covariance import ClippedCovariance
from onlineguard.estimators.detector import DriftRobustDetector, SeriesDetector
from onlineguard.estimators.drift import ClippedChangePoint
from onlineguard.estimators.linear import ClippedLinearRegression, ClippedLogisticRegression
from onlineguard.estimators.location import ClippedMean
from onlineguard.estimators.quantile import ClippedQuantile
from onlineguard.estimators.scale import ClippedScale
from onlineguard.estimators.threshold import AdaptiveThreshold

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
    "SeriesDetector",
]
