"""The lookups of clicks: which version is in force follows from the click, and so do its numbers, live and in a log."""

import numpy as np
import polars as pl
import pytest

from onlineguard.errors import CheckpointError, SourceError
from onlineguard.records.click import Click
from onlineguard.slidr.features import LOOKED_UP, Featuriser
from onlineguard.slidr.lookups.columns import COLUMNS, TABLES, hashed
from onlineguard.slidr.lookups.file import About, write_version
from onlineguard.slidr.lookups.hosting import Network, ranges
from onlineguard.slidr.lookups.lookups import Lookups, opened
from onlineguard.slidr.lookups.single import Table
from tests.support.click_frames import RECORD, frame


def version(folder, name, since, daily):
    """A version in which anna alone is known."""
    about = About(as_of=since - 1, since=since, days=1, built_from="", hosting="", onlineguard="")
    empty = {table: Table(np.empty(0, np.uint64), np.empty((0, len(c)), np.float32)) for table, c in TABLES.items()}
    anna = Table(np.array([hashed("anna")], np.uint64), np.array([[daily, 1.0]], np.float32))
    hosting = ranges([Network(4, 0xC0000200, 0xC0000300, True), Network(6, 0, 1 << 40, True)])
    write_version(folder / f"{name}.safetensors", about, {**empty, "users": anna, **hosting})


@pytest.fixture
def folder(tmp_path):
    version(tmp_path, "2026-03-09", 1_000, 1.0)
    version(tmp_path, "2026-03-10", 2_000, 2.0)
    return tmp_path


def daily(lookups, ts, t=10**12):
    return lookups.of_clicks([Click(**{**RECORD, "ts": ts})], t)[0, COLUMNS.index("user_daily")]


def test_a_click_is_looked_up_in_the_version_that_was_in_force_at_its_time(folder):
    lookups = Lookups(folder)
    assert [daily(lookups, ts) for ts in (0, 999, 1_000, 1_999, 2_000, 10**13)] == [0, 0, 1, 1, 2, 2]


def test_a_click_that_says_to_be_of_later_is_looked_up_as_of_its_arrival(folder):
    assert daily(Lookups(folder), 10**13, t=1_500) == 1.0
    clicks = frame(ts=[10**13, 1_500])
    found = Lookups(folder).of_frame(clicks, pl.Series([1_500, 10**13]))
    assert found[:, COLUMNS.index("user_daily")].tolist() == [1.0, 1.0]


def test_a_second_version_of_a_day_takes_the_place_of_the_first(folder):
    version(folder, "2026-03-10.2", 2_000, 9.0)
    assert daily(Lookups(folder), 2_000) == 9.0


def test_a_version_that_comes_or_goes_is_taken_up_at_the_next_look(folder):
    lookups = Lookups(folder)
    assert not lookups.look()
    version(folder, "2026-03-11", 3_000, 3.0)
    assert daily(lookups, 3_000) == 2.0
    assert lookups.look()
    assert daily(lookups, 3_000) == 3.0
    (folder / "2026-03-11.safetensors").unlink()
    assert lookups.look()
    assert daily(lookups, 3_000) == 2.0


def test_a_damaged_version_is_passed_over_live_and_refused_in_a_log(folder):
    (folder / "2026-03-10.safetensors").write_bytes(b"half of one")
    (folder / ".2026-03-11.safetensors.17.tmp").write_bytes(b"one that is being written")
    lookups = Lookups(folder)
    assert daily(lookups, 2_000) == 1.0
    assert [path.name for path in lookups.damaged] == ["2026-03-10.safetensors"]
    assert not lookups.look()
    with pytest.raises(CheckpointError, match=r"2026-03-10.safetensors is no version"):
        opened(folder)


def test_a_log_without_lookups_is_refused_and_a_service_waits_for_them(tmp_path):
    with pytest.raises(SourceError, match="has no lookups; make some with onlineguard slidr lookups build"):
        opened(tmp_path / "absent")
    lookups = Lookups(tmp_path / "absent")
    assert daily(lookups, 2_000) == 0.0
    (tmp_path / "absent").mkdir()
    version(tmp_path / "absent", "2026-03-10", 2_000, 2.0)
    assert lookups.look()
    assert daily(lookups, 2_000) == 2.0


def test_the_features_of_a_log_are_those_of_its_clicks_one_by_one_to_the_last_bit(folder):
    ips = ["192.0.2.7", "::ffff:192.0.2.7", "192.0.3.0", "::1", "2001:db8::1", "no address", ""]
    users = ["anna", None, "bert", "anna", "", "anna", "anna"]
    ts = [500, 1_000, 1_500, 2_000, 2_500, 1_700, 3_000]
    clicks = frame(click_id=[str(i) for i in range(7)], ip=ips, user_id=users, ts=ts)
    whole = Featuriser(lookups=Lookups(folder)).transform(clicks)
    featuriser = Featuriser(lookups=Lookups(folder))
    single = np.stack([featuriser.transform_one(Click(**row)) for row in clicks.iter_rows(named=True)])
    assert single.tobytes() == whole.tobytes()
    assert whole[:, -len(LOOKED_UP) :][:, -1].tolist() == [0, 1, 0, 1, 0, 0, 0]
    without = Featuriser().transform(clicks)
    assert not without[:, -len(LOOKED_UP) :].any()
    assert without[:, : -len(LOOKED_UP)].tobytes() == whole[:, : -len(LOOKED_UP)].tobytes()
