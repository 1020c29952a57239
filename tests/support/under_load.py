"""What the tests of faults share: the real service under load, and a guard that is never killed to compare it with."""

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

import httpx2
import msgspec
import pytest
from onlineguard_service import entries
from onlineguard_service.guard import Guard
from onlineguard_service.journal.folder_journal import FolderJournal

from tests.support.events import told as answered

CLIENTS = 4
JSON = {"content-type": "application/json"}
HERE = Path(__file__).parent


class Starter:
    """The process that forks services; leaves none behind."""

    def __init__(self, cache):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path])}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "faulty_server.py"), str(cache)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip

    def start(self, **settings):
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
        self._process.stdin.write(json.dumps(plain) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """End it and every service that it forked, whatever state they are in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
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
        with contextlib.suppress(httpx2.TransportError):
            if (await client.get("/readyz")).status_code == 200:
                return
        await asyncio.sleep(0.01)
    pytest.fail("the service did not become ready", pytrace=False)


async def until(happened, tasks):
    """Wait until something happened; if a task fails before, raise what it did."""
    while not happened():
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.002)


async def crashed(core):
    """Leave the journal as a process does that is killed: no snapshot, nothing more written."""
    core._timer.cancel()
    await core._journal.close()
    if core._counting is not None:
        await core._counting.close()
    if core._guard.recorder is not None:
        core._guard.recorder.close()


class Client:
    """Sends requests one after the other, each until it was answered, and remembers what was answered to each id.

    A click that is answered "unknown", or a request that is refused for now, is sent again.
    """

    def __init__(self, number, http, clicks):
        self._number, self._http = number, http
        self._draw = random.Random(number)
        self._clicks = [c for i, c in enumerate(clicks) if i % CLIENTS == number]
        self._sent = 0
        self.answers = {}  # (route, id): answer
        self.repeated = self.refused = self.unknown = 0

    async def run(self, stop):
        while not stop.is_set():
            route, body, ids = self._next()
            again = False
            while True:
                try:
                    response = await self._http.post(route, content=body)
                except httpx2.TransportError:
                    again = True
                    await asyncio.sleep(0.01)
                    continue
                if response.status_code == 200:
                    unknown = [answer for answer in response.json() if answer.get("decision") == "unknown"]
                    if not unknown or route == "/v1/labels":
                        break
                    assert all(answer["degraded"] == ["counters"] for answer in unknown)
                    assert all(answer["p_robot"] is None and answer["anomaly"] is None for answer in unknown)
                    self.unknown += len(unknown)
                    await asyncio.sleep(0.02)
                    continue
                assert response.status_code == 503, response.text
                assert int(response.headers["retry-after"]) > 0
                self.refused += 1
                await asyncio.sleep(0.02)
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


def replayed(folder, models, recorder=None):
    """As `applied`, of a journal in a folder."""
    return applied(FolderJournal(folder).replay(0), models, recorder)


def applied(journal, models, recorder=None):
    """A guard that has applied all entries without a stop, and what it answered to each id first."""
    guard, answers = None, {}
    for sequence, data in journal:
        entry = entries.decode(data)
        if isinstance(entry, entries.Begin):
            guard = Guard(entry.options, entry.version, models.get)
            guard.recorder = recorder
            continue
        given = guard.apply(entry, sequence)
        if isinstance(entry, entries.Events):
            ids = [("/v1/update", event.id) for event in entry.events]
        elif isinstance(entry, entries.Clicks):
            ids = [("/v1/clicks", click.click_id) for click in entry.clicks]
        else:
            continue
        for id_, answer in zip(ids, answered(given), strict=True):
            answers.setdefault(id_, answer)
    return guard, answers


def told(clients):
    """All answers to events and clicks; those to labels depend on when they came."""
    return {key: answer for client in clients for key, answer in client.answers.items() if key[0] != "/v1/labels"}
