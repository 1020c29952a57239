"""Schedules differ in speed, never in meaning."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard.core.chain import Chain
from onlineguard.core.change_point import ChangePoint
from onlineguard.core.clipped_sgd import ClippedSGD, step
from onlineguard.core.clips import Adaptive, Fixed
from onlineguard.core.estimands import Covariance, LinearRegression, LogisticRegression, LogScale, Mean, Quantile
from onlineguard.core.experts import Experts
from onlineguard.core.rates import Constant, Decay
from onlineguard.engine.schedules import scan, scan_arrivals, scan_lanes

D, EVENTS, SLICES = 3, 80, 4
jit_step = jax.jit(step)


def _events():
    rng = np.random.default_rng(0)
    x = (rng.standard_t(2.1, (EVENTS, D)) + 2).astype(np.float32)
    x[40:] += 3.0
    y = (x @ np.array([1, -1, 0.5]) + rng.standard_normal(EVENTS)).astype(np.float32)
    x[rng.random((EVENTS, D)) < 0.1] = np.nan
    x[7] = np.nan
    x[50], x[51, 1], x[52, 0] = 3e38, -np.inf, -3e38
    return x, y


X, Y = _events()
SCALAR = X[:, 0].copy()
PAIR = (X / np.float32(10), Y)
CLASS = (X / np.float32(10), (Y > 0).astype(np.float32))
CASES = {
    "mean": (ClippedSGD(Mean(D)), X),
    "mean, constant rate": (ClippedSGD(Mean(D), Constant(0.1), Fixed(1.0)), X),
    "log scale": (ClippedSGD(LogScale()), SCALAR),
    "log scale a feature": (ClippedSGD(LogScale(np.zeros(D, np.float32)), Decay(floor=0.05)), X),
    "quantile": (ClippedSGD(Quantile(0.9)), SCALAR),
    "linear": (ClippedSGD(LinearRegression(D, 0.01)), PAIR),
    "logistic": (ClippedSGD(LogisticRegression(D, 0.01), clip=Adaptive(0.99)), CLASS),
    "covariance": (ClippedSGD(Covariance(D), Decay(floor=0.02)), X),
    "experts mean": (Experts(Mean(D)), X),
    "experts log scale": (Experts(LogScale()), SCALAR),
    "experts quantile": (Experts(Quantile(0.9)), SCALAR),
    "experts linear": (Experts(LinearRegression(D), rates=(0.1, 0.01)), PAIR),
    "experts logistic": (Experts(LogisticRegression(D)), CLASS),
    "experts covariance": (Experts(Covariance(D), rates=(0.1, 0.02)), X),
    "short chain": (Chain((ClippedSGD(Mean(D)), ClippedSGD(LogScale(np.zeros(D, np.float32))))), X),
    "chain": (
        Chain((Experts(Mean(D)), ClippedSGD(LogScale(np.zeros(D, np.float32))), ClippedSGD(Quantile(0.99)))),
        X,
    ),
    "change point": (ChangePoint(D), X),
}
QUICK = ("mean", "linear", "short chain")  # one of each kind of event; compiling for the others takes long


def cases(names):
    """A case a name; those that are not QUICK are slow."""
    marks = {name: () if name in QUICK else pytest.mark.slow for name in names}
    return pytest.mark.parametrize(
        ("params", "events"), [pytest.param(*CASES[name], id=name, marks=marks[name]) for name in names]
    )


every_case = cases(CASES)
# what experts add to the loop is the same whatever they estimate
few_cases = cases([name for name in CASES if not name.startswith("experts") or name == "experts mean"])


def at(events, index):
    return jax.tree.map(lambda part: part[index], events)


def one_by_one(params, state, events, run):
    scores = []
    for i in range(len(jax.tree.leaves(events)[0])):
        state, score = run(params, state, at(events, i))
        assert score.dtype == np.float32
        scores.append(score)
    return state, np.array(scores)


def stacked(params, slices=SLICES):
    return jax.tree.map(lambda leaf: np.stack([leaf] * slices), params.init())


def same(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def close(got, expected):
    """Within rounding: sums are taken in another order, and a step may be a rounding away from its clip."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@every_case
def test_every_schedule_gives_the_same_answer(params, events):
    with np.errstate(all="ignore"):
        eager = one_by_one(params, params.init(), events, step)
    assert [leaf.dtype for leaf in jax.tree.leaves(eager[0])] == [leaf.dtype for leaf in jax.tree.leaves(params.init())]
    close(one_by_one(params, params.init(), events, jit_step), eager)
    close(scan(params, params.init(), events), eager)

    # the same events as one slice of many, the others busy with the events backwards
    back = at(events, slice(None, None, -1))
    states, scores = scan_lanes(
        params,
        stacked(params),
        jax.tree.map(lambda a, b: np.stack([b, a, b, b]), events, back),
        np.ones((SLICES, EVENTS), bool),
    )
    close((at(states, 1), scores[1]), eager)

    rows = np.tile(np.array([1, 2], np.int32), EVENTS)
    mixed = jax.tree.map(lambda a, b: np.stack([a, b], 1).reshape(2 * EVENTS, *a.shape[1:]), events, back)
    states, scores = scan_arrivals(params, stacked(params), rows, mixed)
    close((at(states, 1), scores[::2]), eager)
    same(at(states, 0), params.init())


@few_cases
@pytest.mark.parametrize("cut", [1, EVENTS - 1])
def test_a_cut_scan_equals_a_whole_one_bit_for_bit(params, events, cut):
    whole, scores = scan(params, params.init(), events)
    state, first = scan(params, params.init(), at(events, slice(None, cut)))
    state, second = scan(params, state, at(events, slice(cut, None)))
    same((state, np.concatenate([first, second])), (whole, scores))


@few_cases
def test_interleaving_slices_changes_nothing_bit_for_bit(params, events):
    rows = np.random.default_rng(1).integers(0, SLICES, EVENTS).astype(np.int32)
    mixed, scores = scan_arrivals(params, stacked(params), rows, events)
    order = np.argsort(rows, kind="stable")
    sorted_, scores_sorted = scan_arrivals(params, stacked(params), rows[order], at(events, order))
    same(mixed, sorted_)
    same(np.asarray(scores)[order], scores_sorted)


@few_cases
def test_masked_and_padding_events_change_nothing(params, events):
    mask = np.random.default_rng(2).random((1, EVENTS)) < 0.5
    kept = at(events, mask[0])
    lane = jax.tree.map(lambda part: part[None], events)
    states, scores = scan_lanes(params, stacked(params, 1), lane, mask)
    left = jax.tree.map(lambda part: np.concatenate([part, part])[None, :EVENTS], kept)
    alone, scores_alone = scan_lanes(params, stacked(params, 1), left, np.arange(EVENTS)[None] < mask.sum())
    same(states, alone)
    same(np.asarray(scores)[mask], scores_alone[0, : mask.sum()])
    assert np.isnan(np.asarray(scores)[~mask]).all()

    padded, scores = scan_arrivals(params, stacked(params), np.where(mask[0], 2, -1).astype(np.int32), events)
    plain, scores_plain = scan_arrivals(params, stacked(params), np.full(mask.sum(), 2, np.int32), kept)
    same(padded, plain)
    same(np.asarray(scores)[mask[0]], scores_plain)
    assert np.isnan(np.asarray(scores)[~mask[0]]).all()


@settings(max_examples=30)
@given(rows=st.lists(st.integers(0, SLICES - 1), min_size=8, max_size=8), seed=st.integers(0, 99))
def test_any_order_that_keeps_each_slices_own_gives_the_same_states(rows, seed):
    params = CASES["mean"][0]
    rows, events = np.array(rows, np.int32), X[:8]
    shuffled = np.random.default_rng(seed).permutation(8)
    order = np.concatenate([np.flatnonzero(rows == row) for row in dict.fromkeys(rows[shuffled])])
    whole, _ = scan_arrivals(params, stacked(params), rows, events)
    other, _ = scan_arrivals(params, stacked(params), rows[order], events[order])
    same(whole, other)


@cases(["mean", "log scale a feature", "linear", "change point"])
def test_an_empty_batch_changes_nothing_and_one_event_is_a_batch(params, events):
    empty = at(events, slice(0, 0))
    state, scores = scan(params, params.init(), empty)
    same(state, params.init())
    assert scores.shape == (0,)
    states, scores = scan_arrivals(params, stacked(params), np.zeros(0, np.int32), empty)
    same(states, stacked(params))
    assert scores.shape == (0,)
    one, score = scan_arrivals(params, stacked(params), np.array([3], np.int32), at(events, slice(0, 1)))
    two, scores = scan_arrivals(params, stacked(params), np.array([3, -1], np.int32), at(events, slice(0, 2)))
    same((one, score[0]), (two, scores[0]))
