"""Rejected rows: each is written down with its line, its reason and its text."""

import pytest

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.sources import NO_TIME
from tests.support.reading import HEADER, ROWS, full, rows, set_aside, source


def test_a_row_that_cannot_be_read_is_set_aside_with_line_reason_and_text(tmp_path):
    path = tmp_path / "e.csv"
    bad = [b"2024-01-01,a,1.5", b"2024-01-01,\xff,1,0", b"2024-01-01,a,1,7"]
    bad += [b'2024-01-01,"a" b,1,0', b"2024-01-01,a,1,0,0"]
    path.write_bytes(HEADER + ROWS + b"\n".join(bad) + b"\n\n" + ROWS)
    read = full(path)
    assert [event[-1] for event in rows(read)] == [2, 3, 4, 11, 12, 13]  # the blank line 10 is no row
    records = set_aside(read)
    assert read.rejected == len(records) == len(bad)
    assert [record["line"] for record in records] == list(range(5, 10))
    assert [record["text"] for record in records] == [line.decode(errors="backslashreplace") for line in bad]
    for record, reason in zip(
        records,
        [
            "the row has 3 columns, the header has 4",
            "not UTF-8 at byte 12",
            "label 'odd' is '7', neither 0 nor 1",
            "',' expected after '\"'",
            "the row has 5 columns, the header has 4",
        ],
        strict=True,
    ):
        assert record["reason"] == reason
    assert read.reasons == [f"line {record['line']}: {record['reason']}" for record in records[:3]]


def test_a_field_that_cannot_be_read_is_missing_and_counted_and_costs_no_row(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(
        HEADER + ROWS + b"2024-01-01,a,abc,0\n2024-13-01,b,1,0\n2024-01-01,c,-,0\n" + 100 * b",a,?!,1\n" + ROWS * 200
    )
    read = full(path)
    events = rows(read)
    assert [(key, x, time is NO_TIME) for key, x, time, _, line in events if line in (5, 6, 7)] == [
        ("a", (None,), False),
        ("b", (1.0,), False),
        ("c", (None,), False),
    ]
    assert [time for *_, time, _, line in events if line == 6] == [NO_TIME]
    assert read.bad_fields == {"cpu": 101, "time": 1}  # - is a word for a missing number
    assert read.reasons == [
        "line 5: feature 'cpu' is 'abc', not a number",
        "line 6: time 'time' is '2024-13-01', neither ISO 8601 nor a Unix time",
        "line 8: feature 'cpu' is '?!', not a number",
    ]
    assert (read.rejected, len(events)) == (0, 3 + 3 + 100 + 600)
    with pytest.raises(SourceError, match="line 5: feature 'cpu' is 'abc', not a number; mend it"):
        rows(full(path, strict=True))


def test_a_stale_rejects_file_is_replaced_and_none_is_made_for_a_clean_run(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\na\nc,1\n")
    read = source(path)
    for _ in range(2):
        rows(read)
        assert len(set_aside(read)) == read.rejected == 1
    path.write_bytes(b"host,cpu\na,1\n")
    rows(source(path))
    assert not (tmp_path / "e.csv.rejects.ndjson").exists()


def test_the_rejects_file_may_be_named_and_must_not_be_the_source(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\na\nc,1\n")
    rows(source(path, rejects=tmp_path / "bad"))
    assert (tmp_path / "bad").exists()
    with pytest.raises(InvalidArgument, match="the source itself"):
        source(path, rejects=path)
    with pytest.raises(SourceError, match="which cannot be written"):
        rows(source(path, rejects=tmp_path / "none" / "bad"))
