"""Where a stream is cut: slices are pooled at fixed events, unless nobody could notice."""

import numpy as np
import pytest

from onlineguard import Detector, Engine
from onlineguard.engine import admission
from onlineguard.engine.states import States


@pytest.fixture
def pools_often(monkeypatch):
    """Slices are pooled after 16, 32, 64, 96, ... events."""
    monkeypatch.setattr(admission, "POOL_FIRST", 16)
    monkeypatch.setattr(admission, "POOL_EVERY", 32)


def fed(cuts, born_at, monkeypatch):
    """An engine of 20 slices that took 300 events in these cuts; how many events were learned at once each time."""
    rng = np.random.default_rng(0)
    keys, X = np.append(np.arange(20), rng.integers(0, 20, 280)), rng.normal(100.0, 1.0, (300, 2))
    keys[born_at] = 50 + np.arange(len(born_at))
    learned, learn = [], States.learn
    with monkeypatch.context() as patched:
        patched.setattr(
            States, "learn", lambda self, reads, *rest: learned.append(len(reads)) or learn(self, reads, *rest)
        )
        engine = Engine(2, estimator=Detector())
        parts = [engine.update(keys[a:b], X[a:b]) for a, b in zip([0, *cuts], [*cuts, 300], strict=True)]
    return engine, np.concatenate([part.judgements for part in parts]), learned


@pytest.mark.parametrize("born_at", [[], [97], [130, 131, 288]])
def test_a_pooling_that_no_birth_follows_is_left_out_and_changes_no_bit(pools_often, monkeypatch, born_at):
    whole, expected, learned = fed([], born_at, monkeypatch)
    assert learned == {0: [16, 272, 12], 1: [16, 80, 192, 12], 3: [16, 112, 160, 12]}[len(born_at)]
    for cuts in ([40, 41, 100, 250], list(range(1, 300))):
        engine, found, _ = fed(cuts, born_at, monkeypatch)
        np.testing.assert_array_equal(found, expected)
        for name, tensor in whole.dump()[1].items():
            np.testing.assert_array_equal(engine.dump()[1][name], tensor)


def test_a_change_of_the_model_is_no_part_of_a_pooling_before_it(pools_often):
    X = np.random.default_rng(0).normal(100.0, 1.0, (64, 2))
    engine, other = Engine(2, estimator=Detector()), Engine(2, estimator=Detector())
    for each in (engine, other):
        each.update(np.arange(64) % 20, X)
    other.dump()  # which pools now
    for each in (engine, other):
        each.target_rate = 0.1
    for name, tensor in other.dump()[1].items():
        np.testing.assert_array_equal(engine.dump()[1][name], tensor)
