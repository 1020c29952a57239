"""Slice keys: what holds them changes nothing, and each slice has a number of its own for good."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard import Engine
from onlineguard.engine.keys import CodedKeys, as_keys
from onlineguard.engine.slices import DIRECT, UNKNOWN, SliceTable
from onlineguard.errors import InvalidArgument

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
SMALL, LARGE = st.integers(0, 9), st.sampled_from([0, 7, DIRECT - 1, DIRECT, 2**40, 2**63 - 1, -1, -(2**63)])


def held(kind: str, keys: list):
    """The keys as a column of that kind, or as the one column of a frame."""
    library, _, dtype = kind.partition(" ")
    if library == "polars":
        column = pl.Series("key", keys)
        if dtype == "enum":
            return column.cast(pl.Enum(column.unique(maintain_order=True)))
        return {
            "": column,
            "categorical": column.cast(pl.Categorical) if dtype == "categorical" else None,
            "chunks": pl.concat([column[:1], column[1:]], rechunk=False),
            "frame": column.to_frame(),
        }[dtype]
    if library == "pandas":
        column = pd.Series(keys, dtype=dtype or None)
        return column.set_axis(range(100, 100 + len(keys)))  # not by its index
    pa = pytest.importorskip("pyarrow")
    column = pa.array(keys)
    return {
        "": column,
        "dictionary": column.dictionary_encode(),
        "chunks": pa.chunked_array([column, column.slice(0, 0)]),
        "table": pa.table({"key": column}),
        "batch": pa.record_batch({"key": column}),
    }[dtype]


OF_BOTH = ["polars", "polars chunks", "polars frame", "pandas", "pandas category", "pandas object"]
OF_BOTH += ["arrow", "arrow dictionary", "arrow chunks", "arrow table", "arrow batch"]


@settings(max_examples=30)
@given(st.lists(TEXTS, min_size=1, max_size=80) | st.lists(SMALL | LARGE, min_size=1, max_size=80))
@pytest.mark.parametrize("kind", OF_BOTH)
def test_keys_are_the_same_whatever_holds_them(kind, keys):
    found = as_keys(held(kind, keys), len(keys))
    assert list(found) == keys
    assert [found[i] for i in range(len(keys))] == keys
    assert list(found[1:]) == keys[1:]


@given(st.lists(TEXTS, min_size=1, max_size=80))
@pytest.mark.parametrize("kind", ["polars categorical", "polars enum", "pandas str", "pandas string"])
def test_texts_are_the_same_whatever_holds_them(kind, keys):
    found = as_keys(held(kind, keys), len(keys))
    assert isinstance(found, CodedKeys)
    assert list(found) == keys


@pytest.mark.parametrize("dtype", ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"])
def test_integers_are_the_same_whatever_their_width(dtype):
    keys = [0, 3, 1, 3, 0] * 20
    keys[7] = {"Int8": -(2**7), "Int64": -(2**63), "UInt32": 2**32 - 1, "UInt64": 2**64 - 1}.get(dtype, 5)
    X = np.random.default_rng(0).normal(size=(100, 1))
    expected = Engine(1).update(keys, X)
    for column in (pl.Series(keys, dtype=getattr(pl, dtype)), pd.Series(keys, dtype=dtype.lower())):
        assert_same(Engine(1).update(column, X), expected)
    assert_same(Engine(1).update(pd.Series(keys, dtype=dtype), X), expected)
    assert_same(Engine(1).update(np.array(keys, dtype.lower()), X), expected)


@given(st.lists(st.tuples(TEXTS, SMALL | LARGE, TEXTS), min_size=1, max_size=80))
def test_several_columns_make_tuples(keys):
    columns = dict(zip("abc", map(list, zip(*keys, strict=True)), strict=True))
    frames = [pl.DataFrame(columns), pd.DataFrame(columns)]
    frames += [frames[0].with_columns(pl.col("a").cast(pl.Categorical)), frames[0].to_arrow()]
    for frame in frames:
        found = as_keys(frame, len(keys))
        assert isinstance(found, CodedKeys)
        assert list(found) == keys
        assert len(set(found.unique)) == len(found.unique)


def assert_same(one, other):
    for name in ("score", "threshold", "ready", "quantiles", "slice_numbers"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.slow
@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(OF_BOTH), st.booleans(), st.integers(1, 400))
def test_verdicts_are_those_of_plain_keys_to_the_last_bit_also_where_slices_are_evicted(seed, kind, texts, cut):
    rng = np.random.default_rng(seed)
    numbers = rng.zipf(1.3, 400) % 40 * 2**20  # on both sides of DIRECT
    keys = [f"k{number}" for number in numbers] if texts else numbers.tolist()
    X = rng.normal(size=(400, 2))
    plain, coded = (Engine(2, max_slices=12) for _ in range(2))
    for part in (slice(None, cut), slice(cut, None)):
        assert_same(plain.update(keys[part], X[part]), coded.update(held(kind, keys)[part], X[part]))
    assert plain.slices == coded.slices
    assert_same(plain.score(keys, X), coded.score(held(kind, keys), X))


def test_one_key_stands_for_every_event():
    X = np.random.default_rng(0).normal(size=(300, 2))
    for key in ("de", 3, np.int64(3), ("mobile", "de")):
        assert_same(Engine(2).update(key, X), Engine(2).update([key] * 300, X))


@pytest.mark.parametrize(
    "slices",
    [
        pl.Series(["a", None, "b", None]),
        pl.Series(["a", None, "b", None], dtype=pl.Categorical),
        pl.Series([1, None, 2, None]),
        pd.Series(["a", None, "b", None]),
        pd.Series(["a", None, "b", None], dtype="category"),
        pd.Series([1, None, 2, None], dtype="Int64"),
        pl.DataFrame({"a": ["x"] * 4, "b": ["a", None, "b", None]}),
        pl.DataFrame({"a": ["x"] * 4, "b": [1, None, 2, None]}),
    ],
)
def test_a_null_is_no_key_and_its_place_is_named(slices):
    engine = Engine(1)
    with pytest.raises(InvalidArgument, match=r"slices\[1\] is (None|nan|<NA>|\('x', None\))"):
        engine.update(slices, np.zeros((4, 1)))
    assert (engine.slices, engine.n_events) == ([], 0)


def test_a_frame_without_columns_is_no_column_of_keys():
    with pytest.raises(InvalidArgument, match="slices is a frame without columns"):
        as_keys(pd.DataFrame(index=range(3)), 3)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=300), st.integers(0, 300))
def test_a_number_is_never_given_again_and_survives_eviction_saving_and_loading(keys, cut):
    table, given_out, numbers = SliceTable(5, 3), {}, set()
    for clock, key in enumerate(keys):
        if clock == cut:
            plain, tensors = table.dump()
            table = SliceTable(5, 3)
            table.restore(plain, tensors)
        if table.lookup([key])[0] == UNKNOWN:
            if not table.capacity_left:
                table.evict()
            table.birth(key)
            (number,) = table.numbers(table.lookup([key]))
            assert number not in numbers
            given_out[key] = number
            numbers.add(number)
        table.touch(table.lookup([key]), clock)
        for known in table.rows:
            assert table.numbers(table.lookup([known]))[0] == given_out[known]
            assert table.key_of(given_out[known]) == known
    assert sorted(numbers) == list(range(len(numbers)))
    for number in numbers - {given_out[key] for key in table.rows}:
        with pytest.raises(KeyError):
            table.key_of(number)


def test_an_engine_tells_the_slice_of_a_number_and_goes_on_counting_after_a_load(tmp_path):
    engine = Engine(1, max_slices=3)
    first = engine.update(["a", "b", "a", "c"], np.zeros((4, 1)))
    assert first.slice_numbers.tolist() == [0, 1, 0, 2]
    assert engine.update(["d", "a"], np.zeros((2, 1))).slice_numbers.tolist() == [3, 0]  # b had to go
    engine.save(tmp_path / "engine")
    for again in (engine, Engine.load(tmp_path / "engine")):
        assert again.score(["a", "b", "d"], np.zeros((3, 1))).slice_numbers.tolist() == [0, UNKNOWN, 3]
        assert again.slice_of(3) == "d"
        with pytest.raises(KeyError):
            again.slice_of(1)
        assert again.update(["b"], np.zeros((1, 1))).slice_numbers.tolist() == [4]


def test_a_table_that_was_dumped_without_numbers_is_numbered_anew():
    table = SliceTable(5, 3)
    for key in ("a", "b"):
        table.birth(key)
    plain, tensors = table.dump()
    del plain["born"], tensors["numbers"]
    old = SliceTable(5, 3)
    old.restore(plain, tensors)
    assert [old.key_of(number) for number in (0, 1)] == ["a", "b"]
    assert old.numbers(np.array([old.birth("c")])).tolist() == [2]
