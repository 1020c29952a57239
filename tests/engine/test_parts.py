"""The parts of a table: however the rows are divided among cores, the answers and the states are the same bits."""

import pickle
import threading

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard import ClippedSGD, Detector, Engine, JointDetector, LinearRegression
from onlineguard.engine import stepper
from onlineguard.engine.parts import FIRST_ROW, WASTE, Parts, at_once
from onlineguard.errors import InvalidArgument

LENGTH = 16


@pytest.fixture
def split_from(monkeypatch):
    """Calls of 40 events are large already."""
    monkeypatch.setattr(stepper, "SPLIT_FROM", 40)


@pytest.fixture
def compilations():
    """Grows by one for every program that XLA compiles."""
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: seen.append(event) if event.endswith("backend_compile_duration") else None
    )
    return seen


def values(n, seed):
    return np.random.default_rng(seed).normal(size=(n, LENGTH)).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["divide", "put", "reserve"]), st.integers(1, 5)), max_size=8))
def test_rows_are_where_they_were_put_however_they_are_divided(steps):
    parts, expected = Parts(8, LENGTH), np.zeros((8, LENGTH), np.float32)
    for i, (step, number) in enumerate(steps):
        if step == "divide":
            parts.divide(number)
            assert parts.count == number
        elif step == "reserve":
            parts.reserve(8 * number)
            expected = np.concatenate([expected, np.zeros((parts.capacity - len(expected), LENGTH), np.float32)])
        else:
            rows = np.random.default_rng(i).permutation(np.arange(WASTE + 1, parts.capacity))[: 2 * number]
            expected[rows] = values(len(rows), i)
            parts.put(rows.astype(np.int32), values(len(rows), i))
        rows = np.arange(WASTE + 1, parts.capacity, dtype=np.int32)
        np.testing.assert_array_equal(parts.take(rows), expected[1:])
        np.testing.assert_array_equal(parts.fetch()[1:], expected[1:])


def stream(n=1_500, seed=0, offset=0.0, slices=60):
    rng = np.random.default_rng(seed)
    keys = np.minimum(rng.zipf(1.3, n), slices)
    X = rng.normal(size=(n, 2)) + offset
    X[rng.random((n, 2)) < 0.05] = np.nan
    return keys, X


def fed(cuts, cores, offset=0.0, **options):
    """An engine that took a stream in these cuts, and its verdicts."""
    keys, X = stream(offset=offset)
    engine = Engine(2, cores=cores, **options)
    parts = [engine.update(keys[a:b], X[a:b]) for a, b in zip([0, *cuts], [*cuts, len(X)], strict=True) if a < b]
    return engine, np.concatenate([list(part.rows()) for part in parts])


def tensors(engine):
    return engine.dump()[1]


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="", marks=pytest.mark.slow),
        pytest.param({"max_slices": 20}, id="evicting", marks=pytest.mark.slow),
        pytest.param({"max_slices": 20, "estimator": Detector()}, id="plain"),
    ],
)
def test_any_number_of_cores_and_any_cut_give_the_same_bits(split_from, offset, options):
    one, expected = fed([], 1, offset, **options)
    for cores, cuts in ((2, []), (3, [7, 500, 510, 900]), (4, [1_000])):
        engine, verdicts = fed(cuts, cores, offset, **options)
        np.testing.assert_array_equal(verdicts, expected)
        for name, tensor in tensors(one).items():
            np.testing.assert_array_equal(tensors(engine)[name], tensor)


@pytest.mark.parametrize("model", [Detector(), pytest.param(JointDetector(), marks=pytest.mark.slow)])
def test_everything_else_answers_from_a_divided_table_as_from_a_whole_one(split_from, tmp_path, model):
    one, _ = fed([], 1, estimator=model)
    many, _ = fed([], 3, estimator=model)
    keys, X = stream(200, seed=1)
    key = int(keys[0])
    for engine in (one, many):
        engine.feedback(key, [3.0, 3.0], usual=True)
        engine.save(tmp_path / f"{engine._cores}")
    for again in (many, pickle.loads(pickle.dumps(many)), Engine.load(tmp_path / "3")):
        np.testing.assert_array_equal(again.score(keys, X).score, one.score(keys, X).score)
        assert again.explain(key, X[0]) == one.explain(key, X[0])
        assert str(again.describe(key)) == str(one.describe(key))  # NaN among it
    many.update(keys, X)
    one.update(keys, X)
    np.testing.assert_array_equal(many.score(keys[:5], X[:5]).score, one.score(keys[:5], X[:5]).score)


def test_a_model_with_targets_predicts_from_a_divided_table(split_from):
    keys, X = stream(400)
    X = np.nan_to_num(X)
    answers = []
    for cores in (1, 2):
        engine = Engine(2, estimator=ClippedSGD(LinearRegression(2)), cores=cores)
        engine.update(keys, X, X.sum(axis=1))
        answers.append(engine.predict(keys, X))
    np.testing.assert_array_equal(*answers)


def test_small_calls_put_the_table_together_once_they_brought_as_many_events_as_it_has_rows(split_from):
    engine, _ = fed([], 2, estimator=Detector())
    keys, X = stream(39, seed=1)
    counts = []
    for _ in range(engine._learner.states.table.parts.capacity // 39 + 2):
        counts.append(engine._learner.states.table.parts.count)
        engine.update(keys, X)
    assert counts[0] == counts[-2] == 2
    assert engine._learner.states.table.parts.count == 1


def test_warming_up_leaves_nothing_to_compile_for_large_calls(split_from, compilations):
    engine = Engine(2, cores=2, estimator=Detector())
    engine.warmup(2_048, 100)
    before = len(compilations)
    keys, X = stream()
    engine.update(keys, X)
    engine.update(keys[:5], X[:5])
    assert len(compilations) == before


def test_what_one_of_several_threads_raises_is_raised_after_all_have_ended():
    ended = threading.Event()

    def fails():
        raise KeyError("x")

    with pytest.raises(KeyError):
        at_once([lambda: None, fails], ended.set)
    assert ended.is_set()
    with pytest.raises(KeyError):
        at_once([ended.set], fails)


@pytest.mark.parametrize("cores", [0, -1, 1.5, "2", True])
def test_a_wrong_number_of_cores_is_one_clear_error(cores):
    with pytest.raises(InvalidArgument, match=r"^cores is .* whole number of at least 1"):
        Engine(2, cores=cores)
    assert FIRST_ROW > WASTE
