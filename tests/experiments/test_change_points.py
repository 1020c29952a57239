"""The change-point experiment: its streams, its measures, and that a quick run shows what the full one claims."""

import json

import numpy as np
import pytest

from experiments import common
from experiments.change_points import detectors, streams
from experiments.change_points import run as experiment


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Two quick runs, each into a folder of its own."""
    folders = [tmp_path_factory.mktemp("change_points") for _ in range(2)]
    for folder in folders:
        common.main(experiment.run, experiment.__file__, 30, 2, arguments=["--quick", "--out", str(folder)])
    return folders


@pytest.mark.slow
def test_a_quick_run_finds_changes_sooner_than_published_and_makes_up_none(quick):
    results = json.loads((quick[0] / "results.json").read_text())
    assert len(results["table"]) == len(streams.ROWS)
    for row in results["table"].values():
        assert row["measured"][detectors.OURS]["regret"][0] < row["published"]["Algorithm 1"][0]
    for law in ("Normal", "Pareto", "Student t 2.1", "log-normal"):
        assert results["stationary"][law][detectors.OURS]["alarms"] == 0
    delays = results["delay"]["Normal"][detectors.OURS]
    assert delays["0.5"]["delay"][0] > delays["1"]["delay"][0] > delays["3"]["delay"][0]
    assert sorted(path.name for path in quick[0].glob("*.png")) == ["delay.png", "false_alarms.png", "regret.png"]


@pytest.mark.slow
def test_a_second_run_gives_the_same_results(quick):
    assert (quick[0] / "results.json").read_bytes() == (quick[1] / "results.json").read_bytes()


@pytest.mark.parametrize("row", streams.ROWS, ids=lambda row: row.name)
def test_the_streams_alternate_between_the_means_of_the_table(row):
    drawn = streams.table_streams(row, range(20))
    assert drawn.shape == (20, streams.LENGTH, row.d)
    # medians of features: the Pareto law's mean is hardly estimable; skewness cancels in the difference
    low, high = (np.median(drawn[:, streams.TRUTH % 2 == side], axis=(0, 1)) for side in (0, 1))
    if row.law == "Bernoulli":
        low, high = (drawn[:, streams.TRUTH % 2 == side].mean((0, 1)) for side in (0, 1))
    assert np.linalg.norm(high - low) == pytest.approx(row.jump, rel=0.1)


def test_both_readings_of_the_normal_law_have_the_variance_they_say():
    rng = np.random.default_rng(0)
    assert streams.noise("Normal", rng, 20_000, 32).var() == pytest.approx(1 / np.sqrt(32), rel=0.02)
    total = streams.noise("Normal, total variance 1", rng, 20_000, 32).var(0).sum()
    assert total == pytest.approx(1.0, rel=0.02)


def test_the_width_of_the_pareto_law_is_that_of_its_middle_two_thirds():
    draws = streams.noise("Pareto", np.random.default_rng(1), 400_000, 1)[:, 0]
    low, high = np.quantile(draws, [0.158655, 0.841345])
    assert streams.width("Pareto") == pytest.approx((high - low) / 2, rel=0.01)
    assert abs(draws.mean()) < 0.1


def test_regret_counts_every_event_at_which_the_number_of_changes_is_wrong():
    alarms = np.zeros((3, streams.LENGTH), bool)
    alarms[1, [400, 800, 1200]] = True  # at once
    alarms[2, [410, 700, 1200]] = True  # ten late, a hundred early, at once
    assert experiment.regret(alarms).tolist() == [400 + 800 + 1200, 0, 110]


def test_the_reproduced_algorithm_finds_three_clear_changes_and_none_where_there_are_none():
    row = streams.ROWS[0]
    alarms = detectors.reproduced(streams.table_streams(row, range(2)))
    assert (alarms.sum(1) == 3).all()
    rng = np.random.default_rng(2)
    assert not detectors.reproduced(rng.standard_normal((2, 400, 1))).any()


def test_one_feature_that_alarms_is_an_alarm_after_which_all_start_afresh():
    stream = np.random.default_rng(3).normal(0.0, 0.1, (1, 800, 3))
    stream[:, 400:] += 5.0
    alarms = detectors.river_any("ADWIN", stream)
    assert 1 <= alarms.sum() <= 2
    assert not alarms[:, :400].any()
