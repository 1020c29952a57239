"""Guardrails on a candidate: what it does on later clicks, beside the live model on the same ones.

Both have seen none of these clicks. Rates of them are counts, and few: so a band alone would fail by chance, and a test
alone would fail for trifles where clicks are many. A rate fails if it lies outside its band, and its exact interval
at `LEVEL` does too.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onlineguard.records.versions import Canary
from onlineguard.slidr.evaluation.evaluation import Evaluation, Group, Share
from onlineguard.slidr.features import WIDTH
from onlineguard.slidr.guardrails.checks import Check, Finding
from onlineguard.slidr.guardrails.compatible import incompatible, known_share
from onlineguard.slidr.learning.network import CATEGORIES
from onlineguard.slidr.model import Model
from onlineguard.slidr.pipeline import slice_name
from onlineguard.slidr.thresholds import evidence
from onlineguard.slidr.thresholds.curves import NEVER
from onlineguard.slidr.thresholds.metrics import HitRate

LEVEL = 0.999  # of intervals: some twenty slices are looked at every day
ENOUGH = 1_000  # clicks of a slice whose rates are compared
TIMED = 200  # clicks one by one, whose median time counts


@dataclass(frozen=True, eq=False)
class Comparison:
    """A calibrated candidate beside what is live, measured on the same later clicks."""

    candidate: Model
    measured: Evaluation  # of the candidate, at `LEVEL`
    live: Model | None = None
    live_measured: Evaluation | None = None
    canaries: Sequence[Canary] = ()

    def pairs(self) -> list[tuple[str, Group, Group]]:
        """Name, candidate and live of all clicks, and of every slice with enough of them."""
        if self.live_measured is None:
            return []
        live = {group.name: group for group in self.live_measured.slices}
        slices = [(group.name, group, live[group.name]) for group in self.measured.slices if group.name in live]
        slices = [(name, new, old) for name, new, old in slices if new.clicks >= ENOUGH]
        return [("all clicks", self.measured.overall, self.live_measured.overall), *slices]


def compatible(comparison: Comparison, limits: Mapping[str, float]) -> Finding:
    """Whether the candidate fits the traffic."""
    clicks = {group.name: group.clicks for group in comparison.measured.slices}
    share = known_share(comparison.candidate, clicks)
    if share < limits["covered"]:
        return Finding(False, f"the candidate has thresholds for {share:.1%} of the later clicks", {"covered": share})
    if comparison.live is None:
        return Finding(True, f"it knows the slices of {share:.1%} of the later clicks", {"covered": share})
    wrong = incompatible(comparison.candidate, comparison.live, limits["covered"])
    return Finding(
        wrong is None, wrong or "it has the slices, marketplaces and features of what is live", {"covered": share}
    )


def thresholds(comparison: Comparison, limits: Mapping[str, float]) -> Finding:
    """Whether the thresholds rest on enough purchases, and mark anything."""
    assert comparison.candidate.thresholds is not None
    calibration = comparison.candidate.thresholds.calibration
    bought, clicks = calibration.fpr.trials, calibration.ivr.trials
    idle = calibration.thresholds >= NEVER
    figures = {
        "purchases": int(bought.sum()),
        "idle": float(clicks[idle].sum() / max(1, clicks.sum())),
        "supported": float(clicks[bought >= limits["of_slice"]].sum() / max(1, clicks.sum())),
    }
    needed = limits["purchases"]
    if calibration.budget is not None and calibration.confidence is not None:
        needed = max(needed, evidence.enough(calibration.budget, calibration.confidence))
    if figures["purchases"] < needed:
        return Finding(
            False, f"{figures['purchases']:,} purchases do not show the budget, {needed:,.0f} would", figures
        )
    if figures["supported"] < limits["supported"]:
        return Finding(
            False,
            f"only {figures['supported']:.1%} of the clicks are in slices with {limits['of_slice']:.0f} purchases",
            figures,
        )
    if figures["idle"] > limits["idle"]:
        return Finding(False, f"slices with {figures['idle']:.1%} of the clicks mark nothing", figures)
    return Finding(True, f"thresholds rest on {figures['purchases']:,} purchases", figures)


def ivr(comparison: Comparison, limits: Mapping[str, float]) -> Finding:
    """How many clicks are called robotic."""
    overall = comparison.measured.overall.ivr
    if overall.value > limits["most"]:
        return Finding(False, f"{overall.value:.1%} of all clicks would be robotic", {"ivr": overall.value})
    if not overall.hits:
        return Finding(False, "no click would be robotic", {"ivr": 0.0})
    return _within(comparison, "ivr", limits, "IVR", fall=True, rise=True)


def fpr(comparison: Comparison, limits: Mapping[str, float]) -> Finding:
    """How many purchases are called robotic."""
    measured = comparison.measured
    figures = {"fpr": measured.overall.fpr.value, "purchases": measured.overall.purchases}
    if not measured.overall.purchases:
        return Finding(None, "no purchase is known of the later clicks", figures)
    bounds = [("all clicks", measured.overall, measured.budget)]
    bounds += [(group.name, group, measured.cap) for group in measured.slices]
    for name, group, bound in bounds:
        if bound is not None and group.fpr.trials and group.fpr.low > limits["times"] * bound:
            return Finding(False, f"{name}: {group.fpr} of the purchases are robotic, allowed are {bound:.2%}", figures)
    return Finding(True, f"{measured.overall.fpr} of the later purchases would be robotic", figures)


def coverage(comparison: Comparison, limits: Mapping[str, float]) -> Finding:
    """How many clicks of heavy sessions are called robotic."""
    return _within(comparison, "coverage", limits, "coverage", fall=True, rise=False)


def auc(comparison: Comparison, limits: Mapping[str, float]) -> Finding:
    """How well the scores tell buyers from the rest."""
    overall = comparison.measured.overall
    figures = {"auc": overall.auc}
    if np.isnan(overall.auc):
        return Finding(None, "no purchase is known of the later clicks", figures)
    if overall.auc_high < limits["least"]:
        return Finding(False, f"the scores tell buyers from the rest with an AUC of {overall.auc:.3f}", figures)
    for name, new, old in comparison.pairs():
        wide = np.hypot(new.auc_high - new.auc_low, old.auc_high - old.auc_low) / 2.0
        if old.auc - new.auc > limits["fall"] + wide:
            return Finding(False, f"{name}: AUC falls from {old.auc:.3f} to {new.auc:.3f}", figures)
    return Finding(True, f"the scores tell buyers from the rest with an AUC of {overall.auc:.3f}", figures)


def canary(comparison: Comparison, limits: Mapping[str, float]) -> Finding:
    """Whether pinned clicks are decided as before, beyond what so few of them show by chance."""
    pinned = [each for each in comparison.canaries if len(each.features) == WIDTH]
    embedding = comparison.candidate.config.kind == "embedding"
    pinned = [each for each in pinned if not embedding or len(each.categories) == CATEGORIES]
    if not pinned:
        return Finding(None, "no clicks are pinned yet")
    model = comparison.candidate
    assert model.thresholds is not None
    codes = np.array([each.categories for each in pinned], np.uint32) if embedding else None
    p_robot = model.scorer.p_robot(np.array([each.features for each in pinned], np.float32), codes)
    of_slice = dict(zip(map(slice_name, model.thresholds.keys), model.thresholds.calibration.thresholds, strict=True))
    limit = np.array([of_slice.get(each.slice, model.thresholds.calibration.default) for each in pinned])
    robotic, before = p_robot > limit, np.array([each.robotic for each in pinned])
    if not np.isfinite(p_robot).all():
        return Finding(False, f"{int((~np.isfinite(p_robot)).sum())} of {len(pinned)} pinned clicks have no score")
    hits = np.array([(robotic & ~before).sum(), (~robotic & before).sum()])
    changed = HitRate(hits, np.array([(~before).sum(), before.sum()]))
    people, freed = np.nan_to_num(changed.value).tolist()
    figures = {"people_marked": people, "robots_freed": freed, "pinned": len(pinned)}
    holds = bool((changed.interval()[0] <= (limits["people"], limits["robots"])).all())
    return Finding(
        holds, f"of the pinned clicks, {people:.0%} of people's became robotic, {freed:.0%} of robots' valid", figures
    )


def latency(comparison: Comparison, limits: Mapping[str, float]) -> Finding:
    """How long the score of one click takes here."""
    X = np.zeros((1, WIDTH), np.float32)
    codes = np.zeros((1, CATEGORIES), np.uint32) if comparison.candidate.config.kind == "embedding" else None
    taken: list[float] = []
    for _ in range(TIMED):
        begun = time.perf_counter()
        comparison.candidate.scorer.p_robot(X, codes)
        taken.append(time.perf_counter() - begun)
    ms = 1_000 * statistics.median(taken)
    return Finding(ms <= limits["ms"], f"the score of one click takes {ms:.2f} ms", {"ms": ms})


CHECKS = (
    Check(
        "compatible",
        "candidate",
        "a model of other slices or marketplaces loads without an error, and decides by its default threshold",
        compatible,
        {"covered": 0.9},
    ),
    Check(
        "thresholds",
        "candidate",
        "a threshold that rests on a handful of purchases holds no budget",
        thresholds,
        # As many purchases as the budget takes, where that is more. A slice of fewer than five has borrowed its curve.
        {"purchases": 100, "of_slice": 5, "supported": 0.5, "idle": 0.5},
    ),
    Check(
        "ivr",
        "candidate",
        "advertisers are billed by it: a jump has a cause that somebody should know",
        ivr,
        {"most": 0.5, "band": 0.1, "of_slice": 0.25},  # points; from day to day simulated models differ by .01 to .03
    ),
    Check(
        "fpr",
        "candidate",
        "every false positive is a person whose click is not counted",
        fpr,
        {"times": 1.5},  # the budget, and of a slice the cap
    ),
    Check(
        "coverage",
        "candidate",
        "sessions that no person makes are the robots nobody disputes",
        coverage,
        {"band": 0.15, "of_slice": 0.3},  # points; of few clicks, so the intervals beside it are wide
    ),
    Check(
        "auc",
        "candidate",
        "a model that tells people worse pays for it with their clicks",
        auc,
        {"least": 0.5, "fall": 0.02},
    ),
    Check(
        "canary",
        "candidate",
        "clicks that were decided rightly for months should not be decided otherwise by chance",
        canary,
        {"people": 0.1, "robots": 0.8},  # shares; people hardly change, robots do: .6 of them in clean simulated weeks
    ),
    Check("latency", "candidate", "a decision that comes late is no decision", latency, {"ms": 5.0}),
)


def _within(
    comparison: Comparison, name: str, limits: Mapping[str, float], word: str, fall: bool, rise: bool
) -> Finding:
    """Whether a rate is within its band around that of the live model, over all clicks and in every slice."""
    overall: Share = getattr(comparison.measured.overall, name)
    figures = {name: overall.value}
    pairs = comparison.pairs()
    if not pairs:
        return Finding(None, f"no model is live yet; {word} is {overall}", figures)
    figures[f"live_{name}"] = getattr(pairs[0][2], name).value
    for where, new, old in pairs:
        band = limits["band" if where == "all clicks" else "of_slice"]
        now, before = getattr(new, name), getattr(old, name)
        if not now.trials or not before.trials:
            continue
        if (fall and now.high < before.low - band) or (rise and now.low > before.high + band):
            return Finding(False, f"{where}: {word} goes from {before} to {now}", figures)
    return Finding(True, f"{word} is {overall}, that of what is live {getattr(pairs[0][2], name)}", figures)
