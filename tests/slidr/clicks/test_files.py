"""Files of clicks, packed or not, and lines of text by a pattern; the examples' access log among them."""

import gzip
import zipfile
from pathlib import Path

import polars as pl
import pytest

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.clicks.clicks import SCHEMA, Mapping, read_clicks
from onlineguard.slidr.clicks.files import read_table

EXAMPLES = Path(__file__).parents[3] / "examples"
LINES = [
    '192.0.2.7 - - [10/Oct/2026:13:55:36 -0700] "GET /shop?page=2 HTTP/1.1" 200 2326 "-" "Mozilla/5.0 (X11; Linux)"',
    '2001:db8::1 - ann [10/Oct/2026:20:55:37 +0000] "POST /checkout HTTP/1.1" 302 - "https://a/b" "A \\"B\\" C"',
    '192.0.2.8 - - [10/Oct/2026:20:55:38 +0000] "GET /robots.txt HTTP/1.0" 404 12 "-" "Googlebot/2.1"',
]


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("a,b\n1,x\n2,\n")
    return path


def test_a_zip_of_one_file_reads_as_that_file(csv, tmp_path):
    packed = tmp_path / "log.csv.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(csv, "folder/log.csv")
    assert read_table(packed).equals(read_table(csv))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.write(csv, "other.csv")
    with pytest.raises(SourceError, match=r"log\.csv\.zip holds 2 files; give a \.zip of one log"):
        read_table(packed)
    packed.write_bytes(b"PK no zip")
    with pytest.raises(SourceError, match="cannot be read"):
        read_table(packed)


@pytest.mark.parametrize("packing", ["log", "log.gz", "log.zip"])
def test_an_access_log_becomes_clicks_by_the_example(tmp_path, packing):
    path, text = tmp_path / f"access.{packing}", "\n".join(LINES) + "\n"
    if packing == "log.zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("access.log", text)
    else:
        path.write_bytes(gzip.compress(text.encode()) if packing == "log.gz" else text.encode())
    clicks = read_clicks(path, Mapping.load(EXAMPLES / "access_log.toml"))
    assert clicks.schema == SCHEMA
    assert clicks["ip"].to_list() == ["192.0.2.7", "2001:db8::1", "192.0.2.8"]
    assert clicks["ad_id"].to_list() == ["/shop", "/checkout", "/robots.txt"]
    assert (clicks["ts"] - clicks["ts"][0]).to_list() == [0, 1_000, 2_000]  # each with its own offset
    assert clicks["purchase_ts"].to_list() == [None, clicks["ts"][1], None]
    assert clicks["user_agent"].to_list() == ["Mozilla/5.0 (X11; Linux)", r"A \"B\" C", "Googlebot/2.1"]


def test_a_line_that_does_not_match_is_a_row_that_is_no_click(tmp_path):
    path = tmp_path / "access.log"
    path.write_text(LINES[0] + "\nhello\n" + LINES[2] + "\n")
    mapping = Mapping.load(EXAMPLES / "access_log.toml")
    with pytest.raises(InvalidArgument, match="row 2"):
        read_clicks(path, mapping)
    clicks = read_clicks(path, mapping, tmp_path / "rejects.ndjson")
    assert clicks["click_id"].to_list() == ["1", "3"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": "("}, "pattern is no regular expression"),
        ({"pattern": "(?<when>.*)"}, "pattern has the groups when; it must have one for each column"),
        ({"purchases": {"status": "["}}, r"purchases\.status is no regular expression"),
        ({"purchases": {"status": "200"}, "columns": {"purchase_ts": "time"}}, "purchases and purchase_ts both say"),
    ],
)
def test_a_mapping_of_text_that_makes_no_sense_is_refused(changes, message):
    columns = {field: field for field in SCHEMA if field != "purchase_ts"} | changes.pop("columns", {})
    with pytest.raises(InvalidArgument, match=message):
        Mapping(columns=columns, **changes).check()


def test_a_row_is_a_purchase_if_its_column_says_so():
    frame = pl.DataFrame({field: ["1"] * 3 for field in SCHEMA if field not in ("purchase_ts", "rfm", "ts")})
    frame = frame.with_columns(ts=pl.Series([10**12, 10**12 + 1, 10**12 + 2]), bought=pl.Series(["1", "0", None]))
    columns = {field: field for field in frame.columns if field != "bought"}
    mapping = Mapping(columns=columns, purchases={"bought": "^1$"})
    assert read_clicks(frame, mapping)["purchase_ts"].to_list() == [10**12, None, None]


@pytest.mark.parametrize("kind", ["", ".gz", ".zip"])
def test_how_a_csv_file_is_written_is_told_from_it(tmp_path, kind):
    text = "Report: clicks\r\n\r\nAd;Campaña;Bid\r\na1;Otoño;1,5\r\na2;;2,5\r\n".encode("cp1252")
    path = tmp_path / f"log.csv{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("log.csv", text)
    else:
        path.write_bytes(gzip.compress(text) if kind else text)
    assert read_table(path).to_dict(as_series=False) == {
        "Ad": ["a1", "a2"],
        "Campaña": ["Otoño", None],
        "Bid": ["1,5", "2,5"],
    }
