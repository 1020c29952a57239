# The daily tasks, for https://just.systems: `just` lists them. Each is one command that can be typed as well.

set positional-arguments

_list:
    @just --list

# The quick tests, or those that are named
test *paths:
    uv run --group test pytest "$@"

# All tests with many examples: kills, whole services, the browser
slow *paths:
    uv run --group test pytest -m '' --hypothesis-profile ci "$@"

# Format, and lint
lint:
    uv run --group dev ruff format .
    uv run --group dev ruff check --fix .

# Types
types:
    uv run --group dev pyright

# The examples in docstrings and in the README
docs:
    uv run --group test pytest tests/project

# Every benchmark, briefly, or one: just bench engine
bench *names:
    for name in ${@:-$(ls benchmarks/bench_*.py | sed 's/.*bench_//; s/\.py//')}; do uv run --group dev python -m benchmarks.bench_$name --quick; done

# Fragments of changelog.d into CHANGELOG.md
changelog:
    python scripts/changelog.py

# Everything that must hold before a change lands
ci:
    .ci/run
