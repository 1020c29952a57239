"""The regressions behind scikit-learn's methods."""

import pickle

import numpy as np
import pytest

from onlineguard import Engine, InvalidArgument, linear_regression, logistic_regression
from onlineguard.sklearn import LinearRegressor, LogisticClassifier
from tests.support.same import assert_same_engine

X = np.random.default_rng(0).uniform(0.0, [1.0, 1e3], (1_500, 2))
Y = 2.0 * X[:, 0] - 3e-3 * X[:, 1]
LABELS = np.where(Y + np.random.default_rng(1).normal(0.0, 0.3, 1_500) > -0.5, "robot", "human")


def test_pieces_the_whole_and_the_engine_give_the_same_regression_to_the_last_bit():
    engine = Engine(2, estimator=linear_regression(2, 0.001))
    engine.update("all", X, Y)
    whole = LinearRegressor(l2=0.001).fit(X, Y)
    pieces = LinearRegressor(l2=0.001).fit(X[:200], -Y[:200]).fit(X[:7], Y[:7]).partial_fit(X[7:], Y[7:])
    assert_same_engine(whole.engine_, engine)
    assert_same_engine(pieces.engine_, engine)
    np.testing.assert_array_equal(whole.predict(X), engine.predict("all", X))


def test_pieces_the_whole_and_the_engine_give_the_same_classifier_to_the_last_bit():
    engine = Engine(2, estimator=logistic_regression(2))
    engine.update("all", X, (LABELS == "robot").astype(float))
    whole = LogisticClassifier().fit(X, LABELS)
    pieces = LogisticClassifier().partial_fit(X[:1], LABELS[:1], classes=["human", "robot"])
    pieces.partial_fit(X[1:], LABELS[1:])
    assert_same_engine(whole.engine_, engine)
    assert_same_engine(pieces.engine_, engine)
    np.testing.assert_array_equal(whole.predict_proba(X)[:, 1], engine.predict("all", X).astype(float))
    assert whole.score(X, LABELS) > 0.8


def test_false_targets_do_not_move_the_regression():
    y = np.where(np.arange(1_500) % 10 == 9, 1e9, Y)
    assert LinearRegressor().fit(X, y).score(X, Y) > 0.99


def test_every_slice_has_its_own_regression():
    slices = np.arange(1_500) % 2
    model = LinearRegressor().fit(X, np.where(slices, Y, -Y), slices=slices)
    np.testing.assert_allclose(model.predict(X[:1], slices=[0]), -Y[:1], atol=0.1)
    np.testing.assert_allclose(model.predict(X[:1], slices=[1]), Y[:1], atol=0.1)
    assert model.predict(X[:1], slices=[2]) == [0.0]


@pytest.mark.parametrize("model", [LinearRegressor(), LogisticClassifier(l2=0.01)], ids=str)
def test_a_copy_goes_on_as_the_original(model, tmp_path):
    y = Y if isinstance(model, LinearRegressor) else LABELS
    model.fit(X, y).save(tmp_path / "saved")
    copies = [type(model).load(tmp_path / "saved"), pickle.loads(pickle.dumps(model))]
    model.partial_fit(X, y)
    for copy in copies:
        assert copy.get_params() == model.get_params()
        np.testing.assert_array_equal(copy.partial_fit(X, y).predict(X), model.predict(X))


def test_labels_that_are_not_two_are_an_error():
    with pytest.raises(InvalidArgument, match=r"y has 1 class\(es\); it must have two, or name both with `classes`"):
        LogisticClassifier().fit(X, np.ones(1_500))
    with pytest.raises(InvalidArgument, match=r"Only binary classification is supported\. y has 3 class\(es\)"):
        LogisticClassifier().fit(X, np.arange(1_500) % 3)
    with pytest.raises(InvalidArgument, match=r"y holds 'bird', which is none of the classes \['human', 'robot'\]"):
        LogisticClassifier().fit(X, LABELS).partial_fit(X[:1], ["bird"])
