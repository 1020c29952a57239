"""Replicas decide as the shards do, and a fleet's figures are those of one service that is sent everything."""

import asyncio
import dataclasses

import msgspec
import numpy as np
import pytest
from onlineguard_service.core import Core
from onlineguard_service.errors import LearnsElsewhere, StaleSnapshots
from onlineguard_service.telling import verdict_answers

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.counting.counters import ClickKeys
from onlineguard.wire.placement import key_of, partition_of
from onlineguard.wire.requests import Event, Label
from tests.support.cores import chosen
from tests.support.fleets import PARTITIONS, Fleet
from tests.support.redis_server import serving


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis")) as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def fleet(tmp_path, redis, model_folder):
    return Fleet(tmp_path, redis, model_folder)


def without_watch(answers):
    """Answers but for what the watch says, which is of the slice as it was in another place, or a moment ago."""
    return [msgspec.structs.replace(answer, anomaly=None) for answer in answers]


def test_the_decisions_of_replicas_are_those_of_the_shards_and_figures_add_up_to_one_service(
    fleet, redis, model_folder, clicks, monkeypatch, tmp_path
):
    sent = [  # among them a session that clicks as no human does
        msgspec.structs.replace(click, user_id="robot", session_id="robot") if place % 4 == 0 else click
        for place, click in enumerate(clicks[:700])
    ]

    async def run():
        one = await Core.open(chosen(tmp_path / "one", model_folder, redis=redis, redis_prefix="one", remember=10_000))
        replicas = await fleet.start(monkeypatch, 2)
        answered, alone = [], []
        for number, start in enumerate(range(0, 700, 70)):
            part = sent[start : start + 70]
            answered += await fleet.clicked(replicas[number % 2], part)
            alone += await one.clicks(part)
            fleet.settle()
        labels = [Label(click.click_id, click.ts) for click in sent[::9]]
        for label, click in zip(labels, sent[::9], strict=True):
            partition = partition_of(key_of(click), PARTITIONS)
            fleet.log.writer().write(partition, b"", msgspec.json.encode(label), "labels")
        await one.labels(labels)
        fleet.settle()
        published = fleet.decisions()
        assert without_watch(answered) == without_watch(published[answer.click_id] for answer in answered)
        assert without_watch(answered) == without_watch(alone)
        figures = [shard.guard.click_figures for shard in fleet.shards]
        whole = one._guard.click_figures
        expected = {name: count for name, count in whole.totals().items() if name != "anomalies"}
        totals = [each.totals() for each in figures]
        assert {name: sum(each[name] for each in totals) for name in expected} == expected
        assert min(expected.values()) > 0
        rates = [each.rates(100) for each in figures]
        for name, counts in whole.rates(100).items():
            assert {slice_: sum(each[name].get(slice_, 0) for each in rates) for slice_ in counts} == counts
        again = await replicas[0].clicks(sent[:70])
        assert again == answered[:70]
        fleet.settle()
        assert [shard.guard.click_figures.totals() for shard in fleet.shards] == totals
        await one.close()
        await fleet.close()

    asyncio.run(run())


def test_the_watch_of_a_click_is_that_of_the_newest_snapshot_of_its_partition(fleet, clicks, monkeypatch):
    async def run():
        (replica,) = await fleet.start(monkeypatch, 1, replica_every=3_600)
        await fleet.clicked(replica, clicks[:2_000])
        fleet.settle()
        replica._views.look()
        offsets = [shard.offset for shard in fleet.shards]
        assert [view.offset for view in replica._views.now] == offsets
        asked = clicks[2_000:2_040]
        counts = await replica._counting.count(ClickKeys.of(asked))
        judged = replica._guard._judging.click_judge.judge(asked, [replica._guard.slice_of(c) for c in asked], counts)
        for place, (click, verdict) in enumerate(zip(asked, verdict_answers(judged.verdicts), strict=True)):
            guard = fleet.shards[partition_of(key_of(click), PARTITIONS)].guard
            alone = guard.watch.score([guard.slice_of(click)], judged.watched[place : place + 1].astype(np.float64))
            assert verdict_answers(alone) == [verdict]
        assert any(verdict.ready for verdict in verdict_answers(judged.verdicts))
        await fleet.close()

    asyncio.run(run())


def test_a_replica_refuses_to_learn_and_answers_nothing_from_snapshots_that_are_too_old(fleet, clicks, monkeypatch):
    events = [Event("a", [1.0, 2.0]), Event("b", [1.0, 2.0]), Event("a", [1.0])]

    async def run():
        (replica,) = await fleet.start(monkeypatch, 1, replica_every=3_600)
        scored = await replica.score(events[:2])
        assert scored.offsets == {partition_of(key_of(event), PARTITIONS): -1 for event in events[:2]}
        assert scored.headers[0][0] == b"age"
        with pytest.raises(InvalidArgument, match=r"events\[1\]"):
            await replica.score([Event("a", [1.0, 2.0]), Event("a", [1.0])])
        refused = (replica.update(events), replica.labels([]), replica.decisions([]), replica.erase("u"))
        for each in (*refused, replica.snapshot(), replica.within("n")):
            with pytest.raises(LearnsElsewhere, match="learns nothing"):
                await each
        assert replica.reasons() == replica.degraded() == []
        replica._views.now = tuple(dataclasses.replace(view, t=view.t - 1_000_000) for view in replica._views.now)
        with pytest.raises(StaleSnapshots, match="older than replica_age, 180 s"):
            await replica.score(events[:2])
        assert "older than 180 s" in replica.degraded()[0]
        (answer,) = await fleet.clicked(replica, clicks[:1])  # which needs no snapshot to be decided
        assert answer.decision in ("robotic", "valid")
        assert not answer.anomaly.ready
        await fleet.close()

    asyncio.run(run())
