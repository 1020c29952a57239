"""An Engine on an accelerator, without one: what would step events there steps them on the CPU."""

import copy
import dataclasses
import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onlineguard import ClippedSGD, Detector, Engine, InvalidArgument, JointDetector, LinearRegression
from onlineguard.engine import batches as batches_module
from onlineguard.engine import device, stepper
from onlineguard.engine.device import Accelerator

ULPS = 64 * np.finfo(np.float32).eps  # see tests/engine/test_rounds.py


@pytest.fixture(params=["rounds", pytest.param("kernel", marks=pytest.mark.slow)])
def accelerator(request, monkeypatch):
    """The CPU as a GPU that takes kernels, or none."""
    takes = request.param == "kernel"
    found = Accelerator((jax.devices()[0],), "gpu", takes_kernels=takes, interprets=takes)
    monkeypatch.setattr(device, "accelerator", lambda: found)
    monkeypatch.setattr(device, "SMALLEST_BATCH_AWAY", 256)  # so that little is compiled
    monkeypatch.setattr(stepper, "SPLIT_FROM", 40)
    return found


def stream(n=300, d=2, offset=0.0):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) + offset
    X[rng.random((n, d)) < 0.05] = np.nan
    return np.minimum(rng.zipf(1.3, n), 30), X


def fed(cuts, offset=0.0, **options):
    """An engine that took a stream in these cuts, and its verdicts."""
    keys, X = stream(offset=offset)
    engine = Engine(2, **options)
    parts = [engine.update(keys[a:b], X[a:b]) for a, b in zip([0, *cuts], [*cuts, len(X)], strict=True)]
    return engine, np.concatenate([np.stack([part.score, part.threshold, part.ready], 1) for part in parts])


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_an_engine_on_an_accelerator_answers_as_on_the_cpu(accelerator, offset):
    _, expected = fed([], offset, estimator=Detector(), device="cpu")
    for where in ("auto", "gpu"):
        _, found = fed([7, 250, 255], offset, estimator=Detector(), device=where)
        np.testing.assert_allclose(found, expected, rtol=ULPS)


def test_cutting_a_stream_changes_no_bit_on_one_accelerator(accelerator):
    whole, expected = fed([], estimator=Detector(), device="gpu")
    engine, found = fed([1, 60, 61, 200], estimator=Detector(), device="gpu")
    np.testing.assert_array_equal(found, expected)
    for name, tensor in whole.dump()[1].items():
        np.testing.assert_array_equal(engine.dump()[1][name], tensor)


def test_the_table_moves_to_the_accelerator_for_large_calls_and_comes_back(accelerator):
    keys, X = stream()
    engine = Engine(2, estimator=Detector(), device="auto")
    at = []
    for n in (10, 100, 10, *[39] * (engine._learner.states.table.parts.capacity // 39 + 1)):
        engine.update(keys[:n], X[:n])
        at.append(engine._learner.states.table.place.away)
    assert at[:3] == [False, True, True]
    assert not at[-1]


def test_a_copy_and_a_checkpoint_go_on_as_the_original(accelerator, tmp_path):
    engine, _ = fed([], estimator=Detector(), device="gpu")
    engine.save(tmp_path / "e")
    keys, X = stream()
    expected = engine.update(keys[:100], X[:100]).score
    for other in (copy.copy(fed([], estimator=Detector(), device="gpu")[0]), Engine.load(tmp_path / "e")):
        np.testing.assert_allclose(other.update(keys[:100], X[:100]).score, expected, rtol=ULPS)


def batches(cuts=(0, 50, 51, 200, 300)):
    keys, X = stream()
    return [(keys[a:b], X[a:b]) for a, b in itertools.pairwise(cuts)]


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.score, b.score)
        np.testing.assert_array_equal(a.slice_numbers, b.slice_numbers)


@pytest.mark.parametrize("where", ["cpu", "auto", "gpu"])
def test_a_stream_of_batches_has_the_verdicts_of_its_batches_in_turn(accelerator, where):
    options = {"estimator": Detector(), "device": where, "max_slices": 20}
    engine, other = Engine(2, **options), Engine(2, **options)
    same(list(engine.update_stream(batches())), [other.update(*batch) for batch in batches()])
    for name, tensor in other.dump()[1].items():
        np.testing.assert_array_equal(engine.dump()[1][name], tensor)


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_a_batch_that_cannot_be_read_ends_a_stream_after_the_verdicts_before_it(accelerator, where):
    engine, other = (Engine(2, estimator=Detector(), device=where) for _ in range(2))
    answers = engine.update_stream([*batches(), (["a"], [["x", 1.0]]), (["a"], [[1.0, 1.0]])])
    same([next(answers) for _ in batches()], [other.update(*batch) for batch in batches()])
    with pytest.raises(InvalidArgument):
        next(answers)
    assert engine.n_events == other.n_events


def float32_stream(n=256):
    keys, X = stream(n)
    return keys, X.astype(np.float32)


def test_arrays_on_the_accelerator_are_taken_and_answered_there_without_a_copy(accelerator, monkeypatch):
    keys, X = float32_stream()
    engine, other = (Engine(2, estimator=Detector(), device="gpu") for _ in range(2))
    place, x = engine._learner.states.table.place, jnp.asarray(X)
    given, answered = [], []

    def advance(*args):
        table, judgements = place.advance(*args)
        given.append(args[4])
        answered.append(judgements)
        return table, judgements

    monkeypatch.setattr(engine._learner.states.table, "place", there := dataclasses.replace(place, advance=advance))
    monkeypatch.setattr(engine._learner.states.table, "_small_place", there)
    monkeypatch.setattr(engine._learner.states.table, "_large_place", there)
    verdicts = engine.update(jnp.asarray(keys), x)
    assert given[-1].unsafe_buffer_pointer() == x.unsafe_buffer_pointer()
    assert verdicts.on_device() is answered[-1]
    np.testing.assert_array_equal(verdicts.score, other.update(keys, X).score)
    np.testing.assert_array_equal(np.from_dlpack(engine.score(keys, x).on_device()), other.score(keys, X).judgements)


@pytest.mark.parametrize(
    "kind",
    [
        jnp.bfloat16,
        pytest.param(jnp.float16, marks=pytest.mark.slow),
        pytest.param(jnp.int32, id="whole numbers, which the host reads"),
    ],
)
def test_arrays_on_the_accelerator_of_any_type_and_length_answer_as_the_same_on_the_host(accelerator, kind):
    keys, X = float32_stream(90)
    x = jnp.asarray(np.nan_to_num(8 * X), kind)
    engine, other = (Engine(2, estimator=Detector(), device="gpu") for _ in range(2))
    for at in (slice(0, 60), slice(60, 90)):
        found, expected = engine.update(keys[at], x[at]), other.update(keys[at], np.asarray(x, np.float64)[at])
        np.testing.assert_array_equal(found.judgements, expected.judgements)
        np.testing.assert_array_equal(found.p_value, expected.p_value)
    for each in (engine, other):
        each.feedback(int(keys[0]), [9.0, 9.0], usual=True)
    found, expected = engine.score([*keys[:60], 99], x[:61]), other.score([*keys[:60], 99], np.asarray(x[:61], float))
    np.testing.assert_array_equal(found.judgements, expected.judgements)


def test_arrays_on_the_accelerator_may_be_cut_by_a_pooling(accelerator):
    keys, X = float32_stream(1_300)
    engine, other = (Engine(2, estimator=Detector(), device="gpu") for _ in range(2))
    for at in (slice(0, 700), slice(700, 1_300)):
        found, expected = engine.update(keys[at], jnp.asarray(X[at])), other.update(keys[at], X[at])
        np.testing.assert_array_equal(found.on_device(), expected.judgements)


def test_events_go_to_the_accelerator_and_come_back_in_pieces_where_they_are_many(accelerator, monkeypatch):
    keys, X = stream(300)
    expected = Engine(2, estimator=Detector(), device="gpu").update(keys, X)
    for module in (batches_module, stepper):
        monkeypatch.setattr(module, "LARGEST_BATCH", 64)
    found = Engine(2, estimator=Detector(), device="gpu").update(keys, X)
    np.testing.assert_array_equal(found.judgements, expected.judgements)


@pytest.mark.slow
def test_a_model_predicts_on_an_accelerator(accelerator):
    keys, X = stream()
    X = np.nan_to_num(X)
    answers = []
    for where in ("cpu", "gpu"):
        engine = Engine(2, estimator=ClippedSGD(LinearRegression(2)), device=where)
        engine.update(keys, X, X.sum(axis=1))
        answers.append(engine.predict(keys[:100], X[:100]))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-3, atol=1e-5)


def test_warming_up_measures_from_when_on_the_accelerator_is_quicker_and_repr_says_so(accelerator):
    engine = Engine(2, estimator=Detector())
    engine.warmup(64)
    kind = "the kernel" if accelerator.takes_kernels else "rounds, since cpu takes none"
    assert repr(engine).endswith(f" on cpu by {kind}")
    assert ("no calls on" in repr(engine)) == (engine._learner.states.table._large_from == stepper.NEVER)
    assert repr(Engine(2, estimator=Detector(), device="gpu")).endswith(f"events, on cpu by {kind}")


PROGRAM = """
import numpy as np
import jax
from onlineguard import Detector, Engine
from onlineguard.engine import device, stepper

keys = np.minimum(np.random.default_rng(0).zipf(1.3, 400), 60)
X = np.random.default_rng(1).normal(size=(400, 2))
expected = Engine(2, estimator=Detector(), cores=1).update(keys, X).score
found = device.Accelerator(tuple(jax.devices()), "gpu", False)
device.accelerator, device.SMALLEST_BATCH_AWAY, stepper.SPLIT_FROM = lambda: found, 256, 40
engine = Engine(2, estimator=Detector(), device="gpu")
parts = [engine.update(keys[a:b], X[a:b]).score for a, b in ((0, 150), (150, 160), (160, 400))]
np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-5)
arrays = engine._learner.states.table.parts.arrays
assert [list(array.devices()) for array in arrays] == [[each] for each in jax.devices()]
assert len({array.shape for array in arrays}) == 1
assert len(arrays[0]) < engine._learner.states.table.parts.capacity / 3
print(repr(engine))
"""


@pytest.mark.slow  # each compiles for itself
def test_several_devices_have_a_part_of_the_slices_each():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.endswith(", on 4 of cpu by rounds, since cpu takes none\n"), done.stderr


def test_a_machine_without_one_says_nothing_of_it():
    assert repr(Engine(2, estimator=JointDetector())).endswith("of 0 slices after 0 events")


@pytest.mark.parametrize("wrong", ["tpu", None, 0])
def test_a_device_that_there_is_not_is_one_clear_error(wrong):
    with pytest.raises(InvalidArgument, match=r"^device is .*; it must be one of 'auto', 'cpu', 'gpu'"):
        Engine(2, device=wrong)


def test_a_gpu_that_there_is_not_is_one_clear_error_with_the_way_out():
    with pytest.raises(
        InvalidArgument, match=r"^device is 'gpu', and JAX finds only: cpu; install .*'onlineguard\[gpu\]'"
    ):
        Engine(2, device="gpu")


def test_a_pickle_from_a_machine_with_a_gpu_goes_on_where_there_is_none(accelerator, monkeypatch):
    engine = Engine(2, estimator=Detector(), device="gpu")
    state = engine.__getstate__()
    monkeypatch.setattr(device, "accelerator", lambda: None)
    other = Engine.__new__(Engine)
    other.__setstate__(state)
    assert other._device == "auto"
