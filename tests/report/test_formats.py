"""Numbers as a reader wants them."""

import numpy as np
import pytest

from onlineguard.report.formats import format_number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (-12.345, "-12.3"),
        (9_870.0, "9,870"),
        (12_345.0, "12.3k"),
        (1.234e6, "1.23M"),
        (1.2e-7, "1.2e-7"),
        (3e38, "3e38"),
        (np.inf, "∞"),
        (np.nan, "n/a"),
    ],
)
def test_numbers_are_short(number, text):
    assert format_number(number) == text
