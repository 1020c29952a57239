"""What people say of verdicts moves a slice's threshold, within bounds."""

import pickle

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard import Engine, Series


def learned(n=3_000, **options):
    engine = Engine(n_features=2, **options)
    x = np.random.default_rng(0).standard_normal((n, 2))
    engine.update(np.arange(n) % 2, x)
    return engine


def test_an_event_that_was_a_false_alarm_is_none_after_some_answers():
    engine = learned()
    x = [5.0, 0.0]
    assert engine.score([0], [x]).anomalous[0]
    verdicts = [engine.feedback(0, x, usual=True) for _ in range(4)]
    assert not verdicts[-1].anomalous
    assert engine.score([1], [x]).anomalous[0]  # the other slice is as it was


def test_an_event_that_was_missed_is_found_after_an_answer():
    engine = learned()
    x = [2.9, 0.0]
    assert not engine.score([0], [x]).anomalous[0]
    assert engine.feedback(0, x, usual=False).anomalous


def test_an_answer_that_says_nothing_new_changes_no_threshold():
    engine = learned()
    before = engine.describe(0)["feedback"]
    engine.feedback(0, [50.0, 0.0], usual=False)
    engine.feedback(0, [0.1, 0.1], usual=True)
    assert engine.describe(0)["feedback"] == before == 1.0


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=1, max_size=12))
def test_all_answers_together_change_a_threshold_by_a_factor_of_two_at_most(answers):
    engine = learned(300)
    share = engine.score([0] * 1_000, np.random.default_rng(1).standard_normal((1_000, 2))).anomalous.mean()
    assert share < 0.05
    for value, usual in answers:
        before = engine.describe(0)["feedback"]
        engine.feedback(0, [value, 0.0], usual)
        after = engine.describe(0)["feedback"]
        assert 0.5 <= after <= 2.0
        assert 0.79 <= after / before <= 1.26


def test_answers_are_kept_in_a_file_and_in_a_copy(tmp_path):
    engine = learned()
    engine.feedback(0, [5.0, 0.0], usual=True)
    engine.save(tmp_path / "engine")
    x = np.random.default_rng(2).standard_normal((100, 2)) * 2
    expected = engine.score([0] * 100, x)
    assert engine.describe(0)["feedback"] > 1.0
    for copy in (Engine.load(tmp_path / "engine"), pickle.loads(pickle.dumps(engine))):
        np.testing.assert_array_equal(copy.score([0] * 100, x).threshold, expected.threshold)


def test_a_slice_that_is_forgotten_or_evicted_takes_its_answers_with_it():
    engine = learned()
    engine.feedback(0, [5.0, 0.0], usual=True)
    engine.forget(0)
    engine.update([0], [[0.0, 0.0]])
    assert engine.describe(0)["feedback"] == 1.0

    small = Engine(n_features=1, max_slices=2)
    small.update(np.arange(600) % 2, np.random.default_rng(0).standard_normal((600, 1)))
    small.feedback(0, [9.0], usual=True)
    small.update([2, 3], [[0.0], [0.0]])
    assert {small.describe(key)["feedback"] for key in small.slices} == {1.0}


def test_a_batch_after_an_answer_is_its_events_one_by_one():
    whole, single = learned(), learned()
    x = np.random.default_rng(3).standard_normal((200, 2)) * 2
    for engine in (whole, single):
        engine.feedback(0, [5.0, 0.0], usual=True)
    verdicts = whole.update([0] * 200, x)
    alone = [single.update([0], x[i : i + 1]) for i in range(200)]
    for field in ("score", "threshold", "anomalous"):
        np.testing.assert_array_equal(getattr(verdicts, field), np.concatenate([getattr(v, field) for v in alone]))


def test_an_answer_gives_a_series_no_event_twice():
    engine = Engine(n_features=1, estimator=Series())
    engine.update("a", np.random.default_rng(0).standard_normal((1_000, 1)))
    before = engine.state("a")
    engine.feedback("a", [9.0], usual=True)
    after = engine.state("a")
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(one, other)


def test_feedback_on_a_slice_that_is_not_known_is_a_key_error():
    with pytest.raises(KeyError):
        learned().feedback("nobody", [1.0, 1.0], usual=True)
