"""What the river-style regressions hold to besides what all estimators do."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

from onlineguard import Constant, Fixed
from onlineguard.core.regressions import linear_regression
from onlineguard.engine.schedules import scan
from onlineguard.estimators import ClippedLinearRegression, ClippedLogisticRegression


def linear(n: int, shift: float = 0.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    return X, shift + X @ np.array([1.0, 2.0, 0.0, -1.0]) + 0.01 * rng.normal(size=n)


def last_errors(model, X, y, learned: int = 1_500):
    errors = []
    for i, (row, target) in enumerate(zip(X.tolist(), y.tolist(), strict=True)):
        x = dict(enumerate(row))
        if i >= learned:
            errors.append(abs(model.predict_one(x) - target))
        model.learn_one(x, target)
    return np.array(errors)


def test_the_weights_are_those_of_the_library_s_regression_of_a_slice():
    X, y = linear(50)
    X, y = X.astype(np.float32), y.astype(np.float32)
    model, core = ClippedLinearRegression(), linear_regression(4)
    for row, target in zip(X.tolist(), y.tolist(), strict=True):
        model.learn_one(dict(enumerate(row)), target)
    theta = core.inner.theta(scan(core, core.init(), (X, y))[0].inner)
    np.testing.assert_allclose(list(model.weights.values()), theta.w, rtol=1e-4)
    assert model.intercept == pytest.approx(float(theta.b), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("shift", [1e9, -1e12])
def test_targets_and_features_far_from_zero_keep_their_digits(shift):
    X, y = linear(2_000, shift)
    errors = last_errors(ClippedLinearRegression(), X + shift / 1e3, y)
    plain = last_errors(ClippedLinearRegression(), *linear(2_000))
    assert np.median(errors) < 2.0 * np.median(plain) + 1e-3


@pytest.mark.parametrize(
    ("at", "feature", "target"), [(0, 1e12 + 1.0, -1e12 - 1.0), (0, 1e15 + 1.0, 0.5), (50, -1e300, 1e300)]
)
def test_an_absurd_event_is_forgotten(at, feature, target):
    X, y = linear(2_000)
    X[at, 0], y[at] = feature, target
    assert np.median(last_errors(ClippedLinearRegression(), X, y)) < 0.1


@pytest.mark.parametrize("kind", [ClippedLinearRegression, ClippedLogisticRegression], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "params",
    [{}, {"rate": Constant(0.05), "clip": Fixed(1.0)}, {"rate": lambda seen: 1 / (seen + 10.0)}],
    ids=["the default", "a fixed rate and clip", "a rate of one's own"],  # the same in every process of pytest-xdist
)
def test_one_at_a_time_many_at_once_and_copies_are_equal_bit_for_bit(kind, params):
    X, y = linear(300, 1e3)
    X[20:40, 1] = np.nan
    y = y if kind is ClippedLinearRegression else y > 1e3
    one, many = kind(**params), kind(**params)
    for row, target in zip(X.tolist(), y.tolist(), strict=True):
        one.learn_one({f"f{i}": value for i, value in enumerate(row)}, target)
    for start, end in ((0, 63), (63, 64), (64, 65), (65, 300)):
        frame = pd.DataFrame(X[start:end], columns=[f"f{i}" for i in range(4)])
        many.learn_many(frame, y[start:end].tolist())
    assert one.weights == many.weights
    assert one.intercept == many.intercept
    other = copy.deepcopy(one) if "rate" in params else pickle.loads(pickle.dumps(one))
    assert other.weights == one.weights
    other.learn_one({"f0": 1.0, "new": 2.0}, y[0])
    assert set(other.weights) == {"f0", "f1", "f2", "f3", "new"}
    assert other.weights != one.weights


def test_a_regression_that_learned_nothing_predicts_zero_and_even_odds():
    assert ClippedLinearRegression().predict_one({"a": 1.0}) == 0.0
    assert ClippedLinearRegression().intercept == 0.0
    assert ClippedLinearRegression().weights == {}
    assert ClippedLogisticRegression().predict_proba_one({}) == {False: 0.5, True: 0.5}
