"""The labelled stream of real server metrics, what peers score it, and how detectors are compared on it."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from river import anomaly, preprocessing

FILE = Path("streams", "cloudwatch.csv.gz")
WEEK = 7 * 24 * 12  # events of a week, one every five minutes
WARM_UP = 100  # first events of a series, for which no detector is asked
GAP = 36  # an odd event that follows so many quiet ones (three hours) is an alarm of its own
CANDIDATES = 300  # thresholds tried, spread evenly over the logs of how many events lie above

Series = list[np.ndarray]  # one array a series, in the same order everywhere


@dataclass(frozen=True)
class Stream:
    """Events of all series in the order of the file, and which of them lie in a labelled window."""

    metric: np.ndarray  # (n,) names of the series
    value: np.ndarray  # (n,) float64
    label: np.ndarray  # (n,) bool

    def split(self, column: np.ndarray) -> Series:
        """An array of the stream, series by series."""
        return [column[self.metric == name] for name in sorted(set(self.metric))]


def cloudwatch(folder: Path, most: int | None = None) -> Stream:
    """The stream in the folder of real data; of the first `most` series only."""
    with gzip.open(folder / FILE) as file:
        frame = pl.read_csv(file.read())
    if most is not None:
        frame = frame.filter(pl.col("metric").is_in(sorted(set(frame["metric"]))[:most]))
    return Stream(
        frame["metric"].to_numpy(), frame["value"].to_numpy().astype(float), (frame["anomaly_window"] == 1).to_numpy()
    )


def by_river(make: Callable[[], Any]) -> Callable[[Series], Series]:
    """Score, then learn, one value at a time, with a model for every series."""

    def scores(values: Series) -> Series:
        result = []
        for series in values:
            model, row = make(), np.empty(len(series))
            for i, value in enumerate(series.tolist()):
                row[i] = model.score_one({"value": value})
                model.learn_one({"value": value})
            result.append(row)
        return result

    return scores


def by_windowed_z(window: int) -> Callable[[Series], Series]:
    """Distance from the mean of the latest values in their standard deviations."""

    def scores(values: Series) -> Series:
        result = []
        for series in values:
            past = pl.Series(series)
            mean = past.rolling_mean(window, min_samples=2).shift(1).to_numpy()
            deviation = past.rolling_std(window, min_samples=2).shift(1).to_numpy()
            # without the floor, rounding in a constant stretch is infinitely odd
            result.append(np.nan_to_num(np.abs(series - mean) / (deviation + 1e-9 * np.abs(mean) + 1e-12)))
        return result

    return scores


PEERS: dict[str, Callable[[Series], Series]] = {
    "HalfSpaceTrees": by_river(lambda: preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(seed=1)),
    "OneClassSVM": by_river(lambda: preprocessing.StandardScaler() | anomaly.OneClassSVM()),
    "z-score over a day": by_windowed_z(WEEK // 7),
    "z-score over a week": by_windowed_z(WEEK),
}


def held(scores: Series, hold: float) -> Series:
    """Each score, or what is left of an earlier one of which 1 / hold fades an event; scores counted from the least."""
    result = []
    for series in scores:
        row, level = series - series.min(), 0.0
        for i, score in enumerate(row.tolist()):
            row[i] = level = max(score, level * (1.0 - 1.0 / hold))
        result.append(row)
    return result


def compare(scores: Series, labels: Series) -> dict[str, float]:
    """The figures of a detector.

    mean ROC-AUC: over points, averaged over the series that have a labelled window.
    pooled ROC-AUC: over the points of all series together.
    windows alarmed: share of windows in whose first half an alarm starts, at most one false alarm a series and week.
        An alarm is an odd event after GAP quiet ones; it is false if it starts outside every window. One threshold
        for all series.
    windows odd: the same, but with any odd event in the first half, though its alarm may have started before the
        window: this counts a detector that is never quiet as a good one.
    """
    scores = [np.where(np.arange(len(s)) < WARM_UP, s.min(), s) for s in scores]
    areas = [roc_auc(s, y) for s, y in zip(scores, labels, strict=True) if y.any()]
    pooled = roc_auc(np.concatenate(scores), np.concatenate(labels))
    alarmed, odd = windows_caught(scores, labels)
    return {
        "mean ROC-AUC": float(np.mean(areas)),
        "pooled ROC-AUC": pooled,
        "windows alarmed": alarmed,
        "windows odd": odd,
    }


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Chance that a labelled point scores above another one, ties counting half (Mann and Whitney, 1947)."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    positive = labels.sum()
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive)))


def windows_caught(scores: Series, labels: Series) -> tuple[float, float]:
    """Shares of the windows caught by their first half, by an alarm and by an odd event; each at its best threshold."""
    ordered = np.sort(np.concatenate(scores))[::-1]
    allowed = len(ordered) / WEEK
    halves = [first_halves(y) for y in labels]
    total = sum(map(len, halves))
    best_alarmed = best_odd = 0
    for place in np.unique(np.geomspace(1, len(ordered) / 2, CANDIDATES).astype(int)) - 1:
        false, alarmed, odd = 0, 0, 0
        for series, label, windows in zip(scores, labels, halves, strict=True):
            flagged = np.flatnonzero(series > ordered[place])
            starts = flagged[np.diff(flagged, prepend=-GAP - 1) > GAP]
            false += int((~label[starts]).sum())
            alarmed += sum(bool(((starts >= a) & (starts < b)).any()) for a, b in windows)
            odd += sum(bool(((flagged >= a) & (flagged < b)).any()) for a, b in windows)
        if false <= allowed:
            best_alarmed, best_odd = max(best_alarmed, alarmed), max(best_odd, odd)
    return best_alarmed / total, best_odd / total


def first_halves(label: np.ndarray) -> list[tuple[int, int]]:
    """Where the first half of each labelled window begins and ends."""
    edges = np.diff(label.astype(int), prepend=0, append=0)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(a), int(a + (b - a + 1) // 2)) for a, b in zip(begins, ends, strict=True)]
