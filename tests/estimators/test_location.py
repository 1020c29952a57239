"""The mean that ClippedMean keeps."""

import math

import numpy as np
import pytest

from onlineguard.estimators import ClippedMean
from tests.support.river_streams import labelled


def test_a_mean_has_the_unit_of_the_stream():
    model, other = ClippedMean(), ClippedMean()
    for (x, _), (moved, _) in zip(labelled(400), labelled(400, scale=1e6, shift=1e9), strict=True):
        assert other.score_learn_one(moved) == pytest.approx(1e6 * model.score_learn_one(x), rel=1e-6)


def test_experts_follow_a_drift_more_closely_than_one_rate():
    rng = np.random.default_rng(10)
    models = ClippedMean(), ClippedMean(experts=True)
    errors = []
    for i in range(4_000):
        truth = 5.0 * math.sin(i / 150)
        x = {"a": truth + rng.normal(), **({"late": truth} if i > 100 else {})}
        for model in models:
            model.learn_one(x)
        errors.append([abs(model.mean["a"] - truth) for model in models])
    one_rate, experts = np.mean(errors, axis=0)
    assert experts < 0.5 * one_rate
    assert set(models[1].mean) == {"a", "late"}
    assert models[1].clone().mean == {}


def test_a_later_feature_starts_where_it_is_first_seen():
    model = ClippedMean()
    for i in range(5_000):
        model.learn_one({"a": 1.0 + i % 2} if i < 4_999 else {"a": 1.0, "late": 1e6})
    assert model.mean["late"] == 1e6
    assert model.score_one({"a": 1.5, "late": 1e6}) < 2.0
