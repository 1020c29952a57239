"""Fields: numbers and slice keys, and what is missing of them."""

import numpy as np
import polars as pl
import pytest

from tests.support.reading import rows, set_aside, source, write


def test_integer_keys_of_parquet_stay_integers_and_a_missing_one_is_set_aside(tmp_path):
    path = tmp_path / "e.parquet"
    pl.DataFrame({"host": [7, None, 9], "cpu": [1.0, 2.0, float("inf")]}).write_parquet(path)
    read = source(path)
    assert rows(read) == [(7, (1.0,), None, None, 1), (9, (None,), None, None, 3)]
    assert [(r["line"], r["reason"]) for r in set_aside(read)] == [
        (2, "slice 'host' is null, not one string or number")
    ]


def test_json_keys_are_text_and_a_missing_one_is_the_empty_string(tmp_path):
    path = tmp_path / "e.ndjson"
    path.write_text('{"host":1,"cpu":1}\n{"host":"é","cpu":true}\n{"cpu":"2"}\n{"host":null}\n{"host":[1],"cpu":1}\n')
    read = source(path)
    assert [event[:2] for event in rows(read)] == [("1", (1.0,)), ("é", (1.0,)), ("", (2.0,)), ("", (None,))]
    assert set_aside(read)[0]["line"] == 5


@pytest.mark.parametrize("text", ["", "null", "NA", "n/a", "None", "nan", "NaN", "-nan", "inf", "-Infinity", " "])
@pytest.mark.parametrize("other", ["1", "x"])  # alone in its block, or beside a row that is set aside
def test_a_missing_number_is_nan_and_no_reject(tmp_path, text, other):
    path = tmp_path / "e.csv"
    path.write_text(f"host,cpu,odd\na,{text},\nb,{other},0\n")
    events = rows(source(path, label_column="odd"))
    assert events[0] == ("a", (None,), None, 0, 2)


@pytest.mark.parametrize(("text", "value"), [("1e39", 1), ("-1e39", -1), ("1e999", 1), ("-1e999", -1)])
def test_a_finite_number_beyond_float32_stays_the_largest_one(tmp_path, text, value):
    (tmp_path / "e.csv").write_text(f"host,cpu\na,{text}\n")
    (tmp_path / "e.ndjson").write_text(f'{{"host":"a","cpu":{text}}}\n')
    for name in ("e.csv", "e.ndjson"):
        (batch,) = source(tmp_path / name)
        assert batch.X[0, 0] == value * np.finfo(np.float32).max


def test_several_slice_columns_make_tuples_and_none_makes_one_slice(tmp_path):
    path = write(tmp_path / "e.csv")
    assert [event[0] for event in rows(source(path, slice_columns=["host", "odd"]))] == [
        ("a", "0"),
        ("b", "1"),
        ("a", "0"),
    ]
    assert [event[0] for event in rows(source(path, slice_columns=[]))] == ["all"] * 3
