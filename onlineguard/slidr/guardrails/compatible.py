"""Whether a model fits the traffic that another one judges: the same slices, marketplaces, time zones and categories.

A model of another company's log loads without an error, since its features have the same names. But the slices that it
has thresholds for are others, so all clicks would be held against its default threshold. What is live knows which
slices have traffic: the clicks that it was calibrated on.
"""

from collections.abc import Mapping

from onlineguard.slidr.model import Model
from onlineguard.slidr.pipeline import slice_name

COVERED = 0.9  # share of the live model's clicks in slices that the candidate has thresholds for


def incompatible(candidate: Model, live: Model, covered: float = COVERED) -> str | None:
    """Why a model cannot take the place of another, in a sentence; None where it can.

    Both must be calibrated.
    """
    assert candidate.thresholds is not None
    assert live.thresholds is not None
    if candidate.config.slices != live.config.slices:
        return (
            f"model {candidate.version} has slices by {', '.join(candidate.config.slices)}, live are slices by "
            f"{', '.join(live.config.slices)}"
        )
    clicks = dict(zip(live.thresholds.keys, live.thresholds.calibration.ivr.trials.tolist(), strict=True))
    share = known_share(candidate, {slice_name(key): n for key, n in clicks.items()})
    if share < covered:
        unknown = max(clicks.keys() - set(candidate.thresholds.keys), key=lambda key: clicks[key])
        return (
            f"model {candidate.version} has thresholds for the slices of {share:.1%} of the clicks that model "
            f"{live.version} judges, and {covered:.0%} are needed; it does not know {slice_name(unknown)}"
        )
    present = {part for key in clicks for part in key}
    moved = sorted(
        place
        for place in present & candidate.timezones.keys() & live.timezones.keys()
        if candidate.timezones[place] != live.timezones[place]
    )
    if moved:
        place = moved[0]
        return (
            f"model {candidate.version} takes {place} to lie in {candidate.timezones[place]}, and model {live.version} "
            f"in {live.timezones[place]}"
        )
    return None


def known_share(candidate: Model, clicks: Mapping[str, int]) -> float:
    """The share of clicks, counted by slice name, in slices that a model has thresholds for; 1 without clicks."""
    assert candidate.thresholds is not None
    known = {slice_name(key) for key in candidate.thresholds.keys}
    total = sum(clicks.values())
    return sum(n for name, n in clicks.items() if name in known) / total if total else 1.0
