"""Axes of a plot: where a value stands, and the round values that are written beside it."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from onlineguard.report.formats import DAY, MONTHS, SECOND, format_clock, format_day, format_number, format_ticks

WIDTH, HEIGHT = 720, 1_000  # of a plot, in its own units; a unit of width is one column with a low and a high
_STEPS = (
    *(digit * 10**k for k in range(6) for digit in (1, 2, 5)),
    *(seconds * SECOND for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600)),
    *(hours * 3_600 * SECOND for hours in (2, 3, 6, 12, 24, 48, 96, 168, 336)),
)


@dataclass
class Axis:
    """A y axis, linear or, where a few values dwarf the others, logarithmic beyond `linear_to` on both sides of 0."""

    low: float
    high: float
    linear_to: float | None

    @staticmethod
    def of(values: Float[np.ndarray, " n"], from_zero: bool = False) -> "Axis":
        finite = np.clip(values[np.isfinite(values)], -1e300, 1e300)
        if len(finite) == 0:
            return Axis(0.0, 1.0, None)
        low, high = float(finite.min()), float(finite.max())
        low = min(low, 0.0) if from_zero else low
        bulk = np.percentile(finite, [2, 98])
        scale = float(np.percentile(np.abs(finite), 50 if from_zero else 90))
        dwarfed = high - low > 25 * float(bulk[1] - bulk[0]) and max(-low, high) > 25 * scale > 0
        axis = Axis(low, high, scale if dwarfed else None)
        bottom, top = axis._bend(np.array([low, high]))
        margin = 0.06 * (top - bottom) or 0.5 * abs(top) or 0.5
        return Axis(float(bottom) - (0 if from_zero and low == 0 else margin), float(top) + margin, axis.linear_to)

    def y(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Heights from the top down, in units of the plot. Infinities lie at the edges; NaN stays NaN."""
        part = (self._bend(values) - self.low) / (self.high - self.low)
        return HEIGHT * (1 - np.clip(part, 0, 1))

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and texts of the ticks, so far apart that no two texts touch."""
        if self.linear_to is None:
            step = _nice_step((self.high - self.low) / 4)
            at = step * np.arange(math.ceil(self.low / step), math.floor(self.high / step) + 1)
            return list(zip(self.y(at).tolist(), format_ticks(at.tolist(), step), strict=True))
        powers = 10.0 ** np.arange(math.floor(math.log10(self.linear_to)), 301)
        at = np.concatenate([[0.0], powers[::-1], -powers[::-1]])  # of two that would touch, the first one is shown
        at = at[(self._bend(at) >= self.low) & (self._bend(at) <= self.high)]
        shown: list[tuple[float, str]] = []
        for y, value in zip(self.y(at).tolist(), at.tolist(), strict=True):
            if all(abs(y - other) >= 0.11 * HEIGHT for other, _ in shown):
                shown.append((y, format_number(value)))
        return shown

    def _bend(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return values if self.linear_to is None else np.arcsinh(values / self.linear_to)


def index_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks at round event numbers, placed by the distance from the first event."""
    step = max(_nice_step(max(high - low, 1) / 8), 1)
    return [(at - low, f"{at:,.0f}") for at in step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)]


def time_ticks(low: int, high: int) -> list[tuple[int, str]]:
    """About six to nine ticks at round moments from `low` to `high`, in microseconds."""
    least = (high - low) / 9
    step = next((step for step in _STEPS if step >= least), None)
    if step is not None:
        at_steps = range(-(-low // step) * step, high + 1, step)
        return [(at, format_day(at) if at % DAY == 0 else format_clock(at, step)) for at in at_steps]
    months = next((months for months in (1, 2, 3, 6) if months * 30.44 * DAY >= least), None)
    every = months or 12 * max(1, round(_nice_step(least / (365.25 * DAY))))
    first, last = (int(np.datetime64(at, "us").astype("datetime64[M]").astype(np.int64)) for at in (low, high))
    ticks: list[tuple[int, str]] = []
    for month in range(-(-first // every) * every, last + 1, every):
        at = int(np.datetime64(month, "M").astype("datetime64[us]").astype(np.int64))
        if at >= low:
            ticks.append((at, str(1970 + month // 12) if month % 12 == 0 else MONTHS[month % 12]))
    return ticks


def _nice_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= least * (1 - 1e-9))
