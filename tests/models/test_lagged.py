"""Lags: a value that is usual by itself can be odd for what came before it."""

import numpy as np
import pytest

from onlineguard import Detector, Engine, InvalidArgument, JointDetector, Lagged
from tests.support.long import updated

NAN = float("nan")


def wave(rng, n):
    """Up and down, with a little noise: each value follows from the two before it."""
    return (np.sin(np.arange(n) / 3.0) + rng.normal(0.0, 0.05, n))[:, None]


@pytest.fixture(scope="module")
def engine():
    engine = Engine(features=["load"], estimator=Lagged(JointDetector(), 2))
    updated(engine, "a", wave(np.random.default_rng(0), 6_000))
    return engine


def test_a_value_is_judged_by_those_before_it(engine):
    follows, out_of_turn = np.sin(6_000 / 3.0), -np.sin(6_000 / 3.0)
    lagged = engine.score(["a"] * 2, [[follows], [out_of_turn]])
    assert lagged.anomalous.tolist() == [False, True]
    alone = Engine(features=["load"])
    updated(alone, "a", wave(np.random.default_rng(0), 6_000))
    assert not alone.score("a", [[follows], [out_of_turn]]).anomalous.any()


def test_the_share_of_events_flagged_is_the_one_asked_for():
    verdicts = updated(
        Engine(1, estimator=Lagged(Detector(), 3)), "a", np.random.default_rng(1).normal(size=(40_000, 1))
    )
    assert 0.007 <= verdicts.anomalous[4_000:].mean() <= 0.013


def test_an_event_with_those_before_it_is_judged_as_one_longer_event():
    rng = np.random.default_rng(2)
    x = rng.normal(20.0, 4.0, (600, 2)).astype(np.float32)
    before = np.full_like(x, NAN)
    before[1:] = x[:-1]
    lagged = Engine(2, estimator=Lagged(Detector(), 1)).update("a", x)
    longer = Engine(4, estimator=Detector()).update("a", np.hstack([x, before]))
    np.testing.assert_array_equal(lagged.score, longer.score)
    np.testing.assert_array_equal(lagged.threshold, longer.threshold)


def test_an_event_without_a_feature_is_none_of_those_before_and_a_missing_one_stays_missing():
    x = np.random.default_rng(3).normal(size=(300, 2)).astype(np.float32)
    gaps = np.insert(x, [100, 200], NAN, axis=0)
    one, other = (Engine(2, estimator=Lagged(Detector(), 2)) for _ in range(2))
    one.update("a", x)
    other.update("a", gaps)
    np.testing.assert_array_equal(one.state("a").latest, other.state("a").latest)
    one.update("a", [[NAN, 5.0]])
    np.testing.assert_array_equal(one.state("a").latest[0], np.float32([NAN, 5.0]))


def test_features_come_and_go_and_what_came_before_goes_along():
    rng = np.random.default_rng(4)
    x = rng.normal(1e9, 4.0, (2_000, 2))  # counted from an origin
    engine = Engine(features=["a", "b"], estimator=Lagged(Detector(), 2))
    engine.update("s", x)
    narrow = engine.with_features(["b"])
    assert narrow.model.width(1) <= engine.model.width(2)
    np.testing.assert_array_equal(narrow.state("s").latest, engine.state("s").latest[:, 1:])
    np.testing.assert_allclose(narrow.state("s").latest[0, 0], x[-1, 1], rtol=1e-9)
    alone = Engine(features=["b"], estimator=Lagged(Detector(), 2))
    alone.update("s", x[:, 1:])
    near = alone.score("s", x[:5, 1:]).score  # which of the events were odd, and taught less, differs
    np.testing.assert_allclose(narrow.score("s", x[:5, 1:]).score, near, rtol=0.05)
    wide = narrow.with_features(["c", "b"])
    np.testing.assert_array_equal(wide.state("s").latest[:, 0], [NAN, NAN])


def test_reasons_shares_and_what_is_described_are_those_of_the_features(engine, tmp_path):
    engine.save(tmp_path / "e")
    loaded = Engine.load(tmp_path / "e")
    assert loaded.model == engine.model
    for each in (engine, loaded):
        assert each.explain("a", [0.0]) == {"load": 1.0}
        assert set(each.describe("a")["location"]) == {"load"}
        assert each.describe("a")["lags"] == 2
        expected = each.reasons("a", [0.0])["expected"]["load"]
        assert expected == pytest.approx(np.sin(2_000.0), abs=0.3)


def test_a_series_needs_no_lags():
    from onlineguard.engine.arguments import named_model

    with pytest.raises(InvalidArgument, match="lags is 2, but the detector is series"):
        named_model("series", lags=2)
