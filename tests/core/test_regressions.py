"""Regressions at every rate at once on standardised features: what they predict, and what cannot move them."""

import jax
import numpy as np

from onlineguard import Engine, linear_regression, logistic_regression


def test_a_slice_predicts_features_of_any_size_with_absurd_targets_among_them():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3_000, 2)) * [1.0, 1e4] + [0.0, 5e5]
    y = 3.0 * x[:, 0] + 2e-4 * (x[:, 1] - 5e5) + 50.0
    y[::10] = 1e7
    engine = Engine(2, estimator=linear_regression(2))
    engine.update(["a"] * 3_000, x, y)
    predicted = engine.predict(["a", "a"], [[1.0, 5e5], [0.0, 5.1e5]])
    np.testing.assert_allclose(predicted, [53.0, 52.0], atol=0.8)


def test_mostly_zero_heavy_tailed_counts_tell_the_class():
    rng = np.random.default_rng(0)
    y = rng.random(6_000) < 0.1
    x = (rng.random((6_000, 4)) < np.where(y[:, None], 0.3, 0.03)) * np.ceil(rng.lognormal(1.0, 3.0, (6_000, 4)))
    engine = Engine(4, estimator=logistic_regression(4))
    engine.update(["a"] * 5_000, x[:5_000], y[:5_000])
    p = engine.predict(["a"] * 1_000, x[5_000:])
    odd = y[5_000:]
    assert (p[odd][:, None] > p[~odd]).mean() + 0.5 * (p[odd][:, None] == p[~odd]).mean() > 0.7


def test_no_event_is_overshot_however_large_its_features_are():
    model = linear_regression(3)
    state = model.init()
    step = jax.jit(model.step)
    rng = np.random.default_rng(0)
    for x in rng.normal(size=(200, 3)).astype(np.float32) * 1e3:
        target = np.float32(x.sum())
        before = model.predict(state, x)
        state, _ = step(state, (x, target))
        after = model.predict(state, x)
        assert abs(after - target) < 1.5 * abs(before - target) + 1e3
