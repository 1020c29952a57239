"""Several rates at once: near the best of them, whatever the stream does."""

import jax
import numpy as np
import pytest

from onlineguard.core.clipped_sgd import ClippedSGD, step
from onlineguard.core.estimands import LinearRegression, LogScale, Mean, Quantile
from onlineguard.core.experts import Experts
from onlineguard.core.protocols import Estimator
from onlineguard.core.rates import Decay
from onlineguard.engine.schedules import scan

RATES = tuple(2.0**-k for k in range(1, 12))
N, D = 6000, 5


def _drifts():
    """Where the mean is, by event: not moving, jumping, swinging."""
    t = np.arange(N)
    return {"still": 0.0 * t, "jumps": 4.0 * (t // 1200 % 2), "sine": 3.0 * np.sin(2 * np.pi * t / 600)}


def _error(params: Estimator, events, truth, theta):
    def body(state, event):
        return params.step(state, event)[0], theta(params, state)

    _, estimates = jax.jit(lambda x: jax.lax.scan(body, params.init(), x))(events)
    return float(np.linalg.norm(np.asarray(estimates) - truth[:, None], axis=1)[200:].mean())


@pytest.mark.slow
@pytest.mark.parametrize("corrupted", [0.0, 0.02])
@pytest.mark.parametrize("drift", _drifts())
def test_the_mixture_is_near_the_best_fixed_rate_in_hindsight(drift, corrupted):
    rng = np.random.default_rng(0)
    truth = _drifts()[drift].astype(np.float32)
    events = (truth[:, None] + rng.standard_t(2.1, (N, D))).astype(np.float32)
    events[rng.random(N) < corrupted] = 1e3
    mixture = _error(Experts(Mean(D)), events, truth, lambda params, state: params.theta(state))
    fixed = [
        _error(ClippedSGD(Mean(D), Decay(floor=rate)), events, truth, lambda params, state: state.theta)
        for rate in RATES
    ]
    assert mixture < 1.5 * min(fixed)
    assert mixture < 0.5 * max(fixed)


def test_the_weights_sum_to_one_and_every_copy_can_come_back():
    params = Experts(Mean(2), share=0.01)
    state = params.init()
    rng = np.random.default_rng(1)
    for x in rng.standard_normal((300, 2)).astype(np.float32):
        state, _ = step(params, state, x)
        assert state.weights.sum() == pytest.approx(1.0, abs=1e-5)
        assert state.weights.min() >= 0.01 / len(params.rates) * (1 - 1e-4)
    assert state.weights[0] < state.weights[-4:].sum()  # a still stream trusts slow copies


@pytest.mark.parametrize("x", [3e38, -3e38, np.nan, np.inf])
def test_an_absurd_event_leaves_weights_and_estimate_where_they_were(x):
    params = Experts(Mean(2))
    state, _ = scan(params, params.init(), np.random.default_rng(2).standard_normal((500, 2)).astype(np.float32))
    after, _ = jax.jit(step)(params, state, np.full(2, x, np.float32))
    assert np.isfinite(after.weights).all()
    np.testing.assert_allclose(params.theta(after), params.theta(state), atol=0.5)


@pytest.mark.slow
def test_other_estimands_find_their_truth_without_a_rate():
    rng = np.random.default_rng(3)
    z = rng.standard_normal(8000).astype(np.float32)
    params = Experts(Quantile(0.9))
    assert params.theta(scan(params, params.init(), z)[0]) == pytest.approx(1.28, abs=0.15)
    params = Experts(LogScale())
    assert np.exp(params.theta(scan(params, params.init(), 50 * z)[0])) == pytest.approx(45, rel=0.12)
    x = rng.standard_normal((8000, 2)).astype(np.float32)
    params = Experts(LinearRegression(2))
    theta = params.theta(scan(params, params.init(), (x, 2 * x[:, 0] - x[:, 1] + 1 + z))[0])
    np.testing.assert_allclose(theta.w, [2.0, -1.0], atol=0.15)
    np.testing.assert_allclose(theta.b, 1.0, atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("features", [20, 100])
def test_rates_too_long_for_a_regression_do_not_spoil_the_mixture(features):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((6000, features)).astype(np.float32)
    w = rng.standard_normal(features).astype(np.float32) / np.float32(features**0.5)
    params = Experts(LinearRegression(features))
    events = (x, x @ w + rng.standard_normal(6000).astype(np.float32))
    state, _ = scan(params, params.init(), events)
    assert np.linalg.norm(params.theta(state).w - w) < 2.0 * (features / 6000) ** 0.5  # twice least squares' error
    assert np.isfinite(state.copies.theta.w).all()


def test_a_still_stream_is_averaged_over_nearly_all_of_it():
    x = np.random.default_rng(5).standard_normal((20, 30_000, 1)).astype(np.float32)
    params = Experts(Mean(1))
    errors = [abs(float(params.theta(scan(params, params.init(), lane)[0])[0])) for lane in x]
    assert np.mean(errors) < 2.5 * np.mean(abs(x.mean(1)))


def test_slow_copies_start_again_where_fast_ones_are():
    params = Experts(Mean(2))
    x = np.random.default_rng(6).standard_normal((3000, 2)).astype(np.float32)
    x[2000:] += 20.0
    state, _ = scan(params, params.init(), x[:2000])
    assert (np.linalg.norm(state.copies.theta, axis=1) < 2.0).all()
    state, _ = scan(params, state, x[2000:2050])
    assert (np.linalg.norm(state.copies.theta - 20.0, axis=1) < 3.0).all()  # the slowest remembers 262,144 events


def test_far_points_in_one_direction_pull_the_mixture_no_more_than_its_copies():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((6000, 100)).astype(np.float32)
    x[rng.random(6000) < 0.1] = 10.0
    truth = np.zeros(6000, np.float32)
    mixture = _error(Experts(Mean(100)), x, truth, lambda params, state: params.theta(state))
    slow = _error(ClippedSGD(Mean(100), Decay()), x, truth, lambda params, state: state.theta)
    assert mixture < 1.25 * slow


@pytest.mark.parametrize("rates", [(0.0, 1.0), (4.0, 0.1)])
def test_a_rate_may_be_zero_or_above_one(rates):
    x = 5.0 + np.random.default_rng(8).standard_normal((3000, 1)).astype(np.float32)
    params = Experts(Mean(1), rates=rates)
    assert params.theta(scan(params, params.init(), x)[0])[0] == pytest.approx(5.0, abs=0.7)


def test_absurd_first_events_are_forgotten():
    events = np.random.default_rng(0).normal(0.0, 1.0, (2_000, 3)).astype(np.float32)
    events[:2] = 1e6
    params = Experts(Mean(3))
    state, _ = scan(params, params.init(), events)
    assert np.linalg.norm(params.theta(state)) < 1.0
