"""Clicks at the edge: single records, frames, and logs of any shape through a mapping."""

import json

import msgspec
import polars as pl
import pytest

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.clicks.clicks import (
    LATEST,
    NULLABLE,
    SCHEMA,
    Click,
    Mapping,
    check_clicks,
    decode_click,
    prefix,
    read_clicks,
)
from tests.support.click_frames import EXAMPLE, RECORD, frame


def test_a_record_has_the_fields_of_a_frame_in_the_same_order():
    assert list(SCHEMA) == [field.name for field in msgspec.structs.fields(Click)] == list(RECORD)


def test_a_record_is_decoded_as_it_was_written_and_an_unknown_field_is_refused():
    assert msgspec.structs.asdict(decode_click(json.dumps(RECORD).encode())) == RECORD
    with pytest.raises(InvalidArgument, match=r'^click has a field "campaign", which is unknown; its fields are '):
        decode_click(json.dumps({**RECORD, "campaign": 7}).encode())


def test_a_text_that_is_too_long_is_refused_with_the_bound():
    with pytest.raises(InvalidArgument, match=r"^click field device has 129 characters; it may have 128$"):
        decode_click(json.dumps({**RECORD, "device": "d" * 129}).encode())


def test_fields_that_may_be_null_may_be_absent():
    click = decode_click(json.dumps({k: v for k, v in RECORD.items() if k not in NULLABLE}).encode())
    assert click.user_id is click.session_id is click.purchase_ts is click.rfm is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": "now"}, r'\$\.ts is "now"; it must be a whole number from 0'),
        ({"ts": -1}, r"\$\.ts is -1; it must be a whole number from 0"),
        ({"ts": 1_700_000_000_000_000}, r"\$\.ts is 1700000000000000; .* milliseconds"),
        ({"ts": 1.5}, r"\$\.ts is 1\.5; it must be a whole number"),
        ({"logged_in": "yes"}, r'\$\.logged_in is "yes"; it must be true or false'),
        ({"ip": None}, r"\$\.ip is null; it must be text"),
        ({"rfm": 16}, r"\$\.rfm is 16; it must be a number from 3 to 15 or null"),
        ({"user_agent": ["a"] * 100}, r'\$\.user_agent is \["a".{80,}…; it must be text$'),
    ],
)
def test_a_wrong_field_of_a_record_is_named_with_its_value_and_rule(change, message):
    with pytest.raises(InvalidArgument, match=message):
        decode_click(json.dumps(RECORD | change).encode())


def test_a_missing_field_and_a_broken_record_are_named():
    with pytest.raises(InvalidArgument, match="click has no field ip; ip must be text"):
        decode_click(json.dumps({k: v for k, v in RECORD.items() if k != "ip"}).encode())
    with pytest.raises(InvalidArgument, match=r"click is \[1\]; it must be a JSON object with the fields click_id"):
        decode_click(b"[1]")
    for body in (b'{"click_id": ', b"", b'{"click_id": "\xff"}'):
        with pytest.raises(InvalidArgument, match="it must be a JSON object in UTF-8"):
            decode_click(body)


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("203.0.113.255", "203.0.113.0/24"),
        ("2001:DB8:1:2::7", "2001:db8:1::/48"),
        ("2001:db8:0001:ffff::", "2001:db8:1::/48"),
        ("::ffff:203.0.113.9", "203.0.113.0/24"),
        ("203.0.113", "203.0.113"),
        ("203.0.113.256", "203.0.113.256"),
        ("87540", "87540"),
        ("", ""),
    ],
)
def test_the_prefix_is_24_bits_of_ipv4_and_48_of_ipv6_and_else_the_text(ip, network):
    assert prefix(ip) == network


def test_check_clicks_returns_a_good_frame_unchanged():
    good = frame(user_id=["a", None], purchase_ts=[None, 5], rfm=[3.0, None])
    assert check_clicks(good).equals(good)


def test_check_clicks_takes_other_types_that_hold_the_same_values():
    other = frame(ip=["a", "b"]).cast({"ip": pl.Categorical, "ts": pl.UInt64, "rfm": pl.Int8, "logged_in": pl.Int8})
    assert check_clicks(other).equals(frame(ip=["a", "b"]))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"ts": pl.Series([5, None, None])}, r"column ts, row 2 is null; ts must be .* \(2 of 3 rows are wrong\)"),
        ({"ts": pl.Series([5, -3])}, "column ts, row 2 is -3; ts must be a whole number from 0"),
        ({"ts": pl.Series([5, LATEST + 1])}, f"column ts, row 2 is {LATEST + 1}"),
        ({"ts": pl.Series([5.0, 1.5])}, r"column ts, row 2 is 1\.5"),
        ({"logged_in": pl.Series([1, 2])}, "column logged_in, row 2 is 2; logged_in must be true or false"),
        ({"ip": pl.Series(["a", None])}, "column ip, row 2 is null; ip must be text"),
        ({"user_id": pl.Series([["a"], None])}, r'column user_id, row 1 is \["a"\]; user_id must be text or null'),
        (
            {"rfm": pl.Series([3.0, float("nan")])},
            "column rfm, row 2 is nan; rfm must be a number from 3 to 15 or null",
        ),
    ],
)
def test_a_wrong_value_of_a_frame_is_named_with_column_row_value_and_rule(column, message):
    ((name, values),) = column.items()
    clicks = pl.concat([frame()] * len(values)).with_columns(values.alias(name))
    with pytest.raises(InvalidArgument, match=message):
        check_clicks(clicks)


def test_a_missing_column_is_named_with_those_there_are():
    with pytest.raises(InvalidArgument, match="clicks has no column ip; its columns are click_id, ts"):
        check_clicks(frame().drop("ip"))


@pytest.mark.parametrize("suffix", [".csv", ".ndjson", ".parquet"])
def test_a_file_in_the_schema_is_read_back_as_it_was_written(tmp_path, suffix):
    clicks = frame(user_id=["a", None, "c"], purchase_ts=[None, 1_700_000_000_500, None], rfm=[3.5, None, 15.0])
    path = tmp_path / f"clicks{suffix}"
    {".csv": clicks.write_csv, ".ndjson": clicks.write_ndjson, ".parquet": clicks.write_parquet}[suffix](path)
    assert read_clicks(path).equals(clicks)


@pytest.mark.parametrize(
    ("unit", "value"),
    [("s", 1_700_000_000), ("s", 1_700_000_000.123), ("ms", 1_700_000_000_123), ("us", 1_700_000_000_123_999)],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_times_are_read_in_the_unit_of_the_mapping_and_rounded_down(unit, value, as_text):
    log = frame().with_columns(pl.lit(str(value) if as_text else value).alias("ts"))
    mapping = msgspec.convert({"columns": {f: f for f in SCHEMA}, "time": {"unit": unit}}, Mapping)
    assert read_clicks(log, mapping)["ts"].item() == (
        1_700_000_000_000 if value == 1_700_000_000 else 1_700_000_000_123
    )


def test_times_in_text_are_read_in_their_zone():
    log = frame().with_columns(pl.lit("2023-11-15 06:13").alias("ts"))
    rule = {"format": "%Y-%m-%d %H:%M", "zone": "Asia/Shanghai"}
    mapping = msgspec.convert({"columns": {f: f for f in SCHEMA}, "time": rule}, Mapping)
    assert read_clicks(log, mapping)["ts"].item() == 1_699_999_980_000


def test_seconds_taken_for_milliseconds_are_noticed():
    with pytest.raises(InvalidArgument, match=r"all of ts is before 1990 when read as ms; .* time\.unit = 's'"):
        read_clicks(frame(ts=[1_700_000_000]))


def test_a_bad_row_is_an_error_or_is_set_aside_with_its_reason(tmp_path):
    path, rejects = tmp_path / "clicks.csv", tmp_path / "rejects.ndjson"
    good = frame(click_id=["a", "b", "c"])
    good.with_columns(pl.Series("ts", ["1700000000123", "soon", "1700000000123"])).write_csv(path)
    with pytest.raises(InvalidArgument, match=r'column ts, row 2 is "soon"; ts must be .* \(1 of 3 rows are wrong\)'):
        read_clicks(path)
    assert read_clicks(path, rejects=rejects).equals(good.filter(pl.col("click_id") != "b"))
    with pytest.raises(InvalidArgument, match=r"rejects is .*clicks\.csv, the source itself; name another file"):
        read_clicks(path, rejects=path)
    with pytest.raises(SourceError, match=r"rejects is .*none/r, which cannot be written"):
        read_clicks(path, rejects=tmp_path / "none" / "r")
    (reject,) = map(json.loads, rejects.read_text().splitlines())
    assert (reject["row"], reject["column"], reject["value"]) == (2, "ts", "soon")
    assert "must be a whole number" in reject["reason"]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"columns": {"ip_address": "ip"}}, "columns.ip_address is no field of a click; the fields are click_id, ts"),
        ({"columns": {"ts": "t"}}, 'ip is missing; name its column, e.g. columns.ip = "ip"'),
        ({"columns": {f: f for f in SCHEMA}, "constants": {"device": "pc"}}, "device has a column and a constant"),
        ({"columns": {f: f for f in SCHEMA}, "time": {"unit": "min"}}, "time.unit is 'min'; it must be one of s, ms"),
        ({"columns": {f: f for f in SCHEMA}, "time": {"zone": "Mars"}}, "time.zone is 'Mars'; it must be a zone"),
        ({"columns": {f: f for f in SCHEMA}, "time": {"unit": "s", "format": "%Y"}}, "has a unit and a format"),
    ],
)
def test_a_mapping_that_makes_no_click_says_why(mapping, message):
    with pytest.raises(InvalidArgument, match=message):
        read_clicks(frame(), msgspec.convert(mapping, Mapping))


def test_a_mapping_file_that_is_none_says_why(tmp_path):
    path = tmp_path / "mapping.toml"
    for text, message in (
        ("columns = 3", r"Expected `object`, got `int` - at `\$.columns`"),
        ("x = 1", "`x`"),
        ("[", "mapping"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidArgument, match=message):
            Mapping.load(path)
    with pytest.raises(SourceError, match="cannot be read"):
        Mapping.load(tmp_path / "absent.toml")


def test_a_source_that_cannot_be_read_says_why(tmp_path):
    for name in ("absent.csv", "clicks.xlsx"):
        with pytest.raises(SourceError, match=name):
            read_clicks(tmp_path / name)
    with pytest.raises(SourceError, match=r"has no column ip; its columns are .* A mapping says"):
        read_clicks(frame().drop("ip"))


def test_the_talkingdata_log_is_read_through_its_mapping(data_dir):
    """The facts are those of the log's own description, and the longest delay was counted apart from polars."""
    clicks = read_clicks(data_dir / "clicks" / "talkingdata" / "clicks-48h.csv.gz", Mapping.load(EXAMPLE))
    assert clicks.schema == SCHEMA
    assert clicks.height == clicks["click_id"].n_unique() == 66_105
    assert clicks["ts"].min() == 1_509_984_000_000  # 2017-11-06 16:00:00 UTC
    assert clicks["ts"].max() == 1_510_156_799_000  # 2017-11-08 15:59:59
    assert clicks["ts"].is_sorted()
    assert clicks["ip"].n_unique() == 27_707
    assert clicks["device"].n_unique() == 77
    assert clicks["ad_id"][0] == "12|178"
    assert clicks["user_id"][0] == "48646|1|19"
    bought = clicks.filter(pl.col("purchase_ts").is_not_null())
    assert bought.height == 160
    delays = bought["purchase_ts"] - bought["ts"]
    assert (delays.min(), round(delays.max() / 3_600_000, 1)) == (
        2_000,
        11.5,
    )  # the whole sample, which has a day more, goes up to 12.9
    assert clicks["session_id"].null_count() == clicks["rfm"].null_count() == clicks.height
