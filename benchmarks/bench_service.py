"""The service under load: latency at fixed rates, clicks a second in batches, and the most it takes; beside a peer.

    uv run --group dev python -m benchmarks.bench_service [--quick] [--seconds 20] [--repeats 3] [--durability group]

Starts `onlineguard serve`, with counters in this process and then in a redis-server of its own, sends clicks to
/v1/clicks from another process (`load`: open loop, counted from when each request was due) and prints one JSON line a
figure: milliseconds at the 50th, 99th and 99.9th percentile and at most, the median of the repeats and their range.
Every request goes through features, network, engine and the journal. So it does while the model is switched and while
a candidate is on trial; there it is also told how many requests failed or had answers of two models. The peer
(`peer_service`) does the job the usual way, over the same Redis, without a journal. Server, Redis and load share the
machine's cores. With `--only busy` a server that does nothing but take processor time shows what a queue alone does.
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.workloads import emit
from onlineguard.records.click import Click
from onlineguard.slidr.model import load_model, save_model
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic

RATES = (500, 1_000, 2_000)
BATCH = 64
BUSY = (0.0, 0.2, 0.4, 0.5)  # milliseconds that a request takes of a server that does nothing else
LARGE = 1_024  # clicks of each of the requests beside which single ones are measured, one such under way at any time
CONNECTIONS = 32
STARTS_IN = 180.0  # seconds, a model of simulated clicks included
FIELDS = [name for name in Click.__struct_fields__ if name not in ("purchase_ts", "rfm")]


class Bodies:
    """Simulated clicks as JSON, no id twice."""

    def __init__(self) -> None:
        frame = simulate(Traffic(clicks=60_000, days=1), 1).clicks.select(FIELDS)
        self._rows = frame.to_dicts()
        self._number = itertools.count()

    def write(self, path: Path, n: int, batch: int) -> None:
        """n bodies, one a line, of one click each, or of an array of so many."""
        encode = msgspec.json.Encoder().encode
        with path.open("wb") as file:
            for _ in range(n):
                clicks = [self._next() for _ in range(batch)]
                file.write(encode(clicks if batch > 1 else clicks[0]) + b"\n")

    def _next(self) -> dict[str, Any]:
        number = next(self._number)
        turn, at = divmod(number, len(self._rows))
        row = self._rows[at]
        return {**row, "click_id": f"c{number}", "ts": row["ts"] + turn * 86_400_000}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], folder: Path, ready: str | None) -> Generator[subprocess.Popen[bytes]]:
    """A process, once `ready` answers 200."""
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + STARTS_IN
        while ready is not None:
            try:
                with urllib.request.urlopen(ready, timeout=2):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit(f"{' '.join(command)} did not start:\n{(folder / 'log.txt').read_text()[-2_000:]}")
                time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def loading(
    port: int, bodies: Path, rate: float | None, connections: int, authority: str | None = None
) -> subprocess.Popen[str]:
    """A load that has begun; `loaded` waits for its end. `authority`: it speaks TLS, see `Connection`."""
    task = {"port": port, "path": "/v1/clicks", "rate": rate, "connections": connections, "authority": authority}
    task |= {"bodies": str(bodies), "result": str(bodies.with_suffix(".json"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load"], text=True, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(task) + "\n")
    process.stdin.close()
    return process


def load(port: int, bodies: Path, rate: float | None, connections: int, authority: str | None = None) -> dict[str, Any]:
    return loaded(loading(port, bodies, rate, connections, authority), bodies)


def loaded(process: subprocess.Popen[str], bodies: Path) -> dict[str, Any]:
    told = bodies.with_suffix(".json")
    assert process.stderr is not None
    errors = process.stderr.read()
    if process.wait():
        sys.exit(errors)
    result: dict[str, Any] = json.loads(told.read_text())
    if set(result["statuses"]) != {"200"}:
        print(f"beware: statuses {result['statuses']}", file=sys.stderr)
    return result


def percentiles(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Milliseconds: medians over the runs, and the range of the 99.9th percentile."""
    each = np.array([np.quantile(run["latencies"], [0.5, 0.99, 0.999, 1.0]) * 1_000.0 for run in runs])
    p50, p99, p999, most = np.median(each, axis=0).round(2).tolist()
    return {
        "p50_ms": p50,
        "p99_ms": p99,
        "p999_ms": p999,
        "max_ms": most,
        "p999_range_ms": [round(float(each[:, 2].min()), 2), round(float(each[:, 2].max()), 2)],
    }


def measure(name: str, port: int, folder: Path, bodies: Bodies, options: argparse.Namespace) -> dict[str, float]:
    """All figures of one running service; returns those that ratios are made of."""
    path = folder / "bodies.ndjson"
    bodies.write(path, 2_000 if not options.quick else 200, 1)
    load(port, path, None, 4)  # warm: the tables that grow with the first entities
    reached: dict[str, float] = {}
    for rate in RATES[: 1 if options.quick else None]:
        runs: list[dict[str, Any]] = []
        for _ in range(options.repeats):
            bodies.write(path, round(rate * options.seconds), 1)
            runs.append(load(port, path, float(rate), CONNECTIONS))
        figures = percentiles(runs)
        emit(bench="service", store=name, requests_per_s=rate, clicks_a_request=1, **figures)
        reached[f"p999 at {rate}/s"] = figures["p999_ms"]
    for batch, connections in ((1, 8), (BATCH, 8)):
        speeds: list[float] = []
        runs = []
        for _ in range(options.repeats):
            n = round((3_000 if batch == 1 else 400) * min(options.seconds, 10.0) / 5.0)
            bodies.write(path, max(n, 20), batch)
            runs.append(load(port, path, None, connections))
            speeds.append(len(runs[-1]["latencies"]) * batch / runs[-1]["seconds"])
        emit(
            bench="service",
            store=name,
            closed_loop=connections,
            clicks_a_request=batch,
            clicks_per_s=round(statistics.median(speeds)),
            slowest=round(min(speeds)),
            fastest=round(max(speeds)),
            **percentiles(runs),
        )
        reached[f"clicks/s by {batch}"] = statistics.median(speeds)
    rate, runs, large = RATES[0], [], folder / "large.ndjson"
    for _ in range(options.repeats):
        bodies.write(path, round(rate * options.seconds), 1)
        bodies.write(large, round(30 * options.seconds), LARGE)  # more than it gets done meanwhile
        batches = loading(port, large, None, 1)
        time.sleep(1.0)  # until it has read them
        runs.append(load(port, path, float(rate), CONNECTIONS))
        batches.kill()
        batches.wait()
    figures = percentiles(runs)
    emit(bench="service", store=name, requests_per_s=rate, clicks_a_request=1, beside_batches_of=LARGE, **figures)
    reached[f"p999 at {rate}/s beside batches"] = figures["p999_ms"]
    return reached


def measure_busy(folder: Path, bodies: Bodies, options: argparse.Namespace) -> None:
    """The tail of servers that only take time."""
    path, rate = folder / "bodies.ndjson", RATES[1]
    for each in BUSY[: 2 if options.quick else None]:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.busy_service", str(port), str(each)]
        with running(command, folder, f"http://127.0.0.1:{port}/readyz"):
            runs: list[dict[str, Any]] = []
            for _ in range(options.repeats):
                bodies.write(path, round(rate * options.seconds), 1)
                runs.append(load(port, path, float(rate), CONNECTIONS))
        emit(bench="service", store="none", busy_ms=each, requests_per_s=rate, **percentiles(runs))


def measure_switches(name: str, port: int, folder: Path, bodies: Bodies, options: argparse.Namespace) -> None:
    """Single clicks at a rate, alone, while the model is switched to and fro, and while a candidate is on trial.

    Beside them come requests in parts, each of which must have one model.
    """
    live = next(each for each in (folder / "state" / "models").iterdir() if not each.name.startswith("."))
    model = load_model(live)
    assert model.thresholds is not None
    calibration = model.thresholds.calibration
    raised = replace(calibration, thresholds=calibration.thresholds + 0.01)
    save_model(folder / "other", replace(model, thresholds=replace(model.thresholds, calibration=raised)))
    path, rate, large = folder / "bodies.ndjson", float(RATES[0]), folder / "large.ndjson"
    for doing in ("nothing", "switches", "trial"):
        runs: list[dict[str, Any]] = []
        changes = mixed = failed = 0
        for _ in range(options.repeats):
            bodies.write(path, round(rate * options.seconds), 1)
            bodies.write(large, 2 + round(2 * options.seconds), 4 * BATCH)
            if doing == "trial":
                post(port, "/v1/trial", json.dumps({"folder": str(folder / "other"), "share": 0.5}).encode())
            under_way = loading(port, path, rate, CONNECTIONS)
            with ThreadPoolExecutor(1) as beside:
                for number, body in enumerate(large.read_bytes().splitlines()):
                    other = folder_of((folder / "other", live)[number % 2])
                    changing = beside.submit(post, port, "/v1/model", other) if doing == "switches" else None
                    versions = {answer["model_version"] for answer in post(port, "/v1/clicks", body)}
                    mixed += doing != "trial" and len(versions) > 1
                    if changing is not None:
                        changing.result()
                        changes += 1
                    time.sleep(0.3)
            runs.append(loaded(under_way, path))
            failed += sum(n for status, n in runs[-1]["statuses"].items() if status != "200")
            if doing == "switches":
                post(port, "/v1/model", folder_of(live))
            if doing == "trial":
                post(port, "/v1/trial", None, "DELETE")
        told = {"beside": doing, "changes": changes, "failed": failed, "answers_of_two_models": mixed}
        emit(bench="service", store=name, requests_per_s=rate, clicks_a_request=1, **told, **percentiles(runs))


def folder_of(model: Path) -> bytes:
    return json.dumps({"folder": str(model)}).encode()


def post(port: int, path: str, body: bytes | None, method: str = "POST") -> Any:
    """The answer to a request; raises where it is refused."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def serve(folder: Path, port: int, options: argparse.Namespace, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "onlineguard", "serve", "--port", str(port), "--state", str(folder / "state")),
        *("--durability", options.durability, *more),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few requests, to see that it runs")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run at a fixed rate")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--durability", default="group", choices=("async", "group", "sync"))
    parser.add_argument("--only", default="process,redis,peer", help="which of these, and busy")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.repeats = 1.0, 1
    emit(bench="service", machine=platform.processor() or platform.machine(), cores=os.cpu_count())
    bodies = Bodies()
    only = options.only.split(",")
    reached: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model: tuple[str, ...] = ()
        if "busy" in only:
            measure_busy(folder, bodies, options)
        if "process" in only:
            port = free_port()
            with running(serve(folder, port, options), folder, f"http://127.0.0.1:{port}/readyz"):
                reached["process"] = measure("process", port, folder, bodies, options)
                measure_switches("process", port, folder, bodies, options)
            model = ("--model", str(next((folder / "state" / "models").iterdir())))
        if shutil.which("redis-server") is None:
            print("redis-server is not on PATH: figures over Redis are left out", file=sys.stderr)
            only = ["process"]
        redis_port = free_port()
        command = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", name]
        if {"redis", "peer"} & set(only):
            with running(command, folder, None):
                time.sleep(0.5)
                url = f"redis://127.0.0.1:{redis_port}"
                if "redis" in only:
                    port, state = free_port(), folder / "redis"
                    state.mkdir()
                    command = serve(state, port, options, "--redis", url, *model)
                    with running(command, folder, f"http://127.0.0.1:{port}/readyz"):
                        reached["redis"] = measure("redis", port, folder, bodies, options)
                if "peer" in only:
                    port = free_port()
                    command = [sys.executable, "-m", "benchmarks.peer_service", str(port), url]
                    with running(command, folder, f"http://127.0.0.1:{port}/readyz"):
                        reached["peer"] = measure("peer", port, folder, bodies, options)
    if "peer" in reached:
        for store in ("process", "redis"):
            for figure, value in reached.get(store, {}).items():
                theirs = reached["peer"][figure]
                ratio = value / theirs if "clicks/s" in figure else theirs / value
                emit(bench="service", ratio=f"{figure}, {store} against the peer", times=round(ratio, 2))


if __name__ == "__main__":
    main()
