"""Sample weights: every cell counts alike, and what that does for sparse ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.learning.network import NetworkConfig
from onlineguard.slidr.learning.train import train
from onlineguard.slidr.learning.weights import CELLS, cell_weights, cells, effective_size

weeks = st.lists(
    st.tuples(st.integers(0, 23), st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=60
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


def traffic(n, seed=0):
    """Hours with a rhythm of 100 to 1 and few humans: cells of very different sizes."""
    rng = np.random.default_rng(seed)
    busy = 1.01 - np.cos(np.arange(24) / 24 * 2 * np.pi)
    return rng.choice(24, n, p=busy / busy.sum()), rng.integers(0, 7, n), rng.random(n) < 0.6, rng.random(n) < 0.05


@given(weeks)
def test_every_cell_that_has_clicks_weighs_the_same_and_the_mean_is_1(week):
    weights = cell_weights(*week, fewest=0)
    codes = cells(*week)
    totals = np.bincount(codes, weights)[np.unique(codes)]
    np.testing.assert_allclose(totals, len(codes) / len(totals), rtol=1e-5)
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-5)
    assert weights.dtype == np.float32


@given(weeks, st.sampled_from([1.0001, 1.5, 3.0, 100.0]))
def test_no_weight_exceeds_the_largest_and_the_mean_stays_1(week, largest):
    weights, free = cell_weights(*week, largest=largest, fewest=0), cell_weights(*week, fewest=0)
    assert weights.max() <= largest * (1 + 1e-6)
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-5)
    below = weights < largest * (1 - 1e-6)
    if below.any():  # what is not cut off keeps its proportions
        np.testing.assert_allclose(weights[below] / free[below], (weights[below] / free[below])[0], rtol=1e-5)
    if free.max() <= largest:
        np.testing.assert_array_equal(weights, free)


@given(weeks, st.data())
def test_clicks_with_loads_share_their_cell_in_proportion(week, data):
    n = len(week[0])
    loads = np.array(data.draw(st.lists(st.floats(0.1, 50.0), min_size=n, max_size=n)))
    weights, codes = cell_weights(*week, loads=loads, fewest=0), cells(*week)
    for code in np.unique(codes):
        mine = codes == code
        np.testing.assert_allclose(weights[mine].sum(), n / len(np.unique(codes)), rtol=1e-4)
        np.testing.assert_allclose(weights[mine] / loads[mine], (weights[mine] / loads[mine])[0], rtol=1e-4)


def test_few_labels_are_weighed_by_label_alone():
    hour, weekday, logged_in, _ = traffic(5_000)
    human = np.arange(5_000) < 50  # and some 330 hours of the week with and without login
    weights = cell_weights(hour, weekday, logged_in, human)
    assert set(weights.tolist()) == {50.0, np.float32(5_000 / 2 / 4_950)}
    human = np.arange(5_000) < 2_500
    assert len(set(cell_weights(hour, weekday, logged_in, human).tolist())) > 10


def test_cells_are_numbered_by_weekday_hour_login_and_label():
    every = np.stack(np.meshgrid(*map(np.arange, (7, 24, 2, 2)), indexing="ij")).reshape(4, -1)
    weekday, hour, logged_in, human = every
    np.testing.assert_array_equal(cells(hour, weekday, logged_in, human), np.arange(CELLS))


def test_weights_do_not_depend_on_the_order_of_clicks():
    week = traffic(2000)
    order = np.random.default_rng(1).permutation(2000)
    np.testing.assert_array_equal(cell_weights(*week)[order], cell_weights(*(column[order] for column in week)))


def test_a_click_alone_in_its_cell_weighs_as_much_as_the_busiest_cell():
    hour = np.array([3] + [12] * 999)
    weights = cell_weights(hour, np.zeros(1000, int), np.zeros(1000, bool), np.zeros(1000, bool), fewest=0)
    assert weights[0] == 500.0
    np.testing.assert_allclose(weights[1:], 500 / 999, rtol=1e-6)
    assert (
        cell_weights(hour, np.zeros(1000, int), np.zeros(1000, bool), np.zeros(1000, bool), largest=50, fewest=0)[0]
        == 50.0
    )


def test_the_effective_size_is_n_for_equal_weights_and_smaller_for_all_others():
    assert effective_size(np.ones(7)) == pytest.approx(7)
    assert effective_size(np.array([1.0, 0.0, 0.0])) == 1.0
    assert effective_size(np.zeros(0)) == 0.0
    week = traffic(20_000)
    assert effective_size(cell_weights(*week)) < effective_size(cell_weights(*week, largest=5.0)) < 20_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hour": [0, 24]}, r"hour\[1\] is 24; it must be a whole number from 0 to 23"),
        ({"weekday": [7, 0]}, r"weekday\[0\] is 7; .* 0 to 6 \(Monday is 0; polars counts from 1\)"),
        ({"hour": [0.5, 1]}, r"hour\[0\] is 0.5"),
        ({"human": [0, 2]}, r"human\[1\] is 2"),
        ({"logged_in": [True]}, r"the shapes \(2,\), \(2,\), \(1,\), \(2,\)"),
        ({"largest": 1.0}, "largest is 1.0; it must exceed 1"),
        ({"largest": float("nan")}, "largest is nan"),
    ],
)
def test_a_bad_argument_is_named_with_its_value_and_rule(change, message):
    good = {"hour": [0, 1], "weekday": [0, 1], "logged_in": [True, False], "human": [True, False]}
    with pytest.raises(InvalidArgument, match=message):
        cell_weights(
            **{name: np.array(value) if name != "largest" else value for name, value in (good | change).items()}
        )


def test_no_clicks_have_no_weights():
    none = np.zeros(0, int)
    assert cell_weights(none, none, none, none).shape == (0,)


@pytest.mark.slow
def test_weights_spare_the_people_of_sparse_hours():
    """Nights have 1 % of the people and mostly robots: unweighted, the hour alone makes a visitor a suspect.

    Behaviour z is N(0, 1) for people and N(2, 1) for robots at every hour, and one person in ten is known to be human.
    One threshold for all marks 5 % of the people. Which share of the night's people does it mark? Weighted, the exact
    posterior marks 9 %: more of the night's clicks not known to be human are robots, which no weight can change.
    """
    rng = np.random.default_rng(0)
    n = 200_000
    night = rng.random(n) < 0.06
    robot = rng.random(n) < np.where(night, 0.9, 0.3)
    z = rng.standard_normal(n) + 2.0 * robot
    human = ~robot & (rng.random(n) < 0.1)
    X = np.stack([z, night], axis=1).astype(np.float32)
    hour = np.where(night, 3, 12)
    week = hour, np.zeros(n, int), np.zeros(n, bool), human
    assert (human & night).sum() < 0.01 * human.sum()  # sparse indeed

    def marked_at_night(weights):
        p = train(X, None, human, weights, NetworkConfig(hidden=(16,), rate=0.01), seed=0).p_robot(X)
        threshold = np.quantile(p[~robot], 0.95)
        return (p[~robot & night] > threshold).mean()

    without, with_ = marked_at_night(None), marked_at_night(cell_weights(*week))
    assert without > 0.4
    assert with_ < 0.15
