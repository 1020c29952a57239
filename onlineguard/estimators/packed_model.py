"""One model of a slice, judged event by event in a row of bits; see `packed`."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.feedback import Feedback
from onlineguard.estimators.packed import SMALLEST_WIDTH, Packed
from onlineguard.models.base import FIELDS, SCORE


def _judged(model: Any, state: Any, event: Array) -> tuple[Any, Array]:
    after, judgement = model.step(state, event)
    return after, jnp.stack([jnp.asarray(field, jnp.float32) for field in judgement])


class PackedModel(Packed):
    """A detector's state and the programs that step it: `judge` and `learn` take and return NumPy arrays.

    Thresholds are those that people's answers have moved, see `engine.feedback`.
    """

    step = staticmethod(_judged)
    answers = FIELDS

    def __init__(self, estimator: Any, smallest_width: int = SMALLEST_WIDTH):
        super().__init__(estimator, smallest_width)
        self._feedback = Feedback()
        self._settled = False
        self._after: tuple[bytes, Any] | None = None  # the event judged last, and the row after it

    @property
    def factor(self) -> float:
        """What people's answers have put on the threshold; 1 without any."""
        return self._feedback.of(0)

    @property
    def settled(self) -> bool:
        """Whether enough events were learned for the next one to be judged."""
        if not self._settled and self._row is not None:
            self._settled = int(self.estimator.seen(self.state)) >= self.estimator.min_seen
        return self._settled

    @property
    def current(self) -> np.ndarray:
        """A judgement (FIELDS,) whose threshold and quantiles are those of now; its score is of any event."""
        if self._after is not None:
            return self._moderated(_judgement(self._after[1]))
        return self.judge(np.full(len(self._origin), np.nan))

    def judge(self, values: np.ndarray) -> np.ndarray:
        """The judgement (FIELDS,) of an event (d,); nothing is learned."""
        return self._moderated(self._judge(values))

    def learn(self, values: np.ndarray) -> np.ndarray:
        """Learn an event (d,); returns its judgement (FIELDS,), by the state from before it."""
        if self._unset is not None and self._needs_origin(values):
            self._move(values)
        if self._after is not None and self._after[0] == values.tobytes():
            self._row = self._after[1]  # river mostly learns the event that it judged just before
        else:
            self._row = self._run(values)
        self._after = None
        return self._moderated(_judgement(self._row))  # this also waits until the buffer may be written again

    def judge_many(self, values: np.ndarray, learn: bool) -> np.ndarray:
        """Judgements (n, FIELDS) of events (n, d), in order; if `learn`, each is learned before the next is judged."""
        judgements = np.empty((len(values), FIELDS), np.float32)
        if learn:
            for start, end in self._stretches(values):
                judgements[start:end] = self._run_many(values[start:end], learn)
                self._after = None
        else:
            needs_origin = self._rows_that_need_origins(values)
            judgements[~needs_origin] = self._run_many(values[~needs_origin], learn)
            for i in np.flatnonzero(needs_origin).tolist():
                judgements[i] = self._judge(values[i])
        return self._feedback.applied(judgements, np.zeros(len(judgements), int))

    def teach(self, values: np.ndarray, usual: bool) -> None:
        """Take what somebody said of an event (d,), as `Engine.feedback` does."""
        self._feedback.teach(0, self._judge(values), usual)
        if usual and self.estimator.repeatable:
            self.learn(values)

    def reasons(self, values: np.ndarray) -> dict[str, Any]:
        """What the estimator says of an event (width,), see `SliceModel.reasons`; not learned from."""
        origin = np.zeros(self.width)
        origin[: len(self._origin)] = self._origin
        return self.estimator.reasons(self.state, self.relative(values), origin)

    def parts(self, values: np.ndarray) -> np.ndarray:
        """What each feature (d,) adds to the score; where the model does not say, the drop of the score without it."""
        with np.errstate(all="ignore"):
            parts = self.estimator.contributions(self.state, self.relative(values))
        if parts is not None:
            return np.asarray(parts)[: len(values)]
        without = np.where(np.eye(len(values), dtype=bool), np.nan, values)
        scores = np.nan_to_num(self.judge_many(np.vstack([values, without]), learn=False)[:, SCORE].astype(np.float64))
        return np.where(np.isfinite(values), np.maximum(scores[0] - scores[1:], 0.0), 0.0)

    def _judge(self, values: np.ndarray) -> np.ndarray:
        """`judge` without what people said."""
        if self._unset is not None and self._needs_origin(values):
            row, origin = self._row, self._origin
            self._move(values)
            after = self._run(values)
            self._row, self._origin = row, origin
            self._prepare()
            return _judgement(after)
        after = self._run(values)
        self._after = (values.tobytes(), after)
        return _judgement(after)

    def _moderated(self, judgement: np.ndarray) -> np.ndarray:
        return judgement if self.factor == 1.0 else self._feedback.applied(judgement[None], np.zeros(1, int))[0]

    def _prepare(self) -> None:
        super()._prepare()
        self._after = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_feedback": self._feedback, "_settled": self._settled}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._after, self._settled = None, False  # earlier versions kept neither
        super().__setstate__(state)


def _judgement(row: Any) -> np.ndarray:
    return np.asarray(row)[-FIELDS:]
