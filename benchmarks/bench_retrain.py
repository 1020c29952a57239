"""Seconds and memory of a retraining from a history, in a process of its own.

    uv run --group dev python -m benchmarks.bench_retrain [--quick] [--clicks 1000000] [--copies 1]

One JSON line. The history is of 15 simulated days, with so many clicks a week; writing it, where features are counted,
is not timed. With copies, every click is there several times, as clicks of other visitors from other addresses: a
history of many clicks is then made in minutes.

Memory is the largest that the process held for itself (`RssAnon`, looked at a hundred times a second), beside what it
holds when everything is imported. The pages of mapped files are left out, since the system takes them back when it
needs them. Each step has its own largest.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.workloads import emit
from onlineguard.slidr.features import NAMES, Featuriser
from onlineguard.slidr.history.layout import LABELS, clicks_schema
from onlineguard.slidr.history.writing import write_part
from onlineguard.slidr.model import FEATURES
from onlineguard.slidr.simulation.simulator import Simulation
from onlineguard.slidr.simulation.traffic import Traffic

DAYS = 15
CHILD = """
import json, sys, threading, time
from datetime import date
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.registry.registry import Registry
from onlineguard.slidr.retrain import Plan, retrain

def held():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) / 2**10

base, begun = held(), time.monotonic()
steps = [["begin", 0.0, base]]
ended = threading.Event()

def look():
    while not ended.wait(0.01):
        steps[-1][2] = max(steps[-1][2], held())

looking = threading.Thread(target=look, daemon=True)
looking.start()
run = retrain(History(sys.argv[1]), Registry(sys.argv[2]), Plan(options={"budget": 0.02}),
              date.fromisoformat(sys.argv[3]),
              progress=lambda line: steps.append([line, round(time.monotonic() - begun, 1), held()]))
ended.set()
looking.join()
print(json.dumps({"seconds": round(time.monotonic() - begun, 1), "cpu_seconds": round(time.process_time(), 1),
                  "base_mb": round(base), "peak_mb": round(max(most for *_, most in steps)), "outcome": run.outcome,
                  "reasons": run.reasons, "steps": [[line, at, round(most)] for line, at, most in steps]}))
"""


def history(root: Path, traffic: Traffic, copies: int = 1) -> int:
    """Write the clicks as a service would have that saw each at its own time; how many there are."""
    about, featuriser = {"features": str(FEATURES), "pseudonyms": "no"}, Featuriser()
    n = 1
    labels: list[pl.DataFrame] = []
    for day in Simulation(traffic, 1).days():
        frame = day.unique("click_id", keep="first", maintain_order=True).with_columns(pl.col("ts").alias("t"))
        X = featuriser.transform(frame)
        usual = {"score": 0.1, "threshold": 0.5, "slice": "all", "robotic": False, "model": "none", "p_value": None}
        columns = {name: X[:, at] for at, name in enumerate(NAMES) if name != "logged_in"}
        rows = frame.with_columns(
            position=pl.lit(0), **{name: pl.lit(value) for name, value in usual.items()}
        ).with_columns(**{name: pl.Series(column) for name, column in columns.items()})
        rows = pl.concat([copied(rows, number) for number in range(copies)]).sort("ts", maintain_order=True)
        labels.append(rows.filter(pl.col("purchase_ts").is_not_null()).select("click_id", "purchase_ts"))
        rows = rows.with_columns(
            sequence=pl.Series(np.arange(n, n + rows.height)), purchase_ts=pl.lit(None, pl.Int64)
        ).select(pl.col(name).cast(kind) for name, kind in clicks_schema(NAMES).items())
        write_part(root, "clicks", rows, n, n + rows.height - 1, "", about)
        n += rows.height
    told = pl.concat(labels).sort("purchase_ts").with_columns(t="purchase_ts", rfm=pl.lit(None, pl.Float64))
    told = told.with_columns(sequence=pl.Series(np.arange(n, n + told.height)), position=pl.lit(0))
    told = told.select(pl.col(name).cast(kind) for name, kind in LABELS.items())
    write_part(root, "labels", told, n, n + told.height, "", about)
    return n - 1


def copied(rows: pl.DataFrame, number: int) -> pl.DataFrame:
    """The same clicks by other visitors; the first copy is what is copied."""
    if not number:
        return rows
    ids = [pl.col(name) + f"~{number}" for name in ("click_id", "user_id", "session_id")]
    return rows.with_columns(*ids, ip=pl.col("ip").str.replace(r"^\d+", str(number)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--clicks", type=int, default=1_000_000, help="a week, without their copies")
    parser.add_argument("--copies", type=int, default=1, help="how often each click is there")
    asked = parser.parse_args()
    a_week = 20_000 if asked.quick else asked.clicks
    traffic = Traffic(clicks=a_week * DAYS // 7, days=DAYS, start=date(2026, 3, 2))
    with tempfile.TemporaryDirectory() as folder:
        clicks = history(Path(folder) / "history", traffic, asked.copies)
        command = [sys.executable, "-c", CHILD, f"{folder}/history", f"{folder}/registry", "2026-03-16"]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    emit(bench="retrain", clicks_a_week=a_week * asked.copies, clicks=clicks, **json.loads(ran.stdout))


if __name__ == "__main__":
    main()
