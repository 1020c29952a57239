"""The period that is found in a series, and the distance to the same time of earlier periods."""

import math

import numpy as np

from onlineguard.models import season, shapes
from onlineguard.models.season import Season
from onlineguard.models.shapes import BLOCK, Course


def walked(*series):
    """The period after each value, and the distance of each to the same time of earlier periods; both (series, n).

    Series are learned side by side, as the columns of events are: that takes no longer than one.
    """
    columns = len(series)
    state, course, periods, distances = Season.blank(columns), Course.blank(columns), [], []
    with np.errstate(all="ignore"):
        for i, values in enumerate(np.array(series, np.float32).T):
            count, there = np.full(columns, i, np.int32), np.full(columns, True)
            latest = shapes.means(course, values)
            distances.append(season.distance(state, course, latest, count))
            learned = season.found(state, course, latest, count, there)
            course = shapes.followed(course, values, latest, count, there)
            state = learned
            periods.append(state.period)
    return np.array(periods).T, np.array(distances).T


def plateau(n, period, rng, noise=0.05):
    return np.where(np.arange(n) % period < 0.4 * period, 1.0, 0.0) + noise * rng.standard_normal(n)


def test_the_period_is_found_in_whole_blocks_after_three_of_it():
    blocks = (18, 21)
    found, _ = walked(*(plateau(4_000, BLOCK * of, np.random.default_rng(0)) for of in blocks))
    for of, periods in zip(blocks, found, strict=True):
        assert not periods[: 3 * of * BLOCK - 1].any()
        assert periods[4 * of * BLOCK] == of
        assert set(periods[4 * of * BLOCK :]) == {of}


def test_a_period_of_no_whole_number_of_blocks_is_found_as_a_multiple_of_it():
    lengths = np.array([72, 100])
    found = walked(*(plateau(5_000, period, np.random.default_rng(0)) for period in lengths))[0][:, -1]
    assert (found > 0).all()
    assert (found * BLOCK % lengths == 0).all()


def test_what_does_not_repeat_itself_has_no_period():
    rng = np.random.default_rng(1)
    noise, walk = rng.standard_normal(5_000), rng.standard_normal(5_000).cumsum()
    periods, distances = walked(noise, walk, np.full(5_000, 0.1), np.arange(5_000.0))
    assert not periods.any()
    assert np.isinf(distances).all()


def test_a_flat_midday_is_far_from_all_middays_though_nights_are_as_flat():
    x = plateau(4_032, 288, np.random.default_rng(2))
    day = slice(10 * 288, 10 * 288 + 115)
    x[day] -= 1.0
    _, (distances,) = walked(x)
    assert distances[10 * 288 + 60] > 0.9
    assert np.median(distances[5 * 288 : 10 * 288]) < 0.05


def test_one_absurd_value_does_not_hide_the_period():
    x = plateau(6_000, 288, np.random.default_rng(3))
    x[2_000] = 1e30
    assert walked(x)[0][0, -1] == 18


def test_before_the_first_block_there_is_no_period():
    state = Season.blank(2)
    assert state.period.tolist() == [0.0, 0.0]
    course, latest = Course.blank(2), np.zeros((2, 4), np.float32)
    assert season.distance(state, course, latest, np.zeros(2, np.int32)).tolist() == [math.inf, math.inf]
