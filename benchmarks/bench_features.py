"""Clicks a second through the counters and features, in this process and over Redis, beside plain Python.

    uv run --group dev python -m benchmarks.bench_features [--quick]

The peer is what a programmer would write: for each entity and window a deque of its times, for each ip a dict of when
its users and sessions were last seen, the oldest first, and for each ad a deque of its visits. Its windows are exact
times, not buckets, and it knows no largest hours, late clicks, duplicates or wrong clocks. One JSON line a figure; both
sides of every ratio are measured in the same run, compilation apart. Redis is a redis-server that the benchmark starts
on a free port; without one on PATH its figures are left out.
"""

import argparse
import gc
import itertools
import multiprocessing
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import redis

from benchmarks.workloads import emit
from onlineguard.slidr.clicks.clicks import SCHEMA, Click, prefix
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.counting.redis_store import RedisStore
from onlineguard.slidr.counting.windows import CAP
from onlineguard.slidr.features import Featuriser

WINDOWS_MS = (60_000, 300_000, 3_600_000, 86_400_000)


def clicks(n: int, seed: int = 0) -> pl.DataFrame:
    """A day's clicks: users by Zipf's law among n / 4, sessions of some five clicks, ips shared by a few users each,
    one in ten clicks from one of 20 gateways, and ads by Zipf's law among n / 100."""
    rng = np.random.default_rng(seed)
    users = np.minimum(rng.zipf(1.4, n), n // 4)
    homes = users * 2_654_435_761 % (n // 10)
    ips = np.where(rng.random(n) < 0.1, n // 10 + rng.integers(0, 20, n), homes)
    ts = 1_700_000_000_000 + np.sort(rng.integers(0, 86_400_000, n))
    columns: dict[str, Any] = {
        "click_id": [f"click-{seed}-{i}" for i in range(n)],
        "ts": ts,
        "user_id": [None if user % 7 == 0 else f"user-{user}" for user in users.tolist()],
        "session_id": [f"session-{s}" for s in rng.integers(0, n // 5, n).tolist()],
        "ip": [f"10.{ip >> 16 & 255}.{ip >> 8 & 255}.{ip & 255}" for ip in ips.tolist()],
        "marketplace": rng.choice(["US", "DE", "JP"], n).tolist(),
        "logged_in": (users % 7 != 0).tolist(),
        "ad_id": [f"ad-{ad}" for ad in np.minimum(rng.zipf(1.2, n), max(1, n // 100)).tolist()],
    }
    fixed = {"user_agent": "agent", "device": "mobile", "purchase_ts": None, "rfm": None}
    rest = [pl.lit(value, dtype=SCHEMA[field]).alias(field) for field, value in fixed.items()]
    return pl.DataFrame(columns, schema_overrides={"ts": pl.Int64}).with_columns(rest).select(list(SCHEMA))


def keys_of(frame: pl.DataFrame) -> ClickKeys:
    ids, *columns = (
        frame[name].to_list() for name in ("click_id", "user_id", "session_id", "ip", "ad_id", "logged_in")
    )
    return ClickKeys(ids, frame["ts"].to_numpy().astype(np.int64), *columns)


class PlainCounters:
    """The peer: dicts of deques."""

    def __init__(self) -> None:
        self.times: dict[tuple[str, str], list[deque[int]]] = {}
        self.members: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        self.visits: dict[str, deque[tuple[int, bool, bool]]] = defaultdict(deque)
        self.visitors: dict[str, list[int]] = defaultdict(lambda: [0, 0])  # of an ad: signed in, unknown

    def count(self, keys: ClickKeys) -> list[list[int]]:
        return [self.one(*click) for click in zip(keys.ts.tolist(), *keys[2:], strict=True)]

    def one(self, ts: int, user: str | None, session: str | None, ip: str, ad: str, signed_in: bool) -> list[int]:
        numbers: list[int] = []
        for kind, name in (("user", user), ("session", session), ("ip", ip), ("prefix", prefix(ip))):
            if name is None:
                numbers += [0, 0, 0, 0, WINDOWS_MS[-1]]
                continue
            windows = self.times.get((kind, name))
            if windows is None:
                windows = self.times[kind, name] = [deque() for _ in WINDOWS_MS]
            since = ts - windows[-1][-1] if windows[-1] else WINDOWS_MS[-1]
            for times, length in zip(windows, WINDOWS_MS, strict=True):
                times.append(ts)
                while times[0] <= ts - length:
                    times.popleft()
                numbers.append(len(times))
            numbers.append(since)
        for kind, name in (("user", user), ("session", session)):
            members = self.members[kind, ip]
            if name is not None:
                members.pop(name, None)
                members[name] = ts
            while members and members[oldest := next(iter(members))] <= ts - WINDOWS_MS[3]:
                del members[oldest]
            recent = itertools.takewhile(lambda last: last > ts - WINDOWS_MS[2], reversed(members.values()))
            numbers += [sum(1 for _ in itertools.islice(recent, CAP)), min(len(members), CAP)]
        visits, visitors = self.visits[ad], self.visitors[ad]
        visits.append((ts, signed_in, user is None))
        visitors[0] += signed_in
        visitors[1] += user is None
        while visits[0][0] <= ts - WINDOWS_MS[3]:
            _, was_signed_in, was_unknown = visits.popleft()
            visitors[0] -= was_signed_in
            visitors[1] -= was_unknown
        return [*numbers, len(visits), *visitors]


def per_second(run: Callable[[], Any], n: int) -> float:
    gc.collect()
    start = time.perf_counter()
    run()
    return n / (time.perf_counter() - start)


def spread(rates: list[float]) -> dict[str, int]:
    return {
        "clicks_per_s": round(statistics.median(rates)),
        "slowest": round(min(rates)),
        "fastest": round(max(rates)),
    }


def batches(frame: pl.DataFrame, size: int, count: Callable[[ClickKeys], Any]) -> Callable[[], None]:
    keys = keys_of(frame)
    cuts = [keys.part(i, i + size) for i in range(0, len(frame), size)]

    def run() -> None:
        for cut in cuts:
            count(cut)

    return run


def in_process(quick: bool) -> None:
    """All in one batch against the peer: the counters alone, and the features from a frame; runs interleaved."""
    n, repeats = (20_000, 2) if quick else (200_000, 3)
    frame = clicks(n)
    batches(frame[:5_000], 5_000, ProcessStore().count)()  # compiles
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        rates["counters"].append(per_second(batches(frame, n, ProcessStore().count), n))
        rates["features"].append(per_second(lambda: Featuriser().transform(frame), n))
        rates["plain"].append(per_second(batches(frame, n, PlainCounters().count), n))
    theirs = statistics.median(rates["plain"])
    for name in ("counters", "features"):
        ratio = round(statistics.median(rates[name]) / theirs, 2)
        emit(figure=f"{name} in one batch / dicts of deques", ratio=ratio, **spread(rates[name]))
    emit(figure="dicts of deques", **spread(rates["plain"]))
    for size in (64, 2_048):
        part = frame[: size * 20]
        rounds = [per_second(batches(part, size, ProcessStore().count), len(part)) for _ in range(repeats)]
        emit(figure="counters in batches", batch=size, **spread(rounds))


def one_at_a_time(quick: bool) -> None:
    """Microseconds of one click: its counters, and all its features."""
    n = 1_000 if quick else 10_000
    frame = clicks(n)
    keys = keys_of(frame)
    singles = [keys.part(i, i + 1) for i in range(n)]
    records = [Click(**row) for row in frame.iter_rows(named=True)]
    store, featuriser, plain = ProcessStore(), Featuriser(), PlainCounters()
    works: list[tuple[str, Callable[[Any], Any], list[Any]]] = [
        ("counters", store.count, singles),
        ("features", featuriser.transform_one, records),
        ("dicts of deques", plain.count, singles),
    ]
    for name, work, clicks_ in works:
        times: list[float] = []
        for click in clicks_:
            start = time.perf_counter()
            work(click)
            times.append(time.perf_counter() - start)
        median, late = np.quantile(times[100:], [0.5, 0.99]) * 1e6
        emit(figure="one click at a time", work=name, median_us=round(median, 1), p99_us=round(late, 1))


@contextmanager
def redis_server() -> Generator[redis.Redis | None]:
    """A client of a server of our own, None where there is no redis-server."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as client:
                for _ in range(100):
                    try:
                        client.ping()
                        break
                    except redis.ConnectionError:
                        time.sleep(0.05)
                yield client
        finally:
            process.terminate()
            process.wait(10)


def over_redis(quick: bool) -> None:
    """Batches over a socket of this machine, and what an entity takes there."""
    with redis_server() as client:
        if client is None:
            emit(figure="counters over Redis", skipped="no redis-server on PATH")
            return
        for size in (1, 64, 256):
            n = min(20_000, size * (20 if quick else 200))
            frame = clicks(n)
            store = RedisStore(client, f"bench{size}")
            emit(figure="counters over Redis", batch=size, **spread([per_second(batches(frame, size, store.count), n)]))
        sizes: dict[str, list[int]] = defaultdict(list)
        for key in client.scan_iter("{bench256:*", count=1_000):
            kind = key.split(b":")[1].rstrip(b"0123456789}").decode()
            sizes["user or session at an ip" if key[-10:-8] in (b":u", b":s") else kind].append(
                client.memory_usage(key) or 0
            )
        means = {kind: round(statistics.mean(of_kind)) for kind, of_kind in sizes.items()}
        emit(figure="bytes a key in Redis", mean=means, largest={kind: max(of_kind) for kind, of_kind in sizes.items()})


STORES: dict[str, Callable[[], Any]] = {"counters": ProcessStore, "dicts of deques": PlainCounters}


def memory(quick: bool) -> None:
    """Bytes an entity in this process: its row, its key, and what both cost besides; ids of clicks included."""
    n = 20_000 if quick else 200_000
    for name in STORES:
        # in a process of its own, whose memory holds nothing that was used before
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            entities, taken = pool.submit(filled, name, n).result()
        emit(figure="bytes an entity", store=name, clicks=n, entities=entities, bytes=round(taken / entities))


def filled(name: str, n: int) -> tuple[int, int]:
    """The entities of a store that has counted n clicks, and by how many bytes the process grew."""
    keys = keys_of(clicks(n))
    STORES[name]().count(keys.part(0, 2_048))  # compiles
    gc.collect()
    before = resident()
    store = STORES[name]()
    store.count(keys)
    return len(store) if isinstance(store, ProcessStore) else len(store.times), resident() - before


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    quick = parser.parse_args().quick
    emit(figure="machine", processor=platform.processor() or platform.machine(), python=platform.python_version())
    in_process(quick)
    one_at_a_time(quick)
    over_redis(quick)
    memory(quick)


if __name__ == "__main__":
    main()
