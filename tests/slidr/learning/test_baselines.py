"""Baselines: logistic regression at its optimum, the velocity rule against a count, and the trees."""

import itertools

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.learning import scorer
from onlineguard.slidr.learning.baselines import ENTITIES, WINDOWS, LogisticBaseline, TreesBaseline, VelocityRule
from onlineguard.slidr.learning.train import Network

COUNTERS = [f"clicks_{entity}_{window}" for entity, window in itertools.product(ENTITIES, ("1m", "5m", "1h", "24h"))]
NAMES = ["hour_sin", *COUNTERS, "velocity_user_1m_5m"]
VELOCITY = [i for i, name in enumerate(NAMES) if name in COUNTERS and name.endswith(WINDOWS)]


def clicks(n, seed=0):
    """log1p counters of which robots have more, between two features that are no counters."""
    rng = np.random.default_rng(seed)
    robot = rng.random(n) < 0.4
    counts = rng.geometric(0.3, (n, 16)) - 1 + robot[:, None] * rng.poisson(8.0, (n, 16)) * (rng.random(16) < 0.5)
    X = np.column_stack([rng.standard_normal(n), np.log1p(counts), rng.random(n)]).astype(np.float32)
    return X, ~robot & (rng.random(n) < 0.3), robot


@pytest.fixture(scope="module")
def trees():
    """On one thread: where other processes compute too, OpenMP's threads wait for each other most of the time."""
    X, human, _ = clicks(5000)
    with threadpool_limits(1, user_api="openmp"):
        return [TreesBaseline.train(X, human, np.where(human, 3.0, 0.7)) for _ in range(2)]


def test_the_logistic_baseline_is_where_no_direction_lowers_its_loss():
    X, human, _ = clicks(20_000)
    weights = np.where(human, 3.0, 0.7)
    model = LogisticBaseline.train(X, human, weights)
    z = np.clip((X - model.mean) * model.scale, -8, 8).astype(np.float64)
    kernel, bias = (leaf.astype(np.float64) for leaf in model.params.head)
    p_human = 1 / (1 + np.exp(-(z @ kernel[:, 0] + bias)))
    pull = weights * (p_human - human)
    gradient = np.append(z.T @ pull + kernel[:, 0], pull.sum())
    assert np.abs(gradient).max() / weights.sum() < 1e-4  # sums of 20,000 float32 round to about 1e-5
    np.testing.assert_allclose(model.p_robot(X), 1 - p_human, atol=1e-5)


def test_a_plane_that_separates_the_labels_leaves_the_logistic_baseline_finite():
    X = np.repeat([[0.0], [1.0]], 50, axis=0).astype(np.float32)
    p = LogisticBaseline.train(X, X[:, 0] > 0.5).p_robot(X)
    assert (p[:50] > 0.9).all()
    assert (p[50:] < 0.1).all()


def test_the_velocity_rule_is_the_largest_share_of_training_clicks_below():
    X, _, _ = clicks(400)
    p = VelocityRule.train(X, NAMES).p_robot(X)
    counters = X[:, VELOCITY]
    assert len(VELOCITY) == 8
    below = (counters[None, :, :] < counters[:, None, :]).mean(1)  # (clicks, counters)
    np.testing.assert_allclose(p, below.max(1), atol=1e-6)


def test_the_velocity_rule_never_falls_as_a_counter_rises_and_reaches_1_beyond_all():
    X, _, _ = clicks(5000)
    rule = VelocityRule.train(X, NAMES)
    for column in VELOCITY:
        rising = np.tile(X[7], (60, 1))
        rising[:, column] = np.linspace(0.0, 12.0, 60)
        assert (np.diff(rule.p_robot(rising)) >= 0).all()
        assert rule.p_robot(rising)[-1] == 1.0


def test_the_velocity_rule_looks_at_counters_of_minutes_alone_in_either_way_of_naming_them():
    X, _, _ = clicks(500)
    rule = VelocityRule.train(X, NAMES)
    other = X.copy()
    other[:, [i for i in range(18) if i not in VELOCITY]] = 1e6
    renamed = [f"{name.split('_')[1]}_clicks_{name.split('_')[2]}" if name in COUNTERS else name for name in NAMES]
    np.testing.assert_array_equal(rule.p_robot(X), VelocityRule.train(X, renamed).p_robot(X))
    np.testing.assert_array_equal(rule.p_robot(X), rule.p_robot(other))


def test_the_velocity_rule_tells_the_rarest_apart():
    """With a million clicks, counts above all but 1 in 10,000 and above all but 1 in 100,000 differ."""
    rng = np.random.default_rng(0)
    X = rng.exponential(1.0, (1_000_000, 1)).astype(np.float32)
    rule = VelocityRule.train(X, ["clicks_ip_1m"])
    at = -np.log([1e-1, 1e-2, 1e-3, 1e-4, 1e-5])[:, None].astype(np.float32)
    np.testing.assert_allclose(1.0 - rule.p_robot(at), [1e-1, 1e-2, 1e-3, 1e-4, 1e-5], rtol=0.6)


def test_the_trees_follow_from_data_and_seed(trees):
    X, _, _ = clicks(1000, seed=1)
    p = trees[0].p_robot(X)
    assert p.dtype == np.float32
    assert len(np.unique(p)) > 500
    np.testing.assert_array_equal(trees[1].p_robot(X), p)
    assert trees[0].p_robot(X[:0]).shape == (0,)


def test_every_baseline_finds_robots_it_was_not_told_of(trees):
    X, human, _ = clicks(20_000)
    new, _, robot = clicks(10_000, seed=1)
    for model in (LogisticBaseline.train(X, human), VelocityRule.train(X, NAMES), trees[0]):
        p = model.p_robot(new)
        threshold = np.quantile(p[~robot], 0.9)
        assert (p[robot] > threshold).mean() > 0.3, model


def test_what_can_be_saved_is_the_same_after_load(tmp_path):
    X, human, _ = clicks(2000)
    for model in (LogisticBaseline.train(X, human), VelocityRule.train(X, NAMES)):
        model.save(tmp_path)
        for loaded in (type(model).load(tmp_path), scorer.load(tmp_path)):
            assert type(loaded) is type(model)
            np.testing.assert_array_equal(loaded.p_robot(X), model.p_robot(X))
    with pytest.raises(CheckpointError, match="holds a VelocityRule, not a Network"):
        Network.load(tmp_path)


def test_the_trees_say_why_they_cannot_be_saved(trees, tmp_path):
    with pytest.raises(InvalidArgument, match="for comparison only and cannot be saved"):
        trees[0].save(tmp_path)
    with pytest.raises(InvalidArgument, match="for comparison only"):
        TreesBaseline.load(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_velocity_rule_is_refused(tmp_path):
    X, _, _ = clicks(200)
    VelocityRule.train(X, NAMES).save(tmp_path)
    path = tmp_path / scorer.FILE
    path.write_bytes(path.read_bytes().replace(b'width\\": 18', b'width\\": 11'))
    with pytest.raises(CheckpointError, match="damaged"):
        VelocityRule.load(tmp_path)


@pytest.mark.parametrize(
    ("X", "names", "message"),
    [
        (np.zeros((3, 2)), ["a", "b"], "none of the 2 names is a counter"),
        (np.zeros((3, 2)), COUNTERS, r"X has the shape \(3, 2\); this model takes \(n, 16\)"),
        (np.zeros((0, 16)), COUNTERS, "X has no rows"),
        (np.full((3, 16), np.nan), COUNTERS, "X holds nan in a counter"),
        (np.full((3, 16), -np.inf), COUNTERS, "X holds -inf in a counter"),
    ],
)
def test_a_velocity_rule_without_usable_counters_is_refused(X, names, message):
    with pytest.raises(InvalidArgument, match=message):
        VelocityRule.train(X, names)
