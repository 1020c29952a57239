"""A detector with PyOD's conventions, where one of PyOD's stood; PyOD itself is not needed.

python examples/pyod_detector.py
"""

import numpy as np
from sklearn.metrics import roc_auc_score

from onlineguard.sklearn import PyODDetector

rng = np.random.default_rng(0)
X, y = rng.normal(0.0, 1.0, (2_000, 4)), rng.random(2_000) < 0.1
X[y] += rng.uniform(-8.0, 8.0, (int(y.sum()), 4))

clf = PyODDetector(contamination=0.1)
clf.fit(X[:1_500])
print("outliers in the training data:", clf.labels_.sum(), "beyond", round(clf.threshold_, 2))
print("AUC on new rows:", round(roc_auc_score(y[1_500:], clf.decision_function(X[1_500:])), 3))
clf.partial_fit(X[1_500:])  # which PyOD's own detectors lack
print("probability of an outlier:", clf.predict_proba([[0.0] * 4, [9.0] * 4])[:, 1].round(2))
