"""A threshold for each slice, so that all slices together mark the most clicks within one false-positive budget.

    maximise   sum_s clicks_s IVR_s(FPR_s)
    subject to sum_s purchases_s FPR_s <= budget sum_s purchases_s,   coverage_s >= min_coverage_s

A click is robotic when its score `p_robot` is strictly greater than its slice's threshold. The robotic coverage of a
slice falls with its threshold, so a least coverage is a lower bound on its FPR. `method` says how the IVR-FPR curve of
a slice is used:

    "envelope"   its least concave envelope, from the lower bound on: the best on the sample, as explained below
    "quadratic"  the concave quadratic in the FPR that fits it best by least squares, as in the paper
    "global"     one threshold for all slices, the lowest that keeps the budget
    "knee"       one threshold for all slices, at the knee of their common curve; it takes no budget

**Thresholds.** A threshold is the score of some click, so a slice marks a whole number of its purchasing clicks. The
share of the budget that `allocation` grants a slice is rounded down to that, so the budget always holds on the sample.

- The envelope loses less than one of its segments by this, in one slice. A search over whole numbers recovers even
that,
  unless it takes more than `allocation.WORK`. Then no other thresholds with the same pools mark more clicks of the
  sample. `ivr_limit` is a bound that no thresholds exceed in any case.
- The quadratic loses a part of a purchasing click in every slice. So it is solved for the largest nominal budget whose
  rounded thresholds keep the real one.

**Pools.** The curve of a slice with few purchasing clicks says little, so slices with fewer than `min_purchases` share
a threshold; see `pool`. Each slice of a pool keeps its own demand for coverage.

**Confidence.** Thresholds that were chosen on a sample spend more of the budget on new clicks than on the sample. With
a `confidence`, a share `held_out` of the purchasing clicks, drawn by `seed`, takes no part in choosing.

- The other clicks give a family of thresholds with one parameter, the nominal budget. A larger nominal budget lowers
  some thresholds and raises none.
- If k of a slice's n purchasing clicks are marked, up to the next one, then a share (k + 1) / (n + 1) of new ones is
to be
  expected. So k + 1 are charged, and nothing only if nothing is marked. Fractions of a purchasing click lower the
  threshold by that fraction of the clicks in between.
- The largest member of the family is taken for which the held-out clicks show an FPR within the budget, by the exact
  one-sided binomial bound.
- The FPR rises along the family, and so does the count on the held-out clicks. The choice is over the budget only if
  the first member over the budget passes, which has a probability of at most 1 - confidence.
- The bound is on the FPR over all slices together, for clicks mixed as in the sample. It assumes that purchasing clicks
  are independent. Those of one person are not, so for a strict bound mark only one click of each person as human.
- The demand for coverage is then met on the clicks that are not held out.

Where there are `earlier` clicks, such as those that the model has learned, none need be held out: their purchasing
clicks choose, and all later ones test. The scores of clicks that a model has learned flatter it, which may lead to a
worse family, but the test stays valid. A global threshold needs neither: its family is all thresholds, which is fixed
beforehand, so every purchasing click can test it.

Source: the problem and the quadratic are those of Muralidhar, Chitlangia, Agarwal, Ahmed, "Real-time detection of
robotic traffic in online advertising", IAAI 2023, which does not say over which range it fits. The envelope, the pools
and the rounding are ours. The confidence follows Bates, Angelopoulos, Lei, Malik, Jordan, "Distribution-free,
risk-controlling prediction sets", J. ACM 2021, and Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then test", 2021
(a fixed sequence of hypotheses). The bound of Clopper, Pearson 1934 replaces theirs, since the counts are binomial.
"""

import bisect
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from onlineguard.errors import CheckpointError, InfeasibleBudget, InvalidArgument
from onlineguard.slidr.thresholds.allocation import Allocation, Envelope, Quadratic, whole_points
from onlineguard.slidr.thresholds.metrics import (
    HitRate,
    Points,
    as_codes,
    as_marks,
    as_scores,
    clopper_pearson,
    coverage,
    fpr,
    ivr,
)

MIN_PURCHASES = 300  # with fewer, a slice loses more to chance than it gains by its own threshold (`bench_slidr`)
REACH = 10.0  # a quadratic is fitted and used up to ten budgets, or ten purchasing clicks, beyond the lower bound
NEVER = float(np.finfo(np.float64).max)  # a threshold that nothing exceeds, and that JSON can hold
STEPS = 8  # steps of the nominal budget for one purchasing click
SHOWN = 10  # slices that the message about an infeasible demand lists

Method = Literal["envelope", "quadratic", "global", "knee"]
Marks = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Calibration:
    """Thresholds, and their rates on the clicks that they were chosen on."""

    method: Method
    budget: float | None  # on the FPR over all slices; None at the knee
    confidence: float | None
    names: tuple[str, ...]  # of the slices
    thresholds: Float[np.ndarray, " slices"]
    default: float  # of any other slice: the global threshold, without a demand for coverage if slices have their own
    pools: Int[np.ndarray, " slices"]  # slices with the same number share a threshold
    ivr: HitRate  # of each slice, all clicks counted; `.total` is over all
    fpr: HitRate
    coverage: HitRate
    # The next three are None where the method does not have them.
    multiplier: float | None  # clicks that one more purchasing click would mark, by the slices' curves
    ivr_limit: float | None  # no thresholds with these pools have a higher IVR on the sample
    fpr_bound: float | None  # with a confidence: the upper bound of the FPR over all slices, by the tested clicks

    def robotic(self, p_robot: Float[np.ndarray, " n"], slice_ids: Integer[np.ndarray, " n"]) -> Marks:
        """Whether each click is robotic. A score of NaN is not. A code outside the slices has the default threshold.

        Give scores in the precision that they were calibrated in: a float32 is compared as the float64 of that value.
        """
        codes = np.asarray(slice_ids)
        known = (codes >= 0) & (codes < len(self.thresholds))
        return np.asarray(p_robot) > np.where(known, self.thresholds[np.where(known, codes, 0)], self.default)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, as JSON can hold them; every threshold is finite."""
        plain: dict[str, Any] = dict(vars(self))
        plain.update(names=list(self.names), thresholds=self.thresholds.tolist(), pools=self.pools.tolist())
        for name in ("ivr", "fpr", "coverage"):
            rate: HitRate = plain[name]
            plain[name] = {"hits": rate.hits.tolist(), "trials": rate.trials.tolist()}
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Calibration":
        """The calibration that `to_dict` was called on; raises CheckpointError for anything it cannot have returned."""
        try:
            fields = {name: plain[name] for name in cls.__dataclass_fields__}
            fields["names"] = tuple(fields["names"])
            fields["thresholds"] = np.array(fields["thresholds"], np.float64)
            fields["pools"] = np.array(fields["pools"], np.int64)
            for name in ("ivr", "fpr", "coverage"):
                hits, trials = (np.array(fields[name][part], np.int64) for part in ("hits", "trials"))
                fields[name] = HitRate(hits, trials)
            lengths = {len(fields[name]) for name in ("names", "thresholds", "pools")}
            lengths |= {len(counts) for name in ("ivr", "fpr", "coverage") for counts in vars(fields[name]).values()}
            if len(lengths) > 1 or lengths == {0}:
                raise CheckpointError("the calibration's lists are empty or differ in length")
            if not np.isfinite([*fields["thresholds"], fields["default"]]).all():
                raise CheckpointError("a threshold of the calibration is not finite")
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"this is no calibration: {type(error).__name__} {error}") from error
        return cls(**fields)


def calibrate(
    p_robot: Float[np.ndarray, " n"],
    slice_ids: Integer[np.ndarray, " n"],
    human: Marks,
    heavy: Marks | None = None,
    *,
    budget: float = 0.01,
    min_coverage: float | Float[np.ndarray, " slices"] = 0.0,
    method: Method = "envelope",
    confidence: float | None = None,
    names: Sequence[str] | None = None,
    parents: Sequence[Integer[np.ndarray, " slices"]] = (),
    min_purchases: int = MIN_PURCHASES,
    held_out: float = 0.5,
    earlier: Marks | None = None,
    seed: int = 0,
) -> Calibration:
    """Choose the thresholds, as the module explains. A budget of 0 marks only clicks above every purchasing click.

    p_robot: any finite scores, higher for robots. Only their order matters, and equal scores are decided alike.
    slice_ids: codes from 0 on. `names` are the names of the slices; its length is their number.
    human: the purchasing clicks, at least one.
    heavy: the clicks of `metrics.heavy_sessions`.
    budget: highest FPR over all slices together, 0 to 1.
    min_coverage: least robotic coverage, one number for every slice or one for each. A slice without heavy clicks is
        free of it.
    parents: coarser and coarser groups in which slices are pooled, one code for each slice; `parents_of` makes them.
    confidence: the probability with which the budget holds for the true FPR. `held_out` and `seed` belong to it.
    earlier: with a confidence, the clicks whose purchases choose the thresholds. All others then test them, and nothing
        is held out. The rates of the result are those of the others.

    Raises InfeasibleBudget, naming slices and the FPR each needs, where the demand for coverage exceeds the budget or
    the clicks are too few for the confidence. Raises InvalidArgument for anything malformed.
    """
    scores = as_scores(p_robot)
    human = as_marks(human, "human", len(scores))
    heavy = np.zeros(len(scores), bool) if heavy is None else as_marks(heavy, "heavy", len(scores))
    codes, n_slices = as_codes(slice_ids, len(scores), None if names is None else len(names))
    names = tuple(str(code) for code in range(n_slices)) if names is None else tuple(names)
    needed = np.asarray(min_coverage, np.float64)
    _check(budget, needed, n_slices, method, confidence, parents, min_purchases, held_out)
    whole = method in ("global", "knee")
    if earlier is not None:
        earlier = as_marks(earlier, "earlier", len(scores))
        if confidence is None:
            raise InvalidArgument("earlier is for thresholds with a confidence; give one, or leave earlier out")
        if whole or not (human & earlier).any():
            scores, codes, human, heavy = (values[~earlier] for values in (scores, codes, human, heavy))
            earlier = None
    if not (human if earlier is None else human & ~earlier).any():
        raise InvalidArgument("human marks no click; without a purchasing click there is no false-positive rate")

    if whole:
        tested = human
    elif earlier is not None:
        tested = human & ~earlier
    else:
        tested = _drawn(human, 0.0 if confidence is None else held_out, seed)
    used = np.ones(len(scores), bool) if whole else ~tested
    n_purchases = np.bincount(codes[used & human], minlength=n_slices)
    pools = np.zeros(n_slices, np.int64) if whole else pool(n_purchases, min_purchases, parents)
    charged = confidence is not None and not whole
    points = _points(scores[used], human[used], pools[codes[used]], charged)
    below = np.full(int(pools.max()) + 1, np.inf)  # a pool's threshold must lie below this to meet its coverage
    np.minimum.at(below, pools, _below(scores[used & heavy], codes[used & heavy], needed, n_slices))
    points = points.where(points.thresholds < below[points.group])

    people = _People(scores[human], pools[codes[human]], tested[human], budget, confidence)
    multiplier = limit = bound = None
    if method == "knee":
        at = np.argmax(points.clicks / points.clicks[-1] - points.humans / points.humans[-1])
        of_pool = points.thresholds[[at]]
    else:
        family = _Family(points, method, budget, (scores[used], pools[codes[used]]) if charged else None)
        if not people.allow(family.thresholds(family.least)):
            raise _infeasible(people, family.thresholds(family.least), below, pools, names)
        if method == "envelope" and confidence is None:
            nominal = float(people.most)
            of_pool, most = family.best(people.most)
            limit = most / len(scores)
        else:
            steps = range(1, STEPS * (family.largest - family.least) + 1)
            allowed = bisect.bisect_left(
                steps, True, key=lambda step: not people.allow(family.thresholds(family.least + step / STEPS))
            )
            nominal = family.least + allowed / STEPS
            of_pool = family.thresholds(nominal)
            nominal = nominal if charged else float(people.most)
            bound = None if confidence is None else people.bound(of_pool)
        if not whole:
            multiplier = family.split(nominal).multiplier * int(n_purchases.sum()) / len(people.scores)

    thresholds = of_pool[pools]
    if earlier is not None:
        scores, codes, human, heavy = (values[~earlier] for values in (scores, codes, human, heavy))
    robotic = scores > thresholds[codes]
    return Calibration(
        method=method,
        budget=None if method == "knee" else budget,
        confidence=confidence,
        names=names,
        thresholds=thresholds,
        default=float(of_pool[0]) if whole else _global_threshold(scores, human, budget, confidence),
        pools=pools,
        ivr=ivr(robotic, codes, n_slices),
        fpr=fpr(robotic, human, codes, n_slices),
        coverage=coverage(robotic, heavy, codes, n_slices),
        multiplier=multiplier,
        ivr_limit=limit,
        fpr_bound=bound,
    )


def pool(
    n_purchases: Int[np.ndarray, " slices"],
    min_purchases: int,
    parents: Sequence[Integer[np.ndarray, " slices"]] = (),
) -> Int[np.ndarray, " slices"]:
    """The number of each slice's pool. A slice with `min_purchases` purchasing clicks or more has a pool of its own.

    The levels are `parents`, the finest first, and at last all slices together. On each level, the slices and pools
    under one parent that are too small become one pool. If it is still too small, it joins the smallest pool under the
    same parent that is large enough. If there is none, it waits for the next level. So a pool is too small only if all
    clicks together are.

    >>> pool(np.array([500, 20, 90, 300, 5]), 100, [np.array([0, 0, 0, 1, 1])]).tolist()
    [0, 1, 1, 2, 2]
    """
    head = np.arange(len(n_purchases))  # the slice that a slice's pool is named by
    for parent in (*parents, np.zeros(len(head), np.int64)):
        size = np.bincount(head, n_purchases, len(head))
        heads = np.unique(head)
        small, large = heads[size[heads] < min_purchases], heads[size[heads] >= min_purchases]
        if not len(small):
            break
        _, group = np.unique(parent, return_inverse=True)
        n_groups = int(group.max()) + 1
        target = np.full(n_groups, len(head))
        np.minimum.at(target, group[small], small)
        together = np.bincount(group[small], size[small], n_groups)
        large = large[np.lexsort((size[large], group[large]))]
        groups, smallest = np.unique(group[large], return_index=True)
        joins = groups[together[groups] < min_purchases]
        target[joins] = large[smallest[together[groups] < min_purchases]]
        renamed = np.arange(len(head))
        renamed[small] = target[group[small]]
        head = renamed[head]
    return np.unique(head, return_inverse=True)[1]


def parents_of(keys: Iterable[Sequence[Hashable]]) -> list[Int[np.ndarray, " slices"]]:
    """Parents for slices with keys such as (device, marketplace, logged in).

    On the first level, slices share a parent if all but the last part is equal; on the next, all but the last two; and
    so on.

    >>> [codes.tolist() for codes in parents_of([("phone", "US", True), ("phone", "US", False), ("phone", "DE", True)])]
    [[0, 0, 1], [0, 0, 0]]
    """
    rows = [tuple(key) for key in keys]
    if len({len(row) for row in rows}) > 1:
        raise InvalidArgument("keys differ in length; give every slice the same parts")
    parents: list[np.ndarray] = []
    for parts in range(len(rows[0]) - 1 if rows else 0, 0, -1):
        number: dict[tuple[Hashable, ...], int] = {}
        parents.append(np.array([number.setdefault(row[:parts], len(number)) for row in rows]))
    return parents


class _Family:
    """The thresholds of all pools as a function of a nominal budget in purchasing clicks. A larger one raises none.

    With `between`, the scores of all clicks and their pools, a threshold may also lie between two points: a fraction of
    a purchasing click lowers it by that fraction of the clicks up to the next point.
    """

    def __init__(
        self,
        points: Points,
        method: Method,
        budget: float,
        between: tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]] | None = None,
    ):
        first = np.diff(points.group, prepend=-1) != 0
        self.least = int(points.humans[first].sum())
        self.largest = int(points.humans[np.diff(points.group, append=-1) != 0].sum())
        self._first = points.humans[first].astype(np.float64)
        self._points, self._width = points, int(points.humans.max()) + 1
        self._place = points.group * self._width + points.humans  # ascending
        if method == "envelope":
            self._problem = Envelope(points.group, points.humans.astype(np.float64), points.clicks.astype(np.float64))
        else:
            start = points if between is None else points.where(points.clicks > 0)
            self._problem = None if method == "global" else _quadratics(start, budget)
        self._ranked = self._start = None
        if between is not None:
            scores, pools = between
            self._ranked = scores[np.lexsort((-scores, pools))]
            count = np.bincount(pools)
            self._start = np.cumsum(count) - count

    def split(self, nominal: float) -> Allocation:
        """The share of a nominal budget that each pool gets, in purchasing clicks, fractions included."""
        if self._problem is None:
            return Allocation(np.array([nominal]), 0.0, 0.0)
        if nominal >= self._problem.least or self._problem.least <= self.least:
            return self._problem.at(nominal)
        # A quadratic starts by marking the clicks above every purchasing click. Below that budget, all pools get the
        # same part of it.
        part = (nominal - self.least) / (self._problem.least - self.least)
        start = self._problem.at(self._problem.least)
        return Allocation(self._first + part * (start.spend - self._first), start.multiplier, part * start.gain)

    def thresholds(self, nominal: float) -> Float[np.ndarray, " pools"]:
        """The lowest thresholds that mark no more than each pool gets."""
        spend = self.split(nominal).spend + 1e-6  # so that rounding errors do not lose a whole purchasing click
        at, points = self._rounded(spend), self._points
        if self._ranked is None or self._start is None:
            return points.thresholds[at]
        after = np.minimum(at + 1, len(points.group) - 1)
        after = np.where(points.group[after] == points.group[at], after, at)
        part = (spend - points.humans[at]) / np.maximum(points.humans[after] - points.humans[at], 1)
        further = np.floor(part * (points.clicks[after] - points.clicks[at])).astype(np.int64)
        lowered = self._ranked[self._start + np.where(further > 0, points.clicks[at] + further, 0)]
        return np.where(further > 0, lowered, points.thresholds[at])

    def best(self, budget: int) -> tuple[Float[np.ndarray, " pools"], float]:
        """The thresholds that mark the most clicks within a real budget, and a number of clicks that none can
        exceed."""
        split, points = self.split(float(budget)), self._points
        at = self._rounded(split.spend + 1e-6)
        return points.thresholds[
            whole_points(points.group, points.humans, points.clicks, budget, at, split)
        ], split.gain

    def _rounded(self, spend: Float[np.ndarray, " pools"]) -> Int[np.ndarray, " pools"]:
        whole = np.minimum(spend.astype(np.int64), self._width - 1)
        return np.searchsorted(self._place, np.arange(len(spend)) * self._width + whole, side="right") - 1


class _People:
    """The purchasing clicks, and the number of them that thresholds may mark."""

    def __init__(
        self,
        scores: Float[np.ndarray, " purchases"],
        pools: Int[np.ndarray, " purchases"],
        tested: Bool[np.ndarray, " purchases"],
        budget: float,
        confidence: float | None,
    ):
        self.scores, self.pools, self.tested, self.budget, self.confidence = scores, pools, tested, budget, confidence
        self.most = _most(budget, len(scores))
        self.most_tested = len(scores) if confidence is None else _most_shown(budget, int(tested.sum()), confidence)

    def marked(self, thresholds: Float[np.ndarray, " pools"]) -> Bool[np.ndarray, " purchases"]:
        return self.scores > thresholds[self.pools]

    def allow(self, thresholds: Float[np.ndarray, " pools"]) -> bool:
        marked = self.marked(thresholds)
        return int(marked.sum()) <= self.most and int((marked & self.tested).sum()) <= self.most_tested

    def bound(self, thresholds: Float[np.ndarray, " pools"]) -> float:
        """The upper bound of the FPR by the tested clicks; without a confidence, the FPR of the sample."""
        marked = self.marked(thresholds)
        if self.confidence is None:
            return float(marked.mean())
        return _upper(int((marked & self.tested).sum()), int(self.tested.sum()), self.confidence)


def _drawn(human: Marks, share: float, seed: int) -> Marks:
    """A random share of the purchasing clicks, rounded down."""
    at = np.flatnonzero(human)
    drawn = np.zeros(len(human), bool)
    drawn[np.random.default_rng(seed).permutation(at)[: math.floor(share * len(at))]] = True
    return drawn


def _points(scores: Float[np.ndarray, " n"], human: Marks, groups: Int[np.ndarray, " n"], charged: bool) -> Points:
    """Every pool's curve. If charged, one more purchasing click is counted wherever anything is marked.

    If k of n purchasing clicks are marked, a share (k + 1) / (n + 1) of new ones is to be expected.
    """
    points = Points.of(scores, human, groups)
    if not charged:
        return points.where(np.diff(points.group * (len(scores) + 1) + points.humans, append=-1) != 0)
    some = points.clicks > 0
    return Points(points.group, np.where(some, points.thresholds, NEVER), points.humans + some, points.clicks)


def _below(
    scores: Float[np.ndarray, " heavy"],
    codes: Int[np.ndarray, " heavy"],
    needed: Float[np.ndarray, " ..."],
    n_slices: int,
) -> Float[np.ndarray, " slices"]:
    """The score that a slice's threshold must lie below to reach its coverage; infinite if none is demanded."""
    order = np.lexsort((-scores, codes))
    count = np.bincount(codes, minlength=n_slices)
    rank = np.ceil(needed * count - 1e-9).astype(np.int64)  # the number of heavy clicks that must be marked
    asking = np.flatnonzero(rank > 0)
    below = np.full(n_slices, np.inf)
    below[asking] = scores[order][(np.cumsum(count) - count + rank - 1)[asking]]
    return below


def _quadratics(points: Points, budget: float) -> Quadratic:
    """The concave quadratic that fits each pool's points best by least squares, over the range that it is used in.

    It is fitted in orthogonal powers of the FPR. Where the best fit is convex, the best straight line takes its place.
    """
    group = points.group
    first, last = np.diff(group, prepend=-1) != 0, np.diff(group, append=-1) != 0
    purchases, clicks = points.humans[last].astype(np.float64), points.clicks[last].astype(np.float64)
    lower = points.humans[first] / purchases
    upper = np.minimum(1.0, lower + REACH * np.maximum(budget, 1.0 / purchases))
    width = np.where(upper > lower, upper - lower, 1.0)

    f = points.humans / purchases[group]
    inside = f <= upper[group]
    group, f, rate = group[inside], f[inside], (points.clicks / clicks[points.group])[inside]
    n_points = np.bincount(group)

    def mean(values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " pools"]:
        return np.bincount(group, values) / n_points

    def ratio(x: Float[np.ndarray, " pools"], y: Float[np.ndarray, " pools"]) -> Float[np.ndarray, " pools"]:
        enough = y > 1e-12  # otherwise there are too few points
        return np.where(enough, x / np.where(enough, y, 1.0), 0.0)

    z = (f - lower[group]) / width[group]
    center = mean(z)
    z = z - center[group]
    spread = mean(z**2)
    skew = ratio(mean(z**3), spread)
    square = z**2 - spread[group] - skew[group] * z
    slope, bend = ratio(mean(z * rate), spread), np.minimum(ratio(mean(square * rate), mean(square**2)), 0.0)
    a = bend / width**2
    b = (slope - bend * (2.0 * center + skew)) / width - 2.0 * a * lower
    return Quadratic(a, b, clicks, purchases, lower, upper)


def _global_threshold(scores: Float[np.ndarray, " n"], human: Marks, budget: float, confidence: float | None) -> float:
    """The lowest single threshold that keeps the budget; NEVER if the clicks are too few to show that any does."""
    purchasing = np.sort(scores[human])[::-1]
    most = _most(budget, len(purchasing))
    if confidence is not None:
        most = min(most, _most_shown(budget, len(purchasing), confidence))
    if most < 0:
        return NEVER
    return float(np.nextafter(scores.min(), -np.inf) if most == len(purchasing) else purchasing[most])


def _most(budget: float, n: int) -> int:
    """The largest count of n whose share is within the budget, also after rounding."""
    return bisect.bisect_right(range(n + 1), budget, key=lambda k: k / n) - 1


def _most_shown(budget: float, n: int, confidence: float) -> int:
    """The largest count of n whose upper bound is within the budget; -1 if that of 0 is not."""
    return bisect.bisect_right(range(n + 1), budget, key=lambda k: _upper(k, n, confidence)) - 1


def _upper(k: int, n: int, confidence: float) -> float:
    """One-sided upper bound of a binomial share: the upper end of the two-sided interval with twice the error."""
    return float(clopper_pearson(k, n, 2.0 * confidence - 1.0)[1])


def _infeasible(
    people: _People,
    thresholds: Float[np.ndarray, " pools"],
    below: Float[np.ndarray, " pools"],
    pools: Int[np.ndarray, " slices"],
    names: Sequence[str],
) -> InfeasibleBudget:
    """The error for thresholds that are as high as coverage allows, and still too low for the budget."""
    n_tested, confidence = int(people.tested.sum()), people.confidence
    if people.most_tested < 0 and confidence is not None:
        least = _upper(0, n_tested, confidence)
        return InfeasibleBudget(
            f"budget is {people.budget:g} at confidence {confidence:g}; {n_tested} purchasing clicks to test it on "
            f"show at best {least:.3g}: give more purchasing clicks, raise budget or lower confidence",
            {},
            least,
        )
    marked = np.bincount(people.pools[people.marked(thresholds)], minlength=len(below))
    of_pool = marked / np.maximum(np.bincount(people.pools, minlength=len(below)), 1)
    members: dict[int, list[str]] = {}
    for number, name in zip(pools.tolist(), names, strict=True):
        members.setdefault(number, []).append(name)
    asking = [g for g in np.argsort(-marked, kind="stable").tolist() if marked[g] and np.isfinite(below[g])]
    asks = {" + ".join(members[g]): float(of_pool[g]) for g in asking}
    listed = [f"{name} an FPR of {rate:.3g}" for name, rate in list(asks.items())[:SHOWN]]
    more = f", and {len(asks) - SHOWN} more" if len(asks) > SHOWN else ""
    least = max(float(people.marked(thresholds).mean()), people.bound(thresholds))
    sure = "" if confidence is None else f" at confidence {confidence:g}"
    return InfeasibleBudget(
        f"budget is {people.budget:g}{sure}; min_coverage needs at least {least:.6g} over all: {', '.join(listed)}"
        f"{more}. Raise budget to that, or lower min_coverage",
        asks,
        least,
    )


def _check(
    budget: float,
    needed: Float[np.ndarray, " ..."],
    n_slices: int,
    method: str,
    confidence: float | None,
    parents: Sequence[Integer[np.ndarray, " slices"]],
    min_purchases: int,
    held_out: float,
) -> None:
    if method not in get_args(Method):
        raise InvalidArgument("method", f"is {method!r}; it must be one of {', '.join(get_args(Method))}")
    if not 0.0 <= budget <= 1.0:
        raise InvalidArgument("budget", f"is {budget!r}; it must lie between 0 and 1, e.g. 0.01")
    if needed.shape not in ((), (n_slices,)) or not np.all((needed >= 0.0) & (needed <= 1.0)):
        raise InvalidArgument(
            "min_coverage",
            f"of shape {needed.shape} must be a number, or one for each of the {n_slices} slices, "
            "all of them between 0 and 1",
        )
    if confidence is not None and not 0.5 < confidence < 1.0:
        raise InvalidArgument(
            "confidence", f"is {confidence!r}; it must lie strictly between 0.5 and 1, e.g. 0.95, or be None"
        )
    if confidence is not None and method == "knee":
        raise InvalidArgument("confidence", 'is about the budget, which method="knee" does not look at; leave it out')
    if not min_purchases >= 1:
        raise InvalidArgument(
            "min_purchases", f"is {min_purchases!r}; it must be 1 or more: a slice without any has no curve"
        )
    if not 0.0 < held_out < 1.0:
        raise InvalidArgument(f"held_out is {held_out!r}; it must lie strictly between 0 and 1, e.g. 0.5")
    finer = np.arange(n_slices)
    for level, parent in enumerate(parents):
        if np.shape(parent) != (n_slices,):
            raise InvalidArgument(
                f"parents[{level}] has shape {np.shape(parent)}; it must be ({n_slices},), one code a slice"
            )
        pairs = np.unique(np.stack([finer, parent]), axis=1)
        if pairs.shape[1] > len(np.unique(finer)):
            raise InvalidArgument(
                f"parents[{level}] parts slices that the level before puts together; give coarser ones"
            )
        finer = parent
