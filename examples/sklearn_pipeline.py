"""An outlier detector in a scikit-learn pipeline; a grid search chooses its patience by labels, in the order of time.

python examples/sklearn_pipeline.py
"""

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import make_pipeline

from onlineguard.sklearn import OutlierDetector

rng = np.random.default_rng(0)
X = rng.normal([20.0, 3e6], [4.0, 1e5], (4_000, 2)) + np.linspace(0.0, 40.0, 4_000)[:, None]  # it drifts
y = np.where(rng.random(4_000) < 0.01, -1, 1)  # -1 for an outlier, as `predict` says it
X[y == -1, 0] += 40.0

model = make_pipeline(SimpleImputer(), OutlierDetector())
search = GridSearchCV(
    model, {"outlierdetector__patience": [500, 5_000]}, scoring="roc_auc", cv=TimeSeriesSplit(3), error_score="raise"
)
search.fit(X, y)
print(search.best_params_, round(search.best_score_, 3))
print("the last row, and one that is odd:", search.predict([X[-1], X[-1] + [60.0, 0.0]]))
