"""A standby goes on with the history of the service that it takes over from: what the journal says, nothing twice."""

import asyncio

import polars as pl
import pytest
from onlineguard_service.core import Core
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.history import recorder
from onlineguard_service.models import Models
from onlineguard_service.standing import Standing

from onlineguard.errors import CheckpointError
from onlineguard.slidr.history.layout import parts, standing
from onlineguard.slidr.history.reading import History
from onlineguard.wire.requests import Label
from tests.support.cores import chosen, crashed
from tests.support.histories import Collected, assert_history
from tests.support.under_load import keep, replayed

ON = {"history": "on", "n_features": 2}


pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(recorder, "SOON", 0.0)
    monkeypatch.setattr("onlineguard_service.standing_by.COVERED_EVERY", 0.0)


def copied(state):
    copies = state / "copies"
    copies.mkdir(exist_ok=True)
    keep(state / "journal", copies)
    return copies


def expected(state):
    """What a guard that was never stopped would have recorded."""
    collected = Collected()
    replayed(copied(state), Models(state / "models"), collected)
    return collected


async def standing_by(state, sequence, **more):
    """A standby that has applied that entry, and the command to take over."""
    standing = Standing()
    opening = asyncio.create_task(Core.open(chosen(state, standby="on", standby_after=600.0, **(ON | more)), standing))
    while (standing.sequence or 0) < sequence:
        await asyncio.sleep(0.01)
        if opening.done():
            opening.result()
    return opening, standing


async def some(core, clicks):
    """One entry for each of some clicks, and one of labels."""
    for click in clicks:
        await core.clicks([click])
    await core.labels([Label(click.click_id, click.ts + 1) for click in clicks[:3]])


@pytest.mark.parametrize(("hangs", "snapshots"), [(False, 0), (True, 2)])
def test_files_beyond_the_snapshot_are_written_anew_once_the_other_has_let_go(
    tmp_path, model_folder, clicks, hangs, snapshots
):
    async def run():
        old = await Core.open(chosen(tmp_path, model_folder, **ON))
        await some(old, clicks[:20])
        opening, standing = await standing_by(tmp_path, old._guard.sequence)
        for start in range(20, 20 + 10 * snapshots, 10):
            copied(tmp_path)
            await old.snapshot()
            await some(old, clicks[start : start + 10])
        old._guard.recorder.seal(old._guard.sequence)
        await asyncio.to_thread(old._guard.recorder.write)  # files beyond the snapshot
        await some(old, clicks[40:50])
        while standing.sequence < old._guard.sequence:
            await asyncio.sleep(0.01)
        if hangs:
            old._ahead.cancel()  # and so does not see that the journal is not its own any more
        else:
            await crashed(old)
        standing.now.set()
        new = await opening
        await some(new, clicks[45:60])  # some of them again
        if hangs:
            with pytest.raises(JournalUnavailable, match="holds it until it has ended"):
                await new.snapshot()
            assert "holds it until it has ended" in new.degraded()[0]
            old._guard.recorder.close()
        copied(tmp_path)
        await new.snapshot()
        await some(new, clicks[60:70])
        copied(tmp_path)
        await new.close()
        if hangs:
            old._guard.recorder.seal(old._guard.sequence)
            with pytest.raises(JournalUnavailable, match="is written by another process"):
                await asyncio.to_thread(old._guard.recorder.write)
            await old.close()

    asyncio.run(run())
    assert_history(tmp_path / "history", expected(tmp_path))
    assert not History(tmp_path / "history").missing()
    there = parts(tmp_path / "history", "clicks")
    assert list(standing(there)) == list(there)  # nothing is left of the files that the other wrote beyond its snapshot
    ids = pl.concat(History(tmp_path / "history").clicks(columns=("click_id",)))["click_id"].to_list()
    sent = [*clicks[: 20 + 10 * snapshots], *clicks[40:70]]
    assert ids == list(dict.fromkeys(click.click_id for click in sent))


def test_a_history_that_was_too_long_to_keep_is_completed_by_a_restart(tmp_path, model_folder, clicks, monkeypatch):
    async def run():
        old = await Core.open(chosen(tmp_path, model_folder, **ON))
        with monkeypatch.context() as patched:
            patched.setattr(recorder, "MOST", 2_000)
            patched.setattr(recorder, "FULL", 2_000)
            opening, standing = await standing_by(tmp_path, old._guard.sequence)
            patched.setattr(old._guard.recorder, "_keep", lambda kind, block: None)  # the standby's is tested
            await some(old, clicks[:30])
            while standing.sequence < old._guard.sequence:
                await asyncio.sleep(0.01)
            await crashed(old)
            standing.now.set()
            new = await opening
        assert new.status()["history"]["behind"]
        await some(new, clicks[30:40])
        copied(tmp_path)
        await new.close()
        await (await Core.open(chosen(tmp_path, **ON))).close()

    asyncio.run(run())
    assert_history(tmp_path / "history", expected(tmp_path))


@pytest.mark.parametrize(
    ("more", "words"),
    [({"history": "off"}, "--history on"), ({"history_folder": "elsewhere"}, "--history-folder")],
)
def test_a_standby_that_could_not_go_on_with_the_history_says_so_at_its_start(
    tmp_path, model_folder, clicks, more, words
):
    if "history_folder" in more:
        more = {"history_folder": tmp_path / more["history_folder"]}

    async def run():
        old = await Core.open(chosen(tmp_path, model_folder, **ON))
        await some(old, clicks[:5])
        await old.snapshot()
        try:
            with pytest.raises(CheckpointError, match=words):
                await standing_by(tmp_path, old._guard.sequence, **more)
        finally:
            await old.close()

    asyncio.run(run())
