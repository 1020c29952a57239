"""Slices whose people hardly anybody vouches for: their share of the known people is far below that of the clicks.

Whether a slice with few known people is full of robots, or full of people who do not buy, the clicks cannot tell. Both
look alike to a budget that is counted in known people, and only one of them may be marked. So it is said, and an
operator has to look.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from onlineguard.slidr.thresholds.metrics import clopper_pearson

FAR = 3.0  # times fewer known people than clicks; on simulated traffic, slices of which half is robots have half
LEAST = 0.01  # share of the clicks that a slice must have to be worth a word
SHOWN = 3  # slices that are named


def unvouched(
    clicks: Int[np.ndarray, " slices"], known: Int[np.ndarray, " slices"], names: Sequence[str]
) -> str | None:
    """A sentence about the slices with far fewer known people than clicks, beyond chance; None where there are none."""
    share, most = clicks / clicks.sum(), clopper_pearson(known, known.sum())[1]
    far = np.flatnonzero((share >= LEAST) & (FAR * most < share))
    if not len(far):
        return None
    far = far[np.argsort(-share[far], kind="stable")]
    named = [
        f"{names[s]} ({share[s]:.0%} of the clicks, {known[s] / known.sum():.1%} of the known people)" for s in far
    ]
    more = f" and {len(far) - SHOWN} more" if len(far) > SHOWN else ""
    return (
        f"hardly anybody vouches for the people of {', '.join(named[:SHOWN])}{more}: robots, or people who do not buy"
    )
