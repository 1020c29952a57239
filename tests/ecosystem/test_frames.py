"""Programs of people who have frames, databases and notebooks, run as they stand in `examples/`."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from onlineguard import Engine

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_query_of_polars_judges_rows_by_structs():
    found = runpy.run_path(str(EXAMPLES / "polars_structs.py"))
    assert found["odd"].row(0)[:2] == ({"country": "FR", "host": 1}, 400.0)
    assert sorted(found["engine"].slices) == [(country, host) for country in ("DE", "FR") for host in range(3)]
    assert len(found["odd"]) < 40


@pytest.mark.slow
def test_a_relation_of_duckdb_is_judged_batch_by_batch():
    found = runpy.run_path(str(EXAMPLES / "duckdb_reader.py"))
    assert max(row[2] for row in found["odd"]) > 500
    assert (found["engine"].n_events, found["engine"].n_slices) == (60_000, 35)
    assert ("shop-0", "2026-07-01") in found["engine"].slices


def test_a_frame_of_pandas_gets_verdicts_beside_its_rows_and_groups_go_on():
    found = runpy.run_path(str(EXAMPLES / "pandas_groupby.py"))
    df = found["df"]
    assert len(df) < 6_000  # the index has gaps
    assert df.loc[5_000:5_040, "anomalous"].mean() > 0.9
    assert df["anomalous"].drop(range(5_000, 5_041), errors="ignore").mean() < 0.005
    assert {*found["odd"].groups} == {"press 1", "press 2", "oven"}
    one = df[df["machine"] == "oven"]
    alone = Engine(1).update("oven", one["celsius"].to_numpy())
    np.testing.assert_array_equal(one["alone"], alone.score)


@pytest.mark.slow
def test_slices_are_judged_in_processes_of_joblib_and_their_engines_put_together():
    found = runpy.run_path(str(EXAMPLES / "joblib_slices.py"), run_name="__main__")
    engine, df = found["engine"], found["df"]
    assert engine.slices == ["web-1", "web-2", "web-3"]
    assert df.loc[8_990, "anomalous"]
    one = df[df["host"] == "web-2"]
    alone = Engine(features=["load", "latency"], target_rate=0.001)
    np.testing.assert_array_equal(alone.update("web-2", one).score, one["score"])
    np.testing.assert_array_equal(alone.score("web-2", one[:5]).score, engine.score("web-2", one[:5]).score)


def test_a_dataset_of_arrow_is_judged_in_batches_and_its_odd_rows_are_a_dataset():
    found = runpy.run_path(str(EXAMPLES / "arrow_dataset.py"))
    seconds = found["found"]["seconds"].to_pylist()
    assert max(seconds) == 500.0
    assert 1 <= len(seconds) < 100
    assert found["engine"].n_events == 40_000
    assert sorted(found["engine"].slices) == [(c, d) for c in ("DE", "FR") for d in ("desktop", "phone")]


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


@pytest.mark.parametrize(
    "name", ["polars_structs", "duckdb_reader", "notebook", "pandas_groupby", "joblib_slices", "arrow_dataset"]
)
def test_such_a_program_is_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 42
