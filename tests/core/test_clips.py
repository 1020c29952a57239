"""How long a gradient may be."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.core.clips import Adaptive, Fixed

FREE = (0.0, np.inf)


def _limits(clip, norms, bounds=FREE):
    state, limits = clip.init(), []
    for norm in norms:
        limit, state = clip.observe(state, np.float32(norm), bounds)
        limits.append(float(limit))
    return np.array(limits)


def test_fixed_is_fixed_even_where_the_estimand_has_bounds():
    assert _limits(Fixed(2.0), [1.0, 5.0], bounds=(3.0, 4.0)).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e12])
@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_adaptive_finds_the_quantile_at_any_scale(scale, quantile):
    norms = np.random.default_rng(0).lognormal(0.0, 1.0, 4000)
    limits = _limits(Adaptive(quantile, 0.02), norms * scale)
    assert np.exp(np.log(limits[1000:] / scale).mean()) == pytest.approx(np.quantile(norms, quantile), rel=0.12)


@given(st.floats(2.0**-100, 2.0**100, width=32))
def test_the_first_norm_is_used_whole_and_zeros_before_it_teach_nothing(norm):
    assert _limits(Adaptive(), [0.0, 0.0, norm])[2] == np.float32(norm)


def test_a_first_norm_that_was_only_the_way_from_the_template_is_forgotten_at_once():
    assert _limits(Adaptive(), [1e12, 1.0, 3e38])[2] == pytest.approx(1.0)


@given(st.lists(st.floats(2.0**-100, 2.0**100, width=32), min_size=3, max_size=40))
def test_one_norm_moves_the_limit_by_at_most_a_step_in_the_log(norms):
    limits = _limits(Adaptive(0.5, 0.05), [*norms, 1.0])
    steps = abs(np.diff(np.log(limits[2:])))
    largest = np.maximum(2.0 / (np.arange(len(steps)) + 3.0), 0.05) * 0.5
    assert (steps <= largest + 1e-4).all()


def test_the_estimand_bounds_an_adaptive_limit():
    assert _limits(Adaptive(), [1e-9, 1e9], bounds=(1.0, 2.0)).tolist() == [1.0, 1.0]
    assert _limits(Adaptive(), [1e9, 1e9], bounds=(1.0, 2.0)).tolist() == [2.0, 2.0]


def test_adaptive_is_the_same_traced_as_at_once():
    clip, norms = Adaptive(0.7), np.random.default_rng(1).exponential(size=200).astype(np.float32)
    traced = jax.jit(Adaptive.observe)
    state, limits = clip.init(), []
    for norm in norms:
        limit, state = traced(clip, state, norm, FREE)
        limits.append(float(limit))
    np.testing.assert_allclose(_limits(clip, norms), limits, rtol=1e-4)
