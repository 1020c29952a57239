"""Slices whose people hardly anybody vouches for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.slidr.thresholds.vouching import unvouched


def test_a_slice_with_far_fewer_known_people_than_clicks_is_named_with_both_shares():
    clicks, known = np.array([50_000, 40_000, 10_000]), np.array([600, 380, 2])
    assert unvouched(clicks, known, ["phone", "desktop", "kiosk"]) == (
        "hardly anybody vouches for the people of kiosk (10% of the clicks, 0.2% of the known people): robots, or "
        "people who do not buy"
    )


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8))
def test_known_people_in_the_same_shares_as_clicks_are_no_news(clicks):
    assert unvouched(np.array(clicks), np.array(clicks), list(map(str, range(len(clicks))))) is None


def test_chance_among_few_known_people_is_no_news():
    assert unvouched(np.array([900, 100]), np.array([12, 0]), ["a", "b"]) is None
