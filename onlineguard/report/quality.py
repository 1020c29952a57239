"""How well labelled events were judged, counted batch by batch in bounded memory.

`Ranking` counts how many events of each label had which score: ROC-AUC and average precision follow. It is exact for
up to a million different (slice, score) pairs. Beyond that it is a histogram of log scores, and events of one bin
count as ties: low bits of the float32 scores are dropped until half a million pairs or fewer are left. Scores from s to
2 s then fall into 2^k bins, with k about 15 over all slices together, and 4 with 10,000 slices.

`Windows` follows the labelled windows of every slice. A window is an unbroken run of labelled events of the slice.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from onlineguard.engine.keys import as_keys
from onlineguard.engine.slices import UNKNOWN, SliceTable
from onlineguard.engine.verdicts import Verdicts
from onlineguard.report.buckets import NO_TIME

MAX_PAIRS = 1_000_000  # (slice, score) pairs of a ranking: 24 MB, and thrice that while they are merged
RANKED_SLICES = 10_000  # slices over which ROC-AUC is averaged; the first ones seen
FOLLOWED_SLICES = 1_000_000  # slices whose windows are followed; the first ones seen
MAX_DELAYS = 1_000_000  # caught windows over which the median delay is taken; the first ones
GAP = 10  # usual events, at most, between two anomalous ones of the same alarm, as in a report
_SCORE_BITS = 31  # of a non-negative float32, whose bits sort like its value

_FOLLOWED = np.dtype(
    [
        ("seen", "i8"),  # number of events
        ("inside", "?"),  # whether the last event lay inside a window
        ("anomalous", "?"),
        ("last_anomalous", "i8"),  # number of the last anomalous event
        ("opened", "i8"),  # number of the first event of the last window
        ("caught", "i8"),  # number of the first event of the last window that was caught
        ("opened_time", "i8"),
    ]
)


@dataclass(frozen=True)
class Quality:
    """How the verdicts fit the labels. A share is NaN if it cannot be computed for want of events of both labels."""

    n_labelled: int  # events with label 1
    roc_auc: float  # over all events
    mean_roc_auc: float  # mean over the slices with events of both labels
    ranked_slices: int  # number of those slices
    average_precision: float  # over all events
    exact: bool  # the AUCs and the average precision are exact, not from a histogram
    windows: int
    windows_caught: int  # windows within which a run of anomalous events started
    alarms_inside: int  # alarms that started within a window
    alarms_outside: int
    median_delay: float  # events of the slice from the first of a caught window to its first alarm
    median_delay_us: float  # the same in microseconds; NaN without times


class Labelled:
    """Compares verdicts with labels; an event that could not be judged ranks as the least odd, and is no alarm."""

    def __init__(self) -> None:
        self._pooled, self._by_slice, self._windows = Ranking(), Ranking(), Windows()
        self._slices = SliceTable(FOLLOWED_SLICES, 0)

    def add(
        self,
        slices: Iterable[Hashable],
        labels: Int[np.ndarray, " n"],
        verdicts: Verdicts,
        times: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        """Count a batch of events, in their order."""
        rows = self._rows(slices, len(labels))
        inside = labels == 1
        scores = np.where(verdicts.ready, verdicts.score, np.float32(0.0))
        self._pooled.add(np.zeros_like(rows), scores, inside)
        ranked = (rows != UNKNOWN) & (rows < RANKED_SLICES)
        self._by_slice.add(rows[ranked], scores[ranked], inside[ranked])
        known = np.flatnonzero(rows != UNKNOWN)
        self._windows.add(
            rows[known], inside[known], verdicts.anomalous[known], None if times is None else times[known]
        )

    def quality(self) -> Quality:
        """The quality of the verdicts counted so far."""
        of_slices = self._by_slice.roc_auc()
        pooled = self._pooled.roc_auc()
        windows = self._windows
        return Quality(
            n_labelled=self._pooled.n_positive,
            roc_auc=float(pooled[0]) if len(pooled) else np.nan,
            mean_roc_auc=float(np.mean(of_slices)) if len(of_slices) else np.nan,
            ranked_slices=len(of_slices),
            average_precision=self._pooled.average_precision(),
            exact=self._pooled.exact and self._by_slice.exact,
            windows=windows.n_windows,
            windows_caught=windows.n_caught,
            alarms_inside=windows.n_inside,
            alarms_outside=windows.n_outside,
            median_delay=float(np.median(windows.delays)) if windows.delays else np.nan,
            median_delay_us=float(np.median(windows.delays_us)) if windows.delays_us else np.nan,
        )

    def _rows(self, slices: Iterable[Hashable], n: int) -> Int[np.ndarray, " n"]:
        """A row a slice, in order of appearance; UNKNOWN for those beyond FOLLOWED_SLICES."""
        return self._slices.admitted(as_keys(slices, n))[0]


class Ranking:
    """Counts of events by slice, score and label; scores are float32, not negative, NaN counting as 0."""

    def __init__(self, max_pairs: int = MAX_PAIRS):
        self._max_pairs = max_pairs
        self._pairs = np.empty(0, np.int64)  # row << 31 | bits of the score, ascending
        self._counts = np.empty((2, 0), np.int64)  # events with label 0 and 1
        self._pending: list[np.ndarray] = []  # (pairs << 1 | label) not counted yet
        self._n_pending = 0
        self._dropped = 0  # low bits of each score that are ignored

    @property
    def exact(self) -> bool:
        """No two different scores have been counted as one."""
        return self._dropped == 0

    @property
    def n_positive(self) -> int:
        """Events with label 1."""
        self._merge()
        return int(self._counts[1].sum())

    def add(self, rows: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> None:
        """Count events of the slices with these row numbers."""
        bits = np.fmax(scores, 0.0).astype(np.float32).view(np.int32).astype(np.int64)
        self._pending.append(((rows.astype(np.int64) << _SCORE_BITS | bits) << 1) | labels)
        self._n_pending += len(rows)
        if self._n_pending > self._max_pairs // 2:
            self._merge()

    def roc_auc(self) -> Float[np.ndarray, " slices"]:
        """Area under the ROC curve of every slice that has events of both labels; ties count half, so chance is 0.5."""
        self._merge()
        slices, row = np.unique(self._pairs >> _SCORE_BITS, return_inverse=True)
        negative, positive = self._counts
        before = np.cumsum(negative) - negative
        totals = [np.bincount(row, counts, len(slices)) for counts in (negative, positive)]
        below = before - (np.cumsum(totals[0]) - totals[0])[row] + 0.5 * negative
        both = (totals[0] > 0) & (totals[1] > 0)
        return (np.bincount(row, positive * below, len(slices))[both]) / (totals[0] * totals[1])[both]

    def average_precision(self) -> float:
        """Precision at every labelled event, averaged, over one slice's events in the order of their scores.

        Events with the same score are taken together; NaN where no event is labelled.
        """
        self._merge()
        negative, positive = self._counts[:, ::-1]
        found = np.cumsum(positive)
        if not len(found) or not found[-1]:
            return np.nan
        return float(np.sum(positive / found[-1] * found / np.maximum(found + np.cumsum(negative), 1)))

    def _merge(self) -> None:
        if self._pending:
            pending = np.sort(np.concatenate(self._pending))
            first = np.flatnonzero(np.diff(pending, prepend=-1))
            pending, counts = pending[first], np.diff(np.append(first, len(pending)))
            pairs = np.concatenate([self._pairs, self._coarse(pending >> 1)])
            of_label = np.zeros((2, len(pending)), np.int64)
            of_label[pending & 1, np.arange(len(pending))] = counts
            self._sum(pairs, np.concatenate([self._counts, of_label], axis=1))
            self._pending, self._n_pending = [], 0
        while len(self._pairs) > self._max_pairs // (1 if self.exact else 2) and self._dropped < _SCORE_BITS:
            self._dropped += 3 if self.exact else 1
            self._sum(self._coarse(self._pairs), self._counts)

    def _coarse(self, pairs: np.ndarray) -> np.ndarray:
        return pairs >> self._dropped << self._dropped

    def _sum(self, pairs: np.ndarray, counts: np.ndarray) -> None:
        order = np.argsort(pairs, kind="stable")
        self._pairs, first = np.unique(pairs[order], return_index=True)
        self._counts = np.add.reduceat(counts[:, order], first, axis=1)


class Windows:
    """Follows labelled windows and alarms, slice by slice; all attributes are counts so far."""

    def __init__(self) -> None:
        self.n_windows = self.n_caught = self.n_inside = self.n_outside = 0
        self.delays: list[int] = []  # events, of the first MAX_DELAYS caught windows
        self.delays_us: list[int] = []
        self._slices = np.empty(0, _FOLLOWED)

    def add(
        self,
        rows: Int[np.ndarray, " n"],
        inside: Bool[np.ndarray, " n"],
        anomalous: Bool[np.ndarray, " n"],
        times: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        """Count a batch of events of the slices with these row numbers, in their order."""
        if not len(rows):
            return
        self._cover(int(rows.max()))
        order = np.argsort(rows, kind="stable")
        rows, inside, anomalous = rows[order], inside[order], anomalous[order]
        times = np.full(len(rows), NO_TIME) if times is None else times[order]
        first = np.flatnonzero(np.diff(rows, prepend=-1))  # of every slice in the batch
        end = np.append(first[1:], len(rows)) - 1
        slice_of = np.repeat(np.arange(len(first)), end - first + 1)  # position of the event's slice in `first`
        before = self._slices[rows[first]]
        number = np.arange(len(rows)) + (before["seen"] - first)[slice_of]

        def earlier(values: np.ndarray, name: str) -> np.ndarray:
            """The value at the slice's previous event."""
            shifted = np.roll(values, 1)
            shifted[first] = before[name]
            return shifted

        def latest(values: np.ndarray, marked: np.ndarray, name: str) -> np.ndarray:
            """The value at the slice's last marked event, which may be the event itself."""
            at = np.maximum.accumulate(np.where(marked, np.arange(len(rows)), first[slice_of]))
            return np.where(marked[at], values[at], before[name][slice_of])

        opens = inside & ~earlier(inside, "inside")
        starts = anomalous & ~earlier(anomalous, "anomalous")
        last = latest(number, anomalous, "last_anomalous")
        alarms = anomalous & (number - earlier(last, "last_anomalous") > GAP + 1)
        opened, opened_time = latest(number, opens, "opened"), latest(times, opens, "opened_time")
        caught = latest(opened, inside & starts, "caught")
        catches = inside & starts & (opened != earlier(caught, "caught"))

        self.n_windows += int(opens.sum())
        self.n_caught += int(catches.sum())
        self.n_inside += int((alarms & inside).sum())
        self.n_outside += int((alarms & ~inside).sum())
        self.delays += (number - opened)[catches].tolist()[: MAX_DELAYS - len(self.delays)]
        timed = catches & (times != NO_TIME) & (opened_time != NO_TIME)
        self.delays_us += (times - opened_time)[timed].tolist()[: MAX_DELAYS - len(self.delays_us)]

        after = np.empty(len(first), _FOLLOWED)
        after["seen"], after["inside"], after["anomalous"] = number[end] + 1, inside[end], anomalous[end]
        after["last_anomalous"], after["opened"], after["opened_time"] = last[end], opened[end], opened_time[end]
        after["caught"] = caught[end]
        self._slices[rows[first]] = after

    def _cover(self, row: int) -> None:
        if row >= len(self._slices):
            wider = np.zeros(1 << (row + 1).bit_length(), _FOLLOWED)
            for name in ("last_anomalous", "opened", "caught"):
                wider[name] = -GAP - 2
            wider[: len(self._slices)] = self._slices
            self._slices = wider
