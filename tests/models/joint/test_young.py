"""The first few hundred events of a slice, and thresholds that no score has reached."""

import numpy as np

from onlineguard import Engine
from tests.support.long import updated

SLICES, LENGTH, READY = 4, 800, 100


def judged(x):
    """Scores, thresholds and flags (events, slices) of streams (events, slices) of one feature each."""
    keys = np.tile(np.arange(x.shape[1]), len(x))
    verdicts = updated(Engine(1), keys, x.reshape(-1, 1))
    parts = verdicts.score, verdicts.threshold, verdicts.anomalous
    return [part.reshape(x.shape)[READY:] for part in parts]


def on_and_off(rng):
    """A server that is on for 100 events, then off for 100."""
    on = (np.arange(LENGTH) // 100 % 2 == 0)[:, None]
    return np.where(on, 100.0, 20.0) + 2.0 * rng.standard_normal((LENGTH, SLICES))


def test_the_threshold_stays_within_reach_of_the_scores_where_their_spread_has_changed():
    scores, thresholds, _ = judged(on_and_off(np.random.default_rng(0)))
    assert (thresholds < 1.2 * scores.max(axis=0)).all()


def test_a_young_slice_soon_takes_a_second_regime_for_usual():
    _, _, flagged = judged(on_and_off(np.random.default_rng(0)))
    assert flagged[:20].all()
    assert flagged[50:].mean() < 0.01


def test_gaps_between_whole_numbers_are_no_valley():
    _, _, flagged = judged(np.random.default_rng(0).poisson(1.0, (LENGTH, SLICES)).astype(float))
    assert flagged.mean() < 0.03


def test_far_values_in_a_young_slice_are_found_beside_each_other():
    rng = np.random.default_rng(0)
    x = rng.poisson(1.0, (LENGTH, SLICES)).astype(float)
    odd = rng.random(x.shape) < 0.02
    odd[:READY] = False
    _, _, flagged = judged(np.where(odd, x + 9.0, x))
    assert flagged[odd[READY:]].mean() > 0.8


def test_a_level_that_moves_once_is_soon_usual_in_a_young_slice():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3_000, 3))
    x[400:] += 5.0
    flagged = updated(Engine(3), "a", x).anomalous
    assert flagged[400:450].mean() > 0.9
    assert flagged[600:].mean() < 0.02
