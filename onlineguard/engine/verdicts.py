"""What the engine answers: one row an event."""

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np

from onlineguard.models.detector import LEVELS

SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Verdicts:
    """Judgements of n events, each made with what was known before it; float32 arrays (n,) unless said otherwise.

    score: how odd the event is: 1 is usual, whatever the slice's units; NaN where no feature could be scored.
    threshold: the score from which the event is an anomaly of its slice.
    ready: bool; the slice has seen enough events to be judged, and the event said something.
    slice_numbers: int64, from an engine: its number for the slice of each event, the order of births over the engine's
        life, never given to another slice; -1 where `score` met a slice that is not known.
    """

    score: np.ndarray
    threshold: np.ndarray
    ready: np.ndarray
    quantiles: np.ndarray  # (n, 3): the slice's scores exceeded by 50, 20 and 5 % of its events
    target_rate: float
    slice_numbers: np.ndarray | None = None

    @property
    def anomalous(self) -> np.ndarray:
        """Bool: the slice is ready and the score lies over the threshold."""
        return self.ready & (self.score > self.threshold)

    @functools.cached_property
    def p_value(self) -> np.ndarray:
        """Share of usual events of the slice at least as odd, float64; NaN where the score is.

        Read from the running quantiles of the slice's own scores: linear in log score and log share between them, and
        a Pareto tail beyond the last, through the last and the one exceeded by 20 %. Never below 1e-12.
        """
        if len(self.score) == 1:
            knots = (*self.quantiles[0].tolist(), float(self.threshold[0]))
            return np.array([p_value_of(float(self.score[0]), knots, self.target_rate)])
        shares, order, log_share = _levels(self.target_rate)
        knots = np.empty((len(self.score), 4))
        knots[:, :3], knots[:, 3] = self.quantiles, self.threshold
        log_knots = np.log(np.maximum.accumulate(knots[:, order], axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            log_score = np.log(self.score.astype(np.float64))
            below = 1.0 - np.exp(log_score - log_knots[:, 0]) * (1.0 - shares[0])
            log_p = np.where(log_score < log_knots[:, 0], np.log(below), log_share[0])
            widths = np.maximum(log_knots[:, 1:] - log_knots[:, :-1], 1e-9)
            parts = np.minimum(np.maximum((log_score[:, None] - log_knots[:, :3]) / widths, 0.0), 1.0)
            parts *= log_share[1:] - log_share[:-1]
            for left in range(3):
                log_p = log_p + parts[:, left]
            tail = (log_share[1] - log_share[3]) / np.maximum(log_knots[:, 3] - log_knots[:, 1], 1e-3)
            log_p = log_p - tail * np.maximum(log_score - log_knots[:, 3], 0.0)
        return np.where(np.isnan(self.score), np.nan, np.maximum(np.exp(log_p), SMALLEST_P))

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, at: slice | np.ndarray) -> "Verdicts":
        """The verdicts of some of the events."""
        numbers = None if self.slice_numbers is None else self.slice_numbers[at]
        return Verdicts(
            self.score[at], self.threshold[at], self.ready[at], self.quantiles[at], self.target_rate, numbers
        )


def p_value_of(score: float, knots: tuple[float, ...], target_rate: float) -> float:
    """`Verdicts.p_value` of one event, by the same arithmetic on numbers instead of arrays, in a tenth of the time.

    knots: the slice's scores exceeded by 50, 20 and 5 % of its events, and its threshold.
    """
    shares, order, log_share = _levels_listed(target_rate)
    if math.isnan(score) or any(map(math.isnan, knots)):
        return math.nan
    rising = [*itertools.accumulate([knots[i] for i in order], max)]
    if score > 0.0 and rising[0] > 0.0:
        # NumPy's logarithm and exponential: those of `math` may differ in the last bit
        log_score, *logs = np.log((score, *rising)).tolist()
    else:
        with np.errstate(divide="ignore", invalid="ignore"):  # which takes longer than the logarithms
            log_score, *logs = np.log((score, *rising)).tolist()
    log_p = log_share[0]
    if log_score < logs[0]:
        log_p = float(np.log(1.0 - np.exp(log_score - logs[0]) * (1.0 - shares[0])))
    for left in range(3):
        part = min(max((log_score - logs[left]) / max(logs[left + 1] - logs[left], 1e-9), 0.0), 1.0)
        log_p = log_p + part * (log_share[left + 1] - log_share[left])
    tail = (log_share[1] - log_share[3]) / max(logs[3] - logs[1], 1e-3)
    log_p = log_p - tail * max(log_score - logs[3], 0.0)
    return max(float(np.exp(log_p)), SMALLEST_P)


@functools.lru_cache
def _levels(target_rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares exceeding a slice's knots, the largest first; the order of these; logarithms of the shares."""
    shares = np.array([*LEVELS, target_rate])
    order = np.argsort(-shares, kind="stable")
    return shares[order], order, np.log(shares[order])


@functools.lru_cache
def _levels_listed(target_rate: float) -> tuple[list[float], list[int], list[float]]:
    shares, order, logs = _levels(target_rate)
    return shares.tolist(), order.tolist(), logs.tolist()
