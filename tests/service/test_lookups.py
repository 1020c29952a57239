"""Lookups in the service: what a click found is in its entry, and is what a log of it finds years later."""

import asyncio
import dataclasses
import shutil
from datetime import date

import numpy as np
import polars as pl
import pytest
from onlineguard_service.core import Core
from onlineguard_service.entries import Options
from onlineguard_service.guard import Guard
from onlineguard_service.models import Models

from onlineguard.records.click import Click
from onlineguard.slidr.features import LOOKED_UP, Featuriser
from onlineguard.slidr.history.reading import History, features_of
from onlineguard.slidr.lookups.lookups import Lookups, opened
from onlineguard.slidr.lookups.nightly import OfLog, build
from onlineguard.slidr.model import load_model
from onlineguard.slidr.replay.replay import replayed
from tests.support.cores import chosen, crashed
from tests.support.redis_server import serving


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """The lookups of the first day, with every tenth network among the hosting ones."""
    folder = tmp_path_factory.mktemp("lookups")
    networks = sorted({f"{ip.rsplit('.', 1)[0]}.0/24" for ip in frame["ip"]})
    (folder / "hosting.csv").write_text("\n".join(networks[::10]))
    build(folder, OfLog(frame, "log"), date(2026, 3, 2), hosting=folder / "hosting.csv")
    return folder


@pytest.fixture(scope="module")
def around(frame, folder):
    """Clicks of before and after the version comes into force."""
    (version,) = Lookups(folder).versions
    begins = int((frame["ts"] < version.about.since).sum())
    return frame[begins - 100 : begins + 300]


def records(rows):
    return [Click(**{name: row[name] for name in Click.__struct_fields__}) for row in rows.iter_rows(named=True)]


async def lived(core, clicks):
    """The clicks in batches, then one by one."""
    for start in range(0, 340, 50):
        await core.clicks(clicks[start : min(340, start + 50)])
    for click in clicks[340:]:
        await core.clicks([click])


def held(history, around, folder):
    """What was recorded is what the log has offline."""
    found = features_of(pl.concat(history.clicks()))
    offline = Featuriser(lookups=opened(folder)).transform(around)
    first = around["click_id"].is_first_distinct().to_numpy()
    assert found.tobytes() == offline[first].tobytes()
    looked_up = offline[:, -len(LOOKED_UP) :]
    assert not looked_up[:90].any()
    assert looked_up[-300:].any(0).all()


def test_a_click_finds_live_what_it_finds_in_a_log_and_a_restart_needs_no_lookups(
    tmp_path, folder, around, model_folder
):
    shutil.copytree(folder, tmp_path / "lookups")

    async def run():
        settings = {"history": "on", "lookups": tmp_path / "lookups"}
        core = await Core.open(chosen(tmp_path / "state", model_folder, **settings))
        await lived(core, records(around))
        digest = core.digest()
        assert core.status()["lookups"]["version"] == "2026-03-02"
        await crashed(core)
        shutil.rmtree(tmp_path / "lookups")
        again = await Core.open(chosen(tmp_path / "state", **settings))
        assert again.digest() == digest
        assert again.status()["lookups"]["version"] is None
        await again.close()

    asyncio.run(run())
    history = History(tmp_path / "state" / "history")
    held(history, around, folder)
    model = load_model(model_folder)
    for lookups in (None, opened(folder)):
        anew = pl.concat(replayed(history, model, recompute=True, lookups=lookups))
        assert anew["score"].equals(anew["was_score"].alias("score"))


@pytest.mark.slow
def test_with_counters_in_redis_a_click_finds_the_same(tmp_path, folder, around, model_folder):
    async def run(port):
        more = {"history": "on", "lookups": folder, "redis": f"redis://127.0.0.1:{port}"}
        core = await Core.open(chosen(tmp_path / "state", model_folder, **more))
        await lived(core, records(around))
        await core.close()

    with serving(tmp_path) as port:
        asyncio.run(run(port))
    held(History(tmp_path / "state" / "history"), around, folder)


def test_a_version_that_is_built_while_the_service_runs_is_taken_up(tmp_path, folder, around, model_folder):
    async def run():
        more = {"lookups": tmp_path / "lookups", "lookups_every": 0.1}
        core = await Core.open(chosen(tmp_path / "state", model_folder, **more))
        await core.clicks(records(around[:10]))
        shutil.copytree(folder, tmp_path / "lookups")
        while core.status()["lookups"]["version"] is None:
            await asyncio.sleep(0.05)
        await core.close()

    asyncio.run(run())


def test_a_model_that_was_trained_with_lookups_does_not_decide_without_them(tmp_path, model_folder):
    models = Models(tmp_path)
    plain = models.put(model_folder)
    scorer = dataclasses.replace(plain.scorer, scale=np.ones_like(plain.scorer.scale))  # as if every feature had varied
    trained_with = dataclasses.replace(plain, scorer=scorer)
    assert (plain.looks_up, trained_with.looks_up) == (False, True)
    guard = Guard(Options(), plain.version, models.get)
    assert guard.misfit(plain) is None
    assert "was trained with lookups, and this service has none" in guard.misfit(trained_with)
    guard.looking_up = True
    assert guard.misfit(trained_with) is None
