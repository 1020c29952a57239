"""Figures: totals never fall, slices that go leave nothing behind, and what is shown is what was added."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onlineguard_service.figures import ANOMALOUS, HEAVY, JUDGED, LATEST, ROBOTIC, Figures, shown_key
from onlineguard_service.listing import listed


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
    for each in (figures, Figures.restored(figures.dump())):
        assert each.ivr(10) == {row["slice"]: row["ivr"] for row in rows}
        table = each.tables()
        assert (table["held"], table["born"] - table["evicted"]) == (len(rows), len(rows))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7)), min_size=1, max_size=60), st.sampled_from("0s1S"))
def test_a_column_and_the_entries_of_a_part_are_those_of_the_whole_table(events, contains):
    figures = Figures(6)
    names, flags = zip(*events, strict=True)
    add(figures, [f"s{name}" if name % 2 else (name, "S") for name in names], flags)
    part = [row for row in figures.rows(True) if contains.lower() in shown_key(row["slice"]).lower()]
    found = [name for name in figures.names() if contains.lower() in shown_key(name).lower()]
    assert figures.entries(found, figures.places(found), True) == part
    assert [figures.name(place) for place in figures.held().tolist()] == figures.names()
    for name in ("events", "anomalies", "score", "threshold", "drift", "ivr"):
        expected = [np.nan if row[name] is None else row[name] for row in part]
        np.testing.assert_array_equal(figures.column(name, figures.places(found)), expected)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 7)), min_size=1, max_size=60),
    st.sampled_from(["name", "events", "score", "ivr"]),
    st.booleans(),
    st.integers(0, 20),
    st.sampled_from(["", "1", "s", "S2"]),
)
def test_a_page_is_cut_from_the_whole_list_in_order(events, sort, descending, offset, contains):
    figures = Figures(50)
    names, flags = zip(*events, strict=True)
    add(figures, [f"s{name}" for name in names], flags)
    rows = [{"of": "clicks", **row} for row in figures.rows(True) if contains.lower() in row["slice"]]
    column = "slice" if sort == "name" else sort
    missing = [row for row in rows if row[column] is None]
    there = sorted((row for row in rows if row[column] is not None), key=lambda row: row[column], reverse=descending)
    page = asyncio.run(listed({"clicks": figures}, sort, descending, 7, offset, contains))
    assert page["found"] == len(rows)
    assert page["total"] == len(figures)
    if sort == "name":
        assert page["slices"] == there[offset : offset + 7]
    else:
        keys = [row[column] for row in page["slices"]]
        assert keys == [row[column] for row in [*there, *missing][offset : offset + 7]]


def test_the_metrics_show_the_busiest_slices():
    figures = Figures(50)
    names = [f"s{i}" for i in range(20) for _ in range(i)]
    add(figures, names, [ROBOTIC * (name == "s19") for name in names])
    assert figures.ivr(3) == {"s17": 0.0, "s18": 0.0, "s19": 1.0}
    assert len(figures.ivr(100)) == 19  # s0 has none


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


def test_rates_are_told_as_counts_and_a_dump_from_before_coverage_goes_on():
    figures = Figures(10)
    flags = [ROBOTIC | HEAVY, HEAVY, 0, ROBOTIC]
    numbers = np.zeros(4, np.float32)
    figures.add(["a", "a", "a", "b"], flags, [1, 2, 3, 4], numbers, numbers, np.zeros((4, 2)), numbers, [0.5] * 4)
    figures.label("a", True)
    assert figures.rates(10) == {
        "clicks": {"a": 3, "b": 1},
        "robotic": {"a": 1, "b": 1},
        "purchases": {"a": 1, "b": 0},
        "purchases_robotic": {"a": 1, "b": 0},
        "heavy": {"a": 2, "b": 0},
        "heavy_robotic": {"a": 1, "b": 0},
    }
    assert list(figures.rates(1)["clicks"]) == ["a"]
    assert figures.row("a", True)["coverage"] == 0.5
    assert figures.row("b", True)["coverage"] is None
    dump = figures.dump()
    old = Figures.restored(dump | {"totals": dump["totals"][:, :5], "all": dump["all"][:5]})
    assert old.totals() == figures.totals() | {"heavy": 0, "heavy_robotic": 0}
    old.add(["a"], [HEAVY], [5], numbers[:1], numbers[:1], np.zeros((1, 2)), numbers[:1], [0.5])
    assert old.rates(10)["heavy"] == {"a": 1, "b": 0}
