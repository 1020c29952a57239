"""The surprise of a distance, beside one that keeps the whole past."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard.models.surprise import AGE, FORGOTTEN, KEPT, LEAST_AGE, LEAST_TAIL, MOST, Past, remembered, surprise


def after(distances):
    """The past of one kind of distances."""
    past = Past.blank(1)
    for y in np.asarray(distances, np.float32):
        past = remembered(past, y[None], np.array([True]))
    return past


def of(past, y):
    with np.errstate(all="ignore"):
        return float(surprise(past, np.array([y], np.float32))[0])


def by_the_whole_past(distances, y):
    """The same in float64, from all distances; for y among the largest."""
    distances, decades = np.asarray(distances, float), []
    largest = np.sort(distances)[::-1][:KEPT]
    tail = max(np.log(largest[:-1]).mean() - math.log(largest[-1]), LEAST_TAIL)
    for past in (distances, distances[math.floor(FORGOTTEN * len(distances)) :]):
        m, k = len(past), (past >= y).sum()
        log_p = math.log10((k + 0.5) / (m + 1))
        if k == 0:
            best = largest[np.isin(largest, past)].max()
            log_p -= math.log10(y / best) / tail
        decades.append(min(-log_p - AGE * math.log10(max(m, LEAST_AGE) + 1), MOST))
    return np.mean(decades)


@settings(max_examples=30)
@given(seed=st.integers(0, 99), n=st.integers(30, 400), scale=st.sampled_from([1e-6, 1.0, 3e5]))
def test_the_largest_are_judged_as_if_the_whole_past_were_kept(seed, n, scale):
    distances = scale * np.random.default_rng(seed).exponential(size=n).astype(np.float32)
    past = after(distances)
    top = np.sort(distances)[::-1]
    for y in (top[0], top[3], 1.5 * top[0], 20.0 * top[0], 0.5 * (top[5] + top[6])):
        assert of(past, y) == pytest.approx(by_the_whole_past(distances, np.float32(y)), abs=1e-4)


def test_below_the_largest_the_share_is_known_to_within_its_octave():
    distances = np.random.default_rng(0).exponential(size=5_000)
    past = after(distances)
    for level in (0.5, 0.2, 0.05):
        y = np.quantile(distances, 1.0 - level)
        assert of(past, y) == pytest.approx(-math.log10(level) - AGE * np.log10([5_001, 3_501]).mean(), abs=0.15)


def test_what_is_no_distance_at_all_is_the_least_surprising():
    past = after(np.random.default_rng(0).exponential(size=500))
    assert of(past, 0.0) == pytest.approx(-AGE * math.log10(LEAST_AGE + 1), abs=1e-4)
    assert of(past, 0.0) <= of(past, 1e-4) < of(past, 1.0) < of(past, 100.0) <= MOST


def test_a_first_distance_after_none_but_zeros_is_a_surprise_of_a_decade_more():
    past = after(np.zeros(2_000))
    expected = [math.log10(2 * (m + 1)) + 1.0 - AGE * math.log10(m + 1) for m in (2_000, 1_400)]
    assert of(past, 1e-3) == pytest.approx(np.mean(expected), abs=1e-4)


def test_what_was_usual_long_ago_is_odd_again():
    rng = np.random.default_rng(1)
    distances = rng.exponential(size=4_000)
    distances[:10] += 50.0  # 16 are kept
    assert of(after(distances[:30]), 50.0) < 0.0
    assert of(after(distances), 50.0) > 1.5


@settings(max_examples=20)
@given(power=st.integers(-40, 40))
def test_the_unit_of_the_distances_changes_nothing(power):
    distances = np.random.default_rng(2).exponential(size=300).astype(np.float32)
    scale = np.float32(2.0) ** power
    assert of(after(distances * scale), 3.0 * scale) == of(after(distances), 3.0)


def test_a_row_whose_distance_is_missing_stays_as_it_is():
    past = remembered(Past.blank(2), np.array([1.0, 2.0], np.float32), np.array([True, True]))
    later = remembered(past, np.array([5.0, 7.0], np.float32), np.array([False, True]))
    for old, new in zip(past, later, strict=True):
        np.testing.assert_array_equal(new[0], old[0])
    assert later.largest[1, :2].tolist() == [3.5, 1.0]  # in units of the first
