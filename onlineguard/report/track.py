"""A track: the recording of one slice during a run, and its part of the report."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from onlineguard.report.alarms import Alarm, joined, nan_last
from onlineguard.report.buckets import BUCKET, Buckets, halved, merged


@dataclass
class SliceReport:
    """The report of one slice. All arrays are of the same length and in the order of the events.

    `index` is the number of each event within the slice, which is also the unit of the alarms; `times` are int64
    microseconds or datetime64, or None; `values` are the series, or the score where there are several features.
    NaN leaves a gap; an infinite score is drawn at the upper edge. `drivers` is each feature's share of the scores of
    the alarms. `n_events`, `n_anomalies` and `n_alarms` count from the slice's first event on. The series and the
    alarms begin at the event `drawn_from`, and only the least likely alarms are listed. `evidence` says by how many
    decades the alarms are less likely than chance, see `onlineguard.report.evidence`.
    """

    name: str
    times: Sequence[Any] | Int[np.ndarray, " n"] | None
    index: Int[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    thresholds: Float[np.ndarray, " n"]
    alarms: Sequence[Alarm]
    labels: Int[np.ndarray, " n"] | None
    drivers: Mapping[str, float]
    n_events: int
    n_anomalies: int
    n_alarms: int | None = None
    value_name: str = "value"
    drawn_from: int = 0
    evidence: float = 0.0


@dataclass
class Track:
    """The recording of one slice."""

    id: int  # of this track; a slice that is recorded again gets another
    name: Hashable  # what a report calls it
    row: int  # of the slice in the table of counts
    begins_at: int  # the number of the slice's event with which its recording begins
    buckets: Buckets = field(default_factory=lambda: np.empty(0, BUCKET))
    halvings: int = 0  # a bucket holds 2**halvings events
    n_recorded: int = 0  # events
    alarms: list[Alarm] = field(default_factory=lambda: [])
    peak: float = -math.inf  # highest finite score of an anomaly
    p_value: float = math.inf  # lowest of an alarm with a finite peak: an infinite one says nothing of how odd it was
    drivers: dict[str, float] = field(default_factory=lambda: {})
    timed: bool = False
    labelled: bool = False

    def add(self, events: Buckets, max_buckets: int) -> None:
        """Add events, given as buckets of one event each. Too many buckets are merged in pairs."""
        if not len(events):
            return
        first = self.n_recorded
        self.n_recorded += len(events)
        for _ in range(self.halvings):
            events, first = halved(events, first), first // 2
        if first < len(self.buckets):  # the last bucket was not full
            self.buckets[-1:] = merged(self.buckets[-1:], events[:1])
            events = events[1:]
        self.buckets = np.concatenate([self.buckets, events])
        while len(self.buckets) > max_buckets:
            self.buckets = halved(self.buckets, 0)
            self.halvings += 1

    def add_alarms(self, alarms: list[Alarm], gap: int, max_alarms: int) -> None:
        """Add the alarms of the events just added. If there are too many, the least likely stay."""
        finite = [nan_last(alarm.p_value) for alarm in alarms if math.isfinite(alarm.peak_score)]
        self.p_value = min([self.p_value, *finite])
        self.alarms = joined(self.alarms, alarms, gap)
        if len(self.alarms) > max_alarms:  # the last one stays, since it may go on
            *closed, last = self.alarms
            strongest = sorted(closed, key=lambda alarm: (alarm.evidence, alarm.peak_score))
            strongest = strongest[len(self.alarms) - max_alarms :]
            self.alarms = [*sorted(strongest), last]

    def report(self, counts: np.void, evidence: float, value_name: str) -> SliceReport:
        """The report of the slice, given its counts and its evidence.

        Each bucket is drawn as two points, the lowest and the highest, in the order of their events.
        """
        buckets = self.buckets
        low_first = buckets["low_at"] <= buckets["high_at"]

        def both(name: str) -> np.ndarray:
            low, high = buckets[f"low{name}"], buckets[f"high{name}"]
            return np.stack([np.where(low_first, low, high), np.where(low_first, high, low)], axis=1).ravel()

        index = both("_at")
        distinct = np.append(True, index[1:] != index[:-1]) if len(index) else np.empty(0, np.bool_)
        total = sum(self.drivers.values())
        return SliceReport(
            name=" / ".join(map(str, self.name)) if isinstance(self.name, tuple) else str(self.name),
            times=both("_time")[distinct] if self.timed else None,
            index=index[distinct],
            values=both("")[distinct],
            scores=np.repeat(buckets["score"], 2)[distinct],
            thresholds=np.repeat(buckets["threshold"], 2)[distinct],
            alarms=list(self.alarms),
            labels=np.repeat(buckets["label"], 2)[distinct] if self.labelled else None,
            drivers={feature: weight / total for feature, weight in self.drivers.items()},
            n_events=int(counts["events"]),
            n_anomalies=int(counts["anomalies"]),
            n_alarms=int(counts["alarms"]),
            value_name=value_name,
            drawn_from=self.begins_at,
            evidence=evidence,
        )
