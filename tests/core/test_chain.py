"""Location, then scale, then threshold."""

import jax
import numpy as np
import pytest
from hypothesis import given

from onlineguard.core.chain import Chain
from onlineguard.core.clipped_sgd import ClippedSGD, step
from onlineguard.core.estimands import Covariance, LinearRegression, LogScale, Mean, Quantile
from onlineguard.core.rates import Constant, Decay
from onlineguard.engine.schedules import scan
from tests.support.strategies import streams

D = 3
PER_FEATURE = Chain(
    (ClippedSGD(Mean(D)), ClippedSGD(LogScale(np.zeros(D, np.float32))), ClippedSGD(Quantile(0.99), Decay(floor=0.02)))
)
LENGTH = Chain((ClippedSGD(Mean(D)), ClippedSGD(LogScale()), ClippedSGD(Quantile(0.99), Decay(floor=0.02))))


def test_the_residual_of_one_stage_is_the_event_of_the_next():
    mean, scale = ClippedSGD(Mean(D), Constant(0.1)), ClippedSGD(LogScale(np.zeros(D, np.float32)), Constant(0.1))
    chain = Chain((mean, scale))
    state, first, second = chain.init(), mean.init(), scale.init()
    for x in np.random.default_rng(0).standard_normal((50, D)).astype(np.float32) * 5:
        residual = x - first.theta
        expected = scale.score(second, residual)
        first, second = mean.learn(first, x), scale.learn(second, residual)
        assert chain.score(state, x) == expected
        state, score = step(chain, state, x)
        assert score == expected
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves((first, second)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("chain", [PER_FEATURE, LENGTH], ids=["one sigma a feature", "one sigma"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_a_positive_score_is_an_anomaly_at_any_scale(chain, scale):
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((12_000, D)) * scale + 3 * scale).astype(np.float32)
    odd = rng.random(12_000) < 0.005
    x[odd] += (50 * scale * rng.choice([-1, 1], (odd.sum(), D))).astype(np.float32)
    _, scores = scan(chain, chain.init(), x)
    alarms, odd = np.asarray(scores)[4000:] > 0, odd[4000:]
    assert alarms[odd].all()
    assert alarms[~odd].mean() < 0.02


def test_what_cannot_be_scored_scores_plus_infinity_and_teaches_nothing():
    state, _ = step(PER_FEATURE, PER_FEATURE.init(), np.ones(D, np.float32))
    nothing = np.full(D, np.nan, np.float32)
    after, score = step(PER_FEATURE, state, nothing)
    assert score == np.inf
    assert PER_FEATURE.score(state, nothing) == np.inf
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


@given(events=streams(D))
def test_scores_are_never_nan_and_learning_and_scoring_apart_agree_with_a_step(events):
    state = LENGTH.init()
    for event in events:
        with np.errstate(all="ignore"):
            apart = LENGTH.learn(state, event), LENGTH.score(state, event)
        state, score = step(LENGTH, state, event)
        assert not np.isnan(score)
        for a, b in zip(jax.tree.leaves(apart), jax.tree.leaves((state, score)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_regression_and_a_covariance_can_be_stages():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2000, 2)).astype(np.float32)
    y = (x @ [1.0, 2.0] + rng.standard_normal(2000)).astype(np.float32)
    chain = Chain((ClippedSGD(LinearRegression(2)), ClippedSGD(LogScale())))
    (_, scale), _ = scan(chain, chain.init(), (x, y))
    assert np.exp(scale.theta) == pytest.approx(0.9, abs=0.2)
    chain = Chain((ClippedSGD(Covariance(2)), ClippedSGD(Quantile(0.5))))
    (_, median), _ = scan(chain, chain.init(), x)
    assert median.theta == pytest.approx(1.2, abs=0.5)


def test_chains_nest():
    flat = Chain((ClippedSGD(Mean(D)), ClippedSGD(LogScale(np.zeros(D, np.float32))), ClippedSGD(Quantile(0.9))))
    nested = Chain((Chain(flat.stages[:1]), Chain(flat.stages[1:])))
    x = np.random.default_rng(3).standard_normal((100, D)).astype(np.float32)
    np.testing.assert_array_equal(scan(nested, nested.init(), x)[1], scan(flat, flat.init(), x)[1])
