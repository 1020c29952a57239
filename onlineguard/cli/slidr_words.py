"""What the commands of `onlineguard slidr` say: the names of logs and times, rows of tables, and warnings.

It imports what the models need, so a command imports it when it runs.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from onlineguard.cli import console
from onlineguard.slidr.evaluation.evaluation import threshold_text
from onlineguard.slidr.features import LOOKED_UP, NAMES
from onlineguard.slidr.learning.scorer import Scorer
from onlineguard.slidr.model import Model, Span
from onlineguard.slidr.pipeline import WEEKDAYS, Mask, Prepared, Thresholds, weekdays

SHOWN = 12  # slices in a table


def log(clicks: Path, mapping: Path | None) -> str:
    """The log as a command names it."""
    return f"{clicks}" if mapping is None else f"{clicks} --mapping {mapping}"


def say_what_is_held(scorer: Scorer) -> None:
    """Which features the model cannot use, lookups aside, which most go without."""
    held: list[str] = [NAMES[at] for at in getattr(scorer, "held", ()) if NAMES[at] not in LOOKED_UP]
    if held:
        listed = ", ".join(held[:SHOWN]) + (f" and {len(held) - SHOWN} more" if len(held) > SHOWN else "")
        console.say(f"not used, since the training clicks do not show what else they can be: {listed}")


def chosen(thresholds: Thresholds) -> list[dict[str, str]]:
    """Rows of a table: all slices together, then those with the most clicks."""
    calibration = thresholds.calibration

    def row(name: str, at: Any) -> dict[str, str]:
        rates = {"IVR": calibration.ivr, "FPR": calibration.fpr, "coverage": calibration.coverage}
        parts = {
            name: rate.total if at is None else type(rate)(rate.hits[at], rate.trials[at])
            for name, rate in rates.items()
        }
        shown = {"slice": name, "clicks": f"{int(parts['IVR'].trials):,}", "purchases": f"{int(parts['FPR'].trials):,}"}
        shown["threshold"] = "" if at is None else threshold_text(float(calibration.thresholds[at]))
        return shown | {name: f"{float(rate.value):.2%}" if int(rate.trials) else "n/a" for name, rate in parts.items()}

    largest = np.argsort(-calibration.ivr.trials, kind="stable")[:SHOWN]
    return [row("all", None), *(row(calibration.names[at], at) for at in largest.tolist())]


def which(prepared: Prepared, rows: Mask, used: tuple[int, int], model: Model, calibrated: Span) -> str:
    """Which clicks are measured, for the head of a table: when they came, and whether the model has seen them."""
    start, end = used
    seen = "that the model has neither learned nor been calibrated on"
    if start < calibrated.until and end > min(model.trained.since, calibrated.since):
        seen = "some of which the model has learned or been calibrated on"
    return f"{int(rows.sum()):,} clicks from {day(start)} to {day(min(end, prepared.bounds[1] + 1))}, {seen}"


def warn_of_reuse(start: int, span: Span, what: str) -> None:
    if start < span.until:
        console.say(f"beware: some of these clicks the model has {what}, up to {day(span.until)}; figures will flatter")


def warn_of_weekdays(calibrated: tuple[int, int], used: tuple[int, int] | None = None) -> None:
    """Warn if clicks of some days of the week, by default of any, are judged by thresholds from other days."""
    known, these = weekdays(*calibrated), WEEKDAYS if used is None else weekdays(*used)
    if set(these) - set(known):
        of = "" if used is None else f", these clicks are of {listed(these)}"
        console.say(
            f"beware: thresholds rest on {listed(known)}{of}; people click otherwise on other days: give three weeks"
        )


def listed(days: tuple[str, ...]) -> str:
    return ", ".join(days[:-1]) + " and " * (len(days) > 1) + days[-1]


def times(span: Span) -> str:
    return f"{day(span.since)} to {day(span.until)}"


def day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M} UTC"
