"""The estimators that remember the last events, as river detectors."""

import math
import random

import numpy as np
import pytest

from onlineguard import Engine, Fitness, Neighbours, Standardised
from onlineguard.estimators import FitnessDetector, NeighboursDetector
from onlineguard.estimators.neighbours import FARTHEST

KINDS = [(NeighboursDetector, Neighbours), (FitnessDetector, Fitness)]


@pytest.mark.parametrize(("kind", "core"), KINDS, ids=["neighbours", "fitness"])
@pytest.mark.parametrize("direction", [False, True], ids=["standardised", "direction"])
def test_a_detector_gives_the_verdicts_of_an_engine_with_one_slice(kind, core, direction):
    X = np.random.default_rng(0).lognormal(size=(400, 8)).astype(np.float32)
    inner = core(8, direction=direction)
    engine = Engine(8, estimator=inner if direction else Standardised(inner, 8, FARTHEST))
    expected = engine.update(["s"] * len(X), X)
    model = kind(direction=direction)
    for i, row in enumerate(X.tolist()):
        verdict = model.judge_learn_one(dict(enumerate(row)))
        if i:
            np.testing.assert_equal(verdict.score, expected.score[i])
            np.testing.assert_equal(verdict.threshold, expected.threshold[i])


def test_it_finds_what_lies_between_the_faces_of_the_usual():
    rng, model = random.Random(0), NeighboursDetector()
    for _ in range(2_000):
        turn = rng.uniform(0.0, 2.0 * math.pi)
        model.learn_one({"x": math.cos(turn), "y": math.sin(turn)})
    assert model.judge_one({"x": 0.0, "y": 0.0}).anomalous
    assert not model.judge_one({"x": 0.6, "y": -0.8}).anomalous
    assert model.remembered == {"remembered": 512, "bytes": 512 * 8 * 4}


@pytest.mark.parametrize(("kind", "core"), KINDS, ids=["neighbours", "fitness"])
def test_it_says_which_features_drove_a_score_and_takes_more_of_them(kind, core):
    rng, model = random.Random(1), kind()
    assert model.remembered == {}
    for i in range(900):
        model.learn_one({j: rng.gauss(100.0 * j, 1.0) for j in range(2 + i // 60)})
    usual = {j: 100.0 * j for j in range(16)}
    assert model.score_one(usual) < 2.0
    assert next(iter(model.explain_one({**usual, 3: 1_000.0}))) == 3
    assert model.score_one({**usual, 3: 1_000.0}) > model.score_one(usual)
