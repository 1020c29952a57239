"""The service for some minutes under a steady load: does its memory grow, does its tail move?

    uv run --group dev python -m benchmarks.soak_service [--minutes 60] [--window 60] [--rate 1000] [--durability group]

Starts `onlineguard serve` with counters in the process and snapshots every minute, sends clicks at a fixed rate from
another process (`load`) window by window, and prints one JSON line a window: latency from when each request was due,
resident memory, and bytes of the journal and snapshots. The last line says by how much memory grew after the first
window, and in the second half of the run, a click, the worst window's tail, and how many answers were none: they are
quick, so with any the tail is better than it was. Between windows it is quiet for as long as it takes to make the next
clicks. The memory is that of the process, without the one that writes the history and without the fork that packs a
snapshot. Entities and answers are kept for a day and for the last 100,000, so memory has to grow with new users and
clicks until then.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_service import Bodies, free_port, load, percentiles, running, serve
from benchmarks.workloads import emit

CONNECTIONS = 32


def resident(pid: int) -> float:
    """Megabytes of memory that the process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * 4_096 / 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--window", type=float, default=30.0, help="seconds of which each line tells")
    parser.add_argument("--rate", type=float, default=300.0, help="clicks a second, one a request")
    parser.add_argument("--durability", default="group", choices=("async", "group", "sync"))
    options = parser.parse_args()
    bodies = Bodies()
    windows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        with running(serve(folder, port, options), folder, f"http://127.0.0.1:{port}/readyz") as process:
            path = folder / "bodies.ndjson"
            end = time.monotonic() + 60.0 * options.minutes
            for number in itertools.count():
                if time.monotonic() > end:
                    break
                bodies.write(path, round(options.rate * options.window), 1)
                run = load(port, path, options.rate, CONNECTIONS)
                journal = sum(file.stat().st_size for file in (folder / "state" / "journal").iterdir())
                figures = {k: v for k, v in percentiles([run]).items() if not k.endswith("range_ms")}
                figures["refused"] = len(run["latencies"]) - run["statuses"].get("200", 0)
                windows.append({**figures, "rss_mb": resident(process.pid), "journal_mb": round(journal / 1e6, 1)})
                emit(bench="soak", window=number, clicks=len(run["latencies"]), **windows[-1])
    clicks = options.rate * options.window * (len(windows) - 1)
    grown = windows[-1]["rss_mb"] - windows[0]["rss_mb"]
    emit(
        bench="soak",
        windows=len(windows),
        rss_grown_mb=round(grown, 1),
        rss_grown_later_mb=round(windows[-1]["rss_mb"] - windows[len(windows) // 2]["rss_mb"], 1),
        bytes_a_click=round(1e6 * grown / clicks) if clicks else None,
        refused=sum(window["refused"] for window in windows),
        worst_p999_ms=max(window["p999_ms"] for window in windows),
    )


if __name__ == "__main__":
    main()
