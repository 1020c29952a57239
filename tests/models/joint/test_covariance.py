"""The inverse covariance against one that is computed afresh, in float64."""

import jax
import numpy as np

from onlineguard.models.joint.covariance import CLIP, RIDGE, Covariance, learned_covariance, transformed


def learned(state, y, rate):
    py = transformed(state, y)
    return learned_covariance(state, y, py, y @ py, np.float32(len(y)), rate)


def test_the_inverse_is_that_of_the_forgetting_covariance():
    rng = np.random.default_rng(0)
    d, rate = 5, np.float32(0.01)
    mixing = rng.standard_normal((d, d))
    state, c = Covariance.blank(d), np.eye(d)
    for i in range(600):
        y = (mixing @ rng.standard_normal(d)).astype(np.float32)
        weight = min(CLIP**2 * d / float(y @ np.linalg.solve(c, y)), 1.0)
        state = learned(state, y, rate)
        c = (1.0 - rate) * c + rate * weight * np.outer(y, y)
        c[i % d, i % d] += rate * RIDGE * d
    np.testing.assert_allclose(state.inverse @ c, np.eye(d), atol=1e-3)


def test_the_inverse_stays_symmetric_and_positive_over_many_events_of_low_rank():
    rng = np.random.default_rng(1)
    d, n = 12, 300_000
    mixing = rng.standard_normal((d, 2)).astype(np.float32)

    @jax.jit
    def run(state, latent):
        def body(state, z):
            return learned(state, mixing @ z, np.float32(0.001)), None

        return jax.lax.scan(body, state, latent)[0]

    state = run(Covariance.blank(d), rng.standard_normal((n, 2)).astype(np.float32))
    inverse = np.asarray(state.inverse)
    np.testing.assert_array_equal(inverse, inverse.T)
    values = np.linalg.eigvalsh(inverse.astype(np.float64))
    assert values.min() > 0.0
    assert values.max() < 2.0 / RIDGE


def test_a_rate_of_0_changes_nothing():
    state = learned(Covariance.blank(3), np.ones(3, np.float32), np.float32(0.1))
    same = learned(state, np.full(3, 2.0, np.float32), np.float32(0.0))
    np.testing.assert_array_equal(same.inverse, state.inverse)
    assert same.turn == state.turn
