"""What counts as an installation: the packages that are asked for, directly or not, and nothing else."""

from pathlib import Path

from benchmarks.bench_install import asked_for, figures

ROOT = Path(__file__).parents[2]


def test_the_base_brings_jax_with_what_it_asks_for_and_nothing_of_an_extra():
    base = asked_for("")
    assert {"onlineguard", "jax", "jaxlib", "scipy", "ml-dtypes"} <= base.keys()  # scipy and ml-dtypes by way of JAX
    assert not {"rich", "river", "redis", "scikit-learn", "matplotlib", "pytest"} & base.keys()


def test_extras_of_extras_come_along():
    assert asked_for("").keys() | {"typer", "uvicorn", "redis", "optax"} <= asked_for("serve").keys()


def test_the_pages_count_the_packages_as_they_are():
    others = len(asked_for("")) - 1
    assert f"`pip install onlineguard` brings {others} packages" in (ROOT / "docs" / "asked.md").read_text("utf-8")
    assert f"| `onlineguard` | {others + 1} |" in (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    decision = (ROOT / "docs" / "decisions" / "lean-install.md").read_text("utf-8")
    assert f"The base has {others + 1} packages" in decision


def test_the_largest_packages_are_named_first_and_are_part_of_the_whole():
    found = figures(asked_for("").values())
    largest = [*found["largest"].values()]
    assert largest == sorted(largest, reverse=True)
    assert 0 < sum(largest) <= found["megabytes"] + 2
