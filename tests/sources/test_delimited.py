"""Delimited text: however it is split and cut, the same rows, and a bad one costs itself only."""

import csv
import io

from hypothesis import example, given, settings
from hypothesis import strategies as st

from onlineguard.sources.dialect import Choices
from tests.support.reading import internals, rows, set_aside, source

COMMA = Choices(delimiter=",")  # told, since some of these texts could as well be columns aligned by blanks
plain_fields = st.sampled_from(
    ["1", "2.5", "", "nan", "-inf", "x", "é", " 1 ", "1e999", "NA", "3e38", "-4e38", "1_000"]
)
quoted_fields = st.sampled_from(['"q"', '"1"', '"a,b"', '"a\nb"', '"a\r\nb"', '"a""b"', '""'])
odd_fields = st.sampled_from(['a"b', '"', ' "a"', "\r", "\x00", "\xff", "#", "true", "'", ",", ",,"])
fields = plain_fields | quoted_fields | odd_fields
ragged_lines = st.lists(fields, max_size=4).map(",".join)
texts = st.lists(st.tuples(st.one_of(ragged_lines, st.just("a,1,0")), st.sampled_from(["\n", "\n", "\r\n", ""])))


@settings(max_examples=3 * settings().max_examples, deadline=None)
@example(lines=[('"a', "\n"), ('b",1,0', "\n"), ("c,1,0", "")], block=3)
@example(lines=[('1,"q",1', "\n"), ('1,"q",1', "\n")], block=1)
@example(lines=[('x"y,1,0', "\n"), ('z"w,1,0', "\n")], block=1_000)
@example(lines=[('"a,1,0', "\n"), ("b,1,0", "\n"), ('c,"1",0', "\n")], block=5)
@example(lines=[("1,1, 1 ,1", "\n"), ("1, 1 ,1", "\n")], block=1_000)
@given(lines=texts, block=st.integers(1, 60))
def test_both_ways_to_split_csv_and_any_cut_into_blocks_give_the_same_rows(lines, block, tmp_path_factory):
    # the byte 0xff stands for text that is not UTF-8, é for text that is
    text = "".join(line + end for line, end in lines).replace("é", "Ã©").encode("latin-1")
    path = tmp_path_factory.mktemp("e") / "e.csv"
    path.write_bytes(b"host,cpu,odd\na,1,0\n" + text)
    outcomes = []
    for settings_ in (
        {},
        {"blocks.BLOCK_BYTES": block, "delimited._PART_BYTES": 4},
        {"delimited._PART_BYTES": 4},
        {"delimited._split_fast": lambda *_: None},
    ):
        with internals(settings_):
            read = source(path, label_column="odd", choices=COMMA)
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
    with internals({"blocks.BLOCK_BYTES": 100}):
        events = rows(source(path, label_column="odd"))
    assert [(key, x, label) for key, (x,), _, label, _ in events] == table


def test_a_stray_quote_costs_its_own_line_only(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b'host,cpu\na,1\n"b,2\n' + b"c,3\n" * 5_000 + b'"d ""1"", e\nf",4\n')
    read = source(path)
    events = rows(read)
    assert [event[0] for event in events] == ["a"] + ["c"] * 5_000 + ['d "1", e\nf']
    assert [(record["line"], record["text"]) for record in set_aside(read)] == [(3, '"b,2')]
    assert events[-1][-1] == 5_004


def test_a_field_longer_than_the_csv_module_takes_is_set_aside_whichever_way_it_is_split(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\na,1\n" + b"x" * 131_073 + b",2\nc,3\n")
    read = source(path)
    assert [event[0] for event in rows(read)] == ["a", "c"]
    assert "field limit" in set_aside(read)[0]["reason"]
