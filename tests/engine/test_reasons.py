"""The reasons for a score: values in the data's own unit, and the names of features."""

import math

import numpy as np
import pytest

from onlineguard import ClippedSGD, Detector, Engine, Mean, Series


def related(n, seed=0):
    """Events of which b follows a, and c nothing, with b far from zero."""
    rng = np.random.default_rng(seed)
    a = rng.normal(100.0, 5.0, n)
    return np.column_stack([a, 1e9 + a + rng.normal(0.0, 0.1, n), rng.normal(0.0, 1.0, n)])


@pytest.fixture(scope="module")
def engine():
    engine = Engine(features=["a", "b", "c"])
    engine.update("s", related(3_000))
    return engine


def test_the_pair_whose_relation_is_broken_is_named_with_what_was_expected(engine):
    reasons = engine.reasons("s", [110.0, 1e9 + 90.0, 0.0])
    assert reasons["pair"] == ("a", "b")
    assert reasons["expected"]["a"] == pytest.approx(90.0, abs=2.0)
    assert reasons["expected"]["b"] == pytest.approx(1e9 + 110.0, abs=2.0)
    assert 80.0 < reasons["nearest"]["a"] < 120.0
    assert reasons["nearest"]["b"] - 1e9 == pytest.approx(reasons["nearest"]["a"], abs=2.0)


def test_no_pair_is_named_where_one_feature_alone_is_odd(engine):
    reasons = engine.reasons("s", [100.0, 1e9 + 100.0, 50.0])
    assert "pair" not in reasons
    assert abs(reasons["expected"]["c"]) < 1.0


def test_a_missing_feature_has_no_reason_and_nothing_is_learned(engine):
    before = engine.score("s", [[100.0, 1e9 + 100.0, 0.0]]).score
    reasons = engine.reasons("s", {"a": 100.0, "b": None, "c": 0.0})
    assert math.isnan(reasons["expected"]["b"])
    assert math.isnan(reasons["nearest"]["b"])
    assert engine.score("s", [[100.0, 1e9 + 100.0, 0.0]]).score == before
    with pytest.raises(KeyError):
        engine.reasons("never seen", [1.0, 2.0, 3.0])


def test_a_mostly_constant_feature_is_expected_at_its_mode():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(0.0, 1.0, 3_000), np.where(rng.random(3_000) < 0.05, 1.0, 7.0)])
    engine = Engine(2)
    engine.update("s", X)
    assert engine.reasons("s", [0.0, 7.0])["expected"][1] == 7.0


def test_a_marginal_detector_says_how_many_scales_a_value_is_off():
    engine = Engine(features=["a", "b", "c"], estimator=Detector())
    engine.update("s", related(3_000))
    reasons = engine.reasons("s", [150.0, 1e9 + 100.0, 0.0])
    assert reasons["expected"]["b"] == pytest.approx(1e9 + 100.0, abs=2.0)
    assert reasons["scales"]["a"] == pytest.approx(10.0, rel=0.2)


def test_a_series_names_the_nearest_past_value_the_forecast_and_the_same_time():
    time = np.arange(3_000)
    noise = np.random.default_rng(0).normal(0.0, 0.5, 3_000)
    engine = Engine(features=["load"], estimator=Series())
    engine.update("s", (1e8 + 10.0 * np.sin(2 * np.pi * time / 144) + noise)[:, None])
    reasons = engine.reasons("s", [1e8 + 500.0])
    now = 1e8 + 10.0 * math.sin(2 * math.pi * 3_000 / 144)
    assert reasons["nearest"]["load"] == pytest.approx(1e8 + 11.0, abs=1.5)
    assert reasons["forecast"]["load"] == pytest.approx(now, abs=3.0)
    assert reasons["same_time"]["load"] == pytest.approx(now, abs=6.0)
    assert reasons["value"]["load"] > 2.0


def test_a_category_has_its_share_and_no_expected_value():
    rng = np.random.default_rng(0)
    events = [{"ms": rng.normal(100.0, 5.0), "country": "de" if rng.random() < 0.75 else "fr"} for _ in range(2_000)]
    engine = Engine(features=["ms", "country"])
    engine.update("s", events)
    reasons = engine.reasons("s", {"ms": 100.0, "country": "de"})
    assert reasons["share"]["country"] == pytest.approx(0.75, abs=0.05)
    assert math.isnan(reasons["share"]["ms"])
    assert math.isnan(reasons["expected"]["country"])
    assert reasons["expected"]["ms"] == pytest.approx(100.0, abs=2.0)


def test_no_pair_is_of_a_feature_and_the_absence_of_others():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4_000, 2))
    X[(X[:, 0] > 1.0) & (rng.random(4_000) < 0.9), 1] = np.nan  # b is mostly absent where a is high
    engine = Engine(features=["a", "b"], absence=True)
    engine.update("s", X)
    reasons = engine.reasons("s", [-2.5, np.nan])  # and now where it is low
    assert set(reasons) == {"expected", "nearest"}
    assert math.isnan(reasons["expected"]["b"])


def test_an_estimator_without_reasons_gives_none():
    engine = Engine(2, estimator=ClippedSGD(Mean(2)))
    engine.update("s", np.random.default_rng(0).normal(size=(200, 2)))
    assert engine.reasons("s", [0.0, 0.0]) == {}
