"""Rounds: the same answers as one event after the other, however many events each slice has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onlineguard import ClippedSGD, Detector, JointDetector, Judged, LinearRegression, Series
from onlineguard.engine import rounds, table
from onlineguard.engine.parts import FIRST_ROW, FRESH, WASTE
from onlineguard.engine.rounds import Plan
from onlineguard.engine.table import Layout

D = 3
ULPS = 64 * np.finfo(np.float32).eps  # a score is a sum of some ten terms, each rounded in another order


@settings(deadline=None)
@example([])
@given(st.lists(st.integers(0, 6), max_size=40))
def test_each_event_is_in_the_round_of_its_number_within_its_slice(slices):
    writes = np.array([WASTE if slice_ == 0 else FIRST_ROW + slice_ for slice_ in slices], np.int32)
    reads = np.where(writes == WASTE, FIRST_ROW, writes).astype(np.int32)
    plan = Plan.of(reads, writes)
    assert sorted(plan.order.tolist()) == list(range(len(slices)))
    assert plan.offsets[-1] == len(slices)
    seen: dict[int, int] = {}
    for r, (start, end) in enumerate(zip(plan.offsets[:-1].tolist(), plan.offsets[1:].tolist(), strict=True)):
        for place, i in enumerate(plan.order[start:end].tolist()):
            key = -1 - i if slices[i] == 0 else slices[i]
            assert seen.get(key, 0) == r
            seen[key] = r + 1
            assert (plan.reads[place], plan.writes[place]) == (reads[i], writes[i])
    covered = [r for _, first, end in plan.stretches() for r in range(first, end)]
    assert covered == list(range(len(plan.offsets) - 1))
    for width, first, end in plan.stretches():
        assert all(np.diff(plan.offsets)[first:end] <= width)


def run(schedule, model, n=400):
    """The judgements of a stream of 20 slices, and of some events that are only scored then, and the states."""
    width = model.width(D)
    start = model.init(D) if width == D else model.init(D, width)
    layout = Layout.of(start)
    rows = jnp.tile(jnp.asarray(layout.pack(start)), (32, 1))
    rng = np.random.default_rng(0)
    slices = FIRST_ROW + np.minimum(rng.zipf(1.4, n), 20)
    events = rng.standard_t(2.5, (512, width + model.supervised)).astype(np.float32)
    events[rng.random(events.shape) < 0.05] = np.nan
    events[7], events[8] = np.nan, 3e38
    events[:, D:width] = np.nan
    at = np.zeros((2, 512), np.int32)
    at[:, :n] = slices
    first = np.unique(slices, return_index=True)[1]
    at[0, first] = FRESH  # as the first event of a slice is
    params, found = jax.tree.map(jnp.float32, model), []
    for reads, writes in ((at[0], at[1]), (at[1], np.full(512, WASTE, np.int32))):
        count = np.int32(n) if schedule is table else n
        rows, judgements = schedule.advance(params, layout, rows, np.stack([reads, writes]), events, count)
        found.append(np.asarray(judgements)[:n])
    return np.concatenate(found), layout.unpack(np.asarray(rows)[FIRST_ROW:])


SLOW = {"joint": JointDetector(), "series": Series()}
MODELS = {"marginal": Detector(), "regression": Judged(ClippedSGD(LinearRegression(D)))} | SLOW


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODELS])
def test_rounds_answer_as_one_event_after_the_other(name):
    model = MODELS[name]
    (one, state), (other, state_of_rounds) = run(table, model), run(rounds, model)
    np.testing.assert_allclose(other, one, rtol=ULPS)
    for expected, leaf in zip(jax.tree.leaves(state), jax.tree.leaves(state_of_rounds), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=ULPS, atol=ULPS)
