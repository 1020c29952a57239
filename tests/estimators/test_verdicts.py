"""Verdicts through river's pipelines and filters, and choices that change while a detector runs."""

import math
import pickle

import numpy as np
import pytest
from river import anomaly, compose, preprocessing

from onlineguard import Engine, InvalidArgument
from onlineguard.estimators import (
    AdaptiveThreshold,
    ClippedLinearRegression,
    DriftRobustDetector,
    MarginalDetector,
    SeriesDetector,
    VerdictFilter,
    judge_one,
)
from tests.support.river_streams import events, labelled


def learned(model, n=400):
    for x in events(n):
        model.learn_one(x)
    return model


def test_the_verdict_at_the_end_of_a_pipeline_is_that_of_its_last_step():
    scaler, detector = preprocessing.StandardScaler(), MarginalDetector()
    model = learned(scaler | detector)
    for x in events(20, 1):
        expected = detector.judge_one(scaler.transform_one(x))
        nested = compose.Pipeline(scaler, VerdictFilter(detector))
        for each in (model, nested, VerdictFilter(model)):
            verdict = judge_one(each, x)
            assert (verdict.score, verdict.threshold, verdict.ready) == (expected.score, expected.threshold, True)


def test_what_gives_no_verdicts_is_named_with_a_way_out():
    for model in (anomaly.HalfSpaceTrees(), preprocessing.StandardScaler() | ClippedLinearRegression()):
        with pytest.raises(InvalidArgument, match="which gives no verdicts; it must be, or end in"):
            judge_one(model, {"a": 1.0})
    with pytest.raises(InvalidArgument, match="AdaptiveThreshold classifies the scores of any other"):
        VerdictFilter(anomaly.HalfSpaceTrees())


@pytest.mark.parametrize(
    "make",
    [
        MarginalDetector,
        pytest.param(DriftRobustDetector, marks=pytest.mark.slow),
        pytest.param(SeriesDetector, marks=pytest.mark.slow),
    ],
    ids=lambda kind: kind.__name__,
)
def test_a_filter_classifies_as_the_detector_judges(make):
    model, bounded, flagged = VerdictFilter(make()), VerdictFilter(make(bounded_score=True)), 0
    for x, _ in labelled(1_500):
        verdict = model.judge_one(x)
        assert model.classify(model.score_one(x)) == verdict.anomalous
        if verdict.bounded_score < 0.9:  # beyond that, scores from 0 to 1 end
            assert bounded.classify(bounded.score_one(x)) == verdict.anomalous
        flagged += verdict.anomalous
        model.learn_one(x)
        bounded.learn_one(x)
        assert not model.classify(math.nan)
    assert flagged > 0 or make is SeriesDetector


def test_a_filter_classifies_between_events_and_after_pickling_alike():
    model = learned(VerdictFilter(MarginalDetector()))
    copy = pickle.loads(pickle.dumps(model))
    threshold = model.anomaly_detector.threshold
    for each in (model, copy):
        assert each.classify(np.nextafter(threshold, math.inf))
        assert not each.classify(threshold)
    assert not VerdictFilter(MarginalDetector()).classify(1e9)


def test_a_filter_keeps_anomalies_from_the_steps_behind_it_and_from_a_protected_detector():
    def taught(protect):
        guard = VerdictFilter(MarginalDetector(), protect_anomaly_detector=protect)
        model = guard | ClippedLinearRegression()
        for x in events(300):
            model.learn_one(x, 1.0)
        return guard, model

    for protect in (False, True):
        guard, model = taught(protect)
        before, odd = pickle.dumps(model["ClippedLinearRegression"]), {name: 1e3 for name in "abcde"}
        detector = pickle.dumps(guard.anomaly_detector)
        model.learn_one(odd, 1e9)
        assert pickle.dumps(model["ClippedLinearRegression"]) == before
        assert (pickle.dumps(guard.anomaly_detector) == detector) == protect


def test_a_choice_that_is_mutated_holds_from_then_on_as_in_an_engine():
    X = np.random.default_rng(0).normal(50.0, 3.0, (1_500, 8))
    pipeline, engine = compose.Pipeline(MarginalDetector()), Engine(8, estimator=MarginalDetector()._model.estimator)
    engine.update("s", X[:700])
    engine.target_rate, engine.patience = 0.05, 300.0
    expected = engine.update("s", X[700:])
    for row in X[:700].tolist():
        pipeline.learn_one(dict(enumerate(row)))
    pipeline.mutate({"MarginalDetector": {"target_rate": 0.05, "patience": 300.0}})
    for i, row in enumerate(X[700:].tolist()):
        verdict = judge_one(pipeline, dict(enumerate(row)))
        pipeline.learn_one(dict(enumerate(row)))
        assert (verdict.score, verdict.threshold) == (expected.score[i], expected.threshold[i])
    assert pipeline.clone()["MarginalDetector"].target_rate == 0.05


def test_what_cannot_be_mutated_is_an_error_and_changes_nothing():
    model = MarginalDetector()
    with pytest.raises(InvalidArgument, match=r"target_rate is 0\.5; it must lie in"):
        model.mutate({"target_rate": 0.5})
    with pytest.raises(ValueError, match="'pause' is not an attribute of MarginalDetector"):
        model.mutate({"pause": 5})
    assert (model.target_rate, model._model.estimator.target_rate) == (0.01, 0.01)


def test_an_adaptive_threshold_and_the_detector_in_it_are_mutated():
    model = learned(AdaptiveThreshold(MarginalDetector()))
    before = model.threshold
    model.mutate({"target_rate": 0.2, "patience": 50, "anomaly_detector": {"target_rate": 0.05}})
    assert model.anomaly_detector.target_rate == 0.05
    for x in events(1_000, 1):
        model.learn_one(x)
    assert model.threshold < before
