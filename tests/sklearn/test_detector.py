"""The engine behind scikit-learn's methods: the same verdicts, and what pipelines and searches need."""

import io
import math
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from onlineguard import Detector, Engine, InvalidArgument, Quantile
from onlineguard.sklearn import LinearRegressor, OutlierDetector, PyODDetector
from tests.support.same import assert_same_engine

X = np.random.default_rng(0).normal([50.0, 3e6], [3.0, 1e5], (900, 2))
ODD = [[50.0, 9e6], [50.0, 3e6]]
SLICES = np.random.default_rng(1).choice(["de", "fr"], 900)


@pytest.mark.parametrize("slices", [None, SLICES], ids=["one stream", "slices"])
def test_pieces_the_whole_and_the_engine_give_the_same_state_and_verdicts_to_the_last_bit(slices):
    def of(rows):
        return None if slices is None else slices[rows]

    whole = OutlierDetector().fit(X, slices=slices)
    pieces, engine = OutlierDetector(), Engine(2)
    keys = "all" if slices is None else slices
    expected = engine.update(keys, X)
    found = [pieces.update(X[rows], of(rows)) for rows in (slice(0, 1), slice(1, 300), slice(300, 900))]
    assert_same_engine(whole.engine_, engine)
    assert_same_engine(pieces.engine_, engine)
    np.testing.assert_array_equal(np.concatenate([each.judgements for each in found]), expected.judgements)
    np.testing.assert_array_equal(whole.judge(X, slices).judgements, engine.score(keys, X).judgements)


def test_fit_forgets_what_was_learned_before():
    again = OutlierDetector().fit(X[:300] * 5.0).fit(X)
    assert_same_engine(again.engine_, OutlierDetector().fit(X).engine_)


def test_the_signs_are_scikit_learns_and_the_verdicts_are_the_engines():
    detector = OutlierDetector(target_rate=0.05).fit(X)
    rows = np.vstack([X, ODD, [[np.nan, np.nan], [np.inf, 3e6]]])
    anomalous = detector.judge(rows).anomalous
    assert 0 < anomalous[:900].sum() < 90
    assert anomalous[900]
    assert not anomalous[901:].any()
    np.testing.assert_array_equal(detector.predict(rows), np.where(anomalous, -1, 1))
    np.testing.assert_array_equal(detector.decision_function(rows) < 0.0, anomalous)
    np.testing.assert_array_equal(detector.predict_proba(rows)[:, 1] > 0.5, anomalous)
    np.testing.assert_array_equal(detector.score_samples(rows) - detector.offset_, detector.decision_function(rows))
    np.testing.assert_allclose(detector.predict_proba(rows).sum(axis=1), 1.0)
    assert detector.score_samples([[np.nan, np.nan]]) == [0.0]
    assert OutlierDetector().fit_predict(X).tolist() == OutlierDetector().fit(X).predict(X).tolist()


def test_each_slice_has_its_own_threshold_and_an_unknown_one_flags_nothing():
    scaled = np.where(SLICES == "de", 1.0, 100.0)[:, None] * X
    detector = OutlierDetector().fit(scaled, slices=SLICES)
    row = 100.0 * X[:1]
    assert [detector.predict(row, slices=[key])[0] for key in ("de", "fr", "jp")] == [-1, 1, 1]


def test_slices_given_to_one_method_alone_are_an_error():
    with pytest.raises(InvalidArgument, match="slices were given to fit, so they must be given here too"):
        OutlierDetector().fit(X, slices=SLICES).predict(X)
    with pytest.raises(InvalidArgument, match="slices were not given to fit; give one key for each row"):
        OutlierDetector().fit(X).predict(X, slices=SLICES)


def test_slices_are_routed_through_a_pipeline():
    with sklearn.config_context(enable_metadata_routing=True):
        detector = OutlierDetector().set_fit_request(slices=True).set_predict_request(slices=True)
        model = make_pipeline(FunctionTransformer(), detector).fit(X, slices=SLICES)
        assert model.predict(X, slices=SLICES).tolist() == model[-1].predict(X, slices=SLICES).tolist()


def test_a_frame_names_the_features():
    frame = pd.DataFrame(X, columns=["load", "bytes"])
    detector = OutlierDetector().fit(frame)
    assert detector.feature_names_in_.tolist() == detector.engine_.features == ["load", "bytes"]
    assert next(iter(detector.engine_.explain("all", {"load": 50.0, "bytes": 9e6}))) == "bytes"
    with pytest.raises(ValueError, match="feature names should match"):
        detector.predict(frame.rename(columns={"load": "cpu"}))


@pytest.mark.slow  # two more models to compile
def test_categories_one_sided_features_weights_and_absence_are_those_of_the_engine():
    frame = pd.DataFrame({"browser": np.where(X[:, 0] > 50.0, "firefox", "chrome"), "ms": X[:, 0]})
    texts = OutlierDetector(categories=["browser"]).fit(frame)
    assert texts.predict(pd.DataFrame({"browser": ["curl", "firefox"], "ms": [50.0, 50.0]})).tolist() == [-1, 1]

    chosen = {"only_high": [0], "weights": {1: 2.0}, "absence": True}
    engine = Engine(2, **chosen)
    engine.update("all", X)
    assert_same_engine(OutlierDetector(**chosen).fit(X).engine_, engine)


def test_texts_that_are_no_categories_are_an_error_that_names_the_way_out():
    frame = pd.DataFrame({"browser": ["firefox", "chrome"] * 9, "ms": X[:18, 0]})
    with pytest.raises(InvalidArgument, match=r"X holds texts: .*'firefox'; name their columns in `categories`"):
        OutlierDetector().fit(frame)
    with pytest.raises(InvalidArgument, match=r"X holds texts: .*'firefox'; encode them as numbers"):
        PyODDetector().fit(frame)


def test_a_target_rate_that_is_set_later_holds_from_the_next_partial_fit_on():
    detector, engine = OutlierDetector().fit(X), Engine(2)
    engine.update("all", X)
    engine.target_rate, engine.patience = 0.1, 50.0
    engine.update("all", X)
    detector.set_params(target_rate=0.1, patience=50.0).partial_fit(X)
    assert_same_engine(detector.engine_, engine)


def test_a_model_of_the_callers_own_keeps_its_own_target_rate():
    own = OutlierDetector(estimator=Detector(0.02)).fit(X).set_params(target_rate=0.1).partial_fit(X)
    assert own.engine_.target_rate == 0.02


COPIES = {
    "pickle": lambda detector, _: pickle.loads(pickle.dumps(detector)),
    "joblib": lambda detector, _: reloaded(detector),
    "save": lambda detector, path: (detector.save(path), type(detector).load(path))[1],
}


def reloaded(detector):
    file = io.BytesIO()
    joblib.dump(detector, file)
    file.seek(0)
    return joblib.load(file)


CHOICES = [
    {},
    pytest.param({"weights": {0: 2.0}, "only_low": (1,), "absence": True}, marks=pytest.mark.slow),
    {"estimator": Detector(0.02)},
]


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("params", CHOICES, ids=str)
def test_a_copy_goes_on_as_the_original(way, params, tmp_path):
    frame = pd.DataFrame(X, columns=["load", "bytes"])
    detector = OutlierDetector(**params).fit(frame, slices=SLICES)
    copy = COPIES[way](detector, tmp_path / "saved")
    assert clone(copy).get_params() == clone(detector).get_params()
    for each in (detector, copy):
        each.partial_fit(frame, slices=SLICES)
    assert_same_engine(copy.engine_, detector.engine_)
    np.testing.assert_array_equal(copy.decision_function(frame, SLICES), detector.decision_function(frame, SLICES))
    assert copy.feature_names_in_.tolist() == ["load", "bytes"]


def test_a_file_of_another_estimator_is_refused_by_name(tmp_path):
    OutlierDetector().fit(X).save(tmp_path / "detector")
    with pytest.raises(InvalidArgument, match=r"path is '.*', which holds a OutlierDetector, not a LinearRegressor"):
        LinearRegressor.load(tmp_path / "detector")
    engine = Engine(2)
    engine.save(tmp_path / "engine")
    with pytest.raises(InvalidArgument, match=r"which holds a plain Engine: use Engine\.load"):
        OutlierDetector.load(tmp_path / "engine")
    assert Engine.load(tmp_path / "detector").n_events == 900
    with pytest.raises(NotFittedError):
        OutlierDetector().save(tmp_path / "nothing")


def test_pyods_conventions_hold():
    detector = PyODDetector(contamination=0.3).fit(X)
    assert detector.threshold_ == np.percentile(detector.decision_scores_, 70.0)
    np.testing.assert_array_equal(detector.labels_, detector.decision_scores_ > detector.threshold_)
    assert detector.labels_.sum() == 270
    np.testing.assert_array_equal(detector.decision_function(X), detector.decision_scores_)
    np.testing.assert_array_equal(detector.predict(X), detector.labels_)
    assert PyODDetector(contamination=0.3).fit_predict(X).tolist() == detector.labels_.tolist()
    np.testing.assert_array_equal(detector.predict_proba(X)[:, 1] > 0.5, detector.labels_ == 1)
    assert detector.predict(ODD).tolist() == [1, 0]


def test_pyods_confidence_is_the_chance_that_a_label_would_be_given_again():
    detector = PyODDetector(contamination=0.1).fit(X[:300])
    labels, confidence = detector.predict(X[300:330], return_confidence=True)
    np.testing.assert_array_equal(labels, detector.predict(X[300:330]))
    np.testing.assert_array_equal(confidence, detector.predict_confidence(X[300:330]))
    for score, label, found in zip(detector.decision_function(X[300:330]), labels, confidence, strict=True):
        p = (1 + sum(seen <= score for seen in detector.decision_scores_)) / 302  # of a lower score, by Laplace's rule
        beyond = sum(math.comb(300, k) * p**k * (1.0 - p) ** (300 - k) for k in range(271, 301))
        assert found == pytest.approx(beyond if label else 1.0 - beyond, abs=1e-9)


def test_pyods_threshold_stays_while_more_is_learned(tmp_path):
    detector = PyODDetector(contamination=0.1).partial_fit(X[:500])
    threshold = detector.threshold_
    detector.partial_fit(X[500:])
    assert detector.threshold_ == threshold
    assert len(detector.labels_) == 400
    detector.save(tmp_path / "saved")
    copy = PyODDetector.load(tmp_path / "saved")
    np.testing.assert_array_equal(copy.labels_, detector.labels_)
    np.testing.assert_array_equal(copy.predict_proba(X), detector.predict_proba(X))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OutlierDetector(target_rate=0.5), r"target_rate is 0\.5; it must lie in \(0, 0\.2\]"),
        (lambda: OutlierDetector(only_high=["cpu"]), "only_high names 'cpu', which is no feature"),
        (lambda: OutlierDetector(estimator=Quantile), "estimator is .* which is not a pytree"),
        (lambda: PyODDetector(contamination=0.6), r"contamination is 0\.6; it must lie in \(0, 0\.5\]"),
        (lambda: PyODDetector(contamination="auto"), r"contamination is 'auto'; it must lie in \(0, 0\.5\]"),
    ],
)
def test_a_bad_parameter_is_named_by_fit(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make().fit(X)
