"""A good client of the service beside one that attacks it: what the other does to its answers, and to the memory.

    uv run --group dev python -m benchmarks.bench_neighbours [--quick] [--seconds 10] [--only pipelining,handshakes]

The good client sends single clicks at Poisson times, 200 a second, each latency counted from when its request was due.
Each attack comes from a process of its own, without a key, as fast as it can, on one connection but for those that say
so, and from another address: the service shares its time among clients. Before every attack the same load is measured
without one. One JSON line an attack:

    quiet_p99_ms, p99_ms   of the good client, in the run before and beside the attack, medians over the repeats
    times                  the latter over the former; to be at most 3
    refused                answers of the good client other than 200, which are quick: with any, `holds` is false
    memory_mb, grown_mb    what the service's process holds at its peak, and by how much more than before the attack

The service has two cores at best, which it shares with both clients: an attacker on a machine of its own would take
none of them, and one that keeps both busy here takes half of what the good client needs. With `--nice 19` it takes only
what the others leave, and so comes closer to one on another machine. Events are judged by the detector "marginal"; the
default one takes several times as long for the events of "scores" and "updates".
"""

import argparse
import gzip
import http.client
import itertools
import json
import os
import re
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_service import CONNECTIONS, Bodies, free_port, load, loaded, loading, running
from benchmarks.load import Connection
from benchmarks.workloads import emit

RATE = 200.0
SLICES = 100_000  # of events, that the reads walk through
MIB = 1 << 20
TIMES = 3.0  # the most that a neighbour may cost
HEAD = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def connected(port: int) -> socket.socket:
    """From an address of its own: the service bounds the connections of each."""
    return socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))


def pipelining(port: int) -> None:
    """Requests without end on one connection, whose answers are never read."""
    requests = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n" * 5_000
    while True:
        with suppress(OSError), connected(port) as connection:
            connection.settimeout(0.5)
            while True:
                connection.sendall(requests)


def reading(path: str, connections: int = 1) -> Callable[[int], None]:
    """One GET after the other on each connection, whose whole answer is read."""
    request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()

    def attack(port: int) -> None:
        waiting, held = selectors.DefaultSelector(), list[Connection]()
        for _ in range(connections):
            held.append(Connection(port, "127.0.0.2"))
            held[-1].socket.sendall(request)
            waiting.register(held[-1], selectors.EVENT_READ, held[-1])
        while True:
            for key, _ in waiting.select():
                if (status := key.data.read()) == 200:
                    key.data.socket.sendall(request)
                elif status is not None:
                    sys.exit(f"{path} was answered with {status}")

    return attack


def posting(
    path: str, bodies: Callable[[], bytes], connections: int = 1, encoding: str = "identity"
) -> Callable[[int], None]:
    """One POST after the other on each connection, whose whole answer is read."""

    headers = {"content-type": "application/json", "content-encoding": encoding}

    def one(port: int) -> None:
        while True:
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, 60, source_address=("127.0.0.2", 0))
                while True:
                    connection.request("POST", path, bodies(), headers)
                    connection.getresponse().read()

    def attack(port: int) -> None:
        for _ in range(connections - 1):
            threading.Thread(target=one, args=(port,), daemon=True).start()
        one(port)

    return attack


def heading(port: int) -> None:
    """Forty requests at a time, with headers of a byte without end."""
    while True:
        held: list[socket.socket] = []
        for _ in range(40):
            with suppress(OSError):
                held.append(connected(port))
                held[-1].settimeout(1.0)
                held[-1].sendall(b"GET /livez HTTP/1.1\r\n" + b"a:\r\n" * 60_000)
        for connection in held:
            connection.close()


def holding(port: int) -> None:
    """Forty large bodies at a time, of which the end never comes."""
    while True:
        held: list[socket.socket] = []
        with suppress(OSError):
            for _ in range(40):
                held.append(connected(port))
                held[-1].settimeout(1.0)
                held[-1].sendall(HEAD % (b"/v1/update", 4 * MIB - 1) + b" " * (3 * MIB))
        time.sleep(1.0)
        for connection in held:
            connection.close()


def connecting(port: int) -> None:
    """Connections that say nothing, a thousand at a time."""
    while True:
        with suppress(OSError):
            held = [connected(port) for _ in range(1_000)]
            time.sleep(0.5)
            for connection in held:
                connection.close()


def handshaking(port: int) -> None:
    """Handshakes of TLS, sixteen at a time, each of which is completed and closed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def one() -> None:
        while True:
            with suppress(OSError), connected(port) as plain:
                plain.settimeout(5.0)
                context.wrap_socket(plain).close()

    for _ in range(15):
        threading.Thread(target=one, daemon=True).start()
    one()


def _many_events() -> bytes:
    return json.dumps([{"slice": f"many {i}", "x": [0.0, 1.0]} for i in range(10_000)]).encode()


_numbers = itertools.count()


def _new_users() -> bytes:
    """A hundred clicks, each of a user, a session and an address that nobody has seen."""
    click = {"ip": "", "user_agent": "u", "device": "phone", "marketplace": "US", "ad_id": "a", "logged_in": True}
    names = [next(_numbers) for _ in range(100)]
    return json.dumps(
        [
            {
                **click,
                "click_id": f"new {n}",
                "ts": 1_790_000_000_000,
                "user_id": f"u{n}",
                "session_id": f"s{n}",
                "ip": f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}",
            }
            for n in names
        ]
    ).encode()


_LARGE, _BOMB = _many_events(), gzip.compress(b" " * (64 * MIB))
_FITTING = gzip.compress(b" " * (4 * MIB - 1_000))  # unpacked it is just within body_limit
_WRONG = b'[{"slice":"s","x":[[]]}' + b",{}" * 1_000_000 + b"]"
ATTACKS: dict[str, Callable[[int], None]] = {
    "pipelining": pipelining,
    "readiness": reading("/readyz"),
    "metrics": reading("/metrics"),
    "metrics of 250 connections": reading("/metrics", 250),
    "search": reading("/v1/slices?sort=name&contains=9"),
    "scores": posting("/v1/score", lambda: _LARGE),
    "updates": posting("/v1/update", lambda: _LARGE),
    "bodies": holding,
    "connections": connecting,
    "users": posting("/v1/clicks", _new_users),
    "bombs": posting("/v1/update", lambda: _BOMB, encoding="gzip"),
    "bombs of 30 connections": posting("/v1/update", lambda: _FITTING, 30, "gzip"),
    "wrong bodies of 10 connections": posting("/v1/update", lambda: _WRONG, 10),
    "headers": heading,
}
OVER_TLS = {"handshakes": handshaking}  # on a service of its own


class Peak:
    """The most memory, in MB, that a process holds while this is watched."""

    def __init__(self, pid: int):
        self._path = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self.before = self.most = self._now()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, self._now())

    def _now(self) -> int:
        if not self._path.exists():  # not Linux
            return 0
        found = re.search(r"VmRSS:\s+(\d+) kB", self._path.read_text())
        return int(found[1]) // 1_024 if found else 0


def p99(runs: list[dict[str, Any]]) -> float:
    """The median of the runs' 99th percentiles, in ms."""
    return statistics.median(1_000.0 * float(np.quantile(run["latencies"], 0.99)) for run in runs)


def certificate(folder: Path) -> tuple[str, str]:
    """The files of a certificate of this machine, signed by itself, and of its key."""
    paths = str(folder / "cert.pem"), str(folder / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    command += f" -addext subjectAltName=IP:127.0.0.1 -out {paths[0]} -keyout {paths[1]}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return paths


def beside(
    name: str,
    port: int,
    pid: int,
    folder: Path,
    bodies: Bodies,
    options: argparse.Namespace,
    authority: str | None = None,
) -> None:
    """One attack, measured; `authority`: over TLS."""
    path = folder / "bodies.ndjson"
    quiet: list[dict[str, Any]] = []
    attacked: list[dict[str, Any]] = []
    before, most = 0, 0
    for _ in range(options.repeats):
        bodies.write(path, round(RATE * options.seconds), 1)
        quiet.append(load(port, path, RATE, CONNECTIONS, authority))
        command = [sys.executable, "-m", "benchmarks.bench_neighbours", "--attack", name, str(port)]
        command += ["--nice", str(options.nice)]
        attacker = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert attacker.stdout is not None
            attacker.stdout.readline()  # what it imports takes a core for seconds, and is no attack
            with Peak(pid) as peak:
                time.sleep(1.0)
                bodies.write(path, round(RATE * options.seconds), 1)
                attacked.append(loaded(loading(port, path, RATE, CONNECTIONS, authority), path))
            if attacker.poll() is not None:
                sys.exit(f"the attack {name} ended by itself, so its figures say nothing")
        finally:
            attacker.kill()
            attacker.wait()
        time.sleep(1.0)  # for what was under way
        before, most = before or peak.before, max(most, peak.most)
    times = p99(attacked) / p99(quiet)
    refused = sum(count for run in attacked for status, count in run["statuses"].items() if status != "200")
    emit(
        bench="neighbours",
        attack=name,
        quiet_p99_ms=round(p99(quiet), 2),
        p99_ms=round(p99(attacked), 2),
        times=round(times, 2),
        holds=times <= TIMES and not refused,
        refused=refused,
        memory_mb=most,
        grown_mb=most - before,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one attack for a second, to see that it runs")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join([*ATTACKS, *OVER_TLS]), help="which attacks")
    parser.add_argument("--nice", type=int, default=0, help="of the attacker, see above")
    parser.add_argument("--attack", nargs=2, metavar=("NAME", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        os.nice(options.nice)
        print("attacks", flush=True)
        (ATTACKS | OVER_TLS)[options.attack[0]](int(options.attack[1]))
    slices = SLICES
    if options.quick:
        options.seconds, options.repeats, options.only, slices = 1.0, 1, "pipelining", 1_000
    bodies, asked = Bodies(), options.only.split(",")
    for attacks in (ATTACKS, OVER_TLS):
        if names := [name for name in asked if name in attacks]:
            measure(names, slices, attacks is OVER_TLS, bodies, options)


def measure(names: list[str], slices: int, tls: bool, bodies: Bodies, options: argparse.Namespace) -> None:
    """All attacks of these names on one service that has so many slices of events."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        command = [sys.executable, "-m", "onlineguard", "serve", "--port", str(port), "--state", str(folder / "state")]
        command += ["--n-features", "2", "--detector", "marginal"]
        url, authority = f"http://127.0.0.1:{port}", None
        if tls:
            authority, key = certificate(folder)
            command += ["--tls-cert", authority, "--tls-key", key]
            url = f"https://127.0.0.1:{port}"
            os.environ["SSL_CERT_FILE"] = authority  # that urllib trusts
            urllib.request.install_opener(urllib.request.build_opener())  # the one before was made without it
        with running(command, folder, f"{url}/readyz") as service:
            for start in range(0, slices, 1_000):
                events = [{"slice": f"held {i}", "x": [0.0, 1.0]} for i in range(start, start + 1_000)]
                body, headers = json.dumps(events).encode(), {"content-type": "application/json"}
                urllib.request.urlopen(urllib.request.Request(f"{url}/v1/update", body, headers), timeout=60).read()
            path = folder / "bodies.ndjson"
            bodies.write(path, 200 if options.quick else 2_000, 1)
            load(port, path, None, 4, authority)  # warm
            for attack in names:
                beside(attack, port, service.pid, folder, bodies, options, authority)


if __name__ == "__main__":
    main()
