"""A plot: where the points, alarms and labels of a slice stand along the x axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from onlineguard.errors import InvalidArgument
from onlineguard.report.axes import WIDTH, index_ticks, time_ticks
from onlineguard.report.buckets import NO_TIME
from onlineguard.report.formats import format_moment
from onlineguard.report.track import SliceReport

_BAND = 3  # narrowest alarm drawn, in columns


@dataclass
class Plot:
    """A slice placed along the x axis. Arrays have one entry a point; `x` ascends from 0 to `WIDTH`."""

    of_slice: SliceReport
    x: Float[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]  # these three as float64
    scores: Float[np.ndarray, " n"]
    thresholds: Float[np.ndarray, " n"]
    ticks: list[tuple[float, str]]  # position on the x axis, and text
    times: Int[np.ndarray, " n"] | None  # None where the x axis counts events
    alarms: list[tuple[int, int]]  # columns where a band starts and ends
    labels: list[tuple[int, int]]

    @staticmethod
    def of(slice_: SliceReport) -> "Plot":
        index = np.asarray(slice_.index, np.float64)
        n = len(index)
        for name in ("values", "scores", "thresholds", "times", "labels"):
            column = getattr(slice_, name)
            if column is not None and len(column) != n:
                raise InvalidArgument(f"{name} of slice {slice_.name!r} has {len(column)} entries, its index has {n}")
        times = _ascending_times(slice_.times)
        position = index - index[:1] if times is None else (times - times[0]).astype(np.float64)
        per_unit = WIDTH / max(float(position[-1]), 1) if n else 1.0
        x = position * per_unit
        if times is None:
            ticks = index_ticks(float(index[0]), float(index[-1])) if n else []
        else:
            ticks = [(at - int(times[0]), text) for at, text in time_ticks(int(times[0]), int(times[-1]))]
        spans = np.array([alarm[:2] for alarm in slice_.alarms], np.float64).reshape(-1, 2)
        alarms = _bands(np.interp(spans[:, 0], index, x), np.interp(spans[:, 1], index, x)) if n else []
        labels: list[tuple[int, int]] = []
        if slice_.labels is not None and n:
            edges = np.diff(np.asarray(slice_.labels) == 1, prepend=False, append=False)
            starts, ends = np.flatnonzero(edges)[::2], np.flatnonzero(edges)[1::2] - 1
            labels = _bands(x[starts], x[ends])
        return Plot(
            slice_,
            x,
            np.asarray(slice_.values, np.float64),
            np.asarray(slice_.scores, np.float64),
            np.asarray(slice_.thresholds, np.float64),
            [(at * per_unit, text) for at, text in ticks],
            times,
            alarms,
            labels,
        )

    @property
    def n_alarms(self) -> int:
        """The number of alarms of the slice, including those that are no longer kept."""
        return len(self.of_slice.alarms) if self.of_slice.n_alarms is None else self.of_slice.n_alarms

    def when(self, event: float) -> str:
        """The moment of an event of the slice, or its number, in words."""
        if self.times is None:
            return f"event {int(event):,}"
        elapsed = np.interp(event, self.of_slice.index, (self.times - self.times[0]).astype(np.float64))
        return format_moment(int(self.times[0]) + round(float(elapsed)))


def _ascending_times(times: Sequence[Any] | np.ndarray | None) -> Int[np.ndarray, " n"] | None:
    """Microseconds, with missing times filled in and small steps back levelled; None unless they order the events."""
    if times is None or len(times) == 0:
        return None
    moments = np.asarray(times)
    moments = (moments.astype("datetime64[us]") if moments.dtype.kind in "MO" else moments).astype(np.int64)
    known = np.flatnonzero(moments != NO_TIME)
    if len(known) == 0 or np.abs(moments[known]).max() > 10**18:  # 30,000 years: no time at all
        return None
    filled = np.interp(np.arange(len(moments)), known, moments[known]).round().astype(np.int64)
    filled[known] = moments[known]  # exactly, where interpolation rounds
    ascending = np.maximum.accumulate(filled)
    if ascending[0] == ascending[-1] or np.mean(ascending != filled) > 0.02:
        return None
    return ascending


def _bands(starts: Float[np.ndarray, " m"], ends: Float[np.ndarray, " m"]) -> list[tuple[int, int]]:
    """Spans as columns, each wide enough to be seen; spans that touch are joined."""
    bands: list[tuple[int, int]] = []
    for start, end in sorted(zip(starts.tolist(), ends.tolist(), strict=True)):
        middle, half = (start + end) / 2, max(end - start, _BAND) / 2
        low = min(max(0, round(middle - half)), WIDTH - _BAND)
        high = min(max(low + _BAND, round(middle + half)), WIDTH)
        if bands and low <= bands[-1][1]:
            bands[-1] = (bands[-1][0], max(high, bands[-1][1]))
        else:
            bands.append((low, high))
    return bands
