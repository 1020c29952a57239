"""What people said of verdicts: a factor on the threshold of each slice, within bounds.

"That was a false alarm" raises the slice's threshold just over the event's score, and "you missed this" lowers it just
under. One answer changes the threshold by at most a quarter, and all answers together by at most a factor of two. No
answer lowers it below the score that 5 % of the slice's events exceed. So whoever can send events but no answers gains
nothing, and whoever can send false answers gains a factor of two and no more.
"""

import math
from typing import Any

import numpy as np

from onlineguard.models.base import SCORE, THRESHOLD, Judgement

STEP = math.log(1.25)  # most that one answer changes the log of a threshold: three answers reach a bound
MOST = math.log(2.0)  # and all answers together
TWENTIETH = Judgement._fields.index("twentieth")
JUST = 1e-4  # how far beyond the score of the event the threshold is set, so that the next equal event is judged alike


class Feedback:
    """The log of the factor on the threshold of each row; 0 where nobody said anything."""

    def __init__(self) -> None:
        self._logs = np.zeros(0)

    def of(self, row: int) -> float:
        """The factor on the threshold of a row."""
        return math.exp(self._logs[row]) if row < len(self._logs) else 1.0

    @property
    def silent(self) -> bool:
        """Whether nobody said anything."""
        return not self._logs.any()

    def applied(self, judgements: np.ndarray, rows: Any) -> np.ndarray:
        """Judgements (n, FIELDS) of events in these rows with the factors on their thresholds; 1 in an unknown row."""
        if not len(self._logs):
            return judgements
        rows = np.asarray(rows)
        known = (rows >= 0) & (rows < len(self._logs))
        logs = np.where(known, self._logs[np.where(known, rows, 0)], 0.0)
        if not logs.any():
            return judgements
        changed = judgements.copy()
        changed[:, THRESHOLD] *= np.exp(logs).astype(np.float32)
        return changed

    def teach(self, row: int, judgement: np.ndarray, usual: bool) -> None:
        """Move the factor of a row, given the model's judgement (FIELDS,) of an event there."""
        score, threshold, twentieth = judgement[[SCORE, THRESHOLD, TWENTIETH]].tolist()
        if not (score > 0.0 and 0.0 < threshold < math.inf):
            return
        if row >= len(self._logs):
            self._logs = np.concatenate([self._logs, np.zeros(1 << (row + 1).bit_length())])
        now, needed = float(self._logs[row]), math.log(score / threshold)
        if usual:
            self._logs[row] = max(now, min(needed + JUST, now + STEP, MOST))
        else:
            lowest = math.log(twentieth / threshold) if 0.0 < twentieth < threshold else -MOST
            self._logs[row] = min(now, max(needed - JUST, now - STEP, -MOST, lowest))

    def put(self, rows: np.ndarray, tensors: dict[str, np.ndarray]) -> None:
        """Take over what was said of the slices whose rows in a dump were tensors["rows"], and are these now."""
        said = Feedback()
        said.restore(tensors)
        logs = np.array([said._logs[row] if row < len(said._logs) else 0.0 for row in tensors["rows"].tolist()])
        if logs.any() or len(self._logs):
            if (needed := int(rows.max(initial=-1)) + 1) > len(self._logs):
                self._logs = np.concatenate([self._logs, np.zeros(needed - len(self._logs))])
            self._logs[rows] = logs

    def clear(self, rows: np.ndarray) -> None:
        """Forget what was said of the slices that had these rows."""
        rows = np.asarray(rows)
        self._logs[rows[rows < len(self._logs)]] = 0.0

    def dump(self) -> dict[str, np.ndarray]:
        """The rows that somebody said something of, and the logs of their factors."""
        rows = np.flatnonzero(self._logs)
        return {"feedback_rows": rows, "feedback_logs": self._logs[rows]} if len(rows) else {}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Become what was dumped; earlier versions dumped nothing."""
        rows = tensors.get("feedback_rows", np.zeros(0, np.int64))
        self._logs = np.zeros(int(rows.max(initial=-1)) + 1)
        self._logs[rows] = tensors.get("feedback_logs", 0.0)
