"""RFM scores of files: as of which time, and never of orders after the click."""

import polars as pl
import pytest

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.learning.labels import DAY, rfm_scores
from onlineguard.slidr.rfm import joined, read_orders, scored_at

START = 1_772_409_600_000


@pytest.fixture
def orders(tmp_path):
    path = tmp_path / "orders.csv"
    rows = [("a", START - 2 * DAY, 5.0), ("b", START - DAY, 9.0), ("b", START + DAY, 9.0), ("c", START + DAY, 1.0)]
    pl.DataFrame(rows, schema=["user_id", "ts", "amount"], orient="row").write_csv(path)
    return path


@pytest.fixture
def clicks(tmp_path):
    values = {"click_id": ["1", "2", "3", "4"], "user_id": ["b", None, "c", "a"], "logged_in": [True] * 4}
    texts = {name: ["x"] * 4 for name in ("session_id", "ip", "user_agent", "device", "marketplace", "ad_id")}
    frame = pl.DataFrame({"ts": [START + n for n in range(4)], **values, **texts}).with_columns(
        purchase_ts=pl.lit(None, pl.Int64), rfm=pl.lit(7.0)
    )
    frame.select(list(SCHEMA)).write_parquet(tmp_path / "clicks.parquet")
    return tmp_path / "clicks.parquet"


def test_scores_are_those_of_the_formula_after_the_last_order_or_at_the_time_asked_for(orders):
    table, when = scored_at(read_orders(orders))
    assert when == START + DAY + 1
    assert table.equals(rfm_scores(read_orders(orders), when))
    assert scored_at(read_orders(orders), "2026-03-02")[0]["user_id"].to_list() == ["a", "b"]


def test_clicks_have_the_scores_of_their_accounts_as_of_their_first(orders, clicks):
    frame, when = joined(read_orders(orders), clicks)
    assert when == START
    scores = dict(rfm_scores(read_orders(orders), START).select("user_id", "rfm").iter_rows())
    assert frame["rfm"].to_list() == [scores["b"], None, None, scores["a"]]
    assert frame["click_id"].to_list() == ["1", "2", "3", "4"]
    assert dict(frame.schema) == SCHEMA
    with pytest.raises(InvalidArgument, match="a score must not know of orders after the click"):
        joined(read_orders(orders), clicks, at="2026-03-09")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,ts\na,1\n", "has no column amount"),
        ("user_id,ts,amount\na,1,cheap\n", "has amount 'cheap' in row 1; it must be a number"),
        ("user_id,ts,amount\n", "has no orders"),
    ],
)
def test_what_is_no_table_of_orders_is_refused(tmp_path, text, message):
    (tmp_path / "o.csv").write_text(text)
    with pytest.raises(SourceError, match=message):
        read_orders(tmp_path / "o.csv")
