"""Alarms: runs of odd events as things, the same after a replay and from a snapshot, and what operators say of them."""

import msgspec
import numpy as np
import pytest
from onlineguard_service.alarms import SILENCE, STRETCH, shown
from onlineguard_service.entries import Clicks, Erase, Events, Note, Options, decode, encode
from onlineguard_service.guard import Guard
from onlineguard_service.journal.packing import pack, unpack
from onlineguard_service.models import Models
from onlineguard_service.watching import Raised

from onlineguard.slidr.live import Alarm as Deviation
from onlineguard.wire.requests import Event

HOUR = 3_600_000


@pytest.fixture(scope="module")
def models(model_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first = kept.put(model_folder).version
    return kept


def usual(slices, n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Event(name, [float(rng.uniform(-1.0, 1.0)), float(rng.uniform(9.0, 11.0))]) for _ in range(n) for name in slices
    ]


@pytest.fixture(scope="module")
def taught(models):
    """A dump of a guard whose slices are used to something."""
    one = Guard(Options(detector="marginal", n_features=2, max_slices=100), models.first, models.get)
    sent = usual(("a", "b", ("c", 7)), 400)
    for start in range(0, len(sent), 60):
        one.apply(Events(sent[start : start + 60], 0), one.sequence + 1)
    return pack(one.dump())


@pytest.fixture
def one(taught, models):
    """That guard, with a function that applies entries and keeps them."""
    guard = Guard.restored(unpack(taught), models.get)
    guard.applied = []

    def apply(entry):
        guard.applied.append(encode(entry))
        return guard.apply(entry, guard.sequence + 1)

    guard.does = apply
    return guard


def odd(name="a", size=50.0, **more):
    return Event(name, [size, 10.0], **more)


def new(one, after):
    """The alarms that began after so many, the oldest first."""
    return [alarm for alarm in one.alarms.newest()[::-1] if alarm.number > after]


def state(one):
    """All alarms as they are answered, and what followers are told."""
    alarms = one.alarms
    kept = [shown(alarm, one.source, one.alarm_names(alarm), alarm.why) for alarm in alarms.newest()]
    told = [(alarm.number, alarm.change, alarm.notice, alarm.ended_notice, alarm.quiet) for alarm in alarms.newest()]
    return msgspec.json.encode([kept, told, alarms.n_open, alarms.begun, [each.number for each in alarms.since(0)]])


def test_a_run_of_odd_events_is_one_alarm_with_its_oddest_event_and_what_drove_it(one):
    before = one.alarms.number
    one.does(
        Events(
            [odd(size=50.0, id="first"), *usual("a", 3, 9), odd(size=500.0, id="worst", ts=77), odd(size=60.0)], 5_000
        )
    )
    (alarm,) = new(one, before)
    told = shown(alarm, "ab", one.alarm_names(alarm), alarm.why)
    assert (told.kind, told.of, told.slice, told.state, told.began, told.last) == (
        "anomaly",
        "events",
        "a",
        "open",
        5_000,
        5_000,
    )
    assert told.id == f"ab-{alarm.number}"
    assert (told.events, told.event_id, told.event_ts, told.x) == (3, "worst", 77, {"0": 500.0, "1": 10.0})
    assert told.score > told.threshold
    assert told.p_value < 0.01
    assert next(iter(told.drivers)) == "0"
    assert told.drivers["0"] > 0.5


def test_an_alarm_is_over_after_a_stretch_of_usual_events_of_its_slice_or_a_long_silence(one):
    before = one.alarms.number
    one.does(Events([odd(), odd("b"), *usual("a", STRETCH - 1, 8)], 1_000))
    (of_a, of_b) = new(one, before)
    assert (of_a.state, of_b.state) == ("open", "open")
    one.does(Events(usual("a", 1, 7), 2_000))
    assert (of_a.state, of_a.ended, of_b.state) == ("over", 2_000, "open")
    one.does(Events([odd()], 3_000))
    assert [alarm.slice for alarm in new(one, before)] == ["a", "b", "a"]  # a new one
    one.does(Events(usual("a", 1, 6), 1_000 + SILENCE))
    assert (of_b.state, of_b.ended) == ("over", 1_000 + SILENCE)


def test_a_replay_and_a_snapshot_anywhere_lead_to_the_same_alarms(one, taught, models):
    rng = np.random.default_rng(1)
    for t in range(0, 12_000, 1_000):
        sent = usual(("a", "b", ("c", 7)), 12, t)
        for at in rng.choice(len(sent), 4, replace=False):
            sent[at] = odd(sent[at].slice, float(rng.uniform(20, 90)), id=f"{t}.{at}")
        one.does(Events(sent, t))
        if t % 4_000 == 0:
            newest = one.alarms.newest()[0]
            one.does(Note(newest.number, "me", f"at {t}", t == 4_000, t))
    assert one.alarms.number > 5
    for at in range(0, len(one.applied), 3):
        other = Guard.restored(unpack(taught), models.get)
        for entry in one.applied[:at]:
            other.apply(decode(entry), other.sequence + 1)
        other = Guard.restored(unpack(pack(other.dump())), models.get)
        for entry in one.applied[at:]:
            other.apply(decode(entry), other.sequence + 1)
        assert state(other) == state(one)
        assert other.digest() == one.digest()


def test_who_says_that_an_event_was_usual_acknowledges_and_teaches_its_slice_once(one):
    one.does(Events([odd()], 0))
    alarm = one.alarms.newest()[0]
    before = one.score([odd()])[0].threshold
    one.does(Note(alarm.number, "eve", "a sale", True, 9))
    assert (alarm.state, alarm.usual) == ("acknowledged", True)
    assert msgspec.structs.astuple(alarm.acknowledged) == ("eve", 9, "a sale")
    assert one.score([odd()])[0].threshold > 1.2 * before
    digest = one.digest()
    one.does(Note(alarm.number, "eve", "a sale", True, 10))  # sent again
    assert one.digest() == digest
    one.does(Note(10**6, "eve", "", True, 11))  # one that has gone
    assert one.digest() == digest


def test_a_flood_costs_few_explanations_and_keeps_the_latest_alarms(one, monkeypatch):
    monkeypatch.setattr("onlineguard_service.alarms.EXPLAINED", 4)
    explained = []
    one.alarms._explain = lambda of, key, row: explained.append(key)
    one.alarms.keep(2)
    for t, size in ((0, 50.0), (500, 500.0), (999, 5_000.0)):
        one.does(Events([odd(name, size + more) for more in range(20) for name in ("a", "b", ("c", 7))], t))
    assert len(explained) == 4  # an alarm once an entry, however often its score rises, and all of them four times
    one.does(Events([odd(size=50_000.0)], 1_000))
    assert len(explained) == 5
    kept = one.alarms.newest()
    assert [alarm.number for alarm in kept] == [one.alarms.number, one.alarms.number - 1]
    assert one.alarms.n_open == 2
    assert next(iter(one.why(kept[0])[0])) == "0"  # found for whoever looks at it


def test_followers_get_the_newest_state_of_what_changed_and_every_begin_and_end_in_order(one):
    since, notice = one.alarms.change, one.alarms.notice
    one.does(Events([odd("a"), odd("b"), odd("a"), *usual("a", STRETCH, 3)], 0))
    assert [alarm.slice for alarm in one.alarms.since(since)] == ["b", "a"]  # in the order of their last changes
    assert one.alarms.since(one.alarms.change) == []
    told = []
    while (found := one.alarms.after(notice)) is not None:
        notice, alarm = found
        told.append((alarm.slice, "end" if notice == alarm.ended_notice else "begin"))
    assert told == [("a", "begin"), ("b", "begin"), ("a", "end")]


def test_what_a_watch_finds_is_an_alarm_of_the_slice_that_it_is_about(one):
    before = one.alarms.number
    for t, seen in ((5, 0.5), (6, 0.7)):
        one.watching.told(Raised(t, "v1", Deviation("ivr", "phone", 0.1, seen, 0.3, 400)))
    one.trying.told(Raised(7, "v2", Deviation("features", "ip_clicks_10s", 0.1, 2.0, 1.0, 400)))
    watch, trial = new(one, before)
    assert (watch.kind, watch.of, watch.slice, watch.events, watch.score, watch.watch.seen) == (
        "watch",
        "clicks",
        "phone",
        2,
        0.7,
        0.7,
    )
    assert (trial.kind, trial.slice, trial.watch.of, trial.watch.model_version) == (
        "trial",
        None,
        "ip_clicks_10s",
        "v2",
    )
    one.does(Note(watch.number, "me", "", True, 8))  # there is no event that could be usual
    assert (watch.usual, watch.state) == (False, "acknowledged")


def test_clicks_that_come_oddly_fast_are_an_alarm_and_a_person_can_be_erased_from_it(models, clicks):
    one = Guard(Options(), models.first, models.get)
    sent = [
        msgspec.structs.replace(click, user_id="mallory") if one.slice_of(click) == "desktop / IN / false" else click
        for click in clicks
    ]
    for at in range(0, len(sent), 64):
        one.apply(Clicks(sent[at : at + 64], 0), one.sequence + 1)
    alarm = next(alarm for alarm in one.alarms.newest() if alarm.slice == "desktop / IN / false")
    assert alarm.event_id in {click.click_id for click in sent if click.user_id == "mallory"}
    assert set(one.why(alarm)[0]) <= set(one.watch.features)
    one.apply(Erase("mallory", HOUR), one.sequence + 1)
    assert (alarm.event_id, alarm.x, one.why(alarm)) == (None, b"", None)
    assert alarm in one.alarms.newest()
    assert any(other.event_id is not None for other in one.alarms.newest())


def test_a_snapshot_of_before_has_no_alarms_and_is_read(taught, models):
    dump = unpack(taught)
    del dump["alarms"], dump["options"]["max_alarms"]
    old = Guard.restored(dump, models.get)
    assert (len(old.alarms), old.options.max_alarms) == (0, 10_000)
