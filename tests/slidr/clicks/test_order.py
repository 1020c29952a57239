"""Logs in order of time: what is late, what is out of order, and what a wrong clock changes."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.order import LATE_MS, check_order, in_order, late, plausible

DAY = 86_400_000


@given(st.lists(st.integers(0, 30 * DAY), min_size=1, max_size=50))
def test_a_click_is_late_if_an_earlier_row_is_over_an_hour_ahead(times):
    ts = np.array(times)
    near = ts[plausible(ts)]
    expected = sum(any(before - t > LATE_MS for before in near[:i]) for i, t in enumerate(near))
    assert late(ts) == expected
    assert late(np.sort(ts)) == 0


def test_two_days_in_the_wrong_order_are_refused_and_a_few_late_clicks_are_not():
    ts = np.sort(np.random.default_rng(0).integers(0, 2 * DAY, 5_000))
    check_order(pl.DataFrame({"ts": ts}))
    swapped = np.concatenate([ts[ts >= DAY], ts[ts < DAY]])
    with pytest.raises(
        InvalidArgument, match=r"clicks are not in order of time: 2,\d+ of 5,000 are over an hour behind"
    ):
        check_order(pl.DataFrame({"ts": swapped}))
    few = ts.copy()
    few[[4_000, 4_500]] -= DAY
    assert late(few) == 2
    assert in_order(pl.DataFrame({"ts": few}))


def test_a_wrong_clock_makes_no_other_click_late():
    ts = np.sort(np.random.default_rng(0).integers(10 * DAY, 12 * DAY, 5_000))
    ts[[3, 900]] = [5_000 * DAY, 0]
    assert late(ts) == 0
