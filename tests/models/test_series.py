"""The laws of the default detector of a numeric series, on streams long enough to show them."""

import math

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onlineguard import Engine
from onlineguard.core.registry import from_plain
from onlineguard.errors import CheckpointError
from onlineguard.models.detector import Detector
from onlineguard.models.series import PAUSE, READY, USUAL_RATE, Series
from tests.support.long import updated
from tests.support.strategies import streams


def judged(x, estimator=None, **options):
    """Verdicts of one stream (n,) or (n, d)."""
    x = np.reshape(x, (len(x), -1))
    return updated(Engine(x.shape[1], estimator=estimator or Series(**options)), "a", x)


def alarms(verdicts, start=0, end=None):
    """Where alarms are."""
    return (start + np.flatnonzero(verdicts.anomalous[start:end])).tolist()


def autocorrelated(rng, n, rho=0.9):
    x = rng.standard_normal(n)
    for t in range(1, n):
        x[t] += rho * x[t - 1]
    return x


def daily(rng, n, period=288, noise=0.1):
    return np.sin(2 * np.pi * np.arange(n) / period) + noise * rng.standard_normal(n)


@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_a_phase_slip_is_an_alarm_though_nobody_named_a_period_and_none_for_a_plain_detector(noise):
    x = daily(np.random.default_rng(1), 8_000, 100, 0.0)
    x[6_000:] = np.roll(x, -40)[6_000:]
    x += noise * np.random.default_rng(2).standard_normal(8_000)
    slip, before = slice(6_000, 6_040), slice(2_000, 6_000)
    verdicts, plain = judged(x), judged(x, Detector(0.002))
    assert verdicts.anomalous[slip].any()
    assert len(alarms(verdicts, 2_000, 6_000)) <= 2
    assert plain.score[slip].max() < plain.score[before].max()
    assert not plain.anomalous[slip].any()


@pytest.mark.parametrize("law", ["normal", "exponential", "autocorrelated", "counts", "daily"])
def test_few_events_of_a_usual_series_are_alarms(law):
    rng = np.random.default_rng(3)
    x = {
        "normal": lambda: rng.standard_normal(20_000),
        "exponential": lambda: rng.standard_exponential(20_000),
        "autocorrelated": lambda: autocorrelated(rng, 20_000),
        "counts": lambda: rng.poisson(5.0, 20_000),
        "daily": lambda: daily(rng, 20_000),
    }[law]()
    assert len(alarms(judged(x))) <= 2 * USUAL_RATE * 20_000


def test_a_tenfold_lower_rate_asks_for_one_more_decade():
    x = np.random.default_rng(4).standard_normal(2_000)
    often, seldom = judged(x, target_rate=0.01), judged(x, target_rate=0.001)
    np.testing.assert_array_equal(often.score, seldom.score)
    held = np.isfinite(often.threshold) & np.isfinite(seldom.threshold)
    np.testing.assert_allclose(seldom.threshold[held], 10.0 * often.threshold[held], rtol=1e-5)
    assert 0 < len(alarms(seldom)) < len(alarms(often))


@pytest.mark.parametrize("size", [8.0, 20.0, 1_000.0])
def test_a_level_shift_is_one_alarm_and_few_more_until_it_is_usual(size):
    rng = np.random.default_rng(4)
    x = rng.standard_normal(12_000)
    x[5_000:] += size
    verdicts = judged(x)
    assert verdicts.anomalous[5_000]
    assert len(alarms(verdicts, 5_000, 5_500)) <= 5
    assert len(alarms(verdicts, 6_000, 12_000)) <= 6


def test_a_burst_is_an_alarm_when_it_begins_and_none_in_the_pause_after_it_though_its_scores_stay_its_own():
    rng = np.random.default_rng(5)
    x = rng.standard_normal(6_000)
    x[5_000:5_010] += 100.0 * np.arange(1, 11)
    for pause in (20.0, 100.0):
        verdicts = judged(x, pause=pause)
        shade = slice(5_001, 5_001 + int(pause))
        assert alarms(verdicts, 4_900, 5_001) == [5_000]
        assert np.isinf(verdicts.threshold[shade]).all()
        assert not verdicts.anomalous[shade].any()
        assert np.isfinite(verdicts.threshold[5_001 + int(pause)])
        assert (verdicts.score[5_001:5_010] > 1.0 / USUAL_RATE).all()  # each further off than all before it
        assert np.median(verdicts.score[5_010 : 5_001 + int(pause)]) < 0.5 / USUAL_RATE  # and what follows is not


def test_anomalies_in_a_row_are_one_alarm_a_pause():
    x = np.random.default_rng(6).standard_normal(6_000)
    x[5_000:5_200] += 1.5 ** np.arange(200)  # each further off than all before it
    found = alarms(judged(x), 5_000, 5_200)
    assert found[0] < 5_010
    assert (np.diff(found) == PAUSE + 1).all()


def test_what_came_once_has_been_seen():
    rng = np.random.default_rng(7)
    x = rng.standard_normal(6_000)
    x[1_000::200] = 40.0
    found = alarms(judged(x))
    assert 1_000 in found
    assert len([at for at in found if at >= 2_000 and x[at] == 40.0]) == 0
    x[5_100] = 80.0
    assert 5_100 in alarms(judged(x))


@pytest.mark.parametrize("kind", ["stuck", "missing beat", "wave that becomes flat without a jump"])
def test_a_series_that_stands_still_for_a_while_is_an_alarm_though_all_its_values_were_seen_before(kind):
    t, noise = np.arange(6_000), np.random.default_rng(6).standard_normal(6_000)
    x, odd, still = {
        "stuck": (noise.copy(), slice(5_000, 5_060), noise[5_000]),
        "missing beat": (200 * np.exp(-(((t % 90 - 45) / 14) ** 2)) + noise, slice(56 * 90, 57 * 90), noise[:90]),
        "wave that becomes flat without a jump": (
            15 * np.sin(2 * np.pi * t / 144) + noise,
            slice(36 * 144, 37 * 144),
            noise[:144],
        ),
    }[kind]
    x[odd] = still
    verdicts = judged(x)
    assert alarms(verdicts, odd.start, odd.stop + 16)
    assert len(alarms(verdicts, 2_000, odd.start)) <= 2


@pytest.mark.parametrize("kind", ["sawtooth", "on and off"])
def test_a_series_of_jumps_raises_few_alarms_and_a_jump_of_another_size_one(kind):
    rng, t = np.random.default_rng(0), np.arange(12_000)
    x = t % 400 / 400 if kind == "sawtooth" else np.cumsum(rng.random(12_000) < 1 / 300) % 2
    x = x + 0.02 * rng.standard_normal(12_000)
    x[9_990:] += 3.0
    verdicts = judged(x)
    assert verdicts.anomalous[9_990]
    assert len(alarms(verdicts, 3_000, 9_990)) <= 3  # of some twenty jumps


@pytest.mark.parametrize("value", [1e6, -1e30, np.nan, np.inf])
def test_one_odd_value_does_not_hide_a_later_one(value):
    rng = np.random.default_rng(8)
    x = rng.standard_normal(6_000)
    x[5_000] = value
    x[5_500] = 30.0
    verdicts = judged(x)
    assert verdicts.anomalous[5_500]
    assert not np.isfinite(value) or verdicts.anomalous[5_000]
    assert len(alarms(verdicts, 5_100, 5_500)) <= 1


def test_an_event_without_a_value_changes_nothing():
    x = np.random.default_rng(8).standard_normal((500, 2)).astype(np.float32)
    x[::7, 0] = np.nan
    params = Series()
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
    assert not judged(x).anomalous.any()
    x[3_000:] = level + max(abs(level), 1.0)
    assert alarms(judged(x)) == [3_000]


@pytest.mark.parametrize("earlier", ["Series", "Series 2"])
def test_a_checkpoint_of_an_earlier_series_is_refused_in_one_line_with_the_way_out(earlier):
    with pytest.raises(CheckpointError, match=r"a Series that .*: start with a new file$"):
        from_plain({"kind": earlier, "target_rate": 0.0005, "pause": 60.0})


def test_the_first_events_are_not_judged():
    verdicts = judged(np.random.default_rng(9).standard_normal(500))
    assert not verdicts.ready[:READY].any()
    assert verdicts.ready[READY:].all()


def test_a_series_of_zeros_with_bursts_raises_no_storm_of_alarms():
    rng = np.random.default_rng(9)
    x = np.where(rng.random(20_000) < 0.05, 1e8 * rng.pareto(1.5, 20_000), 0.0)
    assert judged(x).anomalous[2_000:].mean() < 0.0025


@settings(max_examples=15)
@given(
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 2.0**20, 1e6, 1e12]),
    shift=st.sampled_from([0.0, 1e-6, 1.0, -1e3, 1e6, 1e12]),
)
def test_scores_do_not_depend_on_the_scale_and_the_zero_of_the_series(scale, shift):
    """As far as float64 holds the shifted series. Which of many small distances are equal hangs on its last digit."""
    x = np.stack([autocorrelated(np.random.default_rng(10), 2_000), np.random.default_rng(11).random(2_000)], axis=1)
    digits = np.spacing(abs(shift) + scale) / scale
    assume(digits <= 1e-6)
    a, b = (judged(values).score[200:] for values in (x, x * scale + shift))
    assert np.isclose(b, a, rtol=5e-3).mean() > 0.95
    odd = a > 0.02 / USUAL_RATE
    np.testing.assert_allclose(b[odd], a[odd], rtol=2e-2)


def test_scaling_by_a_power_of_two_changes_no_bit_of_a_score():
    x = autocorrelated(np.random.default_rng(12), 2_000).astype(np.float32)
    for power in (-20, 20, 40):
        np.testing.assert_array_equal(judged(x).score, judged(x * np.float32(2.0) ** power).score)


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 250), max_size=5))
def test_a_cut_stream_gets_the_verdicts_of_a_whole_one(cuts):
    x = np.random.default_rng(13).standard_normal((250, 1))
    whole, engine = Engine(1, estimator=Series()).update([0] * 250, x), Engine(1, estimator=Series())
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
    compiled = judged(events)
    expected = eager(Series(), events)
    np.testing.assert_allclose(np.stack([compiled.score, compiled.threshold], axis=1), expected, rtol=1e-4, atol=1e-6)


def test_numpy_steps_as_the_compiled_loop_does_once_there_are_alarms():
    x = daily(np.random.default_rng(14), 1_200).astype(np.float32)[:, None]
    x[1_000:1_020] += 30.0
    compiled = judged(x)
    expected = eager(Series(), x)
    np.testing.assert_allclose(np.stack([compiled.score, compiled.threshold], axis=1), expected, rtol=1e-3)
    assert compiled.anomalous[1_000]


@settings(max_examples=10)
@given(events=streams(features=2))
def test_whatever_comes_no_number_of_the_state_becomes_nan_that_was_none(events):
    params = Series()
    state = params.init(2)
    with np.errstate(all="ignore"):
        for event in events:
            before, (state, judgement) = state, params.step(state, event)
            assert not judgement.score <= 0.0
            for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state), strict=True):
                assert (np.isnan(new) <= np.isnan(old)).all()


def test_p_values_are_shares_of_usual_events_and_the_target_rate_at_the_threshold():
    verdicts = judged(np.random.default_rng(15).standard_normal(20_000))[10_000:]
    for level in (0.5, 0.2, 0.05):
        assert (verdicts.p_value < level).mean() == pytest.approx(level, rel=0.25)
    high = verdicts.score > 0.1 / USUAL_RATE
    assert high.any()
    assert (abs(np.log(verdicts.p_value[high] * verdicts.score[high])) < np.log(3.0)).all()  # a return period


def test_explain_names_the_feature_that_left_its_course():
    rng = np.random.default_rng(16)
    engine = Engine(features=["load", "heat"], estimator=Series())
    engine.update(["a"] * 1_000, rng.standard_normal((1_000, 2)))
    shares = engine.explain("a", [0.1, 30.0])
    assert next(iter(shares)) == "heat"
    assert shares["heat"] > 0.9


@pytest.mark.parametrize("columns", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_more_columns_ask_for_more_each(columns):
    x = np.random.default_rng(17).standard_normal((5_000, columns))
    alone = judged(x[:, :1])
    together = judged(np.concatenate((x[:, :1], np.zeros((5_000, columns - 1))), axis=1))
    np.testing.assert_allclose(alone.score[200:], columns * together.score[200:], rtol=1e-3)
    assert len(alarms(judged(x))) <= 2 * USUAL_RATE * 5_000 + 2


def test_a_missing_value_takes_no_place_in_the_past_of_its_column():
    x = np.random.default_rng(18).standard_normal((600, 2))
    sparse = np.repeat(x, 2, axis=0)
    sparse[1::2, 0] = math.nan
    sparse[:, 1] = np.arange(1_200)
    engine, alone = Engine(2, estimator=Series()), Engine(1, estimator=Series())
    updated(engine, "a", sparse)
    updated(alone, "a", x[:, :1])
    np.testing.assert_array_equal(engine.state("a").landmarks[0], alone.state("a").landmarks[0])
    np.testing.assert_array_equal(engine.state("a").course.latest[0], alone.state("a").course.latest[0])
