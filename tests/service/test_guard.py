"""The guard: the same entries give the same state and answers, repeats are harmless, and a dump is the whole state."""

import dataclasses

import jax
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onlineguard_service.entries import Clicks, Decisions, Erase, Events, Labels, Options, Switch, Trial, decode, encode
from onlineguard_service.guard import Guard
from onlineguard_service.journal.packing import pack, unpack
from onlineguard_service.models import Models

from onlineguard import Engine
from onlineguard.engine.arguments import DETECTORS, named_model
from onlineguard.errors import InvalidArgument
from onlineguard.records.decisions import Decision, Standing
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.features import Featuriser
from onlineguard.slidr.pipeline import prepare, scores, slice_name
from onlineguard.wire.requests import Event, Label
from tests.support.events import events, told
from tests.support.long import updated


@pytest.fixture(scope="module")
def models(model_folder, other_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first, kept.second = kept.put(model_folder).version, kept.put(other_folder).version
    return kept


@pytest.fixture(scope="module")
def compilations():
    """Grows by one for every program that XLA compiles."""
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: seen.append(event) if event.endswith("backend_compile_duration") else None
    )
    return seen


def guard(models, **options):
    return Guard(Options(**options), models.first, models.get)


def restored(one, models):
    return Guard.restored(unpack(pack(one.dump())), models.get)


def later(click_id, version="later", **replaces):
    """A decision about a click, by default in place of one that none is."""
    was = Standing(
        *{"model_version": "none", "decision": "valid", "p_robot": 0.1, "threshold": 0.5, **replaces}.values()
    )
    decided = {"decision": "robotic", "p_robot": 0.7, "threshold": 0.5, "slice": "all", "model_version": version}
    return Decision(click_id=click_id, **decided, replaces=was)


def in_entries(one, sent):
    """The answers to events that are sent in entries of 60: one compiled program serves them all."""
    answers = []
    for i in range(0, len(sent), 60):
        answers += told(one.apply(Events(sent[i : i + 60], 0), one.sequence + 1))
    return answers


FEW = [
    pytest.param(name, marks=() if name == "marginal" else pytest.mark.slow) for name in DETECTORS
]  # each is compiled


@pytest.mark.parametrize("detector", FEW)
def test_events_are_judged_as_by_the_engine(models, detector):
    sent = events(600)
    model = named_model(detector)
    one = guard(models, detector=detector, target_rate=model.target_rate, patience=getattr(model, "patience", None))
    ours = in_entries(one, sent)
    theirs = updated(Engine(2, estimator=model), [event.slice for event in sent], [event.x for event in sent])
    for name in ("score", "p_value", "threshold"):
        values = [np.nan if answer[name] is None else answer[name] for answer in ours]
        np.testing.assert_array_equal(values, getattr(theirs, name))
    assert [answer["anomalous"] for answer in ours] == theirs.anomalous.tolist()
    assert any(answer["ready"] for answer in ours)


def test_clicks_are_judged_as_by_the_pipeline(models, clicks, frame):
    answers = told(guard(models).apply(Clicks(clicks, 0), 1))
    model = models.get(models.first)
    prepared = prepare(frame[: len(clicks)], model.config, Featuriser())
    p_robot = scores(prepared, model.scorer)
    first = np.flatnonzero(prepared.first)
    np.testing.assert_allclose([answers[i]["p_robot"] for i in first], p_robot[first], rtol=1e-5)
    robotic = model.thresholds.robotic(p_robot, prepared)
    clear = first[abs(p_robot - model.thresholds.of(prepared))[first] > 1e-5]
    assert [answers[i]["decision"] == "robotic" for i in clear] == robotic[clear].tolist()
    assert 0 < robotic[clear].sum() < len(clear)
    assert {answer["model_version"] for answer in answers} == {models.first}


@pytest.mark.parametrize("detector", FEW)
@settings(max_examples=15)
@given(
    st.lists(st.sampled_from("ecdlst"), min_size=1, max_size=12),
    st.integers(0, 11),
    st.data(),
)
def test_a_restored_guard_goes_on_as_the_one_that_was_dumped(models, clicks, detector, kinds, at, data):
    entries = []
    for kind in kinds:
        start, n = data.draw(st.integers(0, 2_900)), data.draw(st.integers(1, 60))
        if kind == "e":
            entries.append(Events(events(n, start, ids=bool(start % 2)), start))
        elif kind == "c":
            entries.append(Clicks(clicks[start : start + n], start))
        elif kind == "d":
            entries.append(Decisions([later(click.click_id) for click in clicks[start : start + n]], start))
        elif kind == "l":
            entries.append(Labels([Label(click.click_id, click.ts) for click in clicks[start : start + n]], start))
        elif kind == "s":
            entries.append(Switch(models.second if start % 2 else models.first, start))
        elif start % 3:
            entries.append(Trial(models.second, start % 4 / 3, start))
        else:
            entries.append(Trial("", 0.0, start))
    one = guard(models, remember=100, detector=detector, patience=None if detector == "series" else 5_000.0)
    for sequence, entry in enumerate(entries[:at], 1):
        applied(one, decode(encode(entry)), sequence)
    other = restored(one, models)
    assert other.digest() == one.digest()
    for sequence, entry in enumerate(entries[at:], at + 1):
        assert applied(other, decode(encode(entry)), sequence) == applied(one, entry, sequence)
    assert other.digest() == one.digest()


def applied(guard, entry, sequence):
    """The answers, or why there are none: the model that decides cannot be on trial as well."""
    try:
        return guard.apply(entry, sequence)
    except InvalidArgument as error:
        assert isinstance(entry, Trial)
        return str(error)


def test_answers_that_an_earlier_version_kept_as_json_are_read(models, clicks):
    one = guard(models)
    sent = events(20, ids=True)
    judged, decided = one.apply(Events(sent, 0), 1), one.apply(Clicks(clicks[:30], 0), 2)
    label = Label(clicks[0].click_id, clicks[0].ts)
    one.apply(Labels([label], 0), 3)
    dump = one.dump()
    for name, answers in (("event_answers", judged), ("click_answers", [*{a.click_id: a for a in decided}.values()])):
        dump[name] = [dump[name][0], [msgspec.json.encode(answer) for answer in answers]]
    dump["purchased"] = [[label.click_id], [b"1"]]
    other = Guard.restored(unpack(pack(dump)), models.get)
    assert other.apply(Events(sent, 0), 4) == judged
    assert other.apply(Clicks(clicks[:30], 0), 5) == decided
    other.apply(Labels([label], 0), 6)
    assert other.click_figures.totals()["purchases"] == 1


def of_country(n, seed=0):
    rng = np.random.default_rng(seed)
    countries = rng.choice(["de", "fr", "us"], n).tolist()
    return [Event("a", features={"ms": rng.normal(100.0, 5.0), "country": country}) for country in countries]


def test_a_text_in_the_first_event_makes_its_feature_a_category(models):
    one, sent = guard(models, detector="point"), of_country(600)
    ours = in_entries(one, sent)
    engine = Engine(features=["country", "ms"], categories=["country"])
    theirs = updated(engine, "a", [event.features for event in sent])
    np.testing.assert_array_equal([answer["score"] or np.nan for answer in ours], theirs.score)
    rare = Event("a", features={"ms": 100.0, "country": "nowhere"})
    found, usual = one.explain(rare), one.explain(sent[0])
    assert found["score"] > 3 * usual["score"]
    assert found["drivers"]["country"] > 0.9
    again = restored(one, models)
    assert again.explain(rare) == found
    after = one.sequence + 1
    assert again.apply(Events(of_country(20, 1), 0), after) == one.apply(Events(of_country(20, 1), 0), after)
    assert one.drivers("events", "a") is not None


def test_a_feature_that_is_named_as_a_category_may_begin_without_a_text(models):
    one = guard(models, detector="marginal", categories=("country",))
    one.apply(Events([Event("a", features={"ms": 1.0, "country": None})], 0), 1)
    list(one.checking([Event("a", features={"ms": 1.0, "country": "de"}), Event("a", features={"country": 404})]))
    by_number = guard(models, detector="marginal", n_features=2, categories=("1",))
    list(by_number.checking([Event("a", [1.0, "de"])]))
    with pytest.raises(InvalidArgument, match=r"events\[0\] has no feature 'country'.* it has ms"):
        list(guard(models, categories=("country",)).checking([Event("a", features={"ms": 1.0})]))


def test_a_state_from_before_there_were_detectors_to_choose_from_has_the_marginal_one(models):
    begin = msgspec.msgpack.encode(["begin", {"target_rate": 0.01, "patience": 5_000.0}, models.first, 0])
    dump = guard(models).dump()
    dump["options"] = {name: value for name, value in dump["options"].items() if name not in ("detector", "categories")}
    del dump["categories"]
    for options in (decode(begin).options, Guard.restored(dump, models.get).options):
        assert (options.detector, options.categories) == ("marginal", ())


def test_what_is_learned_changes_the_digest(models, clicks):
    one, other = guard(models), guard(models)
    assert one.digest() == other.digest()
    one.apply(Clicks(clicks[:1], 0), 1)
    other.apply(Clicks(clicks[1:2], 0), 1)
    assert one.digest() != other.digest()


def test_a_repeated_id_is_answered_as_before_and_not_learned_again(models, clicks):
    one, other = guard(models), guard(models)
    sent = events(20, ids=True)
    first = one.apply(Events(sent, 0), 1)
    assert one.apply(Events(sent[5:10] + sent[:3], 0), 2) == first[5:10] + first[:3]
    assert one.apply(Events([sent[0], *sent[:2]], 0), 3) == [first[0], *first[:2]]
    judged = one.apply(Clicks([*clicks[:30], clicks[0]], 0), 4)
    assert judged[30] == judged[0]
    assert one.apply(Clicks(clicks[10:20], 0), 5) == judged[10:20]
    other.apply(Events(sent, 0), 1)
    other.apply(Clicks(clicks[:30], 0), 5)
    assert one.digest() == other.digest()


def test_a_digest_does_not_tell_at_which_entry_somebody_was_erased(models, clicks):
    one, other = guard(models), guard(models)
    for each, sequence in ((one, 2), (other, 7)):
        each.apply(Clicks(clicks[:30], 0), 1)
        each.apply(Erase(clicks[0].user_id or "u", 1), sequence)
    assert one.digest() == other.digest()


def test_an_id_is_forgotten_only_after_as_many_others_as_are_remembered(models):
    one = guard(models, remember=10)
    sent = events(11, ids=True)
    first = one.apply(Events(sent[:10], 0), 1)
    assert one.apply(Events(sent[:1], 0), 2) == first[:1]
    one.apply(Events(sent[10:], 0), 3)
    assert one.apply(Events(sent[:1], 0), 4) != first[:1]


def test_scoring_learns_nothing_and_gives_what_updating_would(models):
    one = guard(models)
    assert not told(one.score(events(1)))[0]["ready"]
    in_entries(one, events(600, slices=1))
    before, odd = one.digest(), [Event("s0", [500.0, None])]
    scored = one.score(odd)
    assert one.digest() == before
    assert one.apply(Events(odd, 0), one.sequence + 1) == scored
    assert told(scored)[0]["anomalous"]


def test_features_by_name_are_those_of_the_first_event_in_any_order(models):
    one = guard(models)
    one.apply(Events([Event("a", features={"b": 1.0, "a": 2.0})], 0), 1)
    answers = one.apply(Events([Event("a", features={"a": 3.0}), Event("a", [1.0, 2.0])], 0), 2)
    assert len(answers) == 2
    with pytest.raises(InvalidArgument, match=r"events\[0\].features has 'c', .* it must name some of a, b"):
        list(one.checking([Event("a", features={"c": 1.0})]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([Event("a", [1.0, 2.0]), Event("a", [1.0])], r"events\[1\].x has 1 numbers; it must have 2, as .* null"),
        ([Event("a")], "must have one of x and features"),
        ([Event("a", [1.0], {"b": 1.0})], "must have one of x and features"),
        ([Event([], [1.0, 2.0])], r"events\[0\].slice is \[\]"),
        ([Event("a", features={})], "names features|is empty"),
        ([Event("a", [1.0, 2.0]), Event("a", [1.0, "de"])], r"events\[1\].x\[1\] is 'de'; this feature .* is a number"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_events_that_do_not_fit_are_refused_whole(models, wrong, message, begun):
    one = guard(models)
    if begun:
        one.apply(Events(events(5), 0), 1)
    before = one.digest()
    with pytest.raises(InvalidArgument, match=message if begun or "2" not in message else None):
        list(one.checking(wrong))
    with pytest.raises(InvalidArgument):
        one.apply(Events(wrong, 0), one.sequence)
    assert one.digest() == before


def test_labels_count_purchases_once_and_know_only_clicks_that_were_judged(models, clicks):
    one = guard(models)
    answers = told(one.apply(Clicks(clicks[:50], 0), 1))
    labels = [Label(click.click_id, click.ts) for click in clicks[:50]]
    assert [a["decision"] for a in told(one.apply(Labels(labels, 7), 2))] == [a["decision"] for a in answers]
    assert told(one.apply(Labels([labels[0], Label("never seen", 5)], 8), 3))[1] == {
        "click_id": "never seen",
        "known": False,
        "decision": None,
    }
    totals = one.click_figures.totals()
    assert totals["purchases"] == len({click.click_id for click in clicks[:50]})
    assert totals["purchases_robotic"] == sum(a["decision"] == "robotic" for a in answers)
    assert one.label_t == 8


def test_a_later_decision_takes_the_place_of_the_one_it_names_and_of_no_other(models, clicks):
    one = guard(models)
    (answer,) = one.apply(Clicks(clicks[:1], 0), 1)
    was = {name: getattr(answer, name) for name in Standing.__struct_fields__}
    new, other = later(answer.click_id, **was), later(answer.click_id, "another", **was)
    sent = Decisions([new, new, other, later(answer.click_id, "third", **msgspec.structs.asdict(new.standing))], 5)
    told = one.apply(decode(encode(sent)), 2)
    assert [(each.outcome, each.known) for each in told] == [
        ("applied", True), ("repeated", True), ("conflict", True), ("applied", True)
    ]  # fmt: skip
    assert told[2].in_force.model_version == "later"
    (again,) = one.apply(Clicks(clicks[:1], 9), 3)  # is answered with it, and not learned
    assert (again.decision, again.model_version, again.anomaly) == ("robotic", "third", answer.anomaly)
    assert again.replaces.model_version == "later"
    assert one.click_figures.totals()["events"] == 1


def test_of_a_forgotten_click_the_first_later_decision_counts_and_the_next_are_held_against_it(models, clicks):
    one = guard(models, remember=10)
    one.apply(Clicks(clicks[:40], 0), 1)
    first, second = later(clicks[0].click_id), later(clicks[0].click_id, "second")
    for sent, outcome in ((first, "applied"), (first, "repeated"), (second, "conflict")):
        (answer,) = one.apply(Decisions([sent], 5), 2)
        assert (answer.outcome, answer.known) == (outcome, False)
        assert restored(one, models).digest() == one.digest()


def test_a_switch_of_the_model_decides_from_then_on_and_is_marked(models, clicks):
    one = guard(models)
    one.apply(Clicks(clicks[:5], 0), 1)
    one.apply(Switch(models.second, 77), 2)
    assert {a["model_version"] for a in told(one.apply(Clicks(clicks[5:9], 0), 3))} == {models.second}
    assert {a["model_version"] for a in told(one.apply(Clicks(clicks[:5], 0), 4))} == {models.first}
    assert one.marks == [(77, models.second)]


def test_a_model_fits_if_it_knows_the_slices_that_clicks_come_of_or_as_many_as_the_live_one(models, monkeypatch):
    one, model = guard(models), models.get(models.second)
    abroad = [(device, "FR", logged_in) for device, _, logged_in in model.thresholds.keys]
    foreign = dataclasses.replace(model, thresholds=dataclasses.replace(model.thresholds, keys=tuple(abroad)))
    assert one.misfit(model) is None
    assert "has thresholds for the slices of 0.0% of the clicks" in one.misfit(foreign)
    assert "it does not know" in one.misfit(foreign)
    monkeypatch.setattr(one.click_figures, "counts", lambda: {slice_name(abroad[0]): 2_000})
    assert one.misfit(foreign) is None  # what comes is what it knows, whatever the live one was calibrated on
    assert one.misfit(model) is None  # neither it nor the live one knows that slice


def test_counts_that_an_entry_brings_along_give_the_answers_of_counters_here(models, clicks):
    here, there = guard(models), guard(models, counting=False)
    sent = clicks[:100]
    counts = ProcessStore().count(ClickKeys.of(sent)).tobytes()
    assert there.apply(Clicks(sent, 0, counts), 1) == here.apply(Clicks(sent, 0), 1)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["events", "clicks"])
def test_an_event_that_makes_a_table_grow_finds_the_programs_compiled(models, clicks, compilations, of):
    one = guard(models, n_features=2)
    one.warmup(64, 0)
    engine = one.events if of == "events" else one.watch
    assert one.options.max_slices > engine.capacity

    def learn(start, end):
        """Twice of each of some slices: all at once, then one by one."""
        names = [f"s{i}" for i in range(start, end)]
        sent = [msgspec.structs.replace(clicks[0], click_id=name, device=name) for name in names]
        again = [msgspec.structs.replace(click, click_id=f"{click.click_id} again") for click in sent]
        if of == "events":
            sent = again = [Event(name, [1.0, 2.0]) for name in names]
        entry = Events if of == "events" else Clicks
        for items in (*(sent[i : i + 64] for i in range(0, len(sent), 64)), *([item] for item in again)):
            one.apply(entry(items, 0), one.sequence + 1)

    room = engine.capacity
    learn(0, room // 2)
    assert not one.crowded
    learn(room // 2, room // 2 + 10)
    assert one.crowded
    one.compile_ahead()
    assert not one.crowded
    before = len(compilations)
    learn(room // 2 + 10, room + 10)
    assert engine.capacity > room
    assert not compilations[before:]
    learn(room + 10, engine.capacity // 2 + 10)
    assert one.crowded  # it will grow once more


def test_an_event_that_is_sent_again_with_its_features_in_another_order_is_the_same(models):
    one = guard(models, features=("a", "b"))
    first = one.apply(Events([Event("s", features={"a": 1.0, "b": 2.0}, id="1")], 0), 1)
    assert one.apply(Events([Event("s", features={"b": 2.0, "a": 1.0}, id="1")], 0), 2) == first
