"""Programs of people who have frames, databases and notebooks, run as they stand in `examples/`."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_query_of_polars_judges_rows_by_structs():
    found = runpy.run_path(str(EXAMPLES / "polars_structs.py"))
    assert found["odd"].row(0)[:2] == ({"country": "FR", "host": 1}, 400.0)
    assert sorted(found["engine"].slices) == [(country, host) for country in ("DE", "FR") for host in range(3)]
    assert len(found["odd"]) < 40


def test_a_relation_of_duckdb_is_judged_batch_by_batch():
    found = runpy.run_path(str(EXAMPLES / "duckdb_reader.py"))
    assert max(row[2] for row in found["odd"]) > 500
    assert (found["engine"].n_events, found["engine"].n_slices) == (60_000, 35)
    assert ("shop-0", "2026-07-01") in found["engine"].slices


def shown(cell: str, names: dict) -> object:
    """Run a cell as a notebook does; what its last expression is, if it is one."""
    body = ast.parse(cell).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_cells_of_a_notebook_show_tables_and_pictures():
    mpl.use("Agg")
    cells = (EXAMPLES / "notebook.py").read_text(encoding="utf-8").split("# %%\n")[1:]
    names: dict = {}
    values = [shown(cell, names) for cell in cells]
    tables = [value._repr_html_() for value in values if hasattr(value, "_repr_html_")]
    assert [table.split("</caption>")[0].split(">")[-1].split(" ")[0] for table in tables] == [
        "JointDetector",
        "Verdicts",
        "Verdict:",
        "onlineguard.Engine",
    ]
    assert max(values[4], key=values[4].get) == "latency"
    figures = [names[name][0].figure for name in ("axes", "later")]
    for figure in figures:
        figure.canvas.draw()
        mpl.pyplot.close(figure)


READING = """
import resource, sys
import numpy as np, pyarrow as pa
from onlineguard import Detector, Engine, in_batches

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

COLUMNS, ROWS, BATCHES = 40, 16_384, 240  # 1.26 GB
schema = pa.schema({"host": pa.int64(), "load": pa.float64()} | {f"c{j}": pa.float64() for j in range(COLUMNS)})

def batches(n):
    rng = np.random.default_rng(0)
    for i in range(n):
        own = [np.full(ROWS, float(i)) for _ in range(COLUMNS)]
        yield pa.record_batch([rng.integers(0, 50, ROWS), rng.normal(size=ROWS), *own], schema=schema)

def judge(n):
    reader = pa.RecordBatchReader.from_batches(schema, batches(n))
    for keys, frame in in_batches(reader, "host", rows=ROWS):
        engine.update(keys, frame)

engine = Engine(features=["load"], estimator=Detector())
judge(20)  # compiles, and fills what is kept
before = peak()
judge(BATCHES)
print(engine.n_events, peak() - before)
"""


@pytest.mark.slow
def test_a_reader_of_a_gigabyte_is_judged_in_the_memory_of_few_batches():
    ran = subprocess.run([sys.executable, "-c", READING], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    n_events, grown = map(int, ran.stdout.split())
    assert n_events == 260 * 16_384
    assert grown < 200e6


@pytest.mark.parametrize("name", ["polars_structs", "duckdb_reader", "notebook"])
def test_such_a_program_is_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 42
