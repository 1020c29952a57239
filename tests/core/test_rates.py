"""How far a step goes."""

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onlineguard.core.arrays import COUNT_LIMIT
from onlineguard.core.rates import Constant, Decay, Derived, epoch
from tests.support import reference


@given(st.integers(0, COUNT_LIMIT))
@example(0)
@example(1)
@example(2**24 - 1)
@example(2**24)
@example(COUNT_LIMIT)
def test_an_epoch_is_as_long_as_all_before_it_and_one_more(seen):
    expected = 2 ** ((seen + 1).bit_length() - 1)
    assert int(epoch(np.int32(seen))) == expected
    assert int(jax.jit(epoch)(np.int32(seen))) == expected


def test_derived_is_the_doubling_trick():
    rate = Derived()
    for seen in range(300):
        assert rate(np.int32(seen)) == pytest.approx(reference.derived(seen), rel=1e-6)
    assert Derived(m=2.0, scale=3.0)(np.int32(0)) == pytest.approx(1.5)


@pytest.mark.parametrize("rate", [Constant(0.1), Decay(), Decay(0.5, 0.7, 0.01), Derived()])
def test_a_rate_is_the_same_traced_as_at_once(rate):
    counts = np.array([0, 1, 2, 3, 7, 8, 1000, 2**20], np.int32)
    traced = np.broadcast_to(jax.jit(type(rate).__call__)(rate, counts), counts.shape)
    np.testing.assert_allclose([rate(n) for n in counts], traced, rtol=1e-5)


def test_decay_is_a_running_mean_until_its_memory_is_full():
    rate = Decay(floor=0.1)
    assert [float(rate(np.int32(n))) for n in (0, 1, 4, 9, 50)] == pytest.approx([1.0, 0.5, 0.2, 0.1, 0.1])
