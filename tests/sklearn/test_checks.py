"""scikit-learn's own checks of estimators, all of them: none is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from onlineguard.sklearn import LinearRegressor, LogisticClassifier, OutlierDetector, PyODDetector

pytestmark = pytest.mark.slow  # they compile for every number of features that the checks choose


@parametrize_with_checks([OutlierDetector(), PyODDetector(), LinearRegressor(), LogisticClassifier()])
def test_scikit_learns_own_checks_pass(estimator, check):
    check(estimator)
