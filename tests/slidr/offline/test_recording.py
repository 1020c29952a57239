"""Counted by entity and in pieces, a log has the features of one pass, whatever happens on the way."""

import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from onlineguard import atomic
from onlineguard.errors import Conflict, InvalidArgument, SourceError
from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.counting.counters import ProcessStore
from onlineguard.slidr.features import NAMES, Featuriser
from onlineguard.slidr.history.keeping import alone
from onlineguard.slidr.history.reading import History, features_of
from onlineguard.slidr.offline import recording
from onlineguard.slidr.offline.log import ParquetLog
from onlineguard.slidr.offline.recording import record
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from tests.support.click_frames import frame
from tests.support.slidr_streams import streams

COLUMNS = tuple(dict.fromkeys((*SCHEMA, *NAMES)))
MOST = 400  # clicks of a block


@pytest.fixture(scope="module")
def clicks():
    """Four days, as many as entities are kept for and more."""
    return simulate(Traffic(clicks=2_400, days=4, start=date(2026, 3, 2)), 1).clicks


@pytest.fixture(scope="module")
def features(clicks):
    return Featuriser().transform(clicks)


@pytest.fixture
def days(clicks, tmp_path):
    return written(clicks, tmp_path / "days")


def written(clicks, folder):
    """A file for each day."""
    folder.mkdir()
    for (day,), of_day in clicks.group_by(pl.col("ts") // 86_400_000, maintain_order=True):
        of_day.write_parquet(folder / f"{day}.parquet")
    return folder


def log_of(path, most=MOST):
    log = ParquetLog.of(path)
    return ParquetLog(log.files, log.rows, log.mapping, most)


def same(out, clicks, features):
    """Whether a history has these clicks with these features, bit for bit."""
    found = pl.concat(History(out).clicks(columns=COLUMNS))
    return found.select(list(SCHEMA)).equals(clicks) and features_of(found).tobytes() == features.tobytes()


@given(keys=streams())
@settings(max_examples=5, deadline=None)
def test_any_stream_has_the_features_of_one_pass(keys):
    clicks = frame(
        click_id=list(keys.click_ids),
        ts=keys.ts,
        user_id=list(keys.users),
        session_id=list(keys.sessions),
        ip=list(keys.ips),
        ad_id=list(keys.ads),
        logged_in=list(keys.signed_in),
    )
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(recording, "check_order"):  # most are in none
        clicks.write_parquet(f"{folder}/log.parquet")
        record(log_of(Path(f"{folder}/log.parquet"), 20), f"{folder}/out", parts=2, piece=2)
        found = pl.concat(History(f"{folder}/out").clicks(columns=COLUMNS))
    assert features_of(found).tobytes() == Featuriser().transform(clicks).tobytes()


@pytest.mark.parametrize(("parts", "piece"), [(1, 100), (3, 2)])
def test_a_log_has_them_however_it_is_divided(parts, piece, days, clicks, features, tmp_path):
    seen = []
    made = record(log_of(days), tmp_path / "out", parts=parts, piece=piece, progress=seen.append)
    assert made == (clicks.height, clicks.height)
    assert same(tmp_path / "out", clicks, features)
    assert seen == sorted(seen)
    assert seen[-1] == clicks.height


def test_what_is_kept_between_two_pieces_is_what_the_counters_keep(days, clicks, tmp_path):
    record(log_of(days), tmp_path / "out", parts=2, piece=1)
    states = [path for path in (tmp_path / "out" / "counting").glob("state-*")]
    assert len(states) == 1, "of two pieces both were kept"
    store = ProcessStore()
    Featuriser(store).transform(clicks)
    kept = sum(pl.read_ipc(path / "entities.arrow").height for path in states[0].glob("user-*"))
    assert 0 < kept < clicks["user_id"].n_unique(), "nobody was forgotten"
    assert kept <= store.sizes()["users"]


def test_days_that_are_added_are_counted_from_there(clicks, features, tmp_path):
    whole = written(clicks, tmp_path / "whole")
    days, out = tmp_path / "days", tmp_path / "out"
    days.mkdir()
    for number, path in enumerate(sorted(whole.iterdir())):
        path.rename(days / path.name)
        made = record(log_of(days), out, parts=2)
        assert made.new == ParquetLog.of(days).rows[number]
    assert record(log_of(days), out).new == 0
    assert same(out, clicks, features)


class _Killed(BaseException):
    pass


def test_it_goes_on_wherever_it_was_killed(days, clicks, features, tmp_path):
    """Each file and folder that it makes is one `os.replace`: it ends before each of them, and after."""
    out, replace, count = tmp_path / "out", os.replace, 0

    def killed(source, target):
        nonlocal count
        count += 1
        if count % 5 == 2:
            raise _Killed
        replace(source, target)
        if count % 5 == 4:
            raise _Killed

    def removed(path):
        if sys.exc_info()[0] is not _Killed:  # who is killed removes nothing
            remove(path)

    kills, remove = 0, atomic._remove
    with mock.patch.object(os, "replace", killed), mock.patch.object(atomic, "_remove", removed):
        while True:
            try:
                record(log_of(days, 1_000), out, parts=2, piece=2)
                break
            except _Killed:
                kills += 1
    assert kills > 20
    assert same(out, clicks, features)
    assert not [*out.rglob(".*.tmp")], "something half done was left"


@pytest.mark.slow
def test_workers_that_are_killed_with_it_leave_what_the_next_ones_finish(days, clicks, features, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", _COMMAND, str(days), str(out)]
    finished = 0
    for results in (3, 25):
        process = subprocess.Popen(command, start_new_session=True)
        while len([*out.glob("counting/piece-*/*")]) < results and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        finished += process.wait() == 0
        deadline = time.monotonic() + 60
        while _alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _alive(process.pid), "a worker outlived the process that it works for"
    assert finished < 2, "it was never killed"
    subprocess.run(command, check=True, timeout=300)
    assert same(out, clicks, features)


_COMMAND = f"""
import sys
from pathlib import Path
from onlineguard.slidr.offline.log import ParquetLog
from onlineguard.slidr.offline.recording import record
if __name__ == "__main__":
    log = ParquetLog.of(Path(sys.argv[1]))
    record(ParquetLog(log.files, log.rows, None, {MOST}), sys.argv[2], workers=2, parts=4, piece=3)
"""


def _alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_process_counts_into_a_history_at_a_time(days, tmp_path):
    (tmp_path / "out" / "counting").mkdir(parents=True)
    (tmp_path / "out" / "clicks").mkdir()
    with alone(tmp_path / "out" / "counting", "a test holds"), pytest.raises(Conflict, match="another process"):
        record(log_of(days), tmp_path / "out")


def test_a_log_that_was_changed_or_asked_for_otherwise_is_refused(days, clicks, tmp_path):
    out = tmp_path / "out"
    record(log_of(days), out, parts=2)
    with pytest.raises(InvalidArgument, match="partitions 2"):
        record(log_of(days), out, parts=3)
    first = sorted(days.iterdir())[0]
    clicks[:10].write_parquet(first)
    with pytest.raises(InvalidArgument, match="files may be added"):
        record(log_of(days), out)
    first.unlink()
    with pytest.raises(InvalidArgument):
        record(log_of(days), out)


def test_clicks_that_would_see_the_future_are_refused(clicks, tmp_path):
    clicks.reverse().write_parquet(tmp_path / "log.parquet")
    with pytest.raises(InvalidArgument, match="not in order of time"):
        record(log_of(tmp_path / "log.parquet"), tmp_path / "out", parts=1)
    days = written(clicks, tmp_path / "days")
    names = sorted(days.iterdir())
    names[0].rename(days / "z.parquet")  # the first day comes last
    with pytest.raises(InvalidArgument, match="not in order of time"):
        record(log_of(days), tmp_path / "other", parts=1, piece=1)


def test_what_is_no_log_is_said_so(tmp_path):
    with pytest.raises(SourceError, match=r"no \.parquet files"):
        ParquetLog.of(tmp_path)
    (tmp_path / "log.parquet").write_bytes(b"no Parquet")
    with pytest.raises(SourceError, match="cannot be read"):
        ParquetLog.of(tmp_path)
    frame(click_id=["a", "b"]).with_columns(ts=pl.Series([1, -1])).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(InvalidArgument, match="ts"):
        record(log_of(tmp_path), tmp_path / "out")


def test_a_history_of_a_service_is_not_written_into(days, tmp_path):
    (tmp_path / "clicks").mkdir()
    with pytest.raises(InvalidArgument, match="not counted from a log"):
        record(log_of(days), tmp_path)


def test_an_empty_log_is_an_empty_history(clicks, tmp_path):
    clicks.clear().write_parquet(tmp_path / "log.parquet")
    assert record(log_of(tmp_path / "log.parquet"), tmp_path / "out") == (0, 0)
    assert np.array_equal([*History(tmp_path / "out").clicks()], [])
