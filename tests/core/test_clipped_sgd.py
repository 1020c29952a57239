"""The recursion, against a textbook one in float64, and the laws it keeps whatever the stream."""

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onlineguard.core.arrays import COUNT_LIMIT
from onlineguard.core.clipped_sgd import ClippedSGD, step
from onlineguard.core.clips import Adaptive, Fixed
from onlineguard.core.estimands import Linear, LinearRegression, LogisticRegression, LogScale, Mean, Quantile
from onlineguard.core.rates import Constant, Derived
from tests.support import reference
from tests.support.strategies import streams, tame_streams

D = 3
jit_step = jax.jit(step)


def _run(params, events, run=step):
    state = params.init()
    for event in events:
        state, _ = run(params, state, event)
    return state


def _scalars(events):
    return list(events[:, 0])


def _off_the_grid(events):
    return list(events[:, 0] + np.float32(0.0137))  # sums of steps never tie with an event


def _vectors(events):
    return list(events)


def _labelled(events):
    return [(x / np.float32(30), np.float32(x[0] > 0) if np.isfinite(x[0]) else x[0]) for x in events]


@pytest.mark.parametrize(
    ("estimand", "gradient", "encode"),
    [
        (Mean(D), reference.mean, _vectors),
        (LogScale(), reference.log_scale, _scalars),
        (LogScale(np.zeros(D, np.float32)), reference.log_scale, _vectors),
        (Quantile(0.9), reference.quantile(0.9), _off_the_grid),
        (LinearRegression(D, 0.1), reference.linear_regression(0.1), _labelled),
        (LogisticRegression(D, 0.1), reference.logistic_regression(0.1), _labelled),
    ],
    ids=["mean", "log scale", "log scale a feature", "quantile", "linear", "logistic"],
)
def test_learning_agrees_with_the_textbook(estimand, gradient, encode):
    @given(tame_streams(D))
    def check(stream):
        events = encode(stream)
        for rate, eta in [(Constant(0.25), lambda seen: 0.25), (Derived(), reference.derived)]:
            state = _run(ClippedSGD(estimand, rate, Fixed(0.7)), events)
            start = [np.asarray(leaf, float) for leaf in jax.tree.leaves(estimand.init())]
            wide = [jax.tree.map(lambda part: np.asarray(part, float), event) for event in events]
            with np.errstate(over="ignore"):
                theta, seen, clipped, ties = reference.clipped_sgd(gradient, start, wide, eta, 0.7)
            for got, expected in zip(jax.tree.leaves(state.theta), theta, strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
            assert state.seen == seen
            assert abs(int(state.clipped) - clipped) <= ties

    check()


@example(events=np.full((1, D), 3e38, np.float32))  # the norm overflows
@example(events=np.array([[3e38, np.nan, np.inf], [-3e38, 3e38, 1.0]], np.float32))
@given(events=streams(D))  # any float32 a caller can send, NaN and infinities too
@pytest.mark.parametrize("run", [step, jit_step], ids=["numpy", "jit"])
def test_one_event_moves_theta_at_most_rate_times_clip(run, events):
    params = ClippedSGD(Mean(D), Constant(0.5), Fixed(2.0))
    state = params.init()
    for event in events:
        before, (state, _) = state, run(params, state, event)
        assert np.linalg.norm(state.theta - before.theta) <= 0.5 * 2.0 * (1 + 1e-5)


@given(events=streams(D))
def test_an_absurd_event_is_clipped_and_points_the_right_way(events):
    params = ClippedSGD(Mean(D), Constant(0.5), Fixed(2.0))
    state, _ = step(params, params.init(), np.full(D, 3e38, np.float32))
    np.testing.assert_allclose(state.theta, np.full(D, 1.0 / np.sqrt(3.0)), rtol=1e-5)
    assert state.clipped == 1
    before = _run(params, events)
    after, _ = step(params, before, np.array([np.nan, -3e38, np.inf], np.float32))
    np.testing.assert_allclose(after.theta - before.theta, [0.0, -1.0, 0.0], atol=1e-5)


@pytest.mark.parametrize("run", [step, jit_step], ids=["numpy", "jit"])
def test_an_event_with_nothing_usable_changes_nothing(run):
    nothing = np.array([np.nan, np.inf, -np.inf], np.float32)
    fine = np.array([1.0, 2.0, np.nan], np.float32)
    y = np.float32(1.0)
    for estimand, event, empties in [
        (Mean(D), fine, [nothing]),
        (LogScale(np.zeros(D, np.float32)), fine, [nothing]),
        (LogScale(), fine[0], [nothing[0], nothing[1]]),
        (Quantile(0.9), fine[0], [nothing[0], nothing[2]]),
        (LinearRegression(D, 0.1), (fine, y), [(nothing, y), (fine, nothing[0]), (fine, nothing[1])]),
        (LogisticRegression(D, 0.1), (fine, y), [(nothing, y), (fine, nothing[0])]),
    ]:
        params = ClippedSGD(estimand)
        state, _ = run(params, params.init(), event)
        for empty in empties:
            after, _ = run(params, state, empty)
            for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
                np.testing.assert_array_equal(a, b)


@given(events=streams(D))
def test_whatever_comes_the_state_stays_finite_and_of_its_types(events):
    for estimand, encode in [(Mean(D), _vectors), (LogScale(), _scalars), (LinearRegression(D), _labelled)]:
        with np.errstate(all="ignore"):
            encoded = encode(events)
        state = _run(ClippedSGD(estimand), encoded)
        for leaf in jax.tree.leaves(state):
            assert leaf.dtype in (np.float32, np.int32)
            assert np.isfinite(leaf).all()


@given(events=tame_streams(D), power=st.integers(-20, 40))
def test_scaling_the_stream_scales_the_estimate_and_leaves_the_counts(events, power):
    # a power of two, so that scaling itself rounds nothing
    scale = np.float32(2.0**power)
    plain, scaled = (_run(ClippedSGD(Mean(D)), e) for e in (events, events * scale))
    np.testing.assert_allclose(scaled.theta / scale, plain.theta, rtol=1e-3, atol=1e-3)
    assert scaled.seen == plain.seen


def test_the_first_event_is_the_first_estimate_by_default():
    x = np.array([1e12, -3.0, 1e-6], np.float32)
    state, _ = step(ClippedSGD(Mean(D)), ClippedSGD(Mean(D)).init(), x)
    np.testing.assert_allclose(state.theta, x, rtol=1e-6)


def test_the_score_comes_from_before_the_event():
    params = ClippedSGD(Mean(1), Constant(1.0), Fixed(100.0))
    state, score = step(params, params.init(), np.array([3.0], np.float32))
    assert score == 3.0
    assert state.theta == 3.0
    assert params.score(state, np.array([3.0], np.float32)) == 0.0


def test_counters_saturate():
    params = ClippedSGD(Mean(1), clip=Fixed(1e-3))
    top = np.int32(COUNT_LIMIT)
    for run in (step, jit_step):
        state = params.init()._replace(seen=top, clipped=top)
        for _ in range(3):
            state, _ = run(params, state, np.array([5.0], np.float32))
        assert state.seen == COUNT_LIMIT
        assert state.clipped == COUNT_LIMIT


@pytest.mark.parametrize("magnitude", [1e3, 3e38])
def test_a_tenth_of_corrupted_events_hardly_moves_a_median_clipped_mean(magnitude):
    rng = np.random.default_rng(0)
    events = rng.standard_normal((5000, D)).astype(np.float32)
    events[rng.random(5000) < 0.1] = magnitude
    state = _run(ClippedSGD(Mean(D)), events)
    assert np.linalg.norm(state.theta) < 0.5


def test_a_median_clipped_quantile_is_still_the_quantile():
    rng = np.random.default_rng(1)
    state = _run(ClippedSGD(Quantile(0.95)), rng.standard_normal(20_000).astype(np.float32))
    assert state.theta == pytest.approx(1.645, abs=0.15)


def test_a_regression_finds_its_line_under_outliers():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4000, 2)).astype(np.float32)
    y = x @ np.array([2.0, -1.0], np.float32) + 0.5 + 0.1 * rng.standard_normal(4000).astype(np.float32)
    y[::20] = 1e6
    state = _run(ClippedSGD(LinearRegression(2)), [(a, np.float32(b)) for a, b in zip(x, y, strict=True)])
    assert isinstance(state.theta, Linear)
    np.testing.assert_allclose(state.theta.w, [2.0, -1.0], atol=0.1)
    np.testing.assert_allclose(state.theta.b, 0.5, atol=0.1)


def test_new_hyperparameters_do_not_recompile():
    run = jax.jit(lambda *args: step(*args))  # a cache of its own
    for eta, limit in [(0.1, 1.0), (0.2, 3.0)]:
        params = ClippedSGD(Mean(np.zeros(D, np.float32)), Constant(eta), Fixed(limit))
        run(params, params.init(), np.ones(D, np.float32))
    for quantile in (0.5, 0.8):
        params = ClippedSGD(Mean(np.zeros(D, np.float32)), Derived(m=quantile), Adaptive(quantile))
        run(params, params.init(), np.ones(D, np.float32))
    assert run._cache_size() == 2
