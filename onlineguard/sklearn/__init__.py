"""scikit-learn estimators, and a detector with PyOD's conventions. Each is one Engine behind `fit` and `partial_fit`.

Each public name is loaded when it is first used; the first one loads scikit-learn and JAX too.
"""

from typing import TYPE_CHECKING

from onlineguard.lazy import loading

if TYPE_CHECKING:
    from onlineguard.sklearn.detector import OutlierDetector
    from onlineguard.sklearn.pyod import PyODDetector
    from onlineguard.sklearn.regressions import LinearRegressor, LogisticClassifier

__all__ = ["LinearRegressor", "LogisticClassifier", "OutlierDetector", "PyODDetector"]

_NAMES = {
    "detector": ["OutlierDetector"],
    "pyod": ["PyODDetector"],
    "regressions": ["LinearRegressor", "LogisticClassifier"],
}
__getattr__, __dir__ = loading(__name__, _NAMES, extra="sklearn")
