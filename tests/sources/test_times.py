"""Times: ISO 8601 and Unix times in any unit."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from onlineguard.errors import SourceError
from onlineguard.sources import NO_TIME
from tests.support.reading import rows, source


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
def test_what_is_no_time_among_times_is_missing_and_counted(tmp_path, text):
    path = tmp_path / "e.csv"
    path.write_text(f"host,cpu,time\na,1,{text}\na,2,2024-01-01\na,2,2024-01-02\n")
    read = source(path, time_column="time")
    assert [event[2] == NO_TIME for event in rows(read)] == [True, False, False]
    assert read.bad_fields == {"time": 1}
    assert "neither ISO 8601 nor a Unix time" in read.reasons[0]


@pytest.mark.parametrize("values", [["a", "b", "2024-01-01"], ["0.5", "0.7", "0.2", "0.9"] * 3])
def test_a_column_without_times_is_one_error_that_names_the_way_out(tmp_path, values):
    path = tmp_path / "e.csv"
    path.write_text("host,cpu,time\n" + "".join(f"a,1,{value}\n" for value in values))
    with pytest.raises(SourceError, match=r"time column 'time' of .* holds .*name another column, or .* --time-format"):
        rows(source(path, time_column="time"))


def test_seconds_since_a_start_are_times(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("host,cpu,time\n" + "".join(f"a,1,{second / 2}\n" for second in range(20)))
    assert [event[2] for event in rows(source(path, time_column="time"))] == [500_000 * i for i in range(20)]


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
