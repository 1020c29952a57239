"""What the operator says of features: one-sided ones, and weights."""

import numpy as np
import pytest

from onlineguard import Detector, Engine, InvalidArgument, JointDetector
from tests.support.long import updated


def learned(**options):
    engine = Engine(features=["load", "latency"], **options)
    updated(engine, "a", np.random.default_rng(0).normal(10.0, 1.0, (1_000, 2)))
    return engine


def test_of_a_feature_of_which_only_high_values_are_odd_no_low_one_is():
    engine = learned(only_high=["latency"])
    assert engine.score(["a"] * 2, [[10.0, 0.0], [10.0, 20.0]]).anomalous.tolist() == [False, True]
    assert engine.explain("a", [9.0, 0.0])["latency"] == 0.0
    assert learned(only_low=["latency"]).score(["a"] * 2, [[10.0, 0.0], [10.0, 20.0]]).anomalous.tolist() == [
        True,
        False,
    ]


def test_the_other_features_keep_both_sides():
    engine = learned(only_high=["latency"])
    assert engine.score(["a"] * 2, [[0.0, 10.0], [20.0, 10.0]]).anomalous.all()


@pytest.mark.parametrize("kind", [Detector, pytest.param(JointDetector, marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", [{"sides": (0, 1)}, {"weights": (1.0, 3.0)}], ids=str)
def test_the_share_of_usual_events_that_is_flagged_stays_as_asked(kind, options):
    engine = Engine(2, estimator=kind(**options))
    verdicts = updated(engine, "a", np.random.default_rng(1).standard_normal((40_000, 2)))
    assert 0.008 <= verdicts.anomalous[4_000:].mean() <= 0.012


def test_a_feature_counts_by_its_weight():
    plain, heavy, none = (learned(weights=weights) for weights in (None, {"latency": 4.0}, {"latency": 0.0}))
    x = [11.0, 12.0]
    assert heavy.explain("a", x)["latency"] > plain.explain("a", x)["latency"] > none.explain("a", x)["latency"] == 0.0
    assert not none.score(["a"], [[10.0, 1e6]]).anomalous[0]


def test_emphasis_changes_nothing_that_is_learned():
    plain, heavy = learned().describe("a"), learned(weights={"latency": 4.0}, only_low=["load"]).describe("a")
    assert plain["location"] == pytest.approx(heavy["location"], abs=0.05)
    assert plain["scale"] == pytest.approx(heavy["scale"], rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only_high": ["x"]}, "only_high names 'x', which is no feature; they are 'load', 'latency'"),
        ({"only_high": ["load"], "only_low": ["load"]}, "only_low names 'load', which only_high names too"),
        ({"weights": {"load": -1.0}}, "weights gives 'load' -1.0; it must lie from 0"),
        ({"weights": {"load": float("nan")}}, "weights gives 'load' nan"),
    ],
)
def test_what_is_no_emphasis_is_refused(options, message):
    with pytest.raises(InvalidArgument, match=message):
        Engine(features=["load", "latency"], **options)
