"""Axes: ticks are few, distinct and inside, and a higher value stands higher."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlineguard.report.axes import Axis, time_ticks
from tests.support.pages import any_float


@given(low=st.integers(-(10**16), 10**16), width=st.integers(3, 10**16))
def test_time_ticks_are_few_distinct_and_inside(low, width):
    ticks = time_ticks(low, low + width)
    assert 2 <= len(ticks) <= 11
    at = [place for place, _ in ticks]
    assert all(low <= place <= low + width for place in at)
    assert all(b > a for a, b in pairwise(at))
    texts = [text for _, text in ticks]
    assert all(b != a for a, b in pairwise(texts))


@given(values=hnp.arrays(np.float64, st.integers(1, 50), elements=any_float), from_zero=st.booleans())
def test_value_ticks_differ_and_an_axis_keeps_the_order(values, from_zero):
    values = np.abs(values) if from_zero else values
    axis = Axis.of(values, from_zero)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 11
    assert len({text for _, text in ticks}) == len(ticks)
    ordered = axis.y(np.sort(values[np.isfinite(values)]))
    assert (np.diff(ordered) <= 0).all()
    assert ((ordered >= 0) & (ordered <= 1_000)).all()


def test_an_axis_is_logarithmic_only_where_it_helps():
    random = np.random.default_rng(0)
    assert Axis.of(random.normal(size=1_000)).linear_to is None
    assert Axis.of(random.uniform(1e6, 1.1e6, 1_000)).linear_to is None
    assert Axis.of(np.append(random.normal(size=1_000), 1e6)).linear_to is not None
