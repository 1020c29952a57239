"""Clicks in one program: to the last bit the same however the stream is cut, and as step by step."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard import Detector, Engine
from onlineguard.engine.device import Accelerator
from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.categories import category
from onlineguard.slidr.clicks.clicks import Click, prefix
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.features import NAMES, WIDTH, Featuriser
from onlineguard.slidr.judge import MOST, ClickJudge, FeatureJudge
from onlineguard.slidr.learning.baselines import VelocityRule
from onlineguard.slidr.learning.network import NetworkConfig, init
from onlineguard.slidr.learning.train import Network
from tests.support.same import assert_same
from tests.support.slidr_streams import gateway, streams

WATCHED = [2, 6, 10, 14, 36, 37]
SLICES = ("phone", "pc")


def network(kind="mlp"):
    config, rng = NetworkConfig(kind=kind, hidden=(16, 8), bits=4), np.random.default_rng(0)
    mean, deviation = rng.random(WIDTH, np.float32), rng.random(WIDTH, np.float32) + 0.5
    return Network(config, init(1, WIDTH, config), mean, deviation, np.zeros(0, np.float32))


def rule():
    return VelocityRule.train(np.random.default_rng(0).random((50, WIDTH), np.float32), NAMES)


def clicks_of(keys: ClickKeys) -> list[Click]:
    rest = {"user_agent": "", "device": "pc", "marketplace": "DE"}
    names = ("click_id", "ts", "user_id", "session_id", "ip", "ad_id", "logged_in")
    rows = zip(*keys._replace(ts=keys.ts.tolist()), strict=True)
    return [Click(**dict(zip(names, row, strict=True)), **rest) for row in rows]


def judged(keys, model, sizes, counting, **options):
    """What comes of the stream, judged in batches of these sizes, over and over: p_robot, verdicts, and all state."""
    engine, store = Engine(len(WATCHED), **options), ProcessStore()
    judge = ClickJudge(model, Featuriser(), engine, store if counting else None, WATCHED)
    elsewhere = None if counting else ProcessStore().count(keys)
    clicks, parts, start = clicks_of(keys), [], 0
    while start < len(clicks):
        end = min(len(clicks), start + sizes[len(parts) % len(sizes)])
        slices = [SLICES[i % len(SLICES)] for i in range(start, end)]
        parts.append(judge.judge(clicks[start:end], slices, None if counting else elsewhere[start:end]))
        start = end
    rows = [
        np.column_stack(
            [
                part.p_robot,
                part.watched,
                part.verdicts.score,
                part.verdicts.threshold,
                part.verdicts.quantiles,
                part.verdicts.ready,
            ]
        )
        for part in parts
    ]
    return np.concatenate(rows), engine, store


def same_engines(one, other):
    (config, tensors), (their_config, their_tensors) = one.dump(), other.dump()
    assert config == their_config
    assert {name: tensor.tobytes() for name, tensor in tensors.items()} == {
        name: tensor.tobytes() for name, tensor in their_tensors.items()
    }


def compare(keys, model, counting):
    """One by one equals step by step: counters, features, scorer and engine, each by itself."""
    answers, engine, store = judged(keys, model, [1], counting)
    stepwise, theirs, featuriser = Engine(len(WATCHED)), ProcessStore(), Featuriser()
    for i, (click, answer) in enumerate(zip(clicks_of(keys), answers, strict=True)):
        counts = theirs.count(keys.part(i, i + 1))
        x = featuriser.of_counts(counts, keys.ts[i : i + 1], [click.marketplace], [click.logged_in])
        verdict = stepwise.update([SLICES[i % len(SLICES)]], x[:, WATCHED])
        codes = np.array([[category(""), category(prefix(click.ip)), category(click.ad_id)]], np.uint32)
        assert answer[0] == pytest.approx(float(model.p_robot(x, codes)[0]), rel=1e-5, abs=1e-7)
        expected = (*x[0, WATCHED], verdict.score[0], verdict.threshold[0], *verdict.quantiles[0], verdict.ready[0])
        np.testing.assert_array_equal(answer[1:], expected)
    if counting:
        assert_same(store.dump(), theirs.dump())
    same_engines(engine, stepwise)


@pytest.mark.parametrize("counting", [True, False])
@given(keys=streams())
def test_it_counts_and_learns_as_step_by_step(counting, keys):
    compare(keys, network(), counting)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "counting"), [("mlp", True), ("cross", True), ("embedding", True), ("mlp", False)])
def test_a_long_stream_that_grows_tables_and_pools_slices_ends_alike(kind, counting):
    compare(gateway(4_000, 1_500, 0), network(kind), counting)


@pytest.mark.parametrize("counting", [True, pytest.param(False, marks=pytest.mark.slow)])
@given(keys=streams(), sizes=st.lists(st.sampled_from([1, 1, 2, 7, MOST]), min_size=1, max_size=5))
def test_one_click_is_a_batch_of_one_to_the_last_bit(counting, keys, sizes):
    whole, engine, _ = judged(keys, network(), [MOST], counting)
    cut, other, _ = judged(keys, network(), sizes, counting)
    assert cut.tobytes() == whole.tobytes()
    same_engines(engine, other)


@pytest.mark.parametrize(
    "kind", ["mlp", pytest.param("cross", marks=pytest.mark.slow), pytest.param("embedding", marks=pytest.mark.slow)]
)
def test_a_long_stream_in_batches_is_answered_as_click_by_click_to_the_last_bit(kind):
    keys = gateway(2_000, 700, 1)
    whole, engine, _ = judged(keys, network(kind), [MOST, 5], True)
    cut, other, _ = judged(keys, network(kind), [1], True)
    assert cut.tobytes() == whole.tobytes()
    same_engines(engine, other)


@pytest.mark.parametrize(
    "model",
    [
        network("mlp"),
        pytest.param(network("cross"), marks=pytest.mark.slow),
        pytest.param(network("embedding"), marks=pytest.mark.slow),
        pytest.param(rule(), marks=pytest.mark.slow),
    ],
    ids=lambda model: type(model).__name__,
)
def test_features_of_another_judge_are_scored_to_the_bits_that_its_own_would_give(model):
    clicks, engine = clicks_of(gateway(400, 150, 5)), Engine(len(WATCHED))
    judge, beside = ClickJudge(model, Featuriser(), engine, ProcessStore(), WATCHED), FeatureJudge(model, engine)
    beside.warmup()
    start = 0
    for size in [1, MOST, 2, MOST, 7, 1] * 2:
        part = clicks[start : start + size]
        found = judge.judge(part, ["phone"] * size)
        assert beside.p_robot(part, found.features).tobytes() == found.p_robot.tobytes()
        start += size


def test_slices_that_must_go_within_a_batch_go_at_the_same_click():
    keys = gateway(300, 100, 2)
    whole, engine, _ = judged(keys, network(), [MOST], True, max_slices=1)
    cut, other, _ = judged(keys, network(), [1], True, max_slices=1)
    assert cut.tobytes() == whole.tobytes()
    assert engine.evicted > 100
    same_engines(engine, other)


@pytest.mark.slow
def test_a_model_that_is_no_network_judges_the_features_that_the_program_leaves():
    keys = gateway(200, 50, 3)
    answers, engine, _ = judged(keys, rule(), [MOST, 1], True)
    theirs, stepwise, _ = judged(keys, network(), [MOST, 1], True)
    x = Featuriser().of_counts(ProcessStore().count(keys), keys.ts, ["DE"] * 200, keys.signed_in)
    np.testing.assert_array_equal(answers[:, 0], rule().p_robot(x))
    np.testing.assert_array_equal(answers[:, 1:], theirs[:, 1:])
    same_engines(engine, stepwise)


def test_an_engine_that_counts_from_origins_is_refused():
    engine = Engine(6)
    engine.update(["far"], np.full((1, 6), 1.7e12))
    judge = ClickJudge(network(), Featuriser(), engine, None, WATCHED)
    with pytest.raises(InvalidArgument, match="count from origins; give all its events to `update`"):
        judge.judge(clicks_of(gateway(1, 1, 0)), ["far"], np.zeros((1, 34), np.int32))
    assert engine.n_events == 1


@pytest.mark.parametrize(
    ("device", "takes_kernels"), [("auto", False), pytest.param("gpu", True, marks=pytest.mark.slow)]
)
def test_on_an_accelerator_batches_are_judged_at_once_as_one_by_one_on_the_cpu(monkeypatch, device, takes_kernels):
    found = Accelerator((jax.devices()[0],), "gpu", takes_kernels, interprets=takes_kernels)
    keys = gateway(1_100 if takes_kernels else 500, 300, 4)  # of 1,024 the slices are pooled
    one_by_one, engine, _ = judged(keys, network("embedding"), [1], True, estimator=Detector(0.01))
    monkeypatch.setattr("onlineguard.engine.device.accelerator", lambda: found)
    monkeypatch.setattr("onlineguard.engine.stepper.SPLIT_FROM", 100)
    monkeypatch.setattr("onlineguard.slidr.judge.WHOLE", 256)
    options = {"estimator": Detector(0.01), "device": device}
    at_once, other, _ = judged(keys, network("embedding"), [256, 1, 100, 70], True, **options)
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-4, atol=1e-6)
    assert engine.n_events == other.n_events
