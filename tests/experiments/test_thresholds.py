"""The threshold experiment: its streams, its thresholds, and that a quick run shows what the full one claims."""

import json
import math

import numpy as np
import pytest

from experiments import common
from experiments.thresholds import run as experiment


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Two quick runs, each into a folder of its own."""
    folders = [tmp_path_factory.mktemp("thresholds") for _ in range(2)]
    for folder in folders:
        common.main(experiment.run, experiment.__file__, 50, 4, arguments=["--quick", "--out", str(folder)])
    return folders


@pytest.mark.slow
def test_a_quick_run_errs_less_than_the_others_and_abstains_less_than_the_confidence_sequence(quick):
    results = json.loads((quick[0] / "results.json").read_text())["measured"]
    for case in ("without", "with"):
        methods = results[f"1,000 events, normal, {case} shift"]["methods"]
        mistakes = {name: counts["mistakes"][0] for name, counts in methods.items()}
        for other in (experiment.FILTER, experiment.WINDOWED, experiment.NEVER):
            assert mistakes[experiment.RUN_LENGTH] < mistakes[other]
        assert mistakes[experiment.CAUTIOUS] <= mistakes[experiment.SEQUENCE]
        cautious, sequence = (methods[name]["abstentions"][0] for name in experiment.ABSTAINING)
        assert cautious < sequence / 4
    assert sorted(path.name for path in quick[0].glob("*.png")) == ["abstentions.png", "mistakes.png", "one_run.png"]


@pytest.mark.slow
def test_a_second_run_gives_the_same_results(quick):
    assert (quick[0] / "results.json").read_bytes() == (quick[1] / "results.json").read_bytes()


@pytest.mark.parametrize("law", ["normal", "exponential"])
@pytest.mark.parametrize("shift", [False, True])
def test_one_score_in_a_hundred_is_an_anomaly(law, shift):
    scores, truth = experiment.stream(np.random.default_rng(0), 200_000, shift, law)
    assert (scores > truth).mean() == pytest.approx(0.01, abs=0.001)
    changes = (np.diff(truth) != 0).sum()
    assert 600 < changes < 730 if shift else changes == 0


def test_the_confidence_sequence_never_errs_on_a_fixed_law_and_raises_no_alarm_in_the_streams_of_the_paper():
    scores, truth = experiment.stream(np.random.default_rng(1), 2000, False)
    verdicts = experiment.confidence_sequence(scores)
    decided = np.isfinite(verdicts)
    assert (verdicts[decided] == (scores > truth)[decided]).all()
    assert not (verdicts == 1.0).any()
    assert 0.1 < (~decided).mean() < 0.5
    # an alarm needs a level below 1 above the upper end
    width = [2.0 * experiment.confidence_width(n, experiment.ALPHA) for n in (400_000, 600_000)]
    assert width[0] > 1.0 - experiment.LEVEL > width[1]


def test_the_probability_of_an_anomaly_is_calibrated_where_laws_are_as_supposed():
    streams = [experiment.stream(np.random.default_rng([2, run]), 1000, True) for run in range(60)]
    probability, _ = experiment.run_lengths(np.stack([scores for scores, _ in streams]))
    anomalous = np.stack([scores > truth for scores, truth in streams])
    for low, high in ((0.02, 0.3), (0.3, 0.7), (0.7, 1.0)):
        within = (probability > low) & (probability <= high)
        assert anomalous[within].mean() == pytest.approx(probability[within].mean(), abs=0.12)


def test_a_run_does_not_depend_on_the_runs_beside_it():
    scores = np.random.default_rng(3).normal(size=(3, 300))
    together, alone = experiment.run_lengths(scores), experiment.run_lengths(scores[1:2])
    np.testing.assert_allclose(together[0][1], alone[0][0], rtol=1e-9)
    np.testing.assert_allclose(together[1][1], alone[1][0], rtol=1e-9)


def test_scale_and_offset_of_the_scores_do_not_matter():
    scores = experiment.stream(np.random.default_rng(4), 600, True)[0][None]
    plain, moved = experiment.run_lengths(scores)[0], experiment.run_lengths(7.0 * scores - 100.0)[0]
    np.testing.assert_allclose(moved, plain, rtol=1e-5, atol=1e-9)


def test_doubt_abstains_between_its_bounds_only():
    probability = np.array([[math.nan, 0.0, 0.01, 0.2, 0.6, 0.995]])
    assert experiment.judged(probability, None).tolist() == [[0, 0, 0, 0, 1, 1]]
    doubted = experiment.judged(probability, 0.01)[0]
    assert np.isnan(doubted).tolist() == [True, False, False, True, True, False]
    assert doubted[[1, 2, 5]].tolist() == [0, 0, 1]


def test_mistakes_are_counted_where_a_verdict_was_given():
    verdicts = np.tile([1.0, 1.0, 0.0, 0.0, math.nan], (2, 8))
    anomalous = np.tile([True, False, True, False, True], (2, 8))
    counts = experiment.counted(verdicts, anomalous)
    assert [counts[name].mean for name in ("mistakes", "false positives", "false negatives", "abstentions")] == [
        16,
        8,
        8,
        8,
    ]
    assert counts["curve"][0][0] == 8


@pytest.mark.slow
def test_a_threshold_that_restarts_at_changes_errs_less_with_shift():
    plain, restarted = 0, 0
    for run in range(3):
        scores, truth = experiment.stream(np.random.default_rng([5, run]), 1000, True)
        anomalous = scores > truth
        plain += ((experiment.adaptive(scores, restart=False)[0] > 0.5) != anomalous).sum()
        restarted += ((experiment.adaptive(scores, restart=True)[0] > 0.5) != anomalous).sum()
    assert restarted < plain
