"""The template: readable in both colour schemes."""

import re

import numpy as np
import pytest

from onlineguard.report.template import STYLE


def luminance(colour: str) -> float:
    colour = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out_in_both_colour_schemes(scheme):
    light, dark = STYLE.split("prefers-color-scheme:dark")
    colours = dict(re.findall(r"--(\w+):(#\w+)", light if scheme == "light" else dark))
    for front, back, least in [
        *(("ink", back, 7.0) for back in ("page", "card")),
        *(("soft", back, 4.5) for back in ("page", "card")),
        *((mark, "card", 3.0) for mark in ("series", "score", "alarm", "label")),
    ]:
        bright, dim = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= least, (front, back)
