"""What the service shows of its registry and changes in it, and that a registry which hangs holds up nothing else."""

import asyncio
import dataclasses
import os
import threading

import msgspec
import pytest
from onlineguard_service import versions
from onlineguard_service.core import Core
from onlineguard_service.errors import RegistryUnavailable

from onlineguard.errors import Conflict, InvalidArgument
from onlineguard.records.versions import Outcome
from onlineguard.slidr.model import load_model, save_model
from onlineguard.slidr.registry.registry import Registry
from onlineguard.wire.registry import Promotion, Rollback
from tests.support.cores import chosen

PASSED = Outcome("outages", "data", "passed", "none", "why", {"share": 0.9}, {"least": 0.5})
FAILED = Outcome("ivr", "candidate", "failed", "far off", "why", {"ivr": 0.3}, {"most": 0.1})


def share(value):
    return {"hits": 1, "trials": 100, "value": value, "low": 0.0, "high": 1.0}


@pytest.fixture(scope="module")
def folders(model_folder, other_folder, tmp_path_factory):
    """Two models, and one of another country."""
    model = load_model(other_folder)
    keys = tuple((device, "FR", logged_in) for device, _, logged_in in model.thresholds.keys)
    foreign = tmp_path_factory.mktemp("foreign")
    save_model(foreign, dataclasses.replace(model, thresholds=dataclasses.replace(model.thresholds, keys=keys)))
    return model_folder, other_folder, foreign


@pytest.fixture
def registry(tmp_path, folders):
    registry = Registry(tmp_path / "registry")
    group = {"clicks": 100, "purchases": 5, "auc": None, "ivr": share(0.04), "fpr": share(0.01), "coverage": share(0.5)}
    slices = [{"name": "mobile / US / true", **group}]
    metrics = {"overall": {"name": "all", **group}, "slices": slices}
    registry.first = registry.add(folders[0], metrics=metrics, guardrails=[PASSED]).version
    registry.second = registry.add(folders[1], guardrails=[PASSED, FAILED]).version
    registry.foreign = registry.add(folders[2]).version
    registry.promote(registry.first, "the first", who="cron")
    return registry


def test_versions_are_shown_promoted_and_rolled_back_and_the_service_decides_by_them_at_once(tmp_path, registry):
    async def run():
        core = await Core.open(chosen(tmp_path / "state", registry=registry.url, registry_every=3_600.0))
        of = core.versions
        state = await of.state(10, 0)
        assert (state.live, state.current, state.previous, state.generation) == (registry.first,) * 2 + (None, 1)
        rows = {row.version: row for row in state.versions}
        assert list(rows) == sorted(rows, key=lambda name: -registry.record(name).made)
        assert (rows[registry.second].passed, rows[registry.second].failed) == (1, ["ivr"])
        assert rows[registry.first].measured.fpr == 0.01
        assert (await of.state(1, 2)).versions == state.versions[2:]

        whole = await of.version(registry.first)
        assert whole.guardrails == [PASSED]
        assert whole.slices[0].of == "mobile / US / true"  # that of most clicks
        thresholds = load_model(tmp_path / "state" / "models" / registry.first).thresholds.calibration
        assert {each.threshold for each in whole.slices} == {*thresholds.thresholds.tolist(), thresholds.default}
        beside = await of.diff(registry.first, registry.second)
        assert {row.name: (row.a, row.b) for row in beside.facts}["kind"] == ("mlp", "mlp")
        for wrong in (of.version("none"), of.diff(registry.first, "../first")):
            with pytest.raises(InvalidArgument, match="version is"):
                await wrong

        with pytest.raises(InvalidArgument, match="failed ivr"):
            await of.promote(Promotion(registry.second, "daily"), "boss")
        with pytest.raises(Conflict, match="cron made"):
            await of.promote(Promotion(registry.second, "daily", True, 0), "boss")
        assert core.status()["model_version"] == registry.first
        changed = await of.promote(Promotion(registry.second, "it was announced", True, 1), "boss")
        assert (changed.live, changed.problem) == (registry.second, None)
        assert core.status()["model_version"] == registry.second
        assert (changed.change.who, changed.change.forced) == ("boss", ["ivr"])
        assert registry.head() == changed.change
        state = await of.state(10, 0)
        assert (state.live, state.current, state.previous) == (registry.second, registry.second, registry.first)

        refused = await of.promote(Promotion(registry.foreign, "by mistake"), "boss")
        assert (refused.change.current, refused.live) == (registry.foreign, registry.second)
        assert "does not know" in refused.problem
        assert (await of.state(10, 0)).refused == refused.problem
        back = await of.rollback(Rollback("it was a mistake"), "boss")
        assert (back.change.action, back.live, back.problem) == ("rollback", registry.second, None)
        assert [each.why for each in (await of.changes(2, 0)).changes] == ["it was a mistake", "by mistake"]
        await core.close()

    asyncio.run(run())


def test_a_registry_that_hangs_is_told_within_seconds_and_holds_up_nothing_else(
    tmp_path, registry, clicks, monkeypatch
):
    monkeypatch.setattr(versions, "PATIENCE", 0.2)
    monkeypatch.setattr(versions, "FRESH", 0.0)

    async def run():
        core = await Core.open(chosen(tmp_path / "state", registry=registry.url, registry_every=3_600.0))
        pipe = tmp_path / "registry" / "versions" / "hangs" / "record.json"
        pipe.parent.mkdir()
        os.mkfifo(pipe)  # whoever reads it waits for whoever writes it
        for _ in range(3):
            with pytest.raises(RegistryUnavailable, match="has not answered"):
                await core.versions.state(10, 0)
        assert len(await core.clicks(clicks[:5])) == 5
        assert sum(thread.name == "aside" for thread in threading.enumerate()) == 1  # not one a question
        promoted = await core.versions.promote(Promotion(registry.second, "all the same", True), "boss")
        assert promoted.live == registry.second
        pipe.open("w").close()  # what comes is no record
        while True:
            try:
                await core.versions.state(10, 0)
            except RegistryUnavailable as error:
                if "damaged" in str(error):
                    break
            await asyncio.sleep(0.05)
        pipe.unlink()
        assert (await core.versions.state(10, 0)).live == registry.second
        await core.close()

    asyncio.run(run())


def test_without_a_registry_the_model_that_decides_is_shown_with_what_is_known_of_it(tmp_path, model_folder):
    model = load_model(model_folder)

    async def run():
        core = await Core.open(chosen(tmp_path / "state", model_folder))
        state = await core.versions.state(10, 0)
        assert (state.registry, state.live, state.current, state.total) == (None, model.version, None, 1)
        row = state.versions[0]
        assert (row.version, row.made, row.who) == (model.version, None, None)
        assert msgspec.structs.asdict(row.trained) == vars(model.trained)
        whole = await core.versions.version(model.version)
        assert len(whole.slices) == len(model.thresholds.keys) + 1
        for refused in (
            core.versions.changes(10, 0),
            core.versions.version("none"),
            core.versions.promote(Promotion("v", "why"), "boss"),
        ):
            with pytest.raises(InvalidArgument, match="registry"):
                await refused
        await core.close()

    asyncio.run(run())
