"""The split of one budget over slices, against a generic convex solver and against its own optimality conditions."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.errors import InfeasibleBudget, InvalidArgument
from onlineguard.slidr.thresholds.allocation import Envelope, Quadratic, corners
from onlineguard.slidr.thresholds.caps import within
from onlineguard.slidr.thresholds.curves import Curves

TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def random_quadratics(rng, n_slices, linear=0.2):
    """(a, b, clicks, purchases, lower, upper): some slices are straight lines, some peak before their upper bound."""
    a = -rng.exponential(3.0, n_slices) * (rng.random(n_slices) > linear)
    b = rng.normal(2.0, 2.0, n_slices)
    lower = rng.random(n_slices) * 0.05 * (rng.random(n_slices) < 0.5)
    upper = lower + rng.random(n_slices) * (1.0 - lower) * (rng.random(n_slices) < 0.9)
    clicks, purchases = rng.integers(100, 10_000, n_slices), rng.integers(5, 500, n_slices)
    return a, b, clicks.astype(float), purchases.astype(float), lower, upper


def random_points(rng, n_slices, most=12):
    """(slices, cost, gain) of rising curves that are not concave."""
    sizes = rng.integers(1, most, n_slices)
    slices = np.repeat(np.arange(n_slices), sizes)
    cost = np.concatenate([np.cumsum(rng.integers(1, 5, k)) - 1.0 for k in sizes])
    gain = np.concatenate([np.cumsum(rng.exponential(10.0, k)) for k in sizes])
    return slices, cost, gain


def scattered(rng, least, most):
    """Budgets from the tightest to one that does not bind."""
    return [least, *(least + (most - least) * rng.random(2) ** 3), most * 1.1]


@pytest.mark.parametrize("seed", range(8))
def test_quadratics_are_split_as_a_generic_solver_splits_them(seed):
    rng = np.random.default_rng(seed)
    a, b, clicks, purchases, lower, upper = random_quadratics(rng, n_slices=1 if seed == 0 else 15)
    problem = Quadratic(a, b, clicks, purchases, lower, upper)
    for budget in scattered(rng, purchases @ lower, purchases @ upper):
        ours = problem.at(budget)
        f = cp.Variable(len(a))
        gain = cp.sum(cp.multiply(clicks * a, cp.square(f))) + (clicks * b) @ f
        generic = cp.Problem(cp.Maximize(gain / clicks.sum()), [f >= lower, f <= upper, purchases @ f <= budget])
        generic.solve(solver=cp.CLARABEL, **TIGHT)
        assert ours.gain / clicks.sum() == pytest.approx(generic.value, abs=1e-6)
        bent = clicks * a < -100.0  # where the best f is told apart from its neighbours
        np.testing.assert_allclose((ours.spend / purchases)[bent], f.value[bent], atol=1e-4)
        assert ours.spend.sum() <= budget * (1 + 1e-12)
        assert (ours.spend >= purchases * lower).all()
        assert (ours.spend <= purchases * upper).all()


@pytest.mark.parametrize("seed", range(8))
def test_envelopes_are_split_as_a_generic_solver_splits_them(seed):
    rng = np.random.default_rng(seed)
    slices, cost, gain = random_points(rng, n_slices=1 if seed == 0 else 12)
    problem = Envelope(slices, cost, gain)
    first, last = np.diff(slices, prepend=-1) != 0, np.diff(slices, append=-1) != 0
    for budget in scattered(rng, cost[first].sum(), cost[last].sum()):
        ours = problem.at(budget)
        weight = cp.Variable(len(cost), nonneg=True)  # of every point: a slice stands at a mixture of its points
        of_slice = (slices == np.arange(slices[-1] + 1)[:, None]).astype(float)
        generic = cp.Problem(cp.Maximize(gain @ weight / gain.sum()), [of_slice @ weight == 1, cost @ weight <= budget])
        generic.solve(solver=cp.CLARABEL, **TIGHT)
        assert ours.gain / gain.sum() == pytest.approx(generic.value, abs=1e-6)
        assert ours.spend.sum() <= budget * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_with_a_cap_on_every_slice_the_split_is_the_best_of_those_within_the_caps(seed):
    rng = np.random.default_rng(seed)
    slices, cost, gain = random_points(rng, n_slices=8)
    cost = cost - np.minimum.reduceat(cost, np.flatnonzero(np.diff(slices, prepend=-1)))[slices]  # from nothing on
    fpr = cost / np.maximum(np.maximum.reduceat(cost, np.flatnonzero(np.diff(slices, prepend=-1))), 1.0)[slices]
    curves = Curves(slices, -cost, cost, gain, fpr)
    held = curves.where(within(curves, cap=0.4))
    budget = 0.5 * held.cost[np.diff(held.group, append=-1) != 0].sum()
    ours = Envelope(held.group, held.cost, held.clicks).at(budget)
    weight = cp.Variable(len(cost), nonneg=True)
    of_slice = (slices == np.arange(8)[:, None]).astype(float)
    limits = [of_slice @ weight == 1, cost @ weight <= budget, weight[np.flatnonzero(fpr > 0.4)] == 0]
    generic = cp.Problem(cp.Maximize(gain @ weight / gain.sum()), limits)
    generic.solve(solver=cp.CLARABEL, **TIGHT)
    assert ours.gain / gain.sum() == pytest.approx(generic.value, abs=1e-6)
    total = np.maximum.reduceat(cost, np.flatnonzero(np.diff(slices, prepend=-1)))
    assert (ours.spend <= 0.4 * total + 1e-9).all()


@given(st.integers(0, 10_000), st.integers(1, 20), st.floats(0.0, 1.2), st.floats(0.0, 1.2))
def test_no_slice_gets_less_from_a_larger_budget(seed, n_slices, one, other):
    rng = np.random.default_rng(seed)
    a, b, clicks, purchases, lower, upper = random_quadratics(rng, n_slices)
    slices, cost, gain = random_points(rng, n_slices)
    for problem, most in [
        (Quadratic(a, b, clicks, purchases, lower, upper), purchases @ upper),
        (Envelope(slices, cost, gain), cost[np.diff(slices, append=-1) != 0].sum()),
    ]:
        few, many = (problem.at(problem.least + part * (most - problem.least)) for part in sorted([one, other]))
        assert (few.spend <= many.spend + 1e-9 * most).all()
        assert few.gain <= many.gain + 1e-9 * abs(many.gain)
        assert few.multiplier >= many.multiplier - 1e-9 * few.multiplier


def test_a_hundred_thousand_quadratics_meet_the_optimality_conditions():
    a, b, clicks, purchases, lower, upper = random_quadratics(np.random.default_rng(0), 100_000, linear=0.0)
    budget = 1.2 * float(purchases @ lower)
    best = Quadratic(a, b, clicks, purchases, lower, upper).at(budget)
    assert best.spend.sum() == pytest.approx(budget, rel=1e-12)
    f = np.clip((clicks * b - best.multiplier * purchases) / (-2.0 * clicks * a), lower, upper)
    np.testing.assert_allclose(best.spend / purchases, f, atol=1e-9)


@pytest.mark.slow
def test_a_hundred_thousand_envelopes_meet_the_optimality_conditions():
    slices, cost, gain = random_points(np.random.default_rng(0), 100_000)
    budget = 1.2 * cost[np.diff(slices, prepend=-1) != 0].sum() + 1_000.0
    best = Envelope(slices, cost, gain).at(budget)
    assert best.spend.sum() == pytest.approx(budget, rel=1e-12)
    # No point of any slice lies above the line through where it stands with the slope of the multiplier.
    value = gain - best.multiplier * cost
    dual = np.maximum.reduceat(value, np.flatnonzero(np.diff(slices, prepend=-1))).sum() + best.multiplier * budget
    assert best.gain == pytest.approx(dual, rel=1e-12)


def test_straight_lines_of_one_slope_share_the_budget():
    ones = np.ones(4)
    best = Quadratic(0.0 * ones, ones, 100.0 * ones, 10.0 * ones, 0.0 * ones, ones).at(10.0)
    assert best.spend.tolist() == [2.5] * 4
    assert (best.multiplier, best.gain) == (10.0, 100.0)


def test_a_curve_that_falls_is_not_bought():
    best = Quadratic(*(np.array([x]) for x in (-1.0, 0.5, 100.0, 10.0, 0.0, 1.0))).at(10.0)
    assert (best.spend[0], best.multiplier) == (2.5, 0.0)


@given(st.integers(0, 10_000), st.booleans())
def test_the_corners_are_the_points_that_no_chord_passes_over(seed, flat):
    rng = np.random.default_rng(seed)
    slices, cost, gain = random_points(rng, 3, most=8)
    gain = np.floor(gain / 10.0) if flat else gain * 10.0 ** rng.integers(-6, 6, 3)[slices]
    kept = set(corners(slices, cost, gain).tolist())
    for i in range(len(slices)):
        before = np.flatnonzero((slices == slices[i]) & (cost < cost[i]))
        after = np.flatnonzero((slices == slices[i]) & (cost > cost[i]))
        over = [
            (gain[j] * (cost[k] - cost[i]) + gain[k] * (cost[i] - cost[j])) / (cost[k] - cost[j]) - gain[i]
            for j in before
            for k in after
        ]
        scale = 1e-9 * max(abs(gain[i]), 1e-9)
        assert i in kept or max(over) > -scale
        assert i not in kept or not over or max(over) < scale


def test_a_long_concave_curve_with_a_leap_at_its_end_keeps_its_two_ends():
    cost = np.arange(20_000.0)
    gain = np.append(np.sqrt(cost[:-1]), 1e9)  # a search that takes points out one by one would take the square of it
    assert corners(np.zeros(20_000, int), cost, gain).tolist() == [0, 19_999]


def test_a_budget_under_the_lower_bounds_is_refused():
    ones = np.ones(2)
    with pytest.raises(InfeasibleBudget, match=r"the lower bounds ask for 10.0"):
        Quadratic(-ones, ones, ones, 10.0 * ones, 0.5 * ones, ones).at(9.0)
    with pytest.raises(InfeasibleBudget, match=r"the lower bounds ask for 3.0"):
        Envelope(np.array([0, 1]), np.array([1.0, 2.0]), ones).at(2.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({0: 0.1}, r"a\[1\] is 0.1"), ({3: 0.0}, r"purchases\[1\] is 0.0"), ({4: 0.9}, r"lower\[1\] is 0.9")],
)
def test_what_is_no_concave_problem_is_refused_by_its_index(changed, message):
    fields = [np.array([x, changed.get(i, x)]) for i, x in enumerate([-1.0, 1.0, 100.0, 10.0, 0.0, 0.5])]
    with pytest.raises(InvalidArgument, match=message):
        Quadratic(*fields)


def test_points_that_do_not_rise_are_refused_by_their_index():
    with pytest.raises(InvalidArgument, match=r"cost\[2\] is 1.0; it must rise"):
        Envelope(np.array([0, 0, 0]), np.array([0.0, 1.0, 1.0]), np.arange(3.0))
    with pytest.raises(InvalidArgument, match=r"slices\[1\] is 2; codes must ascend"):
        Envelope(np.array([0, 2]), np.array([0.0, 1.0]), np.arange(2.0))
