"""The residual of a forecast: what it is worth, and how rare it is."""

import math

import jax
import numpy as np
import pytest

from onlineguard.models import forecast
from onlineguard.models.forecast import BINS, Forecast
from onlineguard.models.shapes import LATEST


def walked(*series):
    """What was learned of series side by side, and the residuals of all their values, one after the other."""
    columns = len(series)
    state, latest, found = Forecast.blank(columns), np.full((columns, LATEST), math.nan, np.float32), []
    with np.errstate(all="ignore"):
        for values in np.array(series, np.float32).T:
            left = forecast.residual(state, latest, values)
            state = forecast.corrected(state, left, latest, values, np.full(columns, True))
            latest = np.concatenate((values[:, None], latest[:, :-1]), 1)
            found.append(left)
    return state, found


def smooth(n, seed=0):
    """A walk whose steps follow from each other."""
    rng, steps = np.random.default_rng(seed), np.zeros(n)
    for t in range(1, n):
        steps[t] = 0.8 * steps[t - 1] + rng.standard_normal()
    return steps.cumsum()


@pytest.fixture(scope="module")
def smooth_ones():
    """What was learned of one smooth series in three units, the second its own, and the residuals."""
    x = smooth(4_000)
    return walked(1e-6 * x, x, 1e9 * x)


def test_the_weights_learn_how_a_difference_follows_from_the_one_before(smooth_ones):
    state, _ = smooth_ones
    np.testing.assert_allclose(state.weights[1], [0.8, 0.0, 0.0], atol=0.15)


@pytest.mark.parametrize("column", range(3))
def test_quantiles_are_those_of_the_residuals_in_any_unit(smooth_ones, column):
    found = smooth_ones[1]
    sizes = np.array([abs(left.value[column]) for left in found])[40:]
    assert found[-1].median[column] == pytest.approx(np.quantile(sizes, 0.5), rel=0.1)
    assert found[-1].limit[column] == pytest.approx(10.0 * np.quantile(sizes, 0.9), rel=0.1)


def test_a_forecast_is_worth_something_in_a_smooth_series_and_nothing_in_noise():
    _, found = walked(smooth(1_500), np.random.default_rng(0).standard_normal(1_500))
    assert found[-1].worth.tolist() == [True, False]


def test_the_rarity_of_a_residual_follows_a_pareto_tail_and_at_most_the_count(smooth_ones):
    found = [jax.tree.map(lambda leaf: leaf[1:2], left) for left in smooth_ones[1]]
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
