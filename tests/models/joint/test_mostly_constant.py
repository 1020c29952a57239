"""The commonest value of a feature, and its share."""

import numpy as np
import pytest

from onlineguard.models.joint.mostly_constant import Modes, learned_modes

PATIENCE = 5_000.0


def learned(modes: Modes, values: np.ndarray, seen: int = 0) -> Modes:
    """The modes of one feature after these values, at the rates of a slice that has seen so many before."""
    for i, value in enumerate(values.astype(np.float32), seen):
        rate = np.float32(max(1.0 / PATIENCE, 1.0 / (i + 1.0)))
        modes = learned_modes(modes, value[None], np.array([True]), rate)
    return modes


def mostly(rng: np.random.Generator, value: float, n: int) -> np.ndarray:
    """Nine values in ten are `value`, the others one of nine more."""
    return np.where(rng.random(n) < 0.9, value, value + rng.integers(1, 10, n))


@pytest.mark.parametrize("first", [[], [3.0], [3.0, 5.0], [3.0, 5.0, 5.0, 3.0, 4.0]], ids=str)
def test_the_mode_is_found_whatever_values_came_first(first):
    values = np.concatenate([first, mostly(np.random.default_rng(0), 0.0, 1_000)])
    modes = learned(Modes.blank(1), values)
    assert modes.value[0] == 0.0
    assert modes.share[0] == pytest.approx((values == 0.0).mean(), abs=0.01)


def test_a_new_mode_takes_the_place_of_one_that_is_gone():
    rng = np.random.default_rng(0)
    modes = learned(Modes.blank(1), mostly(rng, 7.0, 4_000))
    assert modes.value[0] == 7.0
    modes = learned(modes, mostly(rng, 100.0, 5_000), seen=4_000)
    assert modes.value[0] == 100.0
    assert modes.rival[0] == 7.0


def test_features_of_many_values_have_no_mode():
    values = np.random.default_rng(0).integers(0, 20, 5_000)
    assert learned(Modes.blank(1), values).share[0] < 0.1
