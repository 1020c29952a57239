"""A history is made smaller without anything else changing, and gives up a person or an old day wholly."""

import polars as pl
import pytest

from onlineguard.errors import SourceError
from onlineguard.slidr.history.keeping import compact, drop_before, erase
from onlineguard.slidr.history.layout import parts
from onlineguard.slidr.history.pseudonyms import BYTES, Pseudonyms, made_key, read_key
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from tests.support.histories import recorded, told, written


@pytest.fixture(scope="module")
def log():
    return simulate(Traffic(clicks=1_500, days=2), 1).clicks


@pytest.fixture(scope="module")
def rows(log):
    return recorded(log)


@pytest.fixture
def history(tmp_path, log, rows):
    return History(written(tmp_path, rows, told(log), every=30))


def whole(history):
    return pl.concat(history.clicks())


def test_compacting_past_days_leaves_fewer_files_and_the_same_clicks(history):
    before, first = whole(history), history.parts()
    until = first[12].last
    assert compact(history.path, "", until, first[0].day) == 0  # the day is not over
    assert compact(history.path, "other", 10**9, "9999") == 0
    assert compact(history.path, "", until, "9999") > 0
    assert [part for part in history.parts() if part.first > until] == [part for part in first if part.first > until]
    compact(history.path, "", 10**9, "9999")
    assert len(history.parts()) < len(first) / 5
    assert whole(history).equals(before)
    assert not history.missing()
    assert compact(history.path, "", 10**9, "9999") == 0


def test_files_that_a_killed_compaction_left_are_removed_by_the_next(history):
    before = whole(history)
    left = {part.path: part.path.read_bytes() for part in history.parts()[:5]}
    compact(history.path, "", 10**9, "9999")
    for path, contents in left.items():
        path.write_bytes(contents)
    assert whole(history).equals(before)
    compact(history.path, "", 10**9, "9999")
    assert not any(path.exists() for path in left)
    assert whole(history).equals(before)


def test_days_before_the_retention_are_gone(history, rows):
    second = history.parts()[-1].day
    drop_before(history.path, second)
    assert {part.day for part in [*parts(history.path, "clicks"), *parts(history.path, "labels")]} >= {second}
    assert min(part.day for part in history.parts()) == second


def test_an_erased_person_has_no_click_and_no_label_left(history, log):
    bought = log.filter(pl.col("purchase_ts").is_not_null() & pl.col("user_id").is_not_null())
    user = bought["user_id"][0]
    theirs = log.filter(pl.col("user_id") == user)
    assert erase(history.path, user, None) == (theirs.height, bought.filter(pl.col("user_id") == user).height)
    assert whole(history).equals(whole(history).filter((pl.col("user_id") != user) | pl.col("user_id").is_null()))
    ids = [pl.read_parquet(part.path)["click_id"] for part in history.parts("labels")]
    assert not set(pl.concat(ids)) & set(theirs["click_id"])
    assert whole(history).height == log.height - theirs.height
    assert not history.missing()
    assert erase(history.path, user, None) == (0, 0)


def test_erasing_under_pseudonyms_needs_their_key(tmp_path, rows):
    key = made_key(tmp_path / "key")
    assert made_key(tmp_path / "key") == key == read_key(tmp_path / "key")
    names = Pseudonyms(key)
    hidden = names.replaced(rows)
    history = History(written(tmp_path / "history", hidden, about={"pseudonyms": names.mark}))
    user = rows["user_id"].drop_nulls()[0]
    for wrong in (None, Pseudonyms(bytes(BYTES))):
        with pytest.raises(SourceError, match="made with a key that was not given"):
            erase(history.path, user, wrong)
    assert erase(history.path, user, names).clicks == rows.filter(pl.col("user_id") == user).height


def test_a_file_that_is_no_key_is_refused(tmp_path):
    for text in ("zz", "00ff"):
        (tmp_path / "key").write_text(text)
        with pytest.raises(SourceError, match="key"):
            read_key(tmp_path / "key")
