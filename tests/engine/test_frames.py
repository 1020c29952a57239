"""Keys and events in every form that frames, readers and databases hand over: the bits are those of plain lists."""

import datetime as dt
import uuid
from collections.abc import Iterator

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest

from onlineguard import Engine, InvalidArgument, in_batches
from onlineguard.engine.keys import as_keys, kept

N = 600
FEATURES = ["load", "latency"]
RNG = np.random.default_rng(0)
COUNTRIES = RNG.choice(["DE", "FR"], N).tolist()
HOSTS = RNG.integers(0, 3, N)
DAYS = [dt.date(2026, 7, 1) + dt.timedelta(int(day)) for day in RNG.integers(0, 3, N)]
X = RNG.normal([0.5, 12.0], [0.1, 3.0], (N, 2))
PLAIN = [(country, int(host), day.isoformat()) for country, host, day in zip(COUNTRIES, HOSTS, DAYS, strict=True)]
COLUMNS = {"country": COUNTRIES, "host": HOSTS, "day": DAYS, "load": X[:, 0], "latency": X[:, 1]}
POLARS = pl.DataFrame(COLUMNS)
KEYS = ["country", "host", "day"]


class Capsule:
    """What can be read by Arrow's C interface, and has nothing else."""

    def __init__(self, of):
        self._of = of

    def __arrow_c_stream__(self, requested_schema=None):
        return self._of.__arrow_c_stream__(requested_schema)


def assert_same(one, other):
    np.testing.assert_array_equal(one.judgements, other.judgements)
    np.testing.assert_array_equal(one.slice_numbers, other.slice_numbers)


@pytest.fixture(scope="module")
def plain():
    engine = Engine(features=FEATURES)
    return engine, engine.update(PLAIN, X)


def relation(columns: str):
    """A relation of DuckDB over the frame."""
    table = duckdb.connect().from_arrow(POLARS.to_arrow())
    return table.select(columns)


FORMS = {
    "a polars frame": lambda: (POLARS.select(KEYS), POLARS),
    "structs of polars": lambda: (POLARS.select(pl.struct(KEYS)).to_series(), POLARS),
    "a frame with structs": lambda: (POLARS.select("country", pl.struct("host", "day")), POLARS),
    "structs in structs": lambda: (POLARS.select(pl.struct("country", s=pl.struct("host", "day"))), POLARS),
    "a pandas frame": lambda: (POLARS.select(KEYS).to_pandas(), POLARS.to_pandas()),
    "an index of pandas": lambda: (indexed().index, indexed()),
    "an Arrow table": lambda: (POLARS.select(KEYS).to_arrow(), POLARS.to_arrow()),
    "structs of Arrow": lambda: (pa.array(POLARS.select(KEYS).to_dicts()), POLARS.to_arrow().to_batches()[0]),
    "capsules": lambda: (Capsule(POLARS.select(KEYS)), Capsule(POLARS.to_arrow())),
    "readers": lambda: (POLARS.select(KEYS).to_arrow().to_reader(), POLARS.to_arrow().to_reader(max_chunksize=7)),
    "relations of DuckDB": lambda: (relation("country, host, day"), relation("*")),
    "arrays of DuckDB": lambda: (relation("country, host, day").fetchnumpy(), relation("*").fetchnumpy()),
    "a dict of arrays": lambda: ({name: COLUMNS[name] for name in KEYS}, COLUMNS),
    "a dict of all kinds": lambda: (
        {"country": pd.Series(COUNTRIES), "host": pl.Series(HOSTS), "day": np.array(DAYS, "M8[D]")},
        {"load": pa.array(X[:, 0]), "latency": X[:, 1].tolist()},
    ),
    "lists": lambda: (list(zip(COUNTRIES, HOSTS.tolist(), DAYS, strict=True)), POLARS.to_dicts()),
}


def indexed() -> pd.DataFrame:
    """The frame of pandas, whose index has the keys."""
    frame = POLARS.to_pandas()
    frame["day"] = frame["day"].dt.date
    return frame.set_index(KEYS)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_keys_and_events_gives_the_bits_of_the_plain_one(form, plain):
    keys, events = FORMS[form]()
    engine = Engine(features=FEATURES)
    verdicts = engine.update(keys, events)
    if form in ("a pandas frame", "arrays of DuckDB"):  # which know times, and no dates
        assert engine.slices == [(*key[:2], key[2] + "T00:00:00") for key in plain[0].slices]
    else:
        assert engine.slices == plain[0].slices
    assert_same(verdicts, plain[1])


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        (dt.date(2026, 7, 1), "2026-07-01"),
        (dt.datetime(2026, 7, 1, 12, 30), "2026-07-01T12:30:00"),
        (dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC), "2026-07-01T12:00:00+00:00"),
        (pd.Timestamp("2026-07-01T12:30:00.000001002"), "2026-07-01T12:30:00.000001"),
        (dt.time(12, 30), "12:30:00"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (3.0, 3),
        (np.float32(3.0), 3),
        (np.int32(3), 3),
        (("de", 3.0, dt.date(2026, 7, 1)), ("de", 3, "2026-07-01")),
    ],
)
def test_a_key_with_one_obvious_name_is_kept_by_it(key, plain):
    engine = Engine(1)
    for keys in (key, [key] * 150):
        engine.update(keys, RNG.normal(size=(150, 1)))
    assert engine.slices == [plain]
    assert type(engine.slices[0]) is type(plain)
    assert engine.describe(key)["location"] == engine.describe(plain)["location"]
    assert engine.explain(key, [0.0]) == engine.explain(plain, [0.0])
    assert engine.select([key]).slices == [plain]
    engine.forget(key)
    assert engine.slices == []


@pytest.mark.parametrize(
    "missing", [None, float("nan"), pd.NaT, pd.NA, float("inf"), 0.5, np.float32(0.5), True, b"a", dt.timedelta(1)]
)
def test_what_is_missing_or_has_no_obvious_name_is_no_key(missing):
    engine = Engine(1)
    for keys in (["a", missing], [("a", 1), ("a", missing)]):
        with pytest.raises(InvalidArgument, match=r"slices\[1\] is .*; fill what is missing, e.g. with '\?'"):
            engine.update(keys, [[0.0], [0.0]])
    assert (engine.slices, engine.n_events) == ([], 0)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (pl.Series([dt.date(2026, 1, 2), None, dt.date(2026, 1, 1)]), ["2026-01-02", None, "2026-01-01"]),
        (pl.Series([5.0, None, 2.0]), [5, None, 2]),
        (pl.Series([dt.time(1), None, dt.time(0)]), ["01:00:00", None, "00:00:00"]),
        (np.array(["2026-01-02", "NaT", "2026-01-01"], "M8[ns]"), ["2026-01-02T00:00:00", None, "2026-01-01T00:00:00"]),
        (np.ma.MaskedArray(np.array(["a", "b", "c"], object), [False, True, False]), ["a", None, "c"]),
        (np.ma.MaskedArray([3, 4, 5], False), [3, 4, 5]),
        ({"a": ["x"] * 3, "b": [1, None, 2], "c": "z"}, [("x", 1, "z"), ("x", None, "z"), ("x", 2, "z")]),
        ({"a": np.array(["x", "y", "x"]), "b": np.array([5.0, 1.0, 2.0])}, [("x", 5), ("y", 1), ("x", 2)]),
        (pd.MultiIndex.from_arrays([[1, 2, 3], ["a", "b", "c"]]), [(1, "a"), (2, "b"), (3, "c")]),
        (pd.Index(["a", "b", "a"]), ["a", "b", "a"]),
    ],
)
def test_a_column_holds_the_keys_of_its_values(held, expected):
    assert [kept(key) for key in as_keys(held, 3)] == expected


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({"load": [1.0], "latency": [1.0, 2.0]}, "X has columns of 1 and of 2 values"),
        ({"load": 1.0, "latency": 2.0}, r"X is a single event; put it in a list, \[X\]"),
        ({"load": [1.0]}, "X has no column 'latency'; its columns are 'load'"),
    ],
)
def test_columns_that_are_no_events_are_one_error(events, message):
    with pytest.raises(InvalidArgument, match=message):
        Engine(features=FEATURES).update("a", events)


def test_nulls_of_duckdb_are_missing_values_and_texts_are_categories():
    rows = duckdb.sql("select case when i % 3 = 0 then null else i end a, 'b' || i % 2 b from range(300) t(i)")
    told = [{"a": None if i % 3 == 0 else i, "b": f"b{i % 2}"} for i in range(300)]
    engines = [Engine(features=["a", "b"]) for _ in range(3)]
    verdicts = [
        engine.update("s", events) for engine, events in zip(engines, (told, rows.fetchnumpy(), rows), strict=True)
    ]
    assert [engine.categories for engine in engines] == [(1,)] * 3
    assert_same(verdicts[0], verdicts[1])
    assert_same(verdicts[0], verdicts[2])


def sources() -> Iterator[tuple[str, object]]:
    """The frame as what can be cut into batches."""
    table = POLARS.to_arrow()
    yield "a LazyFrame", POLARS.lazy()
    yield "a polars frame", POLARS
    yield "a pandas frame", POLARS.to_pandas()
    yield "an Arrow table", table
    yield "a reader", table.to_reader(max_chunksize=11)
    yield "a capsule", Capsule(table)
    yield "a dataset", pyarrow.dataset.dataset(table)
    yield "a scanner of a dataset", pyarrow.dataset.dataset(table).scanner()
    yield "a relation", relation("*")


@pytest.mark.parametrize("rows", [64, 10_000])
def test_a_source_is_judged_in_batches_as_it_is_at_once(rows):
    once = Engine(features=FEATURES)
    expected = once.update(list(zip(COUNTRIES, HOSTS.tolist(), strict=True)), X)
    for name, source in sources():
        engine = Engine(features=FEATURES)
        batches = list(in_batches(source, ["country", "host"], rows=rows))
        assert max(len(frame) for _, frame in batches) <= rows, name
        found = list(engine.update_stream(batches))
        np.testing.assert_array_equal(np.concatenate([v.judgements for v in found]), expected.judgements, name)
        assert engine.slices == once.slices


def test_a_target_comes_from_a_column():
    keys, events, y = next(in_batches(POLARS, "country", "latency", rows=5))
    assert keys.columns == ["country"]
    assert events.columns == POLARS.columns
    assert y.to_list() == X[:5, 1].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((POLARS, "server"), "source has no column 'server'; its columns are 'country', 'host'"),
        ((POLARS, "host", "target"), "source has no column 'target'"),
        ((POLARS, []), "slices names no column"),
        (([1, 2], "host"), "source is list, which has no rows of named columns"),
    ],
)
def test_a_source_without_the_columns_is_refused_before_it_is_read(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        in_batches(*arguments)
    with pytest.raises(InvalidArgument, match="rows is 0; it must be at least 1"):
        in_batches(POLARS, "host", rows=0)


def test_a_reader_is_read_as_it_is_needed():
    read = 0

    def batches():
        nonlocal read
        for _ in range(200):
            read += 1
            yield pa.record_batch({"host": np.arange(1_000) % 7, "load": np.ones(1_000)})

    schema = pa.schema({"host": pa.int64(), "load": pa.float64()})
    judged = in_batches(Capsule(pa.RecordBatchReader.from_batches(schema, batches())), "host", rows=1_000)
    assert read == 0
    rows = len(next(judged)[1])
    assert read < 100  # and no more until these are taken
    assert rows + sum(len(frame) for _, frame in judged) == 200_000


def test_a_lazy_frame_is_judged_within_its_query():
    engine, once = (Engine(features=FEATURES) for _ in range(2))

    def judged(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.hstack(engine.update(frame.select("host"), frame).to_polars())

    schema = {**POLARS.schema, **once.score([0], [{}]).to_polars().schema}
    found = (
        POLARS.lazy().map_batches(judged, schema=schema).filter(pl.col("country") == "DE").collect(engine="streaming")
    )
    expected = once.update(HOSTS, X)
    german = np.array(COUNTRIES) == "DE"
    np.testing.assert_array_equal(found["score"].to_numpy(), expected.score[german])
    np.testing.assert_array_equal(found["anomalous"].to_numpy(), expected.anomalous[german])
    assert engine.n_events == N


def test_groups_are_judged_as_the_whole_is():
    frame = POLARS.to_pandas()
    once = Engine(features=FEATURES, estimator=None)
    expected = once.update(frame["host"], frame)
    engine = Engine(features=FEATURES)
    score = frame.groupby("host")[FEATURES].apply(
        lambda part: pd.Series(engine.update(part.name, part).score, index=part.index)
    )
    np.testing.assert_array_equal(score.droplevel("host").sort_index().to_numpy(), expected.score)
    again = Engine(features=FEATURES)
    for (host,), part in POLARS.group_by("host", maintain_order=True):
        np.testing.assert_array_equal(again.update(host, part).score, expected.score[host == HOSTS])


def test_one_row_of_a_frame_is_explained_by_the_names_of_its_columns(plain):
    engine, _ = plain
    frame = POLARS.to_pandas()
    names = dict(zip(FEATURES, X[7].tolist(), strict=True))
    expected = engine.explain(PLAIN[7], names)
    for row in (frame.iloc[7], frame[FEATURES[::-1]].iloc[7], frame.iloc[7:8], POLARS[7], POLARS.row(7, named=True)):
        assert engine.explain(PLAIN[7], row) == expected
        assert engine.reasons(PLAIN[7], row) == engine.reasons(PLAIN[7], names)
    with pytest.raises(InvalidArgument, match=r"x has 2 rows; it must be one event, e.g. x\[:1\]"):
        engine.explain(PLAIN[7], POLARS[:2])


def test_one_row_of_a_frame_can_be_feedback():
    engine, other = Engine(features=FEATURES), Engine(features=FEATURES)
    for each in (engine, other):
        each.update("a", X)
    odd = pd.Series({"host": "x", "latency": 60.0, "load": 0.5})
    assert engine.feedback("a", odd, usual=True) == other.feedback("a", [0.5, 60.0], usual=True)


def test_a_column_of_pandas_is_events_of_one_feature():
    plain, series = Engine(1), pd.Series(X[:, 1], name="latency")
    expected = plain.update("a", X[:, 1:])
    for engine in (Engine(1), Engine(features=["latency"])):
        assert_same(engine.update("a", series), expected)
    assert_same(Engine(1).update("a", series.astype("Float64")), expected)
    with pytest.raises(InvalidArgument, match="X is a Series of 600 values, but an event has 2 features; give a frame"):
        Engine(2).update("a", series)


@pytest.mark.parametrize("events", [POLARS, POLARS.to_pandas(), POLARS.to_arrow(), POLARS.to_dict(), POLARS.to_dicts()])
def test_the_name_of_a_column_is_no_key_for_all_its_rows(events):
    engine = Engine(features=FEATURES)
    with pytest.raises(InvalidArgument, match=r"slices is 'country', a column of X; give X\['country'\] for a slice"):
        engine.update("country", events)
    assert engine.update("load", events).slice_numbers.tolist() == [0] * N  # a feature may be the name of its slice


def test_an_engine_without_features_or_with_a_frame_in_their_place_says_what_it_needs():
    with pytest.raises(InvalidArgument, match=r"features are not named; name them, e.g. Engine\(features="):
        Engine()
    with pytest.raises(InvalidArgument, match=r"n_features is a DataFrame; it is the number of features"):
        Engine(POLARS)


def test_a_dataset_is_to_be_judged_in_batches(tmp_path):
    POLARS.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InvalidArgument, match=r"X is a FileSystemDataset.*in_batches\(X"):
        Engine(features=FEATURES).update("a", pyarrow.dataset.dataset(tmp_path))
