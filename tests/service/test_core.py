"""The core: what was answered survives, bit for bit, and what cannot be kept is not learned."""

import asyncio
import dataclasses
import re
import shutil

import msgspec
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from onlineguard_service.core import Core
from onlineguard_service.guard import Guard
from onlineguard_service.http.metrics import Metrics
from prometheus_client.parser import text_string_to_metric_families

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.model import load_model, save_model
from onlineguard.wire.requests import Event, Label
from tests.support.cores import chosen, crashed
from tests.support.events import events, told
from tests.support.exported import metrics
from tests.support.redis_server import serving


def test_what_was_answered_is_there_after_a_crash_to_the_last_bit(tmp_path, model_folder, other_folder, clicks):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder))
        await core.update(events(700, ids=True))
        await core.clicks(clicks[:150])
        await core.snapshot()
        await core.labels([Label(click.click_id, click.ts) for click in clicks[:20]])
        await core.switch(other_folder)
        await core.clicks(clicks[150:300])
        digest, answers = core.digest(), await core.clicks(clicks[100:200])
        await crashed(core)
        again = await Core.open(chosen(tmp_path))
        assert again.digest() == digest  # the repeated request was an entry, and taught nothing
        assert await again.clicks(clicks[100:200]) == answers
        assert again.status()["model_version"] == told(answers)[-1]["model_version"]
        totals = again.status()
        await again.close()
        assert (totals["events"], totals["clicks"]) == (700, len({click.click_id for click in clicks[:300]}))
        third = await Core.open(chosen(tmp_path))
        assert third.digest() == again.digest()
        await third.close()

    asyncio.run(run())


def test_the_metrics_are_told_what_is_held_and_what_came_again_and_no_replay_counts_twice(
    tmp_path, model_folder, clicks
):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, n_features=1, durability="group"))
        await core.clicks(clicks[:20])
        await core.clicks(clicks[10:30])
        event = Event("a", [1.0], id="e")
        await core.update([event])
        await core.update([event, Event("b", [1.0])])
        with pytest.raises(InvalidArgument):
            await core.update([Event("a", [2.0], id="e")])
        for _ in range(2):
            await core.labels([Label(clicks[0].click_id, clicks[0].ts)])
        status = core.status()
        names = len({click.click_id for click in clicks[:30]})
        assert (status["duplicates"], status["conflicts"], status["purchases"]) == (40 - names + 1 + 1, 1, 1)
        assert status["slices"]["events"] == {"held": 2, "born": 2, "evicted": 0}
        assert status["entities"]["users"] == len({click.user_id for click in clicks[:30]} - {None})
        assert status["snapshot"]["behind"] > 0.0
        assert status["journal"]["age"] >= 0.0
        assert (len(status["journal"]["syncs"]) > 0, status["journal"]["waiting"], status["redis"]) == (True, 0, None)
        told = Metrics(core.status).text().decode()
        found = {sample.name for family in text_string_to_metric_families(told) for sample in family.samples}
        # Without HTTP nobody has asked. It is no replica, and there is no Redis, registry, history, snapshot, promise,
        # standby, webhook, namespace, lookup or trial, and it is no worker of shards.
        absent = "up|ALERTS|onlineguard(_redis|_registry|_history|_key|_request|_batch|_rate|_psi|_model_age|:)"
        absent += "|onlineguard_(replica|snapshot_age|standby_|namespace|webhook|lookups|trial_[cprs]|worker_|shard_)"
        assert {name for name in metrics() if not re.match(absent, name)} <= found <= metrics().keys()
        await crashed(core)
        again = await Core.open(chosen(tmp_path, n_features=1))
        assert (again.status()["duplicates"], again.status()["conflicts"]) == (0, 0)
        await again.snapshot()
        assert (again.status()["snapshot"]["behind"], again.degraded()) == (0.0, [])
        await again.close()

    asyncio.run(run())


@pytest.mark.slow
def test_a_model_of_another_companys_log_is_refused_unless_it_is_forced(tmp_path, model_folder, other_folder):
    model = load_model(other_folder)
    abroad = tuple((device, "FR", logged_in) for device, _, logged_in in model.thresholds.keys)
    thresholds = dataclasses.replace(model.thresholds, keys=abroad)
    foreign = save_model(tmp_path / "foreign", dataclasses.replace(model, thresholds=thresholds))

    async def run():
        core = await Core.open(chosen(tmp_path / "state", model_folder))
        live = core.status()["model_version"]
        with pytest.raises(CheckpointError, match=r"does not know .*; send \"force\": true if it shall decide"):
            await core.switch(tmp_path / "foreign")
        assert core.status()["model_version"] == live
        assert await core.switch(tmp_path / "foreign", force=True) == foreign.version
        await core.close()

    asyncio.run(run())


@pytest.mark.slow
def test_begins_with_a_model_of_its_own_where_none_is_given(tmp_path, clicks, monkeypatch):
    monkeypatch.setattr("onlineguard_service.models.CLICKS", 60_000)

    async def run():
        core = await Core.open(chosen(tmp_path))
        answers = told(await core.clicks(clicks[:10]))
        version = core.status()["model_version"]
        await core.close()
        assert {answer["model_version"] for answer in answers} == {version}
        again = await Core.open(chosen(tmp_path))
        assert again.status()["model_version"] == version
        await again.close()

    asyncio.run(run())


@pytest.mark.slow
def test_a_flood_of_new_users_is_told_of_once_replayed_the_same_and_kept_within_a_bound_that_may_change(
    tmp_path, model_folder, clicks, caplog, monkeypatch
):
    monkeypatch.setattr("onlineguard_service.core.AHEAD_EVERY", 0.05)
    flood = [
        msgspec.structs.replace(clicks[0], click_id=f"f{i}", user_id=f"f{i}", ts=clicks[0].ts + i)
        for i in range(12_000)
    ]

    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, max_entities=10_000))
        await core.clicks(clicks[:640])
        await core.snapshot()
        await core.clicks(flood)
        await asyncio.sleep(0.2)
        assert caplog.text.count("than max_entities, 10000, allows to count") == 1
        status = core.status()
        assert status["entities"]["users"] <= 10_000
        assert status["evicted"]["users"] > 2_000
        digest = core.digest()
        await crashed(core)
        again = await Core.open(chosen(tmp_path, max_entities=10_000))
        assert again.digest() == digest
        await again.close()
        more = await Core.open(chosen(tmp_path, max_entities=20_000))
        assert more.status()["evicted"] == status["evicted"]
        await more.clicks(
            [msgspec.structs.replace(click, click_id=f"n{i}", user_id=f"n{i}") for i, click in enumerate(flood[:4_000])]
        )
        assert more.status()["entities"]["users"] > 10_000
        await more.close()
        less = await Core.open(chosen(tmp_path, max_entities=10_000))
        assert less.status()["entities"]["users"] <= 10_000
        await less.close()

    asyncio.run(run())


def test_large_requests_equal_small_ones_and_let_others_in_between(tmp_path, model_folder, clicks):
    async def run():
        whole = await Core.open(chosen(tmp_path / "a", model_folder, n_features=1))
        parts = await Core.open(chosen(tmp_path / "b", model_folder, n_features=1))
        order = []

        async def large():
            answers = await whole.clicks(clicks[:300])
            order.append("large")
            return answers

        async def small():
            order.append((await whole.update([Event("x", [1.0])]))[0].slice)

        answers, _ = await asyncio.gather(large(), small())
        assert order == ["x", "large"]
        singly = [(await parts.clicks([click]))[0] for click in clicks[:300]]
        for one, other in zip(told(answers), told(singly), strict=True):
            assert one["anomaly"] == other["anomaly"]
            assert one["p_robot"] == other["p_robot"]
        await whole.close()
        await parts.close()

    asyncio.run(run())


def test_a_request_that_does_not_fit_is_refused_before_anything_is_learned(tmp_path, model_folder):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, n_features=2))
        before = core.digest()
        with pytest.raises(InvalidArgument, match=r"events\[400\]"):
            await core.update([*events(400), Event("a", [1.0])])
        assert core.digest() == before
        await core.close()

    asyncio.run(run())


def test_other_options_than_the_state_was_begun_with_are_refused(tmp_path, model_folder):
    async def run():
        await (await Core.open(chosen(tmp_path, model_folder))).close()
        with pytest.raises(CheckpointError, match=r"begun with detector = \w+, and this start has detector = series;"):
            await Core.open(chosen(tmp_path, model_folder, detector="series"))
        shutil.rmtree(tmp_path / "models")
        with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
            await Core.open(chosen(tmp_path))

    asyncio.run(run())


def test_a_state_goes_on_with_other_rates_patience_and_bounds_and_so_does_its_replay(tmp_path, model_folder, clicks):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, n_features=2))
        await core.update([*events(20), *(Event(f"slice {i}", [0.0, 1.0], id=f"e{i}") for i in range(40))])
        await core.clicks(clicks[:20])
        await core.close()
        others = {"target_rate": 0.05, "patience": 50.0, "max_slices": 10, "remember": 5}
        tuned = await Core.open(chosen(tmp_path, model_folder, n_features=2, **others))
        engine = tuned._guard.events
        assert (engine.target_rate, engine.patience, engine.max_slices) == (0.05, 50.0, 10)
        assert engine.n_slices <= 10
        await tuned.update(events(20, seed=1))
        await tuned.clicks(clicks[20:40])
        digest = tuned.digest()
        await crashed(tuned)
        recovered = await Core.open(chosen(tmp_path, model_folder, n_features=2, **others))
        assert recovered.digest() == digest
        assert recovered.status()["journal"]["sequence"] == tuned.status()["journal"]["sequence"]  # tuned once
        await recovered.close()
        larger = await Core.open(chosen(tmp_path, model_folder, n_features=2, max_slices=1_000))
        await larger.update([Event(f"more {i}", [0.0, 1.0]) for i in range(100)])
        assert larger._guard.events.n_slices >= 100
        await larger.close()

    asyncio.run(run())


def test_nothing_is_compiled_after_opening(tmp_path, model_folder, clicks):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder, n_features=2))
        before = core.status()["compilations"]
        for n in (1, 2, 7, 64, 300):
            await core.clicks(clicks[n : 2 * n])
            await core.update(events(n, seed=n))
            await core.score(events(n))
        await core.snapshot()
        assert core.status()["compilations"] == before
        await core.close()

    asyncio.run(run())


def test_the_first_event_compiles_nothing_while_the_loop_waits(tmp_path, model_folder, monkeypatch):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder))
        started, seen = core.status()["compilations"], []
        apply = Guard.apply

        def counted(guard, entry, sequence):
            seen.append(core.status()["compilations"])
            answers = apply(guard, entry, sequence)
            seen.append(core.status()["compilations"])
            return answers

        monkeypatch.setattr(Guard, "apply", counted)
        await core.update([Event("a", [float(i) for i in range(19)])])  # a width that no other test has
        assert started < seen[0] == seen[1]
        await core.close()

    asyncio.run(run())


def test_slices_show_what_happened_to_them(tmp_path, model_folder, clicks):
    async def run():
        core = await Core.open(chosen(tmp_path, model_folder))
        await core.update([*events(400, slices=1), Event("s0", [900.0, 100.0], ts=123)])
        answers = told(await core.clicks(clicks[:200]))
        shown = await core.slices("events")
        assert shown["total"] == 1
        (row,) = shown["slices"]
        assert (row["of"], row["slice"], row["events"], row["last_ts"]) == ("events", "s0", 401, 123)
        assert row["anomalies"] >= 1
        whole = core.slice("events", "s0")
        assert len(whole["history"]["score"]) == 256
        assert whole["history"]["anomalous"][-1] is True
        assert next(iter(whole["drivers"])) == 0  # the first feature was the odd one
        assert (shown["found"], (await core.slices("events", contains="S0"))["found"]) == (1, 1)
        assert await core.slices("events", contains="other") == {"slices": [], "total": 1, "found": 0}
        both = (await core.slices(None, sort="name", descending=False, limit=1_000))["slices"]
        assert [row["slice"] for row in both] == sorted(row["slice"] for row in both)
        assert (await core.slices(None, sort="ivr", limit=1_000))["slices"][-1]["of"] == "events"  # which have none
        rows = (await core.slices("clicks", sort="ivr", limit=1_000))["slices"]
        assert [row["ivr"] for row in rows] == sorted((row["ivr"] for row in rows), reverse=True)
        first = {}
        for answer in answers:
            first.setdefault(answer["click_id"], answer)
        for row in rows:
            mine = [answer for answer in first.values() if answer["slice"] == row["slice"]]
            assert row["events"] == len(mine)
            assert row["ivr"] == pytest.approx(sum(a["decision"] == "robotic" for a in mine) / len(mine))
        with pytest.raises(KeyError):
            core.slice("events", "nobody")
        live = core.live()
        assert msgspec.json.encode(live)
        await core.close()

    asyncio.run(run())


@settings(max_examples=5)
@given(st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 90)), min_size=1, max_size=6), st.integers(0, 6))
def test_a_snapshot_anywhere_changes_nothing(tmp_path_factory, model_folder, clicks, requests, at):
    async def run(snapshot):
        folder = tmp_path_factory.mktemp("state")
        core = await Core.open(chosen(folder, model_folder))
        for i, (start, n) in enumerate(requests):
            if snapshot and i == at:
                await core.snapshot()
            await core.clicks(clicks[start : start + n])
        await crashed(core)
        again = await Core.open(chosen(folder))
        digest = again.digest()
        await crashed(again)
        return digest

    async def both():
        return await run(True), await run(False)

    with_one, without = asyncio.run(both())
    assert with_one == without


@pytest.mark.slow
def test_without_redis_clicks_are_answered_as_unknown_and_taken_once_it_is_back(tmp_path, model_folder, clicks):
    async def run(url, client):
        core = await Core.open(chosen(tmp_path / "redis", model_folder, redis=url))
        here = await Core.open(chosen(tmp_path / "here", model_folder))
        first = await core.clicks(clicks[:50])
        assert first == await here.clicks(clicks[:50])
        client.shutdown(nosave=True)
        before = core.digest()
        degraded = told(await core.clicks(clicks[40:60]))
        assert [answer["decision"] == "unknown" for answer in degraded] == [
            click.click_id not in {c.click_id for c in clicks[:50]} for click in clicks[40:60]
        ]
        assert degraded[-1]["degraded"] == ["counters"]
        assert core.digest() == before
        status = core.status()
        assert status["degraded"] > 0
        assert len(status["redis"]["seconds"]["counters"]) == 1
        assert status["redis"]["failures"] == {"counters": 1}
        assert core.degraded()[0].startswith("counters: ConnectionError")
        await core.close()
        await here.close()

    with serving(tmp_path) as port:
        asyncio.run(run(f"redis://127.0.0.1:{port}", redis.Redis(port=port)))
