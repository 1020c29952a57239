"""Rows of a mapped file are those of a copy, bit for bit."""

import jax
import numpy as np
import pytest

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.learning.network import NetworkConfig
from onlineguard.slidr.learning.rows import Rows
from onlineguard.slidr.learning.train import moments, train

RNG = np.random.default_rng(5)
X = RNG.normal(size=(700, 5)).astype(np.float32)
CHOSEN = RNG.random(700) < 0.8


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


def test_rows_read_as_a_copy_with_the_held_columns_at_zero(mapped):
    copy = X[CHOSEN]
    copy[:, [1, 4]] = 0.0
    rows = Rows(mapped, CHOSEN, (1, 4))
    assert (rows.shape, len(rows)) == (copy.shape, len(copy))
    assert np.array_equal(rows[:], copy)
    assert np.array_equal(rows[100:300], copy[100:300])
    shuffled = RNG.permutation(len(copy))
    assert np.array_equal(rows[shuffled], copy[shuffled])
    assert np.array_equal(np.asarray(rows, np.float64), copy.astype(np.float64))
    assert np.array_equal(mapped, X)


def test_a_mapped_file_trains_the_network_that_its_copy_trains(mapped):
    human = X[CHOSEN][:, 0] > 0.3
    config = NetworkConfig(hidden=(4,), batch=64, epochs=1)
    one, other = (train(part, None, human, None, config) for part in (X[CHOSEN], Rows(mapped, CHOSEN)))
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(one.losses, other.losses)


def test_a_feature_that_is_not_finite_is_named_by_its_row(mapped):
    broken = X.copy()
    broken[np.flatnonzero(CHOSEN)[7], 2] = np.nan
    with pytest.raises(InvalidArgument, match=r"X\[7, 2\] is nan"):
        moments(Rows(broken, CHOSEN))
