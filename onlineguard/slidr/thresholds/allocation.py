"""How to split one budget over the slices so that all of them together gain the most.

    maximise   sum_s gain_s(x_s)      over x, the purchasing clicks that each slice may mark
    subject to lower_s <= x_s <= upper_s   and   sum_s x_s <= budget

If the gains are concave, the problem is convex, and one number solves it, the multiplier nu of the budget: every slice
buys as long as one more purchasing click gains at least nu clicks.

- `Quadratic` takes a concave quadratic for each slice.
- `Envelope` takes the points of any rising curve, and uses their concave envelope.

Both sort once, and are then solved for any number of budgets. Both are exact apart from rounding: they do not iterate
towards a tolerance, and do not loop over slices. A larger budget gives no slice less.

Source of the problem: Muralidhar, Chitlangia, Agarwal, Ahmed, "Real-time detection of robotic traffic in online
advertising", IAAI 2023. The weights by clicks and purchasing clicks and both solutions are derived here.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from onlineguard.errors import InfeasibleBudget, InvalidArgument

Slices = Float[np.ndarray, " slices"]


@dataclass(frozen=True)
class Allocation:
    """The best split of a budget over the slices."""

    spend: Slices  # purchasing clicks that each slice may mark, fractions included
    multiplier: float  # clicks that one more purchasing click would gain; 0 where the budget does not bind
    gain: float  # clicks gained by all slices together; no other split gains more


class Quadratic:
    """Each slice gains clicks (a f^2 + b f), where f = x / purchases is its false-positive rate, and a <= 0.

    By the KKT conditions, f = clip((clicks b - nu purchases) / (-2 clicks a), lower, upper). So the spending of all
    slices together falls with nu, and is piecewise linear. A binary search over the sorted corners finds the piece
    that holds the budget, and interpolation on that piece finds nu. A straight line (a = 0) is a corner with a jump.
    Slices that jump at the same nu share the remaining budget in proportion to their width.
    """

    def __init__(self, a: Slices, b: Slices, clicks: Slices, purchases: Slices, lower: Slices, upper: Slices):
        _check(a <= 0, "a", a, "it must not be positive: a convex curve has no best split to be found this way")
        _check(purchases > 0, "purchases", purchases, "it must be positive: pool the slice with another")
        _check((lower >= 0) & (lower <= upper), "lower", lower, "it must lie between 0 and the slice's upper")
        self._a, self._b, self._clicks, self._purchases = a, b, clicks, purchases
        self._lower, self._upper = lower, upper
        self._leaves_upper = clicks * (b + 2.0 * a * upper) / purchases  # f = upper for nu up to this
        self._reaches_lower = clicks * (b + 2.0 * a * lower) / purchases  # f = lower for nu from this on
        corners = np.unique(np.concatenate([self._leaves_upper, self._reaches_lower]))
        self._corners = np.append(0.0, corners[corners > 0.0])
        self.least = float(np.sum(purchases * lower))

    def at(self, budget: float) -> Allocation:
        """The best split of `budget` purchasing clicks; raises InfeasibleBudget where the lower bounds ask for more."""
        _check_budget(budget, self.least)
        # The stops, in order of less spending: just right of the first corner, just left of the second, right of it,
        # ...
        low, high = 0, 2 * len(self._corners) - 2
        while low < high:  # the first stop that spends no more than the budget
            middle = (low + high) // 2
            if self._spent(self._stop(middle)) <= budget:
                high = middle
            else:
                low = middle + 1
        f, nu = self._stop(low), self._nu(low)
        if low > 0 and (spent := self._spent(f)) < budget:
            more = self._stop(low - 1)
            part = (budget - spent) / (self._spent(more) - spent)
            f, nu = f + part * (more - f), nu + part * (self._nu(low - 1) - nu)
        gain = float(np.sum(self._clicks * (self._a * f**2 + self._b * f)))
        return Allocation(self._purchases * f, float(nu), gain)

    def _spent(self, f: Slices) -> float:
        return float(np.sum(self._purchases * f))

    def _nu(self, stop: int) -> float:
        return float(self._corners[(stop + 1) // 2])

    def _stop(self, stop: int) -> Slices:
        """f of every slice at a corner: an even stop is its right side, an odd one its left side."""
        nu = self._nu(stop)
        at_upper = nu <= self._leaves_upper if stop % 2 else nu < self._leaves_upper
        at_lower = nu >= self._reaches_lower
        width = np.where(at_upper | at_lower, 1.0, self._reaches_lower - self._leaves_upper)
        inside = self._lower + (self._upper - self._lower) * ((self._reaches_lower - nu) / width)
        return np.where(at_upper, self._upper, np.where(at_lower, self._lower, inside))


class Envelope:
    """Each slice gains by the concave envelope of its points (cost, gain). Its first point is its lower bound.

    An envelope is a chain of segments, and each gains fewer clicks for a purchasing click than the one before. So the
    best split buys the segments of all slices in the order of their slopes until the budget is spent. At most one of
    them is bought in part. Of equal slopes, the lower slice's segment comes first. Segments that gain nothing are not
    bought.
    """

    def __init__(self, slices: Int[np.ndarray, " m"], cost: Float[np.ndarray, " m"], gain: Float[np.ndarray, " m"]):
        """`slices` are ascending codes from 0 on, none left out. Cost and gain rise strictly within a slice."""
        same = np.diff(slices) == 0
        _check(np.append(True, (np.diff(slices) == 1) | same), "slices", slices, "codes must ascend, none left out")
        _check(np.append(True, (np.diff(cost) > 0) | ~same), "cost", cost, "it must rise within a slice")
        corner = corners(slices, cost, gain)
        slices, cost, gain = slices[corner], cost[corner], gain[corner]
        first = np.diff(slices, prepend=-1) != 0
        self._lower, self._first_gain = cost[first], float(gain[first].sum())
        segment = np.flatnonzero(~first)
        width, rise = cost[segment] - cost[segment - 1], gain[segment] - gain[segment - 1]
        slope = rise / width
        order = np.argsort(-slope, kind="stable")  # stable: segments of one slice keep their order
        order = order[slope[order] > 0.0]
        self._slices, self._width, self._slope = slices[segment][order], width[order], slope[order]
        self._spent, self._gained = np.cumsum(self._width), np.cumsum(rise[order])
        self.least = float(self._lower.sum())

    def at(self, budget: float) -> Allocation:
        """The best split of `budget` purchasing clicks; raises InfeasibleBudget where the lower bounds ask for more."""
        _check_budget(budget, self.least)
        left = max(budget - self.least, 0.0)
        whole = int(np.searchsorted(self._spent, left, side="right"))
        spend = self._lower + np.bincount(self._slices[:whole], self._width[:whole], len(self._lower))
        gain = self._first_gain + (float(self._gained[whole - 1]) if whole else 0.0)
        if whole == len(self._slope):
            return Allocation(spend, 0.0, gain)
        part = left - (float(self._spent[whole - 1]) if whole else 0.0)
        spend[self._slices[whole]] += part
        slope = float(self._slope[whole])
        return Allocation(spend, slope, gain + part * slope)


def corners(
    slices: Int[np.ndarray, " m"], cost: Float[np.ndarray, " m"], gain: Float[np.ndarray, " m"]
) -> Int[np.ndarray, " corners"]:
    """Indices of the points where the least concave curve above each slice's points bends, and of its ends.

    The slopes of that curve are the antitonic regression of the points' slopes, weighted by their widths (Barlow,
    Bartholomew, Bremner, Brunk, "Statistical inference under order restrictions", 1972). Pooling finds it in linear
    time. All slices share one pass: the slopes of each are scaled to [-1, 1] and shifted below those of the slice
    before, so no pool reaches from one slice into the next. The shift costs digits, so slopes that are still in the
    wrong order are removed afterwards.
    """
    from scipy.optimize import isotonic_regression  # not at the top: a service starts without it

    segment = np.flatnonzero(np.diff(slices) == 0)  # from a point to the next one of its slice
    if not len(segment):
        return np.arange(len(slices))
    width = (cost[segment + 1] - cost[segment]).astype(np.float64)
    slope = (gain[segment + 1] - gain[segment]) / width
    of = slices[segment]
    largest = np.zeros(int(of[-1]) + 1)
    np.maximum.at(largest, of, abs(slope))
    leveled = slope / np.where(largest > 0.0, largest, 1.0)[of] - 3.0 * of
    bends = np.ones(len(slices), bool)
    bends[segment] = False  # a point within a pool starts a segment, but not a pool
    bends[segment[isotonic_regression(leveled, weights=width, increasing=False).blocks[:-1]]] = True
    corner = np.flatnonzero(bends)
    while True:
        same = np.diff(slices[corner]) == 0
        slope = np.diff(gain[corner]) / np.where(same, np.diff(cost[corner]), np.inf)
        wrong = np.flatnonzero(same[1:] & same[:-1] & (slope[1:] > slope[:-1])) + 1
        if not len(wrong):
            return corner
        corner = np.delete(corner, wrong)


def _check(holds: Bool[np.ndarray, " n"], name: str, values: Float[np.ndarray, " n"], rule: str) -> None:
    wrong = np.flatnonzero(~holds)
    if len(wrong):
        raise InvalidArgument(f"{name}[{wrong[0]}] is {values[wrong[0]]}; {rule}")


def _check_budget(budget: float, least: float) -> None:
    if not budget >= least * (1.0 - 1e-12):
        raise InfeasibleBudget(
            f"budget is {budget} purchasing clicks; the lower bounds ask for {least}: raise it or lower them",
            {},
            least,
        )
