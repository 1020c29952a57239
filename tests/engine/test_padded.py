"""Arrays padded to powers of two: the same numbers as without, whatever lies in the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onlineguard.core.arrays import put, safe_norm
from onlineguard.engine.padded import NotInAKernel, Padded, inside, padded_shape
from onlineguard.engine.padded_step import stepped

ODD_NUMBERS = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-30, 0.0], np.float32)


def padded(x):
    """The array with NaN, or the largest count, in the padding."""
    x = np.asarray(x)
    poison = {"f": np.nan, "i": np.iinfo(np.int32).max, "b": True}[x.dtype.kind]
    whole = np.full(padded_shape(x.shape), poison, x.dtype)
    whole[tuple(map(slice, x.shape))] = x
    return Padded(jnp.asarray(whole), x.shape)


def both(step, *args):
    """What a step answers, and what it answers on padded arrays, cut to what counts."""
    like = [jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype) for x in args]
    found = jax.jit(lambda *values: [value.array for value in stepped(step, like, list(map(Padded, values, shapes)))])
    shapes = [np.shape(x) for x in args]
    parts = found(*(padded(x).array for x in args))
    expected = jax.tree.leaves(jax.jit(step)(*args))
    return expected, [np.asarray(a)[tuple(map(slice, e.shape))] for a, e in zip(parts, expected, strict=True)]


def numbers(*shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    x.flat[:: max(x.size // 5, 2)] = ODD_NUMBERS[: len(x.flat[:: max(x.size // 5, 2)])]
    return x


PLAIN = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
STEPS = {
    "sum": (lambda x: x.sum(-1), PLAIN),
    "any": (lambda x: jnp.isfinite(x).any(-1), numbers(5, 3)),
    "largest": (lambda x: (x.max(), x.min(0), x.max(-1)), PLAIN - 7.0),
    "largest of NaN": (lambda x: (x.max(-1), x.min(-1)), numbers(5, 3)),
    "the larger": (lambda x, y: (jnp.maximum(x, y), jnp.minimum(x, 1.0)), numbers(5, 3), numbers(5, 3, seed=1)[::-1]),
    "first of the largest": (lambda x: (x.argmax(), (-x).argmin()), np.float32([1.0, 3.0, 3.0, -2.0, 0.0])),
    "length": (safe_norm, numbers(7)),
    "quotient": (lambda x, y: x / y, np.resize(ODD_NUMBERS, 49), np.repeat(ODD_NUMBERS, 7)),
    "roots": (lambda x: (x**0.5, jnp.sqrt(x), x**-0.3), abs(numbers(9))),
    "counts": (lambda x: (x.astype(jnp.int32), x > 0.0), np.float32([np.nan, np.inf, -np.inf, 3e9, -3e9, 2.7])),
    "matrix and vector": (lambda a, x: (a @ x, x @ x), PLAIN, PLAIN[0]),
    "vector and matrix": (lambda a, x: x @ a, PLAIN, PLAIN[:, 0]),
    "a row at an index": (lambda a, i: (a[i], a[i, 1], a[:, 2]), PLAIN, np.int32(3)),
    "a row beyond the end": (lambda a, i: a[i], PLAIN, np.int32(9)),
    "a row replaced": (
        lambda a, i, x: (put(a, i, x), jax.lax.dynamic_update_index_in_dim(a, x, i, 0)),
        PLAIN,
        np.int32(4),
        PLAIN[0],
    ),
    "halves": (lambda x: jnp.minimum(x[:8], x[8:]), numbers(16)),
    "parts": (lambda x: (x[1:4], x[:3], x[2:]), numbers(7)),
    "joined": (lambda x, y: (jnp.concatenate([x, y]), jnp.stack([x, y, x]), jnp.stack([x, y], 1)), PLAIN[0], PLAIN[1]),
    "taken apart": (lambda x: tuple(jnp.unstack(x)), PLAIN),
    "folded": (lambda x: x.reshape(-1).reshape(5, 3) + 1.0, PLAIN),
    "other axes": (lambda x: (x[:, None] * x[None], x.reshape(5, 1, 3), x[None]), PLAIN),
    "a constant array": (lambda x: x * np.float32([1.0, 2.0, 4.0]), PLAIN[0]),
    "what is known": (lambda x: x * jnp.log(jnp.float32(3.0)) + jnp.arange(3), PLAIN[0]),
    "choices between numbers": (lambda x: jnp.where(x[0, 0] > 0, 1.0, -1.0), PLAIN),
}


@pytest.mark.parametrize("name", STEPS)
def test_padding_changes_no_number(name):
    for expected, found in zip(*both(*STEPS[name]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_what_counts_is_inside():
    assert inside((4, 8)) is None
    there = np.asarray(inside((3, 5)))
    assert there.shape == (4, 8)
    assert there.sum() == 15
    assert there[:3, :5].all()


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (jnp.sort, "`sort`"),
        (lambda a: jnp.linalg.solve(a[:3], a[:3, 0]), "`lu`"),
        (lambda a: a @ a[:3], "a product of"),
        (lambda a: a[jnp.array([0, 2])], "`gather`"),
        (lambda a: a.reshape(-1) + 1.0, "arithmetic on"),
        (lambda a: a.reshape(-1).reshape(3, 5), "as"),
        (lambda a: a[::2], "every other part"),
        (lambda a: jnp.broadcast_to(a[:, :, None], (5, 3, 99))[:, :, 1:70], "at another place"),
        (lambda a: jnp.fmod(a, 2.0), "the remainder of floats"),
        (lambda a: a * np.random.default_rng(0).random((5, 3)).astype(np.float32), "a constant array of shape"),
    ],
)
def test_what_no_kernel_can_hold_is_named(step, reason):
    with pytest.raises(NotInAKernel, match=reason):
        both(step, PLAIN)
