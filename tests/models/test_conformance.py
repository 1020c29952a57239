"""Every model through every law: those of the library, and models of a test's own."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from onlineguard import (
    Chain,
    ChangePoint,
    ClippedSGD,
    Constant,
    Covariance,
    Detector,
    Engine,
    Experts,
    Fitness,
    Fixed,
    InvalidArgument,
    JointDetector,
    Judged,
    Judgement,
    Lagged,
    LinearRegression,
    LogisticRegression,
    LogScale,
    Mean,
    Neighbours,
    Quantile,
    Series,
    SliceModel,
    Standardised,
    check_model,
    linear_regression,
    logistic_regression,
    pytree,
    register,
)
from onlineguard.models.absence import Absence
from onlineguard.models.categories import Categories
from onlineguard.models.one_sided import OneSided


class Extremes(NamedTuple):
    low: np.ndarray
    high: np.ndarray
    seen: np.ndarray
    started: np.ndarray


@register("tests: running range")
@pytree
class RunningRange(SliceModel):
    """A model of a test's own: how far an event lies outside the range of those before it."""

    target_rate: float = 0.01

    def init(self, n_features):
        zeros = np.zeros(n_features, np.float32)
        return Extremes(zeros, zeros, np.int32(0), np.bool_(False))

    def step(self, state, event):
        x = jnp.where(jnp.isfinite(event), event, state.low)
        usable = jnp.isfinite(event).any()
        outside = jnp.maximum(jnp.maximum(state.low - x, x - state.high), 0.0)
        score = 1.0 + jnp.where(jnp.isfinite(event), outside, 0.0).sum()
        low = jnp.where(state.started, jnp.minimum(state.low, x), x)
        high = jnp.where(state.started, jnp.maximum(state.high, x), x)
        learned = Extremes(
            jnp.where(usable, low, state.low),
            jnp.where(usable, high, state.high),
            state.seen + usable,
            state.started | usable,
        )
        return learned, Judgement(jnp.where(usable, score, jnp.nan), jnp.float32(1.0), usable & (state.seen > 100))


@register("tests: last value")
@pytree
class LastValue:
    """An estimator of a test's own, with nothing but `init` and `step`: how far an event is from the one before it."""

    features: int

    def init(self):
        return np.zeros(3, np.float32)

    def step(self, state, event):
        there = jnp.isfinite(event)
        last = jnp.where(there, event, state)
        return last, jnp.where(there.any(), jnp.abs(last - state).sum(), jnp.nan)


SCALED = Chain((ClippedSGD(Mean(3)), ClippedSGD(LogScale(np.zeros(3, np.float32)))))
MODELS = {
    "Detector": (Detector(), 3),
    "Detector of 9 features": (Detector(), 9),
    "JointDetector": (JointDetector(), 3),
    "JointDetector of 9 features": (JointDetector(), 9),
    "Series": (Series(), 1),
    "Series of 3 columns": (Series(), 3),
    "OneSided": (OneSided(), 1),
    "Mean": (ClippedSGD(Mean(3)), 3),
    "Mean of 9 features": (ClippedSGD(Mean(9)), 9),
    "Mean at fixed rate and clip": (ClippedSGD(Mean(3), Constant(0.05), Fixed(3.0)), 3),
    "LogScale": (ClippedSGD(LogScale()), 3),
    "Quantile": (ClippedSGD(Quantile(0.9)), 1),
    "Covariance": (ClippedSGD(Covariance(3)), 3),
    "LinearRegression": (ClippedSGD(LinearRegression(3), Constant(0.01)), 3),
    "LogisticRegression": (ClippedSGD(LogisticRegression(3), Constant(0.01)), 3),
    "linear_regression": (linear_regression(3), 3),
    "logistic_regression": (logistic_regression(3), 3),
    "Neighbours": (Neighbours(3, ((8, 1), (32, 2)), direction=False), 3),
    "Neighbours by direction": (Neighbours(3, ((32, 2),)), 3),
    "Neighbours, standardised": (Standardised(Neighbours(3, ((8, 1), (32, 2)), direction=False), 3), 3),
    "Fitness": (Fitness(3, 32, 3), 3),
    "Experts": (Experts(Mean(3), rates=(1.0, 0.1, 0.01)), 3),
    "Chain": (SCALED, 3),
    "Chain that decides": (Chain((*SCALED.stages, ClippedSGD(Quantile(0.99)))), 3),
    "ChangePoint": (ChangePoint(3, starts=16), 3),
    "Judged": (Judged(ClippedSGD(Mean(3)), 0.05, 500.0), 3),
    "Absence": (Absence(Detector()), 3),
    "Absence around Categories": (Absence(Categories(Detector(), (1,))), 3),
    "Categories": (Categories(Detector(), (0, 2)), 3),
    "Lagged": (Lagged(Detector(), 2), 3),
    "Lagged of 9 features": (Lagged(Detector(), 1), 9),
    "Lagged JointDetector": (Lagged(JointDetector(), 2), 3),
    "Categories and Absence around Lagged": (Absence(Categories(Lagged(Detector(), 2), (1,))), 3),
    "a model of one's own": (RunningRange(), 3),
    "an estimator of one's own": (LastValue(3), 3),
}


# The models that an Engine chooses, one of each kind of model, and those of one's own; compiling for the others takes
# long.
QUICK = (
    "Detector",
    "JointDetector",
    "Series",
    "OneSided",
    "Mean",
    "logistic_regression",
    "Absence",
    "Categories",
    "Lagged",
    "a model of one's own",
    "an estimator of one's own",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS]
)
def test_a_model_holds_to_every_law(name):
    check_model(*MODELS[name])


@register("tests: forgetful")
@pytree
class Forgetful(RunningRange):
    """Breaks a law: an empty event resets it."""

    def step(self, state, event):
        learned, judgement = super().step(state, event)
        empty = ~jnp.isfinite(event).any()
        return learned._replace(low=jnp.where(empty, 0.0, learned.low)), judgement


@register("tests: growing")
@pytree
class Growing(RunningRange):
    """Breaks a law: a count becomes a float."""

    def step(self, state, event):
        learned, judgement = super().step(state, event)
        return learned._replace(seen=learned.seen * jnp.float32(1.0)), judgement


@register("tests: blind")
@pytree
class Blind(RunningRange):
    """Breaks a law: it takes no notice of its category."""

    categories = (0,)

    def step(self, state, event):
        return super().step(state, jnp.where(jnp.arange(event.shape[0]) == 0, jnp.nan, event))


@pytest.mark.parametrize(
    ("model", "law"),
    [
        (Forgetful(), "an event without any feature changes nothing"),
        (Growing(), "keeps shapes and types"),
        (Blind(), "an unseen category is odder than a usual one"),
    ],
)
def test_a_model_that_breaks_a_law_is_named_with_the_law(model, law):
    with pytest.raises(AssertionError, match=f"{type(model).__name__} breaks a law of models: .*{law}"):
        check_model(model)


@pytest.mark.slow
def test_a_covariance_in_every_slice_finds_what_breaks_a_correlation_and_marginals_do_not():
    rng = np.random.default_rng(0)
    n, slices = 60_000, 20
    keys, mixing = rng.integers(0, slices, n), np.array([[1.0, 0.0], [0.99, 0.14]])
    x = (rng.standard_normal((n, 2)) @ mixing.T).astype(np.float32)
    odd = (rng.random(n) < 0.003) & (np.arange(n) > 40_000)
    x[odd, 1] *= -1.0
    odd &= abs(x[:, 0]) > 1.0

    def found(**options):
        return Engine(2, target_rate=0.01, **options).update(keys, x).anomalous[odd].mean()

    assert found(estimator=ClippedSGD(Covariance(2))) > 0.95
    assert found(estimator=Detector()) < 0.3
    assert found() > 0.95


def test_counts_survive_in_a_row_so_that_the_derived_rate_goes_on_falling():
    x = np.random.default_rng(0).standard_normal((3_000, 1)).astype(np.float32)
    engine = Engine(1, estimator=ClippedSGD(Mean(1)))
    engine.update(["a"] * 3_000, x)
    state = engine.state("a")
    assert state.estimator.seen == 3_000
    assert state.estimator.seen.dtype == np.int32
    assert state.scores.seen == 3_000


def test_an_event_with_a_target_teaches_and_predictions_follow():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8_000, 2))
    slopes = {"up": 2.0, "down": -1.0}
    keys = rng.choice(list(slopes), 8_000)
    y = np.array([slopes[key] for key in keys]) * x[:, 0] + 3.0
    y[rng.random(8_000) < 0.8] = np.nan  # most targets are never known
    engine = Engine(features=["a", "b"], estimator=ClippedSGD(LinearRegression(2), Constant(0.02)))
    engine.update(keys, x, y)
    predicted = engine.predict(["up", "down"], [{"a": 1.0, "b": 0.0}] * 2)
    np.testing.assert_allclose(predicted, [5.0, 2.0], atol=0.1)
    assert engine.describe("up")["weights"]["a"] == pytest.approx(2.0, abs=0.1)
    assert not engine.update(["up"], [[1.0, 0.0]]).ready  # a residual needs a target
    assert engine.update(["up"], [[1.0, 0.0]], [50.0]).anomalous


def test_a_logistic_regression_predicts_a_probability():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4_000, 1))
    engine = Engine(1, estimator=ClippedSGD(LogisticRegression(1), Constant(0.1)))
    engine.update(["a"] * 4_000, x, x[:, 0] + rng.standard_normal(4_000) > 0.0)
    low, high = engine.predict(["a", "a"], [[-3.0], [3.0]])
    assert 0.0 < low < 0.1
    assert 0.9 < high < 1.0


@pytest.mark.slow
def test_a_change_point_decides_by_its_own_evidence():
    x = np.random.default_rng(0).standard_normal((3_000, 1)).astype(np.float32)
    x[2_000:] += 3.0
    engine = Engine(1, estimator=ChangePoint(1))
    odd = np.flatnonzero(engine.update(["a"] * 3_000, x).anomalous)
    assert len(odd) == 1
    assert 2_000 <= odd[0] < 2_020
    assert engine.describe("a")["changes"] == 1


@pytest.mark.parametrize("model", [ClippedSGD(Mean(1)), Experts(Mean(1), (1.0, 0.05)), Detector()])
def test_a_stream_in_float64_has_the_verdicts_of_the_same_stream_in_float32(model):
    x = np.random.default_rng(0).normal(100.0, 1.0, (3_000, 1)).astype(np.float32)
    finer = x.astype(np.float64) + 1e-9  # more digits than float32 holds, and the same value to all intents
    narrow, wide = (Engine(1, estimator=model).update(["a"] * 3_000, events) for events in (x, finer))
    both = np.isfinite(narrow.score) & np.isfinite(wide.score)
    assert np.isclose(narrow.score[both], wide.score[both], rtol=1e-2, atol=1e-2).mean() > 0.99


def test_explain_by_leaving_out_names_the_feature_that_is_odd():
    rng = np.random.default_rng(0)
    engine = Engine(features=["a", "b", "c"], estimator=ClippedSGD(Mean(3)))
    engine.update(["s"] * 2_000, rng.standard_normal((2_000, 3)))
    shares = engine.explain("s", {"a": 0.1, "b": 30.0, "c": None})
    assert next(iter(shares)) == "b"
    assert shares["b"] > 0.9
    assert shares["c"] == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Engine(3, estimator=ClippedSGD(Covariance(4))),
            "does not take events of 3 feature",
        ),
        (lambda: Engine(2, estimator=ClippedSGD(Quantile(0.9))), "takes one number, and events have 2"),
        (lambda: Engine(2, estimator=Mean(2)), "must be a SliceModel such as"),
        (lambda: Engine(2, estimator=ClippedSGD), "which is not a pytree; put @pytree above its class"),
        (lambda: Engine(2, estimator=Judged(ClippedSGD(Mean(2)), 0.9)), "target_rate is 0.9; it must lie in"),
        (lambda: Engine(2).update(["a"], [[1.0, 2.0]], [1.0]), "y was given, but JointDetector has no target"),
        (lambda: Engine(2).predict(["a"], [[1.0, 2.0]]), "Detector, which predicts nothing"),
        (
            lambda: Engine(2, estimator=ClippedSGD(LinearRegression(2))).update(["a"], [[1.0, 2.0]], ["x"]),
            "y cannot be read as numbers",
        ),
        (
            lambda: Engine(2, estimator=ClippedSGD(LinearRegression(2))).update(["a"], [[1.0, 2.0]], [1.0, 2.0]),
            r"y has shape \(2,\) for 1 events",
        ),
        (lambda: register("Detector")(RunningRange), "which onlineguard.models.detector.Detector has already"),
    ],
)
def test_a_bad_model_or_target_is_named_with_a_way_out(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()
