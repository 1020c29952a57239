"""What an event costs in the examples of Flink and Spark, in a plain loop over the same model, and in the Engine.

    python examples/measure.py                    the loop and the Engine
    python examples/measure.py flink PYTHON       the example, where PYTHON has PyFlink and onlineguard
    python examples/measure.py spark PYTHON       and where it has PySpark

Starting takes much longer than judging, so each job runs over few events and over many, and the difference counts. It
prints events a second of wall time, and events a CPU second of all processes of the job, which depends less on what
else the machine does. Linux only: it reads /proc.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from onlineguard import Detector, Engine, KeyedModel

SIZES = (4_096, 32_768)  # events of the two runs; of Spark, which takes a second a batch, 4 batches and 12
SLICES = 1_000
BATCHES = (64, 512, 4_096)
HERE = Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float

    def rates(self, less: "Spent", events: int) -> str:
        """Events a second of wall time and of CPU time, beyond what a shorter run spent."""
        return f"{events / (self.wall - less.wall):10,.0f} {events / (self.cpu - less.cpu):12,.0f}"


def main() -> None:
    print(f"{'events':12} {'a second':>10} {'a CPU second':>12}")
    if len(sys.argv) == 1:
        print(f"{'plain loop':12} {plain_loop().rates(Spent(0, 0), SIZES[1])}", flush=True)
        for batch in BATCHES:
            print(f"{'Engine':6}{batch:6} {engine(batch).rates(Spent(0, 0), 10 * SIZES[1])}", flush=True)
        return
    name, python = sys.argv[1:]
    for batch in BATCHES:
        sizes = SIZES if name == "flink" else (4 * batch, 12 * batch)
        few, many = (job(name, python, n, batch) for n in sizes)
        print(f"{name:6}{batch:6} {many.rates(few, sizes[1] - sizes[0])}", flush=True)


def events(n: int) -> list[str]:
    """Lines of events of two features."""
    rng = np.random.default_rng(0)
    x, slices = rng.normal([0.5, 12.0], [0.1, 3.0], (n, 2)).tolist(), rng.integers(SLICES, size=n)
    return [json.dumps({"id": i, "slice": f"web-{slices[i]}", "x": x[i]}) for i in range(n)]


def plain_loop() -> Spent:
    """The model alone."""
    keyed, states = KeyedModel(Detector(), 2), {}
    lines = events(SIZES[1])
    wall, cpu = time.perf_counter(), time.process_time()
    for line in lines:
        event = json.loads(line)
        states[event["slice"]], _ = keyed.step(states.get(event["slice"]), event["x"])
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def engine(batch: int) -> Spent:
    """The Engine, given arrays of `batch` events at a time; ten times as many events, as it is quick."""
    rng, guard = np.random.default_rng(0), Engine(2, estimator=Detector())
    x, slices = rng.normal([0.5, 12.0], [0.1, 3.0], (10 * SIZES[1], 2)), rng.integers(SLICES, size=10 * SIZES[1])
    guard.update(slices[:batch], x[:batch])  # compiles
    wall, cpu = time.perf_counter(), time.process_time()
    for at in range(0, len(x), batch):
        guard.update(slices[at : at + batch], x[at : at + batch])
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def job(name: str, python: str, n: int, batch: int) -> Spent:
    """A whole job over n events, a bundle or a file of `batch` of them at a time."""
    with tempfile.TemporaryDirectory() as place:
        folder, lines = Path(place), events(n)
        (folder / "events").mkdir()
        size = n if name == "flink" else batch
        files = [folder / "events" / f"{at:06}.ndjson" for at in range(0, n, size)]
        for number, path in enumerate(files):
            path.write_text("\n".join(lines[number * size : (number + 1) * size]))
            os.utime(path, (1_700_000_000 + number,) * 2)
        program = [python, str(HERE / name / "judge_events.py")]
        if name == "flink":
            program += [str(files[0]), f"{folder / 'out'}", "--checkpoints", f"{folder / 'c'}", "--bundle", f"{batch}"]
        else:
            program += [str(folder / "events"), f"{folder / 'out'}", f"{folder / 'c'}"]
        return spent([*program, "--features", "2"])


def spent(program: list[str]) -> Spent:
    """What a program and all that it starts take, but for the last moment of each process."""
    variables = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PYSPARK_PYTHON": program[0]}
    begun, cpu = time.perf_counter(), dict[int, float]()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            program, env=os.environ | variables, stdout=said, stderr=said, start_new_session=True
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)
                cpu |= cpu_of_session(process.pid)
        finally:
            if cpu_of_session(process.pid):
                os.killpg(process.pid, signal.SIGTERM)
        if process.returncode:
            said.seek(0)
            sys.exit(said.read().decode(errors="replace"))
    return Spent(time.perf_counter() - begun, sum(cpu.values()))


def cpu_of_session(session: int) -> dict[int, float]:
    """CPU seconds of each process of a session."""
    found: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            found[int(path.parent.name)] = (int(fields[11]) + int(fields[12])) / TICK
    return found


if __name__ == "__main__":
    main()
