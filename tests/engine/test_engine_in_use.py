"""An Engine as a program uses it: from many threads, copied, changed while it runs, and looked at."""

import copy
import pickle
import threading

import numpy as np
import pandas as pd
import polars as pl
import pytest

from onlineguard import ClippedSGD, Detector, Engine, InvalidArgument, Mean, Series
from tests.support.long import updated


def stream(n=2_000, d=2, slices=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, slices, n), rng.standard_normal((n, d))


def test_calls_from_many_threads_lose_no_event_and_end():
    keys, x = stream(1_000)
    engine, failed = Engine(2), []

    def work(of):
        try:
            for start in range(0, 1_000, 50):
                engine.update(keys[start : start + 50] + 100 * of, x[start : start + 50])
                engine.score(keys[:3], x[:3])
                if engine.slices:
                    engine.describe(engine.slices[0])
        except Exception as error:  # whatever it is, it fails the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120.0)
    assert not failed
    assert not any(thread.is_alive() for thread in threads)
    assert engine.n_events == 6_000
    assert sum(engine.describe(key)["events"] for key in engine.slices) == 6_000


def test_threads_that_keep_to_their_slices_give_the_states_of_one_thread():
    keys, x = stream(900, slices=3)
    alone, shared = Engine(2), Engine(2)
    for key in range(3):
        alone.update(keys[keys == key], x[keys == key])

    def work(key):
        mine = np.flatnonzero(keys == key)
        for start in range(0, len(mine), 20):
            shared.update(keys[mine[start : start + 20]], x[mine[start : start + 20]])

    threads = [threading.Thread(target=work, args=(key,)) for key in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in range(3):
        assert alone.describe(key)["location"] == shared.describe(key)["location"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))])
def test_a_copy_learns_on_by_itself(duplicate):
    keys, x = stream(250)
    engine = Engine(features=["a", "b"], estimator=Series(), max_slices=5)
    engine.update(keys, x + 1e9 + 0.1)
    engine.notes["from"] = "here"
    other = duplicate(engine)
    np.testing.assert_array_equal(engine.update(keys, x).score, other.update(keys, x).score)
    other.update(keys[:100], x[:100])
    assert (engine.n_events, other.n_events) == (500, 600)
    assert (other.features, other.max_slices, other.notes) == (["a", "b"], 5, {"from": "here"})


def test_an_engine_whose_arrays_came_read_only_learns_on():
    keys, x = stream()
    engine = Engine(2)
    engine.update(keys, x + 1e9 + 0.1)
    config, tensors = engine.dump()
    for array in tensors.values():
        array.flags.writeable = False  # as joblib, Ray and a memory-mapped file hand them over
    other = Engine.restored(config, engine.model, tensors)
    np.testing.assert_array_equal(engine.update(keys, x).score, other.update(keys, x).score)


def test_the_target_rate_may_change_while_the_engine_runs():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60_000, 1))
    engine = Engine(1, estimator=Detector(0.01))
    before = updated(engine, "a", x[:20_000]).anomalous[10_000:].mean()
    engine.target_rate = 0.1
    after = updated(engine, "a", x[20_000:]).anomalous[20_000:].mean()
    assert 0.006 < before < 0.014
    assert 0.08 < after < 0.12
    assert engine.model.target_rate == engine.target_rate == 0.1


def test_patience_and_the_number_of_slices_may_change_too():
    keys, x = stream(slices=50)
    engine = Engine(2, max_slices=100)
    engine.update(keys, x)
    engine.patience = 300
    assert engine.patience == engine.model.patience == 300.0
    engine.max_slices = 20
    assert engine.n_slices <= 20
    assert engine.evicted >= 30
    engine.max_slices = 60
    engine.update(keys, x)
    assert engine.n_slices == 50


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("target_rate", 0.5, InvalidArgument, r"target_rate is 0\.5; it must lie in"),
        ("patience", 0, InvalidArgument, "patience is 0; it must be at least 1 event"),
        ("max_slices", 0, InvalidArgument, "max_slices is 0"),
        ("n_features", 3, AttributeError, "n_features"),
        ("features", ["a", "b"], AttributeError, "features"),
        ("n_events", 0, AttributeError, "n_events"),
        ("model", None, AttributeError, "model"),
        ("traget_rate", 0.1, AttributeError, "traget_rate"),
    ],
)
def test_what_may_not_change_says_so(name, value, error, message):
    engine = Engine(2)
    with pytest.raises(error, match=message):
        setattr(engine, name, value)


def test_describe_answers_in_the_unit_of_the_data():
    rng = np.random.default_rng(0)
    x = rng.normal([100.0, 1e9 + 0.1], [5.0, 2.0], (5_000, 2))
    engine = Engine(features=["load", "bytes"])
    updated(engine, "a", x)
    engine.update(["b"] * 10, x[:10])
    found = engine.describe("a")
    assert found["location"] == pytest.approx({"load": 100.0, "bytes": 1e9 + 0.1}, abs=1.0)
    assert found["scale"] == pytest.approx({"load": 5.0, "bytes": 2.0}, rel=0.1)
    assert 1.4 < found["threshold"] < 2.6
    assert found["events"] == 5_000
    assert (found["idle"], engine.describe("b")["idle"]) == (10, 0)
    assert engine.state("a").memories.slow.location[0] == pytest.approx(100.0, rel=0.01)
    with pytest.raises(KeyError):
        engine.describe("c")


def test_describe_of_an_estimator_has_its_own_words():
    rng = np.random.default_rng(0)
    engine = Engine(1, estimator=ClippedSGD(Mean(1)))
    engine.update(["a"] * 5_000, rng.normal(1e9 + 0.1, 1.0, (5_000, 1)))
    found = engine.describe("a")
    assert found["location"] == pytest.approx({0: 1e9 + 0.1}, abs=0.5)
    assert 1.5 < found["threshold"] < 4.0  # a distance in the data's own unit


def test_verdicts_can_be_indexed_cut_and_turned_into_frames():
    keys, x = stream()
    verdicts = Engine(2).update(keys, x)
    one = verdicts[1_500]
    for field in ("score", "threshold", "p_value", "anomalous", "ready"):
        assert getattr(one, field) == getattr(verdicts, field)[1_500]
    ready = verdicts[verdicts.ready]
    assert len(ready) == verdicts.ready.sum()
    np.testing.assert_array_equal(ready.p_value, verdicts.p_value[verdicts.ready])
    np.testing.assert_array_equal(verdicts[10:20].score, verdicts.score[10:20])
    assert [verdict.score for verdict in verdicts[1_990:]] == verdicts.score[1_990:].tolist()
    pl_frame, pd_frame = verdicts.to_polars(), verdicts.to_pandas()
    assert isinstance(pl_frame, pl.DataFrame)
    assert isinstance(pd_frame, pd.DataFrame)
    assert pl_frame.columns == list(pd_frame.columns) == ["score", "threshold", "p_value", "anomalous", "ready"]
    with pytest.raises(IndexError):
        verdicts[2_000]


def test_an_engine_and_its_verdicts_show_what_they_are():
    keys, x = stream()
    engine = Engine(features=["<a>", "b"])
    verdicts = engine.update(keys, x)
    assert repr(engine) == (
        "Engine(features=['<a>', 'b'], estimator=JointDetector(target_rate=0.01, patience=5000.0)) "
        "of 7 slices after 2,000 events"
    )
    assert repr(verdicts).startswith("Verdicts of 2,000 events: 1,300 ready, ")
    assert "&lt;a&gt;" in engine._repr_html_()
    assert verdicts._repr_html_().count("<tr>") == 11
