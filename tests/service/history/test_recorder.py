"""The history of a service is what its journal says, whatever it was stopped by."""

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from onlineguard_service.core import Core
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.history import recorder
from onlineguard_service.models import Models

from onlineguard.errors import InvalidArgument
from onlineguard.records.decisions import Decision, Standing
from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.features import NAMES
from onlineguard.slidr.history.keeping import erase
from onlineguard.slidr.history.layout import parts
from onlineguard.slidr.history.pseudonyms import Pseudonyms, read_key
from onlineguard.slidr.history.reading import History, features_of
from onlineguard.slidr.pipeline import prepare
from onlineguard.wire.requests import Event, Label
from tests.support.cores import chosen, crashed
from tests.support.events import events
from tests.support.histories import Collected, assert_history
from tests.support.redis_server import serving
from tests.support.under_load import keep, replayed


def copied(state, copies):
    copies.mkdir(parents=True, exist_ok=True)
    keep(state / "journal", copies)


def labels_of(clicks):
    return [Label(click.click_id, click.ts + 1, None if i % 2 else 13.0) for i, click in enumerate(clicks)]


def expected(copies, state):
    """What a guard that was never stopped would have recorded."""
    collected = Collected()
    replayed(copies, Models(state / "models"), collected)
    return collected


def of_history():
    """Processes of this one that write files of a history."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread or a process that has just ended
            for pid in (task / "children").read_text().split():
                if b"history.closing" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


def decided_later(answers, version="later"):
    """The opposite decision about each of these clicks, by another model."""
    opposite = {"robotic": "valid", "valid": "robotic"}
    return [
        Decision(
            id=f"{answer.click_id}-{version}",
            click_id=answer.click_id,
            decision=opposite[answer.decision],
            p_robot=0.5,
            threshold=answer.threshold,
            slice=answer.slice,
            model_version=version,
            replaces=Standing(answer.model_version, answer.decision, answer.p_robot, answer.threshold),
        )
        for answer in answers
    ]


@pytest.fixture(scope="module")
def lives(tmp_path_factory, model_folder, other_folder, clicks):
    """A state that was stopped in several ways, and all of its journal."""
    folder = tmp_path_factory.mktemp("lives")
    state, copies = folder / "state", folder / "copies"

    async def run():
        on = {"history": "on", "n_features": 2}
        core = await Core.open(chosen(state, model_folder, **on))
        answers = await core.clicks(clicks[:130])
        await core.labels(labels_of(clicks[:9]))
        await core.snapshot()
        await core.decisions(decided_later(answers[120:125]))
        await core.update(events(3))
        copied(state, copies)
        await core.snapshot()  # nothing for the history since the one before
        await core.clicks(clicks[100:200])  # some of them again
        core._guard.recorder.seal(core._guard.sequence)
        await asyncio.to_thread(core._guard.recorder.write)  # files beyond the snapshot
        await core.clicks(clicks[200:210])
        copied(state, copies)
        await crashed(core)
        core = await Core.open(chosen(state, **on))
        await core.switch(other_folder)
        await core.clicks(clicks[210:300])
        await core.labels(labels_of(clicks[:3] + clicks[250:260]))
        copied(state, copies)
        await crashed(core)
        core = await Core.open(chosen(state, **on))
        await core.decisions(decided_later(answers[122:127]))  # some of them again
        await core.snapshot()
        with pytest.raises(InvalidArgument):
            await core.update([*events(1), Event("a", [1.0])])
        await core.clicks(clicks[300:310])
        copied(state, copies)
        await core.close()

    asyncio.run(run())
    return state, copies


def test_it_is_what_the_journal_says_after_crashes(lives, clicks):
    state, copies = lives
    later = list(dict.fromkeys(click.click_id for click in clicks[120:127]))
    collected = expected(copies, state)
    assert_history(state / "history", collected)
    history = History(state / "history")
    assert not history.missing()
    found = pl.concat(history.clicks(columns=("click_id", "model", "robotic")))
    assert len(set(found["model"])) == 3
    assert found.filter(pl.col("model") == "later")["click_id"].to_list() == later


def test_features_decisions_and_labels_are_those_that_were_answered(lives, clicks, frame):
    state, _ = lives
    found = pl.concat(History(state / "history").clicks())
    first = [click.click_id for click in clicks[:310]]
    assert found["click_id"].to_list() == list(dict.fromkeys(first))
    whole = prepare(frame[:310].unique("click_id", keep="first", maintain_order=True))
    assert np.array_equal(features_of(found), whole.X)
    assert found.select(set(SCHEMA) - {"rfm", "purchase_ts"}).equals(
        whole.frame.select(set(SCHEMA) - {"rfm", "purchase_ts"})
    )
    live = found.filter(pl.col("model") != "later")
    assert (live["robotic"] == (live["score"].cast(pl.Float64) > live["threshold"])).all()
    told = {label.click_id: label.purchase_ts for label in labels_of([*clicks[:9], *clicks[250:260]])}
    bought = dict(zip(found["click_id"], found["purchase_ts"], strict=True))
    for click in clicks[:9]:
        assert bought[click.click_id] == (click.purchase_ts or told[click.click_id])
    assert History(state / "history").prepared().X.shape == (found.height, len(NAMES))


def test_the_labels_that_came_first_count_also_when_the_click_was_forgotten(tmp_path, model_folder, clicks):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, history="on", remember=10))
        await core.clicks(clicks[:50])
        (answer,) = await core.labels([Label(clicks[0].click_id, clicks[0].ts + 5, 14.0)])
        assert not answer.known
        await core.close()

    asyncio.run(run())
    row = pl.concat(History(tmp_path / "history").clicks(columns=("purchase_ts", "rfm"))).row(0)
    assert row == (clicks[0].purchase_ts or clicks[0].ts + 5, clicks[0].rfm or 14.0)


def test_a_snapshot_is_refused_while_its_history_cannot_be_written_and_nothing_is_lost(
    tmp_path, model_folder, clicks, monkeypatch
):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, history="on"))
        await core.clicks(clicks[:40])
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/bin/false")
            with pytest.raises(JournalUnavailable, match="cannot be written"):
                await core.snapshot()
            await core.clicks(clicks[40:60])
            patched.setattr(recorder, "FULL", 1)
            patched.setattr(recorder, "MOST", 1)
            await core.clicks(clicks[60:70])
            assert core.status()["history"]["behind"]
        with pytest.raises(JournalUnavailable, match="restart the service"):
            await core.snapshot()
        await core.clicks(clicks[70:80])
        copied(tmp_path, tmp_path / "copies")
        await core.close()
        core = await Core.open(chosen(tmp_path, history="on"))
        await core.close()

    asyncio.run(run())
    assert_history(tmp_path / "history", expected(tmp_path / "copies", tmp_path))


def test_with_counters_in_redis_it_is_the_same(tmp_path, model_folder, clicks):
    async def run(redis, state):
        core = await Core.open(chosen(state, model_folder, history="on", redis=redis))
        await core.clicks(clicks[:100])
        await core.close()

    with serving(tmp_path) as port:
        asyncio.run(run(f"redis://127.0.0.1:{port}/0", tmp_path / "a"))
    asyncio.run(run(None, tmp_path / "b"))
    one, other = (
        pl.concat(History(tmp_path / name / "history").clicks()).drop("t", "purchase_t", "source") for name in "ab"
    )
    assert one.equals(other)


def test_entries_that_the_journal_has_lost_are_set_aside(tmp_path, model_folder, clicks):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, history="on"))
        await core.snapshot()
        shutil.copytree(tmp_path / "journal", tmp_path / "older")
        await core.clicks(clicks[:10])
        await core.close()
        shutil.rmtree(tmp_path / "journal")
        os.rename(tmp_path / "older", tmp_path / "journal")
        core = await Core.open(chosen(tmp_path, history="on"))
        await core.clicks(clicks[10:14])
        await core.close()

    asyncio.run(run())
    ids = pl.concat(History(tmp_path / "history").clicks(columns=("click_id",)))["click_id"].to_list()
    assert ids == [click.click_id for click in clicks[10:14]]
    assert len(parts(tmp_path / "history" / "set-aside", "clicks")) == 1


def test_with_pseudonyms_nobody_is_named_and_features_recount_the_same(tmp_path, model_folder, clicks):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, history="on", pseudonyms="on"))
        await core.clicks(clicks[:200])
        await core.close()

    asyncio.run(run())
    found = pl.concat(History(tmp_path / "history").clicks())
    for column in ("user_id", "session_id", "ip"):
        assert not set(found[column].drop_nulls()) & {getattr(click, column) for click in clicks}
    recounted = prepare(found.select(list(SCHEMA)))
    assert np.array_equal(recounted.X, features_of(found))
    assert oct((tmp_path / "history.key").stat().st_mode)[-3:] == "600"
    key = read_key(tmp_path / "history.key")
    user = next(click.user_id for click in clicks[:200] if click.user_id)
    assert erase(tmp_path / "history", user, Pseudonyms(key)).clicks == sum(c.user_id == user for c in clicks[:200])


def test_what_asks_all_processes_of_a_service_to_stop_does_not_stop_the_last_files(tmp_path, model_folder, clicks):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, history="on"))
        await core.clicks(clicks[:20])
        closing = asyncio.create_task(core.close())
        while not (writers := of_history()):
            await asyncio.sleep(0.001)
        for pid in writers:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        await closing

    asyncio.run(run())
    assert History(tmp_path / "history").rows() == 20
