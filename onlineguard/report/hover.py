"""The values of a plot as its script reads them: one entry for every column of the plot that has events.

A column may stand for many events. It has their lowest and highest value, the highest score, and the number and the
moment of the event that has it, so that a report has at most `WIDTH` + 1 entries a slice, some 40 bytes each, whatever
the length of its series. All of it is numbers, four digits each, and safe in an attribute.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from onlineguard.report.plot import Plot


def points(plot: Plot, valued: bool) -> str:
    """What `report.js` reads from `data-points`; the values only where `valued`."""
    if not len(plot.x):
        return "[[],[],[],[],[],[],[],[],[]]"
    column = plot.x.astype(np.int64)
    first = np.flatnonzero(np.diff(column, prepend=-1))
    last = np.append(first[1:], len(column)) - 1
    score = np.fmax.reduceat(plot.scores, first)
    is_highest = plot.scores == np.repeat(score, last - first + 1)
    highest = np.minimum.reduceat(np.where(is_highest, np.arange(len(column)), len(column)), first)
    highest = np.where(highest < len(column), highest, last)  # no score of the column is known
    parts = [
        _whole(column[first]),
        _steps(np.asarray(plot.of_slice.index)[highest]),
        "[]" if plot.times is None else _steps((plot.times[highest] - plot.times[0]) // 1_000),
        _numbers(np.fmin.reduceat(plot.values, first)) if valued else "0",
        _numbers(np.fmax.reduceat(plot.values, first)) if valued else "0",
        _numbers(score),
        _runs(plot.thresholds[last]),
        _alarms(plot),
        "[" + ",".join(map(_whole, plot.labels)) + "]",
    ]
    return "[" + ",".join(parts) + "]"


def _alarms(plot: Plot) -> str:
    """Of each band: its first and last column, how many alarms it stands for, and their lowest p-value."""
    if not plot.alarms:
        return "[]"
    spans = np.array([(alarm[0], alarm[1], alarm[3]) for alarm in plot.of_slice.alarms], np.float64)
    first, last = np.interp(spans[:, :2], np.asarray(plot.of_slice.index), plot.x).T
    lows, highs = np.array(plot.alarms).T
    band = np.clip(np.searchsorted(lows, (first + last) / 2, side="right") - 1, 0, None)
    np.minimum.at(lows, band, first.astype(np.int64))  # a band is drawn to the nearest column, and may lack one
    np.maximum.at(highs, band, last.astype(np.int64))
    p_values = np.full(len(lows), np.nan)
    np.fmin.at(p_values, band, spans[:, 2])
    columns = (lows, highs, np.bincount(band, minlength=len(lows)), p_values)
    return "[" + ",".join(f"[{low},{high},{n},{_number(p)}]" for low, high, n, p in zip(*columns, strict=True)) + "]"


def _whole(values: Iterable[Any]) -> str:
    return "[" + ",".join(str(int(value)) for value in values) + "]"


def _steps(values: np.ndarray) -> str:
    return _whole(np.diff(values.astype(np.int64), prepend=0))


def _numbers(values: Float[np.ndarray, " n"]) -> str:
    return "[" + ",".join(map(_number, values.tolist())) + "]"


def _runs(values: Float[np.ndarray, " n"]) -> str:
    """Each value with how often it comes in a row: thresholds seldom change."""
    runs = [(text, sum(1 for _ in same)) for text, same in itertools.groupby(map(_number, values.tolist()))]
    return "[" + ",".join(f"{text},{n}" for text, n in runs) + "]"


def _number(value: float) -> str:
    if np.isnan(value):
        return "null"
    return f"{value:.4g}".replace("e+", "e") if np.isfinite(value) else f"{np.sign(value):.0f}e999"  # read as infinity
