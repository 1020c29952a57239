"""The kernel for GPUs, without one: in plain JAX it answers as the loop of the CPU does, and it is made for a GPU."""

import jax
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
    Experts,
    JointDetector,
    Judged,
    LinearRegression,
    LogisticRegression,
    LogScale,
    Mean,
    Neighbours,
    Quantile,
    Series,
    linear_regression,
    logistic_regression,
)
from onlineguard.engine import kernel, table
from onlineguard.engine.parts import FIRST_ROW, FRESH, WASTE
from onlineguard.engine.table import Layout
from onlineguard.models.absence import Absence
from onlineguard.models.categories import Categories

# A score is made of logarithms and sums, each rounded in another order: 64 ulps, and parts of a usual score, which is
# 1, where a score is e to a large negative number. What an estimator scores is counted from its usual score, so that
# digits cancel.
RTOL, OF_ESTIMATORS, ATOL = 64 * np.finfo(np.float32).eps, 1e-3, 1e-5
SLICES, BATCH = 12, 256

SCALED = (ClippedSGD(Mean(3)), ClippedSGD(LogScale(np.zeros(3, np.float32))))
# Every model that the kernel runs. One that stops lowering fails here; it would run by rounds.
MODELS = {
    "Detector": (Detector(), 3),
    "Detector of 20 features": (Detector(), 20),
    "Detector of one side": (Detector(sides=(1, 0, -1), weights=(2.0, 1.0, 1.0)), 3),
    "JointDetector": (JointDetector(), 3),
    "JointDetector of 9 features": (JointDetector(), 9),
    "JointDetector of one side": (JointDetector(sides=(1, 0, -1), weights=(2.0, 1.0, 1.0)), 3),
    "Mean": (Judged(ClippedSGD(Mean(5))), 5),
    "LogScale": (Judged(ClippedSGD(LogScale())), 3),
    "Quantile": (Judged(ClippedSGD(Quantile(0.9))), 1),
    "LinearRegression": (Judged(ClippedSGD(LinearRegression(3), Constant(0.01))), 3),
    "LogisticRegression": (Judged(ClippedSGD(LogisticRegression(3), Constant(0.01))), 3),
    "linear_regression": (Judged(linear_regression(3)), 3),
    "logistic_regression": (Judged(logistic_regression(3)), 3),
    "Experts": (Judged(Experts(Mean(3), rates=(1.0, 0.1, 0.01))), 3),
    "Chain": (Judged(Chain((*SCALED, ClippedSGD(Quantile(0.99))))), 3),
    "Absence": (Absence(Detector()), 3),
    "Categories": (Categories(Detector(), (0, 2)), 3),
}
RUN = [
    "Detector",
    "JointDetector of 9 features",
    "Mean",
    "LogScale",
    "Quantile",
    "LinearRegression",
    "LogisticRegression",
    "linear_regression",
    "Experts",
    "Chain",
]


def named(names, quick):
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


def prepared(model, d):
    """The model's numbers, its layout, its state before any event, and the columns of an event."""
    width = model.width(d)
    start = model.init(d) if width == d else model.init(d, width)
    return jax.tree.map(jnp.float32, model), Layout.of(start), start, width + model.supervised


def stream(columns, d, n, seed=0):
    """Events of a few slices, half of them of one, and with all that a caller can send."""
    rng = np.random.default_rng(seed)
    rows = FIRST_ROW + np.where(rng.random(n) < 0.5, 1, rng.integers(2, SLICES, n))  # the first slice has none
    events = np.full((BATCH, columns), np.nan, np.float32)
    events[:, :d] = rng.standard_t(2.5, (BATCH, d))
    events[:, d : columns - (columns > d)] = np.nan
    events[rng.random(events.shape) < 0.05] = np.nan
    events[7], events[8], events[9] = np.nan, 3e38, np.inf
    events[10, 0], events[11:14], events[14] = -np.inf, 0.0, 1e-30
    if columns > d:
        events[:, -1] = np.where(rng.random(BATCH) < 0.7, rng.integers(0, 2, BATCH), np.nan)
    return rows, events


def run(advance, model, d, n=200, batches=2, **options):
    """The judgements of two batches that are learned, of a third that is only scored, and the states then."""
    params, layout, start, columns = prepared(model, d)
    held = jnp.tile(jnp.asarray(layout.pack(start)), (FIRST_ROW + SLICES, 1))
    found = []
    for batch in range(batches):
        rows, events = stream(columns, d, n, seed=batch)
        at = np.full((2, BATCH), 0, np.int32)
        at[:, :n] = rows
        if batch == 0:
            at[0, np.unique(rows, return_index=True)[1]] = FRESH
        if batch == 2:
            at[1] = WASTE
        held, judgements = advance(params, layout, held, at, events, np.int32(n), **options)
        found.append(np.asarray(judgements)[:n])
    return np.concatenate(found), layout.unpack(np.asarray(held)[FIRST_ROW:])


@pytest.mark.parametrize("name", named(RUN, {"Detector"}))
def test_the_kernel_answers_as_the_loop_of_the_cpu(name):
    batches = 3 if name == "Detector" else 2  # every third is another program, which takes some seconds to make
    expected, state = run(table.advance, *MODELS[name], batches=batches)
    found, of_kernel = run(kernel.advance, *MODELS[name], batches=batches, interpret=True)
    np.testing.assert_allclose(found, expected, rtol=RTOL if "Detector" in name else OF_ESTIMATORS, atol=ATOL)
    for leaf, other in zip(jax.tree.leaves(state), jax.tree.leaves(of_kernel), strict=True):
        np.testing.assert_allclose(other, leaf, rtol=OF_ESTIMATORS, atol=ATOL)


@pytest.mark.parametrize("name", named(MODELS, {"Detector", "JointDetector"}))
def test_the_kernel_is_made_for_a_gpu(name):
    params, layout, _, columns = prepared(*MODELS[name])
    assert kernel.refusal(params, layout, columns) is None


@pytest.mark.slow
def test_features_are_as_many_as_registers_hold():
    for model, d in ((Detector(), 1_024), (JointDetector(), 128)):
        params, layout, _, columns = prepared(model, d)
        assert kernel.refusal(params, layout, columns) is None
    params, layout, _, columns = prepared(JointDetector(), 256)
    refusal = kernel.refusal(params, layout, columns)
    assert refusal.startswith("its state has ")
    assert refusal.endswith(" numbers, and a program holds 32,768")


@pytest.mark.parametrize(
    ("model", "d", "reason"),
    [
        (Judged(ClippedSGD(Covariance(3))), 3, "its step has `lu`"),
        pytest.param(Judged(ChangePoint(3, starts=16)), 3, "its step has `sort`", marks=pytest.mark.slow),
        pytest.param(Judged(Neighbours(3, ((32, 2),))), 3, "its step has `top_k`", marks=pytest.mark.slow),
        pytest.param(Series(), 1, "its step has a part of (1, 96) at another place", marks=pytest.mark.slow),
    ],
    ids=["Covariance", "ChangePoint", "Neighbours", "Series"],
)
def test_a_model_that_the_kernel_cannot_run_is_refused_with_the_reason(model, d, reason):
    params, layout, _, columns = prepared(model, d)
    assert kernel.refusal(params, layout, columns) == reason


def test_no_event_and_one_event_are_batches_too():
    for n in (0, 1):
        (expected, state), (found, of_kernel) = (
            run(table.advance, Detector(), 3, n),
            run(kernel.advance, Detector(), 3, n, interpret=True),
        )
        np.testing.assert_allclose(found, expected, rtol=RTOL, atol=ATOL)
        for leaf, other in zip(jax.tree.leaves(state), jax.tree.leaves(of_kernel), strict=True):
            np.testing.assert_allclose(other, leaf, rtol=RTOL, atol=ATOL)


def test_another_cut_of_a_stream_changes_no_bit():
    model, d, n = Detector(), 3, 200
    params, layout, start, columns = prepared(model, d)
    rows, events = stream(columns, d, n)

    def answers(cuts):
        held, found = jnp.tile(jnp.asarray(layout.pack(start)), (FIRST_ROW + SLICES, 1)), []
        for a, b in zip([0, *cuts], [*cuts, n], strict=True):
            at, part = np.zeros((2, BATCH), np.int32), np.full_like(events, np.nan)
            at[:, : b - a], part[: b - a] = rows[a:b], events[a:b]
            held, judgements = kernel.advance(params, layout, held, at, part, b - a, interpret=True)
            found.append(np.asarray(judgements)[: b - a])
        return np.concatenate(found), np.asarray(held)

    for one, other in zip(answers([]), answers([1, 3, 90]), strict=True):
        np.testing.assert_array_equal(one, other)
