"""Counts are those of a plain loop for every slice, wherever the stream is cut and however many slices there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.report import SeriesRecorder, counts, merge_alarms
from onlineguard.report.evidence import beyond_chance


def by_loop(slices, anomalous, gap, scores=None, p_values=None):
    """Events, anomalies, alarms and evidence of each slice."""
    expected = {}
    scores = np.ones(len(slices)) if scores is None else scores
    p_values = np.ones(len(slices)) if p_values is None else p_values
    for slice_ in set(slices.tolist()):
        mine = slices == slice_
        odd = np.flatnonzero(anomalous[mine])
        alarms = merge_alarms(odd, scores[mine][odd], p_values[mine][odd], gap)
        evidence = sum(int(beyond_chance(np.int64(round(1_000 * one.evidence)), one.end + 1)) for one in alarms)
        expected[slice_] = (int(mine.sum()), len(odd), len(alarms), evidence)
    return expected


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 500), max_size=5),
    st.integers(0, 5),
    st.sampled_from([0, 2**22, 2**40]),
)
def test_events_anomalies_alarms_and_evidence_are_those_of_a_plain_loop(seed, cuts, gap, offset):
    rng = np.random.default_rng(seed)
    slices, anomalous = rng.integers(0, 60, 500) + offset, rng.random(500) < rng.choice([0.02, 0.5])
    scores, p_values = rng.choice([1.0, 2.0, np.inf], 500), 10.0 ** -rng.uniform(0.0, 14.0, 500)
    counted, rows = counts.Counts(gap), {}
    for part in np.split(np.arange(500), sorted(cuts)):
        grouped = counted.add(slices[part], anomalous[part], scores[part], p_values[part])
        rows |= dict(zip(slices[part][grouped.first].tolist(), grouped.rows.tolist(), strict=True))
        for i, slice_ in enumerate(slices[part][grouped.first]):
            at = part[grouped.positions(i)]
            assert (slices[at] == slice_).all()
            assert grouped.numbers[grouped.positions(i)].tolist() == [int((slices[:j] == slice_).sum()) for j in at]
    evidence = dict(zip(rows, counted.evidence(np.array([*rows.values()], np.int64)).tolist(), strict=True))
    found = {
        slice_: (*counted[row][["events", "anomalies", "alarms"]].tolist(), evidence[slice_])
        for slice_, row in rows.items()
    }
    assert found == by_loop(slices, anomalous, gap, scores, p_values)


def test_counts_stay_exact_while_others_are_forgotten(monkeypatch):
    monkeypatch.setattr(counts, "COUNTED_SLICES", 40)
    recorder = SeriesRecorder(max_slices=2, gap=0)
    for batch in range(50):  # ten new slices a batch, and two that stay
        keys = ["a", "b", *(f"{batch}-{i}" for i in range(10))] * 2
        scores = np.array([5.0, 4.0, *[0.5] * 10] * 2)
        recorder.add(keys, scores, scores, np.full(24, 2.0), scores > 2, np.ones(24))
    assert [(kept.name, kept.n_events, kept.n_anomalies, kept.n_alarms) for kept in recorder.reports()] == [
        ("a", 100, 100, 1),
        ("b", 100, 100, 1),
    ]


@pytest.mark.parametrize("batch", [1_000, 7_777, 200_000])
def test_every_one_of_200_slices_is_counted_from_its_first_event(batch):
    rng = np.random.default_rng(0)
    slices = np.repeat(rng.permuted(np.tile(np.arange(200), (1_000, 1)), axis=1).ravel(), 1)
    scores = rng.exponential(0.3, len(slices)) + slices / 200  # every slice has some anomalies, later ones more
    anomalous = scores > 2.0
    recorder = SeriesRecorder(max_slices=64)
    for start in range(0, len(slices), batch):
        cut = slice(start, start + batch)
        recorder.add(slices[cut], scores[cut], scores[cut], np.full(len(slices[cut]), 2.0), anomalous[cut], scores[cut])
    expected = by_loop(slices, anomalous, 10)
    kept = recorder.reports(64)
    assert len(kept) == 64
    assert {int(one.name): (one.n_events, one.n_anomalies, one.n_alarms) for one in kept} == {
        slice_: expected[slice_][:3] for slice_ in (int(one.name) for one in kept)
    }
    for one in kept:  # what is drawn are the slice's own events, by their own numbers
        mine = scores[slices == int(one.name)]
        np.testing.assert_array_equal(one.values, mine[one.index])
        assert one.index.min() == one.drawn_from
    assert any(one.drawn_from for one in kept) == (batch < len(slices))
