"""The laws of the default detector of a numeric series, on streams long enough to show them."""

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onlineguard import Engine
from onlineguard.models.detector import Detector
from onlineguard.models.series import GROWTH, Series
from tests.support.strategies import streams


def judged(x, estimator=None, rate=0.01, **options):
    """Verdicts of one stream (n,) or (n, d)."""
    x = np.reshape(x, (len(x), -1))
    return Engine(x.shape[1], rate, estimator=estimator or Series(rate, **options)).update(np.zeros(len(x), int), x)


def alarms(verdicts, start=0, end=None):
    """Where runs of anomalous events begin."""
    flags = verdicts.anomalous[start:end].astype(int)
    return start + np.flatnonzero(np.diff(flags, prepend=0) == 1)


def autocorrelated(rng, n, rho=0.9):
    x = rng.standard_normal(n)
    for t in range(1, n):
        x[t] += rho * x[t - 1]
    return x


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_a_phase_slip_is_an_alarm_where_the_period_is_named_and_none_for_a_plain_detector(noise):
    rng = np.random.default_rng(1)
    t = np.arange(8_000)
    x = np.sin(2 * np.pi * (t + 50 * (t >= 6_000)) / 100) + noise * rng.standard_normal(8_000)
    slip, before = slice(6_000, 6_040), slice(2_000, 6_000)
    verdicts, plain = judged(x, period=100, rate=0.002), judged(x, Detector(0.002), rate=0.002)
    assert verdicts.anomalous[slip].any()
    assert len(alarms(verdicts, 2_000, 6_000)) <= 10
    assert plain.score[slip].max() < plain.score[before].max()
    assert not plain.anomalous[slip].any()


@pytest.mark.slow
def test_the_regression_learns_how_a_series_depends_on_its_past():
    rng = np.random.default_rng(2)
    engine = Engine(1, estimator=Series(lags=2))
    engine.update(np.zeros(20_000, int), autocorrelated(rng, 20_000)[:, None])
    state = engine.state(0)
    np.testing.assert_allclose(state.weights[:, 0], [0.9, 0.0], atol=0.15)
    value, unexplained = state.detector.slow.scale
    assert unexplained < 0.55 * value  # the innovation's share of the deviation is sqrt(1 - 0.9^2) = 0.44


@pytest.mark.slow
@pytest.mark.parametrize("law", ["standard_normal", "standard_exponential"])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05])
def test_the_share_of_events_that_are_alarms_is_at_most_the_target_rate_and_near_it(law, rate):
    x = getattr(np.random.default_rng(3), law)(40_000)
    share = judged(x, rate=rate).anomalous[10_000:].mean()
    assert 0.5 * rate < share < 1.3 * rate


@pytest.mark.parametrize("size", [8.0, 20.0, 1_000.0])
def test_a_level_shift_is_one_alarm_and_counts_as_usual_after_patience(size):
    rng = np.random.default_rng(4)
    x = rng.standard_normal(12_000)
    x[5_000:] += size
    verdicts = judged(x, patience=3_000)
    assert verdicts.anomalous[5_000]
    assert len(alarms(verdicts, 5_000, 5_072)) == 1  # one, while it is held
    usual = len(alarms(verdicts, 2_000, 5_000))
    assert len(alarms(verdicts, 5_000, 8_000)) < 1.5 * usual + 5  # and no more than ever while the level stays odd
    assert len(alarms(verdicts, 8_100, 11_100)) < 1.5 * usual + 5
    assert verdicts.anomalous[5_000:].mean() < 0.015


def test_an_alarm_is_held_and_fades():
    rng = np.random.default_rng(5)
    x = rng.standard_normal(6_000)
    x[5_000:5_010] += 100.0
    for hold in (36.0, 144.0):
        verdicts = judged(x, hold=hold)
        score, threshold = verdicts.score, verdicts.threshold
        assert len(alarms(verdicts, 5_000, 5_010)) == 1
        held = slice(5_010, 5_000 + int(0.9 * hold))
        assert (score[held] > score[2_000:5_000].mean()).all()
        assert (np.diff(score[held]) <= 0).all()
        assert not verdicts.anomalous[held].any()  # though nothing was learned to be usual, nothing odder has come
        assert threshold[5_011] > 1.5 * threshold[4_999]
        assert threshold[5_010 + 2 * int(hold)] < 1.1 * threshold[4_999]


def test_what_a_series_did_an_hour_ago_is_no_news_and_what_is_twice_as_far_is():
    rng = np.random.default_rng(6)
    x = rng.standard_normal(6_000)
    x[1_000::100] = 40.0
    flagged = judged(x, rate=0.002).anomalous
    assert flagged[1_000:1_400:100].all()
    assert flagged[3_000::100].mean() < 0.4  # of what is one event in a hundred
    x[5_000] = 80.0
    assert judged(x, rate=0.002).anomalous[5_000]


@pytest.mark.parametrize("value", [1e6, -1e30, np.nan, np.inf])
def test_one_odd_value_leaves_nothing_to_be_seen_500_events_later(value):
    rng = np.random.default_rng(7)
    x = rng.standard_normal(6_000)
    hit = x.copy()
    hit[5_000] = value
    a, b = judged(x), judged(hit)
    np.testing.assert_array_equal(b.anomalous[5_500:], a.anomalous[5_500:])
    after = slice(5_600, None)  # an alarm of the meantime, smaller for the higher record, has faded as well
    np.testing.assert_allclose(b.score[after], a.score[after], rtol=0.02, atol=0.02)
    np.testing.assert_allclose(b.threshold[after], a.threshold[after], rtol=0.02)
    assert not np.isfinite(value) or b.anomalous[5_000]


def test_an_event_without_a_value_changes_nothing():
    x = np.random.default_rng(8).standard_normal((500, 2)).astype(np.float32)
    x[::7, 0] = np.nan
    params = Series(period=5)
    with np.errstate(all="ignore"):
        state = params.init(2)
        for event in x:
            state, _ = params.step(state, event)
        after, judgement = params.step(state, np.array([np.nan, np.inf], np.float32))
    assert np.isnan(judgement.score)
    assert judgement.ready == 0
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("level", [0.0, 5.0, -3e5, 1e12])
def test_a_constant_series_raises_no_alarm_and_a_step_away_from_it_one(level):
    x = np.full(4_000, level, np.float32)
    x[2_000] = np.nextafter(np.float32(level), np.float32(np.inf)) if level else 0.0
    assert not judged(x).anomalous.any()
    x[3_000:] = level + max(abs(level), 1.0)
    assert alarms(judged(x)).tolist() == [3_000]


def test_a_series_of_zeros_with_bursts_raises_no_storm_of_alarms():
    rng = np.random.default_rng(9)
    x = np.where(rng.random(20_000) < 0.05, 1e8 * rng.pareto(1.5, 20_000), 0.0)
    assert judged(x).anomalous[2_000:].mean() < 0.015


@settings(max_examples=15)
@given(
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 2.0**20, 1e6, 1e12]),
    shift=st.sampled_from([0.0, 1e-6, 1.0, -1e3, 1e6, 1e12]),
)
def test_scores_do_not_depend_on_the_scale_and_the_zero_of_the_series(scale, shift):
    """As far as float64 can hold the shifted series."""
    x = np.stack([autocorrelated(np.random.default_rng(10), 2_000), np.random.default_rng(11).random(2_000)], axis=1)
    digits = np.spacing(abs(shift) + scale) / scale
    assume(digits <= 1e-3)
    a, b = judged(x, period=10), judged(x * scale + shift, period=10)
    np.testing.assert_allclose(b.score[200:], a.score[200:], rtol=5e-3 + 20 * digits, atol=5e-3 + 20 * digits)


def test_scaling_by_a_power_of_two_changes_no_bit_of_a_score():
    x = autocorrelated(np.random.default_rng(12), 2_000).astype(np.float32)
    for power in (-20, 20, 40):
        np.testing.assert_array_equal(judged(x, period=7).score, judged(x * np.float32(2.0) ** power, period=7).score)


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 400), max_size=5))
def test_a_cut_stream_gets_the_verdicts_of_a_whole_one(cuts):
    x = np.random.default_rng(13).standard_normal((400, 2))
    whole, engine = judged(x, period=7), Engine(2, estimator=Series(period=7))
    parts = [engine.update([0] * len(part), part) for part in np.split(x, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate([part.score for part in parts]), whole.score)
    np.testing.assert_array_equal(np.concatenate([part.threshold for part in parts]), whole.threshold)


def eager(params, events):
    """Scores and thresholds (n, 2) of the same steps in NumPy."""
    state, rows = params.init(events.shape[1]), []
    with np.errstate(all="ignore"):
        for event in events:
            state, judgement = params.step(state, event)
            rows.append((judgement.score, judgement.threshold))
    return np.array(rows)


@settings(max_examples=20)
@given(events=streams())
def test_numpy_steps_as_the_compiled_loop_does(events):
    compiled = judged(events, period=3, lags=2)
    expected = eager(Series(period=3, lags=2), events)
    np.testing.assert_allclose(np.stack([compiled.score, compiled.threshold], axis=1), expected, rtol=1e-5, atol=1e-6)


def test_numpy_steps_as_the_compiled_loop_does_once_there_are_alarms():
    x = autocorrelated(np.random.default_rng(14), 800).astype(np.float32)[:, None]
    x[600:620] += 30.0
    compiled = judged(x, period=24)
    expected = eager(Series(period=24), x)
    np.testing.assert_allclose(np.stack([compiled.score, compiled.threshold], axis=1), expected, rtol=1e-4)
    assert compiled.anomalous[600]


@settings(max_examples=20)
@given(events=streams(features=2))
def test_one_event_raises_the_record_at_most_by_half_and_moves_the_weights_at_most_a_little(events):
    params = Series()
    state = params.init(2)
    with np.errstate(all="ignore"):
        for event in events:
            before, (state, _) = state, params.step(state, event)
            assert state.record <= GROWTH * before.record * (1 + 1e-6)
            assert np.isfinite(state.weights).all()
            spread, scale = before.detector.slow.scale[2:], before.detector.slow.scale[:2]
            limit = 0.02 * 2.5 * spread / scale + 1e-3 * np.abs(before.weights)
            known = np.isfinite(limit).all(axis=0)
            assert (np.abs(state.weights - before.weights)[:, known] <= limit[:, known] + 1e-6).all()


def test_a_new_slice_starts_from_the_weights_and_quantiles_of_the_others_and_its_own_location():
    rng = np.random.default_rng(15)
    engine = Engine(1, estimator=Series())
    for slice_ in range(3):
        engine.update([slice_] * 2_000, 10.0 ** (3 * slice_) * autocorrelated(rng, 2_000)[:, None])
    engine.update(["new"] * 2, [[5e9], [6e9]])
    state = engine.state("new")
    assert state.detector.slow.location[0] in (5e9, 6e9)
    np.testing.assert_allclose(state.weights[0], engine.state(1).weights[0], atol=0.3)
    np.testing.assert_allclose(state.quantile, engine.state(1).quantile, rtol=0.2)


def test_explain_names_the_feature_that_left_its_course():
    rng = np.random.default_rng(16)
    engine = Engine(features=["load", "heat"], estimator=Series())
    engine.update(["a"] * 1_000, rng.standard_normal((1_000, 2)))
    shares = engine.explain("a", [0.1, 30.0])
    assert next(iter(shares)) == "heat"
    assert shares["heat"] > 0.9
