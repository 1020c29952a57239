"""Traffic of other people and other robots: a log that the pipeline takes, with every kind that its page names."""

import numpy as np
import pytest

from benchmarks.unseen_traffic import BEGIN, DAY, DAYS, KINDS, WORLDS, traffic
from onlineguard.slidr.clicks.clicks import check_clicks
from onlineguard.slidr.clicks.order import check_order
from onlineguard.slidr.learning.regulars import regulars


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_is_a_log_of_three_weeks_with_every_kind_and_robots_that_never_buy(world):
    clicks, robot, kind = traffic(world, 1, 20_000)
    check_order(check_clicks(clicks))
    assert set(kind) == set(KINDS)
    assert abs(robot.mean() - WORLDS[world].robots) < 0.08
    bought = clicks["purchase_ts"].is_not_null().to_numpy()
    assert not bought[robot].any()
    assert 0.5 < bought[~robot].mean() / WORLDS[world].buys < 2.0
    assert int(clicks["ts"].min()) >= BEGIN
    assert int(clicks["ts"].max()) < BEGIN + DAYS * DAY
    again, *_ = traffic(world, 1, 20_000)
    assert again.equals(clicks)


def test_patient_machines_that_keep_their_cookie_are_no_regulars():
    clicks, robot, kind = traffic("carrier", 1, 60_000)
    found = regulars(clicks, np.ones(clicks.height, bool), BEGIN + DAYS * DAY)
    assert (kind == "patient").sum() > 1_000
    assert found.sum() > 100
    assert robot[found].mean() < 0.01
