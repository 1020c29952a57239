"""Clicks a second and memory of counting the features of a large log: by entity and in pieces, beside one pass.

    uv run --group dev python -m benchmarks.bench_offline [--quick] [--clicks 10000000] [--workers 2] [--parts 16]

One JSON line a figure, each measured in a process of its own. The log is a simulated day, each of whose clicks is there
many times, as clicks of other visitors from other addresses; making it is not timed. One pass (`Featuriser`) reads the
log some clicks at a time and writes nothing; the other (`offline.recording`) writes a history. The digests of the
features of both are compared.

Memory is the largest that the process and its workers held for themselves together (`RssAnon`, looked at ten times a
second). Processor seconds are those of all processes, and tell more than the others on a machine with other work.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import polars as pl

from benchmarks.bench_retrain import copied
from benchmarks.workloads import emit
from onlineguard.slidr.history.layout import ROWS
from onlineguard.slidr.simulation.simulator import Simulation
from onlineguard.slidr.simulation.traffic import Traffic

BASE = 500_000  # simulated clicks, which are then copied
CHILD = """
import hashlib, json, os, resource, sys, threading, time
from pathlib import Path
from onlineguard.slidr.features import Featuriser
from onlineguard.slidr.history.reading import History, features_of
from onlineguard.slidr.features import NAMES
from onlineguard.slidr.offline.log import ParquetLog
from onlineguard.slidr.offline.recording import record

def held():
    workers = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    total = 0
    for process in ("self", *workers):
        try:
            total += int(Path(f"/proc/{process}/status").read_text().split("RssAnon:")[1].split()[0])
        except (OSError, IndexError):
            pass  # it has ended
    return total / 2**10

def processor():
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime

def look():
    global most
    while not ended.wait(0.1):
        most = max(most, held())

if __name__ == "__main__":
    path, out, workers, parts, piece = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    log, digest = ParquetLog.of(Path(path)), hashlib.sha256()
    most, ended = 0.0, threading.Event()
    threading.Thread(target=look, daemon=True).start()
    begun, used = time.monotonic(), processor()
    if workers:
        record(log, out, workers=workers, parts=parts, piece=piece)
    else:
        featuriser = Featuriser()
        for block in log.blocks():
            digest.update(featuriser.transform(log.read(block)).tobytes())
    seconds, used = time.monotonic() - begun, processor() - used
    ended.set()
    if workers:
        for frame in History(out).clicks(columns=NAMES):
            digest.update(features_of(frame).tobytes())
    n = sum(log.rows)
    print(json.dumps({"clicks": n, "seconds": round(seconds, 1), "cpu_seconds": round(used, 1),
                      "clicks_per_s": round(n / seconds), "clicks_per_cpu_s": round(n / used),
                      "peak_mb": round(most), "digest": digest.hexdigest()[:16]}))
"""


def day(path: Path, clicks: int) -> None:
    """Write a day of about so many clicks, in order of time."""
    base = min(BASE, clicks)
    simulated = next(iter(Simulation(Traffic(clicks=base, days=1, start=date(2026, 3, 2)), 1).days()))
    whole = pl.concat([copied(simulated, number) for number in range(clicks // base)])
    whole.sort("ts", maintain_order=True).write_parquet(path, row_group_size=ROWS)


def measured(path: Path, out: Path, workers: int, parts: int, piece: int) -> dict[str, object]:
    """What the child says; workers: 0 for one pass."""
    arguments = [str(path), str(out), *map(str, (workers, parts, piece))]
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:  # workers import it: it cannot be an argument
        script.write(CHILD)
        script.flush()
        ran = subprocess.run([sys.executable, script.name, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ran.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--clicks", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--parts", type=int, default=16, help="partitions of each kind of entity")
    parser.add_argument("--piece", type=int, default=20, help="blocks of 262,144 clicks that are done together")
    asked = parser.parse_args()
    clicks, workers, parts = (20_000, 1, 2) if asked.quick else (asked.clicks, asked.workers, asked.parts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.parquet"
        subprocess.run([sys.executable, "-c", _MAKE, str(path), str(clicks)], check=True)  # its memory is given back
        whole = measured(path, Path(folder) / "one", 0, parts, asked.piece)
        emit(bench="offline", figure="one pass", **whole)
        divided = measured(path, Path(folder) / "history", workers, parts, asked.piece)
        emit(bench="offline", figure="by entity", workers=workers, parts=parts, piece=asked.piece, **divided)
    if whole["digest"] != divided["digest"]:
        raise SystemExit("the features differ")


_MAKE = """
import sys
from pathlib import Path
from benchmarks.bench_offline import day
day(Path(sys.argv[1]), int(sys.argv[2]))
"""


if __name__ == "__main__":
    main()
