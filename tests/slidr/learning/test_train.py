"""Training and the trained network: it learns, the same for a seed, and answers alike however it is asked."""

import numpy as np
import pytest
import safetensors.numpy

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.learning import scorer
from onlineguard.slidr.learning.network import KINDS, NetworkConfig, penalty
from onlineguard.slidr.learning.train import HELD, ROWS, Network, train

WIDTH = 6


def clicks(n, seed=0):
    """Features in units of all sizes, one of them constant; what makes a human depends on a product and on the ad."""
    return with_odds(n, seed)[:3]


def with_odds(n, seed):
    """The same clicks, and the true log odds of human: all of them, and the part that the features tell."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, WIDTH))
    ad = rng.integers(0, 6, n)
    told = 2.0 * z[:, 0] - 1.5 * z[:, 1] * z[:, 2]
    odds = told + np.where(ad < 3, 1.5, -1.5)
    human = rng.random(n) < 1 / (1 + np.exp(-odds))
    X = z * [1.0, 10.0, 0.1, 1.0, 1e-3, 0.0] + [0.0, 100.0, 5.0, -3.0, 0.0, 7.0]
    hashes = np.stack([np.zeros(n), np.arange(n) % 50, ad + 1], axis=1).astype(np.uint32) * np.uint32(2654435761)
    return X.astype(np.float32), hashes, human, odds, told


def auc(p_human, human):
    ranks = np.empty(len(human))
    ranks[np.argsort(p_human, kind="stable")] = np.arange(1, len(human) + 1)
    k = human.sum()
    return (ranks[human].sum() - k * (k + 1) / 2) / (k * (len(human) - k))


@pytest.fixture(
    scope="module", params=[pytest.param(kind, marks=() if kind == "embedding" else pytest.mark.slow) for kind in KINDS]
)
def trained(request):
    """A network of each kind, and the clicks it learned; the one that takes features and categories is quick."""
    X, hashes, human = clicks(30_000)
    return train(X, hashes, human, config=NetworkConfig(kind=request.param, batch=128, epochs=1)), (X, hashes, human)


@pytest.fixture(scope="module")
def small():
    X, _hashes, human = clicks(500)
    return train(X, None, human, config=NetworkConfig(hidden=(8, 4), batch=64))


@pytest.mark.slow
def test_a_network_tells_new_humans_from_the_rest_nearly_as_well_as_the_true_odds(trained):
    network, _ = trained
    X, hashes, human, odds, told = with_odds(20_000, seed=1)
    best = auc(odds if network.config.kind == "embedding" else told, human)
    assert best - 0.02 < auc(1.0 - network.p_robot(X, hashes), human) < best + 0.005


@pytest.mark.slow
def test_embeddings_learn_what_the_features_do_not_tell(trained):
    network, _ = trained
    X, hashes, human, _, told = with_odds(20_000, seed=1)
    gain = auc(1.0 - network.p_robot(X, hashes), human) - auc(told, human)
    assert gain > 0.05 if network.config.kind == "embedding" else gain < 0.005


@pytest.mark.slow
def test_rows_of_a_table_that_few_clicks_share_stay_zero():
    X, hashes, human = clicks(5000)  # 1 user agent, 50 prefixes of 100 clicks each, 6 ads
    tables = [
        train(X, hashes, human, config=NetworkConfig(kind="embedding", hidden=(4,), rare=rare)).params.tables
        for rare in (0, 500, 5001)
    ]
    learned = [[len(np.unique(np.nonzero(table)[0])) for table in three] for three in tables]
    assert learned == [[1, 50, 6], [1, 0, 6], [0, 0, 0]]


@pytest.mark.slow
def test_the_loss_curve_falls(trained):
    network, (X, _, _) = trained
    assert network.losses.shape == (-(-len(X) // 128),)
    assert network.losses[-20:].mean() < 0.8 * network.losses[:5].mean()


def test_the_same_seed_gives_the_same_bits_and_another_another_network():
    X, hashes, human = clicks(3000)
    config = NetworkConfig(kind="embedding", hidden=(8,), batch=64, bits=6)
    one, again, other = (train(X, hashes, human, config=config, seed=seed).p_robot(X, hashes) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.9


def test_a_row_has_the_same_p_robot_to_a_few_ulps_whatever_it_is_batched_with(trained):
    network, (X, hashes, _) = trained
    whole = network.p_robot(X[:1000], hashes[:1000])
    assert whole.dtype == np.float32
    assert 0.0 <= whole.min() < 0.2 < 0.8 < whole.max() <= 1.0
    ulp = np.spacing(np.float32(1.0)) / 2  # between neighbours just below 1
    for start, stop in ((0, 1), (1, 4), (4, 133), (133, 1000)):
        part = network.p_robot(X[start:stop], hashes[start:stop])
        np.testing.assert_allclose(part, whole[start:stop], rtol=0, atol=16 * ulp)
    one = [network.p_robot(X[i : i + 1], hashes[i : i + 1])[0] for i in range(1000)]
    np.testing.assert_allclose(one, whole, rtol=0, atol=16 * ulp)


def test_batches_of_more_rows_than_are_scored_at_once_are_cut_and_none_is_fine(small):
    X, _, _ = clicks(50)
    many = np.tile(X, (ROWS // 50 + 2, 1))
    p = small.p_robot(many)
    assert len(many) > ROWS
    np.testing.assert_allclose(p.reshape(-1, 50), np.tile(small.p_robot(X), (len(p) // 50, 1)), rtol=0, atol=1e-6)
    assert small.p_robot(X[:0]).shape == (0,)


def test_the_padding_of_the_last_minibatch_counts_for_nothing():
    X, _, human = clicks(129)
    weights = np.ones(129, np.float32)
    last = np.random.default_rng(0).permutation(129)[128]  # the one that seed 0 shows last
    weights[last] = 0.0
    config = NetworkConfig(hidden=(), l2=0.0, batch=128, epochs=1)
    whole, without = (train(X, None, human, w, config).losses for w in (None, weights))
    assert whole[0] == without[0]
    assert without[1] == 0.0
    assert 0.01 < whole[1] < 10.0  # its own cross-entropy, not a 128th of it


def test_a_weight_of_two_learns_a_click_as_if_it_had_come_twice_in_its_minibatch():
    X, _, human = clicks(64)
    config = NetworkConfig(hidden=(4,), l2=0.0, batch=64)
    double = train(X, None, human, np.full(64, 2.0, np.float32), config)
    single = train(X, None, human, np.full(64, 1.0, np.float32), config)
    np.testing.assert_allclose(double.losses, 2 * single.losses, rtol=1e-6)


def test_weights_say_which_clicks_count():
    X, _, human = clicks(20_000)
    flipped = human.copy()
    flipped[10_000:] = ~flipped[10_000:]  # the second half is labelled wrongly
    weights = (np.arange(20_000) < 10_000).astype(np.float32)
    config = NetworkConfig(batch=128, epochs=1)
    new, _, new_human = clicks(5000, seed=1)
    assert auc(1 - train(X, None, flipped, weights, config).p_robot(new), new_human) > 0.8
    assert auc(1 - train(X, None, flipped, None, config).p_robot(new), new_human) < 0.65


def test_l2_shrinks_the_intermediate_layers():
    X, _, human = clicks(10_000)
    squares = [
        sum(
            (layer.kernel**2).sum()
            for layer in train(X, None, human, config=NetworkConfig(l2=l2, batch=128, epochs=1)).params.hidden
        )
        for l2 in (0.0, 0.1)
    ]
    assert squares[1] < 0.9 * squares[0]


def test_the_fewer_humans_are_known_the_more_a_weight_costs():
    costs = [penalty(NetworkConfig(), humans) for humans in (0, 50, 100, 300, 3_000, 1_000_000)]
    assert costs == sorted(costs, reverse=True)
    assert costs[:3] == pytest.approx([0.03, 0.03, 0.03])
    assert 0.001 < costs[3] < 0.01
    assert costs[-1] == NetworkConfig().l2
    assert penalty(NetworkConfig(l2=0.1), 50) == 0.1  # at the least
    assert penalty(NetworkConfig(l2=0.0), 50) == 0.0  # turned off


def test_features_are_standardised_by_the_training_clicks_and_constant_ones_left(small):
    X, _, _ = clicks(500)
    np.testing.assert_allclose(small.mean, X.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(1 / small.scale[:5], X[:, :5].std(0, dtype=np.float64), rtol=1e-6)
    assert small.scale[5] == HELD
    assert small.held.tolist() == [5]
    other = X.copy()
    other[:, 5] += 1e6
    np.testing.assert_array_equal(small.p_robot(other), small.p_robot(X))


def test_units_do_not_matter():
    X, _, human = clicks(2000)
    config = NetworkConfig(hidden=(8,), batch=128, epochs=1)
    one = train(X, None, human, config=config).p_robot(X)
    scaled = X * np.float32(1024.0)
    np.testing.assert_allclose(train(scaled, None, human, config=config).p_robot(scaled), one, rtol=0, atol=1e-5)


def test_progress_tells_clicks_and_loss_and_ends_with_all():
    X, _, human = clicks(10_000)
    seen = []
    network = train(
        X, None, human, config=NetworkConfig(hidden=(4,), batch=8, epochs=2), progress=lambda *told: seen.append(told)
    )
    assert [done for done, _, _ in seen] == [4096, 8192, 10_000, 14_096, 18_192, 20_000]
    assert {total for _, total, _ in seen} == {20_000}
    np.testing.assert_allclose(seen[0][2], network.losses[:512].mean(), rtol=1e-5)
    assert len(network.losses) == 2 * 1250


def test_a_nan_feature_makes_p_robot_nan_and_touches_no_other_row(small):
    X, _, _ = clicks(10)
    dirty = X.copy()
    dirty[3, 2] = np.nan
    p = small.p_robot(dirty)
    assert np.isnan(p).tolist() == [i == 3 for i in range(10)]
    assert np.isnan(small.p_robot(dirty[3:4])[0])
    assert np.isfinite(small.p_robot(np.full((1, WIDTH), np.inf, np.float32))).all()


def test_load_after_save_is_the_same_network(trained, tmp_path):
    network, (X, hashes, _) = trained
    network.save(tmp_path / "new" / "folder")
    for loaded in (Network.load(tmp_path / "new" / "folder"), scorer.load(tmp_path / "new" / "folder")):
        assert loaded.config == network.config
        np.testing.assert_array_equal(loaded.losses, network.losses)
        np.testing.assert_array_equal(loaded.p_robot(X[:500], hashes[:500]), network.p_robot(X[:500], hashes[:500]))
        assert loaded.p_robot(X[:1], hashes[:1])[0] == network.p_robot(X[:1], hashes[:1])[0]
    network.save(tmp_path)
    assert (tmp_path / scorer.FILE).read_bytes() == (tmp_path / "new" / "folder" / scorer.FILE).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", scorer.FILE]


def test_a_file_that_does_not_fit_is_refused_with_one_clear_error(small, tmp_path):
    with pytest.raises(CheckpointError, match="cannot read"):
        Network.load(tmp_path)
    small.save(tmp_path)
    path = tmp_path / scorer.FILE
    contents = path.read_bytes()
    path.write_bytes(contents[:-5])
    with pytest.raises(CheckpointError, match="truncated"):
        Network.load(tmp_path)
    path.write_bytes(contents.replace(b'hidden\\": [8, 4]', b'hidden\\": [8, 5]'))
    with pytest.raises(CheckpointError, match=r"damaged: ValueError hidden.1.kernel is float32 \(8, 4\)"):
        Network.load(tmp_path)
    path.write_bytes(contents.replace(b'version\\": 1', b'version\\": 7'))
    with pytest.raises(CheckpointError, match="has format 7"):
        Network.load(tmp_path)
    path.write_bytes(contents.replace(b'kind\\": \\"Network', b'kind\\": \\"Netwerk'))
    for load in (Network.load, scorer.load):
        with pytest.raises(CheckpointError, match="Netwerk"):
            load(tmp_path)
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(1)}))
    with pytest.raises(CheckpointError, match="was not written by"):
        scorer.load(tmp_path)


GOOD = dict(zip(("X", "categories", "human"), clicks(20), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros(20)}, r"X has the shape \(20,\)"),
        ({"human": np.zeros(19, bool)}, r"human has the shape \(19,\); X has 20 rows"),
        ({"human": np.zeros(20)}, "human is float64; give bool"),
        ({"human": np.zeros(20, bool)}, "none of the 20 clicks has human=True"),
        ({"human": np.ones(20, bool)}, "none of the 20 clicks has human=False"),
        ({"weights": np.ones(3)}, r"weights has the shape \(3,\)"),
        ({"weights": np.where(np.arange(20) == 4, -1.0, 1.0)}, r"weights\[4\] is -1.0"),
        ({"weights": np.where(np.arange(20) == 4, np.nan, 1.0)}, r"weights\[4\] is nan"),
        ({"X": np.where(np.arange(120).reshape(20, 6) == 15, np.inf, 1.0)}, r"X\[2, 3\] is inf"),
        ({"categories": None}, "categories is None"),
        ({"categories": np.zeros((20, 3))}, r"categories is float64 \(20, 3\); give uint32 \(20, 3\)"),
    ],
)
def test_a_bad_argument_is_named_with_its_value_and_rule(change, message):
    with pytest.raises(InvalidArgument, match=message):
        train(**(GOOD | change), config=NetworkConfig(kind="embedding", batch=8))


def test_features_of_another_width_and_missing_categories_are_refused(small):
    with pytest.raises(InvalidArgument, match=r"X has the shape \(2, 5\); this model takes \(n, 6\)"):
        small.p_robot(np.zeros((2, 5), np.float32))
    X, hashes, human = clicks(50)
    network = train(X, hashes, human, config=NetworkConfig(kind="embedding", hidden=(), bits=2, batch=16))
    with pytest.raises(InvalidArgument, match="categories is None"):
        network.p_robot(X)
