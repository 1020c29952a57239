"""What marking a slice's highest scores is expected to cost, by its own and by all purchases.

A slice has few purchasing clicks above a threshold worth choosing: 1 % of 300 is three. Thresholds chosen by such
counts follow chance, so they mark more of later purchases than of those that chose them, and a slice loses more than it
gains by a threshold of its own. So every slice borrows from all clicks, and the more, the less it has itself.

1. **The rate of all clicks.** The share of clicks at a score that purchase, over all slices. It is found in shells of
   the clicks by rank, which hold 5 purchases at the top and ever more below. Shells that do not fall with the score are
   pooled, and a line on a log scale goes through the middles of what is left. Where a pool were level, any split of it
   among the slices would look the same, and the first slice would get all.
2. **The slice's habit.** People of some slices hardly ever buy: children, screens in shops. Few purchases at the top
   then look as if few people were there. So purchases are held against the slice's own habit: of all its clicks, most
   of them with low scores, the multiple of the expected purchases that it has, drawn to 1 as in step 3. r is the rate
   times the habit, and a slice that scores as all others do has E_s(t) = sum of r over its clicks above t.
3. **How much slices differ.** Above the score that one purchase in ten exceeds, slice s has K_s of E_s expected ones.
   If its rate is a multiple of r that is drawn from a gamma distribution with mean 1 and variance 1 / m, the counts of
   all slices tell m by their likelihood.
4. **The slice's multiple**, drawn to 1: rho_s = (K_s + 2 m) / (E_s + 2 m).
5. **The slice's curve**, drawn to that multiple, and counted in people who buy as often as all do:

       cost_s(t) = E_s(t) (K_s(t) + 4 m rho_s) / (E_s(t) + 4 m) / habit_s

A slice without purchases costs what its clicks would cost elsewhere: whether it is full of robots, or of people who do
not buy, nobody can tell. A slice with very many purchases costs what it has, and where slices do not differ but in
their habits, all of them come to share one threshold. Costs rise as the threshold falls.

The factors 2 and 4 make up for choosing: a budget goes where costs look low, which is where chance made them low. They
stand on a plateau. On simulated scores of 8 and 30 slices, alike and different, with 1,100 and 7,500 purchases, and on
simulated traffic, recall at a true FPR of 1 % changes by .01 at most with 4 and 8. What habits are worth, and what was
tried instead, is in `benchmarks/README.md`.

Source: the multiples are those of Clayton, Kaldor, "Empirical Bayes estimates of age-standardized relative risks",
Biometrics 1987, where E is a district's expected and K its observed cases. The levels and the factors are ours.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from onlineguard.slidr.thresholds import evidence

PART = 1_000_000  # clicks whose curves are drawn at once, apart from larger slices: it takes some 150 MB
WIDE = 0.1  # share of the purchases by which slices are compared: ten times a budget of 1 %, so ten times the counts
FIRST, SHELLS = 5, 40  # purchases in the highest shell; shells at most
LIKE_ALL, LIKE_ITSELF = 2.0, 4.0  # the factors of m in rho and in the curve
STRENGTHS = np.geomspace(0.3, 10_000.0, 60)  # values of m that are tried: slices that differ threefold to by 1 %
NEVER = float(np.finfo(np.float32).max)  # a threshold that no score exceeds, and that JSON and float32 can hold

Slices = Float[np.ndarray, " slices"]


@dataclass(frozen=True)
class Curves:
    """The curves of several groups of clicks, one after the other, from marking nothing to marking everything."""

    group: Int[np.ndarray, " m"]  # from 0 on, ascending, none left out
    thresholds: Float[np.ndarray, " m"]  # descending within a group; its first is NEVER
    cost: Float[np.ndarray, " m"]  # people above the threshold, in purchasing clicks; rises strictly within a group
    clicks: Float[np.ndarray, " m"]  # clicks above it; rises
    fpr: Float[
        np.ndarray, " m"
    ]  # upper bound of the cost at the confidence asked for; infinite where it was not looked at

    def where(self, chosen: Bool[np.ndarray, " m"] | Int[np.ndarray, " k"]) -> "Curves":
        """Only these points, by a mask or by their positions."""
        return Curves(*(of[chosen] for of in vars(self).values()))


def shrunk(
    scores: Float[np.ndarray, " n"],
    human: Bool[np.ndarray, " n"],
    codes: Int[np.ndarray, " n"],
    n_slices: int,
    confidence: float | None = None,
    cap: float = 1.0,
    wanted: Callable[[Curves], Bool[np.ndarray, " m"]] | None = None,
) -> Curves:
    """The curve of every slice as the module explains it, and after them, as group `n_slices`, that of all clicks.

    wanted: which points are kept, by the curves of some slices at a time; by default all, which for weeks of clicks
        take gigabytes.

    A slice's FPR is its cost divided by its purchases, both drawn to those of all. With a confidence it is an upper
    bound:

    - of a slice with purchases enough to show the cap, the exact bound by its own purchases alone;
    - of any other, by the quantile of its cost under the gamma distribution that its multiple has after its counts,
      beginning with m rho and m. This m is that of the purchases within the cap, if it is smaller, since slices differ
      more at the top.

    The last is for slices that have no clicks here. It is so light that it takes nothing of a budget. A slice without
    clicks has only the point that marks nothing. There must be a purchase.
    """
    rate = _common_rate(scores, human)
    falling = np.argsort(-scores, kind="stable")  # so that sums do not depend on the order of the clicks
    ranked = np.sort(scores[human])[::-1]

    def counts(highest: Int[np.ndarray, " k"]) -> list[Slices]:
        """Purchases of every slice among these clicks, by the common rate and seen."""
        return [np.bincount(codes[highest], of[highest], n_slices) for of in (rate, human)]

    habit = _habit(*counts(falling))

    def above(part: float) -> tuple[Slices, Slices]:
        """Expected and seen purchases of every slice above the score that this part of all purchases exceeds."""
        threshold = ranked[min(int(part * len(ranked)), len(ranked) - 1)]
        expected, seen = counts(falling[: np.count_nonzero(scores > threshold)])
        return expected * habit, seen

    expected, seen = above(WIDE)
    m = _strength(expected, seen)
    multiple = (seen + LIKE_ALL * m) / (expected + LIKE_ALL * m)
    loose = min(m, _strength(*above(min(cap, WIDE))))
    found: list[Curves] = []

    def keep(groups: range, curves: Curves) -> None:
        curves = _from_nothing(groups, curves)
        found.append(curves if wanted is None else curves.where(wanted(curves)))

    for slices in _together(np.bincount(codes, minlength=n_slices)):
        at = np.flatnonzero((codes >= slices.start) & (codes < slices.stop))
        order = at[np.lexsort((-scores[at], codes[at]))]
        keep(slices, _of_slices(scores, human, codes, rate, habit, order, m, multiple, loose, confidence, cap))
    keep(range(n_slices, n_slices + 1), _light(scores, rate, falling, n_slices, 1.0 if wanted is None else cap))
    columns = zip(*(vars(part).values() for part in found), strict=True)
    return Curves(*(np.concatenate(column) for column in columns))


def _light(
    scores: Float[np.ndarray, " n"],
    rate: Float[np.ndarray, " n"],
    order: Int[np.ndarray, " n"],
    group: int,
    most: float,
) -> Curves:
    """The curve of all clicks together, which takes nothing of a budget, up to one point beyond an FPR of `most`."""
    light = 1e-9 / len(scores)
    cost = np.cumsum(rate[order])
    cost *= light
    share = cost / cost[-1]
    near = slice(int(np.searchsorted(share, most, side="right")) + 1)
    clicks = light * (np.arange(len(order[near])) + 1)
    return _by_threshold(np.full(len(clicks), group), scores[order[near]], cost[near], clicks, share[near])


def _together(clicks: Int[np.ndarray, " slices"]) -> list[range]:
    """The slices in their order, cut into runs with about `PART` clicks each."""
    part = (np.cumsum(clicks) - clicks) // PART
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    return [range(*pair) for pair in itertools.pairwise([*starts, len(clicks)])]


def _of_slices(
    scores: Float[np.ndarray, " n"],
    human: Bool[np.ndarray, " n"],
    codes: Int[np.ndarray, " n"],
    rate: Float[np.ndarray, " n"],
    habit: Slices,
    order: Int[np.ndarray, " m"],
    m: float,
    multiple: Slices,
    loose: float,
    confidence: float | None,
    cap: float,
) -> Curves:
    """The curves of some slices, whose clicks are in this order: by slice, and by falling score."""
    mine = codes[order]
    first = np.flatnonzero(np.diff(mine, prepend=-1))
    before = np.repeat(first, np.diff(np.append(first, len(order))))  # where the click's slice begins
    e, k = _sums(rate[order] * habit[mine], before), _sums(human[order], before)
    prior = LIKE_ITSELF * m
    cost = e * (k + prior * multiple[mine]) / (e + prior)
    size = np.diff(np.append(first, len(order)))
    every = before + np.repeat(size, size) - 1  # where all of the slice is marked
    bought = k[every]
    share = cost / (e[every] * (bought + loose) / (e[every] + loose))
    if confidence is not None:
        from scipy import special  # not at the top: a service starts without it

        near = share <= cap
        at_most = special.gammaincinv(k[near] + loose * multiple[mine[near]], confidence) / (e[near] + loose)
        share[near] *= np.maximum(1.0, at_most * e[near] / cost[near])
        own = bought >= evidence.enough(cap, confidence)  # these can speak for themselves
        share[own] = k[own] / bought[own]
        near = own & (share <= cap)
        if near.any():
            (hits, of), which = np.unique(np.stack([k[near], bought[near]]), axis=1, return_inverse=True)
            share[near] = evidence.upper(hits, of, confidence)[which]
    return _by_threshold(mine, scores[order], cost / habit[mine], np.arange(1, len(order) + 1) - before, share)


def counted(scores: Float[np.ndarray, " n"], human: Bool[np.ndarray, " n"]) -> Curves:
    """The curve of all clicks together as one group, by their own purchases."""
    order = np.argsort(-scores, kind="stable")
    cost = np.cumsum(human[order], dtype=float)
    whole = np.zeros(len(order), np.int32)
    every = _by_threshold(whole, scores[order], cost, np.arange(len(order)) + 1, cost / cost[-1])
    return _from_nothing(range(1), every)


def _from_nothing(groups: range, part: Curves) -> Curves:
    """The curves with a first point that marks nothing, and of points that cost the same only the lowest threshold."""
    zeros = np.zeros(len(groups))
    nothing = Curves(np.array(groups), np.full(len(groups), NEVER), zeros, zeros, zeros)
    columns = zip(*(vars(each).values() for each in (nothing, part)), strict=True)
    curves = Curves(*(np.concatenate(column) for column in columns))
    curves = curves.where(np.lexsort((curves.clicks, curves.group)))
    return curves.where((np.diff(curves.cost, append=np.inf) > 0) | (np.diff(curves.group, append=-1) != 0))


def _common_rate(scores: Float[np.ndarray, " n"], human: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The share of clicks with a click's score that purchase. It falls with the score, and its sum is the purchases."""
    from scipy.optimize import isotonic_regression  # not at the top: a service starts without it

    order = np.lexsort((human, -scores))
    n, purchases = len(human), np.flatnonzero(human[order])
    shells = np.unique(np.geomspace(min(FIRST, len(purchases)), len(purchases), SHELLS).round().astype(int))
    ends = np.append(purchases[shells[:-1] - 1] + 1, n)
    size, found = np.diff(ends, prepend=0).astype(float), np.diff(shells, prepend=0)
    pooled = isotonic_regression(found / size, weights=size)
    edges, first = np.append(0.0, ends)[pooled.blocks], pooled.blocks[:-1]
    middles, share = (edges[1:] + edges[:-1]) / 2, pooled.x[first]
    by_rank = np.empty(n)
    for start in range(0, n, PART):  # some at a time, for its memory
        ranks = np.arange(start, min(n, start + PART))
        by_rank[ranks] = np.exp(np.interp(ranks, middles, np.log(share)))
    part = len(purchases) / by_rank.sum()
    run = np.cumsum(np.diff(scores[order], prepend=np.inf) != 0, dtype=np.int32) - 1  # equal scores share their mean
    mean = np.bincount(run, by_rank)
    mean /= np.bincount(run)
    del by_rank
    rate = np.empty(n)
    for start in range(0, n, PART):
        some = slice(start, start + PART)
        rate[order[some]] = mean[run[some]] * part
    return rate


def _habit(expected: Slices, seen: Slices) -> Slices:
    """How often the people of every slice buy, as a multiple of all people's, drawn to 1 as the slices are alike."""
    m = _strength(expected, seen)
    return (seen + m) / (expected + m)


def _strength(expected: Slices, seen: Slices) -> float:
    """The m of the gamma distribution under which the counts of the slices are the most likely."""
    from scipy import special  # not at the top: a service starts without it

    e, k = expected[expected > 0], seen[expected > 0]
    if not len(e):
        return float(STRENGTHS[-1])
    e = e * (max(k.sum(), 1.0) / e.sum())
    likely = [
        (special.gammaln(k + m) - special.gammaln(m) - m * np.log1p(e / m) - k * np.log(e + m)).sum() for m in STRENGTHS
    ]
    return float(STRENGTHS[np.argmax(likely)])


def _sums(values: Float[np.ndarray, " n"], before: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Running sums that start anew where each click's slice begins."""
    total = np.append(0.0, np.cumsum(values, dtype=float))
    return np.maximum(total[1:] - total[before], 0.0)


def _by_threshold(
    group: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    cost: Float[np.ndarray, " n"],
    clicks: Float[np.ndarray, " n"],
    fpr: Float[np.ndarray, " n"],
) -> Curves:
    """One point for each run of equal scores: its threshold is the next score of its group, after the last -NEVER."""
    last = (np.diff(group, append=-1) != 0) | (np.diff(scores, append=np.nan) != 0)
    at = np.flatnonzero(last)
    below = np.append(scores[at[1:]], 0.0)
    below[np.diff(group[at], append=-1) != 0] = -NEVER
    return Curves(group[at], below, cost[at], clicks[at].astype(float), fpr[at])
