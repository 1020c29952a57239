"""Figures: totals never fall, slices that go leave nothing behind, and what is shown is what was added."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onlineguard_service.figures import ANOMALOUS, JUDGED, LATEST, ROBOTIC, Figures, shown_key


def add(figures, names, flags, score=1.0):
    n = len(names)
    score = np.full(n, score, np.float32)
    figures.add(names, np.array(flags, np.uint8), list(range(n)), score, score + 1.0, np.zeros((n, 2)), score, score)


@given(st.lists(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 7)), min_size=1, max_size=20), max_size=12))
def test_totals_count_everything_and_a_slice_what_came_since_it_was_last_forgotten(batches):
    figures = Figures(4)
    events = [event for batch in batches for event in batch]
    for batch in batches:
        names, flags = zip(*batch, strict=True)
        add(figures, [f"s{name}" for name in names], flags)
    totals = figures.totals()
    assert totals["events"] == len(events)
    assert totals["anomalies"] == sum(bool(flags & ANOMALOUS) for _, flags in events)
    assert totals["robotic"] == sum(bool(flags & ROBOTIC) for _, flags in events)
    rows = figures.rows(True)
    assert len(rows) <= 4
    for row in rows:
        mine = [flags for name, flags in events if f"s{name}" == row["slice"]]
        latest = mine[len(mine) - row["events"] :]
        assert row["anomalies"] == sum(bool(flags & ANOMALOUS) for flags in latest)
        assert len(figures.history(row["slice"], True)["score"]) == row["events"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7)), min_size=1, max_size=60), st.integers(1, 7))
def test_when_somebody_looks_changes_nothing(events, every):
    """Slices that are born and must go within one add among them."""
    names, flags = zip(*events, strict=True)
    whole, looked = Figures(3), Figures(3)
    add(whole, names, flags)
    for start in range(0, len(names), every):
        part = slice(start, start + every)
        add(looked, names[part], flags[part])
        looked.settle()
    assert [{**row, "last_ts": None} for row in looked.rows(True)] == [
        {**row, "last_ts": None} for row in whole.rows(True)
    ]
    assert looked.totals() == whole.totals()


def test_one_event_at_a_time_equals_a_batch():
    one, many = Figures(100), Figures(100)
    names, flags = [f"s{i % 7}" for i in range(500)], [JUDGED | (i % 5 == 0) for i in range(500)]
    for start in range(0, 500, 2):
        add(many, names[start : start + 2], flags[start : start + 2])
    for i, (name, flag) in enumerate(zip(names, flags, strict=True)):
        one.add(
            [name], np.array([flag], np.uint8), [i % 2], *np.float32([[1.0], [2.0]]), np.zeros((1, 2)), *np.ones((2, 1))
        )
        if i % 3 == 0:
            one.settle()
    assert one.rows(True) == many.rows(True)
    assert one.history("s3", True) == many.history("s3", True)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7)), min_size=1, max_size=60), st.sampled_from("0s1S"))
def test_a_column_and_the_entries_of_a_part_are_those_of_the_whole_table(events, contains):
    figures = Figures(6)
    names, flags = zip(*events, strict=True)
    add(figures, [f"s{name}" if name % 2 else (name, "S") for name in names], flags)
    rows = figures.rows(True)
    found = figures.named(contains)
    part = [row for row in rows if contains.lower() in shown_key(row["slice"]).lower()]
    assert figures.entries(*found, True) == part
    for name in ("events", "anomalies", "score", "threshold", "drift", "ivr"):
        expected = [np.nan if row[name] is None else row[name] for row in part]
        np.testing.assert_array_equal(figures.column(name, found[1]), expected)


def test_a_ring_that_turned_keeps_the_totals_and_the_latest():
    figures = Figures(10)
    for turn in range(3):
        add(figures, ["a"] * LATEST, [JUDGED | ANOMALOUS if turn == 0 else JUDGED] * LATEST, score=turn)
    add(figures, ["b"], [JUDGED])
    (row,) = [row for row in figures.rows(True) if row["slice"] == "a"]
    assert (row["events"], row["anomalies"], row["drift"], row["score"]) == (3 * LATEST, LATEST, 0.0, 2.0)
    assert Figures.restored(figures.dump()).rows(True) == figures.rows(True)


def test_a_slice_that_is_not_known_is_a_key_error():
    with pytest.raises(KeyError):
        Figures(10).history("a", False)
