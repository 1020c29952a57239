"""What every river-style estimator holds to, whatever it estimates."""

import copy
import math
import pickle

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pytest
import river.checks
from hypothesis import example, given, settings
from river import base, compose, evaluate, metrics, preprocessing
from sklearn.metrics import roc_auc_score

from onlineguard import Constant, InvalidArgument
from onlineguard.estimators import (
    AdaptiveThreshold,
    ClippedChangePoint,
    ClippedCovariance,
    ClippedLinearRegression,
    ClippedLogisticRegression,
    ClippedMean,
    ClippedQuantile,
    ClippedScale,
    DriftRobustDetector,
    FitnessDetector,
    MarginalDetector,
    NeighboursDetector,
    SeriesDetector,
    VerdictFilter,
)
from tests.support.river_streams import classification, events, labelled, regression, vanishing
from tests.support.strategies import streams

DETECTORS = [
    ClippedMean,
    ClippedScale,
    ClippedQuantile,
    ClippedCovariance,
    DriftRobustDetector,
    MarginalDetector,
    NeighboursDetector,
    FitnessDetector,
    SeriesDetector,
]
# What needs further programs is shown for these by the quick tests of the others, which are shells of the same kind.
COMPILED_TWICE = [
    pytest.param(kind, marks=pytest.mark.slow if kind in (DriftRobustDetector, SeriesDetector) else ())
    for kind in DETECTORS
]
SUPERVISED = [ClippedLinearRegression, ClippedLogisticRegression]


def datasets(model, scale=1):
    """In place of river's, which are downloaded."""
    n = 200 * scale
    if isinstance(model, base.Regressor):
        yield regression(n)
    elif isinstance(model, base.Classifier):
        yield classification(n)
        yield [(x, np.bool_(y)) for x, y in classification(n)]
    elif isinstance(model, base.AnomalyDetector):
        yield labelled(n)


def river_checks():
    for kind in [*DETECTORS, *SUPERVISED, AdaptiveThreshold, VerdictFilter, ClippedChangePoint]:
        for params in kind._unit_test_params():
            yield kind(**params)


@pytest.mark.slow
@pytest.mark.parametrize("model", list(river_checks()), ids=str)
def test_rivers_own_checks_pass(model, monkeypatch):
    monkeypatch.setattr(river.checks, "_yield_datasets", datasets)
    if isinstance(model, base.Estimator):
        river.checks.check_estimator(model)
    else:  # a drift detector has no learn_one; these are the checks that need none
        for check in (river.checks.common.check_repr, river.checks.common.check_clone_same_class):
            check(model)
        river.checks.common.check_pickling_supports_roundtrip(model)
        river.checks.common.check_get_params_matches_signature(model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DETECTORS[:-1], ids=lambda kind: kind.__name__)
def test_scores_are_high_for_the_odd_events(kind):
    model = kind()
    stream = labelled(3_000)
    scores = [model.score_learn_one(x) for x, _ in stream]
    labels = [y for _, y in stream]
    assert roc_auc_score(labels[200:], scores[200:]) > 0.9
    assert scores[0] == 0.0


@pytest.mark.parametrize("kind", COMPILED_TWICE)
def test_scoring_and_learning_in_one_call_is_the_same_as_in_two(kind):
    once, twice = kind(), kind()
    for x in vanishing(events(300)):
        score = twice.score_one(x)
        twice.learn_one(x)
        assert once.score_learn_one(x) == score
    assert once.score_one(events(1, 9)[0]) == twice.score_one(events(1, 9)[0])


@pytest.mark.parametrize(
    "frame",
    [pytest.param(pd.DataFrame, id="pandas"), pytest.param(pl.DataFrame, id="polars", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("kind", COMPILED_TWICE)
@settings(max_examples=8)
@given(data=st.data())
def test_a_frame_gives_the_same_bits_as_its_rows(kind, frame, data):
    table = data.draw(streams(features=5, most=40)).astype(float)
    cut = data.draw(st.integers(0, len(table)))
    rows = [dict(zip("pqrst", row, strict=True)) for row in table.tolist()]
    one, many, learned = kind(), kind(), kind()
    expected = [one.score_learn_one(x) for x in rows]
    parts = [frame(table[:cut], **columns(frame)), frame(table[cut:], **columns(frame))]
    scores = [score for part in parts for score in many.score_learn_many(part).to_list()]
    assert scores == expected
    for part in parts:
        learned.learn_many(part)
    assert pickle.dumps(one) == pickle.dumps(many) == pickle.dumps(learned)
    assert many.score_many(frame(table, **columns(frame))).to_list() == [one.score_one(x) for x in rows]
    assert pickle.dumps(one) == pickle.dumps(many)


def columns(frame):
    return {"columns": list("pqrst")} if frame is pd.DataFrame else {"schema": list("pqrst"), "orient": "row"}


def test_a_frame_keeps_its_index_and_kind():
    model = ClippedMean()
    X = pd.DataFrame(events(5), index=[3, 1, 4, 1, 5])
    model.learn_many(X)
    assert model.score_many(X).index.to_list() == [3, 1, 4, 1, 5]
    assert isinstance(model.score_many(pl.DataFrame(events(5))), pl.Series)


@pytest.mark.parametrize("kind", COMPILED_TWICE)
@settings(max_examples=15)
@example(table=np.array([[0, 0, 0], [0, np.inf, 0], [0, np.inf, 0]], np.float32))  # infinite: missing
@given(table=streams(features=3, most=30))
def test_no_event_whatever_it_holds_breaks_a_detector(kind, table):
    model = kind()
    for row in table.astype(float).tolist():
        assert not math.isnan(model.score_learn_one(dict(zip("pqr", row, strict=True))))
    assert math.isfinite(model.score_one({"p": 1.0, "q": 2.0, "r": 3.0}))


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("x", [{}, {"a": None}, {"b": math.nan, "c": math.inf}, {"new": math.nan}], ids=str)
def test_an_event_without_a_number_changes_nothing_and_scores_zero(kind, x):
    model = kind()
    assert model.score_one(x) == 0.0
    model.learn_one(x)
    for event in events(150):
        model.learn_one(event)
    expected = kind()
    for event in events(150):
        expected.learn_one(event)
    assert model.score_learn_one(x) == 0.0
    assert model.score_one(events(1, 7)[0]) == expected.score_one(events(1, 7)[0])


@pytest.mark.parametrize("kind", [*DETECTORS, *SUPERVISED], ids=lambda kind: kind.__name__)
def test_a_feature_that_is_no_number_is_an_error_that_names_it(kind):
    model = kind()
    with pytest.raises(InvalidArgument, match=r"x\['a'\] is 'DE'; a feature must be a number, or absent"):
        model.learn_one({"a": "DE"}, *([1] if kind in SUPERVISED else []))
    with pytest.raises(InvalidArgument, match="X cannot be read; it must be a pandas or polars frame"):
        model.learn_many([[1.0]], *([[1]] if kind in SUPERVISED else []))


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
def test_pickles_and_deep_copies_go_on_as_the_original(kind):
    model = kind()
    for x in events(150):
        model.learn_one(x)
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), model.clone(include_attributes=True)]
    for x in events(50, 1):
        expected = model.score_learn_one(x)
        assert [other.score_learn_one(x) for other in copies] == [expected] * 3
    assert b"jax" not in pickle.dumps(model)


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
def test_the_order_of_the_features_changes_no_bit(kind):
    model, shuffled = kind(), kind()
    for x in events(120):
        assert model.score_learn_one(x) == shuffled.score_learn_one(dict(reversed(x.items())))


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e12, 0.0), (1.0, 1e9), (1e6, -1e12)])
@pytest.mark.parametrize("kind", DETECTORS[1:], ids=lambda kind: kind.__name__)
def test_scores_do_not_depend_on_unit_and_origin(kind, scale, shift):
    model, other = kind(), kind()
    plain = [model.score_learn_one(x) for x, _ in labelled(400)]
    moved = [other.score_learn_one(x) for x, _ in labelled(400, scale=scale, shift=shift)]
    np.testing.assert_allclose(moved[50:], plain[50:], rtol=2e-2, atol=1e-3)


def test_they_work_in_pipelines_and_progressive_validation():
    score = evaluate.progressive_val_score(
        regression(1_500), preprocessing.StandardScaler() | ClippedLinearRegression(), metrics.R2()
    )
    assert score.get() > 0.8
    score = evaluate.progressive_val_score(
        classification(1_500), compose.Select("a", "b", "c") | ClippedLogisticRegression(), metrics.ROCAUC()
    )
    assert score.get() > 0.85
    model, scores = preprocessing.StandardScaler() | DriftRobustDetector(), []
    for x, _ in labelled(1_500):
        scores.append(model.score_one(x))
        model.learn_one(x)
    assert roc_auc_score([y for _, y in labelled(1_500)], scores) > 0.9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClippedQuantile(1.0), r"level is 1\.0; it must lie strictly between 0 and 1"),
        (lambda: ClippedMean(rate=0.1), r"rate is 0\.1; it must be a rate such as Derived\(\)"),
        (lambda: ClippedMean(Constant(0.1), experts=True), r"rate is Constant\(.*, but experts have their own"),
        (lambda: ClippedMean(clip=2.0), r"clip is 2\.0; it must be a clip such as Adaptive\(\)"),
        (lambda: ClippedCovariance(ridge=0.0), r"ridge is 0\.0; it must be positive"),
        (lambda: ClippedLinearRegression(l2=-1.0), r"l2 is -1\.0; it must be zero or more"),
        (lambda: DriftRobustDetector(target_rate=0.5), r"target_rate is 0\.5; it must lie in \(0, 0\.2\]"),
        (lambda: DriftRobustDetector(patience=0), r"patience is 0; it must be at least 1 event"),
        (lambda: SeriesDetector(pause=-1), r"pause is -1; it must be a number of events of at least 0"),
        (lambda: ClippedChangePoint(delta=0.0), r"delta is 0\.0; it must lie strictly between 0 and 1"),
        (lambda: ClippedChangePoint(n_features=True), r"n_features is True; it must be a whole number"),
        (lambda: AdaptiveThreshold(0.99), r"anomaly_detector is 0\.99; it must be a river anomaly detector"),
        (lambda: ClippedChangePoint().update("x"), r"x is 'x'; it must be 1 number"),
        (lambda: ClippedLinearRegression().learn_one({"a": 1.0}, "x"), r"y is 'x'; a target must be a number"),
        (
            lambda: ClippedLinearRegression().learn_many(pd.DataFrame({"a": [1.0, 2.0]}), [1.0]),
            r"y has 1 targets for 2 rows of X",
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_value_its_rule_and_a_way_out(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()
