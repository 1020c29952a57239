"""What the engine answers: one row an event."""

import functools
from dataclasses import dataclass

import numpy as np

from onlineguard.detector import LEVELS

SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Verdicts:
    """Judgements of n events, each made with what was known before it; float32 arrays (n,) unless said otherwise.

    score: how odd the event is: 1 is usual, whatever the slice's units; NaN where no feature could be scored.
    threshold: the score from which the event is an anomaly of its slice.
    ready: bool; the slice has seen enough events to be judged, and the event said something.
    """

    score: np.ndarray
    threshold: np.ndarray
    ready: np.ndarray
    quantiles: np.ndarray  # (n, 3): the slice's scores exceeded by 50, 20 and 5 % of its events
    target_rate: float

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
        shares = np.array([*LEVELS, self.target_rate])
        order = np.argsort(-shares, kind="stable")
        log_share = np.log(shares[order])
        knots = np.column_stack([self.quantiles, self.threshold])[:, order].astype(np.float64)
        log_knots = np.log(np.maximum.accumulate(knots, axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            log_score = np.log(self.score.astype(np.float64))
            below = 1.0 - np.exp(log_score - log_knots[:, 0]) * (1.0 - shares[order[0]])
            log_p = np.where(log_score < log_knots[:, 0], np.log(below), log_share[0])
            for left, right in [(0, 1), (1, 2), (2, 3)]:
                width = np.maximum(log_knots[:, right] - log_knots[:, left], 1e-9)
                part = np.clip((log_score - log_knots[:, left]) / width, 0.0, 1.0)
                log_p = log_p + part * (log_share[right] - log_share[left])
            tail = (log_share[1] - log_share[3]) / np.maximum(log_knots[:, 3] - log_knots[:, 1], 1e-3)
            log_p = log_p - tail * np.maximum(log_score - log_knots[:, 3], 0.0)
        return np.where(np.isnan(self.score), np.nan, np.maximum(np.exp(log_p), SMALLEST_P))

    def __len__(self) -> int:
        return len(self.score)
