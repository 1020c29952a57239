"""What an open page of the service costs it, and what a report of a long stream weighs.

    uv run python -m benchmarks.bench_page [--quick]

`page_poll`: milliseconds of the processor for the 100 slices that the page asks for every two seconds, of 100,000 held,
by column, and those of a search; without HTTP, the median of 20. `first_cpu_ms` is the first of them: the first that is
sorted by name, or searched, has an index of the names made, in parts between requests.
`report`: bytes of the file, and seconds that it takes to record the stream and to write it, for a million events in 200
slices, of which the command shows 20.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from onlineguard_service.figures import JUDGED, Figures
from onlineguard_service.listing import listed

from benchmarks.workloads import emit
from onlineguard.cli.console import REPORTED
from onlineguard.report import SeriesRecorder, write_report
from onlineguard.wire.requests import Sort

BATCH = 10_000


def held(slices: int) -> Figures:
    """Two events of each slice, with scores of their own."""
    figures, rng = Figures(2 * slices), np.random.default_rng(0)
    for start in range(0, 2 * slices, BATCH):
        names = [f"sensor-{n % slices:06}" for n in range(start, start + BATCH)]
        scores, ts = rng.random(BATCH, np.float32), [0] * BATCH
        figures.add(names, np.full(BATCH, JUDGED), ts, scores, np.ones(BATCH, np.float32), np.zeros((BATCH, 1)))
    return figures


def poll(figures: Figures, sort: Sort, contains: str, repeats: int) -> tuple[float, float]:
    """Milliseconds of the processor, the median, and of the first time."""
    took: list[float] = []
    for _ in range(repeats):
        began = time.process_time()
        asyncio.run(listed({"events": figures}, sort, True, 100, 0, contains))
        took.append(1e3 * (time.process_time() - began))
    return statistics.median(took), took[0]


def report(events: int, slices: int) -> dict[str, float]:
    """A daily swing with noise and one odd event in a thousand, timed by the second."""
    rng, recorder, began = np.random.default_rng(0), SeriesRecorder(), time.perf_counter()
    for start in range(0, events, BATCH):
        at = np.arange(start, start + BATCH)
        noise = rng.normal(size=BATCH) * np.where(rng.random(BATCH) < 1e-3, 20.0, 1.0)
        scores, names = np.abs(noise), [f"host-{n:03}" for n in (at % slices).tolist()]
        values = 50.0 + 10.0 * np.sin(at / 13_750) + noise
        threshold = np.full(BATCH, 5.0)
        recorder.add(names, values, scores, threshold, scores > 5.0, np.exp(-scores), 10**15 + at * 10**6)
    recorded = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_report(Path(folder) / "report.html", recorder.reports(REPORTED), {"Events": events})
        size = (Path(folder) / "report.html").stat().st_size
    return {"bytes": size, "record_s": recorded - began, "write_s": time.perf_counter() - recorded}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    quick = parser.parse_args().quick
    slices, events = (BATCH, 10 * BATCH) if quick else (100_000, 1_000_000)
    figures = held(slices)
    pages: tuple[tuple[Sort, str], ...] = (
        *(("events", ""), ("score", ""), ("drift", ""), ("name", "")),
        *(("name", "9"), ("name", "99"), ("events", "9")),
    )
    for sort, contains in pages:
        usual, first = poll(figures, sort, contains, 3 if quick else 20)
        told = {"cpu_ms": round(usual, 2), "first_cpu_ms": round(first, 2)}
        emit(figure="page_poll", slices=slices, sort=sort, contains=contains, **told)
    emit(figure="report", events=events, slices=200, **{k: round(v, 2) for k, v in report(events, 200).items()})


if __name__ == "__main__":
    main()
