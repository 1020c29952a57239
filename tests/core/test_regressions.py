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


def test_a_target_is_measured_from_the_nearest_number_between_the_bent_line_and_the_straight_one():
    rng = np.random.default_rng(0)
    model = linear_regression(1)
    state = model.init()
    for x in rng.normal(size=(500, 1)).astype(np.float32):
        state, _ = model.step(state, (x, 2.0 * x[0]))
    far = np.full(1, 6.0, np.float32)  # deviations: the prediction is that of 2.5 of them, about 5
    bent = model.predict(state, far)
    straight = 2.0 * 6.0
    assert bent < 6.0
    for y, distance in (
        (bent, 0.0),
        (8.0, 0.0),
        (bent - 3.0, 3.0),
        (straight + 3.0, 3.0),
        (-straight, bent + straight),
    ):
        found = model.score(state, (far, np.float32(y)))
        np.testing.assert_allclose(found, distance, atol=0.5)
        assert found == model.step(state, (far, np.float32(y)))[1]
    absurd = np.full(1, 1e6, np.float32)  # no line goes on so far
    np.testing.assert_allclose(model.score(state, (absurd, np.float32(8.0))), 8.0 - bent, atol=0.5)
    near = np.ones(1, np.float32)
    np.testing.assert_allclose(model.score(state, (near, np.float32(5.0))), 3.0, atol=0.1)
    assert np.isnan(model.score(state, (far, np.float32(np.nan))))
    assert np.isfinite(model.score(state, (np.full(1, 3e38, np.float32), np.float32(0.0))))


def test_usual_events_of_skewed_features_are_flagged_at_about_the_target_rate_and_far_targets_found():
    rng = np.random.default_rng(0)
    x = rng.gamma(5.0, 10.0, (6_000, 4))
    y = x.sum(1) + rng.normal(0.0, 2.0, 6_000)
    far = np.arange(1_000, 6_000, 200)
    y[far] -= 20.0  # a tenth of the mean
    usual = np.setdiff1d(np.arange(1_000, 6_000), far)
    flagged = Engine(4, estimator=linear_regression(4)).update(["a"] * 6_000, x, y).anomalous
    assert flagged[far].mean() > 0.9
    assert flagged[usual].mean() < 0.02
