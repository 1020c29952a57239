"""The lookups of a day: of what was known when it was over, built once, and nothing of what came later."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.lookups import nightly
from onlineguard.slidr.lookups.columns import COLUMNS, hashed
from onlineguard.slidr.lookups.lookups import SOON, Lookups
from onlineguard.slidr.lookups.nightly import NIGHT, OfHistory, OfLog, build
from tests.support.click_frames import frame
from tests.support.histories import recorded, told, written

DAY = 86_400_000
MONDAY = date(2026, 3, 2)
BEGIN = (MONDAY - date(1970, 1, 1)).days * DAY


@pytest.fixture(scope="module")
def log():
    """Three days: anna clicks four times on two of them, bert once a day, and buys after midnight."""
    rows = [
        ("anna", 0, 5),
        ("anna", 0, 6),
        ("anna", 0, 7),
        ("bert", 0, 23),
        ("anna", 1, 5),
        ("bert", 1, 5),
        ("bert", 2, 5),
    ]
    ts = [BEGIN + day * DAY + hour * 3_600_000 for _, day, hour in rows]
    bought = [None, ts[1] + 60_000, None, ts[3] + 2 * 3_600_000, None, None, None]
    rfm = [9.0, None, 11.0, None, None, None, None]
    return frame(
        click_id=[str(i) for i in range(7)],
        ts=ts,
        user_id=[user for user, _, _ in rows],
        ip=[f"192.0.2.{i}" for i in range(7)],
        purchase_ts=bought,
        rfm=rfm,
    )


def numbers(version, user, table="users"):
    found = version.tables[table]
    at = np.flatnonzero(found.keys == hashed(user))
    return found.values[at[0]].tolist() if len(at) else None


def test_baselines_are_means_over_days_and_shares_of_days(tmp_path, log):
    one = build(tmp_path, OfLog(log, "log"), MONDAY).version
    two = build(tmp_path, OfLog(log, "log"), MONDAY + timedelta(days=1)).version
    assert numbers(one, "anna") == pytest.approx([np.log1p(3.0), 1.0])
    assert numbers(two, "anna") == pytest.approx([np.log1p(4 / 2), 1.0])
    assert numbers(two, "192.0.2.0/24", "prefixes") == pytest.approx([np.log1p(6 / 2), 1.0])
    last = build(tmp_path, OfLog(log, "log"), MONDAY + timedelta(days=2), days=2).version
    assert numbers(last, "anna") == pytest.approx([np.log1p(1 / 2), 0.5])


def test_a_score_is_the_one_last_sent_or_else_that_of_the_purchases_or_of_the_orders(tmp_path, log):
    one = build(tmp_path / "a", OfLog(log, "log"), MONDAY).version
    assert numbers(one, "anna", "accounts") == [11.0]
    assert numbers(one, "bert", "accounts") is None  # he bought after midnight
    two = build(tmp_path / "a", OfLog(log, "log"), MONDAY + timedelta(days=1)).version
    assert numbers(two, "bert", "accounts") == [3 + 5 * 1 // 2]  # the later of two, who ordered as often
    orders = pl.DataFrame({"user_id": ["cleo", "dora"], "ts": [BEGIN, BEGIN + DAY], "amount": [5.0, 9.0]})
    ordered = build(tmp_path / "b", OfLog(log, "log"), MONDAY, orders=orders).version
    assert [numbers(ordered, user, "accounts") for user in ("anna", "cleo", "dora")] == [None, [3.0], None]


@pytest.mark.parametrize("day", [0, 1])
def test_a_version_is_the_same_whatever_came_after_its_day(tmp_path, log, day):
    as_of = BEGIN + (day + 1) * DAY
    known = log.filter(pl.col("ts") < as_of).with_columns(
        purchase_ts=pl.when(pl.col("purchase_ts") < as_of).then("purchase_ts")
    )
    whole = build(tmp_path / "whole", OfLog(log, "log"), MONDAY + timedelta(days=day)).version
    then = build(tmp_path / "then", OfLog(known, "log"), MONDAY + timedelta(days=day)).version
    assert whole.about == then.about
    assert then.about.as_of == as_of
    assert then.about.since == as_of + NIGHT


def test_of_a_history_the_same_is_known_once_its_labels_have_come(tmp_path, log):
    by_arrival = written(tmp_path / "history", recorded(log), told(log))
    late = written(tmp_path / "late", recorded(log), told(log, delay=2 * DAY))
    for day in (0, 1, 2):
        on = MONDAY + timedelta(days=day)
        of_log = build(tmp_path / "log", OfLog(log, "log"), on).version
        found = build(tmp_path / "found", OfHistory(History(by_arrival)), on).version
        for name, table in found.tables.items():
            assert table.keys.tobytes() == of_log.tables[name].keys.tobytes()
            assert table.values.tobytes() == of_log.tables[name].values.tobytes()
    missed = build(tmp_path / "missed", OfHistory(History(late)), MONDAY + timedelta(days=1)).version
    assert numbers(missed, "bert", "accounts") is None


def test_a_day_is_built_once_unless_it_is_asked_for_again(tmp_path, log):
    first, second = (build(tmp_path, OfLog(log, "log"), MONDAY) for _ in range(2))
    assert (first.repeated, second.repeated) == (False, True)
    hosting = tmp_path / "hosting"
    hosting.write_text("192.0.2.0/24\n")
    again = build(tmp_path, OfLog(log, "log"), MONDAY, hosting=hosting, again=True).version
    assert [version.name for version in Lookups(tmp_path).versions] == [
        "2026-03-02",
        again.name == "2026-03-02.2" and again.name,
    ]
    found = Lookups(tmp_path).of_frame(log)
    assert found[:, COLUMNS.index("hosting")].tolist() == [0, 0, 0, 0, 0, 0, 1]  # in force from Tuesday at six


def test_what_is_built_the_night_after_comes_into_force_when_services_have_seen_it(tmp_path, log, monkeypatch):
    built_at = BEGIN + DAY + NIGHT + 5
    monkeypatch.setattr(nightly.time, "time_ns", lambda: built_at * 1_000_000)
    assert build(tmp_path, OfLog(log, "log"), MONDAY).version.about.since == built_at + SOON
    with pytest.raises(InvalidArgument, match="is 2026-03-03, which is not over yet"):
        build(tmp_path, OfLog(log, "log"), MONDAY + timedelta(days=1))


def test_a_day_before_any_click_and_names_that_no_click_has_are_refused(tmp_path, log):
    with pytest.raises(SourceError, match="there are no clicks of the 28 days before 2026-03-02"):
        build(tmp_path, OfLog(log, "log"), MONDAY - timedelta(days=1))
    written(tmp_path / "history", recorded(log), about={"pseudonyms": "0f"})
    with pytest.raises(SourceError, match="names in place of users"):
        build(tmp_path, OfHistory(History(tmp_path / "history")), MONDAY)
