"""Changes of the mean, found soon and seldom made up."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings

from onlineguard.core.change_point import ChangePoint
from onlineguard.core.clipped_sgd import step
from onlineguard.engine.schedules import scan
from tests.support.strategies import streams

SEGMENT = 400  # three changes in 1,600 events: the streams of the paper's section 5
TRUTH = np.repeat(np.arange(4), SEGMENT)


@jax.jit
def _follow(params, streams):
    """(runs, events, d) to the number of changes found and their location, event by event."""

    def body(state, event):
        state, _ = params.step(state, event)
        return state, (state.changes, state.earliest, state.latest)

    return jax.vmap(lambda events: jax.lax.scan(body, params.init(), events)[1])(streams)


def _noise(law, rng, shape):
    if law == "normal":
        return rng.standard_normal(shape) / np.sqrt(shape[-1])
    if law == "pareto":  # heavy: the variance of shape 2.01 is all but infinite
        return (rng.pareto(2.01, shape) - 1 / 1.01) / np.sqrt(shape[-1])
    return rng.standard_t(2.1, shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "d", "delta", "published"),
    [
        ("normal", 1, 1.0, 274),
        ("pareto", 1, 1.0, 296),
        ("normal", 32, 1.0, 300),
        ("pareto", 32, 1.0, 302),
        ("normal", 32, 0.5, 1427),
    ],
)
def test_each_of_three_changes_is_found_sooner_than_published(law, d, delta, published):
    rng = np.random.default_rng(0)
    runs = 8
    mean = delta / np.sqrt(d) * (TRUTH % 2)[None, :, None]
    found, earliest, latest = _follow(ChangePoint(d), (mean + _noise(law, rng, (runs, 1600, d))).astype(np.float32))
    regret = abs(np.asarray(found) - TRUTH).sum(1)
    assert (np.asarray(found)[:, -1] == 3).mean() > 0.8
    assert np.median(regret) < published
    # after the last event, the interval is that of the change at 1,200
    assert abs(np.median(np.asarray(earliest)[:, -1]) - 1200) < 40
    assert abs(np.median(np.asarray(latest)[:, -1]) - 1200) < 40
    assert (np.asarray(earliest) <= np.asarray(latest)).all()


@pytest.mark.slow
def test_many_independent_features_cost_little():
    rng = np.random.default_rng(8)
    noise = rng.standard_normal((8, 1600, 32)) * 32**-0.25  # the covariance of the paper's section 5, as printed
    events = 0.5 / np.sqrt(32) * (TRUTH % 2)[None, :, None] + noise
    found, _, _ = _follow(ChangePoint(32), events.astype(np.float32))
    assert (np.asarray(found)[:, -1] == 3).all()
    assert np.median(abs(np.asarray(found) - TRUTH).sum(1)) < 400  # published: 1,427


@pytest.mark.slow
@pytest.mark.parametrize("features", ["one", "factor", "blocks", "decay"])
def test_correlated_features_raise_no_more_false_alarms_than_delta(features):
    rng = np.random.default_rng(9)
    noise = rng.standard_normal((100, 1600, 8))
    common = rng.standard_normal((100, 1600, 2))
    correlations = 0.8 ** abs(np.subtract.outer(np.arange(8), np.arange(8)))
    events = {
        "one": np.repeat(common[..., :1], 8, -1),
        "factor": noise + 0.5 * common[..., :1],
        "blocks": np.repeat(common, 4, -1) + 0.1 * noise,
        "decay": noise @ np.linalg.cholesky(correlations).T,
    }[features]
    found, _, _ = _follow(ChangePoint(8, 0.1), events.astype(np.float32))
    assert (np.asarray(found)[:, -1] > 0).mean() <= 0.1


@pytest.mark.slow
def test_a_long_stationary_stream_has_no_more_false_alarms_than_delta():
    events = np.exp(np.random.default_rng(10).standard_normal((40, 50_000, 1)))  # the log-normal raised the most
    found, _, _ = _follow(ChangePoint(1, 0.1), events.astype(np.float32))
    assert (np.asarray(found)[:, -1] > 0).mean() <= 0.1


@pytest.mark.parametrize("level", [0.3, 0.15])
def test_changes_of_a_probability_are_found(level):
    rng = np.random.default_rng(1)
    events = (rng.random((8, 1600, 1)) < np.where(TRUTH % 2, 1 - level, level)[None, :, None]).astype(np.float32)
    found, _, _ = _follow(ChangePoint(), events)
    assert (np.asarray(found)[:, -1] == 3).all()
    assert np.median(abs(np.asarray(found) - TRUTH).sum(1)) < 250  # published: 515 and 1,509


@pytest.mark.slow
@pytest.mark.parametrize("law", ["normal", "t", "pareto", "constant", "alike"])
def test_a_stationary_stream_raises_no_alarm(law):
    rng = np.random.default_rng(2)
    shape = (6, 20_000, 1)
    events = {"constant": lambda: np.full(shape, 7.3), "alike": lambda: np.repeat(_noise("t", rng, shape), 4, -1)}
    stream = events.get(law, lambda: _noise(law, rng, shape))().astype(np.float32)
    found, _, _ = _follow(ChangePoint(stream.shape[-1]), stream)
    assert not np.asarray(found).any()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e12])
def test_scale_and_offset_do_not_matter(scale):
    events = np.random.default_rng(3).standard_normal((1, 1600, 1))
    events[:, 800:] += 2.0
    # an offset of some scales: float32 keeps seven digits
    found, earliest, _ = _follow(ChangePoint(), ((events + 10) * scale).astype(np.float32))
    assert int(found[0, -1]) == 1
    assert abs(int(earliest[0, -1]) - 800) < 15


@pytest.mark.parametrize("jump", [5.0, 1e3, 1e9])
def test_a_jump_of_any_size_is_one_change_found_within_a_few_events(jump):
    events = np.random.default_rng(4).standard_normal((1, 1600, 1))
    events[:, 800:] += jump
    found, earliest, latest = (np.asarray(x)[0] for x in _follow(ChangePoint(), events.astype(np.float32)))
    assert found[-1] == 1
    assert np.flatnonzero(found)[0] < 820
    assert earliest[-1] <= 800 <= latest[-1]


@pytest.mark.parametrize("n", [1600, pytest.param(5000, marks=pytest.mark.slow)])
def test_outliers_are_no_change(n):
    events = np.random.default_rng(5).standard_normal((4, n, 2))
    events[:, ::50] = 3e38
    events[:, 7::100, 0] = np.nan
    events[:, 3::100] = np.nan
    found, _, _ = _follow(ChangePoint(2), events.astype(np.float32))
    assert not np.asarray(found).any()


def test_an_absurd_first_event_does_not_blind_it():
    events = np.random.default_rng(6).standard_normal((1, 1600, 1))
    events[:, 0], events[:, 800:] = 1e6, events[:, 800:] + 2.0
    found, earliest, _ = _follow(ChangePoint(), events.astype(np.float32))
    assert int(found[0, -1]) == 1
    assert abs(int(earliest[0, -1]) - 800) < 20


def test_fired_lasts_one_event_and_the_score_says_the_same():
    params = ChangePoint()
    events = np.random.default_rng(7).standard_normal((300, 1)).astype(np.float32)
    events[150:] += 4.0
    state, fired = params.init(), []
    for x in events:
        expected = params.score(state, x)
        state, score = step(params, state, x)
        assert score == expected
        assert bool(state.fired) == bool(score > 0)
        fired.append(bool(state.fired))
    assert sum(fired) == 1
    assert 150 < fired.index(True) < 165
    quiet, score = step(params, state._replace(fired=np.True_), np.full(1, np.nan, np.float32))
    assert np.isnan(score)
    assert not quiet.fired


@settings(max_examples=50)
@given(events=streams(2, most=40))
def test_whatever_comes_the_state_stays_finite_and_of_its_types(events):
    params = ChangePoint(2, starts=16)
    state = params.init()
    kinds = [leaf.dtype for leaf in jax.tree.leaves(state)]
    for x in events:
        state, score = step(params, state, x)
        assert score.dtype == np.float32
        assert [leaf.dtype for leaf in jax.tree.leaves(state)] == kinds
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_the_starts_kept_are_spaced_geometrically():
    state, _ = scan(ChangePoint(), ChangePoint().init(), np.zeros((3000, 1), np.float32))
    ages = np.sort(np.asarray(state.count_after)[np.asarray(state.count_before) > 0])
    assert len(np.unique(ages)) == len(ages)
    assert ages[:4].tolist() == [1, 2, 3, 4]
    assert (ages[1:] <= 2 * ages[:-1] + 2).all()
    assert ages[-1] > 1000
