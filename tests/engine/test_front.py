"""Events that a front computes in the engine's loop are judged and learned as those that are given to `update`."""

from typing import NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard import Engine

WIDTH = 3


class Scaled(NamedTuple):
    """Twice the numbers that lie in the memory; counts there how many events it has computed."""

    size: int
    at_once: bool = False

    @property
    def length(self) -> int:
        return 1 + WIDTH * self.size

    def step(self, weights, memory, i):
        x = jax.lax.dynamic_slice(memory, (1 + WIDTH * i,), (WIDTH,)).view(np.float32)
        return memory.at[0].add(1), weights * x


def batches(n, slices, seed):
    rng = np.random.default_rng(seed)
    keys = [f"s{key}" for key in np.minimum(rng.zipf(1.3, n), slices).tolist()]
    X = rng.normal(3.0, 1.0, (n, WIDTH)).astype(np.float32)
    X[rng.random((n, WIDTH)) < 0.05] = np.nan
    return keys, X


def updated(engine, keys, X, front):
    memory = engine.memory_for(front)
    numbers = memory[1 : front.length].reshape(front.size, WIDTH)
    numbers[: len(X)] = X.view(np.int32)
    after, verdicts = engine.update_from(front, np.float32(2.0), keys, memory)
    assert after[0] == len(X)
    return verdicts


def same(one, other):
    (config, tensors), (their_config, their_tensors) = one.dump(), other.dump()
    assert config == their_config
    assert {name: tensor.tobytes() for name, tensor in tensors.items()} == {
        name: tensor.tobytes() for name, tensor in their_tensors.items()
    }


@given(
    st.lists(st.integers(1, 16), min_size=1, max_size=12),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_a_front_gives_the_verdicts_and_the_state_that_its_events_would(sizes, slices, max_slices, seed):
    """Slices that are born, and must go, in the middle of a batch among them."""
    keys, X = batches(sum(sizes), slices, seed)
    ours, theirs = Engine(WIDTH, max_slices=max_slices), Engine(WIDTH, max_slices=max_slices)
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        verdicts = updated(ours, keys[part], X[part], Scaled(16))
        expected = theirs.update(keys[part], 2.0 * X[part])
        for name in ("score", "threshold", "ready", "quantiles", "p_value"):
            np.testing.assert_array_equal(getattr(verdicts, name), getattr(expected, name))
        start += size
    same(ours, theirs)


@pytest.mark.parametrize("size", [1, 64])
def test_a_long_stream_that_pools_its_slices_ends_alike(size):
    keys, X = batches(3_000, 40, 0)
    ours, theirs = Engine(WIDTH), Engine(WIDTH)
    for start in range(0, len(keys), size):
        updated(ours, keys[start : start + size], X[start : start + size], Scaled(size))
    theirs.update(keys, 2.0 * X)
    same(ours, theirs)


def test_no_events_change_nothing():
    engine, other = Engine(WIDTH), Engine(WIDTH)
    assert len(updated(engine, [], np.zeros((0, WIDTH), np.float32), Scaled(16))) == 0
    same(engine, other)
