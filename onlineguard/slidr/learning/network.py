"""The networks: pure `init`, `apply` and `loss` over a pytree of weights.

    mlp         z -> hidden ReLU layers -> logit
    cross       the same beside cross layers x <- z * (W x + b) + x, products of features; both feed the logit
    embedding   the mlp, given beside z one learned vector each for user agent, ip prefix and ad

z are the standardised features. The logit is that of a human; p_robot = sigmoid(-logit). `apply` takes one row, in
NumPy or traced by JAX, which vmaps it over a batch: one formula for training, for batches and for the single click.

Source: three ReLU layers and a sigmoid with L2 are the model of "SLIDR", IAAI 2023; its widths are not public. Cross
layers: Wang et al., "DCN V2", WWW 2021, the parallel form.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.arrays import namespace
from onlineguard.core.protocols import Array
from onlineguard.errors import InvalidArgument

KINDS = ("mlp", "cross", "embedding")
# With few known humans a network learns them by heart, so weights cost 30 / humans^1.5, up to .03 from 100 on down.
# Over three parts of the TalkingData log, with some 90 installs to learn from and without the visitors of ads, the AUC
# is .69 with .03, .68 with .01 and .655 with 1e-5; with them .88 with any. From .1 on all clicks may get one score. On
# simulated traffic any penalty up to .01 finds as much with 200 to 600 known humans, up to .001 with 1,500, up to 3e-4
# with 6,000, and up to 1e-4 with 14,000.
DEAREST, FALLS, EASED = 0.03, 1.5, 30.0
CATEGORIES = 3  # user agent, ip prefix, ad
REACH = np.float32(8.0)  # standard deviations beyond which a feature counts as this far: no absurd count decides alone
ZERO = np.float32(0.0)  # `maximum` of an array and a NumPy scalar takes half the time of that with a Python number


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """What the operator chose: the architecture first, then how it is trained."""

    kind: str = "mlp"
    hidden: tuple[int, ...] = (128, 64, 32)  # units of each layer; () leaves a logistic regression
    crosses: int = 1  # cross layers, of kind "cross"
    bits: int = 14  # rows of each embedding table, as a power of two, of kind "embedding"
    dim: int = 8  # numbers in an embedding
    rare: int = 100  # a row of a table that fewer training clicks share stays zero: it would learn them by heart
    l2: float = 1e-5  # per squared weight of the hidden and cross layers, at the least; see `penalty`
    batch: int = 128  # clicks a step; with a week of a few 100,000 clicks, larger ones leave one pass unfinished
    rate: float = 5e-3  # Adam's largest step; rises over `warm_up`, then falls to 0 along a cosine
    warm_up: float = 0.05  # share of all steps
    epochs: int = 2  # passes; five learn the few buyers by heart, and find .01 to .07 less in weeks of 200,000 clicks

    def __post_init__(self) -> None:
        rules: tuple[tuple[str, bool, str], ...] = (
            ("kind", self.kind in KINDS, f"it must be one of {', '.join(KINDS)}"),
            ("hidden", all(units >= 1 for units in self.hidden), "every layer needs at least one unit"),
            ("crosses", self.crosses >= 1, "it must be at least 1; kind='mlp' has none"),
            ("bits", 1 <= self.bits <= 24, "it must lie between 1 and 24, e.g. 14 for 16,384 rows"),
            ("dim", self.dim >= 1, "it must be at least 1"),
            ("rare", self.rare >= 0, "it must not be negative; 0 lets every row learn"),
            ("l2", 0.0 <= self.l2 < np.inf, "it must not be negative; 0 turns it off"),
            ("batch", self.batch >= 1, "it must be at least 1"),
            ("rate", 0.0 < self.rate < np.inf, "it must be positive, e.g. 0.002"),
            ("warm_up", 0.0 <= self.warm_up < 1.0, "it must lie between 0 and 1, 1 not included"),
            ("epochs", self.epochs >= 1, "it must be at least 1"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise InvalidArgument(name, f"is {getattr(self, name)!r}; {rule}")


class Layer(NamedTuple):
    """x -> x @ kernel + bias."""

    kernel: Any  # (inputs, units)
    bias: Any  # (units,)


class Params(NamedTuple):
    """What training learns."""

    hidden: tuple[Layer, ...]
    crosses: tuple[Layer, ...]  # () unless the kind is "cross"
    tables: Any  # (CATEGORIES, 2^bits, dim), or None unless the kind is "embedding"
    head: Layer


class Batch(NamedTuple):
    """Clicks to learn from; those of weight 0 are padding."""

    z: Any  # (n, width)
    categories: Any  # (n, CATEGORIES) uint32, or None
    human: Any  # (n,) 1 or 0
    weight: Any  # (n,)


def init(seed: int, width: int, config: NetworkConfig) -> Params:
    """Weights to start from, the same on every machine: normal, of variance 2 / inputs before a ReLU, else 1 / inputs.

    Embeddings start at zero, so a value that training never met says nothing (unless it shares a row with one it met).
    """
    rng = np.random.default_rng(seed)

    def layer(inputs: int, units: int, gain: float) -> Layer:
        kernel = rng.standard_normal((inputs, units)) * np.sqrt(gain / inputs)
        return Layer(kernel.astype(np.float32), np.zeros(units, np.float32))

    tables = None
    if config.kind == "embedding":
        tables = np.zeros((CATEGORIES, 2**config.bits, config.dim), np.float32)
        width += CATEGORIES * config.dim
    sizes = (width, *config.hidden)
    hidden = tuple(layer(inputs, units, 2.0) for inputs, units in itertools.pairwise(sizes))
    crosses = tuple(layer(width, width, 1.0) for _ in range(config.crosses if config.kind == "cross" else 0))
    return Params(hidden, crosses, tables, layer(sizes[-1] + (width if crosses else 0), 1, 1.0))


def apply(params: Params, z: Array, categories: Array | None = None) -> Array:
    """The logit of human of one click: z (width,), categories (3,) uint32. A NaN feature makes it NaN.

    In NumPy it takes several as well, one a row.
    """
    xp = namespace(z)
    if params.tables is not None:
        rows = rows_of(categories, params.tables.shape[1])
        z = xp.concatenate([z, *(params.tables[i][rows[..., i]] for i in range(CATEGORIES))], axis=-1)
    deep = z
    for layer in params.hidden:
        deep = xp.maximum(deep.dot(layer.kernel) + layer.bias, ZERO)
    if params.crosses:
        crossed = z
        for layer in params.crosses:
            crossed = z * (crossed.dot(layer.kernel) + layer.bias) + crossed
        deep = xp.concatenate([deep, crossed], axis=-1)
    return (deep.dot(params.head.kernel) + params.head.bias)[..., 0][()]  # of one click a number


def p_robot(params: Params, mean: Array, scale: Array, x: Array, categories: Array | None) -> Array:
    """Of one click's features x (width,), traced by JAX."""
    return jax.nn.sigmoid(-apply(params, standardise(x, mean, scale), categories))


def p_robots(params: Params, mean: Array, scale: Array, x: Array, categories: Array | None) -> Array:
    """`p_robot` of clicks (n, width) at once; in full float32 also where a GPU would use less."""
    each = (None, None, None, 0, None if categories is None else 0)
    with jax.default_matmul_precision("highest"):
        return jax.vmap(p_robot, each)(params, mean, scale, x, categories)


def loss(params: Params, batch: Batch, l2: Any) -> tuple[Any, Any]:
    """What training minimises, and its first part alone: weighted cross-entropy a click, plus l2 * squared weights."""
    logits = logit_of_human(params, batch.z, batch.categories)
    entropy = jax.nn.softplus(logits) - batch.human * logits
    mean = (batch.weight * entropy).sum() / len(batch.human)
    penalty = sum((jnp.sum(layer.kernel**2) for layer in (*params.hidden, *params.crosses)), start=jnp.float32(0.0))
    return mean + l2 * penalty, mean


def penalty(config: NetworkConfig, humans: int) -> float:
    """What a squared weight costs where so many clicks are known to be human: `l2`, or more where they are few."""
    return max(config.l2, min(DEAREST, EASED / max(humans, 1) ** FALLS)) if config.l2 > 0.0 else 0.0


def logit_of_human(params: Params, z: Array, categories: Array | None) -> Array:
    """`apply` over a batch, z (n, width) and categories (n, 3); in full float32 also where a GPU would use less."""
    params = jax.tree.map(jnp.asarray, params)  # a NumPy table could not be indexed by a traced row
    with jax.default_matmul_precision("highest"):
        return jax.vmap(apply, (None, 0, None if categories is None else 0))(params, z, categories)


def rows_of(categories: Array, n_rows: int) -> Array:
    """The rows of a table, a power of two, that hash values belong to: their highest bits."""
    return categories >> np.uint32(33 - n_rows.bit_length())


def standardise(x: Array, mean: Array, scale: Array) -> Array:
    """(x - mean) * scale of one row or, in NumPy, of many, held within REACH; `scale` is one over the deviation."""
    xp = namespace(x)
    return xp.minimum(xp.maximum((x - mean) * scale, -REACH), REACH)
