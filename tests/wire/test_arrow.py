"""Arrow: a table is the objects of its rows, and what no field can hold is told with its column."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onlineguard.wire import arrow
from onlineguard.wire.requests import Event
from tests.support.tables import stream


def rows(table, most=1_000):
    return [row for part in arrow.columns(stream(table), most) for row in arrow.rows(part, Event)]


X = pa.FixedSizeListArray.from_arrays(pa.array([1.0, np.nan, None, 4.0]), 2)


def test_every_kind_of_column_is_what_json_would_hold():
    table = pa.table(
        {
            "slice": pa.array(["a", "b"]).dictionary_encode(),
            "x": X,
            "ts": pa.array([1_000, None], pa.timestamp("us")),
            "id": pa.array(["1", None], pa.large_string()),
        }
    )
    assert rows(table) == [
        {"slice": "a", "x": [1.0, None], "ts": 1, "id": "1"},
        {"slice": "b", "x": [None, 4.0], "ts": None, "id": None},
    ]
    keys = pa.array([["a", "b"], None, []])
    parts = pa.array([[1.5], None, [2.5, 3.0]], pa.list_(pa.float32()))
    assert [(row["slice"], row["x"]) for row in rows(pa.table({"slice": keys, "x": parts}))] == [
        (["a", "b"], [1.5]),
        (None, None),
        ([], [2.5, 3.0]),
    ]


def test_features_are_columns_of_their_own_or_a_struct():
    columns = {"load": [0.5, None], "status": ["503", "200"], "up": [True, False], "n": [3, None]}
    flat = rows(pa.table({"slice": [1, 2], **columns}))
    packed = rows(pa.table({"slice": [1, 2], "features": pa.array([{"load": 0.5, "status": "503"}, None])}))
    assert flat[0] == {"slice": 1, "features": {"load": 0.5, "status": "503", "up": True, "n": 3}}
    assert flat[1]["features"] == {"load": None, "status": "200", "up": False, "n": None}
    assert [row["features"] for row in packed] == [{"load": 0.5, "status": "503"}, None]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (pa.table({"slice": ["a"], "x": pa.array([[[1.0]]])}), "column x has the type"),
        (pa.table({"slice": [b"a"]}), "column slice has the type binary"),
        (pa.table({"slice": ["a" * 9_000]}), "column slice has a text of more than 8,192 bytes"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "two columns have the same name"),
        (pa.table({f"n{i}": pa.nulls(900) for i in range(200)}), "more columns and rows than bytes"),
        (pa.table({"slice": ["a"] * 1_001}), "the table holds 1,001 rows, more than the batch_limit of 1,000"),
    ],
    ids=["nested", "bytes", "long", "twice", "nothing", "rows"],
)
def test_what_no_field_can_hold_is_told(table, told):
    with pytest.raises(arrow.NoTable, match=told):
        rows(table)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_a_stream_that_is_compressed_inside_is_refused_before_it_is_unpacked(compression, dictionary):
    texts = pa.array(["a" * 1_000] * 900)
    bomb = stream(pa.table({"slice": texts.dictionary_encode() if dictionary else texts}), compression=compression)
    with pytest.raises(arrow.NoTable, match="compressed inside"):
        list(arrow.columns(bomb, 1_000))


WHOLE = stream(pa.table({"slice": pa.array(["a", "b"]).dictionary_encode(), "x": X}))


@settings(deadline=None, max_examples=200)
@example([(20, 3), (130, 255), (263, 2)], 0)  # pyarrow ended the process: what is said to be a schema is none
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=8), st.integers(0, 40))
def test_a_damaged_stream_is_refused_or_some_other_table_and_never_worse(changes, cut):
    body = bytearray(WHOLE)
    for place, value in changes:
        body[place] = value
    try:
        parts = list(arrow.columns(bytes(body[: len(body) - cut]), 1_000))
        found = [row for part in parts for row in arrow.rows(part, Event)]
    except arrow.NoTable:
        return
    assert len(found) <= 1_001
