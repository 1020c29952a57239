"""How good a calibrated scorer is on clicks that it was neither trained nor calibrated on.

`evaluate` measures one scorer, over all clicks and over each slice:

- invalidation rate (IVR), false-positive rate (FPR) and robotic coverage as `metrics` defines them, with exact
intervals;
- the IVR-FPR curve and its knee;
- AUC: how well the scores separate people from the rest;
- reliability: whether a share p of the clicks with p_human = p is known to be people's;
- on simulated traffic, whose truth is known, also recall, precision and the true FPR.

`compare` puts several scorers side by side. `report.write_report` shows everything as a page.

    evaluation = evaluate(p_robot, slice_ids, slice_keys, human, heavy, calibration)
    evaluation.overall.fpr.value, evaluation.overall.fpr.high
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import special

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.learning.weights import effective_size
from onlineguard.slidr.thresholds import metrics
from onlineguard.slidr.thresholds.calibration import Calibration
from onlineguard.slidr.thresholds.metrics import Curve, HitRate, as_codes, as_marks, as_scores, clopper_pearson

POINTS = 100  # of a curve that are kept, as many as a drawing can show
BINS = 20  # of the reliability diagram
NONE = "\N{EN DASH}"  # in a table, where there is nothing to measure

Row = dict[str, str]  # one row of a table, from heading to text; all rows have the same headings
Marks = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Share:
    """A share of clicks as two counts, with its exact interval. Without trials, value, low and high are NaN."""

    hits: int
    trials: int
    value: float
    low: float
    high: float

    @staticmethod
    def of(hits: int, trials: int, level: float = 0.95) -> "Share":
        """The share and its Clopper-Pearson interval at `level`."""
        if trials == 0:
            return Share(0, 0, math.nan, math.nan, math.nan)
        low, high = clopper_pearson(hits, trials, level)
        return Share(int(hits), int(trials), hits / trials, float(low), float(high))

    def __str__(self) -> str:
        """0.98% (0.71 to 1.32), or a dash."""
        if not self.trials:
            return NONE
        return f"{self.value:.2%} ({100 * self.low:.2f} to {100 * self.high:.2f})"


@dataclass(frozen=True)
class Group:
    """The measures of one slice, or of all clicks."""

    name: str
    threshold: float | None  # a score strictly above it is robotic; None over all where slices differ
    clicks: int
    purchases: int
    ivr: Share
    fpr: Share
    coverage: Share
    auc: float  # probability that a purchasing click scores below another one, ties counting half; NaN without both
    auc_low: float  # its interval
    auc_high: float
    curve: Curve | None  # thinned to about POINTS; None without purchasing clicks
    knee: int | None  # index into the curve
    ivr_at_budget: float  # the highest IVR on the curve with an FPR within the budget; NaN without curve or budget
    recall: Share | None  # this and the next two need the truth
    precision: Share | None
    true_fpr: Share | None
    over_cap: bool  # whether the FPR is above the calibration's cap on every slice


@dataclass(frozen=True)
class Bin:
    """Clicks with about the same p_human: the prediction, and the share that is known to be people's."""

    clicks: int
    predicted: float  # mean p_human
    known: float  # share of them that are known people's
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`."""

    overall: Group
    slices: tuple[Group, ...]  # in the order of the slice codes, including slices without clicks
    reliability: tuple[Bin, ...]  # by rising p_human; empty where scores are no probabilities
    weighted: bool  # reliability is of weighted clicks, and its intervals are then approximate
    level: float  # of all intervals
    method: str  # this and the next two are the calibration's
    budget: float | None
    confidence: float | None
    cap: float | None  # on the FPR of every slice

    @property
    def has_truth(self) -> bool:
        """Whether the truth was given."""
        return self.overall.recall is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, as JSON can hold them; None where a number would be NaN."""
        return _plain(self)

    def table(self, most: int | None = None) -> list[Row]:
        """Rows to print: all clicks, then the slices with the most clicks, at most `most` of them."""
        groups = [self.overall, *self.largest()[:most]]
        return [
            {
                "slice": group.name,
                "clicks": f"{group.clicks:,}",
                "purchases": f"{group.purchases:,}",
                "threshold": threshold_text(group.threshold),
                **_shares(group, self.has_truth),
                **({"cap": "over" if group.over_cap else ""} if any(slice_.over_cap for slice_ in self.slices) else {}),
            }
            for group in groups
        ]

    def unseen(self) -> str | None:
        """A sentence on budget and cap where the truth refutes them, beyond chance, and purchases do not show it."""
        all_, said = self.overall, []
        if self.budget is not None and all_.fpr.low <= self.budget and _above(all_.true_fpr, self.budget):
            said.append(f"above the budget of {self.budget:.2%}")
        over = (
            [] if self.cap is None else [g for g in self.largest() if not g.over_cap and _above(g.true_fpr, self.cap)]
        )
        if over:
            worst = max(over, key=lambda group: group.true_fpr.value if group.true_fpr else 0.0)
            slices = "1 slice is" if len(over) == 1 else f"{len(over):,} slices are"
            said.append(f"{slices} over the cap of {self.cap:.2%}, most of all {worst.name} ({_value(worst.true_fpr)})")
        if not said:
            return None
        return (
            f"by the truth {_value(all_.true_fpr)} of people's clicks are marked, {' and '.join(said)}; purchases do "
            "not show it, since these people hardly ever buy"
        )

    def largest(self) -> list[Group]:
        """The slices, the one with the most clicks first."""
        return sorted(self.slices, key=lambda group: -group.clicks)


def evaluate(
    p_robot: Float[np.ndarray, " n"],
    slice_ids: Integer[np.ndarray, " n"],
    slice_keys: Sequence[str | Sequence[object]],
    human: Marks,
    heavy: Marks | None,
    calibration: Calibration,
    truth: Marks | None = None,
    level: float = 0.95,
    weights: Float[np.ndarray, " n"] | None = None,
    known: Marks | None = None,
) -> Evaluation:
    """Measure the decisions that `calibration` makes with these scores.

    p_robot: any finite scores, higher for robots, in the precision that they were calibrated in.
    slice_ids: positions in `slice_keys`. These begin with the calibration's slices in its order. Slices that it does
    not
        know follow, and have its default threshold. A key is a name, or the values that make one.
    human: the purchasing clicks. There may be none; then FPR and curves are missing.
    heavy: the clicks of `metrics.heavy_sessions`; None for none.
    truth: the robots' clicks, where they are known.
    level: of the intervals, which assume that clicks are independent.
    weights: sample weights. Reliability is then that of the weighted clicks, since a network that was trained with such
        weights predicts their share.
    known: the clicks of known people by `labels.humans`, for reliability; by default the purchasing clicks.

    Raises InvalidArgument for anything malformed.
    """
    scores = as_scores(p_robot)
    n = len(scores)
    if n == 0:
        raise InvalidArgument("p_robot is empty; give the clicks of a later time than those of the calibration")
    codes, n_slices = as_codes(slice_ids, n, len(slice_keys))
    if n_slices < len(calibration.names):
        raise InvalidArgument(
            f"slice_keys has {n_slices} slices, the calibration {len(calibration.names)}; give its slices first, "
            "in its order, and new ones after them"
        )
    human = as_marks(human, "human", n)
    heavy = np.zeros(n, bool) if heavy is None else as_marks(heavy, "heavy", n)
    known = human if known is None else as_marks(known, "known", n)
    truth = None if truth is None else as_marks(truth, "truth", n)
    if weights is not None:
        weights = np.asarray(weights, np.float64)
        if weights.shape != (n,) or not np.all(np.isfinite(weights) & (weights > 0.0)):
            raise InvalidArgument(f"weights of shape {weights.shape} must be {n} positive numbers, one a click")

    robotic = calibration.robotic(scores, codes)
    clicks = _Clicks(scores, human, heavy, robotic, truth)
    thresholds = np.append(calibration.thresholds, np.full(n_slices - len(calibration.names), calibration.default))
    limits = calibration.budget, calibration.cap, level
    one = float(thresholds[0]) if n_slices and np.all(thresholds == thresholds[0]) else None
    parts = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=n_slices))[:-1])
    return Evaluation(
        overall=_group("all", one, clicks, calibration.budget, None, level),
        slices=tuple(
            _group(_name(key), float(threshold), clicks.of(part), *limits)
            for key, threshold, part in zip(slice_keys, thresholds, parts, strict=True)
        ),
        reliability=_reliability(1.0 - scores, known, weights, level),
        weighted=weights is not None,
        level=level,
        method=calibration.method,
        budget=calibration.budget,
        confidence=calibration.confidence,
        cap=calibration.cap,
    )


def compare(evaluations: Mapping[str, Evaluation]) -> list[Row]:
    """One row for each scorer, in the given order, as `Extras.comparison` takes them.

    "gain" is the IVR minus that of the first scorer, in percentage points. "IVR at budget" uses one threshold that just
    keeps the budget on these very clicks, so scorers are compared at the same FPR, whatever their calibrations made of
    it. Where budgets differ, a column shows them. Raises InvalidArgument unless all are of the same clicks.
    """
    if not evaluations:
        return []
    counts = {(e.overall.clicks, e.overall.purchases) for e in evaluations.values()}
    if len(counts) > 1:
        raise InvalidArgument(f"evaluations are of different clicks, {sorted(counts)}; evaluate all on the same ones")
    first = next(iter(evaluations.values())).overall.ivr.value
    truth = any(e.has_truth for e in evaluations.values())
    several = len({e.budget for e in evaluations.values()}) > 1
    rows: list[Row] = []
    for number, (name, e) in enumerate(evaluations.items()):
        budget = {"budget": NONE if e.budget is None else f"{e.budget:.2%}"} if several else {}
        gain = {"gain": f"{100 * (e.overall.ivr.value - first):+.2f}" if number else NONE}
        at_budget = e.overall.ivr_at_budget
        gain["IVR at budget"] = NONE if math.isnan(at_budget) else f"{at_budget:.2%}"
        auc = {"AUC": auc_text(e.overall)}
        shares = _shares(e.overall, truth)
        rows.append({"scorer": name, **budget, "IVR": shares.pop("IVR"), **gain, **shares, **auc})
    return rows


def hourly_fpr(robotic: Marks, human: Marks, hour: Int[np.ndarray, " n"], level: float = 0.95) -> tuple[Share, ...]:
    """The FPR in each of the 24 local hours of the day, for `Extras.hourly`; `hour` is 0 to 23."""
    rate = metrics.fpr(robotic, human, hour, 24)
    return tuple(Share.of(int(k), int(m), level) for k, m in zip(rate.hits, rate.trials, strict=True))


def auc_text(group: Group) -> str:
    """0.681 (0.60 to 0.76), or a dash."""
    return NONE if math.isnan(group.auc) else f"{group.auc:.3f} ({group.auc_low:.2f} to {group.auc_high:.2f})"


def threshold_text(threshold: float | None) -> str:
    """A threshold with five decimals; a dash for None; "never" or "always" where it is beyond every score."""
    if threshold is None:
        return NONE
    return f"{threshold:.5f}" if abs(threshold) < 1e6 else "never" if threshold > 0 else "always"


@dataclass(frozen=True)
class _Clicks:
    scores: Float[np.ndarray, " n"]
    human: Marks
    heavy: Marks
    robotic: Marks
    truth: Marks | None

    def of(self, rows: Int[np.ndarray, " m"]) -> "_Clicks":
        truth = None if self.truth is None else self.truth[rows]
        return _Clicks(self.scores[rows], self.human[rows], self.heavy[rows], self.robotic[rows], truth)


def _above(share: Share | None, limit: float) -> bool:
    return share is not None and share.trials > 0 and share.low > limit


def _value(share: Share | None) -> str:
    return NONE if share is None else f"{share.value:.2%}"


def _group(
    name: str, threshold: float | None, clicks: _Clicks, budget: float | None, cap: float | None, level: float
) -> Group:
    def share(rate: HitRate) -> Share:
        return Share.of(int(rate.hits), int(rate.trials), level)

    robotic, truth = clicks.robotic, clicks.truth
    curve, knee, at_budget = None, None, math.nan
    if clicks.human.any():
        whole = metrics.curve(clicks.scores, clicks.human)
        curve, knee = _thinned(whole)
        at_budget = math.nan if budget is None else float(whole.ivr[whole.fpr <= budget].max())
    auc, marked = _auc(clicks.scores, clicks.human), share(metrics.fpr(robotic, clicks.human))
    low, high = auc_interval(auc, int(clicks.human.sum()), int((~clicks.human).sum()), level)
    return Group(
        name=name,
        threshold=threshold,
        clicks=len(clicks.scores),
        purchases=int(clicks.human.sum()),
        ivr=share(metrics.ivr(robotic)),
        fpr=marked,
        coverage=share(metrics.coverage(robotic, clicks.heavy)),
        auc=auc,
        auc_low=low,
        auc_high=high,
        curve=curve,
        knee=knee,
        ivr_at_budget=at_budget,
        recall=None if truth is None else share(metrics.recall(robotic, truth)),
        precision=None if truth is None else share(metrics.precision(robotic, truth)),
        true_fpr=None if truth is None else share(metrics.true_fpr(robotic, truth)),
        over_cap=cap is not None and marked.trials > 0 and marked.value > cap,
    )


def _thinned(curve: Curve) -> tuple[Curve, int]:
    """About POINTS points of a curve, evenly spaced along it, and the position of its knee among them.

    Distances use the root of the FPR, since budgets lie near 0. Both ends and the knee are kept.
    """
    knee, m = metrics.knee(curve), len(curve.fpr)
    if m <= POINTS:
        return curve, knee
    along = np.append(0.0, np.cumsum(np.hypot(np.diff(np.sqrt(curve.fpr)), np.diff(curve.ivr))))
    even = np.searchsorted(along, np.linspace(0.0, along[-1], POINTS)).clip(0, m - 1)
    at = np.unique(np.concatenate([even, [0, knee, m - 1]]))
    return Curve(curve.thresholds[at], curve.fpr[at], curve.ivr[at]), int(np.searchsorted(at, knee))


def auc_interval(auc: float, n_human: int, n_other: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of an AUC by the normal approximation, within 0 to 1; NaN where the AUC is.

    Source: Hanley, McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 1982, equations 1 and 2.

    >>> low, high = auc_interval(0.69, 56, 21_434)
    >>> print(f"{low:.2f} to {high:.2f}")
    0.61 to 0.77
    """
    if math.isnan(auc):
        return math.nan, math.nan
    both_human, both_other = auc / (2.0 - auc) - auc**2, 2.0 * auc**2 / (1.0 + auc) - auc**2
    variance = (auc * (1.0 - auc) + (n_human - 1) * both_human + (n_other - 1) * both_other) / (n_human * n_other)
    half = float(special.ndtri(0.5 + level / 2.0)) * math.sqrt(max(variance, 0.0))
    return max(auc - half, 0.0), min(auc + half, 1.0)


def _auc(scores: Float[np.ndarray, " n"], human: Marks) -> float:
    """The statistic of Mann and Whitney, divided by the number of pairs."""
    n_human = int(human.sum())
    pairs = n_human * (len(human) - n_human)
    if not pairs:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2.0  # equal scores share their mean rank
    above = float(rank[inverse[human]].sum()) - n_human * (n_human + 1) / 2.0
    return 1.0 - above / pairs


def _reliability(
    p_human: Float[np.ndarray, " n"], known: Marks, weights: Float[np.ndarray, " n"] | None, level: float
) -> tuple[Bin, ...]:
    """Bins with about the same number of clicks; equal scores are in the same bin."""
    if p_human.min() < 0.0 or p_human.max() > 1.0:
        return ()
    edges = np.unique(np.quantile(p_human, np.linspace(0.0, 1.0, BINS + 1)[1:-1], method="lower"))
    of_bin = np.searchsorted(edges, p_human)
    w = np.ones(len(p_human)) if weights is None else weights
    bins: list[Bin] = []
    for number in np.unique(of_bin):
        rows = of_bin == number
        predicted, share = (float(np.average(x[rows], weights=w[rows])) for x in (p_human, known))
        size = effective_size(w[rows])
        low, high = clopper_pearson(min(share * size, size), size, level)
        bins.append(Bin(int(rows.sum()), predicted, share, float(low), float(high)))
    return tuple(bins)


def _shares(group: Group, truth: bool) -> Row:
    row = {"IVR": str(group.ivr), "FPR": str(group.fpr), "coverage": str(group.coverage)}
    if truth:
        of_truth = {"recall": group.recall, "precision": group.precision, "true FPR": group.true_fpr}
        row |= {name: NONE if share is None else str(share) for name, share in of_truth.items()}
    return row


def _name(key: str | Sequence[object]) -> str:
    return key if isinstance(key, str) else " / ".join(map(str, key))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
