"""Dialects: a table that is written in any dialect of the family is read back to the same numbers and times."""

import csv
import io
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onlineguard.errors import InvalidArgument
from onlineguard.sources import Choices, Source
from onlineguard.sources.encodings import told_encoding
from onlineguard.sources.fields import Style, to_numbers
from onlineguard.sources.formats import told_format
from onlineguard.sources.numerals import STYLES, told_numerals
from tests.support.reading import internals

TIMES = (
    "%Y-%m-%d %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%m/%d/%Y %I:%M %p",
    "%d-%b-%Y %H:%M:%S",
    "%Y%m%d%H%M%S",
    "%d.%m.%y %H:%M",
)
START = datetime(2024, 3, 1, tzinfo=UTC)


def written(number, style):
    plain = f"{number:,.2f}" if style.thousands else f"{number:.2f}"
    return plain.translate(str.maketrans({",": style.thousands, ".": style.decimal}))


@st.composite
def dialects(draw):
    """A delimiter, numerals that go with it, and the rest."""
    style = draw(st.sampled_from(STYLES))
    return {
        "style": style,
        "delimiter": draw(st.sampled_from([d for d in ",;\t|" if not (d == ";" and style.decimal != ",")])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])),
        "end": draw(st.sampled_from(["\n", "\r\n"])),
        "header": draw(st.booleans()),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        "time": draw(st.sampled_from(TIMES)),
        "missing": draw(st.sampled_from(["", "-", "n/a", "NA", "\\N", "#N/A", "null"])),
        "title": draw(st.booleans()),
    }


@settings(max_examples=25, deadline=None)
@example(
    dialect={
        "style": STYLES[3],
        "delimiter": ";",
        "encoding": "cp1252",
        "end": "\r\n",
        "header": True,
        "quoting": csv.QUOTE_MINIMAL,
        "time": "%d.%m.%Y %H:%M",
        "missing": "-",
        "title": True,
    },
    numbers=[(1.5, 2_345_678.25)] * 4 + [(None, -12.0)] * 2,
)
@given(
    dialect=dialects(),
    numbers=st.lists(
        st.tuples(
            st.floats(-9_999_999, 9_999_999).map(lambda x: round(x, 2)) | st.none(),
            st.floats(1_000, 9_999_999).map(lambda x: round(x, 2)),
        ),
        min_size=6,
        max_size=40,
    ),
)
def test_a_table_in_any_dialect_is_read_back(dialect, numbers, tmp_path_factory):
    style, missing = dialect["style"], dialect["missing"]
    when = [START + timedelta(hours=7 * i) for i in range(len(numbers))]
    keys = [f"Gerät {i % 2}" for i in range(len(numbers))]
    text = io.StringIO(newline="")
    if dialect["title"] and dialect["header"]:
        text.write(f"Bericht{dialect['end']}{dialect['end']}")
    write = csv.writer(text, delimiter=dialect["delimiter"], quoting=dialect["quoting"], lineterminator=dialect["end"])
    if dialect["header"]:
        write.writerow(["at", "key", "first", "second"])
    for t, key, pair in zip(when, keys, numbers, strict=True):
        write.writerow([t.strftime(dialect["time"]), key, *(missing if x is None else written(x, style) for x in pair)])
    path = tmp_path_factory.mktemp("e") / "e.csv"
    path.write_bytes(text.getvalue().encode(dialect["encoding"]))
    at, key = ("at", "key") if dialect["header"] else ("column_1", "column_2")
    expected = np.array([[np.nan if x is None else x for x in pair] for pair in numbers], np.float32)
    some = [j for j in range(2) if np.isfinite(expected[:, j]).any()]
    for settings_ in ({}, {"blocks.BLOCK_BYTES": 333}, {"delimited._split_fast": lambda *_: None}):
        with internals(settings_):
            read = Source(path, [key], None, at)
            batches = list(read)
        assert [key for batch in batches for key in batch.slices] == keys
        np.testing.assert_array_equal(np.concatenate([batch.X for batch in batches]), expected[:, some])
        assert [t for batch in batches for t in batch.times.tolist()] == [round(t.timestamp() * 1e6) for t in when]
        assert (read.rejected, dict(read.bad_fields)) == (0, {})


@given(
    st.sampled_from(STYLES),
    st.lists(st.floats(-1e9, 1e9).map(lambda x: round(x, 2)), min_size=1, max_size=20),
)
def test_numbers_of_every_style_are_read_as_python_wrote_them(style, numbers):
    texts = pl.Series([written(number, style) for number in numbers])
    found, wrong = to_numbers(texts, Style(style))
    assert found.tolist() == numbers
    assert not wrong
    told, _ = to_numbers(texts, Style(told_numerals(texts, ";" if style.decimal == "," else ",")))
    assert told.tolist() == numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12 %", 0.12),
        ("-5%", -0.05),
        ("1,234.50-", -1_234.5),
        ("(1,234.50)", -1_234.5),
        ("$1,234.50", 1_234.5),
        ("1,234.50 EUR", 1_234.5),
        ("\u22124", -4.0),
        ("12,34,567", 1_234_567.0),
        ("1e-5", 1e-5),
        ("1,23", np.nan),
        ("12:30", np.nan),
        ("192.168.0.1", np.nan),
        ("1 2", np.nan),
        ("5 m", np.nan),
    ],
)
def test_what_is_a_number_and_what_is_none(text, number):
    found, wrong = to_numbers(pl.Series([text]), Style(STYLES[1]))
    np.testing.assert_array_equal(found, [number])
    assert bool(wrong) == np.isnan(number)


@pytest.mark.parametrize(
    ("cells", "time_format"),
    [
        (["3/4/2024", "3/5/2024"], "%m/%d/%Y"),
        (["3/4/2024", "4/4/2024"], "%d/%m/%Y"),
        (["25/12/2024", "1/1/2025"], "%d/%m/%Y"),
        (["1/2/2024 3:04 PM", "1/2/2024 4:04 PM"], "%m/%d/%Y %I:%M %p"),
        (["10/Oct/2000:13:55:36 -0700"], "%d/%b/%Y:%H:%M:%S %#z"),
        (["Mon, 01 Jan 2024 00:00:00 GMT"], "%a, %d %b %Y %H:%M:%S%.f"),
        (["soon", "1.5"], None),
        (["x", "y"], None),
    ],
)
def test_the_format_of_times_is_told_from_some(cells, time_format):
    assert told_format(pl.Series(cells)) == time_format


@pytest.mark.parametrize(
    ("zone", "hours"),
    [("UTC", 0), ("CET", -1), ("CEST", -2), ("EST", 5), ("PDT", 7), ("Europe/Berlin", -2), ("America/New_York", 4)],
)
def test_zones_that_are_named_are_known(tmp_path, zone, hours):
    path = tmp_path / "e.csv"
    path.write_text(
        f"at,load\n2024-07-01 12:00:00 {zone},1\n" + "2024-07-01,1\n" * 3 + "07/01/2024,2\n2024-07-01 12:00 nowhere,2\n"
    )
    read = Source(path, [], ["load"], "at")
    (batch,) = read
    noon = round(datetime(2024, 7, 1, 12, tzinfo=UTC).timestamp() * 1e6)
    assert batch.times[0] == noon + hours * 3_600_000_000
    assert read.bad_fields == {"at": 2}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (b"plain", "utf-8"),
        ("é".encode(), "utf-8"),
        ("é".encode()[:1], "utf-8"),  # cut in the middle
        ("Zürich 5 °C".encode("latin-1"), "cp1252"),
        ("é".encode() + b"\xe9", "utf-8"),  # damaged
        (b"a\xff", "utf-8"),
        ("héllo,1\n".encode("utf-16-le") * 3, "utf-16-le"),
    ],
)
def test_the_encoding_is_told_from_the_bytes(text, encoding):
    assert told_encoding(text) == encoding


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"delimiter": "ab"}, "delimiter is 'ab'; it must be one sign"),
        ({"decimal": ";"}, "decimal is ';'; it must be '.' or ','"),
        ({"encoding": "klingon"}, "encoding is 'klingon', which is unknown"),
        ({"time_format": "day.month"}, "time_format is 'day.month'; it must have parts"),
        ({"time_zone": "Mars/North"}, "time_zone is 'Mars/North'; it must be one such as"),
    ],
)
def test_a_choice_that_cannot_be_is_one_clear_error(choices, said):
    with pytest.raises(InvalidArgument, match=said):
        Choices(**choices)
