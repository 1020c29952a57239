"""Redis is killed under load, and comes back with its data or without: nothing is learned that could not be kept.

Killed means SIGKILL to a real redis-server; it comes back on the same port.
"""

import asyncio
import os
import random
import signal
import socket
from contextlib import ExitStack, contextmanager, suppress

import pytest
import redis
from onlineguard_service.config import Settings
from onlineguard_service.core import Core
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal.redis_journal import RedisJournal
from onlineguard_service.models import Models

from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.counting.redis_store import RedisStore
from onlineguard.slidr.counting.windows import COLUMNS, ENTITIES
from onlineguard.wire.requests import Event, Label
from tests.support.events import told
from tests.support.redis_server import serving
from tests.support.under_load import applied, crashed, replayed, until

pytestmark = pytest.mark.slow

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
        for answer in told(answers):
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
            counted = RedisStore(client).count(ClickKeys.of(clicks))  # all repeated: read, not counted
    without_faults, expected = replayed(tmp_path / "state" / "journal", Models(tmp_path / "state" / "models"))
    assert without_faults.digest() == digest
    assert {("/v1/clicks", click_id): answer for click_id, answer in answers.items()} == expected
    here = ProcessStore()
    here.count(ClickKeys.of(clicks))
    once = here.count(ClickKeys.of(clicks))
    day = [COLUMNS.index(f"{kind}_24h") for kind in ENTITIES]  # all of these clicks, in whatever order they came
    assert (counted[:, day] <= once[:, day]).all()  # one that Redis died with may be remembered and not counted
    assert counted[:, day].sum() > 0.5 * once[:, day].sum()


def events(task, request):
    draw = random.Random(f"{task} {request}")
    return [
        Event(f"s{draw.randrange(9)}", [draw.gauss(10.0, 1.0), draw.gauss(0.0, 5.0)], id=f"{task}-{request}-{i}", ts=i)
        for i in range(draw.choice((1, 1, 2, 8)))
    ]


class Updating:
    """Sends events to a core, each request again until it is taken."""

    def __init__(self, core):
        self._core = core
        self.answers = {}  # by id
        self.refused = 0

    async def send(self, task, stop):
        request = 0
        while not stop.is_set():
            sent = events(task, request)
            try:
                answers = await self._core.update(sent)
            except JournalUnavailable:
                self.refused += 1
                await asyncio.sleep(0.02)
                continue
            self.answers |= {event.id: answer for event, answer in zip(sent, told(answers), strict=True)}
            request += 1
            await asyncio.sleep(0.001)


def opened_again(settings):
    """The digest of a core that is opened from what is there."""

    async def digest():
        core = await Core.open(settings)
        await crashed(core)
        return core.digest()

    return run(digest())


def test_a_journal_in_a_redis_that_is_killed_takes_nothing_until_it_is_back_with_its_data(
    tmp_path, model_folder, clicks
):
    async def load(settings, redis_server):
        core = await Core.open(settings)
        judged = await core.clicks(clicks[:50])
        updating, stop = Updating(core), asyncio.Event()
        tasks = [asyncio.create_task(updating.send(i, stop)) for i in range(TASKS)]
        for _ in range(KILLS):
            taken = len(updating.answers)
            await until(lambda taken=taken: len(updating.answers) > taken + 50, tasks)
            await redis_server.kill()
            refused = updating.refused
            await until(lambda refused=refused: updating.refused > refused, tasks)
            refused, digest = updating.refused, core.digest()
            with pytest.raises(JournalUnavailable):
                await core.labels([Label(clicks[0].click_id, clicks[0].ts)])
            assert await core.clicks(clicks[:50]) == judged
            assert core.reasons()
            await until(lambda refused=refused: updating.refused > refused + TASKS, tasks)
            assert core.digest() == digest
            await redis_server.start()
        taken = len(updating.answers)
        await until(lambda: len(updating.answers) > taken + 50, tasks)
        stop.set()
        await asyncio.gather(*tasks)
        assert core.status()["events"] == len(updating.answers)
        await crashed(core)
        return core.digest(), updating.answers

    with server(tmp_path / "redis", *KEPT) as redis_server:
        settings = chosen(tmp_path / "state", redis_server, journal="redis", model=model_folder)
        digest, answers = run(load(settings, redis_server))
        assert opened_again(settings) == digest
        journal = RedisJournal(redis_server.url)
        without_faults, expected = applied(journal.replay(0), Models(tmp_path / "state" / "models"))
        run(journal.close())
    assert without_faults.digest() == digest
    assert {id_: answer for (route, id_), answer in expected.items() if route == "/v1/update"} == answers


def test_a_journal_in_a_redis_that_restarts_empty_gets_the_state_of_the_core_by_itself(tmp_path, model_folder, clicks):
    async def emptied(settings, redis_server):
        core = await Core.open(settings)
        judged = await core.clicks(clicks[:200])
        updating, stop = Updating(core), asyncio.Event()
        for life in range(3):  # from the second on there is a snapshot in Redis, which is gone too
            taken = len(updating.answers)
            tasks = [asyncio.create_task(updating.send(f"{life}{i}", stop)) for i in range(TASKS)]
            await until(lambda taken=taken: len(updating.answers) > taken + 50, tasks)
            await redis_server.kill()
            refused = updating.refused
            await until(lambda refused=refused: updating.refused > refused, tasks)
            stop.set()
            await asyncio.gather(*tasks)
            stop.clear()
            digest = core.digest()
            await redis_server.start()
            await until(lambda: not core.reasons(), ())
            assert core.digest() == digest
            assert await core.clicks(clicks[:200]) == judged
        assert core.status()["events"] == len(updating.answers)
        await crashed(core)
        return core.digest()

    with server(tmp_path / "redis") as redis_server:
        settings = chosen(tmp_path / "state", redis_server, journal="redis", model=model_folder)
        digest = run(emptied(settings, redis_server))
        assert opened_again(settings) == digest


def test_a_redis_that_restarted_empty_has_the_state_of_an_idle_core_once_that_is_closed(tmp_path, model_folder, clicks):
    async def idle(settings, redis_server):
        core = await Core.open(settings)
        await core.clicks(clicks[:200])
        await core.snapshot()
        await redis_server.kill()
        await redis_server.start()
        await core.close()
        return core.digest()

    with server(tmp_path / "redis") as redis_server:
        settings = chosen(tmp_path / "state", redis_server, journal="redis", model=model_folder)
        digest = run(idle(settings, redis_server))
        assert opened_again(settings) == digest
