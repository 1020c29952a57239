"""What the engine answers: one row an event."""

import dataclasses
import functools
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
        return p_values(self.score, np.vstack([self.quantiles.T, self._tail]), self.target_rate)

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
        return float(p_values(np.array([self.score]), np.array(self.quantiles)[:, None], self.target_rate)[0])


def _shown(value: float | bool) -> str:
    return str(value) if isinstance(value, bool) else f"{value:.4g}"


def p_values(score: np.ndarray, knots: np.ndarray, target_rate: float) -> np.ndarray:
    """`Verdicts.p_value` of n scores (n,), float64 (n,).

    knots: (4, n), the slice's scores exceeded by 50, 20 and 5 % of its events, and by target_rate of them.
    """
    shares, order, log_share = _levels(target_rate)
    numbers = np.empty((5, len(score)))
    numbers[0] = score
    np.maximum.accumulate(knots[order], axis=0, out=numbers[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(numbers)
        above = logs[0] - logs[1:]  # (4, n): how far the score lies above each knot
        below = np.log(1.0 - np.exp(above[0]) * (1.0 - shares[0]))
        parts = (above[:3] / np.maximum(logs[2:] - logs[1:4], 1e-9)).clip(0.0, 1.0)
        log_p = np.where(above[0] < 0.0, below, log_share[0])
        for left in range(3):
            log_p += parts[left] * (log_share[left + 1] - log_share[left])
        tail = (log_share[1] - log_share[3]) / np.maximum(logs[4] - logs[2], 1e-3)
        log_p -= tail * np.maximum(above[3], 0.0)
    return np.maximum(np.exp(log_p), SMALLEST_P)  # NaN where the score is, or a knot


@functools.lru_cache
def _levels(target_rate: float) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Shares exceeding a slice's knots, the largest first; the order of these; logarithms of the shares."""
    shares = np.array([*LEVELS, target_rate])
    order = np.argsort(-shares, kind="stable")
    return shares[order], order, np.log(shares[order]).tolist()
