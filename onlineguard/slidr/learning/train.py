"""A few passes of Adam over a week of clicks, and the network that comes of them.

Clicks are shuffled by the seed and given in minibatches; a loop over many of them is one compiled program, so that
nothing but data crosses between Python and the device. Memory beside `X`, which may be `Rows` of a mapped file: a few
copies of 512 minibatches, and 20 bytes a click.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from functools import cache
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.learning import scorer
from onlineguard.slidr.learning.network import (
    CATEGORIES,
    Batch,
    NetworkConfig,
    Params,
    apply,
    init,
    logit_of_human,
    loss,
    penalty,
    rows_of,
    standardise,
)
from onlineguard.slidr.learning.rows import Rows

STEPS = 512  # minibatches given to the device at once
ROWS = 65_536  # rows scored at once, the largest padded size
HELD = np.float32(1e-30)  # the scale by which any finite number is as near to zero as makes no difference
FEW = 64  # rows that NumPy scores sooner than a compiled program does

Progress = Callable[[int, int, float], None]  # clicks learned, clicks in all, mean cross-entropy of the latest ones


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A trained network; a `Scorer`."""

    config: NetworkConfig
    params: Params
    mean: np.ndarray  # (width,) of the training clicks, before standardisation
    scale: np.ndarray  # (width,) one over their standard deviation; HELD where a feature never varied
    losses: np.ndarray  # (steps,) weighted cross-entropy of each minibatch before it was learned: the loss curve

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.mean)

    @property
    def held(self) -> np.ndarray:
        """Which features (held,) did not vary in training: whatever they are later, they count as they were there."""
        return np.flatnonzero(self.scale == HELD)

    def p_robot(self, X: np.ndarray, categories: np.ndarray | None = None) -> np.ndarray:
        """p_robot (n,) float32 of features X (n, width); `categories` (n, 3) uint32 for the kind "embedding".

        More than FEW rows are padded to a power of two, so that batches of all sizes share a handful of compiled
        programs. One row's answer is the same to a few ulps whatever it is batched with. A NaN feature makes it NaN.
        """
        features = scorer.matrix(X, self.width)
        codes = None if self.params.tables is None else _hashes(categories, len(features))
        if len(features) <= FEW:
            logits = apply(self.params, standardise(features, self.mean, self.scale), codes)
            with np.errstate(over="ignore"):
                return 1.0 / (1.0 + np.exp(logits))
        out = np.empty(len(features), np.float32)
        for start in range(0, len(out), ROWS):
            cut = slice(start, start + ROWS)
            rows = len(out[cut])
            size = 1 << (rows - 1).bit_length()
            part = None if codes is None else _padded(codes[cut], size)
            answer = _p_robot(self.params, self.mean, self.scale, _padded(features[cut], size), part)
            out[cut] = np.asarray(answer)[:rows]
        return out

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `scorer.safetensors` into the folder, which is made if need be."""
        tensors = {"mean": self.mean, "scale": self.scale, "losses": self.losses, **_named(self.params)}
        scorer.write(folder, type(self).__name__, dataclasses.asdict(self.config), tensors)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """What `save` wrote. Raises CheckpointError for a file that is missing, foreign, damaged or newer."""
        header, tensors = scorer.read(folder, cls.__name__)
        try:
            fields: dict[str, Any] = {**header, "hidden": tuple(header["hidden"])}
            config = NetworkConfig(**fields)
            params = init(0, len(tensors["mean"]), config)  # for its structure
            expected = {name: leaf.shape for name, leaf in _named(params).items()}
            expected |= {name: tensors["mean"].shape for name in ("mean", "scale")}
            for name, shape in expected.items():
                if tensors[name].shape != shape or tensors[name].dtype != np.float32:
                    raise ValueError(f"{name} is {tensors[name].dtype} {tensors[name].shape}, expected float32 {shape}")
            learned = _unnamed(params, tensors)
            return cls(config, learned, tensors["mean"], tensors["scale"], tensors["losses"])
        except (ValueError, KeyError, TypeError) as error:
            raise scorer.damaged(folder, f"{type(error).__name__} {error}") from error


def train(
    X: np.ndarray | Rows,
    categories: np.ndarray | None,
    human: np.ndarray,
    weights: np.ndarray | None = None,
    config: NetworkConfig | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Network:
    """A network that tells humans from the rest.

    X: (n, width) float32 features, finite; categories: (n, 3) uint32, used by the kind "embedding" only; human: (n,)
    bool, both kinds present; weights: (n,) of `weights.cell_weights`, by default 1 for each click.

    Features are standardised by the mean and deviation of these clicks. `progress` is called after every 512
    minibatches. The same arguments give the same network, bit for bit, on one CPU; other machines differ by rounding,
    and so may two runs of the kind "embedding" on a GPU, which adds up the gradient of a table in no fixed order.
    """
    config = config or NetworkConfig()
    features, labels, loads = checked(X, human, weights)
    n = len(features)
    codes = _hashes(categories, n) if config.kind == "embedding" else None
    mean, scale = moments(features)
    params: Any = jax.tree.map(jnp.asarray, init(seed, features.shape[1], config))
    memory = _optimiser().init(params)
    learns = None if codes is None else _frequent(codes, config)
    rng = np.random.default_rng(seed)
    steps = math.ceil(n / config.batch)
    total = steps * config.epochs
    rates = _rates(config, total)
    l2 = np.float32(penalty(config, int(labels.sum())))
    losses: list[np.ndarray] = []
    for epoch in range(config.epochs):
        order = rng.permutation(n)
        for step in range(0, steps, STEPS):
            rows = order[step * config.batch : (step + STEPS) * config.batch]
            count = math.ceil(len(rows) / config.batch)
            data = Batch(*(_batches(column, rows, config.batch) for column in (features, codes, labels, loads)))
            at = epoch * steps + step
            rate = _padded(rates[at : at + count], STEPS)
            params, memory, entropy = _advance(params, memory, data, rate, mean, scale, learns, l2, count)
            # the last minibatch may be a part of one, and is divided by the size of a whole one
            size = np.full(count, config.batch)
            size[-1] = len(rows) - (count - 1) * config.batch
            losses.append(np.asarray(entropy)[:count] * (config.batch / size).astype(np.float32))
            if progress is not None:
                done = epoch * n + min(n, (step + count) * config.batch)
                progress(done, n * config.epochs, float(losses[-1] @ size / size.sum()))
    learned: Params = jax.tree.map(np.asarray, params)
    return Network(config, learned, mean, scale, np.concatenate(losses))


def checked[Features: np.ndarray | Rows](
    X: Features, human: np.ndarray, weights: np.ndarray | None
) -> tuple[Features, np.ndarray, np.ndarray]:
    """Arguments of training: features and weights as float32, human as 1 and 0. Raises InvalidArgument for bad ones."""
    features: Any = X if isinstance(X, Rows) else np.asarray(X, np.float32)
    labels = np.asarray(human)
    if features.ndim != 2:
        raise InvalidArgument(f"X has the shape {features.shape}; give features (n, width), one row a click")
    n = len(features)
    loads = np.ones(n, np.float32) if weights is None else np.asarray(weights, np.float32)
    for name, column in (("human", labels), ("weights", loads)):
        if column.shape != (n,):
            raise InvalidArgument(f"{name} has the shape {column.shape}; X has {n} rows, so give ({n},)")
    if labels.dtype != np.bool_:
        raise InvalidArgument(f"human is {labels.dtype}; give bool, True for clicks known to be human")
    for label in (True, False):
        if not (labels == label).any():
            raise InvalidArgument(
                f"none of the {n} clicks has human={label}; both labels are needed, so take a longer history"
            )
    usable = np.isfinite(loads) & (loads >= 0.0)
    if not usable.all():
        i = int(np.argmin(usable))
        raise InvalidArgument(f"weights[{i}] is {loads[i]}; a weight must be finite and not negative")
    return features, labels.astype(np.float32), loads


def moments(features: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and one over the standard deviation (width,) float32 of every feature, summed in float64 block by block.

    A feature that does not vary beyond rounding gets the scale HELD: the weights on it have learned nothing, and would
    answer any other value with whatever they began with.
    """
    n, width = features.shape
    starts = range(0, n, ROWS)
    mean = sum((features[i : i + ROWS].sum(0, dtype=np.float64) for i in starts), np.zeros(width)) / n
    if not np.isfinite(mean).all():
        raise _not_finite(features)
    deviation = np.sqrt(sum((((features[i : i + ROWS] - mean) ** 2).sum(0) for i in starts), np.zeros(width)) / n)
    varies = deviation > 1e-6 * np.abs(mean)
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), HELD)
    return mean.astype(np.float32), scale.astype(np.float32)


def _not_finite(features: np.ndarray | Rows) -> InvalidArgument:
    for start in range(0, len(features), ROWS):
        block = features[start : start + ROWS]
        if len(wrong := np.argwhere(~np.isfinite(block))):
            row, column = wrong[0]
            where = f"X[{start + row}, {column}] is {block[row, column]}"
            return InvalidArgument(f"{where}; every feature of a click to learn must be finite")
    return InvalidArgument("features of X are so large that their mean is not finite; every one must be a float32")


@jax.jit
def _advance(
    params: Any, memory: Any, data: Batch, rates: Any, mean: Any, scale: Any, learns: Any, l2: Any, count: Any
) -> tuple[Any, Any, Any]:
    """`count` steps through the minibatches, one a row of `data`; their cross-entropies come third."""

    def step(i: Any, carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        params, memory, entropies = carry
        x, categories, human, weight = jax.tree.map(lambda column: column[i], data)
        batch = Batch(jax.vmap(standardise, (0, None, None))(x, mean, scale), categories, human, weight)
        (_, entropy), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch, l2)
        if learns is not None:
            gradient = gradient._replace(tables=gradient.tables * learns)
        move, memory = _optimiser().update(gradient, memory)
        params = jax.tree.map(lambda p, m: p - rates[i] * m, params, move)
        return params, memory, entropies.at[i].set(entropy)

    return jax.lax.fori_loop(0, count, step, (params, memory, jnp.zeros_like(rates)))


@jax.jit
def _p_robot(params: Any, mean: Any, scale: Any, X: Any, categories: Any) -> Any:
    z = jax.vmap(standardise, (0, None, None))(X, mean, scale)
    return jax.nn.sigmoid(-logit_of_human(params, z, categories))


@cache
def _optimiser() -> Any:
    """Adam. Its step is bounded however heavy a click weighs. Gradients are not shortened before: only those with a
    click from a sparse cell would be, which takes from such cells just what their weights give them."""
    import optax  # not at the top: a service starts without it

    return optax.scale_by_adam()


def _rates(config: NetworkConfig, total: int) -> np.ndarray:
    """The size of every step (total,) float32, taken in the middle of the step, where none is 0."""
    import optax  # not at the top: a service starts without it

    schedule = optax.warmup_cosine_decay_schedule(0.0, config.rate, int(config.warm_up * total), total)
    return np.asarray(jax.vmap(schedule)(np.arange(total, dtype=np.float32) + 0.5), np.float32)


def _frequent(categories: np.ndarray, config: NetworkConfig) -> np.ndarray:
    """1 for the rows of the tables (CATEGORIES, 2^bits, 1) float32 that enough clicks share to learn, else 0."""
    n_rows = 2**config.bits
    counts = [np.bincount(column, minlength=n_rows) for column in rows_of(categories, n_rows).T]
    return (np.stack(counts) >= config.rare).astype(np.float32)[:, :, None]


def _hashes(categories: np.ndarray | None, n: int) -> np.ndarray:
    if categories is None:
        raise InvalidArgument("categories is None; a network of kind 'embedding' takes them, see categories.categories")
    if categories.shape != (n, CATEGORIES) or categories.dtype != np.uint32:
        raise InvalidArgument(
            f"categories is {categories.dtype} {categories.shape}; give uint32 ({n}, {CATEGORIES}), one row a row of X"
        )
    return categories


def _batches(column: np.ndarray | Rows | None, rows: np.ndarray, batch: int) -> np.ndarray | None:
    """The rows as (STEPS, batch, ...), zeros behind the last."""
    if column is None:
        return None
    return _padded(column[rows], STEPS * batch).reshape(STEPS, batch, *column.shape[1:])


def _padded(column: np.ndarray, size: int) -> np.ndarray:
    """The column with zeros behind it, `size` rows in all."""
    if len(column) == size:
        return column
    out = np.zeros((size, *column.shape[1:]), column.dtype)
    out[: len(column)] = column
    return out


def _named(params: Params) -> dict[str, np.ndarray]:
    """The leaves by name, such as hidden.0.kernel."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def _unnamed(like: Params, tensors: dict[str, np.ndarray]) -> Params:
    leaves = [tensors[name] for name in _named(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
