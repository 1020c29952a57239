"""The command `simulate`: what it writes and prints, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import onlineguard
from onlineguard.cli.app import app
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.tally import USUAL_KINDS
from onlineguard.slidr.simulation.traffic import Traffic


def invoke(*arguments):
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_the_command_writes_the_files_and_prints_who_clicked(tmp_path):
    result = invoke(tmp_path / "t", "--clicks", 6_000, "--days", 2, "--seed", 5, "--start", "2026-01-05")
    assert result.exit_code == 0, result.output
    expected = simulate(Traffic(clicks=6_000, days=2, start=date(2026, 1, 5)), 5)
    assert_frame_equal(pl.read_parquet(tmp_path / "t" / "clicks.parquet"), expected.clicks)
    for words in (*USUAL_KINDS, "tablet", "JP", "recorded purchases", "orders", "arrived twice"):
        assert words in result.stdout
    assert f"simulated clicks: {len(expected.clicks):,} clicks in" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--robots", "1.5"], "error: --robots is 1.5"),
        (["--days", "0"], "error: --days is 0"),
        (["--clicks", "3"], "error: --clicks is 3"),
        (["--start", "monday"], "error: --start is 'monday'; it must be a day such as 2026-03-02"),
        (["--seed", "-1"], "error: --seed is -1"),
        (["--label-outage", "999"], "error: --label-outage is 999.0 hours"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(tmp_path, options, words):
    result = invoke(tmp_path / "t", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(words)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "t").exists()


def test_a_folder_that_cannot_be_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "file").write_text("mine")
    result = invoke(tmp_path / "file", "--clicks", 1_000, "--days", 1)
    assert result.exit_code == 2
    assert "folder is" in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-m", "onlineguard", "simulate", str(tmp_path / "t"), "--clicks", "50000000"]
    environment = os.environ | {"PYTHONPATH": str(Path(onlineguard.__file__).parents[1])}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while run.poll() is None:  # again and again: an interrupt within a garbage collection is dropped
        if list(tmp_path.glob("t/.simulate.*/clicks.parquet")):
            run.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert run.returncode == 130
    assert list((tmp_path / "t").iterdir()) == []
