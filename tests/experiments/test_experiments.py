"""What the experiments share: intervals, results that are written whole or not at all, and the command line."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import common


def square(key):
    return key * key


def outcome(options):
    common.style()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([0, 1])
    return common.Outcome(
        {"seeds": options.seeds, "value": np.float32(1 / 3), "none": math.nan}, {"line": figure}, "| a |"
    )


def run(tmp_path, *arguments):
    common.main(outcome, str(tmp_path / "some_experiment" / "run.py"), seeds=5, arguments=arguments)


def test_a_full_run_writes_beside_the_experiment_and_a_quick_one_apart(tmp_path, capsys):
    run(tmp_path)
    home = tmp_path / "some_experiment"
    assert json.loads((home / "results.json").read_text()) == {"seeds": 5, "value": 0.333333, "none": None}
    assert (home / "line.png").stat().st_size > 1000
    before = (home / "results.json").read_bytes(), (home / "line.png").read_bytes()
    run(tmp_path, "--quick")
    assert sorted(path.name for path in (home / "quick").iterdir()) == ["line.png", "results.json"]
    run(tmp_path)
    assert before == ((home / "results.json").read_bytes(), (home / "line.png").read_bytes())
    assert "| a |" in capsys.readouterr().out


def test_what_cannot_be_written_is_said_before_the_work_and_changes_nothing(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--out", str(tmp_path / "file"))
    assert "name another folder" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_fills_up_leaves_the_earlier_results(tmp_path, monkeypatch, capsys):
    run(tmp_path)
    home = tmp_path / "some_experiment"
    before = {path.name: path.read_bytes() for path in home.iterdir()}

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path)
    assert "No space left on device" in " ".join(capsys.readouterr().err.split())
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before


@pytest.mark.slow
def test_work_in_processes_comes_back_in_order():
    assert common.over(square, [3, 1, 2], "squares", processes=2) == [9, 1, 4]
    assert common.over(square, [3, 1, 2], "squares", processes=1) == [9, 1, 4]


def test_the_interval_covers_the_mean_of_normal_seeds_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2_000, 5))
    covered = [common.interval(row).low <= 3.0 <= common.interval(row).high for row in draws]
    assert 0.935 < np.mean(covered) < 0.965


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_an_interval_contains_its_mean_and_leaves_out_nan(values):
    low, mean, high = (lambda i: (i.low, i.mean, i.high))(common.interval([*values, math.nan]))
    assert low <= mean <= high
    assert common.interval(values) == common.interval([*values, math.nan])


def test_every_key_draws_numbers_of_its_own():
    draws = {tuple(common.rng(*key).integers(0, 1 << 30, 3)) for key in [(0,), (1,), (0, 0), (0, 1), (1, 0)]}
    assert len(draws) == 5
    assert (common.rng(4, 2).normal(size=3) == common.rng(4, 2).normal(size=3)).all()
