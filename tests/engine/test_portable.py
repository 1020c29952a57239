"""Slices leave an engine, enter another one, and go on with other features: nothing that they learned is lost."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard import ClippedSGD, Detector, Engine, InvalidArgument, JointDetector, Mean, Series
from onlineguard.models.absence import Absence
from onlineguard.models.categories import Categories
from onlineguard.models.one_sided import OneSided

FIELDS = ("score", "threshold", "p_value", "ready", "anomalous")
KEYS = 6
CARRIED = {
    "Detector": Detector(),
    "JointDetector": JointDetector(),
    "Series": Series(),
    "Absence": Absence(Detector()),
    "Categories": Categories(Detector(), (1,)),
    "Absence around Categories": Absence(Categories(JointDetector(), (1,))),
}
MODELS = [
    pytest.param(name, marks=() if name == "Detector" else pytest.mark.slow) for name in CARRIED
]  # compiling for the others takes long


def events(n, seed=0, d=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(100.0, 2.0, (n, d))  # in float64, so that every slice has origins
    x[:, 1] = np.rint(abs(x[:, 1]) % 4)
    x[rng.random((n, d)) < 0.02] = np.nan
    return rng.integers(0, KEYS, n), x


def trained(model=None, n=1_500, **options):
    options = {"features": ["a", "b", "c"]} | options
    engine = Engine(estimator=model or Detector(), **options)
    engine.update(*events(n))
    engine.feedback(1, events(1, 9)[1][0] + 30.0, usual=True)
    return engine


def same(one, other):
    return all(np.array_equal(getattr(one, field), getattr(other, field), equal_nan=True) for field in FIELDS)


def same_dump(one, other):
    (config, tensors), (config_too, tensors_too) = one.dump(), other.dump()
    return (
        config == config_too
        and tensors.keys() == tensors_too.keys()
        and all(np.array_equal(tensors[name], tensors_too[name]) for name in tensors)
    )


@settings(max_examples=6, deadline=None)
@given(
    groups=st.lists(st.integers(0, 2), min_size=KEYS, max_size=KEYS),
    order=st.permutations(range(3)),
    apart=st.integers(0, 300),
)
def test_slices_that_were_apart_for_a_while_go_on_as_if_they_had_never_been(groups, order, apart):
    whole = trained()
    parts = whole.split(lambda key: groups[key])
    keys, x = events(apart + 400, 1)
    of_part = np.array(groups)[keys]
    together = whole.update(keys[:apart], x[:apart])
    for name, part in parts.items():
        mine = np.flatnonzero(of_part[:apart] == name)
        assert same(part.update(keys[mine], x[mine]), together[mine])
    names = [name for name in order if name in parts]
    again = parts[names[0]]
    for name in names[1:]:
        again.add(parts[name])
    assert again.n_slices == whole.n_slices
    assert same(again.update(keys[apart:], x[apart:]), whole.update(keys[apart:], x[apart:]))


def test_the_order_in_which_engines_are_added_changes_no_verdict_and_no_state():
    parts = [Engine(2, estimator=Detector()) for _ in range(3)]
    for i, part in enumerate(parts):
        keys, x = events(700 + 300 * i, i, 2)
        part.update(keys + 10 * i, x)
    answers = []
    keys, x = events(500, 7, 2)
    for order in itertools.permutations(range(3)):
        engine = Engine(2, estimator=Detector())
        for i in order:
            engine.add(parts[i])
        assert engine.n_events == 1_300
        answers.append(engine.update(keys + 10 * (np.arange(500) % 3), x))
    assert all(same(answers[0], other) for other in answers)


def test_a_selection_is_saved_and_loaded_like_any_engine(tmp_path):
    whole = trained()
    whole.select([4, 1]).save(tmp_path / "part")
    part = Engine.load(tmp_path / "part")
    assert part.slices == [key for key in whole.slices if key in (1, 4)]
    assert part.n_events == whole.n_events
    assert part.describe(1) == whole.describe(1)
    assert part.describe(1)["feedback"] > 1.0
    assert np.array_equal(part.state(4).slow.location, whole.state(4).slow.location)
    assert part.state(4).slow.location.dtype == np.float64  # the origins went along
    keys, x = events(300, 3)
    mine = (keys == 1) | (keys == 4)
    assert np.array_equal(part.update(keys[mine], x[mine]).slice_numbers, whole.update(keys, x).slice_numbers[mine])


def test_a_selection_takes_one_key_or_many_and_names_the_unknown_one():
    engine = Engine(1, estimator=Detector())
    engine.update([("de", 1), "fr", 7], np.zeros((3, 1)))
    assert engine.select("fr").slices == ["fr"]
    assert engine.select(("de", 1)).slices == [("de", 1)]
    assert engine.select(np.array([7])).slices == [7]
    assert engine.select([]).slices == []
    with pytest.raises(KeyError, match="it"):
        engine.select(["fr", "it"])
    with pytest.raises(InvalidArgument, match=r"slices is 1.5; it must be a list of keys"):
        engine.select(1.5)


def test_what_was_longest_idle_is_evicted_first_after_adding_too():
    keys = np.array([3, 1, 5, 2, 0, 4])
    whole = Engine(1, estimator=Detector(), max_slices=KEYS)
    whole.update(keys, np.ones((KEYS, 1)))
    parts = whole.split(lambda key: key % 2)
    again = parts[0]
    again.add(parts[1])
    for new in range(10, 14):
        for engine in (whole, again):
            engine.update([new], [[1.0]])
        assert set(again.slices) == set(whole.slices)
        assert again.n_slices == KEYS


def test_a_slice_that_both_have_is_refused_kept_or_replaced():
    mine, theirs = trained(), trained(n=900)
    before = mine.dump()
    with pytest.raises(InvalidArgument, match=r"other has the slice \d, which this engine has too; choose both='keep'"):
        mine.add(theirs)
    assert mine.dump()[0] == before[0]
    kept = trained()
    kept.add(theirs, both="keep")
    assert same_dump(kept, mine)
    kept.add(theirs.select([2]), both="replace")
    assert kept.describe(2)["events"] == theirs.describe(2)["events"]
    assert kept.describe(3)["events"] == mine.describe(3)["events"]
    keys, x = events(400, 5)
    assert same(kept.update(keys, x)[keys == 2], theirs.update(keys, x)[keys == 2])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: Engine(features=["a", "b"], estimator=Detector()), "has the features .*bring one of them there with"),
        (
            lambda: trained(Detector(0.02)).select([]),
            "has the model .*target_rate and patience may be set",
        ),
        (lambda: trained(Detector(sides=(1, 0, 0))).select([]), "any other choice is for good"),
        (lambda: Engine(features=["a", "b", "c"]), "has the model JointDetector"),
        (lambda: renamed(trained()), "would make it 12 slices, and max_slices is 8; raise max_slices, or add fewer"),
        (lambda: "part", "other is 'part'; it must be an Engine"),
    ],
)
def test_an_engine_that_does_not_fit_is_named_and_changes_nothing(other, message):
    engine = trained()
    engine.max_slices = 8
    twin = engine.select(engine.slices)
    with pytest.raises(InvalidArgument, match=message):
        engine.add(other())
    assert same_dump(engine.select(engine.slices), twin)
    assert engine.max_slices == 8


def renamed(engine):
    found = Engine(features=engine.features, estimator=engine.model)
    keys, x = events(600)
    found.update(keys + 100, x)
    return found


def test_an_engine_cannot_be_added_to_itself():
    engine = trained()
    with pytest.raises(InvalidArgument, match="which this engine has too"):
        engine.add(engine)


@pytest.mark.parametrize("name", MODELS)
def test_features_that_remain_keep_what_was_learned_of_them_bit_for_bit(name):
    engine = trained(CARRIED[name], features=["a", "b", "c"])
    other = engine.with_features(["new", "c", "b"])
    assert other.features == ["new", "c", "b"]
    assert other.slices == engine.slices
    for key in engine.slices:
        before, after = engine.describe(key), other.describe(key)
        by_feature = [field for field, told in before.items() if isinstance(told, dict)]
        assert by_feature
        for field in by_feature:
            for feature in ("b", "c"):
                assert np.array_equal(before[field][feature], after[field][feature], equal_nan=True)
        assert after["threshold"] == before["threshold"]
        assert after["feedback"] == before["feedback"]
    keys, x = events(2_000, 4)
    x[:, 0] = x[:, 0] * 1e3 + 7.0  # the new feature is of another unit
    verdicts = other.update(keys, x[:, [0, 2, 1]])
    assert verdicts.ready.mean() > 0.99
    assert verdicts.anomalous[1_000:].mean() < 0.1
    later = other.describe(0)
    if "location" in later:
        assert later["location"]["new"] == pytest.approx(1e5, rel=0.1)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_features_again_change_nothing(name):
    engine = trained(CARRIED[name])
    assert same_dump(engine.with_features(["a", "b", "c"]), engine)


@pytest.mark.parametrize("model", [Detector(), pytest.param(Absence(Detector()), marks=pytest.mark.slow)])
def test_a_new_feature_may_be_a_category_and_a_rare_one_is_odd(model):
    engine = trained(model, features=["a", "b", "c"])
    other = engine.with_features(["a", "b", "c", "country"], categories=["country"])
    keys, x = events(3_000, 2)
    rng = np.random.default_rng(0)
    countries = rng.choice(["de", "fr"], len(x))
    rows = [dict(zip("abc", row, strict=True)) | {"country": at} for row, at in zip(x.tolist(), countries, strict=True)]
    other.update(keys, rows)
    usual = {"a": 100.0, "b": 1.0, "c": 100.0}
    known, unseen = other.score([0, 0], [usual | {"country": "de"}, usual | {"country": "xx"}]).score
    assert unseen > 1.5 * known
    assert other.with_features(["a", "c"]).categories == ()
    assert other.with_features(["country", "a"]).categories == (0,)


def test_features_without_names_are_known_by_their_place():
    engine = Engine(2, estimator=Detector())
    keys, x = events(1_000, d=2)
    engine.update(keys, x)
    wider = engine.with_features(3)
    assert wider.n_features == 3
    assert wider.describe(0)["location"][1] == engine.describe(0)["location"][1]
    assert np.isnan(wider.describe(0)["location"][2])
    assert engine.with_features(1).describe(0)["location"] == {0: engine.describe(0)["location"][0]}


def test_what_the_operator_chose_for_a_feature_goes_along_with_it():
    engine = Engine(features=["a", "b", "c"], only_high=["a"], weights={"c": 3.0})
    other = engine.with_features(["c", "new", "a"])
    assert (other.model.sides, other.model.weights) == ((0, 0, 1), (3.0, 1.0, 1.0))


def test_a_feature_that_goes_leaves_the_covariance_of_the_others_as_it_is():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3_000, 3)) @ rng.standard_normal((3, 3))
    engine = Engine(features=["a", "b", "c"])
    engine.update(["a"] * len(x), x)
    before = np.linalg.inv(engine.state("a").covariance.inverse.astype(np.float64))
    inverse = engine.with_features(["c", "a"]).state("a").covariance.inverse
    assert np.array_equal(inverse, inverse.T)
    left = before[np.ix_([2, 0], [2, 0])]
    np.testing.assert_allclose(np.linalg.inv(inverse.astype(np.float64)), left, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "features", "options", "message"),
    [
        (Detector(), ["x", "y"], {}, "none of which the engine has: a, b, c; nothing would be left"),
        (Detector(), 4, {}, "it must be a list of names, since the engine's have some: a, b, c"),
        (Detector(), ["a", "a"], {}, "it must be a list of names, each once"),
        (Detector(), ["a", "d"], {"categories": ["a"]}, "names 'a', which was a number so far"),
        (Detector(), ["a", "d"], {"categories": ["e"]}, "names 'e', which is no feature"),
        (ClippedSGD(Mean(3)), ["a", "b"], {}, "cannot change in a state of ClippedSGD, which does not keep"),
    ],
)
def test_features_that_cannot_be_are_named_with_a_way_out(model, features, options, message):
    engine = trained(model)
    with pytest.raises(InvalidArgument, match=message):
        engine.with_features(features, **options)


def test_one_number_and_a_model_without_names_have_their_own_sentence():
    with pytest.raises(InvalidArgument, match="in a state of OneSided"):
        Engine(1, estimator=OneSided()).with_features(2)
    with pytest.raises(InvalidArgument, match="the engine's features have no names; give how many there are"):
        Engine(2, estimator=Detector()).with_features(["a", "b"])


@pytest.mark.slow
@pytest.mark.parametrize("model", [Detector(), JointDetector()])
def test_false_alarms_stay_near_the_rate_when_a_feature_comes_or_goes(model):
    slices, before, after = 30, 1_500, 2_000
    rng = np.random.default_rng(1)
    x = rng.standard_normal(((before + after) * slices, 4)) @ np.triu(np.full((4, 4), 0.5))
    keys, n = np.tile(np.arange(slices), before + after), before * slices
    three, four = (Engine(features=list("abcd")[:d], estimator=model) for d in (3, 4))
    three.update(keys[:n], x[:n, :3])
    four.update(keys[:n], x[:n])
    for engine, d in ((three.with_features(list("abcd")), 4), (four.with_features(list("abc")), 3)):
        odd = engine.update(keys[n:], x[n:, :d]).anomalous.reshape(after, slices)
        assert odd.mean() < 0.02
        assert odd[500:].mean() < 0.013
        assert odd.mean(axis=0).max() < 0.12  # no slice is in alarm for long
