"""Absence: a feature that is missing can be odd, where that is rare in its slice."""

import numpy as np
import pytest

from onlineguard import Engine
from tests.support.long import updated

NAN = float("nan")


def stream(rng, n, absent=(0.0, 0.3)):
    x = rng.normal(20.0, 4.0, (n, 2))
    x[rng.random((n, 2)) < absent] = NAN
    return x


@pytest.fixture(scope="module")
def engine():
    engine = Engine(features=["load", "latency"], absence=True)
    updated(engine, "a", stream(np.random.default_rng(0), 5_000))
    return engine


def test_the_absence_of_what_is_always_there_is_odd_and_that_of_what_often_lacks_is_not(engine):
    verdicts = engine.score(["a"] * 3, [[NAN, 20.0], [20.0, NAN], [20.0, 20.0]])
    assert verdicts.anomalous.tolist() == [True, False, False]
    assert next(iter(engine.explain("a", [NAN, 21.0]))) == "load"


def test_values_are_judged_as_without_it(engine):
    plain = Engine(features=["load", "latency"])
    updated(plain, "a", stream(np.random.default_rng(0), 5_000))
    odd = [[60.0, 20.0], [20.0, -20.0]]
    assert (
        engine.score(["a"] * 2, odd).anomalous.tolist() == plain.score(["a"] * 2, odd).anomalous.tolist() == [True] * 2
    )


def test_an_event_that_lacks_everything_is_still_no_event(engine):
    assert not engine.score(["a"], [[NAN, NAN]]).ready[0]


def test_the_shares_of_what_is_absent_are_described(engine):
    absent = engine.describe("a")["absent"]
    assert absent["load"] == 0.0
    assert 0.25 <= absent["latency"] <= 0.35


def test_without_any_absence_the_share_of_events_flagged_stays_as_asked():
    verdicts = updated(Engine(n_features=2, absence=True), "a", stream(np.random.default_rng(1), 40_000, (0.0, 0.0)))
    assert 0.008 <= verdicts.anomalous[4_000:].mean() <= 0.012


def test_absence_and_categories_and_files_go_together(tmp_path):
    engine = Engine(features=["country", "ms"], absence=True)
    rows = [{"country": "de", "ms": 20.0}, {"country": "us", "ms": 21.0}] * 200
    engine.update("a", rows)
    engine.patience = 100.0
    assert engine.categories == (0,)
    engine.save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    one, other = (e.update("a", [{"ms": 20.0}, {"country": "kp", "ms": 20.0}]) for e in (engine, loaded))
    np.testing.assert_array_equal(one.score, other.score)
    assert one.anomalous.all()
