from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onlineguard_service.histogram import Histogram


@given(st.lists(st.floats(0.0, 10.0)))
def test_a_bucket_counts_all_that_is_not_above_its_end(values):
    ends = (0.5, 1.0, 7.25)
    histogram = Histogram(ends)
    for value in values:
        histogram.add(value)
    assert list(accumulate(histogram.counts)) == [sum(v <= end for v in values) for end in (*ends, float("inf"))]
    assert len(histogram) == len(values)
    assert histogram.sum == pytest.approx(sum(values))
