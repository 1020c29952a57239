"""The laws of the default model for points, and the cases that a model of marginals gets wrong."""

import numpy as np
import pytest
from hypothesis import given, settings

from benchmarks import bench_cases
from onlineguard import Detector, Engine, InvalidArgument, JointDetector
from onlineguard.engine.arguments import row_bytes
from tests.support.long import updated
from tests.support.strategies import streams, tame_streams


def judged(x):
    """Scores and flags of a stream (n, d) in one slice, as `bench_cases.judge` gives them."""
    verdicts = updated(Engine(x.shape[1]), "a", x)
    return np.where(verdicts.ready, verdicts.score, 0.0), verdicts.anomalous


def scores(x):
    return updated(Engine(x.shape[1]), "a", x).score


def test_the_joint_detector_is_the_default():
    assert isinstance(Engine(2).model, JointDetector)


def test_what_breaks_a_linear_relation_is_found_though_every_marginal_is_kept():
    figures = bench_cases.low_rank(judged, seed=0, single=False)
    assert figures["auc"] > 0.98
    assert figures["recall"] > 0.6
    assert figures["false"] < 0.02


def test_a_feature_that_comes_late_is_not_odd_by_being_new():
    x = np.random.default_rng(0).normal(size=(6_000, 8))
    for late, start in enumerate(range(3_000, 6_000, 500), 2):
        x[:start, late] = np.nan
    flags = updated(Engine(8), "a", x).anomalous
    soon = np.concatenate([flags[start : start + 100] for start in range(3_000, 6_000, 500)])
    assert soon.mean() < 0.08  # the sample still lacks the feature
    assert flags[3_000:].mean() < 0.03


@pytest.mark.parametrize("ones", [0.05, pytest.param(0.1, marks=pytest.mark.slow)])
def test_a_far_value_is_found_beside_a_binary_feature(ones):
    figures = bench_cases.with_binary(judged, seed=0, ones=ones)
    assert figures["auc"] > 0.999
    assert figures["recall"] > 0.95


@pytest.mark.parametrize("amounts", ["exponential", "standard_cauchy"])
def test_rare_values_of_sparse_features_are_usual_though_their_scores_stand_apart(amounts):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6_000, 8))
    sparse = rng.random((6_000, 6)) < 0.01  # so that 6 % of the events have a rare value
    x[:, :6] = np.where(sparse, getattr(rng, amounts)(size=(6_000, 6)), 0.0)
    flags = updated(Engine(8), "a", x).anomalous
    assert 0.003 < flags[1_000:].mean() < 0.02


def test_the_threshold_is_not_spent_on_anomalies_that_stand_apart():
    rng = np.random.default_rng(0)
    x, anomalous = rng.normal(size=(6_000, 8)), rng.random(6_000) < 0.07
    x[:, 7] = rng.random(6_000) < 0.02  # a rare value explains none of them
    x[anomalous, :4] += rng.normal(0.0, 8.0, (anomalous.sum(), 4))
    flags = updated(Engine(8), "a", x).anomalous[2_000:]
    assert flags[anomalous[2_000:]].mean() > 0.6
    assert flags[~anomalous[2_000:]].mean() < 0.02


@pytest.mark.parametrize(
    ("d", "at", "spread", "kind"),
    [
        (5, 0.5, 0.05, "flood"),
        pytest.param(10, 0.5, 0.2, "flood", marks=pytest.mark.slow),
        pytest.param(5, 0.0, 0.05, "flood", marks=pytest.mark.slow),
        pytest.param(10, 0.5, 0.05, "repeat", marks=pytest.mark.slow),
        pytest.param(5, 0.5, 0.05, "two", marks=pytest.mark.slow),
    ],
)
def test_a_flood_of_nearly_identical_events_is_flagged_and_honest_events_after_it_are_not(d, at, spread, kind):
    figures = bench_cases.flooded(judged, 0, d, at, spread, kind)
    assert figures["during"] > 0.9
    assert figures["after"] < 0.02
    assert figures["before"] < 0.015


@pytest.mark.slow
@pytest.mark.parametrize("drift", bench_cases.DRIFTS)
def test_anomalies_are_ranked_and_found_while_the_stream_drifts(drift):
    figures = bench_cases.drifting(judged, 0, drift)
    assert figures["auc"] > 0.98
    assert figures["false"] < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 5, 20])
@pytest.mark.parametrize(
    "law",
    [
        lambda rng, shape: rng.standard_normal(shape),
        lambda rng, shape: rng.standard_t(2.1, shape),
        lambda rng, shape: rng.lognormal(size=shape),
        lambda rng, shape: np.where(rng.random(shape) < 0.9, 0.0, rng.lognormal(size=shape)),
    ],
    ids=["normal", "Student t 2.1", "log-normal", "mostly zeros"],
)
def test_the_share_over_the_threshold_is_near_the_target_rate(law, d):
    x = law(np.random.default_rng(1), (30_000, d))
    assert 0.007 < judged(x)[1][5_000:].mean() < 0.013


def test_a_burst_is_flagged_to_its_end_and_what_follows_is_not():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((16_000, 5))
    x[8_000:10_000] += 10.0
    flagged = judged(x)[1]
    assert flagged[8_000:10_000].mean() > 0.999
    assert flagged[10_000:12_000].mean() < 0.02


def test_regimes_that_come_back_are_learned_though_none_lasts_for_patience():
    rng = np.random.default_rng(0)
    on = (np.arange(12_000) // 400 % 2)[:, None]
    x = np.where(on, 8.0, 0.0) + rng.normal(size=(12_000, 3))
    flags = updated(Engine(3), "a", x).anomalous
    assert flags[400:450].mean() > 0.9  # the first time it is news
    assert flags[4_000:].mean() < 0.02


def test_two_bursts_teach_nothing_and_a_script_may_come_as_often_as_it_likes():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(16_000, 3))
    starts = range(2_000, 16_000, 3_000)
    for start in starts:
        x[start : start + 1_000] = 0.5 + 0.03 * rng.normal(size=(1_000, 3))
    x[8_000:9_000] = 4.0 + rng.normal(size=(1_000, 3))
    flags = updated(Engine(3), "a", x).anomalous
    assert min(flags[start : start + 1_000].mean() for start in starts) > 0.9


def test_a_new_regime_counts_as_usual_after_patience_and_not_before():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((14_000, 5))
    x[8_000:] += 20.0
    flagged = updated(Engine(5, patience=2_000), "a", x).anomalous
    assert flagged[8_000:10_000].mean() > 0.999
    assert flagged[10_500:].mean() < 0.03


@pytest.mark.parametrize("value", [1e6, -1e30, np.nan, np.inf])
def test_one_odd_value_leaves_nothing_to_be_seen_100_events_later(value):
    x = np.random.default_rng(9).standard_normal((6_000, 2))
    hit = x.copy()
    hit[5_000, 0] = value
    a, b = (updated(Engine(2), "a", events) for events in (x, hit))
    # which of two neighbours is kept in the sample may differ, and with it a few scores by a tenth
    np.testing.assert_allclose(b.score[5_100:], a.score[5_100:], rtol=0.2, atol=0.1)
    assert np.isclose(b.score[5_100:], a.score[5_100:], rtol=0.03, atol=0.03).mean() > 0.8
    np.testing.assert_allclose(b.threshold[5_100:], a.threshold[5_100:], rtol=0.03)


@pytest.mark.parametrize("mostly", [False, True])
@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e6, 0.0), (1.0, 1e6), (1.0, -1e9), (1e3, 1e12)])
def test_scores_do_not_depend_on_the_scale_and_the_zero_of_the_stream(scale, shift, mostly):
    """Mostly constant features included; as far as float64 can hold the shifted stream."""
    rng = np.random.default_rng(7)
    x = rng.standard_t(3.0, (3_000, 2))
    if mostly:
        x[rng.random(3_000) < 0.9, 1] = 0.0
    a, b = scores(x), scores(x * scale + shift)
    close = np.isclose(b[200:], a[200:], rtol=0.02, atol=0.02)
    assert close.mean() > 0.995  # at an edge, one digit decides whether an event is learned


@settings(max_examples=20)
@given(events=tame_streams())
def test_numpy_steps_as_the_compiled_loop_does(events):
    compiled = scores(events)
    params = JointDetector()
    state, eager = params.init(events.shape[1]), []
    with np.errstate(all="ignore"):
        for event in events:
            state, judgement = params.step(state, event)
            eager.append(judgement.score)
    np.testing.assert_allclose(np.array(eager), compiled, rtol=1e-3, atol=1e-3)


@settings(max_examples=20)
@given(events=streams())
def test_no_event_makes_a_state_or_a_score_infinite(events):
    engine = Engine(events.shape[1])
    verdicts = engine.update(np.zeros(len(events), int), events)
    known = np.isfinite(events).any(axis=1)
    assert not np.isinf(verdicts.score[known]).any()
    if engine.n_slices:
        state = engine.state(0)
        assert np.isfinite(state.covariance.inverse).all()
        assert np.isfinite(state.scores.threshold)


def test_a_missing_feature_keeps_what_is_known_of_it():
    x = np.random.default_rng(16).standard_normal((2_000, 2)).astype(np.float32)
    engine = Engine(2)
    engine.update(["a"] * 1_000, x[:1_000])
    before = engine.state("a").memories
    x[1_000:, 1] = np.nan
    engine.update(["a"] * 1_000, x[1_000:])
    after = engine.state("a").memories
    for old, new in ((before.slow, after.slow), (before.fast, after.fast)):
        assert new.location[1] == old.location[1]
        assert new.scale[1] == old.scale[1]
        assert new.location[0] != old.location[0]


def test_explain_names_the_two_features_whose_relation_is_broken():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4_000, 5))
    x[:, 1] = x[:, 0] + 0.05 * rng.standard_normal(4_000)
    engine = Engine(features=["a", "b", "c", "d", "e"])
    updated(engine, "s", x)
    shares = engine.explain("s", {"a": 1.0, "b": -1.0, "c": 0.3, "d": -0.3, "e": 0.3})
    assert set(list(shares)[:2]) == {"a", "b"}


def test_describe_names_the_mode_of_a_feature_that_mostly_repeats_it():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2_000, 2))
    x[rng.random(2_000) < 0.9, 1] = 7.0
    engine = Engine(features=["a", "b"])
    updated(engine, "s", x)
    found = engine.describe("s")
    assert found["mode"]["b"] == pytest.approx(7.0)
    assert np.isnan(found["mode"]["a"])


def test_a_new_slice_starts_as_the_typical_one_where_slices_are_alike():
    rng = np.random.default_rng(0)
    keys = np.tile(np.arange(12), 400)
    x = 100.0 + rng.standard_normal((len(keys), 2))
    engine = Engine(2)
    updated(engine, keys, x)
    first = engine.update(["new"], [[100.0, 100.0]])
    state = engine.state("new")
    assert abs(state.memories.slow.location - 100.0).max() < 1.0
    assert first.score[0] < 2.0


def test_the_model_is_the_best_that_fits_the_bytes_of_a_slice():
    joint, marginal = row_bytes(JointDetector(), 20), row_bytes(Detector(), 20)
    assert isinstance(Engine(20, bytes_per_slice=joint).model, JointDetector)
    assert isinstance(Engine(20, bytes_per_slice=joint - 1).model, Detector)
    with pytest.raises(InvalidArgument, match=f"bytes_per_slice is {marginal - 1}; with 20 feature"):
        Engine(20, bytes_per_slice=marginal - 1)
    with pytest.raises(InvalidArgument, match="an estimator is named"):
        Engine(20, bytes_per_slice=10_000, estimator=Detector())
