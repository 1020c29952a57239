"""Thresholds of all slices as a function of one number: the nominal budget, in purchasing clicks.

A larger nominal budget raises no threshold. So the question how much of the budget to spend is about one number, and
one count of marked purchases answers it; see `evidence`. The share of each slice comes from the convex program of
`allocation`. Caps and demands for coverage have taken points out of the curves before, and are so part of the program.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

from onlineguard.slidr.thresholds.allocation import Allocation, Envelope, Quadratic
from onlineguard.slidr.thresholds.curves import Curves

# A quadratic is fitted and used from half a budget to three budgets beyond, as far as the cap lets a slice go. A wider
# range fits worse where it matters: ten budgets lose a sixth of the clicks of eight simulated slices, these 4 %.
START, REACH = 0.5, 3.0
STEPS = 8  # of the nominal budget for one purchasing click

Shares = Literal["envelope", "quadratic", "global"]


class Family:
    """The thresholds that a method gives for any nominal budget from `least` to `largest`."""

    def __init__(self, curves: Curves, method: Shares, budget: float):
        last = np.diff(curves.group, append=-1) != 0
        self._first = curves.cost[np.diff(curves.group, prepend=-1) != 0]
        self.least = float(self._first.sum())
        self.largest = float(curves.cost[last].sum())
        self._curves, self._last = curves, np.flatnonzero(last)
        self._width = float(curves.cost.max()) + 1.0
        self._place = curves.group * self._width + curves.cost  # ascending
        self._problem: Envelope | Quadratic | None = None
        if method == "envelope":
            self._problem = Envelope(curves.group, curves.cost, curves.clicks)
        elif method == "quadratic":
            self._problem = quadratics(curves, budget)

    @property
    def steps(self) -> range:
        """The nominal budgets that are looked at, in steps of 1 / STEPS purchasing clicks above the least."""
        return range(1, int(np.ceil((self.largest - self.least) * STEPS)) + 1)

    def nominal(self, step: int) -> float:
        """The nominal budget after so many steps."""
        return min(self.least + step / STEPS, self.largest)

    def split(self, nominal: float) -> Allocation:
        """The share of a nominal budget that each slice gets, in purchasing clicks, fractions included."""
        if self._problem is None:
            return Allocation(np.array([nominal]), 0.0, 0.0)
        if nominal >= self._problem.least or self._problem.least <= self.least:
            return self._problem.at(max(nominal, self._problem.least))
        part = (nominal - self.least) / (self._problem.least - self.least)  # below its range, all get the same part
        start = self._problem.at(self._problem.least)
        return Allocation(self._first + part * (start.spend - self._first), start.multiplier, part * start.gain)

    def thresholds(self, nominal: float) -> Float[np.ndarray, " slices"]:
        """The lowest thresholds that cost no slice more than it gets."""
        spend = self.split(nominal).spend
        spend = np.minimum(spend * (1.0 + 1e-9), self._width - 0.5)  # so that rounding loses no whole purchasing click
        at = np.searchsorted(self._place, np.arange(len(spend)) * self._width + spend, side="right") - 1
        return self._curves.thresholds[np.minimum(at, self._last)]


def quadratics(curves: Curves, budget: float) -> Quadratic:
    """The rising concave quadratic that fits each slice's curve best by least squares, over the range that it is used
    in.

    The range begins at half a budget, since a curve before it rises far more steeply than a parabola can. The fit is in
    orthogonal powers of the FPR, a point weighted by its distance from its neighbours. Where the best fit is convex,
    the best straight line takes its place. Where it falls before the range ends, the best parabola whose peak is that
    end does: a curve of marked clicks never falls, and a fit that does leaves budget unspent.
    """
    last = np.diff(curves.group, append=-1) != 0
    purchases, clicks = np.maximum(curves.cost[last], 1e-300), np.maximum(curves.clicks[last], 1e-300)
    f = curves.cost / purchases[curves.group]
    begun = (f >= START * budget) | last
    group, f, rate = curves.group[begun], f[begun], (curves.clicks / clicks[curves.group])[begun]
    lower = f[np.diff(group, prepend=-1) != 0]
    upper = np.minimum(1.0, lower + REACH * np.maximum(budget, 1.0 / np.maximum(purchases, 1.0)))
    upper = np.minimum(upper, f[np.diff(group, append=-1) != 0])
    width = np.where(upper > lower, upper - lower, 1.0)

    inside = f <= upper[group]
    group, f, rate = group[inside], f[inside], rate[inside]
    gap = np.where(np.diff(group, prepend=-1) != 0, 0.0, np.diff(f, prepend=0.0))
    weight = gap + np.append(gap[1:], 0.0)
    weight = np.where(np.bincount(group, weight)[group] > 0.0, weight, 1.0)
    total = np.bincount(group, weight)

    def mean(values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " slices"]:
        return np.bincount(group, weight * values) / total

    def ratio(x: Float[np.ndarray, " slices"], y: Float[np.ndarray, " slices"]) -> Float[np.ndarray, " slices"]:
        enough = y > 1e-12  # otherwise there are too few points
        return np.where(enough, x / np.where(enough, y, 1.0), 0.0)

    at = (f - lower[group]) / width[group]  # from 0 to 1
    center = mean(at)
    z = at - center[group]
    spread = mean(z**2)
    skew = ratio(mean(z**3), spread)
    square = z**2 - spread[group] - skew[group] * z
    slope, bend = ratio(mean(z * rate), spread), np.minimum(ratio(mean(square * rate), mean(square**2)), 0.0)
    start = slope - bend * (2.0 * center + skew)  # the slope where `at` is 0

    arch = 2.0 * at - at**2  # rises to its peak, where `at` is 1
    arch = arch - mean(arch)[group]
    height = np.maximum(ratio(mean(arch * rate), mean(arch**2)), 0.0)
    falls = start + 2.0 * bend < 0.0
    bend, start = np.where(falls, -height, bend), np.where(falls, 2.0 * height, start)
    a = bend / width**2
    return Quadratic(a, start / width - 2.0 * a * lower, clicks, purchases, lower, upper)
