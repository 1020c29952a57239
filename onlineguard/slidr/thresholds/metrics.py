"""How good a set of decisions about clicks is: rates with exact intervals, IVR-FPR curves, and the knee of a curve.

A decision says of a click whether it is robotic. Without the truth, only purchases tell who was a person:

    IVR       = robotic clicks / clicks
    FPR       = robotic purchasing clicks / purchasing clicks
    coverage  = robotic clicks of heavy sessions / clicks of heavy sessions

FPR assumes that purchasing clicks are people's, and typical of people's. On simulated traffic the truth is known, so
`recall`, `precision` and `true_fpr` can be measured too. Every rate is over all clicks, or over each slice where slice
codes are given.

Source of the three measures: Chitlangia, Muralidhar, Agarwal, "Self-supervised pre-training for robotic traffic
detection", NeurIPS workshop 2022, by SLIDR's authors, on labels that are scarce.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from onlineguard.errors import InvalidArgument

HOUR_MS = 3_600_000
PART = 2_000_000  # clicks that sessions are told of at once
HEAVY = 20  # more clicks than this in an hour are no person's; ours, since the papers give no number

Marks = Bool[np.ndarray, " n"]
Codes = Integer[np.ndarray, " n"]


@dataclass(frozen=True)
class HitRate:
    """A share as two counts, hits of trials: two numbers, or two arrays with one entry for each slice."""

    hits: Int[np.ndarray, "*slices"]
    trials: Int[np.ndarray, "*slices"]

    @property
    def value(self) -> Float[np.ndarray, "*slices"]:
        """hits / trials, and NaN without trials."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.hits / np.asarray(self.trials, np.float64))

    @property
    def total(self) -> "HitRate":
        """The rate over all slices together."""
        return HitRate(np.asarray(np.sum(self.hits)), np.asarray(np.sum(self.trials)))

    def interval(self, level: float = 0.95) -> tuple[Float[np.ndarray, "*slices"], Float[np.ndarray, "*slices"]]:
        """The exact two-sided interval by `clopper_pearson`. It is 0 to 1 without trials."""
        return clopper_pearson(self.hits, self.trials, level)


@dataclass(frozen=True)
class Curve:
    """IVR and FPR at every threshold worth choosing, from marking nothing to marking everything.

    A click is robotic when its score is strictly greater than the threshold. A threshold is the score of some click, or
    lies just under the smallest score, so clicks with equal scores are always decided alike. Among thresholds with the
    same FPR, only the one with the highest IVR is listed, so there are at most purchases + 2. FPR and IVR rise along
    the curve.
    """

    thresholds: Float[np.ndarray, " m"]
    fpr: Float[np.ndarray, " m"]
    ivr: Float[np.ndarray, " m"]


def ivr(robotic: Marks, slice_ids: Codes | None = None, n_slices: int | None = None) -> HitRate:
    """Invalidation rate: the share of clicks marked as robotic."""
    return _rate(robotic, None, slice_ids, n_slices)


def fpr(robotic: Marks, human: Marks, slice_ids: Codes | None = None, n_slices: int | None = None) -> HitRate:
    """False-positive rate: the share of purchasing clicks (`human`) marked as robotic."""
    return _rate(robotic, human, slice_ids, n_slices)


def coverage(robotic: Marks, heavy: Marks, slice_ids: Codes | None = None, n_slices: int | None = None) -> HitRate:
    """Robotic coverage: the share of the clicks of `heavy_sessions` marked as robotic."""
    return _rate(robotic, heavy, slice_ids, n_slices)


def recall(robotic: Marks, robot: Marks, slice_ids: Codes | None = None, n_slices: int | None = None) -> HitRate:
    """Share of the robots' clicks marked as robotic; `robot` is the truth."""
    return _rate(robotic, robot, slice_ids, n_slices)


def precision(robotic: Marks, robot: Marks, slice_ids: Codes | None = None, n_slices: int | None = None) -> HitRate:
    """Share of the clicks marked as robotic that are robots'; `robot` is the truth."""
    return _rate(robot, robotic, slice_ids, n_slices)


def true_fpr(robotic: Marks, robot: Marks, slice_ids: Codes | None = None, n_slices: int | None = None) -> HitRate:
    """Share of people's clicks, purchasing or not, marked as robotic; `robot` is the truth."""
    return _rate(robotic, ~np.asarray(robot), slice_ids, n_slices)


def clopper_pearson(hits: Any, trials: Any, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval (low, high) of a binomial share, numbers or arrays.

    It holds the true share at least `level` of the time. Without trials it is 0 to 1. Without hits it starts at 0, and
    without misses it ends at 1. It assumes that clicks are independent. Those of one person are not, so with few people
    it is too narrow.

    Source: Clopper, Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 1934; the limits are quantiles of Beta(k, n - k + 1) and Beta(k + 1, n - k).

    >>> low, high = clopper_pearson(3, 100)
    >>> print(f"{low:.4f} to {high:.4f}")
    0.0062 to 0.0852
    """
    if not 0.0 < level < 1.0:
        raise InvalidArgument(f"level is {level!r}; it must lie strictly between 0 and 1, e.g. 0.95")
    k, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(trials, np.float64))
    if np.any(~(k >= 0) | ~(k <= n)):
        raise InvalidArgument("hits must lie between 0 and trials, and neither may be NaN; give counts")
    from scipy import special  # not at the top: a service starts without it

    tail = (1.0 - level) / 2.0
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1.0), n - k + 1.0, tail), 0.0)
    high = np.where(k < n, special.betaincinv(k + 1.0, np.maximum(n - k, 1.0), 1.0 - tail), 1.0)
    return low, high


def curve(p_robot: Float[np.ndarray, " n"], human: Marks) -> Curve:
    """The IVR-FPR curve of a set of clicks. FPR is NaN throughout if no click purchased."""
    scores, human = as_scores(p_robot), as_marks(human, "human", len(p_robot))
    points = Points.of(scores, human, np.zeros(len(scores), np.int64))
    with np.errstate(invalid="ignore"):
        return Curve(
            points.thresholds, points.humans / human.sum(dtype=np.float64), points.clicks / max(len(scores), 1)
        )


def knee(curve: Curve) -> int:
    """Index of the curve's knee: where IVR is farthest above FPR, and the first such point among equals.

    Both run from 0 to 1, so the knee is the point farthest above the line between the curve's ends. Raises
    InvalidArgument for a curve without purchases.

    Source: Satopää, Albrecht, Irwin, Raghavan, "Finding a kneedle in a haystack", ICDCS workshops 2011, without their
    smoothing, and with the highest of several knees.
    """
    if not len(curve.fpr) or np.isnan(curve.fpr).any():
        raise InvalidArgument("curve is of no purchasing clicks, so it has no false-positive rate and no knee")
    return int(np.argmax(curve.ivr - curve.fpr))


def heavy_sessions(sessions: Codes, ts: Int[np.ndarray, " n"], k: int = HEAVY) -> Marks:
    """Which clicks belong to a session with more than k clicks within some clock hour (UTC).

    `sessions` are codes. A negative one means that the click has no session, and such a click is never heavy. `ts` is
    in milliseconds since 1970. All clicks of a heavy session are marked, not only those of that hour. The clicks may
    come in any order.
    """
    sessions, ts = np.asarray(sessions), np.asarray(ts)
    if sessions.shape != ts.shape or sessions.ndim != 1:
        raise InvalidArgument(f"sessions {sessions.shape} and ts {ts.shape} must be of one length, one entry a click")
    heavy = np.zeros(len(sessions), bool)
    parts = -(-len(sessions) // PART)
    for part in range(parts):  # some sessions at a time, for its memory
        rows = np.flatnonzero((sessions >= 0) & (sessions % parts == part))
        mine, hours = sessions[rows], ts[rows] // HOUR_MS
        order = np.lexsort((hours, mine))
        changes = (np.diff(mine[order]) != 0) | (np.diff(hours[order]) != 0)
        first = np.flatnonzero(np.concatenate([[True], changes])[: len(order)])
        busy = np.diff(np.append(first, len(order))) > k
        heavy[rows] = np.isin(mine, mine[order[first[busy]]])
    return heavy


@dataclass(frozen=True)
class Points:
    """The curves of several groups of clicks, one after the other, as counts instead of rates. Arrays (m,)."""

    group: Int[np.ndarray, " m"]  # ascending
    thresholds: Float[np.ndarray, " m"]  # descending within a group
    humans: Int[np.ndarray, " m"]  # purchasing clicks above the threshold; ascending within a group
    clicks: Int[np.ndarray, " m"]  # all clicks above it; ascending

    @staticmethod
    def of(scores: Float[np.ndarray, " n"], human: Marks, groups: Codes) -> "Points":
        """The curves of all groups that have clicks, found by one sort of all clicks."""
        order = np.lexsort((-scores, groups))
        scores, human, groups = scores[order], human[order], groups[order]
        new_group = np.diff(groups, prepend=-1) != 0
        start = np.flatnonzero(new_group | (np.diff(scores, prepend=np.inf) != 0))  # of every run of equal scores
        end = np.append(start[1:], len(scores))
        of_run = groups[start]
        below = np.append(scores[start[1:]], 0.0)  # the threshold under a run is the score of the next run
        last = np.diff(of_run, append=-1) != 0
        below[last] = np.nextafter(scores[start[last]], -np.inf)

        head = np.flatnonzero(new_group[start])  # the first run of each group, before which nothing is marked
        before, humans = start[head], np.append(0, np.cumsum(human))
        rank = np.cumsum(new_group[start]) - 1
        every = Points(
            group=np.insert(of_run, head, of_run[head]),
            thresholds=np.insert(below, head, scores[before]),
            humans=np.insert(humans[end] - humans[before][rank], head, 0),
            clicks=np.insert(end - before[rank], head, 0),
        )
        nothing = np.insert(np.zeros(len(start), bool), head, True)
        best = (np.diff(every.group, append=-1) != 0) | (np.diff(every.humans, append=-1) != 0)
        return every.where(best | nothing)

    def where(self, mask: Bool[np.ndarray, " m"]) -> "Points":
        """Only these points."""
        return Points(self.group[mask], self.thresholds[mask], self.humans[mask], self.clicks[mask])


def as_scores(p_robot: Any) -> Float[np.ndarray, " n"]:
    """Scores as float64; raises InvalidArgument, naming the index, for one that is NaN or infinite."""
    try:
        scores = np.asarray(p_robot, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"p_robot cannot be read as numbers: {error}") from error
    if scores.ndim != 1:
        raise InvalidArgument(f"p_robot has shape {scores.shape}; it must be (n,), one score a click")
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise InvalidArgument(
            f"p_robot[{wrong[0]}] is {scores[wrong[0]]}; a click that cannot be scored must be left out"
        )
    return scores


def as_marks(marks: Any, name: str, n: int) -> Marks:
    """One bool for each click; raises InvalidArgument for anything else."""
    array = np.asarray(marks)
    if array.dtype != np.bool_ or array.shape != (n,):
        raise InvalidArgument(f"{name} is {array.dtype} of shape {array.shape}; it must be bool of shape ({n},)")
    return array


def as_codes(slice_ids: Any, n: int, n_slices: int | None) -> tuple[Codes, int]:
    """Slice codes, and the number of slices; raises InvalidArgument, naming the index, for a code outside them."""
    codes = np.asarray(slice_ids)
    if not np.issubdtype(codes.dtype, np.integer) or codes.shape != (n,):
        raise InvalidArgument(f"slice_ids is {codes.dtype} of shape {codes.shape}; it must be integers of shape ({n},)")
    count = int(codes.max(initial=-1)) + 1 if n_slices is None else n_slices
    wrong = np.flatnonzero((codes < 0) | (codes >= count))
    if len(wrong):
        raise InvalidArgument(f"slice_ids[{wrong[0]}] is {codes[wrong[0]]}; codes run from 0 to {count - 1}")
    return codes, count


def _rate(hits: Marks, among: Marks | None, slice_ids: Codes | None, n_slices: int | None) -> HitRate:
    hits = as_marks(hits, "robotic", len(hits))
    trials = np.ones(len(hits), bool) if among is None else as_marks(among, "the other marks", len(hits))
    if slice_ids is None:
        return HitRate(np.asarray(np.sum(hits & trials)), np.asarray(np.sum(trials)))
    codes, count = as_codes(slice_ids, len(hits), n_slices)
    return HitRate(np.bincount(codes[hits & trials], minlength=count), np.bincount(codes[trials], minlength=count))
