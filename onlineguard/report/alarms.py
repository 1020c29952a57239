"""Alarms: runs of anomalous events of one slice."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Alarm(NamedTuple):
    """A run of anomalous events of one slice: first and last event, highest score, lowest p-value."""

    start: int
    end: int
    peak_score: float
    p_value: float


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
    return [Alarm(*row) for row in zip(at[first].tolist(), at[last].tolist(), peaks.tolist(), p.tolist(), strict=True)]


def joined(earlier: list[Alarm], later: list[Alarm], gap: int) -> list[Alarm]:
    """Alarms of two successive stretches of a slice; those that meet are merged if at most `gap` events lie between."""
    if not earlier or not later or later[0].start - earlier[-1].end - 1 > gap:
        return earlier + later
    (*closed, last), (more, *rest) = earlier, later
    peak, p_value = max(last.peak_score, more.peak_score), min(last.p_value, more.p_value)
    return [*closed, Alarm(last.start, more.end, peak, p_value), *rest]


def nan_last(p_value: float) -> float:
    """A p-value to sort by: one that is not known counts as the highest."""
    return math.inf if math.isnan(p_value) else p_value
