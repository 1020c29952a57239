"""The benchmark for GPUs, without one: all of it runs, in plain JAX and at a tiny size."""

import json
import sys

import pytest

from benchmarks import bench_gpu


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_gpu", "--quick"])
    bench_gpu.main()
    assert capsys.readouterr().out == "no GPU that takes kernels: JAX finds cpu; --interpret runs without one\n"


@pytest.mark.slow
def test_interpreted_it_finds_the_kernel_right_and_writes_its_tables(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["bench_gpu", "--quick", "--interpret", "--to", str(tmp_path)])
    bench_gpu.main()
    figures = json.loads((tmp_path / "bench_gpu.json").read_text(encoding="utf-8"))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == figures
    assert [figure["figure"] for figure in figures] == ["machine", "right", "bandwidth", "kernel"]
    assert figures[1]["right"]
    written = (tmp_path / "bench_gpu.md").read_text(encoding="utf-8")
    assert "## kernel\n\n| model | features | slices |" in written


def test_figures_of_a_kind_are_one_table():
    figures = [{"figure": "a", "x": 1, "y": 2}, {"figure": "b", "z": 3}, {"figure": "a", "x": 4}]
    assert bench_gpu.as_markdown(figures) == (
        "## a\n\n| x | y |\n| --- | --- |\n| 1 | 2 |\n| 4 |  |\n\n## b\n\n| z |\n| --- |\n| 3 |\n"
    )
