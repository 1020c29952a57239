"""What the pages say of other libraries is what the tables of the benchmarks say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
COMPARISON = " ".join((ROOT / "docs" / "comparison.md").read_text(encoding="utf-8").split())
PAGES = {
    name: " ".join((ROOT / name).read_text(encoding="utf-8").split())
    for name in ("README.md", "docs/choose.md", "docs/comparison.md")
}
WORDS = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight"]


def row(first):
    """The cells of the one row of a table that begins so."""
    (line,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", TABLES, re.MULTILINE)
    return [cell.strip() for cell in line.split(" | ")]


def short(figure):
    """As the pages write it: .863."""
    return figure.removeprefix("0")


def test_the_isolation_forest_is_ahead_and_behind_in_as_many_tables_as_it_is_said():
    ours, forest = (
        [float(cell) for cell in row(name)[:8]] for name in ("onlineguard JointDetector", "IsolationForest, offline")
    )
    ahead, behind = (sum(a > b for a, b in zip(*both, strict=True)) for both in ((ours, forest), (forest, ours)))
    assert f"ahead in {WORDS[ahead]} of them and behind in {WORDS[behind]}" in COMPARISON


@pytest.mark.parametrize(
    ("detector", "pages"),
    [
        ("onlineguard JointDetector", PAGES),
        ("IsolationForest, offline", PAGES),
        ("river HalfSpaceTrees", ["README.md", "docs/comparison.md"]),
        ("river OneClassSVM", ["docs/comparison.md"]),
        ("LODA", ["docs/comparison.md"]),
        ("xStream", ["docs/comparison.md"]),
    ],
)
def test_mean_aucs_are_those_of_the_table(detector, pages):
    cells = row(detector)
    assert abs(sum(map(float, cells[:8])) / 8 - float(cells[8])) < 0.0011  # the mean is that of its row
    assert all(short(cells[8]) in PAGES[page] for page in pages)


def test_speeds_beside_river_are_those_of_the_tables():
    pipeline, bare = (
        int(float(row(f"20 | {peer}")[2]))
        for peer in (r"`StandardScaler \| QuantileFilter(OneClassSVM)`", "`OneClassSVM`")
    )
    assert all(f"judges {pipeline} times as many" in PAGES[page] for page in ("README.md", "docs/comparison.md"))
    assert f"{bare} times as many as one of the bare" in COMPARISON
    trees, default = row("HalfSpaceTrees | 31,112")[0], row("DriftRobustDetector")[0]
    assert float(trees) == 1.0
    assert (
        f"`HalfSpaceTrees` takes 31,112 events a second at 10 features, `DriftRobustDetector` {default}" in COMPARISON
    )


def test_series_are_scored_as_in_the_table():
    ours, peer = (
        row("**onlineguard Series, own verdicts**")[0].strip("*"),
        row("z-score over all history, best threshold")[0],
    )
    assert (
        f"`Series` scores {ours} of 100; the best z-score, with the threshold that suits it best afterwards, {peer} ("
        in PAGES["README.md"]
    )
