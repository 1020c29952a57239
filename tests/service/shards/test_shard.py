"""A shard: what it holds and tells follows from its partition's records alone, however they were cut into calls."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onlineguard_service.entries import Erase, Options, Switch, Tune
from onlineguard_service.journal.packing import pack, unpack
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import Record
from onlineguard_service.partitions.records import controlled
from onlineguard_service.shards.shard import Shard

from onlineguard.errors import CheckpointError
from onlineguard.wire.requests import Event
from tests.support.shards import NOON, OPTIONS, one_by_one, records, shard


@pytest.fixture(scope="module")
def models(model_folder, other_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first, kept.second = kept.put(model_folder).version, kept.put(other_folder).version
    return kept


@pytest.fixture(scope="module")
def whole(models, clicks):
    """Some records, and what comes of them one by one."""
    given = records(420, 1, clicks, (models.first, models.second))
    one = shard(models)
    return given, one_by_one(one, given), one.digest()


def test_the_records_hold_every_kind_of_case(whole):
    given, (outputs, _), _ = whole
    assert {record.kind for record in given} == {"events", "clicks", "labels", "control"}
    assert {output.to for output in outputs} == {"decisions", "alarms", "dead"}
    alarms = [json.loads(output.value) for output in outputs if output.to == "alarms"]
    assert {alarm["state"] for alarm in alarms} == {"open", "over"}
    assert any(alarm["drivers"] for alarm in alarms)
    assert any(not alarm["drivers"] for alarm in alarms)


@settings(max_examples=3, phases=[Phase.generate])
@given(data=st.data())
def test_records_that_are_applied_together_lead_to_the_same_as_one_by_one(whole, models, data):
    given, (outputs, _), digest = whole
    one, found, at = shard(models), [], 0
    while at < len(given):
        n = data.draw(st.sampled_from([1, 40, 90, 420]))
        found += one.apply(given[at : at + n]).outputs
        at += n
        if n > 1 and data.draw(st.booleans()):
            one = Shard.restored(0, 1, unpack(pack(one.dump())), models.get)
    assert found == outputs
    assert one.digest() == digest


def test_many_small_records_are_learned_by_few_calls(models, monkeypatch):
    one, calls = shard(models), []
    update = type(one.guard.events).update
    monkeypatch.setattr(type(one.guard.events), "update", lambda *args: (calls.append(1), update(*args))[1])
    value = [msgspec.json.encode(Event("a", [float(i), 1.0])) for i in range(500)]
    one.apply([Record(i, NOON, value[i]) for i in range(500)])
    assert one.guard.n_learned("events") == 500
    assert len(calls) == 1


def test_every_output_has_a_number_of_its_own_among_those_of_its_record(whole):
    _, (outputs, _), _ = whole
    places = [(output.offset, output.number) for output in outputs]
    assert places == sorted(set(places))
    assert sorted({number for _, number in places})[0] == 0


def test_records_that_were_applied_are_passed_over(whole, models):
    given, (outputs, _), digest = whole
    one = shard(models)
    found = [*one.apply(given[:100]).outputs, *one.apply(given[50:]).outputs]
    assert (found, one.digest()) == (outputs, digest)


def test_a_record_that_names_a_model_that_cannot_be_had_stops_the_shard_before_it(models):
    def get(version):
        if version == models.second and not there:
            raise CheckpointError("it is not there yet")
        return models.get(version)

    there = []
    one = Shard(0, 1, Options(**OPTIONS), models.first, get)
    odd = [Record(i, NOON, msgspec.json.encode(Event("a", [float(i % 5), 1.0]))) for i in range(300)]
    odd[200] = odd[200]._replace(value=msgspec.json.encode(Event("a", [9_000.0, 1.0])))
    switch = Record(300, NOON + 5_000, controlled(Switch(models.second, 0)), "control")
    outcome = one.apply([*odd, switch])
    assert outcome.waits == "record 300: it is not there yet"
    assert one.offset == 299
    assert one.apply([switch]).outputs == []
    there.append(True)
    outcome = one.apply([switch])
    assert outcome.waits is None
    assert [json.loads(output.value)["drivers"] != {} for output in outcome.outputs] == [True]  # the alarm, explained
    assert one.guard.model.version == models.second


def test_a_tuning_and_an_erasure_stand_in_the_log(models, clicks):
    one = shard(models)
    given = [Record(i, NOON, msgspec.json.encode(click), "clicks") for i, click in enumerate(clicks[:50])]
    user = next(click.user_id for click in clicks[:50] if click.user_id)
    one.apply([*given, Record(50, NOON, controlled(Erase(user, 0)), "control")])
    assert user not in str(one.dump())
    assert one.guard.erasing == {}
    one.apply([Record(51, NOON, controlled(Tune(Options(**OPTIONS | {"target_rate": 0.05}), 0)), "control")])
    assert one.guard.events.target_rate == np.float32(0.05)


def test_what_nobody_may_send_is_a_dead_letter_with_the_reason(models):
    one = shard(models)
    given = [
        Record(0, NOON, b"{", "events"),
        Record(1, NOON, b"{}", "unheard of"),
        Record(2, NOON, b"\xff", "pool"),
        Record(3, NOON, pack(["events", 1, "no list"]), "pool"),
        Record(4, NOON, pack([1, 2]), "sample"),
        Record(5, NOON, msgspec.json.encode(Event(("x" * 300, "y" * 300), [1.0, 2.0]))),
        Record(6, NOON, controlled(Erase("u", 0, "team")), "control"),
    ]
    outcome = one.apply(given)
    assert [(each.offset, each.to) for each in outcome.outputs] == [(i, "dead") for i in range(7)]
    reasons = [json.loads(each.value)["reason"] for each in outcome.outputs]
    assert "more than 512 characters" in reasons[5]
    assert "namespace" in reasons[6]
