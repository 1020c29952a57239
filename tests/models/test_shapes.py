"""Courses and levels beside a search through the whole series."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard.models import shapes
from onlineguard.models.shapes import BLOCK, BLOCKS, LATEST, WHOLE, Course


def walked(x):
    """The course after a series, and its distances at the last value."""
    course, found = Course.blank(1), None
    with np.errstate(all="ignore"):
        for i, value in enumerate(np.asarray(x, np.float32)):
            latest = shapes.means(course, value[None])
            found = shapes.distances(course, latest)
            course = shapes.followed(course, value[None], latest, np.array([i]), np.array([True]))
    return course, [float(y[0]) for y in found]


def searched(x):
    """Course and level of the end of a series, against all aligned blocks that end before its latest values."""
    x = np.asarray(x, float)
    whole = len(x) - 1 - (len(x) - 1) % BLOCK  # the last value's own block is not complete before it
    blocks = x[:whole].reshape(-1, BLOCK).mean(axis=1)[::-1][:BLOCKS][4:]
    latest = x[-LATEST:].reshape(4, BLOCK).mean(axis=1)[::-1]
    courses = [abs(blocks[i : i + 3] - latest[:3]).sum() for i in range(len(blocks) - 2)]
    levels = [abs(blocks[i : i + 4].mean() - latest.mean()) for i in range(len(blocks) - 3)]
    return min(courses), min(levels)


@settings(max_examples=20)
@given(seed=st.integers(0, 99), n=st.integers(WHOLE + 1, 2_500))
def test_the_distances_are_those_of_a_search(seed, n):
    x = np.random.default_rng(seed).standard_normal(n).cumsum()
    assert walked(x)[1] == pytest.approx(searched(x), abs=1e-4)


def test_there_is_none_before_the_past_is_long_enough():
    x = np.arange(float(WHOLE))
    assert np.isinf(walked(x[: LATEST + 3 * BLOCK])[1]).all()
    assert np.isfinite(walked(np.append(x, 0.0))[1]).all()


def test_a_course_that_came_before_is_at_no_distance():
    x = np.tile(np.round(np.random.default_rng(0).standard_normal(320), 2), 4)
    assert walked(x)[1] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_a_constant_series_is_at_no_distance_to_the_last_bit():
    assert walked(np.full(500, 0.1, np.float32))[1] == [0.0, 0.0]
