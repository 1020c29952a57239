"""The recorder: nothing of a stream is lost on the way to the page, in bounded memory."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlineguard.errors import InvalidArgument
from onlineguard.report import SeriesRecorder, SliceReport, merge_alarms, write_report


def record(recorder: SeriesRecorder, keys, values, scores=None, anomalous=None, **options) -> None:
    scores = np.abs(values) if scores is None else scores
    thresholds = np.full(len(values), 2.0)
    anomalous = scores > thresholds if anomalous is None else anomalous
    recorder.add(keys, values, scores, thresholds, anomalous, np.exp(-scores), **options)


def same(one: SliceReport, other: SliceReport) -> None:
    for name in one.__dataclass_fields__:
        np.testing.assert_equal(getattr(one, name), getattr(other, name))


@given(
    values=hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-9, 9) | st.just(np.nan)),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    keys=st.integers(1, 3),
)
def test_a_recording_does_not_depend_on_the_batches(values, cuts, keys):
    slices = np.arange(len(values)) ** 2 % keys
    times, labels = np.arange(len(values)) * 1_000, np.arange(len(values)) // 7 % 2
    whole, parts = (SeriesRecorder(max_points=16, gap=2) for _ in range(2))
    record(whole, slices, values, times=times, labels=labels)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(values)), len(values)]
    for start, stop in pairwise(edges):
        part = slice(start, stop)
        record(parts, slices[part], values[part], times=times[part], labels=labels[part])
    one, other = whole.reports(slices=range(keys)), parts.reports(slices=range(keys))
    assert len(one) == len(other) == len(set(slices.tolist()))
    for a, b in zip(one, other, strict=True):
        same(a, b)


@given(
    values=hnp.arrays(np.float64, st.integers(1, 3_000), elements=st.floats(-100, 100, width=16)),
    size=st.sampled_from([4, 10, 64]),
)
def test_no_spike_no_dip_and_no_anomaly_is_lost_however_few_points_are_kept(values, size):
    recorder = SeriesRecorder(max_points=size)
    record(recorder, ["a"] * len(values), values, times=np.arange(len(values)) * 10, labels=values > 50)
    (kept,) = recorder.reports()
    assert len(kept.values) <= size
    assert (kept.values.min(), kept.values.max()) == (values.min(), values.max())
    assert kept.scores.max() == np.abs(values).max()
    np.testing.assert_array_equal(kept.values, values[kept.index])
    np.testing.assert_array_equal(kept.times, kept.index * 10)
    assert (np.diff(kept.index) > 0).all()
    assert kept.labels.max() == (values > 50).max()
    assert (kept.n_events, kept.n_anomalies) == (len(values), (np.abs(values) > 2).sum())
    odd = np.flatnonzero(np.abs(values) > 2)
    assert kept.n_alarms == len(merge_alarms(odd, np.abs(values)[odd], np.ones(len(odd))))


def test_the_highest_alarms_are_kept_and_all_are_counted():
    recorder = SeriesRecorder(max_alarms=5, gap=0)
    random = np.random.default_rng(0)
    values = np.zeros(2_000)
    values[::10] = random.uniform(3, 9, 200)
    for part in np.split(values, 40):
        record(recorder, ["a"] * len(part), part)
    (kept,) = recorder.reports()
    assert (kept.n_alarms, len(kept.alarms)) == (200, 5)
    assert {alarm.peak_score for alarm in kept.alarms[:-1]} <= set(np.sort(values)[-5:])
    assert [alarm.start for alarm in kept.alarms] == sorted(alarm.start for alarm in kept.alarms)


def test_slices_that_come_one_after_the_other_are_all_recorded():
    recorder = SeriesRecorder(max_points=8)
    for key in ("a", "b", "c"):  # each fills what is pending, and the last bucket of the one before is not full
        record(recorder, [key] * 65_537, np.ones(65_537))
    assert [(kept.name, kept.n_events, kept.index[-1]) for kept in recorder.reports()] == [
        (key, 65_537, 65_536) for key in ("a", "b", "c")
    ]


def test_an_alarm_goes_on_across_batches():
    recorder = SeriesRecorder(gap=3)
    for value in [0, 5, 0, 0, 0, 7, 0, 0, 0, 0, 5]:
        record(recorder, ["a"], np.array([float(value)]))
    (kept,) = recorder.reports()
    assert [alarm[:3] for alarm in kept.alarms] == [(1, 5, 7.0), (10, 10, 5.0)]
    assert kept.n_alarms == 2


def test_a_slice_with_more_evidence_takes_the_place_of_the_recorded_one_with_the_least():
    recorder = SeriesRecorder(max_slices=2)
    record(recorder, ["a", "b"], np.array([5.0, 3.0]))
    record(recorder, ["c", "d"], np.array([1.0, 2.5]))  # no anomaly, and one that is not higher
    assert [kept.name for kept in recorder.reports()] == ["a", "b"]
    record(recorder, ["c", "a"], np.array([5.5, 0.0]))
    assert [kept.name for kept in recorder.reports()] == ["a", "c"]
    assert [kept.name for kept in recorder.reports(1)] == ["a"]
    assert "c" in recorder
    assert "b" not in recorder


def test_keys_of_every_kind_are_recorded():
    for keys in (pl.Series(["a", "b"]), np.array([1, 2]), [("a", 1), ("b", 2)], ["a", "b"]):
        recorder = SeriesRecorder()
        record(recorder, keys, np.array([1.0, 2.0]))
        assert len(recorder.reports()) == 2
    assert recorder.reports(slices=["b", "none"])[0].name == "b"
    recorder = SeriesRecorder()
    record(recorder, [("a", 1)], np.array([1.0]))
    assert recorder.reports()[0].name == "a / 1"
    record(recorder, [], np.empty(0))


def test_an_infinite_score_is_an_alarm_but_no_rank():
    recorder = SeriesRecorder()
    record(recorder, ["a", "b"], np.array([np.nan, 3.0]), np.array([np.inf, 3.0]))
    assert [kept.name for kept in recorder.reports()] == ["b", "a"]
    assert recorder.reports()[1].alarms == [(0, 0, np.inf, 0.0, 0, 0)]


def test_drivers_are_shares_of_all_that_was_explained():
    recorder = SeriesRecorder()
    record(recorder, ["a"], np.array([1.0]))
    recorder.add_drivers("a", {"cpu": 3.0, "net": 1.0, "disk": np.nan, "none": 0.0})
    recorder.add_drivers("a", {"net": 10.0})
    recorder.add_drivers("a", {"net": 0.0})
    recorder.add_drivers("unknown", {"net": 1.0})
    assert recorder.reports()[0].drivers == {"cpu": 0.375, "net": 0.625}


def test_wrong_arguments_name_the_way_out():
    with pytest.raises(InvalidArgument, match="max_points is 3; it must be at least 4"):
        SeriesRecorder(max_points=3)
    with pytest.raises(InvalidArgument, match="values has 1 entries for 2 events"):
        record(SeriesRecorder(), ["a", "b"], np.array([1.0]))
    with pytest.raises(InvalidArgument, match="anomalous has 3 entries for 2 events"):
        record(SeriesRecorder(), ["a", "b"], np.ones(2), anomalous=np.ones(3, np.bool_), times=np.arange(2))


def test_ten_long_noisy_slices_make_a_light_file(tmp_path):
    recorder, random = SeriesRecorder(), np.random.default_rng(0)
    keys = [f"slice {i % 10}" for i in range(100_000)]
    record(recorder, keys, random.normal(size=len(keys)), times=1_000_000 * np.arange(len(keys)))
    write_report(tmp_path / "r.html", recorder.reports(), {"events": len(keys)})
    assert (tmp_path / "r.html").stat().st_size < 480_000
