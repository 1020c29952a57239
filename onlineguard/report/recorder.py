"""The recorder of a run, which collects the contents of a report in bounded memory."""

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from onlineguard.engine.keys import SliceKeys, as_keys
from onlineguard.errors import InvalidArgument
from onlineguard.report.alarms import merge_alarms
from onlineguard.report.buckets import BUCKET, NO_TIME
from onlineguard.report.counts import LARGEST_BATCH, Counts, Grouped
from onlineguard.report.evidence import THOUSANDTHS
from onlineguard.report.track import SliceReport, Track

PENDING_EVENTS = 1 << 16  # events of recorded slices that are collected before all go into their tracks at once

_EVENT = np.dtype([("track", "i8"), ("bucket", BUCKET), ("anomalous", "?"), ("p_value", "f8")])


class SeriesRecorder:
    """Records the contents of a report, batch by batch.

    Events, anomalies and alarms of every slice are counted exactly, from its first event on. There are counts for a
    million slices; beyond that the least recently seen are forgotten. At most `max_slices` slices are recorded:

    - The series, in equally long stretches of events: the lowest and the highest value, the highest score and the last
      threshold of each, about `max_points` points in all.
    - The `max_alarms` alarms with the most evidence.

    Another slice replaces the recorded one with the least evidence as soon as it has more; of equal ones, that with the
    lowest peak. Its series begins with that batch. See `onlineguard.report.evidence`, and `merge_alarms` for `gap`.
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
        self._counts = Counts(gap)
        self._tracks: dict[Hashable, Track] = {}
        self._next_id = 0  # of the next track
        self._pending: list[np.ndarray] = []  # of _EVENT, in their order
        self._n_pending = 0

    def __contains__(self, slice_: Hashable) -> bool:
        return slice_ in self._tracks

    def add(
        self,
        slices: Any,
        values: Float[np.ndarray, " n"],
        scores: Float[np.ndarray, " n"],
        thresholds: Float[np.ndarray, " n"],
        anomalous: Bool[np.ndarray, " n"],
        p_values: Float[np.ndarray, " n"],
        times: Int[np.ndarray, " n"] | None = None,
        labels: Int[np.ndarray, " n"] | None = None,
        names: SliceKeys | None = None,
    ) -> None:
        """Record a batch of events, in their order, as the engine returned them.

        slices: one key an event, or another identifier of its slice, such as `Verdicts.slice_numbers`.
        p_values: those of anomalous events are recorded; all others may be NaN.
        names: the report's name for the slice of each event; by default its key.
        """
        n = len(scores) if isinstance(slices, str | int | tuple) else len(slices)
        columns: dict[str, Any] = {"values": values, "scores": scores, "thresholds": thresholds, "p_values": p_values}
        columns |= {"anomalous": anomalous, "times": times, "labels": labels, "names": names}
        for name, column in columns.items():
            if column is not None and len(column) != n:
                raise InvalidArgument(f"{name} has {len(column)} entries for {n} events; give one each")
        keys = as_keys(slices, n)
        names = keys if names is None else names
        of_events = [np.asarray(column) for column in (values, scores, thresholds, anomalous, p_values)]
        for start in range(0, n, LARGEST_BATCH):
            cut = slice(start, start + LARGEST_BATCH)
            optional = [None if column is None else np.asarray(column)[cut] for column in (times, labels)]
            self._add(keys[cut], names[cut], *(column[cut] for column in of_events), *optional)

    def add_drivers(self, slice_: Hashable, shares: Mapping[str, float]) -> None:
        """Count the drivers of one anomalous event: a share (or any weight) of its score for each feature."""
        track = self._tracks.get(slice_)
        if track is None:
            return
        positive = {feature: share for feature, share in shares.items() if share > 0 and math.isfinite(share)}
        total = sum(positive.values())
        for feature, share in positive.items():
            track.drivers[feature] = track.drivers.get(feature, 0.0) + share / total

    def reports(
        self, n: int = 10, slices: Iterable[Hashable] | None = None, value_name: str = "value"
    ) -> list[SliceReport]:
        """The `n` slices with the most evidence, the oddest first: lasting alarms count more than single odd events.

        Of equal ones the lowest p-value counts, then the highest score. Or those of `slices` that are recorded, as
        ordered.
        """
        self._settle()
        evidence = self._evidence()
        if slices is None:

            def rank(key: Hashable) -> tuple[float, float, float]:
                track = self._tracks[key]
                return -evidence[track.row], track.p_value, -track.peak

            chosen = sorted(self._tracks, key=rank)[:n]
        else:
            chosen = [key for key in slices if key in self._tracks]
        tracks = [self._tracks[key] for key in chosen]
        return [
            track.report(self._counts[track.row], evidence[track.row] / THOUSANDTHS, value_name) for track in tracks
        ]

    def _evidence(self) -> dict[int, int]:
        """That of each recorded slice, by its row in the table of counts."""
        rows = [track.row for track in self._tracks.values()]
        return dict(zip(rows, self._counts.evidence(np.array(rows, np.int64)).tolist(), strict=True))

    def _add(
        self,
        keys: SliceKeys,
        names: SliceKeys,
        values: np.ndarray,
        scores: np.ndarray,
        thresholds: np.ndarray,
        anomalous: np.ndarray,
        p_values: np.ndarray,
        times: np.ndarray | None,
        labels: np.ndarray | None,
    ) -> None:
        """Record a batch of at most LARGEST_BATCH events."""
        grouped = self._counts.add(keys, anomalous, scores, p_values)
        recorded = self._recorded(grouped, keys, names)
        self._counts.touch(np.array([track.row for track in self._tracks.values()], np.int64))
        if not recorded:
            return
        positions = [grouped.positions(i) for i in recorded]
        at = np.concatenate(positions)
        events = np.zeros(len(at), _EVENT)
        events["track"] = np.repeat([track.id for track in recorded.values()], list(map(len, positions)))
        events["anomalous"], events["p_value"] = anomalous[at], p_values[at]
        bucket = events["bucket"]
        bucket["low_at"] = bucket["high_at"] = grouped.numbers[at]
        bucket["low"] = bucket["high"] = values[at]
        bucket["low_time"] = bucket["high_time"] = NO_TIME if times is None else times[at].astype(np.int64)
        bucket["score"], bucket["threshold"] = scores[at], thresholds[at]
        bucket["label"] = 0 if labels is None else labels[at] == 1
        for track in recorded.values():
            track.timed |= times is not None
            track.labelled |= labels is not None
        self._pending.append(events)
        self._n_pending += len(events)
        if self._n_pending >= PENDING_EVENTS:
            self._settle()

    def _settle(self) -> None:
        """Put the pending events into their tracks; drop those of slices that are no longer recorded."""
        if not self._pending:
            return
        pending = np.concatenate(self._pending)
        self._pending, self._n_pending = [], 0
        pending = pending[np.argsort(pending["track"], kind="stable")]
        for track in self._tracks.values():
            first, end = np.searchsorted(pending["track"], [track.id, track.id + 1])
            buckets = pending["bucket"][first:end]
            odd = pending[first:end][pending["anomalous"][first:end]]
            alarms = merge_alarms(odd["bucket"]["low_at"], odd["bucket"]["score"], odd["p_value"], self._gap)
            track.add(buckets, self._max_buckets)
            track.add_alarms(alarms, self._gap, self._max_alarms)

    def _recorded(self, grouped: Grouped, keys: SliceKeys, names: SliceKeys) -> dict[int, Track]:
        """The tracks of the slices of this batch that are recorded, by the slice's position in the batch.

        Those with the most evidence are recorded, of equal ones those with the highest peaks. Of these, those recorded
        already come first, then those seen first.
        """
        track_of = {track.row: track for track in self._tracks.values()}
        known = np.flatnonzero(np.isin(grouped.rows, list(track_of)))
        for i, row in zip(known.tolist(), grouped.rows[known].tolist(), strict=True):
            track_of[row].peak = max(track_of[row].peak, float(grouped.peaks[i]))
        evidence = self._evidence()

        def worth(key: Hashable) -> tuple[int, float]:
            return evidence[self._tracks[key].row], self._tracks[key].peak

        new = np.ones(len(grouped.rows), bool)
        new[known] = False
        if len(self._tracks) >= self._max_slices:
            least, peak = min(map(worth, self._tracks))
            new &= (grouped.evidence > least) | ((grouped.evidence == least) & (grouped.peaks > peak))
        others = np.flatnonzero(new)
        order = np.lexsort((grouped.first[others], -grouped.peaks[others], -grouped.evidence[others]))
        for i in others[order].tolist():
            peak, at, row = float(grouped.peaks[i]), int(grouped.first[i]), int(grouped.rows[i])
            evidence[row] = int(grouped.evidence[i])
            if len(self._tracks) >= self._max_slices:
                weakest = min(self._tracks, key=worth)
                if (evidence[row], peak) <= worth(weakest):
                    break
                del self._tracks[weakest]
            track = Track(self._next_id, _plain(names[at]), row, int(grouped.numbers[at]), peak=peak)
            self._tracks[_plain(keys[at])] = track
            self._next_id += 1
        track_of = {track.row: track for track in self._tracks.values()}
        positions = np.flatnonzero(np.isin(grouped.rows, list(track_of))).tolist()
        return {i: track_of[int(grouped.rows[i])] for i in positions}


def _plain(key: Any) -> Hashable:
    """A NumPy scalar as the Python object that it stands for."""
    return key.item() if isinstance(key, np.generic) else key
