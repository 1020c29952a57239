"""The service is killed at random moments under load; what it answered is true afterwards, to the last bit.

Several clients send events, clicks and labels without pause, each waiting for its answer and sending the request again
after a crash. Afterwards the entries of the journal, taken from copies made at every kill, are applied to a guard that
is never killed: it must be in the same state, and must give every answer that any client got.
"""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest

from service import guard as entries
from service.core import _recovered
from service.guard import Guard, Options
from service.journal import FolderJournal
from service.models import Models

KILLS = 200
CLIENTS = 4
LIVES = (0.02, 0.5)  # seconds from ready to kill
JSON = {"content-type": "application/json"}
HERE = Path(__file__).parent


class Starter:
    """The process that forks services."""

    def __init__(self, cache):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path])}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), str(cache)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def start(self, **settings):
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
        self._process.stdin.write(json.dumps(plain) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def killed(pid):
    """Kill a process, and wait until it is gone and its locks with it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        while True:
            await asyncio.sleep(0.002)
            os.kill(pid, 0)


async def ready(client):
    for _ in range(3_000):
        with contextlib.suppress(httpx.TransportError):
            if (await client.get("/readyz")).status_code == 200:
                return
        await asyncio.sleep(0.01)
    pytest.fail("the service did not become ready", pytrace=False)


class Client:
    """Sends requests one after the other until each was answered, and remembers what was answered to each id."""

    def __init__(self, number, http, clicks):
        self._number, self._http = number, http
        self._draw = random.Random(number)
        self._clicks = [c for i, c in enumerate(clicks) if i % CLIENTS == number]
        self._sent = 0
        self.answers = {}  # (route, id): answer
        self.repeated = 0

    async def run(self, stop):
        while not stop.is_set():
            route, body, ids = self._next()
            again = False
            while True:
                try:
                    response = await self._http.post(route, content=body)
                except httpx.TransportError:
                    again = True
                    await asyncio.sleep(0.01)
                    continue
                if response.status_code == 200:
                    break
                assert response.status_code == 503, response.text
                await asyncio.sleep(0.01)
            self.repeated += again
            for id_, answer in zip(ids, response.json(), strict=True):
                assert self.answers.setdefault((route, id_), answer) == answer

    def _next(self):
        n = self._draw.choice((1, 1, 1, 2, 8, 70))
        kind = self._draw.random()
        self._sent += 1
        if kind < 0.4:
            ids = [f"{self._number}-{self._sent}-{i}" for i in range(n)]
            events = [
                {
                    "slice": f"s{self._draw.randrange(9)}",
                    "x": [self._draw.gauss(10.0, 1.0), self._draw.gauss(0.0, 5.0)],
                    "id": id_,
                    "ts": self._sent,
                }
                for id_ in ids
            ]
            return "/v1/update", json.dumps(events), ids
        some = self._draw.sample(self._clicks, n)
        if kind < 0.9:
            return "/v1/clicks", msgspec.json.encode(some), [click.click_id for click in some]
        labels = [{"click_id": click.click_id, "purchase_ts": click.ts} for click in some]
        return "/v1/labels", json.dumps(labels), [f"l{self._sent}-{i}" for i in range(n)]


def keep(journal, copies):
    """Copy the segments: a snapshot may drop them, the last one may grow."""
    for segment in journal.glob("segment-*"):
        shutil.copy2(segment, copies / segment.name)


def replayed(folder, models):
    """A guard that has applied all entries without a stop, and what it answered to each id first."""
    guard, answers = None, {}
    for sequence, data in FolderJournal(folder).replay(0):
        entry = entries.decode(data)
        if isinstance(entry, entries.Begin):
            guard = Guard(entry.options, entry.version, models.get)
            continue
        given = guard.apply(entry, sequence)
        if isinstance(entry, entries.Events):
            ids = [("/v1/update", event.id) for event in entry.events]
        elif isinstance(entry, entries.Clicks):
            ids = [("/v1/clicks", click.click_id) for click in entry.clicks]
        else:
            continue
        for id_, answer in zip(ids, given, strict=True):
            answers.setdefault(id_, json.loads(answer))
    return guard, answers


def test_nothing_that_was_answered_is_lost_or_changed_by_200_kills(tmp_path, model_folder, clicks):
    state, copies = tmp_path / "state", tmp_path / "copies" / "journal"
    copies.mkdir(parents=True)
    port = free_port()
    starter = Starter(tmp_path / "cache")
    settings = {
        "port": port, "state": state, "durability": "group", "n_features": 2, "snapshot_every": 3_600.0,
        "remember": 1_000_000,
    }  # fmt: skip
    draw = random.Random(0)

    async def run():
        limits = httpx.Limits(max_connections=CLIENTS + 2)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=30.0, headers=JSON
        ) as http:
            pid = starter.start(**settings, model=model_folder)
            await ready(http)
            stop = asyncio.Event()
            clients = [Client(i, http, clicks) for i in range(CLIENTS)]
            tasks = [asyncio.create_task(client.run(stop)) for client in clients]
            for kill in range(KILLS):
                await asyncio.sleep(draw.uniform(*LIVES))
                if kill % 3 == 0:  # killed beside, in, or after a snapshot
                    snapshot = asyncio.create_task(http.post("/v1/snapshot"))
                    await asyncio.sleep(draw.choice((0.0, 0.005, 0.05)))
                    snapshot.add_done_callback(lambda task: task.cancelled() or task.exception())
                if kill % 10 == 9:  # while it starts
                    await killed(pid)
                    keep(state / "journal", copies)
                    pid = starter.start(**settings)
                    await asyncio.sleep(draw.uniform(0.0, 0.6))
                await killed(pid)
                keep(state / "journal", copies)
                for task in tasks:
                    if task.done():
                        task.result()
                pid = starter.start(**settings)
                await ready(http)
            stop.set()
            await asyncio.gather(*tasks)
            await killed(pid)
            return clients

    try:
        clients = asyncio.run(run())
    finally:
        starter.close()
    keep(state / "journal", copies)
    models = Models(state / "models")
    journal = FolderJournal(state / "journal")
    recovered = _recovered(journal, Options(n_features=2, remember=1_000_000), models)
    never_killed, answers = replayed(copies, models)
    assert never_killed.digest() == recovered.digest()
    told = {key: answer for client in clients for key, answer in client.answers.items() if key[0] != "/v1/labels"}
    assert len(told) > 1_000
    for key, answer in told.items():
        assert answers[key] == answer
    assert sum(client.repeated for client in clients) > KILLS // 2  # kills that hit somebody
