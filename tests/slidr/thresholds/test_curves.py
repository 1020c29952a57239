"""Curves that borrow from all clicks: laws of their shape, and where they stand between own and common."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlineguard.slidr.thresholds.caps import floors, within
from onlineguard.slidr.thresholds.curves import NEVER, counted, shrunk
from onlineguard.slidr.thresholds.family import Family

SCORES = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(-3.0, 3.0)


@st.composite
def clicks(draw, most=40):
    n = draw(st.integers(1, most))
    human = draw(hnp.arrays(np.bool_, n))
    human[0] = True
    codes = hnp.arrays(np.int64, n, elements=st.integers(0, 3))
    return draw(hnp.arrays(np.float64, n, elements=SCORES)), human, draw(codes)


@given(clicks(), st.sampled_from([None, 0.95]), st.sampled_from([0.1, 0.5, 1.0]))
def test_a_curve_begins_with_nothing_ends_with_all_and_rises(traffic, confidence, cap):
    scores, human, codes = traffic
    curves = shrunk(scores, human, codes, 4, confidence, cap)
    assert np.unique(curves.group).tolist() == [0, 1, 2, 3, 4]
    for group in range(4):
        mine = curves.where(curves.group == group)
        assert (mine.thresholds[0], mine.cost[0], mine.clicks[0]) == (NEVER, 0.0, 0.0)
        assert (mine.thresholds[1:] < mine.thresholds[:-1]).all()
        assert (np.diff(mine.cost) > 0).all()
        assert (np.diff(mine.clicks) > 0).all()
        assert mine.clicks.tolist() == [(scores[codes == group] > t).sum() for t in mine.thresholds]
        if (codes == group).any():
            assert mine.thresholds[-1] == -NEVER
    assert curves.cost[curves.group < 4].sum() > 0.0


@given(clicks())
def test_the_counted_curve_is_that_of_the_purchases(traffic):
    scores, human, _ = traffic
    curve = counted(scores, human)
    assert curve.cost.tolist() == [(scores[human] > t).sum() for t in curve.thresholds]
    assert curve.clicks.tolist() == [(scores > t).sum() for t in curve.thresholds]


@given(clicks(), st.floats(0.01, 0.99), st.sampled_from([None, 0.9]))
def test_a_floor_is_the_lowest_threshold_within_the_cap(traffic, cap, confidence):
    scores, human, codes = traffic
    curves = shrunk(scores, human, codes, 4, confidence, cap)
    for group, floor in enumerate(floors(curves, cap)):
        mine = curves.where(curves.group == group)
        assert floor == mine.thresholds[within(mine, cap)].min()


def two_worlds(differ, n=60_000):
    """Slices alike, or of which the last one's people score far higher."""
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 6, n)
    human = rng.random(n) < 0.05
    return rng.standard_normal(n) - 1.5 * human + differ * 2.0 * (human & (codes == 5)), human, codes


def test_slices_that_are_alike_share_one_curve_and_one_that_differs_keeps_its_own():
    for differ in (False, True):
        scores, human, codes = two_worlds(differ)
        curves = shrunk(scores, human, codes, 6)
        for group in (0, 5):
            mine = curves.where(curves.group == group)
            seen = (human & (codes == group) & (scores > 0.5)).sum()
            at = mine.cost[np.searchsorted(-mine.thresholds, -0.5, side="right") - 1]
            if differ:
                assert at == pytest.approx(seen, rel=0.25 if group else 0.6)
            else:
                assert at == pytest.approx((human & (scores > 0.5)).sum() / 6, rel=0.25)


@pytest.mark.parametrize("bought", [0.0, 0.02, 0.2])
def test_a_slice_whose_people_seldom_buy_costs_what_its_people_would_elsewhere(bought):
    scores, human, codes = two_worlds(False)
    human &= (codes != 5) | (np.random.default_rng(0).random(len(codes)) < bought)
    curves = shrunk(scores, human, codes, 6)
    mine, other = (curves.where(curves.group == group) for group in (5, 0))
    for threshold in (1.5, 0.5, -0.5):
        costs = [of.cost[np.searchsorted(-of.thresholds, -threshold, side="right") - 1] for of in (mine, other)]
        assert costs[0] == pytest.approx(costs[1], rel=0.25)


def test_a_slice_without_robots_whose_people_seldom_buy_is_not_marked_for_it():
    rng = np.random.default_rng(7)
    codes = rng.integers(0, 8, 80_000)
    robot = (rng.random(80_000) < 0.3) & (codes != 7)
    scores = rng.standard_normal(80_000) + np.where(robot, 2.0, -1.0)
    human = ~robot & (rng.random(80_000) < np.where(codes == 7, 0.005, 0.1))
    found = Family(shrunk(scores, human, codes, 8), "envelope", 0.02)
    marked = scores > found.thresholds(0.02 * human.sum())[codes]
    assert marked[robot].mean() > 0.7
    assert marked[codes == 7].mean() < 0.03


def test_the_common_rate_is_level_nowhere_but_at_its_ends():
    rng = np.random.default_rng(1)
    scores = rng.random(40_000)
    human = rng.random(40_000) < 0.05 * (scores < 0.3) + 0.005  # level by chance, over most of its range
    curves = shrunk(scores, human, np.zeros(40_000, int), 1)
    common = curves.where(curves.group == 1)
    rate = np.diff(common.cost) / np.diff(common.clicks)
    changes = np.flatnonzero(abs(np.diff(rate)) > 1e-9 * rate[1:])
    assert (np.diff(changes) == 1).all()
    assert len(changes) > 0.5 * len(rate)
