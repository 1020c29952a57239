"""The period that is found in a series, and the distance to the same time of earlier periods."""

import math

import numpy as np
import pytest

from onlineguard.models import season, shapes
from onlineguard.models.season import Season
from onlineguard.models.shapes import BLOCK, Course


def walked(x):
    """The period after each value of a series, and the distance of each to the same time of earlier periods."""
    state, course, periods, distances = Season.blank(1), Course.blank(1), [], []
    with np.errstate(all="ignore"):
        for i, value in enumerate(np.asarray(x, np.float32)):
            latest, count, there = shapes.means(course, value[None]), np.array([i], np.int32), np.array([True])
            distances.append(float(season.distance(state, course, latest, count)[0]))
            learned = season.found(state, course, latest, count, there)
            course = shapes.followed(course, value[None], latest, count, there)
            state = learned
            periods.append(float(state.period[0]))
    return np.array(periods), np.array(distances)


def plateau(n, period, rng, noise=0.05):
    return np.where(np.arange(n) % period < 0.4 * period, 1.0, 0.0) + noise * rng.standard_normal(n)


@pytest.mark.parametrize(("period", "blocks"), [(288, 18), (336, 21)])
def test_the_period_is_found_in_whole_blocks_after_three_of_it(period, blocks):
    periods, _ = walked(plateau(4_000, period, np.random.default_rng(0)))
    assert not periods[: 3 * blocks * BLOCK - 1].any()
    assert periods[4 * blocks * BLOCK] == blocks
    assert set(periods[4 * blocks * BLOCK :]) == {blocks}


@pytest.mark.parametrize("period", [72, 100])
def test_a_period_of_no_whole_number_of_blocks_is_found_as_a_multiple_of_it(period):
    found = walked(plateau(5_000, period, np.random.default_rng(0)))[0][-1]
    assert found > 0
    assert found * BLOCK % period == 0


@pytest.mark.parametrize("law", ["noise", "walk", "constant", "ramp"])
def test_what_does_not_repeat_itself_has_no_period(law):
    rng = np.random.default_rng(1)
    x = {
        "noise": rng.standard_normal(5_000),
        "walk": rng.standard_normal(5_000).cumsum(),
        "constant": np.full(5_000, 0.1),
        "ramp": np.arange(5_000.0),
    }[law]
    periods, distances = walked(x)
    assert not periods.any()
    assert np.isinf(distances).all()


def test_a_flat_midday_is_far_from_all_middays_though_nights_are_as_flat():
    x = plateau(4_032, 288, np.random.default_rng(2))
    day = slice(10 * 288, 10 * 288 + 115)
    x[day] -= 1.0
    _, distances = walked(x)
    assert distances[10 * 288 + 60] > 0.9
    assert np.median(distances[5 * 288 : 10 * 288]) < 0.05


def test_one_absurd_value_does_not_hide_the_period():
    x = plateau(6_000, 288, np.random.default_rng(3))
    x[2_000] = 1e30
    assert walked(x)[0][-1] == 18


def test_before_the_first_block_there_is_no_period():
    state = Season.blank(2)
    assert state.period.tolist() == [0.0, 0.0]
    course, latest = Course.blank(2), np.zeros((2, 4), np.float32)
    assert season.distance(state, course, latest, np.zeros(2, np.int32)).tolist() == [math.inf, math.inf]
