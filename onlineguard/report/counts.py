"""Counts of every slice of a run: events, anomalies and alarms, exact from the slice's first event on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from onlineguard.engine.keys import SliceKeys
from onlineguard.engine.slices import UNKNOWN, SliceTable
from onlineguard.report.evidence import beyond_chance, digits_of, evidence_of

COUNTED_SLICES = 1_000_000  # beyond it the least recently seen are forgotten; an engine's default as well
LARGEST_BATCH = COUNTED_SLICES // 4  # events at once, so that no slice of a batch can be forgotten within it

_COUNTS = np.dtype(
    [
        *(("events", "i8"), ("anomalies", "i8"), ("alarms", "i8"), ("last_anomalous", "i8")),
        *(("start", "i8"), ("odd", "i8"), ("digits", "i8")),  # of the last alarm, as `Alarm` has them
        ("evidence", "i8"),  # of all alarms before it, beyond chance, in thousandths
    ]
)


@dataclass(frozen=True)
class Grouped:
    """A batch of events, grouped by slice."""

    rows: Int[np.ndarray, " m"]  # of the slices in the table of counts, ascending
    order: Int[np.ndarray, " n"]  # positions of the events, slice by slice, each slice's in their order
    starts: Int[np.ndarray, " m+1"]  # where each slice starts in `order`
    numbers: Int[np.ndarray, " n"]  # of each event within its slice, counted from the slice's first event in the run
    peaks: Float[np.ndarray, " m"]  # highest finite score of each slice's anomalies in the batch; -inf without one
    evidence: Int[np.ndarray, " m"]  # of each slice up to here, in thousandths

    @property
    def first(self) -> Int[np.ndarray, " m"]:
        """Position of each slice's first event in the batch."""
        return self.order[self.starts[:-1]]

    def positions(self, i: int) -> Int[np.ndarray, " k"]:
        """Positions of the events of the slice `rows[i]`."""
        return self.order[self.starts[i] : self.starts[i + 1]]


class Counts:
    """A row of counts for each slice, in bounded memory. `gap` has the meaning that it has in `merge_alarms`."""

    def __init__(self, gap: int):
        self._gap = gap
        self._slices = SliceTable(COUNTED_SLICES, 0)
        self._table = np.zeros(0, _COUNTS)  # by row
        self._clock = 0

    def __getitem__(self, row: int) -> np.void:
        """The counts of one slice: `events`, `anomalies` and `alarms`."""
        return self._table[row]

    def touch(self, rows: Int[np.ndarray, " m"]) -> None:
        """Mark these slices as seen just now, so that all others are forgotten before them."""
        self._slices.touch(rows, self._clock)
        self._clock += len(rows)

    def evidence(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """The evidence of slices, in thousandths: that of each alarm beyond chance, added up."""
        table = self._table[rows]
        return table["evidence"] + _of_last(table)

    def add(
        self,
        keys: SliceKeys,
        anomalous: Bool[np.ndarray, " n"],
        scores: Float[np.ndarray, " n"],
        p_values: Float[np.ndarray, " n"],
    ) -> Grouped:
        """Count a batch of at most LARGEST_BATCH events, in their order, and group it by slice."""
        events = self._rows(keys)
        present = np.zeros(self._slices.end, bool)
        present[events] = True
        rows = np.flatnonzero(present)
        self.touch(rows)
        index = np.zeros(self._slices.end, np.uint16 if len(rows) < 1 << 16 else np.int64)  # 16 bits sort fastest
        index[rows] = np.arange(len(rows))
        slice_ = index[events]
        order = np.argsort(slice_, kind="stable")
        sizes = np.bincount(slice_, minlength=len(rows))
        starts = np.concatenate([[0], np.cumsum(sizes)])
        before = self._table[rows]
        numbers = np.empty(len(events), np.int64)
        numbers[order] = np.arange(len(events)) + np.repeat(before["events"] - starts[:-1], sizes)

        hits = order[anomalous[order]]
        slice_of_hit = slice_[hits].astype(np.int64)
        last = np.roll(numbers[hits], 1)  # the number of the slice's anomalous event before each
        first = np.flatnonzero(np.diff(slice_of_hit, prepend=-1))
        last[first] = before["last_anomalous"][slice_of_hit[first]]
        after = before.copy()
        after["events"] += sizes
        after["anomalies"] += np.bincount(slice_of_hit, minlength=len(rows))
        starts_alarm = numbers[hits] - last > self._gap + 1
        after["alarms"] += np.bincount(slice_of_hit[starts_alarm], minlength=len(rows))
        after["last_anomalous"][slice_of_hit] = numbers[hits]  # the last one of each slice stays
        finite = np.isfinite(scores[hits])
        if len(hits):
            digits = np.where(finite, digits_of(p_values[hits]), 0)
            _weigh(before, after, slice_of_hit, numbers[hits], starts_alarm, finite, digits)
        self._table[rows] = after

        peaks = np.full(len(rows), -np.inf)
        np.maximum.at(peaks, slice_of_hit[finite], scores[hits][finite].astype(np.float64))
        return Grouped(rows, order, starts, numbers, peaks, self.evidence(rows))

    def _rows(self, keys: SliceKeys) -> Int[np.ndarray, " n"]:
        """The row of every key; if there are too many slices, the least recently seen are forgotten."""
        rows, born = self._slices.admitted(keys)
        while (rows == UNKNOWN).any():
            self.touch(rows[rows != UNKNOWN])  # no slice of this batch, old or new, may be forgotten
            self._slices.evict()
            rows, more = self._slices.admitted(keys)
            born += more
        while self._slices.end > len(self._table):
            self._table = np.concatenate([self._table, np.zeros(max(1_024, len(self._table)), _COUNTS)])
        self._table[born] = (0, 0, 0, -self._gap - 2, 0, 0, 0, 0)
        return rows


def _of_last(table: np.ndarray) -> Int[np.ndarray, " m"]:
    """The evidence of the last alarm of each slice, beyond chance."""
    last = table["last_anomalous"]
    found = beyond_chance(evidence_of(last - table["start"] + 1, table["odd"], table["digits"]), last + 1)
    return np.where(table["odd"] > 0, found, 0)


def _weigh(
    before: np.ndarray,
    after: np.ndarray,
    slices: Int[np.ndarray, " h"],
    at: Int[np.ndarray, " h"],
    starts: Bool[np.ndarray, " h"],
    finite: Bool[np.ndarray, " h"],
    digits: Int[np.ndarray, " h"],
) -> None:
    """Put the evidence of closed alarms and the last alarm of each slice into `after`, which has all other counts.

    The anomalous events of a batch are given slice by slice: their slices, numbers, and whether an alarm starts there.
    """
    first = np.flatnonzero(starts | (np.diff(slices, prepend=-1) != 0))
    of = slices[first]
    alarms = np.zeros(len(first), _COUNTS)
    goes_on = ~starts[first]
    alarms["start"] = np.where(goes_on, before["start"][of], at[first])
    alarms["odd"] = np.add.reduceat(finite.astype(np.int64), first) + np.where(goes_on, before["odd"][of], 0)
    alarms["digits"] = np.add.reduceat(digits, first) + np.where(goes_on, before["digits"][of], 0)
    alarms["last_anomalous"] = at[np.append(first[1:], len(at)) - 1]

    ends = np.append(of[1:] != of[:-1], True)  # the last alarm of its slice, which may go on
    np.add.at(after["evidence"], of[~ends], _of_last(alarms[~ends]))
    closes = ~goes_on & np.append(True, of[1:] != of[:-1])  # the one before this batch
    after["evidence"][of[closes]] += _of_last(before[of[closes]])
    for name in ("start", "odd", "digits"):
        after[name][of[ends]] = alarms[name][ends]
