"""Alarms: runs of anomalous events of one slice."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from onlineguard.report.evidence import THOUSANDTHS, digits_of, evidence_of


class Alarm(NamedTuple):
    """A run of anomalous events of one slice: first and last event, highest score, lowest p-value.

    odd: how many of its events are anomalous and have a finite score. digits: `digits_of` their p-values, in sum.
    """

    start: int
    end: int
    peak_score: float
    p_value: float
    odd: int = 1
    digits: int = 0

    @property
    def evidence(self) -> float:
        """By how many decades it is less likely than chance, as if events were independent."""
        return int(evidence_of(self.end - self.start + 1, self.odd, self.digits)) / THOUSANDTHS


def merge_alarms(
    at: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"], p_values: Float[np.ndarray, " n"], gap: int = 10
) -> list[Alarm]:
    """Alarms from anomalous events, whose numbers `at` ascend.

    Two anomalous events with up to `gap` normal ones between them are in one alarm.
    """
    if len(at) == 0:
        return []
    first = np.flatnonzero(np.diff(at, prepend=at[0] - gap - 2) > gap + 1)
    last = np.append(first[1:], len(at)) - 1
    peaks, p = np.fmax.reduceat(scores, first), np.fmin.reduceat(p_values, first)
    finite = np.isfinite(scores)  # an infinite one says nothing of how odd it was
    odd = np.add.reduceat(finite.astype(np.int64), first)
    digits = np.add.reduceat(np.where(finite, digits_of(p_values), 0), first)
    columns = (at[first], at[last], peaks, p, odd, digits)
    return [Alarm(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def joined(earlier: list[Alarm], later: list[Alarm], gap: int) -> list[Alarm]:
    """Alarms of two successive stretches of a slice; those that meet are merged if at most `gap` events lie between."""
    if not earlier or not later or later[0].start - earlier[-1].end - 1 > gap:
        return earlier + later
    (*closed, last), (more, *rest) = earlier, later
    peak, p_value = max(last.peak_score, more.peak_score), min(last.p_value, more.p_value)
    whole = Alarm(last.start, more.end, peak, p_value, last.odd + more.odd, last.digits + more.digits)
    return [*closed, whole, *rest]


def nan_last(p_value: float) -> float:
    """A p-value to sort by: one that is not known counts as the highest."""
    return math.inf if math.isnan(p_value) else p_value
