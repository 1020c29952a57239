"""NDJSON: what JSON can say is read, and what is no JSON is set aside."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard.sources import Source
from tests.support.reading import rows, set_aside, source


@settings(max_examples=50, deadline=None)
@given(
    table=st.lists(
        st.fixed_dictionaries(
            {"host": st.text(st.characters(exclude_categories=["Cs"]), max_size=5)},
            optional={"cpu": st.none() | st.integers(-(2**70), 2**70) | st.floats(width=32)},
        ),
        min_size=1,
    ),
    ascii_only=st.booleans(),
)
def test_what_the_json_module_writes_is_read_back(table, ascii_only, tmp_path_factory):
    path = tmp_path_factory.mktemp("e") / "e.ndjson"
    table[0].setdefault("cpu", 0)
    path.write_text("".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in table), encoding="utf-8")
    read = source(path)
    events = rows(read)
    cpu = [row.get("cpu") for row in table]
    expected = [None if x is None or not np.isfinite(float(x)) else float(np.float32(x)) for x in cpu]
    assert [(key, x) for key, (x,), *_ in events] == list(zip([row["host"] for row in table], expected, strict=True))
    assert read.rejected == 0


def test_broken_json_is_set_aside(tmp_path):
    path = tmp_path / "e.ndjson"
    bad = [
        b"{",
        b"[1]",
        b'{"host":"\xff","cpu":1}',
        b'{"host":"a","cpu":{}}',
        b'{"host":"\\ud800","cpu":1}',
        b"[" * 9_999,
    ]
    path.write_bytes(b'{"host":"a","cpu":1}\n' + b"\n".join(bad) + b"\n \n" + b'{"host":"a","cpu":NaN}')
    read = source(path)
    assert [event[1:] for event in rows(read)] == [
        ((1.0,), None, None, 1),
        ((None,), None, None, 5),
        ((None,), None, None, 9),
    ]
    reasons = {record["line"]: record["reason"] for record in set_aside(read)}
    assert list(reasons) == [2, 3, 4, 6, 7]
    assert reasons[3] == "JSON, but not an object"
    assert reasons[4].startswith("not UTF-8")
    assert read.reasons[0] == "line 5: feature 'cpu' is '{}', not a number"
    assert read.bad_fields == {"cpu": 1}


def test_what_stands_in_an_object_within_has_a_name_with_a_dot(tmp_path):
    path = tmp_path / "e.ndjson"
    lines = [
        {"at": {"host": {"name": "a"}}, "cpu": {"user": 1.5, "system": 2.5}},
        {"at": {"host": {"name": "b"}}, "cpu": {"user": 3.5}},
        {"at": {}, "at.host.name": "c", "cpu": None, "cpu.user": 4.5},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    read = Source(path, ["at.host.name"], ["cpu.*"])
    (batch,) = read
    assert read.feature_columns == ["cpu.user", "cpu.system"]
    assert batch.slices.to_list() == ["a", "b", "c"]
    np.testing.assert_array_equal(batch.X, [[1.5, 2.5], [3.5, np.nan], [4.5, np.nan]])


def test_a_name_with_a_dot_comes_before_an_object_within(tmp_path):
    path = tmp_path / "e.ndjson"
    path.write_text('{"x.y": 1, "x": {"y": 2}}\n{"x": {"y": 4}, "x.y": 3}\n', encoding="utf-8")
    (batch,) = Source(path, [], ["x.y"])
    assert batch.X.tolist() == [[1.0], [3.0]]
