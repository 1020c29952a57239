"""The report of a run: one self-contained HTML file, and the recorder that collects what it shows in bounded memory.

`SeriesRecorder` keeps, of each of a bounded number of slices, the lowest and the highest value, the highest score and
the threshold of equally long stretches of events; when its room is used up, each two stretches become one. So no
spike is ever lost, whatever the length of the stream. `merge_alarms` makes one alarm of a run of anomalous events.
`write_report` draws them: no script, no other host, light and dark, from 320 pixels up, and print.
"""

import html
import math
import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from onlineguard.errors import InvalidArgument

_WIDTH, _HEIGHT = 720, 1_000  # of a plot, in its own units: one column of lows and highs a unit
_BAND = 3  # narrowest alarm drawn, in columns
_NO_TIME = np.iinfo(np.int64).min
_ALARM_ROWS, _DRIVER_ROWS = 5, 6


class Alarm(NamedTuple):
    """A run of anomalous events of one slice: first and last event, highest score, lowest p-value."""

    start: int
    end: int
    peak_score: float
    p_value: float


@dataclass
class SliceReport:
    """What is shown of one slice. All arrays are of the same length and in the order of the events.

    `index` is the number of each event within the slice, which is also the unit of the alarms; `times` are int64
    microseconds or datetime64, or None; `values` are the series, or the score where there are several features.
    NaN leaves a gap; an infinite score is drawn at the upper edge. `drivers` is each feature's share of the scores of
    the alarms. `n_alarms` counts also the alarms that are no longer kept.
    """

    name: str
    times: Sequence[Any] | Int[np.ndarray, " n"] | None
    index: Int[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    thresholds: Float[np.ndarray, " n"]
    alarms: Sequence[tuple[int, int, float, float]]
    labels: Int[np.ndarray, " n"] | None
    drivers: Mapping[str, float]
    n_events: int
    n_anomalies: int
    n_alarms: int | None = None
    value_name: str = "value"


def merge_alarms(
    at: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"], p_values: Float[np.ndarray, " n"], gap: int = 10
) -> list[Alarm]:
    """Alarms from anomalous events, whose numbers `at` ascend; up to `gap` normal events between two join them."""
    if len(at) == 0:
        return []
    first = np.flatnonzero(np.diff(at, prepend=at[0] - gap - 2) > gap + 1)
    last = np.append(first[1:], len(at)) - 1
    peaks, p = np.fmax.reduceat(scores, first), np.fmin.reduceat(p_values, first)
    return [Alarm(*row) for row in zip(at[first].tolist(), at[last].tolist(), peaks.tolist(), p.tolist(), strict=True)]


# Recording

_BUCKET = np.dtype(
    {
        "names": "low_at low_time low high_at high_time high score threshold label".split(),
        "formats": "i8 i8 f8 i8 i8 f8 f8 f8 i1".split(),
    }
)
Buckets = np.ndarray[Any, Any]  # of _BUCKET


@dataclass
class _Track:
    """One slice as recorded; its events are numbered from where its recording began."""

    buckets: Buckets = field(default_factory=lambda: np.empty(0, _BUCKET))
    halvings: int = 0  # a bucket holds 2**halvings events
    n_events: int = 0
    n_anomalies: int = 0
    n_alarms: int = 0
    alarms: list[Alarm] = field(default_factory=lambda: [])
    peak: float = -math.inf  # highest finite score of an anomaly
    drivers: dict[str, float] = field(default_factory=lambda: {})
    timed: bool = False
    labelled: bool = False

    def add(self, events: Buckets, max_buckets: int) -> None:
        first = self.n_events
        self.n_events += len(events)
        for _ in range(self.halvings):
            events, first = _halved(events, first), first // 2
        if first < len(self.buckets):  # the last bucket was not full
            self.buckets[-1:] = _merged(self.buckets[-1:], events[:1])
            events = events[1:]
        self.buckets = np.concatenate([self.buckets, events])
        while len(self.buckets) > max_buckets:
            self.buckets = _halved(self.buckets, 0)
            self.halvings += 1

    def alarm(self, alarms: list[Alarm], gap: int, max_alarms: int) -> None:
        if alarms and self.alarms and alarms[0].start - self.alarms[-1].end - 1 <= gap:
            last, more = self.alarms.pop(), alarms[0]
            joined = Alarm(last.start, more.end, max(last.peak_score, more.peak_score), min(last.p_value, more.p_value))
            alarms = [joined, *alarms[1:]]
            self.n_alarms -= 1
        self.n_alarms += len(alarms)
        self.alarms += alarms
        if len(self.alarms) > max_alarms:  # the last one stays, since it may go on
            *closed, last = self.alarms
            strongest = sorted(closed, key=lambda alarm: alarm.peak_score)[len(self.alarms) - max_alarms :]
            self.alarms = [*sorted(strongest), last]


class SeriesRecorder:
    """Records, batch by batch, what a report shows, of at most `max_slices` slices.

    A slice beyond them takes the place of the recorded one with the lowest peak as soon as an anomaly of its own is
    higher; its recording begins with that batch. About `max_points` points and `max_alarms` alarms are kept a slice,
    the alarms with the highest peaks. `gap` is that of `merge_alarms`.
    """

    def __init__(self, max_slices: int = 64, max_points: int = 4_000, max_alarms: int = 500, gap: int = 10):
        for name, value, least in (
            ("max_slices", max_slices, 1),
            ("max_points", max_points, 4),
            ("max_alarms", max_alarms, 2),
            ("gap", gap, 0),
        ):
            if value < least:
                raise InvalidArgument(f"{name} is {value}; it must be at least {least}")
        self._max_slices, self._max_buckets, self._max_alarms, self._gap = max_slices, max_points // 2, max_alarms, gap
        self._tracks: dict[Hashable, _Track] = {}

    def __contains__(self, slice_: Hashable) -> bool:
        return slice_ in self._tracks

    def add(
        self,
        slices: pl.Series | np.ndarray | Sequence[Hashable],
        values: Float[np.ndarray, " n"],
        scores: Float[np.ndarray, " n"],
        thresholds: Float[np.ndarray, " n"],
        anomalous: Bool[np.ndarray, " n"],
        p_values: Float[np.ndarray, " n"],
        times: Int[np.ndarray, " n"] | None = None,
        labels: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        """Record a batch of events, in their order: one slice key and one number each, as the engine returned them."""
        keys: list[Hashable] = slices.tolist() if isinstance(slices, np.ndarray) else list(slices)
        columns = {"values": values, "scores": scores, "thresholds": thresholds, "p_values": p_values}
        columns |= {"anomalous": anomalous} | {} if times is None else {"times": times}
        columns |= {} if labels is None else {"labels": labels}
        for name, column in columns.items():
            if len(column) != len(keys):
                raise InvalidArgument(f"{name} has {len(column)} entries for {len(keys)} events; give one each")
        if not keys:
            return
        codes: dict[Hashable, int] = {}
        code = np.fromiter((codes.setdefault(key, len(codes)) for key in keys), np.int64, len(keys))
        order = np.argsort(code, kind="stable")
        starts = np.searchsorted(code[order], np.arange(len(codes) + 1))
        odd = np.where(np.asarray(anomalous, np.bool_) & np.isfinite(scores), scores, -np.inf)
        peaks: list[float] = np.maximum.reduceat(odd[order], starts[:-1]).tolist()

        events = np.zeros(len(keys), _BUCKET)
        events["low"] = events["high"] = values
        events["low_time"] = events["high_time"] = _NO_TIME if times is None else np.asarray(times).astype(np.int64)
        events["score"], events["threshold"] = scores, thresholds
        events["label"] = 0 if labels is None else np.asarray(labels) == 1
        for i, (key, peak) in enumerate(zip(codes, peaks, strict=True)):
            track = self._track(key, peak)
            if track is None:
                continue
            rows = order[starts[i] : starts[i + 1]]
            number = track.n_events + np.arange(len(rows))
            mine = events[rows]
            mine["low_at"] = mine["high_at"] = number
            track.add(mine, self._max_buckets)
            hits = np.flatnonzero(np.asarray(anomalous)[rows])
            track.n_anomalies += len(hits)
            track.peak = max(track.peak, peak)
            track.timed |= times is not None
            track.labelled |= labels is not None
            found = merge_alarms(
                number[hits], np.asarray(scores)[rows][hits], np.asarray(p_values)[rows][hits], self._gap
            )
            track.alarm(found, self._gap, self._max_alarms)

    def add_drivers(self, slice_: Hashable, shares: Mapping[str, float]) -> None:
        """Count what drove one anomalous event: a share (or any weight) of its score for each feature."""
        track = self._tracks.get(slice_)
        total = sum(share for share in shares.values() if share > 0 and math.isfinite(share))
        if track is None or total == 0:
            return
        for feature, share in shares.items():
            if share > 0 and math.isfinite(share):
                track.drivers[feature] = track.drivers.get(feature, 0.0) + share / total

    def reports(
        self, n: int = 10, slices: Iterable[Hashable] | None = None, value_name: str = "value"
    ) -> list[SliceReport]:
        """The `n` slices with the highest peaks, highest first; or those of `slices` that are recorded, as ordered."""
        if slices is None:
            chosen = sorted(self._tracks, key=lambda key: self._tracks[key].peak, reverse=True)[:n]
        else:
            chosen = [key for key in slices if key in self._tracks]
        return [_report(key, self._tracks[key], value_name) for key in chosen]

    def _track(self, key: Hashable, peak: float) -> _Track | None:
        track = self._tracks.get(key)
        if track is None and len(self._tracks) >= self._max_slices:
            weakest = min(self._tracks, key=lambda other: self._tracks[other].peak) if peak > -math.inf else key
            if weakest == key or peak <= self._tracks[weakest].peak:
                return None
            del self._tracks[weakest]
        return track or self._tracks.setdefault(key, _Track())


def _halved(buckets: Buckets, first: int) -> Buckets:
    """Buckets 2i and 2i + 1 merged into bucket i, where `first` is the number of the first one."""
    head = first % 2
    pairs = (len(buckets) - head) // 2
    even, odd = buckets[head : head + 2 * pairs : 2], buckets[head + 1 : head + 2 * pairs : 2]
    return np.concatenate([buckets[:head], _merged(even, odd), buckets[head + 2 * pairs :]])


def _merged(earlier: Buckets, later: Buckets) -> Buckets:
    both = earlier.copy()
    for side, beyond in (("low", later["low"] < earlier["low"]), ("high", later["high"] > earlier["high"])):
        take = beyond | np.isnan(earlier[side])
        for name in (side, f"{side}_at", f"{side}_time"):
            both[name] = np.where(take, later[name], earlier[name])
    both["score"] = np.fmax(earlier["score"], later["score"])
    both["threshold"] = np.where(np.isnan(later["threshold"]), earlier["threshold"], later["threshold"])
    both["label"] = np.maximum(earlier["label"], later["label"])
    return both


def _report(key: Hashable, track: _Track, value_name: str) -> SliceReport:
    buckets = track.buckets
    low_first = buckets["low_at"] <= buckets["high_at"]

    def both(name: str) -> np.ndarray:
        low, high = buckets[f"low{name}"], buckets[f"high{name}"]
        return np.stack([np.where(low_first, low, high), np.where(low_first, high, low)], axis=1).ravel()

    index = both("_at")
    kept = np.append(True, index[1:] != index[:-1]) if len(index) else np.empty(0, np.bool_)
    total = sum(track.drivers.values())
    return SliceReport(
        name=" / ".join(map(str, key)) if isinstance(key, tuple) else str(key),
        times=both("_time")[kept] if track.timed else None,
        index=index[kept],
        values=both("")[kept],
        scores=np.repeat(buckets["score"], 2)[kept],
        thresholds=np.repeat(buckets["threshold"], 2)[kept],
        alarms=list(track.alarms),
        labels=np.repeat(buckets["label"], 2)[kept] if track.labelled else None,
        drivers={feature: weight / total for feature, weight in track.drivers.items()},
        n_events=track.n_events,
        n_anomalies=track.n_anomalies,
        n_alarms=track.n_alarms,
        value_name=value_name,
    )


# Writing


def write_report(
    path: str | Path, slices: Sequence[SliceReport], summary: Mapping[str, Any], title: str = "Anomaly report"
) -> None:
    """Write one HTML file that shows `summary`, a table of the slices, and a section for each, in the given order.

    All text is escaped. An existing file is replaced at once, or left as it was. Raises InvalidArgument where the file
    cannot be written.
    """
    path = Path(path)
    plots = [_Plot.of(slice_) for slice_ in slices]
    tiles = "".join(f"<div><dt>{_text(k)}</dt><dd>{_text(_value(v))}</dd></div>" for k, v in summary.items())
    labelled = any(plot.labels for plot in plots)
    page = _PAGE.substitute(
        title=_text(title),
        style=_STYLE,
        tiles=f'<dl class="tiles">{tiles}</dl>' if tiles else "",
        table=_table(plots) if plots else "<p>No slice was recorded.</p>",
        legend=_legend(labelled) if plots else "",
        sections="".join(_section(number, plot) for number, plot in enumerate(plots, 1)),
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            temporary.write_text(page, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidArgument(
            f"path is {path}, where no report can be written ({error.strerror}); name a file in a folder that can be"
        ) from error


@dataclass
class _Plot:
    """A slice with everything placed: x from 0 to `_WIDTH`, one entry a point, ascending."""

    of_slice: SliceReport
    x: Float[np.ndarray, " n"]
    ticks: list[tuple[float, str]]  # where on the x axis, and what it says
    times: Int[np.ndarray, " n"] | None  # None where the x axis counts events
    alarms: list[tuple[int, int]]  # columns where a band starts and ends
    labels: list[tuple[int, int]]

    @staticmethod
    def of(slice_: SliceReport) -> "_Plot":
        index = np.asarray(slice_.index, np.float64)
        n = len(index)
        for name in ("values", "scores", "thresholds", "times", "labels"):
            column = getattr(slice_, name)
            if column is not None and len(column) != n:
                raise InvalidArgument(f"{name} of slice {slice_.name!r} has {len(column)} entries, its index has {n}")
        times = _ascending_times(slice_.times)
        position = index - index[:1] if times is None else (times - times[0]).astype(np.float64)
        per_unit = _WIDTH / max(float(position[-1]), 1) if n else 1.0
        x = position * per_unit
        if times is None:
            ticks = _index_ticks(float(index[0]), float(index[-1])) if n else []
        else:
            ticks = [(at - int(times[0]), text) for at, text in _time_ticks(int(times[0]), int(times[-1]))]
        spans = np.array([alarm[:2] for alarm in slice_.alarms], np.float64).reshape(-1, 2)
        alarms = _bands(np.interp(spans[:, 0], index, x), np.interp(spans[:, 1], index, x)) if n else []
        labels: list[tuple[int, int]] = []
        if slice_.labels is not None and n:
            edges = np.diff(np.asarray(slice_.labels) == 1, prepend=False, append=False)
            starts, ends = np.flatnonzero(edges)[::2], np.flatnonzero(edges)[1::2] - 1
            labels = _bands(x[starts], x[ends])
        return _Plot(slice_, x, [(at * per_unit, text) for at, text in ticks], times, alarms, labels)

    def when(self, event: float) -> str:
        if self.times is None:
            return f"event {int(event):,}"
        since = np.interp(event, self.of_slice.index, (self.times - self.times[0]).astype(np.float64))
        return _moment(int(self.times[0]) + round(float(since)))


def _ascending_times(times: Sequence[Any] | np.ndarray | None) -> Int[np.ndarray, " n"] | None:
    """Microseconds, the missing ones filled in and small steps back levelled; None where they order nothing."""
    if times is None or len(times) == 0:
        return None
    moments = np.asarray(times)
    moments = (moments.astype("datetime64[us]") if moments.dtype.kind in "MO" else moments).astype(np.int64)
    known = np.flatnonzero(moments != _NO_TIME)
    if len(known) == 0 or np.abs(moments[known]).max() > 10**18:  # 30,000 years: no time at all
        return None
    filled = np.interp(np.arange(len(moments)), known, moments[known]).round().astype(np.int64)
    filled[known] = moments[known]  # exactly
    ascending = np.maximum.accumulate(filled)
    if ascending[0] == ascending[-1] or np.mean(ascending != filled) > 0.02:
        return None
    return ascending


def _bands(starts: Float[np.ndarray, " m"], ends: Float[np.ndarray, " m"]) -> list[tuple[int, int]]:
    """Spans as columns, each wide enough to be seen, those that touch joined."""
    bands: list[tuple[int, int]] = []
    for start, end in sorted(zip(starts.tolist(), ends.tolist(), strict=True)):
        middle, half = (start + end) / 2, max(end - start, _BAND) / 2
        low = min(max(0, round(middle - half)), _WIDTH - _BAND)
        high = min(max(low + _BAND, round(middle + half)), _WIDTH)
        if bands and low <= bands[-1][1]:
            bands[-1] = (bands[-1][0], max(high, bands[-1][1]))
        else:
            bands.append((low, high))
    return bands


@dataclass
class _Axis:
    """A y axis, linear or, where a few values dwarf the others, logarithmic beyond `linear_to` on both sides of 0."""

    low: float
    high: float
    linear_to: float | None

    @staticmethod
    def of(values: Float[np.ndarray, " n"], from_zero: bool = False) -> "_Axis":
        finite = np.clip(values[np.isfinite(values)], -1e300, 1e300)
        if len(finite) == 0:
            return _Axis(0.0, 1.0, None)
        low, high = float(finite.min()), float(finite.max())
        low = min(low, 0.0) if from_zero else low
        bulk = np.percentile(finite, [2, 98])
        scale = float(np.percentile(np.abs(finite), 50 if from_zero else 90))
        dwarfed = high - low > 25 * float(bulk[1] - bulk[0]) and max(-low, high) > 25 * scale > 0
        axis = _Axis(low, high, scale if dwarfed else None)
        bottom, top = axis._bend(np.array([low, high]))
        room = 0.06 * (top - bottom) or 0.5 * abs(top) or 0.5
        return _Axis(float(bottom) - (0 if from_zero and low == 0 else room), float(top) + room, axis.linear_to)

    def y(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """From the top down, in units of the plot; infinities at the edges, NaN stays."""
        part = (self._bend(values) - self.low) / (self.high - self.low)
        return _HEIGHT * (1 - np.clip(part, 0, 1))

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and texts, none so near to another that the two texts would touch."""
        if self.linear_to is None:
            step = _nice_step((self.high - self.low) / 4)
            at = step * np.arange(math.ceil(self.low / step), math.floor(self.high / step) + 1)
            return list(zip(self.y(at).tolist(), _numbers(at.tolist(), step), strict=True))
        powers = 10.0 ** np.arange(math.floor(math.log10(self.linear_to)), 301)
        at = np.concatenate([[0.0], powers[::-1], -powers[::-1]])  # what comes first is kept
        at = at[(self._bend(at) >= self.low) & (self._bend(at) <= self.high)]
        kept: list[tuple[float, str]] = []
        for y, value in zip(self.y(at).tolist(), at.tolist(), strict=True):
            if all(abs(y - other) >= 0.11 * _HEIGHT for other, _ in kept):
                kept.append((y, _number(value)))
        return kept

    def _bend(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return values if self.linear_to is None else np.arcsinh(values / self.linear_to)


def _nice_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= least * (1 - 1e-9))


_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def _numbers(values: Sequence[float], step: float) -> list[str]:
    """Tick labels in one unit, with as many decimals as the step needs."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 1e15 or (0 < largest < 1e-3):
        return [_number(value) for value in values]
    unit, sign = next((unit for unit in _UNITS if largest >= unit[0]), _UNITS[-1])
    decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    decimals += abs(round(step / unit, decimals) - step / unit) > 1e-6 * step / unit  # a step of 2.5
    return [f"{value / unit:.{decimals}f}{sign}" if value else "0" for value in values]


def _number(value: float) -> str:
    """Three significant digits: 0.0123, 1.23, 9,870, 12.3k, 1.23M, 1.2e-7."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-3:
        return re.sub(r"e([+-])0*", lambda match: "e" + match[1].strip("+"), f"{value:.2g}")
    unit, sign = next((unit for unit in _UNITS if size >= unit[0]), _UNITS[-1]) if size >= 9_999.5 else _UNITS[-1]
    value /= unit
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") + sign


def _index_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round event numbers, as distances from the first event."""
    step = max(_nice_step(max(high - low, 1) / 8), 1)
    return [(at - low, f"{at:,.0f}") for at in step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)]


_SECOND, _DAY = 1_000_000, 86_400_000_000
_STEPS = (
    *(digit * 10**k for k in range(6) for digit in (1, 2, 5)),
    *(seconds * _SECOND for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600)),
    *(hours * 3_600 * _SECOND for hours in (2, 3, 6, 12, 24, 48, 96, 168, 336)),
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _time_ticks(low: int, high: int) -> list[tuple[int, str]]:
    """Some six to nine round moments between two, in microseconds."""
    least = (high - low) / 9
    step = next((step for step in _STEPS if step >= least), None)
    if step is not None:
        at_steps = range(-(-low // step) * step, high + 1, step)
        return [(at, _day(at) if at % _DAY == 0 else _clock(at, step)) for at in at_steps]
    months = next((months for months in (1, 2, 3, 6) if months * 30.44 * _DAY >= least), None)
    every = months or 12 * max(1, round(_nice_step(least / (365.25 * _DAY))))
    first, last = (int(np.datetime64(at, "us").astype("datetime64[M]").astype(np.int64)) for at in (low, high))
    ticks: list[tuple[int, str]] = []
    for month in range(-(-first // every) * every, last + 1, every):
        at = int(np.datetime64(month, "M").astype("datetime64[us]").astype(np.int64))
        if at >= low:
            ticks.append((at, str(1970 + month // 12) if month % 12 == 0 else _MONTHS[month % 12]))
    return ticks


def _day(at: int, with_year: bool = False) -> str:
    year, month, day = str(np.datetime64(at, "us").astype("datetime64[D]")).rsplit("-", 2)
    return f"{int(day)} {_MONTHS[int(month) - 1]}" + (f" {year}" if with_year else "")


def _clock(at: int, step: int) -> str:
    clock = str(np.datetime64(at, "us")).split("T")[1]
    return clock[:5] if step % (60 * _SECOND) == 0 else clock[:8] if step % _SECOND == 0 else clock.rstrip("0")


def _moment(at: int) -> str:
    step = next(step for step in (60 * _SECOND, _SECOND, 1) if at % step == 0)
    return f"{_day(at, with_year=True)} {_clock(at, step)}"


# Pieces of the page


def _table(plots: Sequence[_Plot]) -> str:
    rows: list[str] = []
    for number, plot in enumerate(plots, 1):
        slice_ = plot.of_slice
        peak = max((alarm[2] for alarm in slice_.alarms), default=math.nan)
        p_value = min((alarm[3] for alarm in slice_.alarms), default=math.nan)
        share = f" <small>{slice_.n_anomalies / slice_.n_events:.2%}</small>" if slice_.n_events else ""
        driver = max(slice_.drivers, key=lambda feature: slice_.drivers[feature], default="")
        values = _Axis.of(np.asarray(slice_.values, np.float64)).y(np.asarray(slice_.values, np.float64))
        line = _path(plot.x * (120 / _WIDTH), values)
        bands = _band_path([(low // 6, -(-high // 6)) for low, high in plot.alarms])
        rows.append(
            f'<tr><th scope="row"><a href="#s{number}"><bdi>{_text(slice_.name)}</bdi></a></th>'
            f'<td class="spark"><svg viewBox="0 0 120 {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
            f'<path class="alarm" d="{bands}"/><path class="series" d="{line}"/></svg></td>'
            f"<td>{slice_.n_events:,}</td><td>{slice_.n_anomalies:,}{share}</td><td>{_n_alarms(slice_):,}</td>"
            f"<td>{_number(peak)}</td><td>{_number(p_value)}</td>"
            f'<td class="by"><bdi>{_text(driver) or "n/a"}</bdi></td></tr>'
        )
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Slices">'
        '<table class="slices"><thead><tr><th scope="col">Slice</th><th scope="col">Series</th>'
        '<th scope="col">Events</th><th scope="col">Anomalies</th><th scope="col">Alarms</th>'
        '<th scope="col">Highest score</th><th scope="col">Lowest p-value</th><th scope="col">Driven by</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _legend(labelled: bool) -> str:
    entries = [("series", "series"), ("score", "score"), ("threshold", "threshold"), ("alarm", "alarm")]
    entries += [("label", "labelled window")] * labelled
    return '<ul class="legend">' + "".join(f'<li><i class="{c}"></i>{name}</li>' for c, name in entries) + "</ul>"


def _section(number: int, plot: _Plot) -> str:
    slice_, id_ = plot.of_slice, f"s{number}"
    name = _text(slice_.name)
    facts = f"{_counted(slice_.n_events, 'event')}, {_counted(slice_.n_anomalies, 'anomaly', 'anomalies')} in "
    facts += _counted(_n_alarms(slice_), "alarm")
    if plot.times is not None:
        facts += f"; {_moment(int(plot.times[0]))} to {_moment(int(plot.times[-1]))}"
    values, scores = np.asarray(slice_.values, np.float64), np.asarray(slice_.scores, np.float64)
    thresholds = np.asarray(slice_.thresholds, np.float64)
    panels = ""
    if slice_.value_name != "score" and not np.array_equal(values, scores, equal_nan=True):
        axis = _Axis.of(values)
        line = f'<path class="series" d="{_path(plot.x, axis.y(values))}"/>'
        panels += _panel(id_ + "v", plot, axis, slice_.value_name, line, facts)
    axis = _Axis.of(np.concatenate([scores, thresholds]), from_zero=True)
    limit = axis.y(thresholds)
    marks = (
        f'<clipPath id="{id_}c"><path d="{_path(plot.x, limit, floor=0)}"/></clipPath>'
        f'<defs><path id="{id_}p" d="{_path(plot.x, axis.y(scores), floor=_HEIGHT)}"/></defs>'
        f'<use class="score" href="#{id_}p"/><use class="over" href="#{id_}p" clip-path="url(#{id_}c)"/>'
        f'<path class="threshold" d="{_path(plot.x, limit)}"/>'
    )
    panels += _panel(id_ + "t", plot, axis, "score", marks, facts)
    ticks = "".join(f'<span style="left:{x / _WIDTH:.2%}">{text}</span>' for x, text in plot.ticks)
    axis_name = "time (UTC)" if plot.times is not None else "event"
    return (
        f'<section id="{id_}" aria-labelledby="{id_}h"><h2 id="{id_}h"><bdi>{name}</bdi></h2>'
        f'<p class="facts">{facts}</p>'
        f'{panels}<div class="x" aria-hidden="true">{ticks}</div><p class="xname">{axis_name}</p>'
        f'<div class="below">{_drivers(slice_)}{_alarms(plot)}</div></section>'
    )


def _panel(id_: str, plot: _Plot, axis: _Axis, name: str, marks: str, facts: str) -> str:
    ticks = axis.ticks()
    grid = "".join(f"M0 {y:.0f}h{_WIDTH}" for y, _ in ticks) + "".join(f"M{x:.0f} 0v{_HEIGHT}" for x, _ in plot.ticks)
    labels = "".join(f'<span style="top:{y / _HEIGHT:.2%}">{text}</span>' for y, text in ticks)
    scale = " <small>log scale</small>" if axis.linear_to is not None else ""
    label, alarm = _band_path(plot.labels), _band_path(plot.alarms)
    bands = f'<path class="label" d="{label}"/><path class="label edge" d="{_band_path(plot.labels, 0, 30)}"/>' * bool(
        label
    )
    bands += (
        f'<path class="alarm" d="{alarm}"/><path class="alarm edge" d="{_band_path(plot.alarms, 970, 30)}"/>'
        * bool(alarm)
    )
    return (
        f'<div class="panel"><h3>{_text(name)}{scale}</h3><div class="plot"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'preserveAspectRatio="none" role="img" aria-labelledby="{id_}t {id_}d"><title id="{id_}t">{_text(name)} of '
        f'{_text(plot.of_slice.name)} over time</title><desc id="{id_}d">{facts}.</desc><path class="grid" d="{grid}"/>'
        f'{bands}{marks}</svg><div class="y" aria-hidden="true">{labels}</div></div></div>'
    )


def _drivers(slice_: SliceReport) -> str:
    ranked = sorted(slice_.drivers.items(), key=lambda item: -item[1])
    if not ranked:
        return ""
    shown, rest = ranked[:_DRIVER_ROWS], ranked[_DRIVER_ROWS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(share for _, share in rest)))
    bars = "".join(
        f'<li><span><bdi>{_text(feature)}</bdi></span><b><i style="width:{min(max(share, 0), 1):.1%}"></i></b>'
        f"<em>{share:.0%}</em></li>"
        for feature, share in shown
    )
    return f'<div><h3>What drove the alarms</h3><ul class="drivers">{bars}</ul></div>'


def _alarms(plot: _Plot) -> str:
    alarms = sorted(plot.of_slice.alarms, key=lambda alarm: -alarm[2])[:_ALARM_ROWS]
    if not alarms:
        return "<div><h3>Alarms</h3><p>None.</p></div>"
    rows = "".join(
        f"<tr><td>{plot.when(start)}</td><td>{_counted(end - start + 1, 'event')}</td><td>{_number(peak)}</td>"
        f"<td>{_number(p_value)}</td></tr>"
        for start, end, peak, p_value in alarms
    )
    of = (
        f" <small>{len(alarms)} of {_n_alarms(plot.of_slice):,}</small>"
        if _n_alarms(plot.of_slice) > len(alarms)
        else ""
    )
    return (
        f'<div><h3>Highest alarms{of}</h3><div class="wide" tabindex="0" role="region" aria-label="Alarms">'
        '<table><thead><tr><th scope="col">Start</th>'
        '<th scope="col">Length</th><th scope="col">Peak score</th><th scope="col">p-value</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _path(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], floor: int | None = None) -> str:
    """A line that keeps the lowest and highest of each column; with a `floor` the area between, by its upper edge."""
    known = ~np.isnan(y)
    run, column, height = np.cumsum(~known)[known], x[known].astype(np.int64), np.rint(y[known]).astype(np.int64)
    if len(height) == 0:
        return ""
    first = np.flatnonzero(np.append(True, (np.diff(column) != 0) | (np.diff(run) != 0)))
    top, bottom = np.minimum.reduceat(height, first), np.maximum.reduceat(height, first)
    falls = height[first] - top <= bottom - height[first]  # go first to what lies nearer to where the column begins
    pair = [top] if floor is not None else [np.where(falls, top, bottom), np.where(falls, bottom, top)]
    points = np.stack(
        [np.repeat(run[first], len(pair)), np.repeat(column[first], len(pair)), np.stack(pair, 1).ravel()], 1
    )
    parts: list[str] = []
    for points_of_run in np.split(points, np.flatnonzero(np.diff(points[:, 0])) + 1):
        line = points_of_run[:, 1:]
        bends = (np.diff(line, axis=0) != 0).any(axis=1)
        line = line[np.append(True, bends)]
        flat = (np.diff(line[:, 1]) == 0)[:-1] & (np.diff(line[:, 1]) == 0)[1:]
        line = line[np.concatenate([[True], ~flat, [True]])[: len(line)]] if len(line) > 2 else line
        x0, y0 = line[0].tolist()
        moves = " ".join(f"{dx}{dy}" if dy < 0 else f"{dx} {dy}" for dx, dy in np.diff(line, axis=0).tolist())
        start = f"M{x0} {y0}" if floor is None else f"M{x0} {floor}V{y0}"
        parts.append(start + (f"l{moves}" if moves else "h1") + ("" if floor is None else f"V{floor}"))
    return "".join(parts)


def _band_path(bands: Sequence[tuple[int, int]], top: int = 0, height: int = _HEIGHT) -> str:
    return "".join(f"M{low} {top}h{high - low}v{height}h{low - high}z" for low, high in bands)


def _n_alarms(slice_: SliceReport) -> int:
    return len(slice_.alarms) if slice_.n_alarms is None else slice_.n_alarms


def _text(text: object) -> str:
    """As it may stand anywhere in the page: escaped, and without characters that HTML does not know."""
    clean = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]", "\ufffd", str(text))
    return html.escape(clean)


def _value(value: object) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{int(value):,}"
    return _number(float(value)) if isinstance(value, float | np.floating) else str(value)


def _counted(n: int, noun: str, nouns: str = "") -> str:
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


_STYLE = """
:root{color-scheme:light dark;--page:#f5f6f8;--card:#fff;--ink:#161b22;--soft:#57606a;--line:#e3e7ec;--series:#2b5580;
--score:#6b7683;--alarm:#c8381b;--label:#087f78}
@media (prefers-color-scheme:dark){:root{--page:#0d1117;--card:#161b22;--ink:#e6edf3;--soft:#9aa5b1;--line:#2a313a;
--series:#8dbbe8;--score:#8b96a3;--alarm:#ff7b5c;--label:#3ccabb}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font-variant-numeric:tabular-nums;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:72rem;margin:0 auto;padding:2.5rem clamp(.75rem,3vw,2rem) 4rem}
h1{font-size:1.75rem;line-height:1.2;letter-spacing:-.02em;margin:0 0 1.5rem}
h2{font-size:1.15rem;margin:0;overflow-wrap:anywhere}
h3{font-size:.8rem;font-weight:600;margin:0 0 .4rem}
small{font-weight:400;font-size:.85em;color:var(--soft)}
a{color:inherit;text-decoration-color:var(--soft);text-underline-offset:.2em}
a:focus-visible,.wide:focus-visible{outline:2px solid var(--series);outline-offset:2px}
section,.overview{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:1.25rem clamp(.9rem,2.5vw,1.75rem);margin:0 0 1.25rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:1rem;margin:0 0 1.5rem}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:.8rem 1rem}
.tiles dt{color:var(--soft);font-size:.8rem}
.tiles dd{margin:0;font-size:1.3rem;font-weight:600;letter-spacing:-.01em;overflow-wrap:anywhere}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{padding:.4rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);font-weight:400}
tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-size:.78rem}
th:first-child,td:first-child{text-align:left;padding-left:0}
td:last-child,th:last-child{padding-right:0}
tbody th{font-weight:600;white-space:normal;overflow-wrap:anywhere;min-width:14rem}
.by{max-width:9rem;overflow:hidden;text-overflow:ellipsis}
.slices :is(th,td):nth-child(2){text-align:left}
.spark svg{display:block;width:7rem;height:1.8rem}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;list-style:none;margin:0 0 1rem;padding:0 .25rem;font-size:.82rem;
color:var(--soft)}
.legend i{display:inline-block;width:1.3rem;height:0;margin-right:.45rem;vertical-align:.28em;border-top:2px solid}
.legend .series{color:var(--series)}.legend .score{color:var(--score)}
.legend .threshold{color:var(--alarm);border-top-style:dashed}
.legend .alarm,.legend .label{height:.85rem;vertical-align:-.1em;border:0;
background:color-mix(in srgb,currentColor 22%,transparent)}
.legend .alarm{color:var(--alarm);border-bottom:3px solid}.legend .label{color:var(--label);border-top:3px solid}
.facts{color:var(--soft);font-size:.85rem;margin:.1rem 0 1.1rem}
.panel{margin-left:3.4rem}
.panel+.panel{margin-top:1rem}
.plot{position:relative;height:clamp(8rem,18vw,12rem)}
.panel+.panel .plot{height:clamp(6rem,12vw,8rem)}
.plot svg{position:absolute;inset:0;width:100%;height:100%;border-bottom:1px solid var(--soft)}
.y span,.x span{position:absolute;color:var(--soft);font-size:.75rem;line-height:1;white-space:nowrap}
.y span{right:calc(100% + .5rem);transform:translateY(-50%)}
.x{position:relative;height:1.3rem;margin-left:3.4rem}
.x span{top:.45rem;transform:translateX(-50%)}
.xname{margin:.15rem 0 0 3.4rem;color:var(--soft);font-size:.75rem;text-align:center}
svg{fill:none;stroke-linejoin:round}
path{vector-effect:non-scaling-stroke}
.grid{stroke:var(--line)}
path.series{stroke:var(--series);stroke-width:1.4}
use.score{stroke:var(--score);stroke-width:1;fill:var(--score);fill-opacity:.22}
use.over{stroke:var(--alarm);stroke-width:1.6;fill:var(--alarm);fill-opacity:.35}
path.threshold{stroke:var(--alarm);stroke-width:1.4;stroke-dasharray:5 3}
path.alarm{fill:var(--alarm);fill-opacity:.16}path.label{fill:var(--label);fill-opacity:.13}
path.edge{fill-opacity:1}
.below{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));gap:1.5rem 2.5rem;
margin-top:1.4rem}
.below>div{min-width:0}
.drivers{list-style:none;margin:0;padding:0;font-size:.875rem}
.drivers li{display:grid;grid-template-columns:minmax(5rem,9rem) 1fr 3rem;gap:.75rem;align-items:center;
padding:.22rem 0}
.drivers span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.drivers b{background:var(--line);border-radius:4px;height:.6rem}
.drivers i{display:block;height:100%;background:var(--series);border-radius:4px}
.drivers em{font-style:normal;text-align:right}
@media (max-width:40rem){.x span:nth-child(even){display:none}.panel,.x,.xname{margin-left:2.8rem}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="generator" content="onlineguard">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$tiles
<div class="overview">$table</div>
$legend
$sections
</main>
</body>
</html>
""")
