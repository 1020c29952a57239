"""What speaks Arrow's C interface is read by pyarrow where polars is not installed: same keys, same bits."""

import datetime as dt
import decimal
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from onlineguard import Engine, InvalidArgument, in_batches
from onlineguard.engine.keys import as_keys, kept
from onlineguard.errors import MissingExtra

ROOT = Path(__file__).parents[2]
N = 300
RNG = np.random.default_rng(0)
FEATURES = ["load", "latency", "errors", "browser"]
TABLE = pa.table(
    {
        "country": RNG.choice(["DE", "FR"], N),
        "host": RNG.integers(0, 3, N),
        "day": [dt.date(2026, 7, 1 + i) for i in RNG.integers(0, 3, N).tolist()],
        "load": RNG.normal(0.5, 0.1, N),
        "latency": RNG.normal(12.0, 3.0, N).astype(np.float32),
        "errors": [None if i % 7 == 0 else i % 5 for i in range(N)],
        "browser": pa.array([None if i % 11 == 0 else "abc"[i % 3] for i in range(N)]).dictionary_encode(),
    }
)
KEYS = TABLE.select(["country", "host", "day"])


class Capsule:
    """What can be read by Arrow's C interface as one array, and has nothing else."""

    def __init__(self, of):
        self._of = of

    def __arrow_c_array__(self, requested_schema=None):
        return self._of.__arrow_c_array__(requested_schema)


@pytest.fixture
def without_polars(monkeypatch):
    """From now on polars is not installed."""

    def block():
        monkeypatch.setitem(sys.modules, "polars", None)

    return block


def rows() -> list[dict]:
    return TABLE.to_pylist()


FORMS = {
    "a table": lambda: (KEYS, TABLE),
    "a table in pieces": lambda: (pa.concat_tables([KEYS[:100], KEYS[100:]]), pa.concat_tables([TABLE[:7], TABLE[7:]])),
    "batches": lambda: (KEYS.combine_chunks().to_batches()[0], TABLE.combine_chunks().to_batches()[0]),
    "structs": lambda: (KEYS.to_struct_array(), pa.array(rows())),
    "readers": lambda: (KEYS.to_reader(), TABLE.to_reader(max_chunksize=7)),
    "capsules": lambda: tuple(Capsule(part.combine_chunks().to_batches()[0]) for part in (KEYS, TABLE)),
    "relations of DuckDB": lambda: (
        duckdb.connect().from_arrow(TABLE).select("country, host, day"),
        duckdb.connect().from_arrow(TABLE),
    ),
    "dicts of columns": lambda: ({name: KEYS[name] for name in KEYS.column_names}, dict(TABLE.to_pydict())),
    "dicts of Arrow's columns": lambda: (
        {name: KEYS[name] for name in KEYS.column_names},
        {name: TABLE[name] for name in FEATURES},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_bits_of_plain_rows(form, without_polars):
    plain, engine = Engine(features=FEATURES), Engine(features=FEATURES)
    keys, events = FORMS[form]()
    without_polars()
    expected = plain.update([(row["country"], row["host"], row["day"]) for row in rows()], rows())
    found = engine.update(keys, events)
    np.testing.assert_array_equal(found.judgements, expected.judgements)
    np.testing.assert_array_equal(found.slice_numbers, expected.slice_numbers)
    assert (engine.slices, engine.categories) == (plain.slices, (3,))


COLUMNS = {
    "texts": pa.array(["b", None, "a", "b"]),
    "large texts": pa.array(["b", None, "a", "b"], pa.large_string()),
    "views of texts": pa.array(["b", None, "a", "b"], pa.string_view()),
    "a dictionary": pa.array(["b", None, "a", "b"]).dictionary_encode(),
    "whole numbers": pa.array([3, 1, 3], pa.uint8()),
    "whole numbers with a null": pa.array([3, None, 1]),
    "floats": pa.array([3.0, None, -0.0, 3.0]),
    "dates": pa.array([dt.date(2026, 7, 2), None, dt.date(2026, 7, 1)]),
    "dates in milliseconds": pa.array([dt.date(2026, 7, 2), None], pa.date64()),
    "times of the day": pa.array([dt.time(12, 30, 0, 1), None], pa.time64("us")),
    "times": pa.array([1_784_000_000_000_000_001, None, 0], pa.timestamp("ns")),
    "times with a zone": pa.array([1_784_000_000, None, 0], pa.timestamp("s", "Europe/Berlin")),
    "structs in structs": pa.array([{"a": 1, "b": {"c": "x"}}, {"a": 2, "b": {"c": "y"}}]),
    "structs, one of them null": pa.array([{"a": 1, "b": "x"}, None]),
    "booleans": pa.array([True, None]),
    "bytes": pa.array([b"a", None]),
    "decimals": pa.array([decimal.Decimal("1.5"), None]),
    "none": pa.array(["a"])[:0],
    "nulls": pa.nulls(2),
    "lists": pa.array([[1], [2]]),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_column_has_the_keys_that_polars_finds_in_it(column, chunked, without_polars):
    held = COLUMNS[column]
    held = pa.chunked_array([held[:1], held[1:]]) if chunked else held
    expected = list(map(kept, as_keys(held, len(held))))
    without_polars()
    found = list(map(kept, as_keys(held, len(held))))
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    "column", [[1, None, 3], [True, False], [True, None], ["1.5", None], [decimal.Decimal("0.1")], [None, None], []]
)
def test_a_column_has_the_numbers_that_polars_finds_in_it(column, without_polars):
    table = pa.table({"x": column})
    expected = Engine(features=["x"]).score("a", table)
    without_polars()
    np.testing.assert_array_equal(Engine(features=["x"]).score("a", table).judgements, expected.judgements)


@pytest.mark.parametrize("values", [[dt.date(2026, 7, 1)], [dt.timedelta(1)], [[1.0]], ["one"]])
def test_what_are_no_numbers_is_refused_as_it_is_with_polars(values, without_polars):
    table = pa.table({"x": values})
    without_polars()
    engine = Engine(features=["x"])
    engine.update("a", [{"x": 1.0}])
    with pytest.raises(InvalidArgument, match="column 'x' of X cannot be read as numbers"):
        engine.score("a", table)


def test_one_row_of_a_table_is_explained(without_polars):
    engine = Engine(features=FEATURES[:2])
    engine.update(KEYS["country"], TABLE)
    expected = engine.explain("DE", TABLE[7:8])
    without_polars()
    assert engine.explain("DE", TABLE[7:8]) == expected
    with pytest.raises(InvalidArgument, match="x has 2 rows"):
        engine.explain("DE", TABLE[:2])


def test_what_needs_polars_names_the_extra(without_polars):
    verdicts = Engine(1).update("a", [[1.0]])
    without_polars()
    for part, call in (("Verdicts.to_polars", verdicts.to_polars), ("in_batches", lambda: in_batches(TABLE, "host"))):
        with pytest.raises(MissingExtra) as raised:
            call()
        assert str(raised.value) == f"{part} needs polars: pip install 'onlineguard[polars]'"


def test_arrow_without_any_reader_names_the_extra(without_polars, monkeypatch):
    without_polars()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"reading Arrow needs pyarrow: pip install 'onlineguard\[arrow\]'"):
        Engine(features=["load"]).update("a", TABLE)


BLOCKED = """
import sys
sys.modules["polars"] = None
import numpy as np, pandas as pd, pyarrow as pa
from onlineguard import Engine

rng = np.random.default_rng(0)
columns = {name: rng.choice(["a", "b"], 400).tolist() for name in ("host", "browser")}
columns |= {name: rng.normal(size=400) for name in ("load", "ms")}
frame, table = pd.DataFrame(columns), pa.table(columns)
forms = {
    "dicts": (columns["host"], frame.to_dict("records")),
    "a dict of columns": (np.array(columns["host"]), columns),
    "a frame of pandas": (frame["host"], frame),
    "a table of Arrow": (table["host"], table),
    "a frame of keys": (frame[["host"]], frame),
    "a table of keys": (table.select(["host"]), table),
}
engines = {form: Engine(features=["load", "ms", "browser"]) for form in forms}
found = {form: engines[form].update(*forms[form]) for form in forms}
for form in forms:
    assert found[form].ready.any() and engines[form].categories == (2,), form
    np.testing.assert_array_equal(found[form].judgements, found["dicts"].judgements, form)
engine = engines["a table of Arrow"]
engine.save(sys.argv[1])
again = Engine.load(sys.argv[1])
scores = [each.score(table["host"], table).judgements for each in (engine, again)]
np.testing.assert_array_equal(*scores)
assert {*again.explain("a", table[:1])} == {"load", "ms", "browser"}
assert len(found["a frame of pandas"].to_pandas(frame.index)) == 400

numbers = np.column_stack([columns["load"], columns["ms"]])
by_name, by_place = Engine(features=["load", "ms"]), Engine(2)
np.testing.assert_array_equal(
    by_place.update(columns["host"], numbers).judgements, by_name.update(columns["host"], table).judgements
)
"""


@pytest.mark.slow
def test_an_engine_in_a_process_that_cannot_import_polars_takes_arrays_dicts_pandas_and_arrow(tmp_path):
    program = [sys.executable, "-c", BLOCKED, str(tmp_path / "engine")]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
