"""What every river-style estimator holds to, whatever it estimates."""

import copy
import math
import pickle
import random

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pytest
import river.checks
from hypothesis import example, given, settings
from river import anomaly, base, compose, drift, evaluate, metrics, preprocessing
from sklearn.metrics import roc_auc_score

from onlineguard import Constant, Engine, Fixed, InvalidArgument, JointDetector
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
)
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
SUPERVISED = [ClippedLinearRegression, ClippedLogisticRegression]
NAMES = ["a", "b", "c", "d", "e"]


def labelled(n: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0):
    """(x, y): five features, three of them correlated; y marks the 5 % of events that lie 6 sigma out."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) @ np.array(
        [[1, 0.5, 0.5, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    )
    y = (rng.random(n) < 0.05) & (np.arange(n) > 100)
    X[y] += 6.0
    return [
        (dict(zip(NAMES, row, strict=True)), label)
        for row, label in zip((X * scale + shift).tolist(), y.tolist(), strict=True)
    ]


def regression(n: int, seed: int = 0):
    """(x, y): y linear in features of very different scales, with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) * [1.0, 1e3, 1e-3, 1.0, 10.0] + [0.0, 5e3, 0.0, 100.0, 0.0]
    y = 50.0 + 3.0 * X[:, 0] - 2e-3 * X[:, 1] + 1e3 * X[:, 2] + rng.normal(size=n) * 0.1
    return [(dict(zip(NAMES, row, strict=True)), target) for row, target in zip(X.tolist(), y.tolist(), strict=True)]


def classification(n: int, seed: int = 0):
    """(x, y): y more likely than not where a linear function of the features is positive."""
    return [(x, y + random.Random(i + seed).gauss(0, 1) > 35.0) for i, (x, y) in enumerate(regression(n, seed))]


def events(n: int, seed: int = 0):
    return [x for x, _ in labelled(n, seed)]


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
    for kind in [*DETECTORS, *SUPERVISED, AdaptiveThreshold, ClippedChangePoint]:
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


def test_a_series_scores_high_what_does_not_follow_from_its_past():
    rng = random.Random(1)
    model, labels, scores = SeriesDetector(), [], []
    for i in range(4_000):
        odd = i > 500 and i % 211 == 0
        load = 100.0 + 20.0 * math.sin(i / 20) + rng.gauss(0.0, 0.5) + 15.0 * odd
        labels.append(odd)
        scores.append(model.score_learn_one({"load": load}))
    assert roc_auc_score(labels, scores) > 0.9


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
def test_scoring_and_learning_in_one_call_is_the_same_as_in_two(kind):
    once, twice = kind(), kind()
    for x in vanishing(events(300)):
        score = twice.score_one(x)
        twice.learn_one(x)
        assert once.score_learn_one(x) == score
    assert once.score_one(events(1, 9)[0]) == twice.score_one(events(1, 9)[0])


def vanishing(stream, seed=0):
    """Each event without some of its features, which come and go; some are None, NaN or infinite instead."""
    rng = random.Random(seed)
    for i, x in enumerate(stream):
        names = NAMES[: 2 + i // 50] if i < 150 else NAMES
        gone = {name: rng.choice([None, math.nan, math.inf]) for name in names if rng.random() < 0.05}
        yield {**{name: x[name] for name in names if rng.random() < 0.9}, **gone}


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
@settings(max_examples=8)
@given(data=st.data())
def test_a_frame_gives_the_same_bits_as_its_rows(kind, frame, data):
    table = data.draw(streams(features=4, most=40)).astype(float)
    cut = data.draw(st.integers(0, len(table)))
    rows = [dict(zip("pqrs", row, strict=True)) for row in table.tolist()]
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
    return {"columns": list("pqrs")} if frame is pd.DataFrame else {"schema": list("pqrs"), "orient": "row"}


def test_a_frame_keeps_its_index_and_kind():
    model = ClippedMean()
    X = pd.DataFrame(events(5), index=[3, 1, 4, 1, 5])
    model.learn_many(X)
    assert model.score_many(X).index.to_list() == [3, 1, 4, 1, 5]
    assert isinstance(model.score_many(pl.DataFrame(events(5))), pl.Series)


@pytest.mark.parametrize("kind", SUPERVISED, ids=lambda kind: kind.__name__)
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


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
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


def test_a_mean_has_the_unit_of_the_stream():
    model, other = ClippedMean(), ClippedMean()
    for (x, _), (moved, _) in zip(labelled(400), labelled(400, scale=1e6, shift=1e9), strict=True):
        assert other.score_learn_one(moved) == pytest.approx(1e6 * model.score_learn_one(x), rel=1e-6)


def test_the_mean_and_the_scale_are_right_with_a_tenth_of_the_events_corrupted():
    rng = np.random.default_rng(0)
    mean, scale = ClippedMean(), ClippedScale()
    for i in range(8_000):
        x = {"ms": rng.normal(20.0, 4.0), "kb": rng.normal(1e9, 1e7)} if i % 10 else {"ms": 1e9, "kb": -1e15}
        mean.learn_one({"ms": x["ms"]})
        scale.learn_one(x)
    assert mean.mean["ms"] == pytest.approx(20.0, abs=2.0)
    assert scale.scale == {"ms": pytest.approx(6.4, rel=0.4), "kb": pytest.approx(1.6e7, rel=0.4)}
    assert scale.mean == {"ms": pytest.approx(20.0, abs=4.0), "kb": pytest.approx(1e9, abs=1e7)}


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


@pytest.mark.slow
def test_the_scale_of_a_normal_stream_is_its_standard_deviation():
    rng = np.random.default_rng(1)
    model = ClippedScale()
    for value in rng.normal(-3.0, 2.0, 20_000):
        model.learn_one({"x": value})
    assert model.scale["x"] == pytest.approx(2.0, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("law", ["normal", "exponential", "standard_cauchy"])
def test_the_share_below_a_quantile_is_its_level(level, law):
    values = getattr(np.random.default_rng(2), law)(size=12_000) * 1e5
    model, below = ClippedQuantile(level), 0
    for i, value in enumerate(values.tolist()):
        below += i >= 2_000 and value < model.quantile["x"]
        model.learn_one({"x": value})
    assert below / 10_000 == pytest.approx(level, abs=0.02)


def test_a_quantile_scores_values_beyond_it_on_its_own_side():
    low, high = ClippedQuantile(0.01), ClippedQuantile(0.99)
    for value in np.random.default_rng(3).normal(size=2_000).tolist():
        low.learn_one({"x": value})
        high.learn_one({"x": value})
    assert low.score_one({"x": -9.0}) > 1.0 > 0.0 > low.score_one({"x": 0.0}) > low.score_one({"x": 9.0})
    assert high.score_one({"x": 9.0}) > 1.0 > 0.0 > high.score_one({"x": 0.0}) > high.score_one({"x": -9.0})


def test_a_covariance_is_that_of_the_stream():
    rng = np.random.default_rng(4)
    truth = np.array([[2.0, 0.8], [0.8, 1.0]])
    model = ClippedCovariance(clip=Fixed(1e9), rate=Constant(0.002))
    for row in rng.multivariate_normal([10.0, -5.0], truth, 6_000).tolist():
        model.learn_one(dict(zip("ab", row, strict=True)))
    found = model.covariance
    np.testing.assert_allclose([[found[a, b] for b in "ab"] for a in "ab"], truth, atol=0.25)
    assert model.mean == {"a": pytest.approx(10.0, abs=0.2), "b": pytest.approx(-5.0, abs=0.2)}


def test_a_later_feature_starts_where_it_is_first_seen():
    model = ClippedMean()
    for i in range(5_000):
        model.learn_one({"a": 1.0 + i % 2} if i < 4_999 else {"a": 1.0, "late": 1e6})
    assert model.mean["late"] == 1e6
    assert model.score_one({"a": 1.5, "late": 1e6}) < 2.0


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
    for i, (x, y) in enumerate(classification(6_000)):
        label = y if i < 2_000 else not y
        if 1_000 <= i < 2_000 or i >= 4_000:
            right.append(model.predict_one(x) == label)
            likelier.append(label)
        model.learn_one(x, label)
    assert np.mean(right) > 0.85 > max(np.mean(likelier), 1 - np.mean(likelier)) + 0.2


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


def scored(law: str, n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return {
        "normal": lambda: rng.normal(-7.0, 2.0, n),
        "uniform": lambda: rng.random(n),
        "lognormal": lambda: rng.lognormal(3.0, 1.0, n),
        "heavy": lambda: 1e6 * rng.pareto(2.5, n),
        "left": lambda: -rng.lognormal(3.0, 1.0, n),
    }[law]().tolist()


class Given(base.AnomalyDetector):
    """A detector whose score is what it is given."""

    def score_one(self, x):
        return x["score"]

    def learn_one(self, x):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("law", ["normal", "uniform", "lognormal", "heavy", "left"])
def test_the_share_of_scores_above_the_threshold_is_the_target_rate(law):
    model, flagged = AdaptiveThreshold(Given()), 0
    for i, score in enumerate(scored(law, 12_000)):
        flagged += i >= 4_000 and model.classify(score)
        model.learn_one({"score": score})
    assert 0.006 < flagged / 8_000 < 0.014


def test_the_threshold_is_where_classification_changes():
    model = AdaptiveThreshold(Given())
    assert model.threshold == math.inf
    for score in scored("lognormal", 1_000):
        model.learn_one({"score": score})
    assert model.classify(1.001 * model.threshold)
    assert not model.classify(0.999 * model.threshold)
    assert not model.classify(math.nan)
    assert model.classify(math.inf)


def test_a_trickle_of_anomalies_does_not_lift_the_threshold_over_itself():
    rng = np.random.default_rng(6)
    model, caught, false = AdaptiveThreshold(Given()), [], []
    for i, score in enumerate(scored("lognormal", 10_000)):
        odd = bool(rng.random() < 0.02)
        score = 2e4 if odd else score
        if i >= 2_000:
            (caught if odd else false).append(model.classify(score))
        model.learn_one({"score": score})
    assert np.mean(caught) > 0.95
    assert np.mean(false) < 0.02


def test_a_burst_of_high_scores_is_flagged_to_its_end_and_a_new_regime_is_not_for_ever():
    model = AdaptiveThreshold(Given(), patience=2_000)
    stream = np.array(scored("normal", 12_000))
    stream[4_000:5_000] += 40.0
    stream[7_000:] += 40.0
    flags = []
    for score in stream.tolist():
        flags.append(model.classify(score))
        model.learn_one({"score": score})
    assert np.mean(flags[4_000:5_000]) == 1.0
    assert np.mean(flags[5_000:7_000]) < 0.03
    assert np.mean(flags[7_000:8_900]) == 1.0
    assert np.mean(flags[9_500:]) < 0.03


@pytest.mark.parametrize("protect", [False, True])
def test_a_protected_detector_is_not_taught_what_is_flagged(protect):
    class Counting(Given):
        learned = 0

        def learn_one(self, x):
            self.learned += 1

    model = AdaptiveThreshold(Counting(), protect_anomaly_detector=protect)
    for score in [*scored("normal", 500), *[1e3] * 10]:
        model.learn_one({"score": score})
    assert (model.anomaly_detector.learned <= 500) == protect


def test_an_adaptive_threshold_filters_in_a_pipeline_and_takes_frames():
    one, many = (AdaptiveThreshold(anomaly.HalfSpaceTrees(seed=1, window_size=20)) for _ in range(2))
    stream = list(vanishing(events(200)))
    stream = [{name: v for name, v in x.items() if v is not None and v == v} for x in stream]
    expected = []
    for x in stream:
        expected.append(one.score_learn_one(x))
    many.learn_many(pd.DataFrame(stream[:90]))
    many.learn_many(pl.DataFrame(stream[90:]))
    X = pd.DataFrame(stream)
    assert many.score_many(X).to_list() == [one.score_one(x) for x in stream]
    assert many.threshold == one.threshold
    copies = [pickle.loads(pickle.dumps(many)), copy.deepcopy(many)]
    assert [other.threshold for other in copies] == [one.threshold] * 2
    assert one.clone().threshold == math.inf
    pipeline = compose.Pipeline(
        preprocessing.MinMaxScaler(), AdaptiveThreshold(anomaly.HalfSpaceTrees(seed=1)), ClippedLinearRegression()
    )
    for x, y in regression(300):
        pipeline.predict_one(x)
        pipeline.learn_one(x, y)
    assert pipeline["AdaptiveThreshold"].threshold < math.inf


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-6, 0.0), (1e12, 1e12), (1.0, 1e9)])
def test_a_change_of_the_mean_is_found_once_and_located(scale, shift):
    rng = np.random.default_rng(7)
    values = rng.standard_t(3, 3_000) * scale + shift
    values[2_000:] += 2.0 * scale
    model, found = ClippedChangePoint(), []
    begin = end = -1
    for i, value in enumerate(values.tolist()):
        model.update(value)
        if model.drift_detected:
            found.append(i)
            begin, end = model.location
    assert len(found) == 1 == model.n_detections
    assert 2_000 <= found[0] < 2_100
    assert begin <= 2_000 <= end + 20
    assert (model.mean - shift) / scale == pytest.approx(2.0, abs=0.3)


def test_a_change_point_detector_pickles_copies_clones_and_takes_many_features():
    rng = np.random.default_rng(8)
    model = ClippedChangePoint(n_features=3)
    for row in rng.normal(5.0, 1.0, (300, 3)).tolist():
        model.update(row)
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for row in rng.normal(9.0, 1.0, (100, 3)).tolist():
        for detector in (model, *copies):
            detector.update(row)
        assert len({detector.drift_detected for detector in (model, *copies)}) == 1
    assert model.n_detections == 1
    assert copies[0].mean == copies[1].mean == model.mean
    assert model.clone().location is None
    assert np.isnan(model.clone().mean).all()


def test_a_missing_or_absurd_value_is_no_change():
    model = ClippedChangePoint()
    model.update(math.nan)
    assert math.isnan(model.mean)
    for i, value in enumerate(np.random.default_rng(9).normal(size=1_000).tolist()):
        model.update({400: math.nan, 500: math.inf, 600: 1e300, 700: -3e38}.get(i, value))
        assert not model.drift_detected
    assert abs(model.mean) < 0.3


def test_a_change_point_detector_serves_where_river_takes_one():
    model = drift.DriftRetrainingClassifier(
        ClippedLogisticRegression(), ClippedChangePoint(), train_in_background=False
    )
    for x, y in classification(100):
        model.predict_one(x)
        model.learn_one(x, y)


def test_a_detector_is_what_its_parameters_say():
    model = SeriesDetector(target_rate=0.02, pause=24)
    assert model.clone()._get_params() == model._get_params()
    assert model._model.estimator.pause == 24.0
    assert DriftRobustDetector(0.05, 10)._model.estimator == JointDetector(0.05, 10.0)
