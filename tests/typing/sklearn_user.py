"""A program with the scikit-learn estimators, as a user types it."""

from typing import assert_type

import numpy as np

from onlineguard import Engine, Verdicts
from onlineguard.sklearn import LinearRegressor, LogisticClassifier, OutlierDetector, PyODDetector

X = np.zeros((10, 2))
detector = OutlierDetector(target_rate=0.02, only_high=[0]).fit(X)
assert_type(detector, OutlierDetector)
assert_type(detector.partial_fit(X, slices=["a"] * 10), OutlierDetector)
assert_type(detector.predict(X), np.ndarray)
assert_type(detector.judge(X), Verdicts)
assert_type(detector.engine_, Engine)
assert_type(detector.offset_, float)
assert_type(OutlierDetector.load("detector"), OutlierDetector)

assert_type(PyODDetector(contamination=0.1).fit(X).labels_, np.ndarray)
assert_type(LinearRegressor().fit(X, X[:, 0]).predict(X), np.ndarray)
assert_type(LogisticClassifier().partial_fit(X, X[:, 0], classes=[0, 1]), LogisticClassifier)
