"""Regulars: visitors who are known by their history, against the definition written out click by click."""

from datetime import date

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.slidr.learning.regulars import A_DAY, DAY, DAYS, HOUR, REST, SPAN, VARIED, regulars
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic


def made(*visits, gap=0):
    """Clicks of (user, day, number that day), `gap` hours apart; every click on an ad of its own."""
    rows = [(user, day * DAY + n * gap * HOUR + n) for user, day, count in visits for n in range(count)]
    rows.sort(key=lambda row: row[1])
    return pl.DataFrame(
        {"user_id": [u for u, _ in rows], "ts": [t for _, t in rows], "ad_id": [str(n) for n in range(len(rows))]},
        schema={"user_id": pl.String, "ts": pl.Int64, "ad_id": pl.String},
    )


def rests(times):
    """Whether some click is followed by REST hours of the day in which there is none."""
    return any(all(not 0 < (time - since) % DAY < REST * HOUR for time in times) for since in times)


def by_hand(clicks, rows, known_at):
    found = np.zeros(len(rows), bool)
    table = list(clicks.iter_rows(named=True))
    for user in {row["user_id"] for row in table} - {None}:
        mine = [i for i, row in enumerate(table) if row["user_id"] == user and row["ts"] <= known_at]
        days = [table[i]["ts"] // DAY for i in mine]
        wanted = [i for i in mine if rows[i]]
        if (
            wanted
            and len(set(days)) >= DAYS
            and max(days) - min(days) >= SPAN
            and max(map(days.count, days)) <= A_DAY
            and rests([table[i]["ts"] for i in mine])
            and len({table[i]["ad_id"] for i in mine}) >= VARIED * len(mine)
        ):
            found[wanted[0]] = True
    return found


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12
    ),
    st.integers(1, 10),
    st.integers(0, 10),
    st.integers(0, 4),
)
def test_regulars_are_those_of_the_definition(visits, ads, until, gap):
    clicks = made(*visits, gap=gap).with_columns(ad_id=(pl.int_range(pl.len()) % (3 * ads)).cast(pl.String))
    rows = np.arange(clicks.height) % 3 > 0
    found = regulars(clicks, rows, until * DAY)
    assert np.array_equal(found, by_hand(clicks, rows, until * DAY))


def test_one_click_counts_of_each_regular_and_none_of_others():
    clicks = made(
        ("returns", 0, 2), ("returns", 4, 1), ("returns", 8, 3),
        ("once", 3, 5), ("busy", 0, 9), ("busy", 4, 1), ("busy", 8, 1), 
        ("short", 0, 1), ("short", 1, 1), ("short", 2, 1),
    )  # fmt: skip
    found = regulars(clicks, np.ones(clicks.height, bool), 9 * DAY)
    assert clicks.filter(pl.Series(found))["user_id"].to_list() == ["returns"]
    assert not regulars(clicks, np.ones(clicks.height, bool), 7 * DAY).any()  # not known yet
    same_ad = clicks.with_columns(ad_id=pl.lit("1"))
    assert not regulars(same_ad, np.ones(clicks.height, bool), 9 * DAY).any()


def test_a_machine_that_clicks_around_the_clock_is_no_regular():
    patient = [(user, day * DAY + at * HOUR) for user, step in (("machine", 7), ("sleeper", 0)) for day in range(9)
               for at in ((day * step) % 24, (day * step + 13) % 24 if step else 9)]  # fmt: skip
    rows = sorted(patient, key=lambda row: row[1])
    clicks = pl.DataFrame(
        {"user_id": [u for u, _ in rows], "ts": [t for _, t in rows], "ad_id": [str(n) for n in range(len(rows))]}
    )
    found = regulars(clicks, np.ones(clicks.height, bool), 9 * DAY)
    assert clicks.filter(pl.Series(found))["user_id"].to_list() == ["sleeper"]


def test_simulated_regulars_are_people_and_most_of_them_never_buy():
    clicks, truth, _ = simulate(Traffic(clicks=60_000, days=14, start=date(2026, 3, 2)), seed=3)
    robot = clicks.select("click_id").join(truth, on="click_id", how="left", maintain_order="left")["robot"].to_numpy()
    found = regulars(clicks, np.ones(clicks.height, bool), int(clicks["ts"].max()))
    assert found.sum() > 300
    assert not robot[found].any()
    buyers = set(clicks.filter(pl.col("purchase_ts").is_not_null())["user_id"])
    users = clicks.filter(pl.Series(found))["user_id"]
    assert np.mean([user not in buyers for user in users]) > 0.5
