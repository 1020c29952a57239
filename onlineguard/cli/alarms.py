"""Alarms by number: anomalous events of a slice with at most `GAP` others between them are one alarm."""

import numpy as np
from jaxtyping import Bool, Int

from onlineguard.report.quality import GAP

NONE = 0  # the number where there is no alarm


class AlarmNumbers:
    """Numbers the alarms of a run from 1, in the order in which they begin, however the stream is cut into batches."""

    def __init__(self) -> None:
        self.n_alarms = 0
        self._seen = self._last = self._number = np.empty(0, np.int64)  # of each slice: events, last odd one, its alarm

    def of(self, slices: Int[np.ndarray, " n"], anomalous: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The number of the alarm that each event belongs to, `NONE` for those that are usual."""
        self._cover(int(slices.max(initial=-1)) + 1)
        order = np.argsort(slices, kind="stable")
        first = np.flatnonzero(np.diff(slices[order], prepend=-1))
        counts = np.diff(first, append=len(order))
        place = np.empty(len(slices), np.int64)  # of each event among all of its slice
        place[order] = (
            np.arange(len(order)) - np.repeat(first, counts) + np.repeat(self._seen[slices[order[first]]], counts)
        )
        self._seen[slices[order[first]]] += counts

        odd = order[anomalous[order]]  # slice by slice
        mine, at = slices[odd], place[odd]
        begins = np.diff(mine, prepend=-1) != 0
        before = np.where(begins, self._last[mine], np.roll(at, 1))
        starts = at - before > GAP + 1
        births = np.sort(odd[starts])  # in the order of the stream
        born = np.zeros(len(odd), np.int64)
        born[starts] = self.n_alarms + 1 + np.searchsorted(births, odd[starts])
        self.n_alarms += len(births)

        leads = np.flatnonzero(starts | begins)  # where an alarm begins, or goes on from the batch before
        numbers = np.where(starts, born, self._number[mine])[leads] if len(odd) else born
        number = np.repeat(numbers, np.diff(leads, append=len(odd)))
        ends = np.flatnonzero(np.diff(mine, append=-1) != 0)
        self._last[mine[ends]], self._number[mine[ends]] = at[ends], number[ends]
        found = np.full(len(slices), NONE)
        found[odd] = number
        return found

    def _cover(self, n: int) -> None:
        more = max(n, 2 * len(self._seen)) - len(self._seen)
        if n > len(self._seen):
            self._seen = np.append(self._seen, np.zeros(more, np.int64))
            self._last = np.append(self._last, np.full(more, -GAP - 2))
            self._number = np.append(self._number, np.zeros(more, np.int64))
