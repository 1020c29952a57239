"""The detectors of points and of series behind river's methods."""

import math
import random

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from onlineguard import Engine, JointDetector
from onlineguard.estimators import DriftRobustDetector, SeriesDetector


def test_a_series_scores_high_what_does_not_follow_from_its_past():
    rng = random.Random(1)
    model, labels, scores = SeriesDetector(), [], []
    for i in range(4_000):
        odd = i > 500 and i % 211 == 0
        load = 100.0 + 20.0 * math.sin(i / 20) + rng.gauss(0.0, 0.5) + 15.0 * odd
        labels.append(odd)
        scores.append(model.score_learn_one({"load": load}))
    assert roc_auc_score(labels, scores) > 0.9


def test_the_detector_gives_the_verdicts_of_an_engine_with_one_slice():
    X = np.random.default_rng(5).normal(50.0, 3.0, (3_000, 8))
    X[1_500:1_550] += 30.0
    model, engine = DriftRobustDetector(), Engine(8)
    expected = engine.update(["s"] * 3_000, X)
    for i, row in enumerate(X.tolist()):
        verdict = model.judge_learn_one(dict(enumerate(row)))
        assert i == 0 or verdict.threshold == expected.threshold[i]
        assert verdict.ready == expected.ready[i]
        assert verdict.anomalous == expected.anomalous[i]
        np.testing.assert_equal(verdict.score, expected.score[i])
        if i % 500 == 0:
            np.testing.assert_equal(verdict.p_value, expected.p_value[i])


def test_a_fresh_detector_judges_nothing():
    model = DriftRobustDetector()
    verdict = model.judge_one({"a": 1.0})
    assert (verdict.ready, verdict.anomalous) == (False, False)
    assert math.isnan(verdict.score)
    assert math.isnan(verdict.p_value)
    assert math.isnan(model.threshold)
    assert model.explain_one({"a": 1.0}) == {}


def test_features_may_become_more_than_there_was_room_for():
    model = DriftRobustDetector()
    rng = random.Random(0)
    for i in range(600):
        model.score_learn_one({j: rng.gauss(j, 1.0) for j in range(1 + i // 30)})
    usual = {j: float(j) for j in range(20)}
    assert model.score_one(usual) < 1.0
    assert next(iter(model.explain_one({**usual, 3: 1_000.0}))) == 3
    assert model.judge_one({**usual, 3: 1_000.0}).anomalous


def test_a_series_detector_says_a_burst_when_it_begins():
    rng = random.Random(0)
    model, alarms = SeriesDetector(), []
    for i in range(2_000):
        verdict = model.judge_learn_one({"load": rng.gauss(100.0, 1.0) + 40.0 * (1_500 <= i < 1_600)})
        if verdict.anomalous:
            alarms.append(i)
    assert 1_500 in alarms
    assert not [i for i in alarms if 1_500 < i <= 1_560]  # and none in the pause after it
    assert len([i for i in alarms if 1_500 <= i < 1_600]) <= 2


def test_a_series_detector_says_what_drove_a_score_in_the_unit_of_the_data():
    rng = random.Random(9)
    model = SeriesDetector()
    assert model.reasons_one({"load": 1.0}) == {}
    for i in range(2_000):
        model.learn_one({"load": 1e9 + 100.0 * math.sin(i * math.pi / 144) + rng.gauss(0.0, 1.0)})
    reasons = model.reasons_one({"load": 1e9 + 500.0})["load"]
    assert reasons["value"] > 2.0
    assert reasons["novelty"] > 0.0
    assert reasons["residual"] > 0.0
    assert reasons["nearest"] == pytest.approx(1e9 + 102.0, abs=3.0)  # the highest so far
    assert reasons["forecast"] == pytest.approx(1e9 + 100.0 * math.sin(2_000 * math.pi / 144), abs=10.0)


def test_a_detector_is_what_its_parameters_say():
    model = SeriesDetector(target_rate=0.02, pause=24)
    assert model.clone()._get_params() == model._get_params()
    assert model._model.estimator.pause == 24.0
    assert DriftRobustDetector(0.05, 10)._model.estimator == JointDetector(0.05, 10.0)
