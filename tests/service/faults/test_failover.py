"""The Redis of a core fails over under load, and with its service: nothing that was answered is lost or done twice."""

import asyncio
from dataclasses import replace

import pytest
from onlineguard_service.core import Core
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.standing import Standing

from tests.support.cores import chosen
from tests.support.events import told
from tests.support.redis_failover import failing_over
from tests.support.sending import Clicking, Updating, events
from tests.support.under_load import crashed, until

pytestmark = pytest.mark.slow

TASKS = 2


@pytest.fixture
def servers(tmp_path):
    (tmp_path / "redis").mkdir()
    with failing_over(tmp_path / "redis") as servers:
        yield servers


@pytest.fixture
def settings(tmp_path, model_folder, servers):
    more = {"redis": servers.url, "journal": "redis", "n_features": 2, "remember": 10_000}
    return chosen(tmp_path / "state", model_folder, **more)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 120))


async def opened_again(settings):
    """The digest of a core that is opened from what is there."""
    core = await Core.open(settings)
    await crashed(core)
    return core.digest()


def test_a_core_whose_journal_and_counters_fail_over_under_load_loses_no_answer(settings, servers, clicks):
    clicks = list({click.click_id: click for click in clicks[:700]}.values())

    async def load():
        core = await Core.open(settings)
        clicking, updating, stop = Clicking(core), Updating(core), asyncio.Event()

        async def click(part):
            while True:
                try:
                    return await clicking.send(part, 0)
                except JournalUnavailable:  # it is sent again from the first on: what was judged stays judged
                    await asyncio.sleep(0.02)

        tasks = [asyncio.create_task(click(clicks[i::TASKS])) for i in range(TASKS)]
        tasks += [asyncio.create_task(updating.send(i, stop)) for i in range(TASKS)]
        await until(lambda: len(clicking.answers) > 150 and len(updating.answers) > 150, tasks)
        await asyncio.to_thread(servers.kill_primary)
        await until(lambda: updating.refused, tasks)
        assert core.reasons()
        taken = len(updating.answers)
        await until(lambda: len(updating.answers) > taken + 150, tasks)
        await asyncio.gather(*tasks[:TASKS])
        stop.set()
        await asyncio.gather(*tasks)
        assert servers.named() == servers.replica
        assert core.status()["events"] == len(updating.answers)
        assert core.status()["clicks"] == len(clicking.answers) == len(clicks)
        digest = core.digest()
        assert {a["click_id"]: a for a in told(await core.clicks(clicks))} == clicking.answers
        await crashed(core)
        assert core.digest() == digest == await opened_again(settings)

    run(load())


def test_a_standby_goes_on_with_all_that_was_answered_where_service_and_primary_die_at_once(settings, servers):
    async def dying():
        core, standing = await Core.open(settings), Standing()
        other = asyncio.create_task(
            Core.open(replace(settings, model=None, standby="on", standby_after=600.0), standing)
        )
        await core.update(events(0, 0))
        await until(lambda: standing.sequence == core.status()["journal"]["sequence"], [])
        await asyncio.to_thread(servers.part)
        for i in range(1, 20):
            await core.update(events(0, i))
        await until(lambda: standing.sequence == core.status()["journal"]["sequence"], [])
        await asyncio.to_thread(servers.kill_primary)
        await crashed(core)
        await asyncio.to_thread(servers.promote)
        standing.now.set()
        taken = await other
        assert taken.digest() == core.digest()
        assert not taken.reasons()
        await taken.update(events(0, 20))
        await crashed(taken)
        assert taken.digest() != core.digest()
        assert taken.digest() == await opened_again(settings)

    run(dying())
