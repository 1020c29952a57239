"""What the engine answers: one row an event."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from onlineguard.core.quantiles import LEVELS

SMALLEST_P = 1e-12
COLUMNS = ("score", "threshold", "p_value", "anomalous", "ready")
SHOWN = 10  # verdicts in a notebook


@dataclass(frozen=True, repr=False)
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
    tail: np.ndarray | None = None  # the score exceeded by target_rate of its events; None: the threshold

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
            knots = (*self.quantiles[0].tolist(), float(self._tail[0]))
            return np.array([p_value_of(float(self.score[0]), knots, self.target_rate)])
        shares, order, log_share = _levels(self.target_rate)
        knots = np.empty((len(self.score), 4))
        knots[:, :3], knots[:, 3] = self.quantiles, self._tail
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

    @property
    def _tail(self) -> np.ndarray:
        return self.threshold if self.tail is None else self.tail

    def __len__(self) -> int:
        return len(self.score)

    @overload
    def __getitem__(self, which: int | np.integer) -> "Verdict": ...
    @overload
    def __getitem__(self, which: slice | np.ndarray | Sequence[int]) -> "Verdicts": ...
    def __getitem__(self, which: Any) -> Any:
        """The verdict at an index, or the verdicts that a slice, a mask or an array of indices selects."""
        if isinstance(which, (int, np.integer)) and not isinstance(which, bool):
            return Verdict(
                float(self.score[which]),
                float(self.threshold[which]),
                bool(self.ready[which]),
                (*self.quantiles[which].tolist(), float(self._tail[which])),
                self.target_rate,
            )
        chosen = {
            field.name: getattr(self, field.name)[which]
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), np.ndarray)
        }
        return dataclasses.replace(self, **chosen)

    def __iter__(self) -> "Iterator[Verdict]":
        return (self[i] for i in range(len(self)))

    def to_dict(self) -> dict[str, np.ndarray]:
        """The columns score, threshold, p_value, anomalous and ready."""
        return {name: getattr(self, name) for name in COLUMNS}

    def to_polars(self) -> Any:
        """The columns of `to_dict` as a polars frame."""
        import polars as pl

        return pl.DataFrame(self.to_dict())

    def to_pandas(self) -> Any:
        """The columns of `to_dict` as a pandas frame; needs pandas."""
        import pandas as pd

        return pd.DataFrame(self.to_dict())

    def __repr__(self) -> str:
        ready, anomalous = int(self.ready.sum()), int(self.anomalous.sum())
        return f"Verdicts of {len(self):,} events: {ready:,} ready, {anomalous:,} anomalous at {self.target_rate:g}"

    def _repr_html_(self) -> str:
        """The oddest verdicts, for notebooks."""
        odd = np.argsort(np.where(np.isnan(self.score), np.inf, -self.score), kind="stable")[:SHOWN]
        head = "".join(f"<th>{name}</th>" for name in ("event", *COLUMNS))
        rows = "".join(
            f"<tr><td>{i}</td>{''.join(f'<td>{_shown(getattr(self[i], name))}</td>' for name in COLUMNS)}</tr>"
            for i in odd.tolist()
        )
        return f"<table><caption>{self!r}; the oddest of them</caption><tr>{head}</tr>{rows}</table>"


@dataclass(frozen=True)
class Verdict:
    """One event, judged with what was known before it."""

    score: float  # how odd: 1 is usual; NaN where no feature could be scored
    threshold: float  # the score from which an event is an anomaly
    ready: bool  # enough was seen to judge, and the event could be scored
    quantiles: tuple[float, float, float, float]  # scores exceeded by 50, 20, 5 % and target_rate of the events
    target_rate: float

    @property
    def anomalous(self) -> bool:
        """Ready, and the score lies over the threshold."""
        return self.ready and self.score > self.threshold

    @property
    def p_value(self) -> float:
        """Share of usual events at least as odd; NaN where the score is. See `Verdicts.p_value`."""
        return p_value_of(self.score, self.quantiles, self.target_rate)


def _shown(value: float | bool) -> str:
    return str(value) if isinstance(value, bool) else f"{value:.4g}"


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
