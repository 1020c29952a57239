"""The plot: points stand where their time or their number puts them."""

from datetime import datetime

import numpy as np

from tests.support.pages import a_slice, written


def test_times_that_order_nothing_give_way_to_the_event_number(tmp_path):
    random = np.random.default_rng(0)
    for times in (random.integers(0, 10**15, 500), np.full(500, np.iinfo(np.int64).min), np.full(500, 5)):
        assert ">event<" in written(tmp_path / "r.html", a_slice(times=times)).source
    back = 1_700_000_000_000_000 + 60_000_000 * np.arange(500)
    back[200:205] -= 3_600_000_000  # a clock set back
    back[300] = np.iinfo(np.int64).min
    for times in (back, back.view("datetime64[us]"), [datetime(2024, 1, 1, 0, i // 60, i % 60) for i in range(500)]):
        assert ">time (UTC)<" in written(tmp_path / "r.html", a_slice(times=times)).source
