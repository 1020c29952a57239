"""The recorder of a run: what a report shows of it, collected in bounded memory."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from onlineguard.errors import InvalidArgument
from onlineguard.report.alarms import merge_alarms
from onlineguard.report.buckets import BUCKET, NO_TIME
from onlineguard.report.track import SliceReport, Track


class SeriesRecorder:
    """Records, batch by batch, what a report shows, of at most `max_slices` slices.

    Of each it keeps the lowest and the highest value, the highest score and the last threshold of equally long
    stretches of events, about `max_points` points in all, and the `max_alarms` alarms with the highest peaks. A slice
    beyond `max_slices` takes the place of the recorded one with the lowest peak as soon as an anomaly of its own is
    higher; its recording begins with that batch. `gap` is that of `merge_alarms`.
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
        self._tracks: dict[Hashable, Track] = {}

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
        columns: dict[str, Any] = {"values": values, "scores": scores, "thresholds": thresholds, "p_values": p_values}
        columns |= {"anomalous": anomalous, "times": times, "labels": labels}
        for name, column in columns.items():
            if column is not None and len(column) != len(keys):
                raise InvalidArgument(f"{name} has {len(column)} entries for {len(keys)} events; give one each")
        if not keys:
            return
        codes: dict[Hashable, int] = {}
        code = np.fromiter((codes.setdefault(key, len(codes)) for key in keys), np.int64, len(keys))
        order = np.argsort(code, kind="stable")
        starts = np.searchsorted(code[order], np.arange(len(codes) + 1))
        odd = np.where(np.asarray(anomalous, np.bool_) & np.isfinite(scores), scores, -np.inf)
        peaks: list[float] = np.maximum.reduceat(odd[order], starts[:-1]).tolist()

        events = np.zeros(len(keys), BUCKET)
        events["low"] = events["high"] = values
        events["low_time"] = events["high_time"] = NO_TIME if times is None else np.asarray(times).astype(np.int64)
        events["score"], events["threshold"] = scores, thresholds
        events["label"] = 0 if labels is None else np.asarray(labels) == 1
        for i, (key, peak) in enumerate(zip(codes, peaks, strict=True)):
            track = self._track(key, peak)
            if track is None:
                continue
            rows = order[starts[i] : starts[i + 1]]
            mine, hits = events[rows], np.flatnonzero(np.asarray(anomalous)[rows])
            mine["low_at"] = mine["high_at"] = track.n_events + np.arange(len(rows))
            found = merge_alarms(mine["low_at"][hits], mine["score"][hits], np.asarray(p_values)[rows][hits], self._gap)
            track.add(mine, self._max_buckets)
            track.add_alarms(found, self._gap, self._max_alarms)
            track.n_anomalies += len(hits)
            track.peak = max(track.peak, peak)
            track.timed |= times is not None
            track.labelled |= labels is not None

    def add_drivers(self, slice_: Hashable, shares: Mapping[str, float]) -> None:
        """Count what drove one anomalous event: a share (or any weight) of its score for each feature."""
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
        """The `n` slices with the highest peaks, highest first; or those of `slices` that are recorded, as ordered."""
        if slices is None:
            chosen = sorted(self._tracks, key=lambda key: self._tracks[key].peak, reverse=True)[:n]
        else:
            chosen = [key for key in slices if key in self._tracks]
        return [self._tracks[key].report(key, value_name) for key in chosen]

    def _track(self, key: Hashable, peak: float) -> Track | None:
        track = self._tracks.get(key)
        if track is None and len(self._tracks) >= self._max_slices:
            weakest = min(self._tracks, key=lambda other: self._tracks[other].peak) if peak > -math.inf else key
            if weakest == key or peak <= self._tracks[weakest].peak:
                return None
            del self._tracks[weakest]
        return track or self._tracks.setdefault(key, Track())
