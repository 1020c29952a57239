"""The networks' formulas: against plain NumPy in float64, and the laws of apply and loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.learning.network import (
    CATEGORIES,
    KINDS,
    REACH,
    Batch,
    NetworkConfig,
    apply,
    init,
    logit_of_human,
    loss,
    standardise,
)

WIDTH = 5
SMALL = {"hidden": (7, 4, 3), "crosses": 2, "bits": 3, "dim": 2}


def made(kind, n=40, seed=0):
    """Params with nothing at zero, and clicks."""
    rng = np.random.default_rng(seed)
    params = init(seed, WIDTH, NetworkConfig(kind=kind, **SMALL))
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape).astype(np.float32), params)
    z = rng.standard_normal((n, WIDTH)).astype(np.float32)
    categories = rng.integers(0, 2**32, (n, CATEGORIES), dtype=np.uint32)
    return params, z, categories


def plain_logit(params, z, categories):
    """The formula of the module's docstring, in float64, one click."""
    z = z.astype(np.float64)
    if params.tables is not None:
        rows = [int(code) * params.tables.shape[1] // 2**32 for code in categories]
        z = np.concatenate([z, *(params.tables[i, row].astype(np.float64) for i, row in enumerate(rows))])
    deep = z
    for kernel, bias in params.hidden:
        deep = np.maximum(deep @ kernel.astype(np.float64) + bias, 0.0)
    crossed = z
    for kernel, bias in params.crosses:
        crossed = z * (crossed @ kernel.astype(np.float64) + bias) + crossed
    last = np.concatenate([deep, crossed]) if params.crosses else deep
    return (last @ params.head.kernel.astype(np.float64) + params.head.bias).item()


@pytest.mark.parametrize("kind", KINDS)
def test_apply_is_the_formula_for_one_click_in_numpy_and_for_a_batch_in_jax(kind):
    params, z, categories = made(kind)
    exact = [plain_logit(params, *click) for click in zip(z, categories, strict=True)]
    one = [apply(params, *click) for click in zip(z, categories, strict=True)]
    assert all(isinstance(logit, np.float32) for logit in one)
    np.testing.assert_allclose(one, exact, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(logit_of_human(params, z, categories), exact, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_weighted_cross_entropy_plus_l2_of_the_intermediate_layers(kind):
    params, z, categories = made(kind)
    rng = np.random.default_rng(1)
    human, weight = (rng.random(40) < 0.3).astype(np.float32), rng.random(40).astype(np.float32)
    logits = np.array([plain_logit(params, *click) for click in zip(z, categories, strict=True)])
    p = 1 / (1 + np.exp(-logits))
    entropy = -(weight * (human * np.log(p) + (1 - human) * np.log(1 - p))).sum() / 40
    squares = sum((layer.kernel.astype(np.float64) ** 2).sum() for layer in (*params.hidden, *params.crosses))
    objective, mean = loss(params, Batch(z, categories, human, weight), 0.25)
    np.testing.assert_allclose(mean, entropy, rtol=1e-5)
    np.testing.assert_allclose(objective, entropy + 0.25 * squares, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_click_of_weight_0_moves_nothing(kind):
    params, z, categories = made(kind)
    human = np.arange(40) % 2 == 0
    gradient = jax.jit(lambda batch: jax.grad(loss, has_aux=True)(params, batch, 0.0)[0])
    weight = np.ones(40, np.float32)
    weight[30:] = 0.0
    other_z, other_categories = z.copy(), categories.copy()
    other_z[30:], other_categories[30:] = 5.0, 7
    one = gradient(Batch(z, categories, human.astype(np.float32), weight))
    other = gradient(Batch(other_z, other_categories, human.astype(np.float32), weight))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(one))


def test_the_network_is_the_default_of_the_paper_three_relu_layers():
    params = init(0, 43, NetworkConfig())
    assert [layer.kernel.shape for layer in params.hidden] == [(43, 128), (128, 64), (64, 32)]
    assert params.head.kernel.shape == (32, 1)
    assert params.crosses == ()
    assert params.tables is None
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))


def test_without_hidden_layers_the_logit_is_linear():
    params = init(0, WIDTH, NetworkConfig(hidden=()))
    _, z, _ = made("mlp")
    np.testing.assert_allclose(logit_of_human(params, z, None), z @ params.head.kernel[:, 0], rtol=1e-5, atol=1e-6)


def test_a_value_never_met_says_nothing():
    config = NetworkConfig(kind="embedding", **SMALL)
    params = init(0, WIDTH, config)
    _, z, categories = made("embedding")
    logits = logit_of_human(params, z, categories)
    np.testing.assert_array_equal(logits, logit_of_human(params, z, categories[::-1]))


def test_the_three_embeddings_do_not_share_rows():
    params, z, _ = made("embedding")
    same = np.full((1, CATEGORIES), 2**31, np.uint32)
    for column in range(CATEGORIES):
        tables = params.tables.copy()
        tables[column, 4] += 1.0
        assert logit_of_human(params._replace(tables=tables), z[:1], same) != logit_of_human(params, z[:1], same)
        tables = params.tables.copy()
        tables[column, 5] += 1.0
        assert logit_of_human(params._replace(tables=tables), z[:1], same) == logit_of_human(params, z[:1], same)


@pytest.mark.parametrize("kind", KINDS)
def test_starting_weights_follow_from_the_seed_alone(kind):
    config = NetworkConfig(kind=kind, **SMALL)
    jax.tree.map(np.testing.assert_array_equal, init(3, WIDTH, config), init(3, WIDTH, config))
    assert (init(3, WIDTH, config).hidden[0].kernel != init(4, WIDTH, config).hidden[0].kernel).all()


@pytest.mark.parametrize("xp", [np, jnp])
def test_standardised_features_are_held_within_reach_and_nan_stays_nan(xp):
    x = xp.asarray(np.array([1.0, 3.0, np.inf, -1e30, np.nan], np.float32))
    z = standardise(x, xp.ones(5, np.float32), xp.full(5, np.float32(0.5)))
    np.testing.assert_array_equal(z, np.array([0.0, 1.0, REACH, -REACH, np.nan], np.float32))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "forest"),
        ("hidden", (8, 0)),
        ("crosses", 0),
        ("bits", 0),
        ("bits", 25),
        ("dim", 0),
        ("rare", -1),
        ("l2", -1.0),
        ("l2", float("nan")),
        ("batch", 0),
        ("rate", 0.0),
        ("rate", float("inf")),
        ("warm_up", 1.0),
        ("epochs", 0),
    ],
)
def test_a_bad_choice_is_refused_with_its_name_and_value(field, value):
    with pytest.raises(InvalidArgument, match=rf"^{field} is ") as raised:
        NetworkConfig(**{field: value})
    assert repr(value) in str(raised.value)
