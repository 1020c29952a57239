"""What counts as a category, and what a category is known by, whatever holds it."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard import Engine, InvalidArgument
from onlineguard.engine.categories import as_codes, code
from onlineguard.engine.events import as_events

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=20)


@given(TEXTS)
def test_a_text_has_the_same_code_whatever_holds_it(texts):
    pa = pytest.importorskip("pyarrow")
    expected = np.array([[code(text, "X")] for text in texts])
    for X in [
        [[text] for text in texts],
        [{"a": text} for text in texts],
        np.array([[text] for text in texts], object),
        pl.DataFrame({"a": texts}, schema={"a": pl.String}),
        pl.DataFrame({"a": texts}, schema={"a": pl.Categorical}),
        pd.DataFrame({"a": pd.Series(texts, dtype=object)}),
        pd.DataFrame({"a": pd.array(texts, dtype="string")}),
        pd.DataFrame({"a": pd.Categorical(texts)}),
        pa.table({"a": pa.array(texts, pa.string())}),
    ]:
        np.testing.assert_array_equal(as_events(X, 1, ["a"], (0,)), expected)


def test_codes_are_whole_numbers_that_never_change():
    assert as_codes(["de", "us", "", "Zürich"], "X").tolist() == [9_447_819.0, 10_338_250.0, 0.0, 764_222.0]


@pytest.mark.parametrize("same", [[404, 404.0, "404", np.int64(404)], [0.5, "0.5", np.float32(0.5)], [True, "True"]])
def test_a_number_as_a_category_is_its_text(same):
    assert len({code(value, "X") for value in same}) == 1


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), pd.NA, np.nan])
def test_what_is_absent_is_no_category(missing):
    assert np.isnan(code(missing, "X"))


def test_what_is_no_category_is_refused_with_the_way_out():
    with pytest.raises(InvalidArgument, match=r"X\[1\]\['a'\] holds \[1\]; a category must be a text, a number"):
        as_events([{"a": "x"}, {"a": [1]}], 1, ["a"], (0,))


def test_features_that_hold_texts_in_the_first_call_are_categories():
    rows = [{"a": "x", "b": 1.0}, {"a": None, "b": 2.0}, {"a": "y", "b": 3.0}] * 50
    explicit = Engine(features=["a", "b"], categories=["a"])
    expected = explicit.update("s", rows)
    for X in (rows, pl.DataFrame(rows), pd.DataFrame(rows), [list(row.values()) for row in rows]):
        engine = Engine(features=["a", "b"])
        found = engine.update("s", X)
        assert engine.categories == (0,)
        np.testing.assert_array_equal(found.score, expected.score)


def test_a_text_among_numbers_is_refused_once_a_slice_has_learned():
    engine = Engine(features=["a", "b"])
    engine.update("s", [{"a": 1.0, "b": 2.0}])
    for X in ([{"a": "x", "b": 1.0}], pl.DataFrame({"a": ["x"], "b": [1.0]})):
        with pytest.raises(InvalidArgument, match=r"Engine\(categories=\['a'\]\)"):
            engine.update("s", X)
    assert engine.n_events == 1
    assert engine.categories == ()


def test_numbers_written_as_texts_stay_numbers():
    engine = Engine(features=["a"])
    engine.update("s", pl.DataFrame({"a": ["1.5", "2"]}))
    assert engine.categories == ()


def test_a_category_that_is_no_feature_is_refused():
    with pytest.raises(InvalidArgument, match="categories names 'c', which is no feature; they are 'a', 'b'"):
        Engine(features=["a", "b"], categories=["c"])


def test_an_engine_with_categories_is_saved_and_its_numbers_may_change(tmp_path):
    engine = Engine(features=["a"], categories=["a"])
    engine.update("s", [{"a": "x"}] * 10)
    engine.target_rate, engine.patience = 0.05, 300.0
    engine.save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    assert (loaded.categories, loaded.target_rate, loaded.patience) == ((0,), 0.05, 300.0)
    one, other = (e.update("s", [{"a": "x"}, {"a": "y"}]).score for e in (engine, loaded))
    np.testing.assert_array_equal(one, other)
