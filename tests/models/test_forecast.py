"""The residual of a forecast: what it is worth, and how rare it is."""

import math

import numpy as np
import pytest

from onlineguard.models import forecast
from onlineguard.models.forecast import BINS, Forecast
from onlineguard.models.shapes import LATEST


def walked(x):
    """What was learned of a series, and the residuals of all its values, stacked."""
    state, latest, found = Forecast.blank(1), np.full((1, LATEST), math.nan, np.float32), []
    with np.errstate(all="ignore"):
        for value in np.asarray(x, np.float32):
            left = forecast.residual(state, latest, value[None])
            state = forecast.corrected(state, left, latest, value[None], np.array([True]))
            latest = np.concatenate((value[None, None], latest[:, :-1]), 1)
            found.append(left)
    return state, found


def smooth(n, seed=0):
    """A walk whose steps follow from each other."""
    rng, steps = np.random.default_rng(seed), np.zeros(n)
    for t in range(1, n):
        steps[t] = 0.8 * steps[t - 1] + rng.standard_normal()
    return steps.cumsum()


def test_the_weights_learn_how_a_difference_follows_from_the_one_before():
    state, _ = walked(smooth(8_000))
    np.testing.assert_allclose(state.weights[0], [0.8, 0.0, 0.0], atol=0.15)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_quantiles_are_those_of_the_residuals(scale):
    _, found = walked(scale * smooth(4_000))
    sizes = np.array([abs(left.value[0]) for left in found])[40:]
    assert found[-1].median[0] == pytest.approx(np.quantile(sizes, 0.5), rel=0.1)
    assert found[-1].limit[0] == pytest.approx(10.0 * np.quantile(sizes, 0.9), rel=0.1)


def test_a_forecast_is_worth_something_in_a_smooth_series_and_nothing_in_noise():
    assert walked(smooth(1_500))[1][-1].worth[0]
    assert not walked(np.random.default_rng(0).standard_normal(1_500))[1][-1].worth[0]


def test_the_rarity_of_a_residual_follows_a_pareto_tail_and_at_most_the_count():
    x = smooth(4_000)
    _, found = walked(x)
    sizes = np.array([abs(left.value[0]) for left in found])
    q90, q99 = np.quantile(sizes[40:], (0.9, 0.99))
    step = max(math.log10(q99 / q90), 0.05)
    left = max(found[2_000:], key=lambda left: left.rarity[0])
    size = abs(float(left.value[0]))
    assert 2.0 < left.rarity[0] < math.log10(4_000) + 0.5
    assert left.rarity[0] == pytest.approx(2.0 + math.log10(size / q99) / step, abs=0.5)


def test_one_absurd_residual_at_the_start_does_not_misplace_the_bins():
    x = smooth(1_000)
    x[4] += 1e6
    state, _ = walked(x)
    at = (state.residuals[0] > state.residuals[0, 0] / 2).sum()
    assert 8 < at < BINS - 8


def test_the_counts_are_halved_before_they_grow_without_end():
    state = Forecast.blank(1)._replace(residuals=np.full((1, BINS), forecast.FULL - 1, np.int32))
    counts = forecast._counted(state.residuals, np.array([BINS - 1], np.int32), np.array([True]))
    assert counts[0, 0] == forecast.FULL // 2
