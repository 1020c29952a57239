"""A candidate beside the live model: in the shadow it decides nothing, with a share the clicks of its users, and either
way the two are compared on the same clicks."""

import asyncio

import msgspec
import numpy as np
import polars as pl
import pytest
from onlineguard_service.core import Core
from onlineguard_service.entries import Clicks, Labels, Options, Switch, Trial, Tune, decode, encode
from onlineguard_service.errors import OnTrial
from onlineguard_service.guard import Guard
from onlineguard_service.journal.packing import pack, unpack
from onlineguard_service.models import Models

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.pipeline import slice_name
from onlineguard.wire.answers import TrialState
from onlineguard.wire.requests import Label
from tests.support.cores import chosen, crashed

N, BUSY = 1_500, slice(700, 770)


@pytest.fixture(scope="module")
def models(model_folder, other_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first, kept.second = kept.put(model_folder).version, kept.put(other_folder).version
    return kept


@pytest.fixture(scope="module")
def sent(clicks):
    """Clicks, some with no user, some of those with no session, some of one busy session, and some sent twice."""
    some = [
        msgspec.structs.replace(click, user_id=None, session_id=None if i % 6 else click.session_id)
        if i % 3 == 0
        else click
        for i, click in enumerate(clicks[:N])
    ]
    some[BUSY] = [msgspec.structs.replace(click, session_id="busy", ts=some[700].ts) for click in some[BUSY]]
    return [*some, *some[100:130]]


def judged(models, version, sent, *before, counting=True, size=64, follow=False):
    """A guard, and what it answers to the clicks, in entries of this size."""
    guard = Guard(Options(counting=counting, remember=10_000, follow_drift=follow), version, models.get)
    answers = []
    for entry in before:
        guard.apply(entry, guard.sequence + 1)
    seen = b"" if counting else ProcessStore().count(ClickKeys.of(sent))
    for start in range(0, len(sent), size):
        counts = b"" if counting else seen[start : start + size].tobytes()
        answers += guard.apply(Clicks(sent[start : start + size], start, counts), guard.sequence + 1)
    return guard, answers


@pytest.fixture(scope="module")
def alone(models, sent):
    """What each model answers where it decides every click."""
    return [judged(models, version, sent)[1] for version in (models.first, models.second)]


def compared(guard):
    return msgspec.convert(guard.trying.shown(), TrialState)


def robotic(answers):
    return {answer.click_id for answer in answers if answer.decision == "robotic"}


def test_in_the_shadow_a_candidate_judges_every_click_once_and_decides_none(models, sent, alone):
    guard, answers = judged(models, models.first, sent, Trial(models.second, 0.0, 5))
    live, candidate = map(robotic, alone)
    assert answers == alone[0]
    found = compared(guard).overall
    assert (found.clicks, found.live, found.candidate) == (len({c.click_id for c in sent}), len(live), len(candidate))
    assert (found.only_live, found.only_candidate) == (len(live - candidate), len(candidate - live))
    assert live - candidate
    assert candidate - live
    assert (found.by_candidate.clicks, found.by_live.robotic) == (0, found.live)


@pytest.mark.parametrize(
    ("size", "counting"), [(64, True), (1, True), (64, False), pytest.param(1, False, marks=pytest.mark.slow)]
)
def test_with_a_share_a_click_is_answered_as_where_its_users_model_decides_every_click(
    models, sent, alone, size, counting
):
    part = sent[: 300 if size == 1 else None]
    guard, answers = judged(models, models.first, part, Trial(models.second, 0.3, 5), counting=counting, size=size)
    by = {models.first: alone[0], models.second: alone[1]}
    assert answers == [by[answer.model_version][i] for i, answer in enumerate(answers)]
    found = compared(guard).overall
    assert found.by_live.clicks + found.by_candidate.clicks == found.clicks
    theirs = {answer.click_id for answer in answers if answer.model_version == models.second}
    assert found.by_candidate.clicks == len(theirs)
    assert found.by_candidate.robotic == len(theirs & robotic(answers))
    assert found.by_live.robotic == len(robotic(answers) - theirs)


def test_thresholds_that_follow_drift_do_so_for_both_models_and_stop_when_told_to(models, sent, alone):
    by = {version: judged(models, version, sent, follow=True)[1] for version in (models.first, models.second)}
    guard, answers = judged(models, models.first, sent[:900], Trial(models.second, 0.3, 5), follow=True)
    other = Guard.restored(unpack(pack(guard.dump())), models.get)
    more = [one.apply(Clicks(sent[900:], 6), one.sequence + 1) for one in (guard, other)]
    assert more[0] == more[1]
    assert guard.digest() == other.digest()
    answers += more[0]
    assert answers == [by[answer.model_version][i] for i, answer in enumerate(answers)]
    for version, fixed in zip((models.first, models.second), alone, strict=True):
        band = dict(zip(*bands_of(models.get(version)), strict=True))
        moved = {
            answer.slice for answer, was in zip(by[version], fixed, strict=True) if answer.threshold != was.threshold
        }
        assert moved == {name for name in {answer.slice for answer in fixed} if name in band}
        for answer in by[version]:
            low, high = band.get(answer.slice, (answer.threshold, answer.threshold))
            assert low <= answer.threshold <= high
        assert band
    guard.apply(Tune(Options(), 7), guard.sequence + 1)
    again = [msgspec.structs.replace(click, click_id=f"again {i}") for i, click in enumerate(sent[:64])]
    limits = {(answer.model_version, answer.slice): answer.threshold for answers in alone for answer in answers}
    for answer in guard.apply(Clicks(again, 8), guard.sequence + 1):
        assert answer.threshold == limits[answer.model_version, answer.slice]


def bands_of(model):
    """The slices whose thresholds may move, and how far."""
    found = model.thresholds.calibration.band
    moving = [i for i, (low, high) in enumerate(found.tolist()) if low < high]
    return [slice_name(model.thresholds.keys[i]) for i in moving], found[moving].tolist()


def test_a_user_has_one_model_and_a_larger_share_lets_none_go(models, sent):
    guard, everybody = judged(models, models.first, [])[0], {name(click) for click in sent}
    users = {}
    for share in (0.0, 0.1, 0.5, 1.0):
        guard.apply(Trial(models.second, share, 5), guard.sequence + 1)
        users[share] = {name(click) for click in sent if guard.trying.chooses(click)}
        assert not users[share] & {name(click) for click in sent if not guard.trying.chooses(click)}
    assert set() == users[0.0] < users[0.1] < users[0.5] < users[1.0] == everybody
    for share in (0.1, 0.5):
        assert abs(len(users[share]) / len(everybody) - share) < 4 * np.sqrt(share * (1 - share) / len(everybody))


def name(click):
    """Whom a click counts for."""
    return click.user_id or click.session_id or click.ip


def test_purchases_are_counted_once_by_who_decided_and_who_would_have_marked_them(models, sent, alone):
    guard, answers = judged(models, models.first, sent, Trial(models.second, 0.3, 5))
    labels = [Label(click.click_id, click.ts) for click in sent[::2]]
    for _ in range(2):
        guard.apply(Labels(labels, 9), guard.sequence + 1)
    bought = {label.click_id for label in labels}
    found = compared(guard).overall
    live, candidate = map(robotic, alone)
    theirs = {answer.click_id for answer in answers if answer.model_version == models.second}
    assert found.purchases == len(bought)
    assert (found.purchases_live, found.purchases_candidate) == (len(bought & live), len(bought & candidate))
    assert found.by_candidate.robotic_purchases == len(bought & candidate & theirs)
    assert found.by_live.robotic_purchases == len((bought & live) - theirs)
    of_slices = compared(guard).slices
    assert sum(each.purchases for each in of_slices) == len(bought)
    assert sum(each.heavy for each in of_slices) == found.heavy == 50  # the first twenty were not yet heavy


def test_a_switch_ends_a_trial_and_what_was_seen_of_it_stays_until_the_next(models, sent):
    guard, _ = judged(models, models.first, sent[:640], Trial(models.second, 1.0, 5))
    before = compared(guard)
    guard.apply(Switch(models.first, 6), guard.sequence + 1)  # the same model, with other promises
    assert compared(guard) == before
    guard.apply(Switch(models.second, 7), guard.sequence + 1)
    after = compared(guard)
    assert (after.running, after.ended, after.why) == (False, 7, f"model {models.second} decides now")
    assert after.overall == before.overall
    guard.apply(Clicks(sent[640:704], 8), guard.sequence + 1)
    assert compared(guard) == after
    guard.apply(Trial(models.first, 0.0, 9), guard.sequence + 1)
    assert (compared(guard).overall.clicks, compared(guard).live) == (0, models.second)


def test_another_share_goes_on_counting_and_another_candidate_is_refused(models, sent):
    guard, _ = judged(models, models.first, sent[:64], Trial(models.second, 0.0, 5))
    guard.apply(Trial(models.second, 1.0, 6), guard.sequence + 1)
    answers = guard.apply(Clicks(sent[64:128], 7), guard.sequence + 1)
    assert {answer.model_version for answer in answers} == {models.second}
    assert compared(guard).overall.clicks == 128
    state = guard.digest()
    with pytest.raises(OnTrial, match=f"model {models.second} is on trial; end that trial first"):
        guard.apply(Trial(models.first, 0.0, 8), guard.sequence + 1)
    assert guard.digest() == state
    guard.apply(Trial("", 0.0, 9), guard.sequence + 1)
    with pytest.raises(InvalidArgument, match=f"version is {models.first}, which decides already"):
        guard.apply(Trial(models.first, 0.0, 10), guard.sequence + 1)


def test_a_trial_goes_on_from_a_dump_to_the_last_bit(models, sent):
    entries = [Clicks(sent[:300], 1), Trial(models.second, 0.4, 2), Clicks(sent[300:600], 3)]
    entries += [Labels([Label(click.click_id, click.ts) for click in sent[400:500]], 4), Clicks(sent[600:900], 5)]
    entries += [Trial(models.second, 0.6, 6), Clicks(sent[900:1_000], 7), Trial("", 0.0, 8, why="enough")]
    guard = Guard(Options(), models.first, models.get)
    others = []
    for at, entry in enumerate(entries, 1):
        if at in (4, 7, 8):  # amid the trial, and at its end
            others.append(Guard.restored(unpack(pack(guard.dump())), models.get))
        answers = guard.apply(entry, at)
        for other in others:
            assert other.apply(decode(encode(entry)), at) == answers
            assert other.trying.shown() == guard.trying.shown()
    assert {other.digest() for other in others} == {guard.digest()}
    old = guard.dump()
    del old["trying"]  # of a service that knew no trials
    assert compared(Guard.restored(unpack(pack(old)), models.get)).version is None


@pytest.mark.slow
def test_a_core_keeps_a_trial_over_a_crash_and_its_history_says_who_decided(tmp_path, model_folder, other_folder, sent):
    async def run():
        settings = chosen(tmp_path / "state", model_folder, history="on")
        core = await Core.open(settings)
        first = core.status()["model_version"]
        await core.clicks(sent[:200])
        shown = await core.try_folder(other_folder, 0.4)
        sequence = core.status()["journal"]["sequence"]
        assert await core.try_folder(other_folder, 0.4) == shown
        assert core.status()["journal"]["sequence"] == sequence  # nothing had changed
        with pytest.raises(InvalidArgument, match="no registry is set"):
            await core.try_version(shown["version"], 0.1)
        answers = await core.clicks(sent[200:700])
        await core.snapshot()
        answers += await core.clicks(sent[700:900])
        digest, seen = core.digest(), core.trial()
        await crashed(core)
        again = await Core.open(chosen(tmp_path / "state", history="on"))
        assert (again.digest(), again.trial()) == (digest, seen)
        answers += await again.clicks(sent[900:1_000])
        assert {answer.model_version for answer in answers} == {first, shown["version"]}
        assert (await again.end_trial())["running"] is False
        await again.close()
        return answers

    answers = asyncio.run(run())
    kept = pl.concat(History(tmp_path / "state" / "history").clicks())
    rows = {row["click_id"]: row for row in kept.iter_rows(named=True)}
    for answer in answers:
        row = rows[answer.click_id]
        assert (row["model"], row["score"]) == (answer.model_version, answer.p_robot)
        assert (row["threshold"], row["robotic"]) == (answer.threshold, answer.decision == "robotic")
