"""A source: every format gives the same events, and what is no source is one clear error."""

import bz2
import gzip
import io
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.sources import Batch, Source
from tests.support.reading import full, rows, source, write


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


def test_strict_makes_the_first_bad_row_an_error_after_the_good_ones(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\na,1\na,2\na,b\na,3\na\n")
    read = source(path, strict=True)
    events: list[Batch] = []
    with pytest.raises(SourceError, match=r"line 4: feature 'cpu' is 'b', not a number"):
        events.extend(read)
    assert [event[1] for event in rows(events)] == [(1.0,), (2.0,)]
    assert not read.rejects.exists()


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
        ("e.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("e.ndjson", b"\n\n", "is empty"),
        ("e.csv", b"host,cpu,cpu\na,1,2\n", "column 'cpu' is in .* twice"),
        ("e.csv", b'"host,cpu\n', "the header of source"),
        ("e.csv.gz", b"host,cpu\na,1\n", "is not gzipped"),
        ("e.csv.gz", b"\x1f\x8bnonsense", "cannot be read"),
        ("e.parquet", b"PAR1 not", "cannot be read"),
        ("e.xlsx", b"PK", "cannot be read"),
        ("e.zip", b"PK", "cannot be read"),
        ("e.html", b"PK", "unknown extension '.html'; it must end in .csv"),
        ("e.csv.zst", b"host,cpu\na,1\n", "is not packed by zstd"),
        ("e.csv.xz", b"\xfd7zXZ\x00nonsense", "cannot be read"),
        ("e.csv.bz2", bz2.compress(b"host,cpu\na,1\n")[:-4], "the .bz2 file ends before"),
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
    with pytest.raises(SourceError, match="is a directory without a file that can be read"):
        source(tmp_path)
    with pytest.raises(SourceError, match="is a pattern that no file fits"):
        source(tmp_path / "*.csv")


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
