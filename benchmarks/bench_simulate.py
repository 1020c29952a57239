"""Simulated clicks a second of processor time, to Parquet, and the memory that takes.

    uv run --group dev python -m benchmarks.bench_simulate [--quick]

One JSON line a size, each measured in a process of its own. `clicks_per_cpu_s` counts the time of all threads and of
everything: people, robots, orders, all three files; imports are apart. 500,000 are to be reached. `plain_write` beside
it is only the writing of the same clicks, made beforehand, by one call of polars.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.workloads import emit
from onlineguard.slidr.simulation.simulator import write_traffic
from onlineguard.slidr.simulation.traffic import Traffic

SIZES = (1_000_000, 5_000_000, 20_000_000)
RUNS = 3
READ_BACK = 5_000_000  # clicks at most that are held in memory at once; more are simulated once only


def measure(clicks: int) -> dict[str, float]:
    """One simulation of two weeks, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        write_traffic(folder, Traffic(clicks=3_000, days=14), 0)
        wall, cpu = time.perf_counter(), time.process_time()
        tally = write_traffic(folder, Traffic(clicks=clicks, days=14), 0)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
        path = Path(folder) / "clicks.parquet"
        figures = {
            "clicks": tally.clicks,
            "clicks_per_cpu_s": round(tally.clicks / cpu),
            "clicks_per_s": round(tally.clicks / wall),
            "peak_memory_gb": round(memory, 2),
            "bytes_a_click": round(path.stat().st_size / tally.clicks, 1),
        }
        if clicks <= READ_BACK:
            frame = pl.read_parquet(path)
            cpu = time.process_time()
            frame.write_parquet(path, compression="zstd", compression_level=1)
            figures["plain_write_per_cpu_s"] = round(tally.clicks / (time.process_time() - cpu))
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--one", type=int, metavar="CLICKS", help="one size, in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    emit(figure="machine", processor=platform.processor() or platform.machine(), python=platform.python_version())
    for size in (100_000,) if options.quick else SIZES:
        command = [sys.executable, "-m", "benchmarks.bench_simulate", "--one", str(size)]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(1 if options.quick or size > READ_BACK else RUNS)
        ]
        runs.sort(key=lambda run: run["clicks_per_cpu_s"])
        spread = [runs[0]["clicks_per_cpu_s"], runs[-1]["clicks_per_cpu_s"]]
        emit(figure="simulated clicks to Parquet", **runs[len(runs) // 2], lowest_highest=spread, to_reach=500_000)


if __name__ == "__main__":
    main()
