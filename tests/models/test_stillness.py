"""How rarely a series moves so little, beside one that keeps all its stretches."""

import math

import numpy as np

from onlineguard.models import stillness
from onlineguard.models.shapes import LATEST, Course
from onlineguard.models.stillness import LEAST_SPREAD, MOST, SPAN, STILLEST, STRETCH, Stillness


def walked(*series):
    """The rarity at every value, and what was learned in the end, of series side by side."""
    columns = len(series)
    state, latest, found = Stillness.blank(columns), np.full((columns, LATEST), math.nan, np.float32), []
    with np.errstate(all="ignore"):
        for i, values in enumerate(np.array(series, np.float32).T):
            count, course = np.full(columns, i, np.int32), Course(latest, latest)
            moves = stillness.moved(state, course, values)
            found.append(stillness.rarity(state, moves, count))
            state = stillness.followed(state, moves, count, np.full(columns, True))
            latest = np.concatenate((values[:, None], latest[:, :-1]), 1)
    return np.array(found).T, state


def by_all_stretches(x):
    """The same in float64, from every stretch that is past."""
    x, moves, least, found = np.asarray(x, np.float32).astype(float), math.inf, [math.inf], []
    for i in range(len(x)):
        if i >= SPAN:
            change = abs(x[i] - x[i - SPAN])
            moves = change if math.isinf(moves) else moves + (change - moves) / SPAN
        past = np.sort(least[:-2])[:STILLEST]
        decades = -MOST
        if len(past) == STILLEST and past[0] > moves:
            spread = max(np.mean(np.log(past[-1] / past[:-1])), LEAST_SPREAD)
            decades = math.log10(2 * (len(least) - 1)) + math.log10(past[0] / moves) / spread
        found.append(min(decades, MOST))
        least[-1] = min(least[-1], moves)
        if i % STRETCH == STRETCH - 1:
            least.append(math.inf)
    return np.array(found)


def test_the_stillest_stretches_are_judged_as_if_all_were_kept():
    rng = np.random.default_rng(0)
    noise, wave = rng.standard_normal(3_000), np.sin(np.arange(3_000) / 20) + 0.2 * rng.standard_normal(3_000)
    wave[2_500:2_600] = wave[2_500]
    found, _ = walked(noise, wave)
    assert (found[1] > 0.0).sum() > 20
    for values, rarities in zip((noise, wave), found, strict=True):
        expected = by_all_stretches(values)
        np.testing.assert_allclose(rarities, expected, rtol=1e-3, atol=1e-3)


def test_a_stretch_is_no_past_of_the_stillness_that_it_is_a_part_of():
    x = np.random.default_rng(1).standard_normal(2_000)
    x[1_500 : 1_500 + STRETCH] = x[1_500]
    (found,), _ = walked(x)
    assert (np.diff(found[1_500 + 2 * SPAN : 1_500 + STRETCH]) >= 0.0).all()
    assert found[1_500 + STRETCH - 1] > 6.0


def test_a_series_that_stands_is_never_stiller_than_before_and_moves_again_unharmed():
    rng = np.random.default_rng(2)
    stands, moves_again = np.full(6_000, 3.0), np.full(6_000, 3.0)
    moves_again[2_000:] += rng.standard_normal(4_000)
    found, state = walked(stands, moves_again)
    assert (found == -MOST).all()
    assert np.isfinite(state.stillest).all()


def test_scaling_by_a_power_of_two_changes_no_bit_of_a_rarity():
    x = np.random.default_rng(3).standard_normal(2_000).astype(np.float32)
    found, _ = walked(x, x * np.float32(2.0**40), x * np.float32(2.0**-40))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_a_column_whose_value_is_missing_stays_as_it_is():
    state = Stillness.blank(2)
    with np.errstate(all="ignore"):
        _, state = walked(*np.random.default_rng(4).standard_normal((2, 1_000)))
        later = stillness.followed(
            state, np.array([1e-3, 1e-3], np.float32), np.array([1_023, 1_023], np.int32), np.array([False, True])
        )
    for old, new in zip(state, later, strict=True):
        np.testing.assert_array_equal(new[0], old[0])
    assert later.before[1] == np.float32(1e-3)
