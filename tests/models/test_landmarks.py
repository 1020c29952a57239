"""Landmarks beside a plain list of all values."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard.models import landmarks
from onlineguard.models.landmarks import LANDMARKS


def after(values):
    marks = landmarks.blank(1)
    with np.errstate(all="ignore"):
        for x in np.asarray(values, np.float32):
            near = landmarks.distance(marks, x[None])
            marks = landmarks.placed(marks, x[None], near > 0.0)
    return marks


def by_sorting(values):
    """The same rule on a sorted list."""
    kept = []
    for x in np.asarray(values, np.float32):
        if x in kept:
            continue
        kept = sorted([*kept, x])
        if len(kept) > LANDMARKS:
            gaps = np.array(kept[2:]) - np.array(kept[:-2])
            del kept[1 + int(np.argmin(gaps))]
    return kept


def test_there_is_no_distance_before_the_first_value():
    assert landmarks.distance(landmarks.blank(2), np.zeros(2, np.float32)).tolist() == [math.inf, math.inf]


@settings(max_examples=30)
@given(seed=st.integers(0, 99), n=st.integers(1, 400), digits=st.integers(0, 6))
def test_the_landmarks_are_those_of_a_sorted_list(seed, n, digits):
    values = np.round(np.random.default_rng(seed).standard_t(2.0, n), digits)
    marks = after(values)[0]
    expected = by_sorting(values)
    np.testing.assert_array_equal(marks[: len(expected)], expected)
    assert np.isinf(marks[len(expected) :]).all()


def test_they_cover_all_that_was_ever_seen_however_rarely():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(5_000)
    values[100:103] = (50.0, 80.0, -40.0)
    marks = after(values)
    for x in (50.0, 80.0, -40.0):
        assert landmarks.distance(marks, np.array([x], np.float32)) == 0.0
    assert abs(np.diff(marks[0][(marks[0] > -2) & (marks[0] < 2)])).max() < 0.3
