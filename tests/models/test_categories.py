"""Categories: rare is odd, in bounded memory, and a category that becomes frequent becomes usual."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard import Detector, Engine
from onlineguard.models.categories import Categories
from tests.support.long import updated

COUNTRIES = np.array(["de", "us", "fr", "jp"])


def stream(rng, n, shares=(0.6, 0.25, 0.1, 0.05)):
    countries = rng.choice(COUNTRIES, n, p=shares).tolist()
    return [{"country": country, "ms": rng.normal(20.0, 4.0)} for country in countries]


@pytest.fixture(scope="module")
def engine():
    engine = Engine(features=["country", "ms"])
    updated(engine, "a", stream(np.random.default_rng(0), 5_000))
    return engine


def test_an_unseen_category_is_odd_and_a_usual_one_is_not(engine):
    verdicts = engine.score(["a"] * 3, [{"country": c, "ms": 20.0} for c in ("de", "fr", "kp")])
    assert verdicts.anomalous.tolist() == [False, False, True]
    assert next(iter(engine.explain("a", {"country": "kp", "ms": 21.0}))) == "country"


def test_a_missing_category_has_no_effect():
    absent, null = ({"ms": 27.0}, {"country": None, "ms": 27.0})
    engine = Engine(features=["country", "ms"], estimator=Detector())
    updated(engine, "a", stream(np.random.default_rng(0), 5_000))
    alone = Engine(n_features=1, estimator=Detector())
    updated(alone, "a", [[event["ms"]] for event in stream(np.random.default_rng(0), 5_000)])
    scores = engine.score(["a"] * 2, [absent, null]).score
    np.testing.assert_allclose(scores, alone.score(["a"], [[27.0]]).score[0], rtol=1e-5)


def test_a_category_that_becomes_frequent_becomes_usual():
    rng = np.random.default_rng(1)
    engine = Engine(features=["country", "ms"], patience=500)
    updated(engine, "a", stream(rng, 3_000))
    moved = [{**event, "country": "kp"} if rng.random() < 0.5 else event for event in stream(rng, 12_000)]
    verdicts = updated(engine, "a", moved)
    assert verdicts.anomalous[-4_000:].mean() <= 0.02


def test_a_burst_of_a_new_category_is_flagged_to_its_end():
    rng = np.random.default_rng(4)
    engine = Engine(features=["country", "ms"])
    updated(engine, "a", stream(rng, 5_000))
    burst = engine.update("a", [{**event, "country": "kp"} for event in stream(rng, 300)])
    assert burst.anomalous.mean() >= 0.95


def test_the_share_of_usual_events_that_is_flagged_stays_in_bounds_with_categories():
    rng = np.random.default_rng(2)
    engine = Engine(features=["country", "ms"])
    verdicts = updated(engine, "a", stream(rng, 20_000))
    assert 0.003 <= verdicts.anomalous[2_000:].mean() <= 0.013


@given(st.lists(st.sampled_from("abcdef"), min_size=30, max_size=100))  # after that an odd event counts less
def test_a_rarity_is_the_surprise_at_a_categorys_share_so_far(categories):
    model = Categories(Detector(), (0,), 1e9)
    state = model.init(1)
    counts: dict[str, int] = {}
    for n, letter in enumerate(categories):
        x = np.array([float(ord(letter) * 65)], np.float32)  # six codes that share no place
        rarity = model._with_rarities(state, x, *model._places(x))[0]
        assert rarity == pytest.approx(-math.log((counts.get(letter, 0) + 0.5) / (n + 1)), rel=1e-4, abs=1e-4)
        state, _ = model.step(state, x)
        counts[letter] = counts.get(letter, 0) + 1


def test_a_million_categories_take_no_more_memory_than_two():
    rng = np.random.default_rng(3)
    engine = Engine(features=["user"], categories=["user"])
    before = engine.layout.length
    updated(engine, "a", [{"user": int(i)} for i in rng.integers(0, 10**6, 20_000)])
    assert engine.layout.length == before
    assert engine.describe("a")["category_bytes"] == 512
    assert engine.score(["a"], [{"user": -1}]).score[0] < 5.0  # where everything is new, a new one is usual
