"""A history gives back what was written, in its order, with what became known of it later."""

import numpy as np
import polars as pl
import pyarrow.dataset
import pytest

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.features import NAMES
from onlineguard.slidr.history.layout import DAY, LABELS, parts, path_of
from onlineguard.slidr.history.reading import History, features_of
from onlineguard.slidr.history.writing import write_part
from onlineguard.slidr.learning.regulars import regulars
from onlineguard.slidr.learning.spreading import spread
from onlineguard.slidr.pipeline import Config, calibrate_model, labelled, prepare, train_model
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from tests.support.histories import ABOUT, recorded, told, written


@pytest.fixture(scope="module")
def log():
    return simulate(Traffic(clicks=3_000, days=3), 1).clicks


@pytest.fixture(scope="module")
def prepared(log):
    return prepare(log)


@pytest.fixture(scope="module")
def rows(log, prepared):
    return recorded(log, prepared.X)


@pytest.fixture
def history(tmp_path, log, rows):
    return History(written(tmp_path, rows, told(log), every=700))


def whole(history, *args, **kwargs):
    return pl.concat(history.clicks(*args, **kwargs))


def test_the_clicks_of_a_log_come_back_with_its_labels_in_its_order(history, log, prepared):
    assert whole(history, columns=tuple(SCHEMA)).equals(log.select(list(SCHEMA)))
    found = history.prepared()
    assert found.frame.equals(prepared.frame)
    assert np.array_equal(found.X, prepared.X)
    assert np.array_equal(found.slice_ids, prepared.slice_ids)
    assert np.array_equal(found.heavy, prepared.heavy)


def test_a_part_of_the_time_gives_its_clicks_alone(history, log, tmp_path):
    since, until = int(log["ts"][500]), int(log["ts"][2_000])
    expected = log.filter(pl.col("ts").is_between(since, until, closed="left"))
    assert whole(history, since, until, tuple(SCHEMA)).equals(expected.select(list(SCHEMA)))
    spooled = history.prepared(since, until, spool=tmp_path / "features.npy")
    assert np.array_equal(spooled.X, history.prepared(since, until).X)
    with pytest.raises(SourceError, match="no clicks in that time"):
        history.prepared(0, 1)


def test_in_parts_and_with_numbers_for_texts_a_log_gives_the_same_labels_and_thresholds(tmp_path, history, monkeypatch):
    config = Config(kind="velocity", slices=("marketplace", "device"), rfm_at_least=9.0)

    def learned(prepared):
        rows, end = prepared.first, int(prepared.ts.max()) + 1
        known = prepared.first & (np.arange(len(rows)) % 3 == 0)
        visitors = spread(prepared.frame.select("user_id", "session_id"), known)
        scorer = train_model(prepared, rows, end, config)
        thresholds = calibrate_model(prepared, scorer, rows, end, config, budget=0.1, confidence=None)
        masks = (prepared.heavy, prepared.hour, prepared.slice_ids, *labelled(prepared, rows, end, config))
        came_back = regulars(prepared.frame, rows, end)
        return [*masks, *visitors, came_back, prepared.slice_keys, thresholds.calibration.to_dict()]

    monkeypatch.setattr("onlineguard.slidr.learning.regulars.SPAN", 1)
    monkeypatch.setattr("onlineguard.slidr.learning.regulars.DAYS", 2)
    expected = learned(history.prepared(config=config))
    for module in (
        "thresholds.metrics",
        "thresholds.curves",
        "learning.regulars",
        "learning.spreading",
        "clicks.order",
    ):
        monkeypatch.setattr(f"onlineguard.slidr.{module}.PART", 300)
    monkeypatch.setattr("onlineguard.slidr.pipeline.TOGETHER", 700)
    found = learned(history.prepared(config=config, spool=tmp_path / "features.npy"))
    by_session = Config(slices=("session_id", "user_id"))
    texts, numbers = history.prepared(config=by_session), history.prepared(config=by_session, spool=tmp_path / "X.npy")
    assert texts.slice_keys == numbers.slice_keys
    assert np.array_equal(texts.slice_ids, numbers.slice_ids)
    for name, one in expected.pop().items():
        assert found[-1][name] == (pytest.approx(one, rel=1e-9) if name == "multiplier" else one)
    for one, other in zip(expected, found[:-1], strict=True):
        assert np.array_equal(one, other)
    assert all(np.any(mask) for mask in (*found[:2], *found[5:8]))


def test_labels_are_joined_however_late_they_came_and_the_first_one_counts(tmp_path, log, rows):
    bought = log.filter(pl.col("purchase_ts").is_not_null())
    late = told(log, delay=9 * DAY)
    again = late.with_columns(pl.col("t") + 1, pl.col("purchase_ts") + 5, rfm=pl.lit(13.0))
    last = again.with_columns(pl.col("t") + 1, rfm=pl.lit(3.0))
    numbered = pl.concat([late, again, last]).with_columns(sequence=pl.int_range(pl.len()) + 10_000)
    history = History(written(tmp_path, rows, numbered, every=50))
    found = whole(history, columns=("click_id", "purchase_ts", "rfm", "purchase_t"))
    known = found.filter(pl.col("purchase_ts").is_not_null())
    assert known["click_id"].to_list() == bought["click_id"].to_list()
    assert known["purchase_ts"].to_list() == bought["purchase_ts"].to_list()
    assert known["purchase_t"].to_list() == (bought["purchase_ts"] + 9 * DAY).to_list()
    assert set(known.filter(bought["rfm"].is_null())["rfm"]) == {13.0}
    assert whole(history, columns=("purchase_ts",), known_at=int(late["t"].min()) - 1)["purchase_ts"].count() == 0


def test_what_was_sent_with_the_click_goes_before_its_labels(tmp_path, log, rows):
    one = rows[:1].with_columns(purchase_ts=pl.lit(7, pl.Int64), rfm=pl.lit(4.0))
    label = {"sequence": 2, "position": 0, "t": 9, "click_id": one["click_id"][0], "purchase_ts": 8, "rfm": 14.0}
    history = History(written(tmp_path, one, pl.DataFrame([label], schema=LABELS)))
    assert whole(history, columns=("purchase_ts", "rfm", "purchase_t")).row(0) == (7, 4.0, one["t"][0])


def test_days_tell_what_there_is(history, log):
    days = history.days()
    by_day = log.group_by(pl.col("ts") // DAY).agg(pl.len(), pl.col("purchase_ts").count()).sort("ts")
    assert [(day.rows, day.purchases) for day in days] == by_day.select("len", "purchase_ts").rows()
    assert sum(day.vouched for day in days) == log["rfm"].count()
    assert all(day.delay == (0.0, 0.0) for day in days)


def test_hours_without_a_click_and_entries_without_a_file_are_gaps(tmp_path, rows):
    begin = int(rows["ts"][0]) // DAY * DAY
    hours = [(begin + 5 * 3_600_000, begin + 9 * 3_600_000)]
    there = rows.filter(~pl.col("ts").is_between(*hours[0], closed="left")).with_columns(
        sequence=pl.int_range(1, pl.len() + 1)
    )
    history = History(written(tmp_path, there, every=200))
    assert history.days()[0].gaps == tuple(hours)
    assert not history.missing()
    removed = history.parts()[2]
    removed.path.unlink()
    assert history.missing() == [(removed.first, removed.last, "")]


def test_several_sources_are_merged_by_arrival(tmp_path, rows):
    rows = rows.with_columns(t=pl.col("ts").min() + 1_000 * pl.col("sequence"))
    for source, offset in (("a", 0), ("b", 1), ("c", 2)):
        written(tmp_path, rows.gather_every(3, offset), every=170, source=source)
    assert whole(History(tmp_path), columns=("click_id",)).equals(rows.select("click_id"))


def test_a_file_that_a_compaction_left_beside_its_heir_is_not_read_twice(tmp_path, rows):
    history = History(written(tmp_path, rows, every=100))
    day = history.parts()[0].day
    old = [part for part in history.parts() if part.day == day]
    merged = rows.filter(pl.col("sequence").is_between(old[0].first, old[-1].last))
    write_part(tmp_path, "clicks", merged, old[0].first, old[-1].last, "", ABOUT)
    assert whole(history, columns=("click_id",)).equals(rows.select("click_id"))
    assert len(parts(tmp_path, "clicks")) > len(history.parts())


def test_a_clock_set_back_over_midnight_changes_no_order(tmp_path, rows):
    back = rows[:4].with_columns(t=pl.Series([DAY - 1, DAY, DAY - 2, DAY + 1]))
    history = History(written(tmp_path, back))
    assert [part.day for part in history.parts()] == ["1970-01-01", "1970-01-02"]
    assert whole(history, columns=("sequence",))["sequence"].to_list() == [1, 2, 3, 4]


def test_other_features_and_newer_files_are_refused_by_name(tmp_path, rows):
    write_part(tmp_path, "clicks", rows[2:4], 3, 4, "", ABOUT)
    older = rows[:2].rename({"user_clicks_1m": "user_clicks_2m"})
    write_part(tmp_path, "clicks", older, 1, 2, "", {"features": "1"})
    history = History(tmp_path)
    assert whole(history, columns=("click_id", "logged_in", "purchase_ts")).height == 4
    assert sum(day.rows for day in history.days()) == 4
    with pytest.raises(SourceError, match="version 1 of the features"):
        whole(history)
    newer = path_of(tmp_path, "clicks", "2026-03-09", 5, 6, "")
    newer.parent.mkdir()
    rows[:2].write_parquet(newer, metadata={"format": "9"})
    with pytest.raises(SourceError, match=r"1970|version 1|has format 9"):
        whole(history)


def test_a_folder_without_clicks_and_a_wrong_column_say_so(tmp_path, history):
    with pytest.raises(SourceError, match="is no history"):
        History(tmp_path / "absent")
    with pytest.raises(InvalidArgument, match="columns names 'user'"):
        whole(history, columns=("user",))


def test_another_engine_reads_the_folder_with_its_days_as_a_column(history, rows):
    table = pyarrow.dataset.dataset(history.path / "clicks", partitioning="hive").to_table(columns=["click_id", "day"])
    assert sorted(table["click_id"].to_pylist()) == sorted(rows["click_id"])
    assert {str(day) for day in table["day"].to_pylist()} == {part.day for part in history.parts()}


def test_features_are_in_the_order_of_their_names(history, prepared):
    frame = next(history.clicks(columns=NAMES))
    assert np.array_equal(features_of(frame), prepared.X[: frame.height])
