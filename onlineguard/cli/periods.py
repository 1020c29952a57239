"""The periods that were found in the series of a run, in events and in time."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice

import numpy as np

from onlineguard.engine.engine import Engine
from onlineguard.report import SliceReport

LOOKED_AT = 1_000  # slices, so that the end of a run does not wait


def periods_found(engine: Engine, reports: Sequence[SliceReport]) -> str | None:
    """The commonest period and how many slices have one, in words; None for a model that looks for none.

    The time of an event is that between the events of the reported slices.

    >>> from onlineguard import Engine, Series
    >>> periods_found(Engine(1, estimator=Series()), [])
    'none'
    """
    found: Counter[int] = Counter()
    slices = list(islice(engine.slices, LOOKED_AT))
    for key in slices:
        described = engine.describe(key).get("period")
        if described is None:
            return None
        if longest := int(max(described.values())):
            found[longest] += 1
    if not found:
        return "none"
    period = found.most_common(1)[0][0]
    step = _seconds_an_event(reports)
    time = "" if step is None else f" ({str(timedelta(seconds=round(period * step))).removesuffix(', 0:00:00')})"
    return f"{period:,} events{time}; {found.total():,} of {len(slices):,} slices have one"


def _seconds_an_event(reports: Sequence[SliceReport]) -> float | None:
    """Seconds from one event of a slice to the next, the median of the slices; None without times."""
    steps: list[float] = []
    for report in reports:
        if report.times is not None and len(report.index) > 1:
            times = np.asarray(report.times).astype(np.int64)
            steps.append((times[-1] - times[0]) / (report.index[-1] - report.index[0]) / 1e6)
    return float(np.median(steps)) if steps else None
