"""The public benchmark's score, on cases small enough to be counted by hand."""

import math

import numpy as np
import pytest

from benchmarks.nab import PROFILES, cost, earned, false_alarms, normalised, probation, score, sigmoid, windows_of

STANDARD = PROFILES["standard"]


def series(n=1_000, windows=((400, 499), (700, 799)), alarms=()):
    labels = np.zeros(n, bool)
    for first, last in windows:
        labels[first : last + 1] = True
    found = np.zeros(n, bool)
    found[list(alarms)] = True
    return found, labels


def test_windows_are_runs_of_labels_up_to_the_ends_of_the_series():
    assert windows_of(np.array([1, 1, 0, 0, 1, 0, 1])) == [(0, 1), (4, 4), (6, 6)]
    assert windows_of(np.zeros(5)) == []


def test_the_sigmoid_is_one_before_a_window_half_way_nowhere_and_minus_one_behind_it():
    assert sigmoid(-1.0) == pytest.approx(0.98661, abs=1e-5)
    assert sigmoid(0.0) == 0.0
    assert sigmoid(0.5) == pytest.approx(-0.84828, abs=1e-5)
    assert sigmoid(3.01) == -1.0


@pytest.mark.parametrize("profile", PROFILES)
def test_no_alarm_is_worth_nothing_and_one_at_the_first_value_of_each_window_everything(profile):
    assert normalised([series()], PROFILES[profile]) == pytest.approx(0.0)
    assert normalised([series(alarms=[400, 700])], PROFILES[profile]) == pytest.approx(100.0)


def test_an_alarm_in_the_middle_of_a_window_earns_less_and_at_its_end_next_to_nothing():
    assert earned(400, 400, 499) == 1.0
    assert earned(450, 400, 499) == pytest.approx(
        math.tanh(1.25) / math.tanh(2.5)
    )  # 2 / (1 + e^(5y)) - 1 = tanh(-5y/2)
    assert earned(499, 400, 499) == pytest.approx(math.tanh(0.025) / math.tanh(2.5))


def test_only_the_first_alarm_in_a_window_counts():
    once, often = (score(series(alarms=alarms)[0], [(400, 499)], STANDARD) for alarms in ([420], [420, 421, 450, 499]))
    assert once == often == pytest.approx(earned(420, 400, 499))


def test_a_false_alarm_costs_by_its_distance_behind_the_window_before_it():
    windows = [(400, 500), (700, 800)]
    assert cost(399, windows) == -1.0  # none before it
    assert cost(501, windows) == pytest.approx(-math.tanh(2.5 * 1 / 100))
    assert cost(600, windows) == pytest.approx(-math.tanh(2.5))
    assert cost(801, windows) == pytest.approx(-math.tanh(2.5 * 1 / 100))
    assert cost(1_101, windows) == -1.0  # more than three widths behind
    assert cost(6, [(2, 2)]) == -1.0  # a window of one value is no division by zero


def test_each_false_alarm_counts_and_is_weighed_by_the_profile():
    alarms, labels = series(alarms=[200, 300])
    windows = windows_of(labels)
    assert false_alarms([200, 300, 450], windows) == [200, 300]
    assert score(alarms, windows, STANDARD) == pytest.approx(-2.0 - 2 * 0.11)
    assert score(alarms, windows, PROFILES["low false positives"]) == pytest.approx(-2.0 - 2 * 0.22)
    assert score(alarms, windows, PROFILES["low false negatives"]) == pytest.approx(-4.0 - 2 * 0.11)
    assert normalised([(alarms, labels)], STANDARD) == pytest.approx(100 * -0.22 / 4)


def test_alarms_in_probation_are_not_looked_at():
    assert probation(1_000) == 150
    assert probation(20_000) == 750
    assert normalised([series(alarms=[0, 149])], STANDARD) == pytest.approx(0.0)
    assert normalised([series(alarms=[150])], STANDARD) < 0.0


def test_the_scores_of_many_series_are_added_before_they_are_scaled():
    found, nothing = series(alarms=[400, 700]), series()
    quiet = series(windows=(), alarms=[500])
    assert normalised([found, nothing], STANDARD) == pytest.approx(50.0)
    assert normalised([found, nothing, quiet], STANDARD) == pytest.approx(100 * (2 - 2 - 0.11 + 4) / 8)
