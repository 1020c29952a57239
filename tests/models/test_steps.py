"""Jumps that a series makes by itself, and those that it does not."""

import math

import numpy as np

from onlineguard.models import steps
from onlineguard.models.shapes import LATEST, Course
from onlineguard.models.steps import LASTED, USUAL, Steps


def walked(x, large):
    """The steps that were learned, and whether the forecast of each value is broken by a usual one.

    `large` says at which values the residual is large.
    """
    state, latest, found = Steps.blank(1), np.full((1, LATEST), math.nan, np.float32), []
    with np.errstate(all="ignore"):
        for i, value in enumerate(np.asarray(x, np.float32)[:, None]):
            course, rarity = Course(latest, latest), np.array([9.0 if i in large else 0.0], np.float32)
            usual = steps.usual(state, course, value)
            found.append(bool(usual[0] | (state.broken[0] > 0)))
            state = steps.followed(state, course, value, rarity, usual, np.array([True]))
            latest = np.concatenate((value[:, None], latest[:, :-1]), 1)
    return state, found


def test_a_jump_that_lasts_is_kept_and_a_spike_is_not():
    x = np.zeros(400)
    x[100:] += 5.0
    x[200:203] += 7.0
    state, found = walked(x, {100, 200, 203})
    assert state.kept[0, 0] == 5.0
    assert np.isnan(state.kept[0, 1:]).all()
    assert not any(found)


def test_a_jump_is_usual_once_three_of_its_sign_and_size_have_lasted_and_so_are_the_values_that_follow_from_it():
    apart = 2 * LASTED
    x = np.repeat(np.arange(USUAL + 2), apart) * 10.0
    x[-1] += 40.0  # another size
    at = {apart * i for i in range(1, USUAL + 2)}
    _, found = walked(x, at)
    assert np.flatnonzero(found).tolist() == [apart * (USUAL + 1) + i for i in range(4)]


def test_a_spike_is_not_kept_though_a_wave_has_come_up_to_where_it_was():
    x = np.minimum(np.arange(400.0), 100.0 + LASTED - 1)  # a slope, and a level from there on
    x[100] += LASTED
    state, _ = walked(x, {100, 101})
    assert np.isnan(state.kept).all()


def test_a_column_without_a_value_waits():
    state = Steps(
        np.full((1, 16), math.nan, np.float32),
        np.array([3.0], np.float32),
        np.array([1.0], np.float32),
        np.array([LASTED - 1], np.int32),
        np.array([2], np.int32),
    )
    course = Course(np.zeros((1, LATEST), np.float32), np.zeros((1, 1), np.float32))
    after = steps.followed(
        state, course, np.array([3.0], np.float32), np.array([9.0], np.float32), np.array([True]), np.array([False])
    )
    for old, new in zip(state, after, strict=True):
        np.testing.assert_array_equal(new, old)
