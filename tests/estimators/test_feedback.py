"""What people say of verdicts, and scores between 0 and 1: as of the Engine, in every river-style detector."""

import math
import pickle
import random

import numpy as np
import pytest
from river import base, metrics

from onlineguard import Engine
from onlineguard.estimators import (
    AdaptiveThreshold,
    DriftRobustDetector,
    FitnessDetector,
    MarginalDetector,
    NeighboursDetector,
    SeriesDetector,
)

DETECTORS = [DriftRobustDetector, MarginalDetector, NeighboursDetector, FitnessDetector, SeriesDetector]


def usual(n: int, seed: int = 0, d: int = 3) -> list[dict[int, float]]:
    return [dict(enumerate(row)) for row in np.random.default_rng(seed).normal(size=(n, d)).tolist()]


def taught(kind, n: int = 1_000, **params):
    model = kind(**params)
    for x in usual(n):
        model.learn_one(x)
    return model


def test_a_detector_takes_feedback_as_an_engine_with_one_slice_does():
    X = np.random.default_rng(0).normal(size=(1_000, 8))
    model, engine = DriftRobustDetector(), Engine(8)
    engine.update(["s"] * len(X), X)
    for row in X.tolist():
        model.learn_one(dict(enumerate(row)))
    for odd, said in ((X[0] + 1.8, True), (X[1] + 1.8, True), (X[2] + 0.7, False)):
        ours = model.feedback(dict(enumerate(odd.tolist())), said)
        theirs = engine.feedback("s", odd, said)
        assert (ours.score, ours.threshold, ours.anomalous) == (theirs.score, theirs.threshold, theirs.anomalous)
    x = dict(enumerate(X[3].tolist()))
    assert model.judge_one(x).threshold == engine.score(["s"], [X[3]]).threshold[0] == np.float32(model.threshold)
    assert model.judge_learn_one(x).threshold == engine.update(["s"], [X[3]]).threshold[0]


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
def test_feedback_moves_the_threshold_within_a_factor_of_two_and_is_pickled(kind):
    model = taught(kind)
    odd = dict.fromkeys(range(3), 9.0)
    before = model.threshold
    for _ in range(5):
        model.feedback(odd, usual=True)
    raised = model.threshold
    assert before < raised <= 2.5 * before  # what is learned once more moves it a little too
    assert pickle.loads(pickle.dumps(model)).threshold == raised
    nothing = kind()
    assert not nothing.feedback({}, usual=True).ready
    assert math.isnan(nothing.threshold)


def test_an_adaptive_threshold_takes_feedback_on_its_detectors_events():
    class Given(base.AnomalyDetector):
        def score_one(self, x):
            return x["score"]

        def learn_one(self, x):
            pass

    model, rng = AdaptiveThreshold(Given()), random.Random(0)
    assert not model.feedback({"score": 1.0}, usual=False)
    for _ in range(1_000):
        model.learn_one({"score": rng.gauss(0.0, 1.0)})
    at = model.threshold
    assert model.classify(1.1 * at)
    assert not model.feedback({"score": 1.1 * at}, usual=True)
    assert model.threshold > 1.05 * at
    assert model.feedback({"score": 0.99 * at}, usual=False)


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
def test_bounded_scores_keep_the_order_and_lie_between_0_and_1(kind):
    model, bounded = taught(kind), taught(kind, bounded_score=True)
    stream = [{i: 3.0 * value for i, value in x.items()} for x in usual(50, 1)]
    plain = [model.score_one(x) for x in stream]
    scores = [bounded.score_one(x) for x in stream]
    assert all(0.0 <= score < 1.0 for score in scores)
    assert all(np.diff(np.array(scores)[np.argsort(plain)]) >= 0.0)
    assert scores == [model.judge_one(x).bounded_score for x in stream]
    verdicts = [bounded.judge_one(x) for x in stream]
    assert [score > bounded.threshold for score in scores] == [v.score > v.threshold for v in verdicts]
    assert bounded.score_learn_one(stream[0]) == scores[0]


def test_rivers_roc_auc_is_right_on_bounded_scores():
    rng, model = random.Random(0), DriftRobustDetector(bounded_score=True)
    binned, exact = metrics.ROCAUC(), []
    for i in range(3_000):
        odd = i > 500 and rng.random() < 0.05
        x = {j: rng.gauss(4.0 * odd, 1.0) for j in range(3)}
        score = model.score_learn_one(x)
        if i > 500:
            binned.update(odd, score)
            exact.append((score, odd))
    odd = [score for score, label in exact if label]
    even = [score for score, label in exact if not label]
    area = np.mean([[(a > b) + 0.5 * (a == b) for b in even] for a in odd])
    assert area > 0.98
    assert binned.get() == pytest.approx(area, abs=0.01)
