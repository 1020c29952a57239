"""Whether a model fits the traffic that another one judges: the same slices, marketplaces, time zones and categories.

A model of another company's log loads without an error, since its features have the same names. But the slices that it
has thresholds for are others, so all clicks would be held against its default threshold. Which slices have traffic is
counted by a service that has judged some, and else told by the clicks that the live model was calibrated on.
"""

from collections.abc import Mapping

from onlineguard.slidr.model import Model
from onlineguard.slidr.pipeline import slice_name

COVERED = 0.9  # share of the live model's clicks in slices that the candidate has thresholds for


def incompatible(
    candidate: Model, live: Model, covered: float = COVERED, clicks: Mapping[str, int] | None = None
) -> str | None:
    """Why a model cannot take the place of another, in a sentence; None where it can.

    Both must be calibrated.

    clicks: of every slice, by its name; by default those that the live model was calibrated on. Of a slice that the
        live model does not know either, no candidate needs to.
    """
    assert candidate.thresholds is not None
    assert live.thresholds is not None
    if candidate.config.slices != live.config.slices:
        return (
            f"model {candidate.version} has slices by {', '.join(candidate.config.slices)}, live are slices by "
            f"{', '.join(live.config.slices)}"
        )
    if clicks is None:
        names = map(slice_name, live.thresholds.keys)
        clicks = dict(zip(names, live.thresholds.calibration.ivr.trials.tolist(), strict=True))
    share = known_share(candidate, clicks)
    if share < min(covered, known_share(live, clicks)):
        known = set(map(slice_name, candidate.thresholds.keys))
        unknown = max(clicks.keys() - known, key=lambda name: clicks[name])
        return (
            f"model {candidate.version} has thresholds for the slices of {share:.1%} of the clicks that model "
            f"{live.version} judges, and {covered:.0%} are needed; it does not know {unknown}"
        )
    present = {part for key in live.thresholds.keys for part in key}
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
