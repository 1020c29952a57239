"""The change point detector behind river's methods."""

import copy
import math
import pickle

import numpy as np
import pytest
from river import drift

from onlineguard.estimators import ClippedChangePoint, ClippedLogisticRegression
from tests.support.river_streams import classification


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
