"""What callers call events: every kind gives the same array, or one error that says what is wrong."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.engine.events import as_events
from onlineguard.errors import InvalidArgument

NAN = float("nan")
NUMBERS = st.lists(
    st.one_of(st.none(), st.floats(allow_nan=False), st.integers(-(2**53), 2**53).map(float)), min_size=1
)


def column(X):
    return as_events(X, 1, ["a"])[:, 0].tolist()


@given(NUMBERS)
def test_a_null_is_missing_whatever_holds_it(values):
    pa = pytest.importorskip("pyarrow")
    expected = np.array([[NAN if value is None else value] for value in values])
    for X in [
        [[value] for value in values],
        [{"a": value} for value in values],
        [{"b": 1.0} if value is None else {"a": value} for value in values],
        pl.DataFrame({"a": values}, schema={"a": pl.Float64}),
        pd.DataFrame({"a": pd.array(values, dtype="Float64")}),
        pd.DataFrame({"a": pd.Series(values, dtype=object)}),
        pa.table({"a": pa.array(values, pa.float64())}),
        pa.record_batch({"a": pa.array(values, pa.float64())}),
        np.ma.masked_where(np.isnan(expected), np.nan_to_num(expected, posinf=np.inf, neginf=-np.inf)),
    ]:
        np.testing.assert_array_equal(as_events(X, 1, ["a"]), expected)


@pytest.mark.parametrize("values", [[True, None, False], [3, None, -4]])
def test_whole_numbers_and_booleans_with_a_null_are_numbers(values):
    pa = pytest.importorskip("pyarrow")
    nullable = "boolean" if values[0] is True else "Int64"
    for X in [
        pd.DataFrame({"a": pd.array(values, dtype=nullable)}),
        pl.DataFrame({"a": values}),
        pa.record_batch({"a": pa.array(values)}),
        pa.table({"a": pa.array(values)}),
    ]:
        np.testing.assert_array_equal(column(X), [float(values[0]), NAN, float(values[2])])
    for X in (pd.DataFrame({"a": values[::2]}), pl.DataFrame({"a": values[::2]}), [{"a": v} for v in values[::2]]):
        assert column(X) == [float(values[0]), float(values[2])]


def test_what_is_masked_is_missing_and_what_is_not_keeps_its_type():
    for kind in (np.float32, np.float64, np.int16):
        X = np.ma.MaskedArray(np.array([[1, 2], [3, 4]], kind), [[False, True], [False, False]])
        events = as_events(X, 2, None)
        np.testing.assert_array_equal(events, [[1, NAN], [3, 4]])
        assert type(events) is np.ndarray
        assert events.dtype == (np.float32 if kind is np.float32 else np.float64)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_an_array_of_floats_is_taken_as_it_is(kind):
    X = np.zeros((3, 2), kind)
    assert as_events(X, 2, None) is X


def test_decimals_and_numpy_numbers_in_dicts_are_numbers():
    assert column([{"a": Decimal("1.5")}, {"a": np.float32(2)}, {"a": np.int8(3)}, {"a": np.True_}]) == [1.5, 2, 3, 1]


DAY = datetime.date(2024, 1, 2)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([{"a": 10**400}], r"X\[0\]\['a'\] is beyond 1.8e308; it must fit a float"),
        ([{"a": 10**5000}], "beyond 1.8e308"),
        ([[10**400]], "X cannot be read as numbers: .*too large"),
        (pd.DataFrame({"a": [10**400]}), "column 'a' of X cannot be read as numbers: .*too large"),
        ([{"a": 1}, None], r"X\[1\] is None, but X\[0\] is a dict; make each"),
        ([{"a": 1}, [2.0]], r"X\[1\] is \[2.0\]"),
        (pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]), "X has the column 'a' more than once; rename"),
        (pl.LazyFrame({"a": [1.0]}), r"X is a LazyFrame.*X.collect\(\)"),
        (np.array([[1j]]), "complex128 is no type of numbers"),
        (np.array([["2024-01-02"]], "datetime64[D]"), "is no type of numbers; give an array"),
        (np.array([[3]], "timedelta64[s]"), "is no type of numbers"),
        ([{"a": 1j}], r"X\[0\]\['a'\] is 1j; it must be a number"),
        ([{"a": np.complex128(1j)}], "it must be a number"),
        ([{"a": np.datetime64(DAY)}], "it must be a number"),
        ([{"a": np.datetime64("2024-01-02", "ns")}], "it must be a number"),
        ([{"a": DAY}], "it must be a number"),
        (pl.DataFrame({"a": [DAY]}), "column 'a' of X cannot be read as numbers: .*cast it"),
        (pl.DataFrame({"a": [datetime.timedelta(1)]}), "column 'a' of X"),
        (pl.DataFrame({"a": [[1.0, 2.0]]}), "column 'a' of X"),
        (pd.DataFrame({"a": pd.to_datetime([DAY])}), "column 'a' of X"),
        (pd.DataFrame({"a": pd.to_datetime([DAY]).tz_localize("UTC")}), "column 'a' of X"),
        (pd.DataFrame({"a": [1j]}), "column 'a' of X"),
        (pd.DataFrame({"a": ["many"]}), "column 'a' of X"),
    ],
)
def test_what_is_no_number_is_one_error_with_the_way_out(X, message):
    with pytest.raises(InvalidArgument, match=message):
        as_events(X, 1, ["a"])
