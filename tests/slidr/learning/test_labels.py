"""Weak labels: what was known at a time, and RFM scores against a plain loop."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.learning.labels import DAY, WINDOW, humans, rfm_scores


def clicks(rows):
    schema = {"ts": pl.Int64, "purchase_ts": pl.Int64, "rfm": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_a_purchase_makes_a_click_human_from_its_own_time_on():
    frame = clicks([(0, 10, None), (0, 11, None), (0, None, None)])
    assert humans(frame, known_at=9).tolist() == [False, False, False]
    assert humans(frame, known_at=10).tolist() == [True, False, False]
    assert humans(frame, known_at=11).tolist() == [True, True, False]


def test_an_rfm_score_at_the_limit_makes_a_click_human_and_a_missing_one_does_not():
    frame = clicks([(0, None, 11.0), (0, None, 12.0), (0, None, 15.0), (0, None, None), (0, None, np.nan)])
    assert humans(frame, known_at=0).tolist() == [False, True, True, False, False]
    assert humans(frame, known_at=0, rfm_at_least=15).tolist() == [False, False, True, False, False]


def test_of_a_click_after_the_time_nothing_is_known():
    frame = clicks([(5, 6, 15.0), (6, 6, 15.0), (7, 7, 15.0)])
    assert humans(frame, known_at=6).tolist() == [True, True, False]


def test_labels_known_at_a_time_do_not_depend_on_what_came_later():
    rng = np.random.default_rng(0)
    ts = rng.integers(0, 100, 500)
    bought = np.where(rng.random(500) < 0.3, ts + rng.integers(0, 50, 500), -1)
    rows = [(int(t), int(b) if b >= 0 else None, None) for t, b in zip(ts, bought, strict=True)]
    at = 60
    as_then = [(t, b if b is not None and b <= at else None, rfm) for t, b, rfm in rows]
    known = humans(clicks(rows), at)
    assert known.any()
    assert (known == humans(clicks(as_then), at)).all()
    assert humans(clicks(rows), 200).sum() > known.sum()


def test_columns_without_a_single_value_are_read_as_unknown():
    frame = pl.DataFrame({"ts": [0, 1], "purchase_ts": [None, None], "rfm": [None, None]})
    assert humans(frame, known_at=5).tolist() == [False, False]
    assert humans(clicks([]), known_at=5).shape == (0,)


def test_a_frame_without_a_needed_column_is_refused_by_name():
    with pytest.raises(InvalidArgument, match="clicks lack the columns purchase_ts, rfm"):
        humans(pl.DataFrame({"ts": [0]}), 0)
    with pytest.raises(InvalidArgument, match="orders lack the column amount"):
        rfm_scores(pl.DataFrame({"user_id": ["a"], "ts": [0]}), 0)


def orders(rows):
    return pl.DataFrame(rows, schema={"user_id": pl.String, "ts": pl.Int64, "amount": pl.Float64}, orient="row")


def plain_rfm(rows, at):
    """The definition, account by account."""
    history = {}
    for user, ts, amount in rows:
        if user is not None and ts is not None and amount is not None and at - WINDOW <= ts < at:
            if np.isfinite(amount):
                history.setdefault(user, []).append((ts, amount))
    values = {
        user: (max(bought), len(bought), sum(amount for _, amount in events))
        for user, events in history.items()
        if (bought := [ts for ts, amount in events if amount > 0])
    }

    def quintile(part, value):
        return 1 + 5 * sum(other[part] < value for other in values.values()) // len(values)

    scores = {user: [quintile(part, value[part]) for part in range(3)] for user, value in values.items()}
    return [(user, *scores[user], float(sum(scores[user]))) for user in sorted(scores)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d", "e", "f", "g", None]),
            st.integers(0, 120).map(lambda day: day * DAY) | st.none(),
            st.sampled_from([1.0, 2.5, 2.5, 40.0, -1.0, 0.0, np.nan, np.inf]) | st.none(),
        ),
        max_size=40,
    )
)
def test_rfm_scores_are_those_of_the_definition(rows):
    assert rfm_scores(orders(rows), 100 * DAY).rows() == plain_rfm(rows, 100 * DAY)


def test_quintiles_split_distinct_accounts_into_fifths_and_5_is_best():
    rows = [(f"u{i:02}", i * DAY, 10.0 + i) for i in range(10) for _ in range(i + 1)]
    scores = rfm_scores(orders(rows), 20 * DAY)
    assert scores["recency"].to_list() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert scores["frequency"].to_list() == scores["monetary"].to_list() == scores["recency"].to_list()
    assert scores["rfm"].to_list() == [3.0, 3.0, 6.0, 6.0, 9.0, 9.0, 12.0, 12.0, 15.0, 15.0]


def test_accounts_that_tie_share_the_quintile_of_their_lowest():
    rows = [(f"u{i}", DAY, 10.0) for i in range(9)] + [("v", DAY, 10.0), ("v", DAY, 10.0)]
    scores = rfm_scores(orders(rows), 2 * DAY)
    assert scores["frequency"].to_list() == [1] * 9 + [5]
    assert scores["recency"].to_list() == [1] * 10


def test_an_account_without_an_order_in_the_window_gets_a_null_by_a_left_join():
    at = 100 * DAY
    rows = [("old", at - WINDOW - 1, 9.0), ("first", at - WINDOW, 9.0), ("last", at - 1, 9.0), ("late", at, 9.0)]
    scores = rfm_scores(orders(rows), at)
    assert scores["user_id"].to_list() == ["first", "last"]
    users = pl.DataFrame({"user_id": ["old", "last", None]})
    joined = users.join(scores, on="user_id", how="left", maintain_order="left")
    assert joined["rfm"].is_null().to_list() == [True, False, True]


def test_no_orders_give_an_empty_table_of_the_same_columns():
    empty = rfm_scores(orders([]), 0)
    assert empty.schema == rfm_scores(orders([("a", 0, 1.0)]), 1).schema
    assert empty.columns == ["user_id", "recency", "frequency", "monetary", "rfm"]
    assert empty.height == 0
