"""A person's traces can be erased from a service that runs: no file names them, whenever it is killed."""

import asyncio

import msgspec
import polars as pl
import pytest
import redis
from onlineguard_service import entries
from onlineguard_service.core import Core

from onlineguard.slidr.history.reading import History
from onlineguard.wire.requests import Label
from tests.support.cores import chosen, crashed
from tests.support.redis_server import serving

GONE = "the-user-who-wants-to-go-4711"


@pytest.fixture(scope="module")
def theirs(clicks):
    """Clicks of which every tenth is theirs."""
    return [
        msgspec.structs.replace(click, click_id=f"c{i}", user_id=GONE if i % 10 == 0 else f"else {i}")
        for i, click in enumerate(clicks[:120])
    ]


def files_that_name(state):
    """Files in which the id stands, as bytes or in a column."""
    found = [path for path in state.rglob("*") if path.is_file() and GONE.encode() in path.read_bytes()]
    for path in state.rglob("*.parquet"):
        frame = pl.read_parquet(path, hive_partitioning=False)
        if any(frame[name].eq(GONE).any() for name in frame.columns if frame.schema[name] == pl.String()):
            found.append(path)
    return found


async def lived(state, model_folder, theirs, **more):
    """A core that has seen half of the clicks before its newest snapshot, and half after it."""
    core = await Core.open(chosen(state, model_folder, history="on", **more))
    for start in (0, 40):
        await core.clicks(theirs[start : start + 40])
        await core.labels([Label(click.click_id, click.ts) for click in theirs[start : start + 20]])
        await core.snapshot()
    await core.clicks(theirs[80:])
    return core


def test_nothing_in_the_folder_of_the_state_names_an_erased_user_and_a_replay_erases_again(
    tmp_path, model_folder, theirs
):
    async def run():
        core = await lived(tmp_path, model_folder, theirs)
        before = core._guard.store.sizes()
        assert files_that_name(tmp_path)
        erased = await core.erase(GONE)
        assert (erased.clicks, erased.labels) == (12, 4)
        assert files_that_name(tmp_path) == []
        assert core._guard.store.sizes()["users"] == before["users"] - 1
        assert History(tmp_path / "history").rows() == 120 - 12
        (label,) = await core.labels([Label("c10", 1)])
        assert not label.known
        digest = core.digest()
        await crashed(core)
        again = await Core.open(chosen(tmp_path, history="on"))
        assert again.digest() == digest
        again_sent = await again.clicks(theirs[:1])  # to the service it is a click of somebody new
        assert again_sent[0].decision != "unknown"
        assert (await again.labels([Label("c0", 1), Label("c1", 1)]))[0].known
        await again.close()

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("done", ["nothing", "the files", "the files and a snapshot"])
def test_a_service_that_is_killed_over_it_erases_at_its_next_start(tmp_path, model_folder, theirs, done):
    async def run():
        core = await lived(tmp_path, model_folder, theirs)
        await core._commit(entries.Erase(GONE, 1))
        if done == "nothing":
            await core.snapshot()  # the timer's, which still owes it
            await core.clicks(theirs[81:82])
        else:
            await core._commit(entries.Erased(core._guard.sequence, 2))
        if done == "the files and a snapshot":
            await core.snapshot()
        await crashed(core)
        assert files_that_name(tmp_path)
        again = await Core.open(chosen(tmp_path, history="on"))
        assert files_that_name(tmp_path / "journal") == []
        if done != "the files and a snapshot":  # before which the files were made without them
            assert files_that_name(tmp_path) == []
        sequence = again._guard.sequence
        await crashed(again)
        third = await Core.open(chosen(tmp_path, history="on"))
        assert third._guard.sequence == sequence  # it is done once
        await third.close()

    asyncio.run(run())


@pytest.mark.slow
def test_redis_names_an_erased_user_no_longer(tmp_path, model_folder, theirs):
    def keys_that_name(client):
        return [key for key in client.keys("*") if GONE.encode() in client.dump(key)]

    async def run(url, client):
        core = await lived(tmp_path / "state", model_folder, theirs, redis=url, journal="redis")
        counted = len(client.keys("*:user*"))
        assert keys_that_name(client)
        await core.erase(GONE)
        assert keys_that_name(client) == []
        assert files_that_name(tmp_path / "state") == []
        assert len(client.keys("*:user*")) == counted - 1
        digest = core.digest()
        await crashed(core)
        await core._counting.close()
        again = await Core.open(chosen(tmp_path / "state", history="on", redis=url, journal="redis"))
        assert again.digest() == digest
        await again.close()

    with serving(tmp_path) as port, redis.Redis(port=port) as client:
        client.config_set("rdbcompression", "no")  # which a dump is, too
        asyncio.run(run(f"redis://127.0.0.1:{port}", client))
