"""Does the service stay within its memory budget, whatever is sent? Floods of each thing that it keeps.

    uv run --group dev python -m benchmarks.memory_service [--entities 250000] [--slices 100000] [--over 1.5]

Starts `onlineguard serve` with these bounds and everything else at its default, and sends, as fast as one connection
takes it, `over` times as many new ones as it may keep of

    visitors     clicks, each of a user, a session, an address and an ad that nobody has seen
    long names   the same with the longest names that are taken, in characters of four bytes
    slices       events, each of a slice that nobody has seen, with ids
    long slices  the same with the longest names

One JSON line a flood: how many were sent, how many a second, the process's resident memory after it and at its peak
(snapshots being written included, as they are every minute), and how many entities had to go. The last line holds the
peak against the budget of `budget`, whose parts are the table "Memory budget" of docs/service.md.
"""

import argparse
import http.client
import json
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.bench_neighbours import Peak
from benchmarks.bench_service import free_port, running
from benchmarks.workloads import emit

AT_ONCE = 500  # clicks or events in a request
LONGEST = 256
WIDE = "\U0001f600"  # takes four bytes, as do all others of a text that has it
NOW = 1_790_000_000_000


def budget(entities: int, slices: int, remember: int) -> dict[str, float]:
    """Megabytes at most, by what they are for, of events with two features."""
    each = {
        "users, sessions and networks": (3 * 440, entities),
        "addresses": (1_000, entities),
        "ads": (480, entities),
        "users and sessions at addresses": (4 * 130, entities),
        "ids of clicks": (4 * 180, entities),
        "names of the longest": (7 * 250, entities),
        "slices": (2 * 1_300 + 2 * 2_000, slices),
        "answers": (2 * 650 + 4 * 4 * LONGEST, remember),
    }
    held = {name: n * size / 1e6 for name, (size, n) in each.items()}
    rest = {"process": 700, "history that waits": 256, "requests under way": 576, "connections": 256}
    return {**rest, **held, "a snapshot that is written": 0.3 * sum(held.values())}


def visitors(long: bool) -> Iterator[dict[str, Any]]:
    """Clicks of new visitors."""
    for n in count():
        name = f"{n}{WIDE * LONGEST}"[:LONGEST] if long else f"a{n}"
        yield {
            **{"click_id": f"c{name}"[:LONGEST], "user_id": name, "session_id": f"s{name}"[:LONGEST], "ad_id": name},
            **{"ts": NOW + n // 20, "ip": f"{10 + long}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", "user_agent": "u"},
            **{"device": "phone", "marketplace": "US", "logged_in": True},
        }


def events(long: bool) -> Iterator[dict[str, Any]]:
    """Events of new slices."""
    for n in count():
        name = f"{n}{WIDE * 512}"[:512] if long else f"slice {n}"
        yield {
            "slice": name,
            "x": [float(n % 7), float(n % 11)],
            "id": f"{n}{WIDE * LONGEST}"[: LONGEST if long else 9],
        }


def flood(port: int, path: str, items: Iterator[dict[str, Any]], n: int) -> float:
    """Send n of them and return the seconds that it took."""
    connection, began = http.client.HTTPConnection("127.0.0.1", port, timeout=120), time.perf_counter()
    for _ in range(0, n, AT_ONCE):
        body = json.dumps(list(islice(items, AT_ONCE)), ensure_ascii=False).encode()
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            sys.exit(f"{answer.status}: {said[:500].decode()}")
    return time.perf_counter() - began


def evicted(port: int) -> float:
    """What had to go so far, of all kinds."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
    return sum(map(float, re.findall(r"^onlineguard_evicted_total\{.*\} (\S+)$", text, re.MULTILINE)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, default=250_000)
    parser.add_argument("--slices", type=int, default=100_000)
    parser.add_argument("--remember", type=int, default=100_000)
    parser.add_argument("--over", type=float, default=1.5)
    options = parser.parse_args()
    bounds = {"max-entities": options.entities, "max-slices": options.slices, "remember": options.remember}
    floods: list[tuple[str, str, Callable[[bool], Iterator[dict[str, Any]]], bool, int]] = [
        ("visitors", "/v1/clicks", visitors, False, options.entities),
        ("long names", "/v1/clicks", visitors, True, options.entities),
        ("slices", "/v1/update", events, False, options.slices),
        ("long slices", "/v1/update", events, True, options.slices),
    ]
    allowed = budget(options.entities, options.slices, options.remember)
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        command = [sys.executable, "-m", "onlineguard", "serve", "--port", str(port), "--state", str(folder / "state")]
        command += ["--n-features", "2", "--durability", "async"]
        command += [word for setting, value in bounds.items() for word in (f"--{setting}", str(value))]
        with running(command, folder, f"http://127.0.0.1:{port}/readyz") as process:
            most = 0
            for what, path, items, long, bound in floods:
                n = round(options.over * bound)
                with Peak(process.pid) as peak:
                    seconds = flood(port, path, items(long), n)
                after, most = Peak(process.pid).before, max(most, peak.most)
                figures = {"before_mb": peak.before, "after_mb": after, "peak_mb": peak.most, "evicted": evicted(port)}
                emit(bench="memory", flood=what, sent=n, a_second=round(n / seconds), **figures)
    whole = round(sum(allowed.values()))
    emit(bench="memory", budget_mb={part: round(size) for part, size in allowed.items()})
    emit(bench="memory", peak_mb=most, budget_mb=whole, holds=most <= whole)


if __name__ == "__main__":
    main()
