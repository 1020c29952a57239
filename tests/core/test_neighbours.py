"""Neighbours and FITNESS: what they score by, what they do not see, and what they keep."""

import jax
import numpy as np
import pytest

from onlineguard.core.neighbours import Fitness, Neighbours, nearest, unit
from onlineguard.engine.schedules import scan


def scored(model, events):
    return np.asarray(scan(model, model.init(), events)[1])


def test_neighbours_score_by_the_nearest_of_the_last_events():
    events = np.random.default_rng(0).random((700, 16), np.float32)
    window, k = 64, 2
    score = scored(Neighbours(16, ((window, k),), common=0.0, doubt=1.0), events)
    units = unit(events)
    for i in (100, 699):
        distance = np.sort(np.linalg.norm(units[i - window : i] - units[i], axis=1))[k - 1]
        assert score[i] == pytest.approx(16.0 * np.log(distance) - np.log(k / window), abs=1e-2)


def test_neighbours_compare_what_events_do_not_share():
    events = np.random.default_rng(0).random((300, 16), np.float32)
    model = Neighbours(16, ((64, 2),), doubt=1.0)
    state, scores = scan(model, model.init(), events)
    units, mean, own = unit(events), np.zeros(16), []
    for i, event in enumerate(units):
        own.append(unit(event - 0.5 * mean))
        mean += max(1 / 64, 1 / (i + 1)) * (event - mean)
    np.testing.assert_allclose(state.mean, mean, atol=1e-5)
    distance = np.sort(np.linalg.norm(np.array(own[-65:-1]) - own[-1], axis=1))[1]
    assert scores[-1] == pytest.approx(16.0 * np.log(distance) - np.log(2 / 64), abs=1e-2)


def test_an_event_that_was_odd_when_it_came_counts_as_lying_further_away():
    random = np.random.default_rng(0)
    events = random.normal(size=(1_000, 4)).astype(np.float32)
    events[700], events[701] = 9.0, 9.5
    doubting, believing = (scored(Neighbours(4, ((64, 1),), False, doubt=d), events) for d in (1.5, 1.0))
    assert doubting[701] == pytest.approx(believing[701] + 8.0 * np.log(1.5), abs=1e-3)


@pytest.mark.parametrize("model", [Neighbours(16), Fitness(16)])
def test_neighbours_and_fitness_see_no_brightness(model):
    events = np.random.default_rng(0).random((50, 16), np.float32)
    bright = events * np.random.default_rng(1).uniform(0.1, 1e6, (50, 1)).astype(np.float32)
    np.testing.assert_allclose(scored(model, events)[5:], scored(model, bright)[5:], atol=1e-2)


def test_neighbours_trust_the_short_memory_after_a_switch_and_longer_ones_later():
    random = np.random.default_rng(0)
    places = np.repeat(np.eye(2, 16, dtype=np.float32), 600, axis=0)
    events = abs(places + 0.2 * random.random((1_200, 16), np.float32))
    model = Neighbours(16)
    fresh = scan(model, model.init(), events[:650])[0].weights
    settled = scan(model, model.init(), events)[0].weights
    assert fresh[:2].sum() > 0.5
    assert settled[2:].sum() > 0.5


@pytest.mark.parametrize("model", [Neighbours(4, ((8, 1), (32, 3)), direction=False), Fitness(4, 32, 3)])
def test_numpy_and_jax_score_alike_and_an_empty_event_changes_nothing(model):
    events = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    events[::7, 1], events[50] = np.nan, np.nan
    one = other = model.init()
    step = jax.jit(model.step)
    for event in events:
        before = one
        one, score = model.step(one, event)
        other, again = step(other, event)
        np.testing.assert_allclose(score, again, rtol=1e-4, atol=1e-4)
        if not np.isfinite(event).any():
            assert np.isnan(score)
            for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(one), strict=True):
                np.testing.assert_array_equal(a, b)
    assert model.describe(one)["remembered"] == 32


def test_the_nearest_are_k_even_where_distances_are_equal():
    square, places = nearest(np.array([3.0, 1.0, 1.0, 2.0], np.float32), 3)
    assert square == 2.0
    assert sorted(places.tolist()) == [1, 2, 3]
