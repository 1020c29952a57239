"""Files as twelve kinds of programs export them: each is read right without a word about how it is written."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from onlineguard.sources import NO_TIME, Choices, Source

START = datetime(2024, 3, 9, 22, 0, tzinfo=UTC)  # so that days pass 12, and 9 March is not 3 September
N = 40
WHEN = [START + timedelta(hours=i) for i in range(N)]
LOAD = [round(1_200.25 + 13.5 * i, 2) for i in range(N)]
SHARE = [(i % 20) / 100 for i in range(N)]
HOSTS = [f"host-{i % 4}" for i in range(N)]


def german(number: float) -> str:
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


def german_excel() -> bytes:
    lines = ["Zeit;Gerät;Last;Anteil"]
    lines += [
        f"{t:%d.%m.%Y %H:%M};{h};{german(x)};{german(100 * s)} %"
        for t, h, x, s in zip(WHEN, HOSTS, LOAD, SHARE, strict=True)
    ]
    return "\r\n".join(["sep=;", *lines, ""]).encode("cp1252")


def american_excel() -> bytes:
    lines = ["Time,Host,Load,Share"]
    lines += [
        f'{t.month}/{t.day}/{t.year} {t:%I:%M:%S %p},{h},"{x:,.2f}",{100 * s:.0f}%'
        for t, h, x, s in zip(WHEN, HOSTS, LOAD, SHARE, strict=True)
    ]
    return b"\xef\xbb\xbf" + "\r\n".join([*lines, ""]).encode()


def sap() -> bytes:
    lines = ["Buchungsbericht 2024;;;", "", "Datum;Werk;Betrag;Anteil"]
    lines += [
        f"{t:%Y%m%d%H%M%S};{h};{german(x)}-;{str(s).replace('.', ',')}"
        for t, h, x, s in zip(WHEN, HOSTS, LOAD, SHARE, strict=True)
    ]
    return "\r\n".join([*lines, ""]).encode("cp1252")


def database_tabs() -> bytes:
    lines = ["at\thost\tload\tshare"]
    lines += [
        f"{t:%Y-%m-%d %H:%M:%S}+00\t{h}\t{x if i != 3 else chr(92) + 'N'}\t{s}"
        for i, (t, h, x, s) in enumerate(zip(WHEN, HOSTS, LOAD, SHARE, strict=True))
    ]
    return "\n".join([*lines, ""]).encode()


def google_sheets() -> bytes:
    lines = ["Timestamp,Host,Load,Share,Remark"]
    lines += [
        f'{t.month}/{t.day}/{t.year} {t.hour}:{t:%M:%S},{h},"{x:,.2f}",{100 * s:.2f}%,"well, fine"'
        for t, h, x, s in zip(WHEN, HOSTS, LOAD, SHARE, strict=True)
    ]
    return "\r\n".join(lines).encode()


def pandas_with_index() -> bytes:
    frame = pl.DataFrame({"": range(N), "at": [f"{t:%Y-%m-%d %H:%M:%S+00:00}" for t in WHEN], "host": HOSTS})
    return frame.with_columns(load=pl.Series(LOAD), share=pl.Series(SHARE)).write_csv().encode()


def write_csv2() -> bytes:
    lines = ['"";"at";"host";"load";"share"']
    lines += [
        f'"{i}";"{t:%Y-%m-%d %H:%M:%S}";"{h}";{str(x).replace(".", ",")};{"NA" if i == 3 else str(s).replace(".", ",")}'
        for i, (t, h, x, s) in enumerate(zip(WHEN, HOSTS, LOAD, SHARE, strict=True), 1)
    ]
    return "\n".join([*lines, ""]).encode()


def influx() -> bytes:
    lines = [
        "#group,false,false,false,true,false,false",
        "#datatype,string,long,dateTime:RFC3339,string,double,double",
        "#default,_result,,,,,",
        ",result,table,_time,host,load,share",
    ]
    lines += [f",,0,{t:%Y-%m-%dT%H:%M:%SZ},{h},{x},{s}" for t, h, x, s in zip(WHEN, HOSTS, LOAD, SHARE, strict=True)]
    return "\r\n".join([*lines, ""]).encode()


def prometheus() -> bytes:
    lines = ['"Time","host","node_load{job=""node"", mode=""user""}","share{job=""node"", mode=""user""}"']
    lines += [
        f"{int(t.timestamp() * 1_000)},{h},{x if i != 3 else 'NaN'},{s}"
        for i, (t, h, x, s) in enumerate(zip(WHEN, HOSTS, LOAD, SHARE, strict=True))
    ]
    return "\n".join([*lines, ""]).encode()


def splunk() -> bytes:
    lines = ['"_time",host,load,share,"_raw"']
    lines += [
        f'"{t + timedelta(hours=1):%Y-%m-%dT%H:%M:%S}.000+0100",{h},"{x}","{s}","a ""raw"" line,\nthen line {i}"'
        for i, (t, h, x, s) in enumerate(zip(WHEN, HOSTS, LOAD, SHARE, strict=True))
    ]
    return "\n".join([*lines, ""]).encode()


def windows_utf16() -> bytes:
    lines = ['"(PDH-CSV 4.0) (UTC)(0)"\t"Rechner"\t"Prozessorzeit (%)"\t"Anteil"']
    lines += [
        f'"{t:%m/%d/%Y %H:%M:%S}.123"\t"{h}"\t"{x}"\t"{s}"' for t, h, x, s in zip(WHEN, HOSTS, LOAD, SHARE, strict=True)
    ]
    return "\r\n".join([*lines, ""]).encode("utf-16")


def by_hand() -> bytes:
    lines = ["when|host|load|share"]
    lines += [
        f"{t + timedelta(hours=1):%d %b %Y %H:%M} CET|{h}|{x if i % 5 != 3 else ('-', 'n/a')[i % 2]}|{s}"
        for i, (t, h, x, s) in enumerate(zip(WHEN, HOSTS, LOAD, SHARE, strict=True))
    ]
    return "\n".join([*lines, ""]).encode()


def without_header() -> bytes:
    lines = [f"{t:%Y-%m-%dT%H:%M:%SZ},{h},{x},{s}" for t, h, x, s in zip(WHEN, HOSTS, LOAD, SHARE, strict=True)]
    return "\n".join([*lines, ""]).encode()


LACKS_ONE = {database_tabs: (3, 0), write_csv2: (2, 1), prometheus: (3, 0)}  # row and feature
EXPORTERS = {
    german_excel: ("txt", "Zeit", "Gerät"),
    american_excel: ("csv", "Time", "Host"),
    sap: ("txt", "Datum", "Werk"),
    database_tabs: ("txt", "at", "host"),
    google_sheets: ("csv", "Timestamp", "Host"),
    pandas_with_index: ("csv", "at", "host"),
    write_csv2: ("csv", "at", "host"),
    influx: ("csv", "_time", "host"),
    prometheus: ("csv", "Time", "host"),
    splunk: ("csv", "_time", "host"),
    windows_utf16: ("csv", "(PDH-CSV 4.0) (UTC)(0)", "Rechner"),
    by_hand: ("csv", "when", "host"),
    without_header: ("csv", "column_1", "column_2"),
}


@pytest.mark.parametrize("named", [True, False], ids=["columns named", "no column named"])
@pytest.mark.parametrize("export", EXPORTERS, ids=lambda export: export.__name__)
def test_what_programs_export_is_read_right_without_a_flag(tmp_path, export, named):
    suffix, time, host = EXPORTERS[export]
    path = tmp_path / f"e.{suffix}"
    path.write_bytes(export())
    read = Source(path, [host] if named else [], None, time)
    (batch,) = read
    assert batch.slices.to_list() == (HOSTS if named else ["all"] * N)
    expected = np.column_stack([LOAD, SHARE]).astype(np.float32)
    if export is sap:
        expected[:, 0] *= -1
    if export is by_hand:
        expected[3::5, 0] = np.nan
    if export in LACKS_ONE:
        row, feature = LACKS_ONE[export]
        expected[row, feature] = np.nan
    np.testing.assert_array_equal(batch.X, expected)
    microseconds = [round(t.timestamp() * 1e6) + (123_000 if export is windows_utf16 else 0) for t in WHEN]
    assert batch.times.tolist() == microseconds
    assert (read.rejected, dict(read.bad_fields)) == (0, {})


def test_what_was_told_is_said_in_one_line(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(german_excel())
    read = Source(path, [], None, "Zeit")
    read.peek()
    assert read.described == (
        "cp1252, semicolons between fields, 1 line skipped, header, decimal comma and '.' between thousands, "
        "times %d.%m.%Y %H:%M"
    )
    assert read.feature_columns == ["Last", "Anteil"]


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("a;1,5;3/4/2024\nb;2,5;3/5/2024\n", {}),
        ("a~1,5~3/4/2024\nb~2,5~3/5/2024\n", {"delimiter": "~", "decimal": ","}),
        ("a;1.5;04.03.24\nb;2.5;05.03.24\n", {"header": False, "time_format": "%d.%m.%y"}),
        ("a\t1.5\t2024-03-04 01:00\nb\t2.5\t2024-03-05 01:00\n", {"delimiter": "tab", "time_zone": "Europe/Berlin"}),
        ("a;1.5;2024-03-04;\nb;2.5;2024-03-05;\n", {"delimiter": ";"}),
    ],
)
def test_what_the_user_says_counts(tmp_path, text, choices):
    path = tmp_path / "e.csv"
    path.write_text(text)
    (batch,) = Source(path, ["column_1"], ["column_2"], "column_3", choices=Choices(**choices))
    assert (batch.slices.to_list(), batch.X.ravel().tolist()) == (["a", "b"], [1.5, 2.5])
    days = np.array(["2024-03-04", "2024-03-05"], "datetime64[us]").astype(np.int64).tolist()
    assert batch.times.tolist() == days


def test_words_and_numbers_that_mean_a_missing_value_may_be_named(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("host,load,kind\na,1,x\na,-999,void\na,void,y\na,2,x\n")
    read = Source(path, ["host"], ["load", "kind"], choices=Choices(missing=("-999", "Void")))
    (batch,) = read
    assert np.isnan(batch.X).tolist() == [[False, False], [True, True], [True, False], [False, False]]
    assert not read.bad_fields


def test_a_latin_1_key_and_a_damaged_utf_8_line_are_told_apart(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes("host,load\nZürich,1\nGenève,2\n".encode("latin-1"))
    (batch,) = Source(path, ["host"], ["load"])
    assert batch.slices.to_list() == ["Zürich", "Genève"]
    path.write_bytes("host,load\nZürich,1\n".encode() + b"Gen\xe8ve,2\n")
    read = Source(path, ["host"], ["load"])
    (batch,) = read
    assert (batch.slices.to_list(), read.rejected) == (["Zürich"], 1)


def test_a_time_that_is_missing_is_no_time(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("at,load\n31.12.2024,1\n-,2\n")
    (batch,) = Source(path, [], ["load"], "at")
    assert (batch.times == NO_TIME).tolist() == [False, True]
