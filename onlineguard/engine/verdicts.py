"""The engine's answer: one verdict for each event."""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.core.quantiles import LEVELS
from onlineguard.extras import require
from onlineguard.models.base import READY, SCORE, THRESHOLD

SMALLEST_P = 1e-12
BELOW = 0.7  # power times the log of (score that 20 % exceed / median), see `Verdicts.p_value`; .6 to .8 do as well
COLUMNS = ("score", "threshold", "p_value", "anomalous", "ready")
SHOWN = 10  # verdicts in a notebook


class Verdicts:
    """Judgements of n events, each made by the state from before it.

    judgements: (n, FIELDS) float32, a row an event as the model gave it; see `Judgement`. Not to be changed. They may
        still be on a device, at work.
    target_rate: share of usual events to be flagged.
    slice_numbers: int64 (n,), from an engine: the number of each event's slice. Slices are numbered in order of birth,
        and no number is ever given twice. It is -1 where `score` met an unknown slice.
    """

    __slots__ = ("_judgements", "_p_value", "slice_numbers", "target_rate")

    def __init__(self, judgements: Array, target_rate: float, slice_numbers: np.ndarray | None = None):
        self._judgements, self.target_rate, self.slice_numbers = judgements, target_rate, slice_numbers
        self._p_value: np.ndarray | None = None

    @property
    def judgements(self) -> np.ndarray:
        """The judgements, float32 (n, FIELDS). If they are on a device, they are waited for and copied, once."""
        if not isinstance(self._judgements, np.ndarray):
            self._judgements = np.asarray(self._judgements)
        return self._judgements

    def on_device(self) -> jax.Array:
        """The judgements, float32 (n, FIELDS), as an array of JAX, which other libraries take by DLPack.

        They are not copied where events came from the engine's own device, unless they have been read before. Column 0
        is the score, 1 the threshold, and 2 whether the verdict is ready.
        """
        return jnp.asarray(self._judgements)

    @property
    def score(self) -> np.ndarray:
        """How odd the event is, float32 (n,): 1 is usual, whatever the slice's units; NaN if no feature is scored."""
        return self.judgements[:, SCORE]

    @property
    def threshold(self) -> np.ndarray:
        """The score from which the event is an anomaly of its slice, float32 (n,)."""
        return self.judgements[:, THRESHOLD]

    @property
    def ready(self) -> np.ndarray:
        """Bool (n,): the slice has seen enough events, and this event could be scored."""
        return self.judgements[:, READY] > 0

    @property
    def quantiles(self) -> np.ndarray:
        """The scores that 50, 20 and 5 % of the slice's events exceed, float32 (n, 3)."""
        return self.judgements[:, READY + 1 : READY + 4]

    @property
    def anomalous(self) -> np.ndarray:
        """Bool (n,): the slice is ready and the score lies over the threshold."""
        return self.ready & (self.score > self.threshold)

    @property
    def p_value(self) -> np.ndarray:
        """Share of the slice's usual events that are at least as odd, float64 (n,); NaN where the score is NaN.

        It comes from the running quantiles of the slice's scores. Between two of them the log share is linear in the
        log score. Beyond the last one it is a Pareto tail, through the last one and the one that 20 % exceed. Below the
        median the share of smaller scores is a power of the score, through the one that 80 % exceed; where a model does
        not keep that one, the power follows from the two quantiles above. It is never below 1e-12.
        """
        if self._p_value is None:
            self._p_value = p_values(self.judgements, self.target_rate)
        return self._p_value

    @property
    def bounded_score(self) -> np.ndarray:
        """The score on a scale from 0 to 1, float64 (n,); NaN where the p-value is NaN.

        It is k / (1 + k) for an event that is odd to one in 10^k: .5 for one in ten, .67 for one in a hundred, .75 for
        one in a thousand. Measures that cut the range from 0 to 1 into bins, such as river's ROCAUC, need such a score.
        """
        return _bounded(self.p_value)

    def rows(self) -> list[tuple[float, float, float, bool, bool]]:
        """Score, threshold, p-value, anomalous and ready of each event, as plain numbers."""
        return [
            (score, threshold, p_value, ready > 0.0 and score > threshold, ready > 0.0)
            for (score, threshold, ready, *_), p_value in zip(
                self.judgements.tolist(), self.p_value.tolist(), strict=True
            )
        ]

    def __len__(self) -> int:
        return len(self._judgements)

    @overload
    def __getitem__(self, which: int | np.integer) -> "Verdict": ...  # pyright: ignore[reportOverlappingOverload]
    @overload  # an int is neither a slice nor a mask, which may be a column of pandas, polars or Arrow
    def __getitem__(self, which: Any) -> "Verdicts": ...
    def __getitem__(self, which: Any) -> Any:
        """The verdict at an index, or the verdicts that a slice, a mask or an array of indices selects."""
        if isinstance(which, (int, np.integer)) and not isinstance(which, bool):
            return Verdict.of(self.judgements[which], self.target_rate)
        numbers = None if self.slice_numbers is None else self.slice_numbers[which]
        return Verdicts(self.judgements[which], self.target_rate, numbers)

    def __iter__(self) -> "Iterator[Verdict]":
        return (self[i] for i in range(len(self)))

    def to_dict(self) -> dict[str, np.ndarray]:
        """The columns score, threshold, p_value, anomalous and ready."""
        return {name: getattr(self, name) for name in COLUMNS}

    def to_polars(self) -> Any:
        """The columns of `to_dict` as a polars frame; needs the extra `polars`."""
        require("Verdicts.to_polars", "polars")
        import polars as pl

        return pl.DataFrame(self.to_dict())

    def to_pandas(self, index: Any = None) -> Any:
        """The columns of `to_dict` as a pandas frame; needs pandas.

        index: that of the frame that was judged, `df.index`, so that `df.join` puts each verdict beside its row; else
            the verdicts are counted from 0.
        """
        import pandas as pd

        return pd.DataFrame(self.to_dict(), index=index)

    def plot(self, X: Any = None, features: Sequence[str] | None = None, *, time: Any = None) -> Any:
        """Draw the scores against their thresholds on a log axis, with the anomalous marked, over the values in X.

        X: the events that were judged, in the same order: (n, d) numbers, a frame or other named columns.
        features: which columns of a frame are drawn, at most 12, or the names of the numbers; else all with numbers.
        time: when the events were, (n,) times or numbers, or the name of that column of X or of its index in pandas;
            else that index, where it holds times, or events are counted.

        Returns the axes of a new figure of Matplotlib, one for each feature and the last for the score; needs the extra
        `plot`. Draw one slice at a time, `verdicts[here].plot(X[here])` with `here = X["host"] == "web-1"`.
        `Engine.plot` names the features itself.
        """
        from onlineguard.engine.pictures import drawn

        return drawn(self, X, features, time=time)

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
    """The verdict on one event, by the state from before it."""

    score: float  # how odd: 1 is usual; NaN where no feature could be scored
    threshold: float  # the score from which an event is an anomaly
    ready: bool  # the slice has seen enough events, and this event could be scored
    quantiles: tuple[float, float, float, float]  # scores exceeded by 50, 20, 5 % and target_rate of the events
    target_rate: float
    four_fifths: float = math.nan  # the score that 80 % exceed

    @classmethod
    def of(cls, judgement: np.ndarray, target_rate: float) -> "Verdict":
        """The verdict of a judgement (FIELDS,); see `Verdicts`."""
        score, threshold, ready, *knots, four_fifths = judgement.tolist()
        return cls(score, threshold, ready > 0.0, tuple(knots), target_rate, four_fifths)

    @property
    def anomalous(self) -> bool:
        """Ready, and the score lies over the threshold."""
        return self.ready and self.score > self.threshold

    @property
    def p_value(self) -> float:
        """Share of usual events that are at least as odd; NaN where the score is NaN. See `Verdicts.p_value`."""
        return _p_value_of_one(self.score, self.quantiles, self.four_fifths, self.target_rate)

    @property
    def bounded_score(self) -> float:
        """The score on a scale from 0 to 1. See `Verdicts.bounded_score`."""
        return float(_bounded(self.p_value))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={_shown(getattr(self, name))}" for name in COLUMNS)
        return f"Verdict({fields})"

    def _repr_html_(self) -> str:
        """One row, for notebooks."""
        said = "anomalous" if self.anomalous else "usual" if self.ready else "not ready"
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        cells = "".join(f"<td>{_shown(getattr(self, name))}</td>" for name in COLUMNS)
        return f"<table><caption>Verdict: {said}</caption><tr>{head}</tr><tr>{cells}</tr></table>"


def _bounded(p_value: Any) -> Any:
    digits = -np.log10(p_value)
    return digits / (1.0 + digits)


def _shown(value: float | bool) -> str:
    return str(value) if isinstance(value, bool) else f"{value:.4g}"


def p_values(judgements: np.ndarray, target_rate: float) -> np.ndarray:
    """`Verdicts.p_value` of n judgements (n, FIELDS), float64 (n,)."""
    if len(judgements) == 1:  # plain numbers take a fifth of the time of arrays of one
        score, _, _, *knots, four_fifths = judgements[0].tolist()
        return np.array([_p_value_of_one(score, knots, four_fifths, target_rate)])
    shares, order, log_shares = _levels(target_rate)
    columns = judgements.T
    rising = np.maximum.accumulate(columns[READY + 1 : READY + 5][order], axis=0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        logs = np.log(np.vstack([columns[SCORE], rising, columns[READY + 5]], dtype=np.float64))
        return _p_value(logs, shares[0], log_shares, np)


def _p_value_of_one(score: float, knots: Sequence[float], four_fifths: float, target_rate: float) -> float:
    shares, order, log_shares = _levels(target_rate)
    if any(map(math.isnan, knots)):
        return math.nan
    rising = itertools.accumulate([knots[i] for i in order], max)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        logs = np.log(
            (score, *rising, four_fifths)
        ).tolist()  # NumPy's logarithm: that of `math` may differ in the last bit
        return float(_p_value(logs, shares[0], log_shares, _Numbers))


class _Numbers:
    """NumPy's functions that `_p_value` needs, for plain numbers. `max` and `min` return a NaN that comes first."""

    exp, log = np.exp, np.log
    maximum, minimum = max, min

    @staticmethod
    def where(condition: bool, yes: float, no: float) -> float:
        return yes if condition else no


def _p_value(logs: Any, largest_share: float, log_shares: list[float], xp: Any) -> Any:
    """The share of events at least as odd as one of log score logs[0].

    logs[1:5] are the rising logs of four knots, and logs[5] that of the score which 80 % exceed, NaN if it is unknown.
    largest_share: share of the events that exceed the first knot. log_shares: logs of the shares of all four knots. NaN
    where any of the first five logs is NaN.
    """
    score, *knots, four_fifths = logs
    rise = xp.where(
        four_fifths == four_fifths,
        math.log((1.0 - largest_share) / 0.2) / xp.maximum(knots[0] - four_fifths, 1e-3),
        xp.maximum(BELOW / xp.maximum(knots[1] - knots[0], 1e-3), 1.0),
    )
    below = xp.log(1.0 - xp.exp(rise * (score - knots[0])) * (1.0 - largest_share))
    log_p = xp.where(score < knots[0], below, log_shares[0])
    for left in range(3):
        width = xp.maximum(knots[left + 1] - knots[left], 1e-9)
        part = xp.minimum(xp.maximum((score - knots[left]) / width, 0.0), 1.0)
        log_p = log_p + part * (log_shares[left + 1] - log_shares[left])
    tail = (log_shares[1] - log_shares[3]) / xp.maximum(knots[3] - knots[1], 1e-3)
    log_p = log_p - tail * xp.maximum(score - knots[3], 0.0)
    return xp.maximum(xp.exp(log_p), SMALLEST_P)


@functools.lru_cache
def _levels(target_rate: float) -> tuple[list[float], list[int], list[float]]:
    """Shares of events that exceed a slice's knots, largest first; the order that sorts them; their logarithms."""
    shares = np.array([*LEVELS, target_rate])
    order = np.argsort(-shares, kind="stable")
    return shares[order].tolist(), order.tolist(), np.log(shares[order]).tolist()
