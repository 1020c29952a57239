"""A state goes on with other features: what its slices learned of those that remain stays, over crashes too."""

import asyncio
import contextlib

import msgspec
import numpy as np
import pytest
from onlineguard_service.core import Core
from onlineguard_service.entries import Clicks, Events, Features, Options, decode, encode
from onlineguard_service.guard import Guard
from onlineguard_service.journal.packing import pack, unpack
from onlineguard_service.models import Models

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.wire.requests import Event
from tests.support.cores import chosen, crashed
from tests.support.real import Service
from tests.support.redis_server import serving

BEFORE = Options(features=("load", "latency"), detector="marginal", max_slices=100)
AFTER = msgspec.structs.replace(BEFORE, features=("latency", "errors", "country"), categories=("country",))
SLICES = ("web", ("db", 7))


def usual(n, names, seed=0):
    """Events with ids; `errors` and `country` are new to a state that had `load` and `latency`."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        values = {
            "load": float(rng.uniform(0.0, 1.0)),
            "latency": float(rng.normal(50.0, 2.0)),
            "errors": float(rng.poisson(3.0)),
            "country": ("de", "fr")[int(rng.integers(2))],
        }
        slice_ = SLICES[i % len(SLICES)]
        found.append(Event(slice_, features={name: values[name] for name in names}, id=f"{seed}/{i}"))
    return found


@pytest.fixture(scope="module")
def models(model_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first = kept.put(model_folder).version
    return kept


@pytest.fixture(scope="module")
def sent(clicks):
    """What a guard is told before its features change."""
    odd = [Event("web", features={"load": 0.5, "latency": 500.0}, id=f"odd {i}") for i in range(3)]
    return [
        Events(usual(600, BEFORE.features), 1),
        Clicks(clicks[:50], 2),
        Events(odd, 3),
        Events(usual(40, BEFORE.features, 1), 4, "acme"),
    ]


def taught(models, entries):
    guard = Guard(BEFORE, models.first, models.get)
    for entry in entries:
        guard.apply(decode(encode(entry)), guard.sequence + 1)
    return guard


def test_what_was_learned_of_the_features_that_remain_stays_and_all_else_too(models, sent):
    one = taught(models, sent)
    before, described = one.dump(), {key: one.events.describe(key) for key in SLICES}
    one.apply(Features(AFTER, 5), 5)
    after = one.dump()
    for name in ("click_figures", "watch", "store", "event_answers", "click_answers", "watching", "marks"):
        assert pack(after[name]) == pack(before[name])
    assert one.events.features == ["latency", "errors", "country"]
    assert one.within("acme").events.features == ["latency", "errors", "country"]
    for key, told in described.items():
        for field in ("location", "scale"):
            assert one.events.describe(key)[field]["latency"] == told[field]["latency"]
        assert np.isnan(one.events.describe(key)["location"]["errors"])
        np.testing.assert_array_equal(one.event_figures.latest(key)[1:], [np.nan, np.nan])
        assert one.event_figures.latest(key)[0] > 0.0
    (alarm,) = one.alarms.newest()
    np.testing.assert_array_equal(alarm.row, [[500.0, np.nan, np.nan]])
    assert "latency" in one.why(alarm)[0]
    repeated = Event("web", features={"load": 0.5, "latency": 500.0}, id="odd 0")
    with pytest.raises(InvalidArgument, match=r"events\[0\].features has 'load', .*of latency, errors, cou"):
        list(one.checking([repeated]))

    answers = one.apply(Events(usual(400, AFTER.features, 2), 6), 6)
    assert sum(answer.anomalous for answer in answers[200:]) < 20
    (odd,) = one.apply(Events([Event("web", features={"latency": 500.0, "errors": 3.0, "country": "de"})], 7), 7)
    assert odd.anomalous
    assert next(iter(one.events.explain("web", {"latency": 500.0, "errors": 3.0, "country": "de"}))) == "latency"


def test_a_snapshot_and_a_replay_of_it_lead_to_the_same_state(models, sent):
    entries = [
        *sent,
        Features(AFTER, 5),
        Events(usual(100, AFTER.features, 2), 6),
        Events(usual(9, AFTER.features, 3), 7),
    ]
    whole = taught(models, entries)
    for cut in (len(sent), len(sent) + 1):
        again = Guard.restored(unpack(pack(taught(models, entries[:cut]).dump())), models.get)
        for entry in entries[cut:]:
            again.apply(entry, again.sequence + 1)
        assert again.digest() == whole.digest()
        assert again.options == whole.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ("x", "y")}, "none of which the engine has: load, latency"),
        ({"features": ()}, "features is not set, and neither is n_features"),
        ({"features": ("load", "x"), "categories": ("load",)}, "names 'load', which was a number so far"),
    ],
)
def test_what_cannot_go_on_is_refused_and_changes_nothing(models, sent, options, message):
    one = taught(models, sent)
    digest, asked = one.digest(), msgspec.structs.replace(BEFORE, **options)
    with pytest.raises(InvalidArgument, match=message):
        one.check_features(asked)
    with pytest.raises(InvalidArgument, match=message):
        one.apply(Features(asked, 5), 5)
    assert one.digest() == digest


def test_a_namespace_whose_stream_has_none_of_the_features_is_named(models):
    one = Guard(msgspec.structs.replace(BEFORE, features=()), models.first, models.get)
    one.apply(Events(usual(10, BEFORE.features), 1), 1)
    one.apply(Events([Event("a", features={"other": 1.0})], 2, "acme"), 2)
    digest = one.digest()
    with pytest.raises(InvalidArgument, match=r"namespace 'acme': features is .* none of which the engine has: other"):
        one.check_features(AFTER)
    with pytest.raises(InvalidArgument):
        one.apply(Features(AFTER, 3), 3)
    assert one.digest() == digest


def test_lists_of_numbers_keep_the_first_ones(models):
    one = Guard(Options(n_features=2, detector="marginal"), models.first, models.get)
    one.apply(Events([Event("a", [1.0 + i % 3, 5.0]) for i in range(30)], 1), 1)
    location = one.events.describe("a")["location"]
    one.apply(Features(Options(n_features=3, categories=("2",)), 2), 2)
    assert one.events.describe("a")["location"][0] == location[0]
    assert one.events.categories == (2,)
    assert one.apply(Events([Event("a", [1.0, 5.0, "de"])], 3), 3)[0].score is not None


def test_before_any_event_the_stream_just_begins_with_them(models):
    one = Guard(Options(detector="marginal"), models.first, models.get)
    one.apply(Features(AFTER, 1), 1)
    assert one.events.features == ["latency", "errors", "country"]
    assert one.events.categories == (2,)


@pytest.mark.slow
@pytest.mark.parametrize("journal", ["folder", "redis"])
def test_a_core_goes_on_with_other_features_only_where_it_is_told_to_and_so_does_its_replay(
    tmp_path, model_folder, journal
):
    async def run(**more):
        more |= {"detector": "marginal"}
        before = chosen(tmp_path, model_folder, features=BEFORE.features, **more)
        after = {"features": AFTER.features, "categories": AFTER.categories, **more}
        core = await Core.open(before)
        await core.update(usual(300, BEFORE.features))
        location = core._guard.events.describe("web")["location"]["latency"]
        await core.close()
        with pytest.raises(CheckpointError, match=r"begun with features = \w.*set other_features to carry to go on"):
            await Core.open(chosen(tmp_path, model_folder, **after))
        with pytest.raises(CheckpointError, match=r"cannot go on with other features: features is \['x'\]"):
            await Core.open(chosen(tmp_path, model_folder, **{**more, "features": ("x",)}, other_features="carry"))
        carried = await Core.open(chosen(tmp_path, model_folder, **after, other_features="carry"))
        assert carried._guard.events.describe("web")["location"]["latency"] == location
        sequence = carried.status()["journal"]["sequence"]
        await carried.update(usual(300, AFTER.features, 1))
        digest = carried.digest()
        await crashed(carried)
        again = await Core.open(chosen(tmp_path, model_folder, **after, other_features="carry"))
        assert again.digest() == digest
        assert again.status()["journal"]["sequence"] == sequence + 2  # carried once; 300 events are two entries
        await again.close()
        await (await Core.open(chosen(tmp_path, model_folder, **after))).close()  # the state has these now

    with contextlib.ExitStack() as stack:
        more = {}
        if journal == "redis":
            port = stack.enter_context(serving(tmp_path))
            more = {"redis": f"redis://127.0.0.1:{port}", "journal": "redis"}
        asyncio.run(run(**more))


@pytest.mark.slow
def test_a_service_that_is_stopped_goes_on_with_other_features(tmp_path, environment, model_folder):
    flags = ("--model", str(model_folder), "--snapshot-every", "3600", "--detector", "marginal")
    service = Service(tmp_path, environment, *flags, "--features", "load,latency")
    service.start()
    service.post("/v1/update", usual(600, BEFORE.features))
    odd = {"slice": "web", "features": {"load": 0.5, "latency": 500.0}}
    old = service.post("/v1/explain", odd)
    assert service.terminate() == 0

    other = Service(tmp_path, environment, *flags, "--features", "latency,errors", "--other-features", "carry")
    other.start()
    try:
        refused = other._client.post("/v1/update", json=odd)
        assert refused.status_code == 422
        assert "features has 'load', which is no feature of this stream" in refused.json()["detail"]
        same = {"slice": "web", "features": {"latency": 500.0}}
        new = other.post("/v1/explain", same)
        assert next(iter(new["drivers"])) == "latency"
        assert new["anomalous"]
        assert new["reasons"]["expected"]["latency"] == pytest.approx(old["reasons"]["expected"]["latency"], abs=20.0)
        other.post("/v1/update", usual(300, ("latency", "errors"), 1))
        before = other.post("/v1/explain", same | {"features": {"latency": 50.0, "errors": 90.0}})
        assert next(iter(before["drivers"])) == "errors"
        other.kill()
        other.start()
        assert other.post("/v1/explain", same | {"features": {"latency": 50.0, "errors": 90.0}}) == before
    finally:
        other.kill()
