"""Every benchmark can be tried in seconds, as it is before each release."""

from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("bench_*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_has_a_quick_run(path):
    assert 'add_argument("--quick"' in path.read_text(encoding="utf-8")
