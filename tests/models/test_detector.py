"""The laws of the marginal detector, on streams long enough to show them."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from benchmarks.plain_loop import plain_loop, tables
from onlineguard import Engine
from onlineguard.core.quantiles import LEVELS, rms_quantile
from onlineguard.core.spread import B, K
from onlineguard.models.detector import YOUNG, Detector
from tests.support.long import updated
from tests.support.strategies import streams, tame_streams


def marginal(d, target_rate=0.01, patience=5_000):
    return Engine(d, estimator=Detector(target_rate, patience))


def judged(*series, **options):
    """Verdicts of several streams of the same length, each a slice of its own: arrays (streams, n)."""
    X = np.stack([np.reshape(s, (len(s), -1)) for s in series])
    count, n, d = X.shape
    engine = marginal(d, **options)
    verdicts = updated(engine, np.tile(np.arange(count), n), X.transpose(1, 0, 2).reshape(-1, d))
    return {
        f: getattr(verdicts, f).reshape(n, count).T for f in ("score", "threshold", "p_value", "anomalous", "ready")
    }


LAWS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "Student t 2.1": lambda rng, n: rng.standard_t(2.1, n),
    "Cauchy": lambda rng, n: rng.standard_cauchy(n),
    "Pareto 2.01": lambda rng, n: rng.pareto(2.01, n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "log-normal": lambda rng, n: rng.lognormal(sigma=1.0, size=n),
    "uniform": lambda rng, n: rng.random(n),
    "two modes": lambda rng, n: rng.choice([-10.0, 10.0], n) + rng.standard_normal(n),
    "Poisson 2": lambda rng, n: rng.poisson(2.0, n).astype(float),
    "autocorrelated": lambda rng, n: _ar(rng, n, 0.9),
}


def _ar(rng, n, rho):
    from scipy.signal import lfilter

    return lfilter([1.0], [1.0, -rho], rng.standard_normal(n))


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_the_share_over_the_threshold_converges_to_the_target_rate(law, rate):
    rng = np.random.default_rng(1)
    shares = judged(*(LAWS[law](rng, 40_000) for _ in range(3)), target_rate=rate)["anomalous"][:, 20_000:].mean(1)
    assert (shares > 0.8 * rate).all()
    assert (shares < 1.2 * rate).all()


@pytest.mark.slow
@pytest.mark.parametrize("rest", ["exponential", "normal", "log-normal"])
@pytest.mark.parametrize(
    ("zeros", "d"), [(0.8, 1), (0.9, 1), (0.94, 1), (0.8, 5), (0.9, 5), (0.95, 5), (0.8, 20), (0.95, 20)]
)
def test_the_share_converges_to_the_target_rate_where_most_values_are_zero(zeros, d, rest):
    """Of a single feature more than 5 % must differ: rarer values that lie far out are what an attack looks like."""
    rng = np.random.default_rng(18)
    values = LAWS[rest](rng, 2 * 120_000 * d)
    x = np.where(rng.random(len(values)) < zeros, 0.0, values).reshape(2, 120_000, d)
    shares = judged(*x)["anomalous"][:, 20_000:].mean(1)
    assert (shares > 0.008).all()
    assert (shares < 0.012).all()


def test_a_mild_burst_does_not_teach_its_own_level():
    x = np.random.default_rng(3).standard_normal(20_000)
    x[10_000:12_000] += 6.0
    assert judged(x)["anomalous"][0, 10_000:12_000].mean() > 0.99


@pytest.mark.parametrize("rate", [0.003, 0.01])
def test_a_target_rate_below_the_share_of_the_corrupted_leaves_most_of_them_flagged(rate):
    rng = np.random.default_rng(5)
    x = rng.standard_normal(50_000)
    bad = rng.random(50_000) < 0.02
    x[bad] *= 50.0
    assert judged(x, target_rate=rate)["anomalous"][0, 5_000:][bad[5_000:]].mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 20])
@pytest.mark.parametrize(
    "change",
    [
        lambda x, t: x + 3.0 * (t >= 20_000),
        lambda x, t: x + 10.0 * (t >= 20_000),
        lambda x, t: x + 1e6 * (t >= 20_000),
        lambda x, t: x * np.where(t >= 20_000, 1.5, 1.0),
        lambda x, t: x / np.where(t >= 20_000, 1.5, 1.0),
        lambda x, t: x * np.where(t >= 20_000, 10.0, 1.0),
        lambda x, t: x + t / 300.0,
    ],
    ids=["jump 3", "jump 10", "jump 1e6", "scale 1.5", "scale 1/1.5", "scale 10", "drift"],
)
def test_the_share_returns_to_the_target_rate_after_a_change(change, d):
    rng = np.random.default_rng(2)
    t = np.arange(50_000)[:, None]
    shares = judged(*(change(rng.standard_normal((50_000, d)), t) for _ in range(2)))["anomalous"][:, 35_000:].mean(1)
    assert (shares > 0.008).all()
    assert (shares < 0.012).all()


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 5, 20])
@pytest.mark.parametrize("size", [10.0, 50.0, 1e6])
@pytest.mark.parametrize("start", [10_000, 40_000])
def test_a_burst_of_2_000_among_50_000_is_flagged_to_its_end(d, size, start):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((50_000, d))
    x[start : start + 2_000] += size
    flagged = judged(x)["anomalous"][0]
    assert flagged[start : start + 2_000].mean() > 0.999
    assert flagged[start + 2_000 : start + 4_000].mean() < 0.02  # and what follows it is not
    assert flagged[5_000:start].mean() < 0.013


def test_a_new_regime_counts_as_usual_after_patience_and_not_before():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((20_000, 5))
    x[10_000:] += 20.0
    for patience in (500, 2_000, 4_000):
        flagged = judged(x, patience=patience)["anomalous"][0]
        assert flagged[10_000 : 10_000 + patience].all()
        assert flagged[10_000 + patience + 10 :].mean() < 0.03


@pytest.mark.parametrize("d", [1, 5, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("corrupt", [lambda x: x * 50.0, lambda x: x + 50.0, lambda x: x + 1e30])
def test_an_attack_does_not_spend_the_budget_of_false_alarms(d, corrupt):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((50_000, d))
    bad = rng.random(50_000) < 0.02
    x[bad] = corrupt(x[bad])
    flagged = judged(x)["anomalous"][0][5_000:]
    assert flagged[bad[5_000:]].mean() >= 0.95
    assert flagged[~bad[5_000:]].mean() <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("size", [1e3, 1e9, 3e38])
def test_corruption_of_any_size_moves_the_estimate_as_far_as_a_thousand_sigma_does(size, start):
    """A tenth of the events; by the tenth of a sigma at most, where the corruption grows by 35 orders of magnitude."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((20_000, 3)).astype(np.float32)
    bad = rng.random(20_000) < 0.1
    bad[[0, 1, 7]] = start

    def error(magnitude):
        engine = marginal(3)
        updated(engine, "a", np.where(bad[:, None], np.float32(magnitude), x))
        memory = engine.state("a").slow
        return np.abs(memory.location), memory.scale

    location, scale = error(size)
    limit_location, limit_scale = error(1e3)
    assert (location <= limit_location + 0.1).all()
    assert (scale <= 1.1 * limit_scale).all()
    assert (limit_location < 1.0).all()


@settings(max_examples=20)
@given(
    scale=st.sampled_from([1e-6, 1e-3, 2.0**-10, 1.0, 2.0**20, 1e6, 1e12]),
    shift=st.sampled_from([0.0, 1e-6, 1.0, -1e3, 1e6, 1e12]),
)
@example(scale=1.0, shift=1e12)
@example(scale=1e-3, shift=1.7e9)
def test_scores_do_not_depend_on_the_scale_and_the_zero_of_the_stream(scale, shift):
    """As far as float64 can hold the shifted stream, of which it keeps 16 digits."""
    rng = np.random.default_rng(7)
    x = rng.standard_t(3.0, (3_000, 2))
    moved = x * scale + shift
    digits = np.spacing(abs(shift) + scale) / scale
    assume(digits <= 1e-3)
    a, b = judged(x)["score"][0], judged(moved)["score"][0]
    np.testing.assert_allclose(b[200:], a[200:], rtol=2e-3 + 20 * digits, atol=2e-3 + 20 * digits)


def test_scaling_by_a_power_of_two_changes_no_bit_of_a_score():
    x = np.random.default_rng(8).standard_normal((3_000, 2)).astype(np.float32)
    for power in (-20, 20, 40):
        np.testing.assert_array_equal(judged(x)["score"], judged(x * np.float32(2.0) ** power)["score"])


@pytest.mark.parametrize("at", [0, 1, 2, 5, 7, 8, 50])
@pytest.mark.parametrize("value", [1e6, -3e38, np.nan])
def test_an_odd_value_among_the_first_does_not_blind_the_slice(value, at):
    x = np.random.default_rng(17).standard_normal((3_000, 1)).astype(np.float32)
    hit = x.copy()
    hit[at] = value
    a, b = judged(x), judged(hit)
    np.testing.assert_allclose(b["score"][0, 500:], a["score"][0, 500:], rtol=0.1, atol=0.1)
    assert 0.3 < b["anomalous"][0].sum() / a["anomalous"][0].sum() < 3.0


@pytest.mark.parametrize("value", [1e6, -1e30, np.nan, np.inf])
def test_one_odd_value_leaves_nothing_to_be_seen_100_events_later(value):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((6_000, 1))
    hit = x.copy()
    hit[5_000] = value
    a, b = judged(x), judged(hit)
    np.testing.assert_allclose(b["score"][0, 5_100:], a["score"][0, 5_100:], rtol=0.03, atol=0.03)
    np.testing.assert_allclose(b["threshold"][0, 5_100:], a["threshold"][0, 5_100:], rtol=0.03)


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_a_missing_feature_keeps_what_is_known_of_it(missing):
    rng = np.random.default_rng(16)
    x = rng.standard_normal((2_000, 2)).astype(np.float32)
    engine = marginal(2)
    engine.update(["a"] * 1_000, x[:1_000])
    before = engine.state("a")
    x[1_000:, 1] = missing
    scores = engine.update(["a"] * 1_000, x[1_000:]).score
    after = engine.state("a")
    for old, new in ((before.slow, after.slow), (before.fast, after.fast)):
        assert new.location[1] == old.location[1]
        assert new.scale[1] == old.scale[1]
        assert new.location[0] != old.location[0]
    one_feature = abs(x[1_000, 0] - before.slow.location[0]) / before.slow.scale[0]
    assert scores[0] == pytest.approx(one_feature, rel=1e-5)  # the others are judged as before


@pytest.mark.parametrize("level", [0.1, 1e9 + 0.1, -1.7e12 - 1 / 3])  # more digits than float32 holds
def test_the_smallest_change_of_a_constant_float64_stream_is_no_alarm(level):
    x = np.full(3_000, level)
    x[2_000] = np.nextafter(level, np.inf)
    verdicts = judged(x)
    assert not verdicts["anomalous"].any()
    assert verdicts["p_value"][0, 2_000] > 0.1


@pytest.mark.parametrize("level", [0.0, 5.0, -3e5, 1e12])
def test_the_smallest_change_of_a_constant_stream_is_no_alarm(level):
    x = np.full(3_000, level, np.float32)
    x[2_000] = np.nextafter(np.float32(level), np.float32(np.inf)) if level else 0.0
    verdicts = judged(x)
    assert not verdicts["anomalous"].any()
    assert verdicts["p_value"][0, 2_000] > 0.1
    x[2_500] = level + max(abs(level), 1.0)
    assert judged(x)["anomalous"][0, 2_500]


def test_p_values_are_uniform_where_events_are_usual():
    rng = np.random.default_rng(11)
    for law in ("normal", "Student t 2.1", "exponential"):
        p = judged(LAWS[law](rng, 40_000))["p_value"][0, 20_000:]
        for level in (0.5, 0.2, 0.05, 0.01):
            assert 0.75 * level < (p < level).mean() < 1.3 * level
        assert ((p > 0) & (p <= 1)).all()


def test_the_same_stream_gives_the_same_verdicts():
    x = np.random.default_rng(12).standard_normal((2_000, 5))
    a, b = judged(x), judged(x)
    for field in a:
        np.testing.assert_array_equal(a[field], b[field])


@pytest.mark.parametrize("d", [1, 3, 40])
def test_quantiles_start_where_normal_features_put_them(d):
    rng = np.random.default_rng(13)
    scores = np.sqrt(np.mean(np.square(rng.standard_normal((100_000, d))), axis=1))
    for level in (0.5, 0.2, 0.05, 0.01):
        assert rms_quantile(level, d) == pytest.approx(np.quantile(scores, 1 - level), rel=0.03)


def test_the_scale_of_a_normal_law_is_its_standard_deviation():
    z = np.random.default_rng(14).standard_normal(1_000_000)
    assert np.minimum(z * z, K * K).mean() == pytest.approx(B, rel=2e-3)


def eager_scores(events):
    params = Detector()
    state = params.init(events.shape[1])
    scores = []
    with np.errstate(all="ignore"):
        for event in events:
            state, judgement = params.step(state, event)
            scores.append(judgement.score)
    return np.array(scores)


def reference_scores(events):
    """Of the plain loop, in float64."""
    scores, thresholds = np.empty(len(events)), np.empty(len(events))
    quantiles = [rms_quantile(level, events.shape[1]) for level in (*LEVELS, 0.01)]
    state = tables(1, events.shape[1], quantiles, np.float64)
    rows = np.zeros(len(events), int)
    plain_loop(rows, events.astype(np.float64), 0.01, 5_000.0, *state, scores, thresholds)
    return scores, thresholds


@settings(max_examples=30)
@given(events=streams())
def test_numpy_steps_as_the_compiled_loop_does(events):
    compiled = marginal(3).update(np.zeros(len(events), int), events).score
    np.testing.assert_allclose(eager_scores(events), compiled, rtol=1e-5, atol=1e-6)


@settings(max_examples=30)
@given(events=tame_streams(most=40))
def test_the_engine_agrees_with_a_plain_float64_loop(events):
    scores, thresholds = reference_scores(events)
    verdicts = marginal(3).update(np.zeros(len(events), int), events)
    np.testing.assert_allclose(verdicts.score, scores, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(verdicts.threshold, thresholds, rtol=1e-3)


def test_the_engine_agrees_with_a_plain_float64_loop_through_a_burst_and_a_new_regime():
    rng = np.random.default_rng(15)
    x = rng.standard_normal((9_000, 3)).astype(np.float32)
    x[2_000:2_300] += 30.0
    x[4_000:] *= 40.0
    x[rng.random(x.shape) < 0.05] = np.nan
    scores, thresholds = reference_scores(x)
    verdicts = judged(x)
    np.testing.assert_allclose(verdicts["score"][0], scores, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(verdicts["threshold"][0], thresholds, rtol=0.05)


@settings(max_examples=30)
@given(events=streams(most=40))
def test_after_the_first_8_one_event_moves_the_location_at_most_rate_times_clip(events):
    params = Detector()
    state = params.init(events.shape[1])
    with np.errstate(all="ignore"):
        for event in events:
            before, (state, _) = state, params.step(state, event)
            for old, new in ((before.slow, state.slow), (before.fast, state.fast)):
                if before.seen < YOUNG:
                    continue  # nothing is known yet that could be moved
                rate = max(float(params.patience) ** (-2 / 3), 4.0 / (float(before.seen) + 4.0))
                known = np.isfinite(old.scale)
                limit = rate * K * old.scale[known] * (1 + 1e-5) + np.spacing(np.abs(old.location[known]))
                assert (np.abs(new.location - old.location)[known] <= limit).all()
