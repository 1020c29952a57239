"""What cannot be calibrated: arguments that are malformed, and demands that clicks cannot meet."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from onlineguard.errors import InfeasibleBudget, InvalidArgument
from onlineguard.slidr.thresholds import caps, evidence
from onlineguard.slidr.thresholds.evidence import Count


def check(
    budget: float,
    cap: float | None,
    needed: Float[np.ndarray, " ..."],
    n_slices: int,
    confidence: float | None,
    held_out: float,
) -> None:
    """Raises InvalidArgument for what `calibrate` cannot take."""
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
    if cap is not None and not 0.0 < cap <= 1.0:
        raise InvalidArgument("cap", f"is {cap!r}; it must lie above 0 and be at most 1, e.g. 0.03, or be None")
    if not 0.0 < held_out < 1.0:
        raise InvalidArgument(f"held_out is {held_out!r}; it must lie strictly between 0 and 1, e.g. 0.5")


def too_few(count: Count, n_purchases: int, confidence: float) -> InfeasibleBudget:
    """The error for purchases that cannot show the budget, even if none of them is marked."""
    least = float(evidence.upper(0, count.n_tested, confidence))
    needed, part = evidence.enough(count.budget, confidence), count.n_tested / n_purchases
    would = "no number of them shows that" if math.isinf(needed) else f"{math.ceil(needed / (part or 0.5)):,} would do"
    rounded_up = min(1.0, math.ceil(least * 10_000) / 10_000)
    testing = "" if part == 1.0 else f", of which {count.n_tested:,} test,"
    return InfeasibleBudget(
        f"budget is {count.budget:g} at confidence {confidence:g}; {n_purchases:,} purchasing clicks{testing} "
        f"show at best {least:.3g}, and {would}. Wait for more purchases, raise budget to {rounded_up:g}, lower "
        "confidence, or ask for none, which promises nothing",
        {},
        least,
    )


def infeasible(
    count: Count,
    thresholds: Float[np.ndarray, " slices"],
    below: Float[np.ndarray, " slices"],
    names: Sequence[str],
) -> InfeasibleBudget:
    """The error for thresholds that are as high as coverage allows, and still too low for the budget."""
    n_slices = len(names)
    marked = np.bincount(count.codes[count.marked(thresholds)], minlength=n_slices)
    of_slice = marked / np.maximum(np.bincount(count.codes, minlength=n_slices), 1)
    asking = [s for s in np.argsort(-marked, kind="stable").tolist() if marked[s] and np.isfinite(below[s])]
    asks = {names[s]: float(of_slice[s]) for s in asking}
    least = max(float(count.marked(thresholds).mean()), count.bound(thresholds))
    sure = "" if count.confidence is None else f" at confidence {count.confidence:g}"
    return InfeasibleBudget(
        f"budget is {count.budget:g}{sure}; min_coverage needs at least {least:.6g} over all: {caps.listed(asks)}. "
        "Raise budget to that, or lower min_coverage",
        asks,
        least,
    )
