"""Rows a second of `onlineguard run` from end to end, beside the parts it is made of and a plain Python loop.

    uv run python -m benchmarks.bench_run [--quick] [--rows N]

Two features, 5,000 slices. One JSON line a figure; both sides of every ratio are measured in the same run. Compilation
is apart: a run over the first rows comes before. `cpu_rows_per_s` counts the seconds that all threads worked, which
says more than the clock where others share the machine. Peak memory is that of a process of its own, by the kernel.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.workloads import emit
from onlineguard import Engine
from onlineguard.cli import runner
from onlineguard.cli.console import REPORTED, facts
from onlineguard.cli.sinks import VerdictWriter
from onlineguard.report import write_report
from onlineguard.sources import Source

SLICES, FEATURES = 5_000, ["load", "bytes"]
CHUNK = 1_000_000  # rows that are made and written at a time
PEER_BATCH = 65_536
PLAIN_ROWS = 200_000  # of the file, for the loop in plain Python


def write_files(folder: Path, rows: int) -> None:
    """The same events as CSV and as Parquet: keys such as host-00042, one usual number in 500 far off."""
    rng = np.random.default_rng(0)
    keys = pl.Series([f"host-{i:05}" for i in range(SLICES)])
    parts: list[Path] = []
    with (folder / "events.csv").open("wb") as text:
        for start in range(0, rows, CHUNK):
            n = min(CHUNK, rows - start)
            X = rng.normal(100.0, 5.0, (n, 2)) * np.where(rng.random((n, 1)) < 0.002, 1.8, 1.0)
            columns = {"load": X[:, 0].round(4), "bytes": (X[:, 1] * 1_000).round()}
            frame = pl.DataFrame({"host": keys.gather(rng.integers(0, SLICES, n)), **columns})
            frame.write_csv(text, include_header=not start)
            parts.append(folder / f"part{start:012}.parquet")
            frame.write_parquet(parts[-1])
    pl.scan_parquet(parts, glob=False).sink_parquet(folder / "events.parquet")


def run_once(path: Path, out: Path | None, report: Path | None) -> int:
    """What the command does; returns the events judged."""
    source = Source(path, ["host"], FEATURES)
    engine = runner.open_engine(FEATURES, "point")
    writer = VerdictWriter(out, ["host"]) if out is not None else None
    summary = runner.run(source, engine, writers=[] if writer is None else [writer], explain=report is not None)
    if report is not None:
        write_report(report, summary.oddest[:REPORTED], facts(summary))
    if writer is not None:
        writer.commit()
    return summary.events


def parts_alone(path: Path) -> int:
    """polars reading the whole file, and `Engine.update` on it: no rejects, no counts, unbounded memory."""
    frame = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
    engine = Engine(features=FEATURES)
    for part in frame.iter_slices(PEER_BATCH):
        _ = engine.update(part["host"], part).anomalous
    return len(frame)


def plain_python(path: Path) -> int:
    """A dict of running means and variances (Welford, 1962), and the larger z-score of the two features."""
    states: dict[str, list[float]] = {}
    odd = n = 0
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            state = states.setdefault(row["host"], [0.0] * 5)
            state[0] += 1
            largest = 0.0
            for i, name in enumerate(FEATURES):
                x = float(row[name])
                distance = x - state[1 + i]
                if state[0] > 2:
                    largest = max(largest, abs(distance) / math.sqrt(state[3 + i] / (state[0] - 1) or 1.0))
                state[1 + i] += distance / state[0]
                state[3 + i] += distance * (x - state[1 + i])
            odd += largest > 3.0
            n += 1
            if n == PLAIN_ROWS:
                break
    return n


def best(work: Callable[[], int], repeats: int) -> dict[str, int]:
    """Rows a second by the clock and by the processors' time, each the best of the repeats."""
    rates: list[tuple[float, float]] = []
    for _ in range(repeats):
        clock, cpu = time.perf_counter(), time.process_time()
        n = work()
        rates.append((n / (time.perf_counter() - clock), n / (time.process_time() - cpu)))
    return {"rows_per_s": round(max(r for r, _ in rates)), "cpu_rows_per_s": round(max(r for _, r in rates))}


def peak_memory(arguments: list[str], folder: Path) -> int:
    """Peak resident MiB of `onlineguard run` with these arguments in a process of its own."""
    code = (
        "import json, resource, sys\nfrom onlineguard.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, "run", *arguments, "--slice", "host", "--feature", ",".join(FEATURES)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=folder)
    return json.loads(done.stderr.splitlines()[-1]) // 1_024


def measure(folder: Path, rows: int, repeats: int) -> None:
    write_files(folder, min(rows, 100_000))
    for ending in ("csv", "parquet"):  # compiles what the sizes below need
        run_once(folder / f"events.{ending}", None, None)
    write_files(folder, rows)
    run_once(folder / "events.parquet", None, None)
    parts_alone(folder / "events.parquet")
    plain = best(lambda: plain_python(folder / "events.csv"), 1)
    for ending in ("csv", "parquet"):
        path = folder / f"events.{ending}"
        ours = best(lambda path=path: run_once(path, None, None), repeats)
        peer = best(lambda path=path: parts_alone(path), repeats)
        emit(
            figure="run / its parts alone",
            source=ending,
            rows=rows,
            ratio=round(ours["rows_per_s"] / peer["rows_per_s"], 2),
            times_plain_python=round(ours["rows_per_s"] / plain["rows_per_s"], 1),
            ours=ours,
            peer_rate=peer,
            plain_python=plain,
            load=round(os.getloadavg()[0], 1),
        )
        both = best(lambda path=path: run_once(path, folder / "out.parquet", folder / "report.html"), repeats)
        emit(figure="run with --out and --report", source=ending, rows=rows, ours=both)
        options = ["--out", "out.parquet", "--report", "report.html"]
        emit(
            figure="peak MiB of the command",
            source=ending,
            rows=rows,
            plain=peak_memory([str(path)], folder),
            out_and_report=peak_memory([str(path), *options], folder),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--rows", type=int, default=4_000_000, help="rows of each file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), 50_000 if options.quick else options.rows, 1 if options.quick else 3)


if __name__ == "__main__":
    main()
