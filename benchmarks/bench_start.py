"""Seconds until `onlineguard serve` is ready: a first start, later ones, and a standby that takes over.

    uv run --group dev python -m benchmarks.bench_start [--quick] [--slices 100000]

"first" has no state and a cache of programs that is empty; it makes a model of simulated clicks, too. "second" has
both, with no slices of events, and then with so many: the median of several starts, and the least and most of them.
"takeover" is a standby of the service with all slices, from the service's kill -9 until the standby's /readyz answers
200. `cpu` is the process's own time, which other work on the machine changes little; `wall` is what somebody waits.
With --quick the cache is the user's, and no service is started again.

Python keeps its bytecode in a temporary folder, whatever the environment says of that: an installed package has it, and
without it a start takes three seconds longer.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from benchmarks.bench_service import free_port, running
from benchmarks.memory_service import events, flood
from benchmarks.workloads import emit
from onlineguard.compilation import VARIABLE

SHORT = 500  # slices with --quick
LOOK_EVERY = 0.005  # seconds


def cpu(pid: int) -> float:
    """Seconds of all threads of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status(port: int) -> tuple[int, str]:
    """What /readyz answers; 0 where nobody does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@contextmanager
def started(folder: Path, name: str, slices: int) -> Generator[int]:
    """The port of a service that is ready; the figures of its start are printed."""
    with ready(folder) as (port, wall, took):
        emit(start=name, slices=slices, wall=round(wall, 2), cpu=round(took, 2))
        yield port


def repeated(folder: Path, name: str, slices: int, times: int) -> None:
    """Start the service again and again, and print the medians."""
    figures: list[tuple[float, float]] = []
    for _ in range(times):
        with ready(folder) as (_, wall, took):
            figures.append((wall, took))
    told = {
        label: {"median": round(statistics.median(each), 2), "least": round(min(each), 2), "most": round(max(each), 2)}
        for label, each in zip(("wall", "cpu"), zip(*figures, strict=True), strict=True)
    }
    emit(start=name, slices=slices, starts=times, **told)


@contextmanager
def ready(folder: Path) -> Generator[tuple[int, float, float]]:
    """The port of a service that is ready, and the seconds that it took, on the wall and of the processor."""
    port = free_port()
    began = time.perf_counter()
    with running([*COMMAND, "--port", str(port), "--state", str(folder / "state")], folder, None) as process:
        while status(port)[0] != 200:
            if process.poll() is not None:
                sys.exit((folder / "log.txt").read_text()[-2_000:])
            time.sleep(LOOK_EVERY)
        yield port, time.perf_counter() - began, cpu(process.pid)


def takeover(folder: Path, slices: int) -> None:
    """Kill a service and wait for its standby."""
    one, other = free_port(), free_port()
    command = [*COMMAND, "--state", str(folder / "state")]
    with running([*command, "--port", str(one)], folder, f"http://127.0.0.1:{one}/readyz") as service:
        with running([*command, "--port", str(other), "--standby", "on"], folder, None):
            while "has applied entry" not in status(other)[1]:
                time.sleep(LOOK_EVERY)
            flood(one, "/v1/update", islice(events(False), 500), 500)
            time.sleep(1.0)  # it has seen the service for longer than that in use
            before = time.perf_counter()
            service.kill()
            service.wait()
            while status(other)[0] != 200:
                time.sleep(LOOK_EVERY)
            emit(start="takeover", slices=slices, wall=round(time.perf_counter() - before, 3))


COMMAND = [sys.executable, "-m", "onlineguard", "serve", "--n-features", "2", "--history", "off"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=100_000)
    parser.add_argument("--starts", type=int, default=5, help="of which the median is taken")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    slices = SHORT if options.quick else options.slices
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.quick:
            os.environ[VARIABLE] = str(folder / "programs")
            os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            with started(folder, "first", 0):
                pass
        with started(folder, "first" if options.quick else "second", 0) as port:
            flood(port, "/v1/update", events(False), slices)
        if not options.quick:
            with started(folder, "second, larger than before", slices):  # what the larger table takes is compiled
                pass
            repeated(folder, "second", slices, options.starts)
        takeover(folder, slices)


if __name__ == "__main__":
    main()
