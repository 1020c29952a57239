"""The two regressions: what they predict, and what teaches them."""

import math
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest

from onlineguard import InvalidArgument
from onlineguard.estimators import ClippedLinearRegression, ClippedLogisticRegression
from tests.support.river_streams import classification, regression


@pytest.mark.slow
@pytest.mark.parametrize("corrupt", [0, 20], ids=["clean", "5 % corrupt"])
def test_a_regression_beats_the_mean_by_far_without_a_scaler(corrupt):
    model, errors, naive = ClippedLinearRegression(), [], []
    for i, (x, y) in enumerate(regression(4_000)):
        if i >= 2_000:
            errors.append(abs(model.predict_one(x) - y))
            naive.append(abs(50.0 - 2e-3 * 5e3 - y))
        model.learn_one(x, 1e9 if corrupt and i % corrupt == 0 else y)
    assert np.mean(errors) < 0.15 * np.mean(naive)


def test_a_classifier_beats_the_majority_and_follows_a_drift():
    model, right, likelier = ClippedLogisticRegression(), [], []
    for i, (x, y) in enumerate(classification(3_000)):
        label = y if i < 1_000 else not y
        if 500 <= i < 1_000 or i >= 2_000:
            right.append(model.predict_one(x) == label)
            likelier.append(label)
        model.learn_one(x, label)
    assert np.mean(right) > 0.85 > max(np.mean(likelier), 1 - np.mean(likelier)) + 0.2


def test_a_missing_target_teaches_nothing():
    model = ClippedLinearRegression()
    for x, y in regression(50):
        model.learn_one(x, y)
    before = model.predict_one(regression(1)[0][0])
    for y in (None, math.nan, math.inf):
        model.learn_one(regression(1)[0][0], y)
    assert model.predict_one(regression(1)[0][0]) == before


@pytest.mark.parametrize("y", ["spam", 2, None, math.nan])
def test_a_label_must_be_true_or_false(y):
    with pytest.raises(InvalidArgument, match=r"y is .*; a label must be True or False"):
        ClippedLogisticRegression().learn_one({"a": 1.0}, y)


@pytest.mark.parametrize("kind", [ClippedLinearRegression, ClippedLogisticRegression], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_a_frame_with_targets_gives_the_same_bits_as_its_rows(kind, frame):
    stream = regression(120) if kind is ClippedLinearRegression else classification(120)
    one, many = kind(), kind()
    for x, y in stream:
        one.learn_one(x, y)
    for part in (stream[:50], stream[50:50], stream[50:]):
        many.learn_many(frame([x for x, _ in part]), [y for _, y in part])
    assert pickle.dumps(one) == pickle.dumps(many)
    X = frame([x for x, _ in stream])
    assert many.predict_many(X).to_list() == [one.predict_one(x) for x, _ in stream]
    if kind is ClippedLogisticRegression:
        likely = many.predict_proba_many(X)
        assert likely[True if frame is pd.DataFrame else "True"].to_list() == [
            one.predict_proba_one(x)[True] for x, _ in stream
        ]
