"""Thresholds that follow drift: towards the share that was promised, and never out of their bands."""

import numpy as np
import pytest

from onlineguard.core.clipped_sgd import ClippedSGD, step
from onlineguard.core.clips import Fixed
from onlineguard.core.estimands import Quantile
from onlineguard.core.rates import Constant
from onlineguard.slidr.thresholds.bands import LEAST, bands
from onlineguard.slidr.thresholds.drift import MEMORY, Drifting

SLICES = ("a", "b", "few")
IVR = 0.05


def drawn(n, seed, by=0.0):
    """Scores whose logits are normal, the slice of each."""
    rng = np.random.default_rng(seed)
    p = 1.0 / (1.0 + np.exp(-(rng.normal(-1.0, 1.0, n) + by)))
    return p.astype(np.float32), rng.integers(0, 2, n)


@pytest.fixture(scope="module")
def calibrated():
    """Thresholds that mark one click in twenty of two slices, their bands, and those of a third with few clicks."""
    p, codes = drawn(20_000, 0)
    p, codes = np.append(p, p[:100]), np.append(codes, np.full(100, 2))
    thresholds = np.array([np.quantile(p[codes == code], 1.0 - IVR) for code in range(3)])
    return thresholds, bands(p, codes, thresholds, np.full(3, -np.inf)), p, codes


def drifting(calibrated, memory=MEMORY):
    thresholds, found, *_ = calibrated
    return Drifting(SLICES, thresholds, found, np.full(3, IVR), memory)


def test_a_band_goes_from_twice_to_half_of_what_is_marked_and_not_below_the_floor(calibrated):
    thresholds, found, p, codes = calibrated
    for code in (0, 1):
        mine = p[codes == code]
        marked = (mine > thresholds[code]).sum()
        assert (mine > found[code, 0]).sum() == 2 * marked
        assert (mine > found[code, 1]).sum() == marked // 2
    assert (p[codes == 2] > thresholds[2]).sum() < LEAST
    assert found[2].tolist() == [thresholds[2]] * 2
    floors = np.array([thresholds[0], np.mean([found[1, 0], thresholds[1]]), -np.inf])
    held = bands(p, codes, thresholds, floors)
    np.testing.assert_array_equal(held[:2, 0], floors[:2])
    np.testing.assert_array_equal(held[:, 1], found[:, 1])


def test_each_click_is_held_against_the_quantile_of_those_before_it_of_its_slice(calibrated):
    thresholds, found, *_ = calibrated
    p, codes = drawn(300, 1)
    ours = drifting(calibrated).limits([SLICES[code] for code in codes], p)
    logit = [np.log(of / (1.0 - of)) for of in (found, p.astype(np.float64), thresholds)]
    estimator = ClippedSGD(Quantile(1.0 - IVR), Constant(1.0 / (1.5 * MEMORY)), Fixed(1.0))
    at = {code: (logit[2][code] - logit[0][code, 0]) / (logit[0][code, 1] - logit[0][code, 0]) for code in (0, 1)}
    for i, code in enumerate(codes.tolist()):
        low, high = logit[0][code]
        assert ours[i] == pytest.approx(1.0 / (1.0 + np.exp(-(low + at[code] * (high - low)))), rel=1e-5)
        state, _ = step(
            estimator, estimator.init()._replace(theta=np.float32(at[code])), (logit[1][i] - low) / (high - low)
        )
        at[code] = float(np.clip(state.theta, 0.0, 1.0))


def test_however_clicks_are_cut_and_after_a_dump_the_bits_are_the_same(calibrated):
    p, codes = drawn(700, 2)
    names = [SLICES[code] for code in codes]
    names[::7] = ["few"] * len(names[::7])
    whole = drifting(calibrated).limits(names, p)
    cut, one = [], drifting(calibrated)
    for start, end in ((0, 1), (1, 64), (64, 300), (300, 700)):
        other = drifting(calibrated)
        other.restore(one.dump())
        one = other
        cut += one.limits(names[start:end], p[start:end])
    assert cut == whole
    assert {limit for limit, name in zip(whole, names, strict=True) if name == "few"} == {None}


@pytest.mark.parametrize("by", [0.3, -0.3])
def test_the_share_marked_stays_nearer_to_the_promise_than_with_fixed_thresholds(calibrated, by):
    thresholds, *_ = calibrated
    p, codes = drawn(40_000, 3, by)
    limits = np.array(drifting(calibrated).limits([SLICES[code] for code in codes], p))
    late = slice(20_000, None)
    followed, fixed = (p > limits)[late].mean(), (p > thresholds[codes])[late].mean()
    assert abs(np.log(followed / IVR)) < 0.2 < 0.5 < abs(np.log(fixed / IVR))


def test_a_flood_moves_a_threshold_to_the_end_of_its_band_and_no_further(calibrated):
    _, found, *_ = calibrated
    one = drifting(calibrated)
    robots = one.limits(["a"] * 5_000, np.full(5_000, 1.0, np.float32))
    assert max(robots) == robots[-1] == found[0, 1]
    people = one.limits(["a"] * 50_000, np.zeros(50_000, np.float32))
    assert min(people) == people[-1] == found[0, 0]
    assert one.limits(["a", "a"], np.array([np.nan, 0.0], np.float32)) == [found[0, 0]] * 2


@pytest.mark.parametrize("seed", range(3))
def test_bands_of_all_slices_at_once_are_those_of_one_after_the_other(seed):
    rng = np.random.default_rng(seed)
    codes, p = rng.integers(0, 40, 6_000), np.round(rng.normal(size=6_000), 2 + 6 * seed)
    floors = np.where(rng.random(41) < 0.3, rng.normal(size=41), -np.inf)  # the last slice has no clicks
    thresholds = np.maximum(rng.normal(0.5, 1.0, 41), floors)
    found = bands(p, codes, thresholds, floors)
    for number, threshold in enumerate(thresholds):
        mine = np.sort(p[codes == number])[::-1]
        marked = int((mine > threshold).sum())
        expected = (threshold, threshold)
        if marked >= LEAST:
            low = max(mine[min(2 * marked, len(mine) - 1)], floors[number])
            expected = min(low, threshold), max(mine[marked // 2], threshold)
        assert tuple(found[number]) == expected
