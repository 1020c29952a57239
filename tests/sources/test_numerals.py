"""Numerals: what stands behind a number and is part of it."""

import numpy as np
import polars as pl
import pytest

from onlineguard.sources.numerals import PLAIN, Numerals, parsed
from onlineguard.sources.units import unit_among

NAN = float("nan")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12 ms", 0.012),
        ("0.5s", 0.5),
        ("3 µs", 3e-6),
        ("2 min", 120.0),
        ("1.5 kB", 1_500.0),
        ("-2.5 MB", -2.5e6),
        ("(3 GiB)", -3.0 * 2**30),
        ("3 W", 3.0),
        ("7\u202fh", 25_200.0),
        ("21.5 °C", 21.5),
        ("1e3 ms", 1.0),
        ("12 %", 0.12),
        ("3W", NAN),  # what may be a name is none
        ("12B", NAN),
        ("5 m", NAN),
        ("ms", NAN),
        ("12 mss", NAN),
    ],
)
def test_a_unit_scales_the_number_before_it(text, number):
    np.testing.assert_allclose(parsed(pl.Series([text]), PLAIN), [number], rtol=1e-12)


def test_a_unit_goes_with_any_decimal_mark():
    numbers = parsed(pl.Series(["1.234,5 ms", "2,5 kB", "7"]), Numerals(",", "."))
    np.testing.assert_allclose(numbers, [1.2345, 2_500.0, 7.0])


def test_a_unit_is_found_among_cells():
    assert unit_among(pl.Series(["-", "12 ms", "1 s"])) == "ms"
    assert unit_among(pl.Series(["-", "12", "a"])) is None
