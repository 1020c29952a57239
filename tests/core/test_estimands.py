"""What each estimand calls wrong, and how odd it finds an event."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.core.clipped_sgd import ClippedSGD, step
from onlineguard.core.estimands import (
    Covariance,
    Linear,
    LinearRegression,
    LogisticRegression,
    LogScale,
    Mean,
    Quantile,
)
from onlineguard.core.rates import Decay
from tests.support.strategies import PRESENT, streams

D = 3
NAN = np.float32(np.nan)


def vectors(size=D):
    return st.lists(PRESENT, min_size=size, max_size=size).map(lambda xs: np.array(xs, np.float32))


scalars = PRESENT.map(np.float32)
small = st.floats(-3, 3, width=32, allow_subnormal=False).map(np.float32)
weights = st.builds(Linear, vectors().map(lambda w: w / 30), small)


@pytest.mark.parametrize(
    ("estimand", "theta", "event"),
    [
        (Mean(D), vectors(), vectors()),
        (LogScale(), small, scalars),
        (LogScale(np.zeros(D, np.float32)), vectors().map(lambda s: s / 30), vectors()),
        (Quantile(0.9), scalars, scalars),
        (Quantile(0.2, unit=3.0), scalars, scalars),
        (LinearRegression(D, 0.1), weights, st.tuples(vectors(), scalars)),
        (LogisticRegression(D, 0.1), weights, st.tuples(vectors().map(lambda x: x / 30), st.sampled_from([0.0, 1.0]))),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("missing", [False, True])
def test_the_gradient_is_that_of_the_loss(estimand, theta, event, missing):
    slope = jax.jit(jax.grad(estimand.loss))

    @given(theta, event)
    def check(theta, event):
        if isinstance(estimand, Quantile) and theta == event:
            return  # the loss has a kink there
        if missing:
            event = _without_first(event)
        expected = slope(theta, event)
        got = estimand.gradient(theta, event)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)

    check()


def _without_first(event):
    if isinstance(event, tuple):
        return _without_first(event[0]), event[1]
    return np.where(np.arange(D) == 0, NAN, event) if event.ndim else event


@given(vectors(), vectors())
def test_the_covariance_gradient_is_zero_in_expectation_at_the_moments(mu, half):
    # two equally likely events, whose mean and covariance are known exactly
    low, high = mu - half, mu + half
    estimand, theta = Covariance(D), Covariance(D).init()._replace(mu=mu, sigma=np.outer(half, half))
    left, right = estimand.gradient(theta, low), estimand.gradient(theta, high)
    np.testing.assert_allclose(left.mu + right.mu, np.zeros(D), atol=1e-3)
    np.testing.assert_allclose(left.sigma + right.sigma, np.zeros((D, D)), atol=0.05, rtol=1e-3)


def test_the_covariance_score_is_the_mahalanobis_distance_over_the_features_that_are_there():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((D, D))
    sigma, mu, x = (a @ a.T + np.eye(D)).astype(np.float32), np.ones(D, np.float32), np.array([3, -1, 2], np.float32)
    estimand = Covariance(D, ridge=0.0)
    theta = estimand.init()._replace(mu=mu, sigma=sigma)
    expected = np.sqrt((x - mu) @ np.linalg.solve(sigma.astype(float), x - mu))
    np.testing.assert_allclose(estimand.score(theta, x), expected, rtol=1e-5)
    expected = np.sqrt((x - mu)[1:] @ np.linalg.solve(sigma[1:, 1:].astype(float), (x - mu)[1:]))
    np.testing.assert_allclose(
        estimand.score(theta, np.where(np.arange(D) == 0, NAN, x).astype(np.float32)), expected, rtol=1e-5
    )


@given(streams(D, most=6))
def test_a_missing_feature_exerts_no_pull_and_every_gradient_is_finite(events):
    targets = np.nan_to_num(events[:, 0], posinf=1.0, neginf=0.0)
    for estimand in (
        Mean(D),
        LogScale(np.zeros(D, np.float32)),
        LinearRegression(D, 0.1),
        LogisticRegression(D),
        Covariance(D),
    ):
        theta = estimand.init()
        for x, y in zip(events, targets, strict=True):
            event = (x, y) if isinstance(theta, Linear) else x
            with np.errstate(all="ignore"):
                seen = estimand.observe(theta, event)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(seen.gradient))
            assert np.isfinite(seen.norm)
            first = jax.tree.leaves(seen.gradient)[0]
            assert not first[..., ~np.isfinite(x)].any()
            assert bool(seen.usable) == bool(np.isfinite(x).any())


def test_scores_mean_what_the_table_says():
    x = np.array([3.0, 4.0], np.float32)
    assert Mean(2).score(np.zeros(2, np.float32), x) == 5.0
    assert Mean(2).score(np.zeros(2, np.float32), np.array([3.0, NAN], np.float32)) == 3.0
    assert LogScale().score(np.float32(np.log(2.0)), np.float32(-6.0)) == pytest.approx(3.0)
    assert LogScale(np.zeros(2)).score(np.zeros(2, np.float32), x) == pytest.approx(np.sqrt(12.5))
    assert LogScale().score(np.float32(0.0), x) == pytest.approx(5.0)
    assert Quantile(0.9).score(np.float32(1.0), np.float32(3.5)) == 2.5
    theta = Linear(np.array([1.0, 2.0], np.float32), np.float32(0.5))
    assert LinearRegression(2).score(theta, (x, np.float32(1.0))) == pytest.approx(10.5)
    assert LogisticRegression(2).score(theta, (x, NAN)) == pytest.approx(1 / (1 + np.exp(-11.5)))


def test_what_cannot_be_scored_scores_nan():
    nothing = np.full(D, np.nan, np.float32)
    assert np.isnan(Mean(D).score(Mean(D).init(), nothing))
    assert np.isnan(LogScale(np.zeros(D)).score(np.zeros(D, np.float32), nothing))
    assert np.isnan(LogScale().score(np.float32(0.0), NAN))
    assert np.isnan(LogScale().score(np.float32(0.0), nothing))
    assert np.isnan(Quantile(0.5).score(np.float32(0.0), NAN))
    assert np.isnan(Covariance(D).score(Covariance(D).init(), nothing))
    theta = LinearRegression(D).init()
    assert np.isnan(LinearRegression(D).score(theta, (np.ones(D, np.float32), NAN)))
    assert np.isnan(LogisticRegression(D).score(theta, (nothing, np.float32(1.0))))


def test_copies_on_a_leading_axis_are_seen_as_each_alone():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(D).astype(np.float32), np.float32(1.0)
    x[1] = np.nan
    cases = [
        (Mean(D), x),
        (LogScale(), x[0]),
        (LogScale(np.zeros(D)), x),
        (Quantile(0.7), x[0]),
        (LinearRegression(D, 0.1), (x, y)),
        (LogisticRegression(D), (x, y)),
        (Covariance(D), x),
    ]
    for estimand, event in cases:
        thetas = [jax.tree.map(lambda t, k=k: (t + 0.1 * k).astype(np.float32), estimand.init()) for k in range(4)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *thetas)
        together = estimand.observe(stacked, jax.tree.map(lambda part: part[None], event))
        for k, theta in enumerate(thetas):
            alone = estimand.observe(theta, event)
            for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
                np.testing.assert_allclose(a, np.broadcast_to(b, (4, *np.shape(a)))[k], rtol=1e-5, atol=1e-6)


def test_sigma_stays_a_covariance_whatever_is_missing():
    rng = np.random.default_rng(2)
    params = ClippedSGD(Covariance(4))
    state = params.init()
    for _ in range(500):
        x = rng.standard_t(2.1, 4).astype(np.float32) * [1, 10, 0.1, 1]
        x[rng.random(4) < 0.3] = np.nan
        state, _ = step(params, state, x.astype(np.float32))
        assert np.linalg.eigvalsh(state.theta.sigma.astype(float)).min() > -1e-3
        np.testing.assert_allclose(state.theta.sigma, state.theta.sigma.T, rtol=1e-5)


def test_log_scale_reads_nine_tenths_of_a_normal_deviation_and_hardly_more_under_corruption():
    rng = np.random.default_rng(3)
    for share, low, high in [(0.0, 0.84, 0.95), (0.1, 0.95, 1.25)]:
        r = rng.standard_normal(20_000).astype(np.float32) * 1e4
        r[rng.random(20_000) < share] = 3e38
        params = ClippedSGD(LogScale(), rate=Decay(floor=0.005))
        state = params.init()
        for x in r:
            state, _ = step(params, state, x)
        assert low < np.exp(state.theta) / 1e4 < high
