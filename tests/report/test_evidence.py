"""Evidence: what lasts stands above what is odd once, and nothing grows with the number of usual events."""

import numpy as np
import pytest

from onlineguard.report import Alarm, SeriesRecorder, merge_alarms
from onlineguard.report.evidence import beyond_chance, digits_of, evidence_of


def recorded(recorder: SeriesRecorder, p_values: dict[str, np.ndarray], rate: float = 0.01) -> None:
    """Record slices whose events have these p-values; their scores fall with them."""
    for slice_, p in p_values.items():
        scores = -np.log10(p)
        recorder.add(np.full(len(p), slice_), scores, scores, np.full(len(p), -np.log10(rate)), p < rate, p)


def usual(n: int, seed: int = 0) -> np.ndarray:
    return 1.0 - np.random.default_rng(seed).random(n)


def test_a_slice_that_is_broken_for_hours_stands_above_one_with_a_single_freak_event():
    freak, broken, shaken = usual(5_000, 1), usual(5_000, 2), usual(5_000, 3)
    freak[3_000] = 1e-12
    broken[2_000:3_000] *= 0.02  # half of these events are over the threshold
    shaken[4_000:4_010] = 1e-3
    recorder = SeriesRecorder()
    recorded(recorder, {"freak": freak, "usual": usual(5_000, 4), "shaken": shaken, "broken": broken})
    reports = recorder.reports()
    assert [one.name for one in reports[:3]] == ["broken", "shaken", "freak"]


def test_freak_events_of_many_slices_do_not_take_the_place_of_one_that_is_broken():
    broken, freak = usual(500, 1), np.array([1e-12])
    broken[100:400] = 1e-3
    recorder = SeriesRecorder(max_slices=3)
    recorded(recorder, {"broken": broken, **{f"freak {i}": freak for i in range(9)}})
    assert recorder.reports()[0].name == "broken"


@pytest.mark.parametrize("n", [10**3, 10**4, 10**5, 10**6])
def test_false_alarms_gain_nothing_by_their_number(n):
    for seed in range(3):
        p = usual(n, seed=n + seed)
        odd = np.flatnonzero(p < 0.01)
        alarms = merge_alarms(odd, -np.log10(p[odd]), p[odd])
        assert len(alarms) > 0.004 * n
        evidence = np.array([round(1_000 * alarm.evidence) for alarm in alarms])
        assert beyond_chance(evidence, np.array([alarm.end + 1 for alarm in alarms])).sum() < 5_000


@pytest.mark.parametrize(("length", "odd"), [(1, 1), (7, 7), (40, 9), (10_000, 9_999)])
def test_evidence_is_the_log_likelihood_ratio_of_the_alarm(length, odd):
    p = 1e-3
    share = odd / length
    ratio = odd * np.log10(share / p)
    ratio += (length - odd) * np.log10((1.0 - share) / (1.0 - p)) if odd < length else 0.0
    digits = int(digits_of(np.full(odd, p)).sum())
    assert evidence_of(length, odd, digits) == round(1_000 * ratio)
    assert Alarm(10, 9 + length, 9.0, p, odd, digits).evidence == round(1_000 * ratio) / 1_000


def test_an_alarm_that_is_no_odder_than_usual_or_of_which_nothing_is_known_has_no_evidence():
    assert evidence_of([100, 1, 5, 5], [1, 1, 0, 5], [1_000, 0, 0, 0]).tolist() == [0] * 4
    assert beyond_chance(np.array([4_500, 12_000]), np.array([1_001, 10_000])).tolist() == [0, 6_000]
