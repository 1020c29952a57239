"""How long /v1/score takes: of a replica that answers from snapshots, and of the owner that learns meanwhile.

    uv run --group dev python -m benchmarks.bench_replicas --rate 2000 --asks 1000

Both are asked for one event at a time by one client, while RATE events a second are learned: by a worker of shards over
Redis Streams, whose snapshots the replica reads, and by the owner itself, through /v1/update in batches of 100. The
snapshots' age is read from the header of every answer.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx2
import msgspec
import numpy as np
from onlineguard_service.partitions.redis_writer import RedisWriter

from onlineguard.wire.placement import key_of
from onlineguard.wire.requests import Event

SLICES, BATCH = 2_000, 100
JSON = {"content-type": "application/json"}
EVENTS = ["--n-features", "2", "--detector", "marginal", "--max-slices", "10000"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=2_000, help="events a second that are learned")
    parser.add_argument("--asks", type=int, default=1_000, help="requests to time")
    parser.add_argument("--quick", action="store_true", help="a few requests, to see that it runs")
    asked = parser.parse_args()
    if asked.quick:
        asked.rate, asked.asks = 200, 20
    with ExitStack() as ending, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis = f"redis://127.0.0.1:{_redis(ending, folder)}/0"
        log, snapshots = f"{redis}?stream=events&partitions=4", str(folder / "snapshots")
        worker = ["worker", "--from", log, "--snapshots", snapshots, "--snapshot-every", "10", *EVENTS]
        _begin(ending, folder, "worker", worker)
        writer = RedisWriter(redis, "events", partitions=4)
        port = _free()
        replica = ["serve", "--replica-of", snapshots, "--port", str(port), "--state", str(folder / "replica")]
        _begin(ending, folder, "replica", replica)
        _report("replica", port, asked.rate, asked.asks, lambda events: _append(writer, events))
        writer.close()
    with ExitStack() as ending, tempfile.TemporaryDirectory() as name:
        port = _free()
        owner = ["serve", "--port", str(port), "--state", name + "/owner", "--history", "off", *EVENTS]
        _begin(ending, Path(name), "owner", owner)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            learn = lambda events: _post(client, "/v1/update", events)  # noqa: E731
            _report("owner", port, asked.rate, asked.asks, learn)


def _report(name: str, port: int, rate: int, asks: int, learn: Callable[[list[Event]], object]) -> None:
    url = f"http://127.0.0.1:{port}"
    with httpx2.Client(base_url=url, timeout=30) as client:
        _until(lambda: _ready(client))
        _learned(learn, rate, 2.0)
        stop = threading.Event()
        learning = threading.Thread(target=_learned, args=(learn, rate, 1e9, stop))
        learning.start()
        seconds, ages = [], []
        try:
            for event in _events(asks, 7):
                began = time.perf_counter()
                answer = _post(client, "/v1/score", [event])
                seconds.append(time.perf_counter() - began)
                ages.append(float(answer.headers.get("age", "0")))
                time.sleep(0.01)
        finally:
            stop.set()
            learning.join()
        p50, p99, p999 = 1e3 * np.quantile(seconds, [0.5, 0.99, 0.999])
        told = f"{name:8} /v1/score p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms"
        print(f"{told}; age of the snapshot p50 {np.median(ages):.0f} s, most {max(ages):.0f} s", flush=True)


def _ready(client: httpx2.Client) -> bool:
    try:
        return client.post("/v1/score", content=b'[{"slice": "0", "x": [1, 2]}]', headers=JSON).status_code == 200
    except httpx2.TransportError:
        return False


def _learned(
    learn: Callable[[list[Event]], object], rate: int, seconds: float, stop: threading.Event | None = None
) -> None:
    """Send events at a steady rate."""
    began, n = time.monotonic(), 0
    while time.monotonic() - began < seconds and not (stop and stop.is_set()):
        learn(_events(BATCH, n))
        n += 1
        time.sleep(max(0.0, began + n * BATCH / rate - time.monotonic()))


def _events(n: int, seed: int) -> list[Event]:
    rng = np.random.default_rng(seed)
    slices, X = rng.integers(SLICES, size=n).tolist(), rng.normal(100.0, 5.0, (n, 2)).tolist()
    return [Event(str(slice_), x) for slice_, x in zip(slices, X, strict=True)]


def _append(writer: RedisWriter, events: list[Event]) -> None:
    for event in events:
        writer.write(None, key_of(event), msgspec.json.encode(event))
    writer.flush()


def _post(client: httpx2.Client, path: str, body: list[Event]) -> httpx2.Response:
    return client.post(path, content=msgspec.json.encode(body), headers=JSON).raise_for_status()


def _begin(ending: ExitStack, folder: Path, name: str, words: list[str]) -> None:
    log = ending.enter_context((folder / f"{name}.log").open("w"))
    process = subprocess.Popen([sys.executable, "-m", "onlineguard", *words], stdout=log, stderr=log, env=os.environ)
    ending.callback(process.wait)
    ending.callback(process.terminate)


def _redis(ending: ExitStack, folder: Path) -> int:
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("redis-server is not on PATH")
    port = _free()
    process = subprocess.Popen(
        [binary, "--port", str(port), "--save", "", "--dir", str(folder)], stdout=subprocess.DEVNULL
    )
    ending.callback(process.wait)
    ending.callback(process.terminate)
    return port


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 180.0
    while not holds():
        if time.monotonic() > end:
            raise SystemExit("it was not ready within three minutes")
        time.sleep(0.2)


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
