"""How much of one budget each slice gets, so that all slices together gain the most.

    maximise   sum_s gain_s(x_s)      over x, the purchasing clicks that each slice may mark
    subject to lower_s <= x_s <= upper_s   and   sum_s x_s <= budget

With concave gains this is convex, and one number, the multiplier nu of the budget, says it all: every slice buys as
long as one more purchasing click gains at least nu clicks. `Quadratic` takes a concave quadratic a slice, `Envelope`
the points of any rising curve, of which it takes the concave envelope. Both are prepared once, by a sort, and then
solved for any number of budgets; both are exact but for rounding, without iterating towards a tolerance and without a
loop over slices. No slice gets less from a larger budget.

Source of the problem: Muralidhar, Chitlangia, Agarwal, Ahmed, "Real-time detection of robotic traffic in online
advertising", IAAI 2023. The weights by clicks and purchasing clicks and both solutions are derived here.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import isotonic_regression

from onlineguard.errors import InfeasibleBudget, InvalidArgument

WORK = 50_000_000  # additions that `whole_points` may take: a fraction of a second

Slices = Float[np.ndarray, " slices"]


@dataclass(frozen=True)
class Allocation:
    """The best split of a budget."""

    spend: Slices  # purchasing clicks that each slice may mark, fractions included
    multiplier: float  # clicks that one purchasing click more would gain; 0 where the budget does not bind
    gain: float  # clicks gained by all slices together: no split gains more


class Quadratic:
    """Gains clicks (a f^2 + b f) with f = x / purchases, the slice's false-positive rate, and a <= 0.

    By the KKT conditions f = clip((clicks b - nu purchases) / (-2 clicks a), lower, upper). What all slices spend is
    therefore piecewise linear in nu and falls; a binary search over its sorted corners finds the piece that holds the
    budget, and the piece is linear, so the rest is interpolation. A straight line (a = 0) is a corner with a jump;
    slices that jump at the same nu share what is left in equal parts of their width.
    """

    def __init__(self, a: Slices, b: Slices, clicks: Slices, purchases: Slices, lower: Slices, upper: Slices):
        _check(a <= 0, "a", a, "it must not be positive: a convex curve has no best split to be found this way")
        _check(purchases > 0, "purchases", purchases, "it must be positive: pool the slice with another")
        _check((lower >= 0) & (lower <= upper), "lower", lower, "it must lie between 0 and the slice's upper")
        self._a, self._b, self._clicks, self._purchases = a, b, clicks, purchases
        self._lower, self._upper = lower, upper
        self._leaves_upper = clicks * (b + 2.0 * a * upper) / purchases  # the nu up to which f = upper
        self._reaches_lower = clicks * (b + 2.0 * a * lower) / purchases  # the nu from which on f = lower
        corners = np.unique(np.concatenate([self._leaves_upper, self._reaches_lower]))
        self._corners = np.append(0.0, corners[corners > 0.0])
        self.least = float(np.sum(purchases * lower))

    def at(self, budget: float) -> Allocation:
        """The best split of `budget` purchasing clicks; raises InfeasibleBudget where the lower bounds ask for more."""
        _check_budget(budget, self.least)
        # Stops, in order of spending less: just right of the first corner, just left of the second, right of it, ...
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
        """f of every slice at a corner: even stops are its right side, odd ones its left side."""
        nu = self._nu(stop)
        at_upper = nu <= self._leaves_upper if stop % 2 else nu < self._leaves_upper
        at_lower = nu >= self._reaches_lower
        width = np.where(at_upper | at_lower, 1.0, self._reaches_lower - self._leaves_upper)
        inside = self._lower + (self._upper - self._lower) * ((self._reaches_lower - nu) / width)
        return np.where(at_upper, self._upper, np.where(at_lower, self._lower, inside))


class Envelope:
    """Gains by the concave envelope of points (cost, gain): slice by slice, both rising, the first is the lower bound.

    The envelope is a chain of segments, each with fewer clicks gained a purchasing click than the one before. The best
    split therefore buys the segments of all slices in the order of their slopes until the budget is spent; at most one
    of them is bought in part, and of equal ones that of the lower slice first. Segments that gain nothing are not
    bought.
    """

    def __init__(self, slices: Int[np.ndarray, " m"], cost: Float[np.ndarray, " m"], gain: Float[np.ndarray, " m"]):
        """`slices` are codes from 0 on, ascending, none left out; cost and gain rise strictly within a slice."""
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


def whole_points(
    slices: Int[np.ndarray, " m"],
    cost: Int[np.ndarray, " m"],
    gain: Int[np.ndarray, " m"],
    budget: int,
    chosen: Int[np.ndarray, " slices"],
    relaxed: Allocation,
) -> Int[np.ndarray, " slices"]:
    """Index of the point of every slice that together gain the most within the budget, no slice standing between two.

    `chosen` is a choice within the budget and `relaxed` what `Envelope` splits the same budget into. Every choice gains
    as much less than the relaxed one as its points lie under the line with the slope of the multiplier, or more; so
    whatever lies deeper under it than `chosen` as a whole cannot be part of a better choice. Dynamic programming goes
    over the rest. Where that would be more than WORK, `chosen` comes back, which then is not improved.

    Source: the multiple-choice knapsack problem, and its reduction by Lagrangian bounds, as in Kellerer, Pferschy,
    Pisinger, "Knapsack problems", 2004, chapter 11.
    """
    gap = relaxed.gain - gain[chosen].sum()
    value = gain - relaxed.multiplier * cost
    first = np.flatnonzero(np.diff(slices, prepend=-1) != 0)
    under = np.maximum.reduceat(value, first)[slices] - value
    kept = np.flatnonzero(under <= gap - 1.0 + 1e-6)  # gains are whole: a better choice is better by one
    if gap < 1.0 - 1e-6:
        return chosen
    head = np.diff(slices[kept], prepend=-1) != 0
    found = kept[head]
    room = min(budget - int(cost[found].sum()), int((cost[kept[np.append(head[1:], True)]] - cost[found]).sum()))
    if room < 0 or len(kept) * (room + 1_000) > WORK:
        return chosen
    best = np.zeros(room + 1)  # gained over `found` with so many purchasing clicks more, or fewer
    steps: list[tuple[int, Int[np.ndarray, " room"]]] = []
    others = np.split(kept, np.flatnonzero(head)[1:])
    for number in np.flatnonzero(np.diff(np.append(np.flatnonzero(head), len(kept))) > 1).tolist():
        before, best = best, best.copy()
        pick = np.full(room + 1, found[number])
        for point in others[number][1:].tolist():
            more = int(cost[point] - cost[found[number]])
            gained = before[: max(room + 1 - more, 0)] + (gain[point] - gain[found[number]])
            better = np.flatnonzero(gained > best[more:])
            best[more:][better] = gained[better]
            pick[more:][better] = point
        steps.append((number, pick))
    if gain[found].sum() + best[room] <= gain[chosen].sum():
        return chosen
    for number, pick in reversed(steps):
        point = int(pick[room])
        room -= int(cost[point] - cost[found[number]])
        found[number] = point
    return found


def corners(
    slices: Int[np.ndarray, " m"], cost: Float[np.ndarray, " m"], gain: Float[np.ndarray, " m"]
) -> Int[np.ndarray, " corners"]:
    """Indices of the points where the least concave curve above each slice's points bends, its ends included.

    The slopes of that curve are the antitonic regression of the points' slopes weighted by width (Barlow, Bartholomew,
    Bremner, Brunk, "Statistical inference under order restrictions", 1972), which pooling finds in linear time, here
    for all slices in one pass: each slice's slopes are brought to [-1, 1] and set below those of the slice before,
    so that no pool reaches across. That costs digits, so whatever is left in the wrong order is taken out after.
    """
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
    bends[segment] = False  # a point within a pool starts a segment, but no pool
    bends[segment[isotonic_regression(leveled, weights=width, increasing=False).blocks[:-1]]] = True
    kept = np.flatnonzero(bends)
    while True:
        same = np.diff(slices[kept]) == 0
        slope = np.diff(gain[kept]) / np.where(same, np.diff(cost[kept]), np.inf)
        wrong = np.flatnonzero(same[1:] & same[:-1] & (slope[1:] > slope[:-1])) + 1
        if not len(wrong):
            return kept
        kept = np.delete(kept, wrong)


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
