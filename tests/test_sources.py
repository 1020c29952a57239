"""Event sources: every format gives the same events, and no row, line or file stops the rest from being read."""

import csv
import gzip
import io
import json
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onlineguard import sources
from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.sources import NO_TIME, Batch, Source

HEADER = b"time,host,cpu,odd\n"
ROWS = b"2024-01-01 00:00:00,a,1.5,0\n2024-01-01 00:00:01,b,,1\n2024-01-01 00:00:02,a,-3e2,0\n"


def source(path: Path, **options) -> Source:
    options = {"slice_columns": ["host"], "feature_columns": ["cpu"]} | options
    return Source(path, **options)


def full(path: Path, **options) -> Source:
    return source(path, **{"time_column": "time", "label_column": "odd"} | options)


def rows(batches) -> list[tuple]:
    """Every event as one tuple, NaN written as None so that equality is equality."""
    events: list[tuple] = []
    for batch in batches:
        keys = batch.slices.to_list() if isinstance(batch.slices, pl.Series) else batch.slices
        X = [[None if np.isnan(x) else float(x) for x in row] for row in batch.X]
        times = [None] * len(batch) if batch.times is None else batch.times.tolist()
        labels = [None] * len(batch) if batch.labels is None else batch.labels.tolist()
        events += zip(keys, map(tuple, X), times, labels, batch.line_numbers.tolist(), strict=True)
    return events


def set_aside(read: Source) -> list[dict]:
    return [json.loads(line) for line in read.rejects.read_text().splitlines()] if read.rejects.exists() else []


@contextmanager
def internals(**values: object) -> Iterator[None]:
    """A property test may not use a fixture that lives through all its examples."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(sources, name, value)
        yield


def frame() -> pl.DataFrame:
    return pl.read_csv(HEADER + ROWS, try_parse_dates=True)


def write(path: Path) -> Path:
    """The three rows in the format that the name of `path` tells."""
    text = HEADER + ROWS
    if path.name.removesuffix(".gz").endswith(("ndjson", "jsonl")):
        text = frame().with_columns(pl.col("time").cast(pl.String)).write_ndjson().encode()
    if ".tsv" in path.name:
        text = text.replace(b",", b"\t")
    if path.suffix == ".parquet":
        frame().write_parquet(path)
    else:
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize(
    "name", ["e.csv", "e.csv.gz", "e.tsv", "e.ndjson", "e.jsonl.gz", "e.parquet", "E.CSV", "e[1]*.parquet", "a.b.csv"]
)
def test_every_format_gives_the_same_events(tmp_path, name):
    read = full(write(tmp_path / name))
    events = rows(read)
    start = np.datetime64("2024-01-01", "us").astype(np.int64)
    expected = [("a", (1.5,), 0, 0), ("b", (None,), 1_000_000, 1), ("a", (-300.0,), 2_000_000, 0)]
    assert [(key, x, time - start, label) for key, x, time, label, _ in events] == expected
    assert [event[-1] for event in events] == ([2, 3, 4] if "sv" in name.lower() else [1, 2, 3])
    assert (read.rejected, read.rejects.exists()) == (0, False)
    assert read.bytes_read == read.total_bytes == (tmp_path / name).stat().st_size


def test_types_are_what_the_engine_takes(tmp_path):
    (batch,) = full(write(tmp_path / "e.csv"))
    assert isinstance(batch, Batch)
    assert batch.slices.dtype == pl.String
    assert (batch.X.dtype, batch.X.shape, batch.times.dtype) == (np.float32, (3, 1), np.int64)
    assert (batch.labels.dtype, batch.line_numbers.dtype) == (np.int8, np.int64)
    (batch,) = source(tmp_path / "e.csv")
    assert (batch.times, batch.labels) == (None, None)


def test_several_slice_columns_make_tuples_and_none_makes_one_slice(tmp_path):
    path = write(tmp_path / "e.csv")
    assert [event[0] for event in rows(source(path, slice_columns=["host", "odd"]))] == [
        ("a", "0"),
        ("b", "1"),
        ("a", "0"),
    ]
    assert [event[0] for event in rows(source(path, slice_columns=[]))] == ["all"] * 3


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


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 7, 1_000])
def test_every_batch_but_the_last_has_batch_rows_rows(tmp_path, batch_rows):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\n" + b"".join(b"h%d,%d\n" % (i % 3, i) for i in range(50)))
    with internals(_BLOCK_BYTES=64):
        batches = list(source(path, batch_rows=batch_rows))
    assert {len(batch) for batch in batches[:-1]} <= {batch_rows}
    assert [event[1][0] for event in rows(batches)] == list(range(50))


plain_fields = st.sampled_from(
    ["1", "2.5", "", "nan", "-inf", "x", "é", " 1 ", "1e999", "NA", "3e38", "-4e38", "1_000"]
)
quoted_fields = st.sampled_from(['"q"', '"1"', '"a,b"', '"a\nb"', '"a\r\nb"', '"a""b"', '""'])
odd_fields = st.sampled_from(['a"b', '"', ' "a"', "\r", "\x00", "\xff", "#", "true", "'", ",", ",,"])
fields = plain_fields | quoted_fields | odd_fields
ragged_lines = st.lists(fields, max_size=4).map(",".join)
texts = st.lists(st.tuples(st.one_of(ragged_lines, st.just("a,1,0")), st.sampled_from(["\n", "\n", "\r\n", ""])))


@settings(max_examples=300, deadline=None)
@example(lines=[('"a', "\n"), ('b",1,0', "\n"), ("c,1,0", "")], block=3)
@example(lines=[('x"y,1,0', "\n"), ('z"w,1,0', "\n")], block=1_000)
@example(lines=[('"a,1,0', "\n"), ("b,1,0", "\n"), ('c,"1",0', "\n")], block=5)
@given(lines=texts, block=st.integers(1, 60))
def test_both_ways_to_split_csv_and_any_cut_into_blocks_give_the_same_rows(lines, block, tmp_path_factory):
    # the byte 0xff stands for text that is not UTF-8, é for text that is
    text = "".join(line + end for line, end in lines).replace("é", "Ã©").encode("latin-1")
    path = tmp_path_factory.mktemp("e") / "e.csv"
    path.write_bytes(b"host,cpu,odd\na,1,0\n" + text)
    outcomes = []
    for settings_ in (
        {},
        {"_BLOCK_BYTES": block, "_PART_BYTES": 4},
        {"_PART_BYTES": 4},
        {"_split_fast": lambda *_: None},
    ):
        with internals(**settings_):
            read = source(path, label_column="odd")
            outcomes.append((rows(read), set_aside(read), read.rejected))
    assert all(outcome == outcomes[0] for outcome in outcomes[1:])


@settings(max_examples=100, deadline=None)
@given(
    table=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8),  # written unquoted
            st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False),
            st.sampled_from([0, 1]),
        ),
        min_size=1,
        max_size=30,
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
)
def test_what_the_csv_module_writes_is_read_back(table, quoting, end, bom, tmp_path_factory):
    path = tmp_path_factory.mktemp("e") / "e.csv"
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, lineterminator=end).writerows([("host", "cpu", "odd"), *table])
    path.write_bytes(b"\xef\xbb\xbf" * bom + text.getvalue().encode())
    with internals(_BLOCK_BYTES=100):
        events = rows(source(path, label_column="odd"))
    assert [(key, x, label) for key, (x,), _, label, _ in events] == table


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


def test_a_row_that_cannot_be_read_is_set_aside_with_line_reason_and_text(tmp_path):
    path = tmp_path / "e.csv"
    bad = [b"2024-01-01,a,1.5", b"2024-01-01,a,abc,0", b"2024-01-01,\xff,1,0", b"2024-13-01,a,1,0", b"2024-01-01,a,1,7"]
    bad += [b'2024-01-01,"a" b,1,0', b"2024-01-01,a,1,0,0"]
    path.write_bytes(HEADER + ROWS + b"\n".join(bad) + b"\n\n" + ROWS)
    read = full(path)
    assert [event[-1] for event in rows(read)] == [2, 3, 4, 13, 14, 15]  # the blank line 12 is no row
    records = set_aside(read)
    assert read.rejected == len(records) == len(bad)
    assert [record["line"] for record in records] == list(range(5, 12))
    assert [record["text"] for record in records] == [line.decode(errors="backslashreplace") for line in bad]
    for record, reason in zip(
        records,
        [
            "the row has 3 columns, the header has 4",
            "feature 'cpu' is 'abc', not a number",
            "not UTF-8 at byte 12",
            "time 'time' is '2024-13-01', neither ISO 8601 nor a Unix time",
            "label 'odd' is '7', neither 0 nor 1",
            "',' expected after '\"'",
            "the row has 5 columns, the header has 4",
        ],
        strict=True,
    ):
        assert record["reason"] == reason


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
    assert [event[1:] for event in rows(read)] == [((1.0,), None, None, 1), ((None,), None, None, 9)]
    reasons = {record["line"]: record["reason"] for record in set_aside(read)}
    assert list(reasons) == [2, 3, 4, 5, 6, 7]
    assert reasons[3] == "JSON, but not an object"
    assert reasons[4].startswith("not UTF-8")
    assert reasons[5] == "feature 'cpu' is '{}', not a number"


def test_a_stray_quote_costs_its_own_line_only(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b'host,cpu\na,1\n"b,2\n' + b"c,3\n" * 5_000 + b'"d ""1"", e\nf",4\n')
    read = source(path)
    events = rows(read)
    assert [event[0] for event in events] == ["a"] + ["c"] * 5_000 + ['d "1", e\nf']
    assert [(record["line"], record["text"]) for record in set_aside(read)] == [(3, '"b,2')]
    assert events[-1][-1] == 5_004


def test_strict_makes_the_first_bad_row_an_error_after_the_good_ones(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\na,1\na,2\na,b\na,3\na\n")
    read = source(path, strict=True)
    events: list[Batch] = []
    with pytest.raises(SourceError, match=r"line 4: feature 'cpu' is 'b', not a number"):
        events.extend(read)
    assert [event[1] for event in rows(events)] == [(1.0,), (2.0,)]
    assert not read.rejects.exists()


def test_a_stale_rejects_file_is_replaced_and_none_is_made_for_a_clean_run(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\na,b\nc,1\n")
    read = source(path)
    for _ in range(2):
        rows(read)
        assert len(set_aside(read)) == read.rejected == 1
    path.write_bytes(b"host,cpu\na,1\n")
    rows(source(path))
    assert not (tmp_path / "e.csv.rejects.ndjson").exists()


def test_the_rejects_file_may_be_named_and_must_not_be_the_source(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\na,b\nc,1\n")
    rows(source(path, rejects=tmp_path / "bad"))
    assert (tmp_path / "bad").exists()
    with pytest.raises(InvalidArgument, match="the source itself"):
        source(path, rejects=path)
    with pytest.raises(SourceError, match="which cannot be written"):
        rows(source(path, rejects=tmp_path / "none" / "bad"))


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


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-29 12:30:15.250",
        "2024-02-29T12:30:15.25",
        "2024-02-29T12:30:15.250Z",
        "2024-02-29T14:30:15.25+02:00",
        "20240229T123015.25",
        "1709209815.25",
        "1709209815250",
        "1709209815250000",
        "1709209815250000000",
    ],
)
def test_iso_and_unix_times_in_any_unit_are_the_same_moment(tmp_path, text):
    moment = round(datetime(2024, 2, 29, 12, 30, 15, 250_000, UTC).timestamp() * 1e6)
    day = round(datetime(2024, 2, 29, tzinfo=UTC).timestamp() * 1e6)
    path = tmp_path / "e.csv"
    path.write_text(f"host,cpu,time\na,1,{text}\na,2,\na,3,2024-02-29\na,4, {text} \na,5,null\n")
    read = source(path, time_column="time")
    assert [event[2] for event in rows(read)] == [moment, NO_TIME, day, moment, NO_TIME]
    (batch,) = source(path, time_column="time")
    assert np.isnat(batch.times.view("datetime64[us]")).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("text", ["soon", "1e30", "2024-02-30", "29/02/2024", "99999999999999999999"])
def test_what_is_no_time_is_set_aside(tmp_path, text):
    path = tmp_path / "e.csv"
    path.write_text(f"host,cpu,time\na,1,{text}\na,2,2024-01-01\n")
    read = source(path, time_column="time")
    assert [event[1] for event in rows(read)] == [(2.0,)]
    assert "neither ISO 8601 nor a Unix time" in set_aside(read)[0]["reason"]


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([datetime(2024, 2, 29), None]).cast(pl.Datetime("ns", "Europe/Berlin")),
        pl.Series([datetime(2024, 2, 29).date(), None]),
        pl.Series([1_709_164_800, None]),
        pl.Series([1_709_164_800.0, None]),
        pl.Series(["2024-02-29", None]),
    ],
    ids=lambda times: str(times.dtype),
)
def test_parquet_times_of_any_type_are_read(tmp_path, times):
    pl.DataFrame({"host": ["a", "a"], "cpu": [1, 2], "time": times}).write_parquet(tmp_path / "e.parquet")
    assert [event[2] for event in rows(source(tmp_path / "e.parquet", time_column="time"))] == [
        1_709_164_800_000_000,
        NO_TIME,
    ]


def test_a_truncated_gzip_file_is_one_error_after_its_good_rows(tmp_path):
    path = tmp_path / "e.csv.gz"
    random = np.random.default_rng(0)
    text = b"host,cpu\n" + b"".join(b"a,%.6f\n" % x for x in random.normal(size=5_000))
    path.write_bytes(gzip.compress(text)[:-2_000])
    read, batches = source(path, batch_rows=1_000), []
    with pytest.raises(SourceError, match="breaks off after the rows read so far: the gzip file ends before"):
        batches.extend(read)
    values = [event[1][0] for event in rows(batches)]
    expected = np.loadtxt(io.BytesIO(text), delimiter=",", skiprows=1, usecols=1, dtype=np.float32)
    assert 3_000 < len(values) < 5_000
    assert values == expected[: len(values)].tolist()
    assert read.rejected == 0


def test_gzip_members_in_a_row_are_one_file(tmp_path):
    path = tmp_path / "e.csv.gz"
    path.write_bytes(gzip.compress(b"host,cpu\na,1") + gzip.compress(b"2\nb,3\n") + b"\0" * 100)
    with internals(_BLOCK_BYTES=5):
        assert [event[:2] for event in rows(source(path))] == [("a", (12.0,)), ("b", (3.0,))]


def test_a_broken_parquet_file_is_one_error_after_its_good_rows(tmp_path):
    path = tmp_path / "e.parquet"
    pl.DataFrame({"host": ["a"] * 9_000, "cpu": np.arange(9_000)}).write_parquet(path, row_group_size=3_000)
    data = bytearray(path.read_bytes())
    last_group = len(data) * 2 // 3  # roughly; the schema at the end stays whole
    data[last_group - 60 : last_group + 400] = b"\xff" * 460
    path.write_bytes(data)
    batches: list[Batch] = []
    with pytest.raises(SourceError, match="breaks off after the rows read so far"):
        batches.extend(source(path, batch_rows=1_000))
    events = rows(batches)
    assert [event[1][0] for event in events] == list(range(len(events)))
    assert 0 < len(events) < 9_000


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.ndjson"])
def test_one_endless_line_costs_no_memory(tmp_path, name):
    path = tmp_path / name
    opener = gzip.open if name.endswith("gz") else open
    start, good, end = (b'{"host":"', b'{"host":"a","cpu":1}\n', b"\n") if "json" in name else (b"", b"a,1\n", b'",2\n')
    with opener(path, "wb") as file:
        file.write((b"" if "json" in name else b"host,cpu\n") + good + start)
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(end + good)
    tracemalloc.start()
    read = source(path)
    events = rows(read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [event[:2] for event in events] == [("a", (1.0,))] * 2
    (record,) = set_aside(read)
    assert record["reason"] == "longer than 1,048,576 bytes"
    assert len(record["text"]) <= 2_000
    assert peak < 32 << 20


def test_a_field_longer_than_the_csv_module_takes_is_set_aside_whichever_way_it_is_split(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\na,1\n" + b"x" * 131_073 + b",2\nc,3\n")
    read = source(path)
    assert [event[0] for event in rows(read)] == ["a", "c"]
    assert "field limit" in set_aside(read)[0]["reason"]


class Piped:
    def __init__(self, text: bytes):
        self.buffer = io.BytesIO(text)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "text", [b"host,cpu\na,1\nb\n", b'{"host":"a","cpu":1}\n[]\n', b"\xef\xbb\xbfhost,cpu\r\na,1\r\nb"]
)
def test_standard_input_is_csv_or_ndjson_by_its_first_byte(tmp_path, monkeypatch, text, zipped):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", Piped(gzip.compress(text) if zipped else text))
    read = source(Path("-"))
    assert [event[:2] for event in rows(read)] == [("a", (1.0,))]
    assert (read.rejected, read.total_bytes) == (1, None)
    assert (tmp_path / "stdin.rejects.ndjson").exists()
    monkeypatch.setattr(sys, "stdin", Piped(b""))
    with pytest.raises(SourceError, match="source stdin is empty"):
        rows(source(Path("-")))


@pytest.mark.parametrize("name", ["e.csv", "e.ndjson", "e.parquet"])
def test_a_missing_column_is_one_error_with_those_present_and_the_nearest(tmp_path, name):
    path = write(tmp_path / name)
    with pytest.raises(SourceError, match=r"'hosts' is not in .* are time, host, cpu, odd; did you mean 'host'\?"):
        rows(source(path, slice_columns=["hosts"]))
    with pytest.raises(SourceError, match=r"time column 'zzz' is not in .*; name one of these"):
        rows(source(path, time_column="zzz"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("e.csv", b"", "is empty"),
        ("e.csv", b"host,cpu\n", "is empty"),
        ("e.csv", b"\n\n", "is empty"),
        ("e.csv.gz", gzip.compress(b""), "is empty"),
        ("e.ndjson", b"\n\n", "is empty"),
        ("e.csv", b"host,cpu,cpu\na,1,2\n", "column 'cpu' is in .* twice"),
        ("e.csv", b'"host,cpu\n', "the header of source"),
        ("e.csv", "host,cpu\na,1\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("e.csv.gz", b"host,cpu\na,1\n", "is not gzipped"),
        ("e.csv.gz", b"\x1f\x8bnonsense", "cannot be read"),
        ("e.parquet", b"PAR1 not", "cannot be read"),
        ("e.xlsx", b"PK", "unknown extension '.xlsx'; it must end in .csv"),
        ("e", b"a", "unknown extension ''"),
    ],
)
def test_what_is_no_source_is_one_clear_error(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text)
    with pytest.raises(SourceError, match=message):
        rows(source(path))


def test_a_file_that_is_missing_or_a_directory_is_one_clear_error(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        source(tmp_path / "none.csv")
    with pytest.raises(SourceError, match="is a directory"):
        source(tmp_path)


def test_a_parquet_column_of_the_wrong_type_is_one_clear_error(tmp_path):
    path = tmp_path / "e.parquet"
    pl.DataFrame({"host": ["a"], "cpu": [[1.0]]}).write_parquet(path)
    with pytest.raises(
        SourceError, match=r"feature column 'cpu' of .* is of type List\(Float64\), which is no number; cast it"
    ):
        rows(source(path))


def test_wrong_arguments_name_the_way_out(tmp_path):
    path = write(tmp_path / "e.csv")
    for options, message in [
        ({"feature_columns": []}, "name at least one column"),
        ({"slice_columns": "host"}, "must be a list"),
        ({"feature_columns": ["cpu", "cpu"]}, "names each column once"),
        ({"batch_rows": 0}, "must be at least 1"),
    ]:
        with pytest.raises(InvalidArgument, match=message):
            source(path, **options)


def test_the_real_stream_is_read_whole(data_dir, tmp_path):
    path = data_dir / "streams" / "cloudwatch.csv.gz"
    read = Source(path, ["metric"], ["value"], "timestamp", "anomaly_window", rejects=tmp_path / "rejects")
    events = pl.read_csv(path, try_parse_dates=True)
    batches = list(read)
    assert read.rejected == 0
    assert pl.concat([batch.slices for batch in batches]).to_list() == events["metric"].to_list()
    np.testing.assert_array_equal(
        np.concatenate([batch.X[:, 0] for batch in batches]), events["value"].to_numpy().astype(np.float32)
    )
    np.testing.assert_array_equal(
        np.concatenate([batch.times for batch in batches]).view("datetime64[us]"), events["timestamp"].to_numpy()
    )
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), events["anomaly_window"])
