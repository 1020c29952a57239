"""Redis is killed under load, and comes back with its data or without: nothing is learned that could not be kept.

Killed means SIGKILL to a real redis-server; it comes back on the same port.
"""

import asyncio
import json
import os
import random
import signal
import socket
from contextlib import ExitStack, contextmanager, suppress

import redis
from redis_server import serving
from under_load import replayed

from onlineguard.slidr.counters import ProcessStore
from onlineguard.slidr.redis_store import RedisStore
from onlineguard.slidr.windows import COLUMNS, ENTITIES
from service.config import Settings
from service.core import Core
from service.guard import keys_of
from service.models import Models

KILLS = 8
TASKS = 4
GENEROUS = 60  # seconds; a test that takes as long hangs
KEPT = ("--appendonly", "yes", "--appendfsync", "always")  # what Redis has answered survives


class Server:
    """A redis-server that can be killed and started again on its port."""

    def __init__(self, folder, *options):
        self._folder, self._options, self._stack = folder, options, ExitStack()
        self.port = None
        self._start()
        self.url = f"redis://127.0.0.1:{self.port}"

    def _start(self):
        self.port = self._stack.enter_context(serving(self._folder, *self._options, port=self.port))

    async def start(self):
        await asyncio.to_thread(self._start)

    async def kill(self):
        with redis.Redis(port=self.port) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        with suppress(ConnectionRefusedError):
            while True:
                socket.create_connection(("127.0.0.1", self.port)).close()
                await asyncio.sleep(0.002)

    def close(self):
        self._stack.close()


@contextmanager
def server(folder, *options):
    folder.mkdir()
    started = Server(folder, *options)
    try:
        yield started
    finally:
        started.close()


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, GENEROUS))


def chosen(state, server, **more):
    usual = {"durability": "async", "snapshot_every": 3_600.0, "remember": 10_000, "max_slices": 1_000, "n_features": 2}
    return Settings(state=state, redis=server.url, **(usual | more))


async def until(happened, tasks):
    """Wait until something happened; if a task fails before, raise what it did."""
    while not happened():
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.002)


class Clicking:
    """Sends clicks to a core, each request again until all of it is judged."""

    def __init__(self, core):
        self._core = core
        self.answers = {}  # of judged clicks, by id
        self.unknown = 0

    async def send(self, clicks, seed):
        draw, start = random.Random(seed), 0
        while start < len(clicks):
            n = draw.choice((1, 1, 2, 8, 70))
            while not self._taken(await self._core.clicks(clicks[start : start + n])):
                await asyncio.sleep(0.02)
            start += n
            await asyncio.sleep(0.001)

    def _taken(self, answers):
        unknown = 0
        for answer in map(json.loads, answers):
            if answer["decision"] == "unknown":
                assert answer["degraded"] == ["counters"]
                assert answer["p_robot"] is answer["threshold"] is answer["anomaly"] is None
                assert answer["click_id"] not in self.answers  # what was judged once stays judged
                unknown += 1
            else:
                assert answer["decision"] in ("valid", "robotic")
                assert not answer.get("degraded")
                assert self.answers.setdefault(answer["click_id"], answer) == answer
        self.unknown += unknown
        return not unknown


def test_clicks_are_unknown_while_redis_is_gone_and_are_judged_and_counted_once_when_it_is_back(
    tmp_path, model_folder, clicks
):
    clicks = list({click.click_id: click for click in clicks}.values())  # some come twice by themselves

    async def load(redis_server):
        core = await Core.open(chosen(tmp_path / "state", redis_server, model=model_folder))
        clicking = Clicking(core)
        tasks = [asyncio.create_task(clicking.send(clicks[i::TASKS], i)) for i in range(TASKS)]
        for kill in range(1, KILLS + 1):
            enough = kill * len(clicks) // (KILLS + 2)
            await until(lambda enough=enough: len(clicking.answers) >= enough, tasks)
            await redis_server.kill()
            before = clicking.unknown  # what Redis answered before it died is judged until then
            await until(lambda before=before: clicking.unknown > before, tasks)
            before, digest = clicking.unknown, core.digest()
            await until(lambda before=before: clicking.unknown > before + TASKS, tasks)
            assert core.digest() == digest
            await redis_server.start()
        await asyncio.gather(*tasks)
        assert core.status()["clicks"] == len(clicking.answers) == len(clicks)
        assert core.status()["degraded"] == clicking.unknown
        await core.close()
        return core.digest(), clicking.answers

    with server(tmp_path / "redis", *KEPT) as redis_server:
        digest, answers = run(load(redis_server))
        with redis.Redis(port=redis_server.port) as client:
            counted = RedisStore(client).count(keys_of(clicks))  # all repeated: read, not counted
    without_faults, expected = replayed(tmp_path / "state" / "journal", Models(tmp_path / "state" / "models"))
    assert without_faults.digest() == digest
    assert {("/v1/clicks", click_id): answer for click_id, answer in answers.items()} == expected
    here = ProcessStore()
    here.count(keys_of(clicks))
    once = here.count(keys_of(clicks))
    day = [COLUMNS.index(f"{kind}_24h") for kind in ENTITIES]  # all of these clicks, in whatever order they came
    assert (counted[:, day] <= once[:, day]).all()  # one that Redis died with may be remembered and not counted
    assert counted[:, day].sum() > 0.5 * once[:, day].sum()
