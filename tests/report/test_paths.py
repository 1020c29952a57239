"""Path data: short, and true to every spike."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.report.paths import line_path


@given(
    n=st.integers(1, 2_000),
    data=st.data(),
)
def test_the_drawn_line_reaches_the_height_of_every_spike(n, data):
    y = np.full(n, 700.0)
    spike = data.draw(st.integers(0, n - 1))
    y[spike] = 20.0
    x = np.arange(n) * (720 / max(n - 1, 1))
    for floor in (None, 1_000):
        numbers = visited(line_path(x, y, floor))
        assert (int(x[spike]), 20) in numbers
        assert min(height for _, height in numbers) == 20


def visited(path: str) -> list[tuple[int, int]]:
    """The points that a path of M, l, h and V goes through."""
    x = y = 0
    points = []
    for command, text in re.findall(r"([MlhV])([^MlhV]*)", path):
        numbers = [int(number) for number in re.findall(r"-?\d+", text)]
        if command == "V":
            numbers, command = [0, numbers[0] - y], "l"
        if command == "h":
            numbers, command = [numbers[0], 0], "l"
        for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = (dx, dy) if command == "M" else (x + dx, y + dy)
            points.append((x, y))
    return points
