"""The service and a registry: what is current decides, what does not fit is refused once, and a fault is taken back."""

import asyncio
import dataclasses

import msgspec
import pytest
from onlineguard_service.core import Core

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.guardrails.promises import promised
from onlineguard.slidr.model import load_model, save_model
from onlineguard.slidr.pipeline import prepare
from onlineguard.slidr.registry.registry import Registry
from onlineguard.wire.requests import Label
from tests.support.cores import chosen, crashed


@pytest.fixture(scope="module")
def eager(other_folder, tmp_path_factory):
    """A model that calls nearly every click robotic."""
    model = load_model(other_folder)
    calibration = model.thresholds.calibration
    low = dataclasses.replace(calibration, thresholds=0.0 * calibration.thresholds, default=0.0)
    folder = tmp_path_factory.mktemp("eager")
    save_model(folder, dataclasses.replace(model, thresholds=dataclasses.replace(model.thresholds, calibration=low)))
    return folder


@pytest.fixture(scope="module")
def told(frame, model_folder):
    """What the first model does on the clicks that are sent, but that it calls one in fifty robotic."""
    model = load_model(model_folder)
    prepared = prepare(frame, model.config)
    found = promised(prepared, model, prepared.first, prepared.first, int(prepared.ts.max()) + 1)
    slices = {name: msgspec.structs.replace(p, robotic=p.clicks // 50) for name, p in found.slices.items()}
    return msgspec.structs.replace(found, slices=slices, clicks_a_day=1_000.0)


@pytest.fixture
def registry(tmp_path, model_folder, eager, told):
    registry = Registry(tmp_path / "registry")
    registry.first = registry.add(model_folder, promises=told).version
    registry.second = registry.add(eager, promises=told).version
    registry.promote(registry.first, "the first")
    return registry


def following(tmp_path, registry, **more):
    return chosen(tmp_path / "state", registry=registry.url, registry_every=0.1, **more)


async def until(met):
    for _ in range(600):
        if met():
            return
        await asyncio.sleep(0.05)
    pytest.fail("did not come about")


def version(core):
    return core.status()["model_version"]


def test_what_the_registry_says_is_current_decides_and_a_request_has_one_model(tmp_path, registry, clicks):
    async def run():
        core = await Core.open(following(tmp_path, registry))
        assert version(core) == registry.first
        assert core.watch()["watched"]
        registry.promote(registry.second, "daily")
        seen = []
        while version(core) != registry.second:
            answers = await core.clicks(clicks[:300])  # in parts, between which the model must not change
            assert len({answer.model_version for answer in answers}) == 1
            seen = await core.clicks([msgspec.structs.replace(clicks[0], click_id=f"{len(seen)}")])
            await asyncio.sleep(0.01)
        assert await core.switch_to(registry.first) == registry.first
        await asyncio.sleep(0.3)
        assert version(core) == registry.first  # until the registry changes
        with pytest.raises(InvalidArgument, match="version is 'none'"):
            await core.switch_to("none")
        digest = core.digest()
        await crashed(core)
        core._deciding._looks.cancel()
        again = await Core.open(chosen(tmp_path / "state"))  # without the registry: from the state alone
        assert again.digest() == digest
        await again.close()

    asyncio.run(run())


def test_a_version_that_does_not_fit_is_refused_until_the_registry_changes(tmp_path, registry, other_folder):
    model = load_model(other_folder)
    abroad = tuple((device, "FR", logged_in) for device, _, logged_in in model.thresholds.keys)
    thresholds = dataclasses.replace(model.thresholds, keys=abroad)
    save_model(tmp_path / "foreign", dataclasses.replace(model, thresholds=thresholds))
    foreign = registry.add(tmp_path / "foreign").version

    async def run():
        core = await Core.open(following(tmp_path, registry))
        registry.promote(foreign, "by mistake")
        await until(lambda: core.status()["registry"]["refused"])
        await asyncio.sleep(0.5)
        assert core.status()["registry"]["refusals"] == 1
        assert version(core) == registry.first
        registry.rollback("it was a mistake")
        await until(lambda: not core.status()["registry"]["refused"])
        assert version(core) == registry.first
        await core.close()

    asyncio.run(run())


async def decided_until_an_alarm(core, clicks, alarms=None):
    """Clicks come, and one in twelve of them leads to a purchase."""
    for start in range(0, len(clicks), 60):
        part = clicks[start : start + 60]
        await core.clicks(part)
        await core.labels([Label(click.click_id, click.ts) for click in part[:5]])
        if alarms() if alarms else core.watch()["alarms"]:
            return


def test_a_model_far_from_its_promise_is_taken_back_once_here_and_in_the_registry(tmp_path, registry, clicks):
    async def run():
        settings = following(tmp_path, registry, rollback="on", remember=10_000)
        core = await Core.open(settings)
        registry.promote(registry.second, "daily")
        await until(lambda: version(core) == registry.second)
        await core.snapshot()
        await decided_until_an_alarm(core, clicks)
        alarm = core.watch()["alarms"][0]
        assert alarm["model_version"] == registry.second
        await until(lambda: registry.head().action == "rollback")
        assert version(core) == registry.first
        head = registry.head()
        assert (head.who, head.current, head.replaced) == ("live watch", registry.first, registry.second)
        assert alarm["figure"] in head.why
        await core.clicks(clicks[2_900:3_000])
        digest, shown, sequence = core.digest(), core.watch(), core.status()["journal"]["sequence"]
        await crashed(core)
        core._deciding._looks.cancel()
        again = await Core.open(settings)  # from the snapshot before the alarm
        assert (again.digest(), again.watch()) == (digest, shown)
        await asyncio.sleep(0.3)
        assert (again.status()["journal"]["sequence"], len(registry.changes())) == (sequence, 3)
        registry.promote(registry.second, "the promise was wrong", who="operator")
        await until(lambda: version(again) == registry.second)
        await again.close()

    asyncio.run(run())


def test_a_rollback_that_a_crash_prevented_is_made_up_for(tmp_path, registry, clicks):
    async def run():
        settings = following(tmp_path, registry, rollback="on", remember=10_000)
        core = await Core.open(settings)
        registry.promote(registry.second, "daily")
        await until(lambda: version(core) == registry.second)
        core._deciding.take_back_if_owed = lambda: None  # killed before it could
        core._deciding._looks.cancel()
        await decided_until_an_alarm(core, clicks)
        assert core._guard.rollback(0) is not None
        await crashed(core)
        again = await Core.open(settings)
        await until(lambda: registry.head().action == "rollback")
        assert version(again) == registry.first
        assert again.watch()["rollbacks"] == 1
        await again.close()

    asyncio.run(run())


def trial(core):
    return core.trial()["running"], core.trial()["version"], core.trial()["share"]


@pytest.mark.slow
def test_a_candidate_of_the_registrys_log_is_tried_and_ended_by_an_alarm_here_and_there(tmp_path, registry, clicks):
    async def run():
        settings = following(tmp_path, registry, remember=10_000)
        core = await Core.open(settings)
        registry.trial(registry.second, "to see")
        await until(lambda: trial(core) == (True, registry.second, 0.0))
        assert core.trial()["watched"]
        answers = await core.clicks(clicks[:300])
        assert {answer.model_version for answer in answers} == {registry.first}
        registry.end_trial("seen")
        await until(lambda: trial(core) == (False, registry.second, 0.0))
        registry.trial(registry.second, "in earnest", share=0.5)
        await until(lambda: trial(core) == (True, registry.second, 0.5))
        await core.snapshot()
        await decided_until_an_alarm(core, clicks[300:], lambda: core.trial()["alarms"])
        alarm = core.trial()["alarms"][0]
        assert (alarm["model_version"], version(core)) == (registry.second, registry.first)
        await until(lambda: registry.head().action == "end trial" and not trial(core)[0])
        assert registry.head().who == "live watch"
        assert alarm["figure"] in registry.head().why
        assert core.status()["trial"]["ended_by_itself"] == 1
        digest, shown = core.digest(), core.trial()
        await crashed(core)
        core._deciding._looks.cancel()
        again = await Core.open(settings)
        await asyncio.sleep(0.3)
        assert (again.digest(), again.trial()) == (digest, shown)
        await again.try_version(registry.second, 0.2)
        registry.promote(registry.second, "all the same")
        await until(lambda: version(again) == registry.second)
        assert again.trial()["why"] == f"model {registry.second} decides now"
        await again.close()

    asyncio.run(run())
