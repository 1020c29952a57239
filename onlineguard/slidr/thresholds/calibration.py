"""A threshold for each slice, so that all slices together mark the most clicks within one false-positive budget.

    maximise   sum_s clicks_s(x_s)      over x, the purchasing clicks that each slice is expected to mark
    subject to sum_s x_s <= budget sum_s purchases_s,   x_s <= cap purchases_s,   coverage_s >= min_coverage_s

A click is robotic when its score `p_robot` is strictly greater than its slice's threshold. The robotic coverage of a
slice falls with its threshold, so a least coverage is a lower bound on its FPR. `method` says how the curve of a slice,
which `curves` draws to that of all clicks, is used:

    "envelope"   its least concave envelope, from the lower bound on
    "quadratic"  the rising concave quadratic in the FPR that fits it best by least squares, after the paper
    "global"     one threshold for all slices
    "knee"       one threshold for all slices, at the knee of their common curve; it takes no budget and no cap

**How much is spent.** A method gives a family of thresholds with one parameter, the nominal budget (`family`).
Purchasing clicks that took no part in choosing the family test it, and the largest member that passes is taken
(`evidence`).

- With a `confidence`, the budget holds for new clicks with that probability. Clicks too few to show it are refused.
- Without one, it is kept on average only. That is for an operator who decides so.
- A share `held_out` of the purchasing clicks, drawn by `seed`, tests. Where there are `earlier` clicks, such as those
  that the model has learned, their purchases choose, and all later ones test. The scores of clicks that a model has
  learned flatter it, which may lead to a worse family, but the test stays valid. The family of a global threshold is
  fixed beforehand, so every purchasing click can test it.
- The bound is on the FPR over all slices together, for clicks mixed as in the sample, and takes purchasing clicks as
  independent. Those of one person are not, so for a strict bound mark only one click of each person as human.

**Others than buyers.** People who hardly ever buy are not in the count of purchases. Where there are `regular` clicks,
of people who are known by other signs (`regulars`), the budget is held on them too, by a count of their own.

**Caps.** No slice's FPR may exceed `cap`; see `caps`. Thresholds are raised where the later purchases demand it.

Source: the problem and the quadratic are those of Muralidhar, Chitlangia, Agarwal, Ahmed, "Real-time detection of
robotic traffic in online advertising", IAAI 2023, which does not say over which range it fits. The curves, the caps,
the envelope and the rounding are ours. The confidence follows Bates, Angelopoulos, Lei, Malik, Jordan,
"Distribution-free, risk-controlling prediction sets", J. ACM 2021.
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.thresholds import caps, evidence
from onlineguard.slidr.thresholds.bands import bands
from onlineguard.slidr.thresholds.caps import CAP
from onlineguard.slidr.thresholds.curves import NEVER, Curves, counted, shrunk
from onlineguard.slidr.thresholds.evidence import Count
from onlineguard.slidr.thresholds.family import Family
from onlineguard.slidr.thresholds.metrics import HitRate, as_codes, as_marks, as_scores, coverage, fpr, ivr
from onlineguard.slidr.thresholds.refusals import check, infeasible, too_few
from onlineguard.slidr.thresholds.vouching import unvouched

CONFIDENCE = 0.95  # of holding the budget: what nobody asked for must not be exceeded every other time

Method = Literal["envelope", "quadratic", "global", "knee"]
RATES = ("ivr", "fpr", "coverage", "regular")  # of a calibration
Marks = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Calibration:
    """Thresholds, and their rates on the clicks that they were chosen on."""

    method: Method
    budget: float | None  # on the FPR over all slices; None at the knee
    confidence: float | None
    cap: float | None  # on the FPR of every slice; None at the knee
    names: tuple[str, ...]  # of the slices
    thresholds: Float[np.ndarray, " slices"]
    default: float  # of any other slice: the global threshold, without a demand for coverage if slices have their own
    ivr: HitRate  # of each slice, all clicks counted; `.total` is over all
    fpr: HitRate
    coverage: HitRate
    regular: HitRate  # of each slice, the clicks of regulars that are marked; no trials where none were given
    # The next two are None where the method does not have them.
    multiplier: float | None  # clicks that one more purchasing click would mark, by the slices' curves
    fpr_bound: float | None  # with a confidence: the upper bound of the FPR over all slices, by the tested clicks
    warnings: tuple[str, ...]  # what an operator must know before using these thresholds, a sentence each
    # The lowest and highest threshold that each slice may drift to, see `bands`; None where there is one for all.
    band: Float[np.ndarray, "slices 2"] | None = None

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
        plain.update(names=list(self.names), thresholds=self.thresholds.tolist(), warnings=list(self.warnings))
        plain["band"] = None if self.band is None else self.band.tolist()
        for name in RATES:
            rate: HitRate = plain[name]
            plain[name] = {"hits": rate.hits.tolist(), "trials": rate.trials.tolist()}
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Calibration":
        """The calibration that `to_dict` was called on; raises CheckpointError for anything it cannot have returned."""
        try:
            fields = {name: plain[name] for name in cls.__dataclass_fields__ if name != "band"}
            fields["names"], fields["warnings"] = tuple(fields["names"]), tuple(map(str, fields["warnings"]))
            fields["thresholds"] = np.array(fields["thresholds"], np.float64)
            for name in RATES:
                hits, trials = (np.array(fields[name][part], np.int64) for part in ("hits", "trials"))
                fields[name] = HitRate(hits, trials)
            band = plain.get("band")  # of old there was none
            fields["band"] = None if band is None else np.array(band, np.float64).reshape(len(fields["names"]), 2)
            if band is not None and not np.isfinite(np.array(fields["band"])).all():
                raise CheckpointError("the calibration's band has not two finite thresholds for each slice")
            lengths = {len(fields[name]) for name in ("names", "thresholds")}
            lengths |= {len(counts) for name in RATES for counts in vars(fields[name]).values()}
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
    cap: float | None = None,
    min_coverage: float | Float[np.ndarray, " slices"] = 0.0,
    method: Method = "envelope",
    confidence: float | None = CONFIDENCE,
    names: Sequence[str] | None = None,
    held_out: float = 0.5,
    earlier: Marks | None = None,
    regular: Marks | None = None,
    seed: int = 0,
) -> Calibration:
    """Choose the thresholds, as the module explains. A budget of 0 marks no purchasing click.

    p_robot: any finite scores, higher for robots. Only their order matters, and equal scores are decided alike.
    slice_ids: codes from 0 on. `names` are the names of the slices; its length is their number.
    human: the purchasing clicks, at least one.
    heavy: the clicks of `metrics.heavy_sessions`.
    budget: highest FPR over all slices together, 0 to 1.
    cap: highest FPR of any slice, 0 to 1. By default three times the budget, and for one threshold 1, which is none:
        a single threshold has nothing to be fair with, and the slice with the highest scores would decide for all.
    min_coverage: least robotic coverage, one number for every slice or one for each. A slice without heavy clicks is
        free of it.
    confidence: the probability with which the budget holds for the true FPR, and each cap for its slice. None keeps
        them on average only.
    held_out, seed: the share of the purchases that tests, and which of them.
    earlier: the clicks whose purchases choose the thresholds. All others then test them, and nothing is held out. The
        rates of the result are those of the others.
    regular: clicks of people who are known otherwise than by a purchase. The budget is held on them too, if there are
        enough of them to show it.

    Raises InfeasibleBudget, naming slices and the FPR each needs, where the demand for coverage exceeds the budget or
    the cap, or saying how many purchases would do, where they are too few for the confidence. Raises InvalidArgument
    for anything malformed.
    """
    scores = as_scores(p_robot)
    n = len(scores)
    human = as_marks(human, "human", n)
    heavy = np.zeros(n, bool) if heavy is None else as_marks(heavy, "heavy", n)
    regular = np.zeros(n, bool) if regular is None else as_marks(regular, "regular", n) & ~human
    codes, n_slices = as_codes(slice_ids, n, None if names is None else len(names))
    names = tuple(str(code) for code in range(n_slices)) if names is None else tuple(names)
    needed = np.asarray(min_coverage, np.float64)
    if method not in get_args(Method):
        raise InvalidArgument("method", f"is {method!r}; it must be one of {', '.join(get_args(Method))}")
    check(budget, cap, needed, n_slices, confidence, held_out)
    earlier = np.zeros(n, bool) if earlier is None else as_marks(earlier, "earlier", n)
    whole = method in ("global", "knee")
    if whole or not (human & earlier).any():
        scores, codes, human, heavy, regular = (of[~earlier] for of in (scores, codes, human, heavy, regular))
        earlier = np.zeros(len(scores), bool)
    if not (human & ~earlier).any():
        raise InvalidArgument("human marks no click; without a purchasing click there is no false-positive rate")

    sample = _Sample(scores, codes, human, heavy, regular, earlier, n_slices)
    if method == "knee":
        return _at_knee(sample, needed, names)

    if cap is None:
        cap = 1.0 if whole else min(1.0, CAP * budget)
    if whole:
        tested = human
    else:
        tested = human & ~earlier if earlier.any() else evidence.drawn(scores, codes, human, held_out, seed)
    count = Count(scores[human], codes[human], tested[human], budget, confidence)
    if count.most_tested < 0 and confidence is not None:
        raise too_few(count, int((human & ~earlier).sum()), confidence)
    used = np.ones(len(scores), bool) if whole else ~tested
    chosen, asked = used & heavy & ~earlier, np.bincount(codes[heavy & ~earlier], minlength=n_slices)
    below = _below(scores[chosen], codes[chosen], needed * asked, n_slices)
    floor = _floors(sample, below, cap, confidence, names)
    if whole:
        curves = counted(scores, human)
        curves = curves.where(_demanded(curves, curves.thresholds >= floor.max(), below.min(keepdims=True)))
        family = Family(curves, "global", budget)
    else:
        below_all = np.append(below, np.inf)

        def wanted(curves: Curves) -> Marks:
            return _demanded(curves, caps.within(curves, cap), below_all)

        curves = shrunk(scores[used], human[used], codes[used], n_slices, confidence, cap, wanted)
        family = Family(curves, method, budget)
    bought = np.bincount(codes[human & ~earlier], minlength=n_slices)
    here = np.bincount(codes[used], minlength=n_slices) > 0
    speaks = bought >= (np.inf if confidence is None else evidence.enough(cap, confidence))
    choice = _Choice(family, here, floor, speaks, n_slices)
    if not choice.allowed(family.least, [count]):
        raise infeasible(count, choice.thresholds(family.least), below, names)
    apart = regular & ~earlier
    others = Count(scores[apart], codes[apart], np.ones(int(apart.sum()), bool), budget, confidence)
    nominal, warnings = _largest(choice, count, others)
    of_slice = choice.thresholds(nominal)
    band = None if whole else bands(scores[~earlier], codes[~earlier], of_slice, floor)
    later = ~earlier
    clicks, known = (np.bincount(codes[of & later], minlength=n_slices) for of in (later, human | regular))
    if (lacking := unvouched(clicks, known, names)) is not None:
        warnings.append(lacking)
    if not (scores[later] > of_slice[codes[later]]).any():
        by, who = (count, "purchasing clicks") if choice.largest([count]) <= nominal else (others, "clicks of regulars")
        warnings.append(
            f"no click is called robotic: of the {by.n_tested:,} {who} that test the budget, "
            f"{by.most_tested:,} may be marked, and the highest scores are theirs"
        )
    return sample.calibration(
        method=method,
        budget=budget,
        confidence=confidence,
        cap=cap,
        names=names,
        thresholds=of_slice,
        default=float(of_slice[0]) if whole else _global_threshold(sample, budget, confidence),
        multiplier=None if whole else family.split(nominal).multiplier,
        fpr_bound=None if confidence is None else count.bound(of_slice),
        warnings=tuple(warnings),
        band=band,
    )


def _at_knee(sample: "_Sample", needed: Float[np.ndarray, " ..."], names: tuple[str, ...]) -> Calibration:
    """One threshold for all slices, at the knee of their common curve as far as the demand for coverage allows."""
    scores, codes, human, heavy = sample.scores, sample.codes, sample.human, sample.heavy
    curve = counted(scores, human)
    asked = np.bincount(codes[heavy], minlength=sample.n_slices)
    below = _below(scores[heavy], codes[heavy], needed * asked, sample.n_slices).min(initial=np.inf)
    curve = curve.where(curve.thresholds < below)
    at = np.argmax(curve.clicks / len(scores) - curve.cost / human.sum())
    of_slice = np.full(sample.n_slices, curve.thresholds[at])
    nothing: dict[str, Any] = dict.fromkeys(("budget", "confidence", "cap", "multiplier", "fpr_bound"))
    return sample.calibration(of_slice, method="knee", names=names, default=float(of_slice[0]), warnings=(), **nothing)


def _largest(choice: "_Choice", count: Count, others: Count) -> tuple[float, list[str]]:
    """The largest nominal budget that buyers allow, and the others where they are enough to tell; and warnings."""
    nominal = choice.largest([count])
    if not len(others.scores):
        return nominal, []
    if others.most_tested < 0:
        return nominal, [
            f"nobody vouches for people who do not buy: {len(others.scores):,} clicks of regulars cannot show a budget "
            f"of {count.budget:g}, {evidence.enough(count.budget, count.confidence):,} would do"
        ]
    held = choice.largest([count, others])
    if not held < nominal:
        return held, []
    return held, [
        f"people who do not buy are marked first, or robots are among the regulars: by the {len(count.scores):,} "
        f"purchasing clicks alone, {nominal:.1f} of them might be marked, by the {len(others.scores):,} clicks of "
        f"regulars {held:.1f}; `--no-regulars`, or hold_regulars=False, goes by buyers alone"
    ]


@dataclass(frozen=True)
class _Sample:
    """The clicks of a calibration. Their rates are those of the later ones."""

    scores: Float[np.ndarray, " n"]
    codes: Int[np.ndarray, " n"]
    human: Marks
    heavy: Marks
    regular: Marks
    earlier: Marks
    n_slices: int

    def calibration(self, thresholds: Float[np.ndarray, " slices"], **fields: Any) -> Calibration:
        later = ~self.earlier
        codes = self.codes[later]
        robotic = self.scores[later] > thresholds[codes]
        of = (robotic, self.human[later], self.heavy[later], self.regular[later])
        return Calibration(
            thresholds=thresholds,
            ivr=ivr(of[0], codes, self.n_slices),
            fpr=fpr(of[0], of[1], codes, self.n_slices),
            coverage=coverage(of[0], of[2], codes, self.n_slices),
            regular=fpr(of[0], of[3], codes, self.n_slices),
            **fields,
        )

    def curves(self, confidence: float | None, cap: float) -> Curves:
        """Those of the later clicks, which no model has learned, within a cap."""
        later = ~self.earlier
        clicks = self.scores[later], self.human[later], self.codes[later], self.n_slices
        return shrunk(*clicks, confidence, cap, lambda curves: caps.within(curves, cap))


def _floors(
    sample: _Sample,
    below: Float[np.ndarray, " slices"],
    cap: float,
    confidence: float | None,
    names: Sequence[str],
) -> Float[np.ndarray, " slices"]:
    """The lowest thresholds that keep the cap; raises InfeasibleBudget where coverage asks for lower ones."""
    if cap >= 1.0:
        return np.full(sample.n_slices, -np.inf)
    floor = caps.floors(sample.curves(confidence, cap), cap)[: sample.n_slices]
    floor[np.bincount(sample.codes[~sample.earlier], minlength=sample.n_slices) == 0] = -np.inf
    if (below <= floor).any():
        raise caps.too_low(sample.curves(confidence, 1.0), floor, below, cap, names)
    return floor


def _demanded(curves: Curves, allowed: Bool[np.ndarray, " m"], below: Float[np.ndarray, " groups"]) -> np.ndarray:
    """The points that meet the demand for coverage and are allowed, or the first that meets it."""
    met = curves.thresholds < below[curves.group]
    first = met & ~np.append(False, met[:-1] & (np.diff(curves.group) == 0))
    return met & allowed | first


@dataclass(frozen=True)
class _Choice:
    """The thresholds of a family, raised to their floors, and what of it the counts allow.

    The floor of a slice that speaks for itself is one of its own purchasing scores. Of n purchases of which k lie above
    such a score, (k + 1) / (n + 1) is the share of new ones to be expected there. So a slice on its floor is charged
    one.
    """

    family: Family
    here: Bool[np.ndarray, " slices"]  # whether the family knows the slice
    floor: Float[np.ndarray, " slices"]
    speaks: Bool[np.ndarray, " slices"]
    n_slices: int

    def thresholds(self, nominal: float) -> Float[np.ndarray, " slices"]:
        return np.maximum(self._family(nominal), self.floor)

    def allowed(self, nominal: float, counts: Sequence[Count]) -> bool:
        thresholds = self.thresholds(nominal)
        charge = int((self.speaks & (thresholds > self._family(nominal))).sum())
        return all(count.allows(thresholds, charge * (number == 0)) for number, count in enumerate(counts))

    def largest(self, counts: Sequence[Count]) -> float:
        """The largest nominal budget that all counts allow; the charge is for the first."""
        family = self.family
        passed = bisect.bisect_left(family.steps, True, key=lambda step: not self.allowed(family.nominal(step), counts))
        return family.nominal(passed) if passed else family.least

    def _family(self, nominal: float) -> Float[np.ndarray, " slices"]:
        of_group = self.family.thresholds(nominal)  # the last group stands for slices that the family does not know
        return np.where(self.here, of_group[: self.n_slices], of_group[-1])


def _below(
    scores: Float[np.ndarray, " heavy"],
    codes: Int[np.ndarray, " heavy"],
    marked: Float[np.ndarray, " slices"],
    n_slices: int,
) -> Float[np.ndarray, " slices"]:
    """The score that a slice's threshold must lie below to mark so many of these clicks; infinite for none.

    Where there are fewer clicks than that, all of them.
    """
    order = np.lexsort((-scores, codes))
    count = np.bincount(codes, minlength=n_slices)
    rank = np.minimum(np.ceil(marked - 1e-9).astype(np.int64), count)
    asking = np.flatnonzero(rank > 0)
    below = np.full(n_slices, np.inf)
    below[asking] = scores[order][(np.cumsum(count) - count + rank - 1)[asking]]
    return below


def _global_threshold(sample: _Sample, budget: float, confidence: float | None) -> float:
    """The lowest single threshold that keeps the budget; NEVER if the clicks are too few to show that any does."""
    later = ~sample.earlier
    purchasing = np.sort(sample.scores[later & sample.human])[::-1]
    most = min(evidence.most(budget, len(purchasing)), evidence.most(budget, len(purchasing), confidence))
    if most < 0:
        return NEVER
    return float(np.nextafter(sample.scores[later].min(), -np.inf) if most == len(purchasing) else purchasing[most])
