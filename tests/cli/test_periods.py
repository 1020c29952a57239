"""The period of a run's series, in events and in time."""

import numpy as np
import polars as pl

from onlineguard import Engine, Series
from onlineguard.cli import runner
from onlineguard.cli.periods import periods_found
from onlineguard.sources import Source


def run(tmp_path, values, detector="series"):
    path = tmp_path / "e.parquet"
    n = len(values)
    frame = pl.DataFrame({"host": ["a", "b"] * n, "x": np.repeat(values, 2)})
    times = np.datetime64("2026-01-01", "ms") + np.repeat(np.arange(n), 2) * np.timedelta64(300_000, "ms")
    frame.with_columns(t=pl.Series(times)).write_parquet(path)
    return runner.run(Source(path, ["host"], ["x"], "t"), runner.open_engine(["x"], detector))


def test_a_day_of_five_minute_data_is_found_and_named(tmp_path):
    rng = np.random.default_rng(0)
    values = 100.0 + 20.0 * np.clip(np.sin(np.arange(3_000) * 2 * np.pi / 288), -0.5, 0.7) + rng.normal(0.0, 1.0, 3_000)
    assert run(tmp_path, values).period == "288 events (1 day); 2 of 2 slices have one"


def test_noise_has_no_period_and_points_are_not_looked_at_for_one(tmp_path):
    values = np.random.default_rng(0).normal(0.0, 1.0, 1_000)
    assert run(tmp_path, values).period == "none"
    assert run(tmp_path, values, "point").period is None


def test_without_times_the_period_is_in_events_alone():
    engine = Engine(1, estimator=Series())
    engine.update("a", np.sin(np.arange(3_000) * 2 * np.pi / 160)[:, None])
    assert periods_found(engine, []) == "160 events; 1 of 1 slices have one"
