"""A highest false-positive rate for every slice, so that no slice pays for the others.

A budget over all slices leaves open who pays for it: 1.5 % of all people may be 7.6 % of one slice's and .2 % of
another's. With a cap, slice s may spend at most cap times its purchasing clicks. That is an upper bound in the convex
program of `allocation`: the points of its curve beyond the cap are taken away, and the split is the best of the others.

The slice's own purchases are few, so both sides are those of its curve (see `curves`), and with a confidence, the cap
is held by an upper bound, `Curves.fpr`. The thresholds that come out of the program are then raised to the lowest ones
at which the curves of the clicks that no model has learned keep the cap. Raising thresholds only lowers false-positive
rates, so whatever was shown of the budget stays true.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from onlineguard.errors import InfeasibleBudget
from onlineguard.slidr.thresholds.curves import Curves

CAP = 3.0  # budgets: a slice may pay up to three times its share, since slices full of robots are worth more
SHOWN = 10  # slices that a message lists


def within(curves: Curves, cap: float) -> Bool[np.ndarray, " m"]:
    """The points of every slice's curve at which its FPR is within the cap. The first, which marks nothing, is."""
    if cap >= 1.0:
        return np.ones(len(curves.group), bool)
    return curves.fpr <= cap


def floors(curves: Curves, cap: float) -> Float[np.ndarray, " slices"]:
    """The lowest threshold of every slice at which its FPR is within the cap."""
    kept = curves.where(within(curves, cap))
    return kept.thresholds[np.diff(kept.group, append=-1) != 0]


def too_low(
    curves: Curves,
    floor: Float[np.ndarray, " slices"],
    below: Float[np.ndarray, " slices"],
    cap: float,
    names: Sequence[str],
) -> InfeasibleBudget:
    """The error for slices of which coverage asks for a threshold below one that the cap does not allow.

    curves: with all of their upper bounds.
    """
    asks: dict[str, float] = {}
    for slice_ in np.flatnonzero(below <= floor).tolist():
        mine = curves.where(curves.group == slice_)
        asks[names[slice_]] = min(1.0, float(mine.fpr[mine.thresholds < below[slice_]].min(initial=1.0)))
    asks = dict(sorted(asks.items(), key=lambda ask: -ask[1]))
    least = max(asks.values())
    return InfeasibleBudget(
        f"cap is {cap:g} on the FPR of every slice; min_coverage needs {listed(asks)}. Raise cap to {least:.6g}, or "
        "lower min_coverage",
        asks,
        least,
    )


def listed(asks: dict[str, float]) -> str:
    """The first slices and the FPR that each asks for, as a sentence lists them."""
    first = [f"{name} an FPR of {rate:.3g}" for name, rate in list(asks.items())[:SHOWN]]
    return ", ".join(first) + (f", and {len(asks) - SHOWN} more" if len(asks) > SHOWN else "")
