"""The online threshold around any river anomaly detector."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from river import anomaly, base
from river.utils import dataframe

from onlineguard.engine.events import LARGEST
from onlineguard.errors import InvalidArgument
from onlineguard.estimators.detector import Choice, checked_patience, checked_target_rate
from onlineguard.estimators.packed_model import PackedModel
from onlineguard.estimators.shell import read_frame
from onlineguard.models.base import MIN_SEEN, READY, SCORE, THRESHOLD
from onlineguard.models.one_sided import OneSided

PATIENCE = 5_000.0  # events that a new regime must last at most, where the caller names no patience,
HASTY = 0.05  # and the share of the time since the last one that it must last at least


class AdaptiveThreshold(base.AnomalyFilter):
    """Classifies the scores of any river anomaly detector, with a threshold that adapts to the stream.

    The threshold is a running quantile of the scores: a share `target_rate` of the usual ones lies above. It follows
    when the scores drift. Neither a burst nor a trickle of anomalies lifts it above their scores, as they would lift a
    quantile of all scores. Scores may have any unit; higher is odder. Nothing is an anomaly before 100 scores were
    learned.

    Parameters
    ----------
    anomaly_detector
        The detector whose scores are classified.
    target_rate
        Share of usual events to be flagged, in (0, 0.2].
    patience
        Events that a new regime of higher scores must last before it counts as usual. By default it must last a
        twentieth of the time since the last one, and 5,000 events at most: scores that shift often are followed soon,
        and a burst is flagged for long where they have been stable for long.
    protect_anomaly_detector
        Whether the detector is kept from learning flagged events. By default it is not: a detector that never learns
        them may flag every event once the stream has drifted.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import AdaptiveThreshold
    >>> from river import anomaly
    >>> rng, model = random.Random(0), AdaptiveThreshold(anomaly.HalfSpaceTrees(seed=1, window_size=50))
    >>> for _ in range(2_000):
    ...     model.learn_one({"x": rng.gauss(0.5, 0.05), "y": rng.gauss(0.5, 0.05)})
    >>> model.classify(model.score_one({"x": 0.5, "y": 0.5})), model.classify(model.score_one({"x": 0.95, "y": 0.05}))
    (False, True)
    """

    target_rate = Choice[float](checked_target_rate)
    patience = Choice[float | None](lambda patience: None if patience is None else checked_patience(patience))

    def __init__(
        self,
        anomaly_detector: Any,
        target_rate: float = 0.01,
        patience: float | None = None,
        protect_anomaly_detector: bool = False,
    ):
        if not hasattr(anomaly_detector, "score_one"):
            raise InvalidArgument(
                f"anomaly_detector is {anomaly_detector!r}; it must be a river anomaly detector, with score_one and "
                "learn_one, e.g. river.anomaly.HalfSpaceTrees()"
            )
        super().__init__(anomaly_detector, protect_anomaly_detector)
        self.target_rate, self.patience = target_rate, patience
        self._model = PackedModel(self._one_sided)

    @property
    def _mutable_attributes(self) -> set[str]:
        return {"anomaly_detector", "protect_anomaly_detector", "target_rate", "patience"}

    def _follow(self, name: str) -> None:
        """Have the model follow a choice that was changed."""
        self._model.use(self._one_sided)

    @property
    def _one_sided(self) -> OneSided:
        if self.patience is None:
            return OneSided(float(self.target_rate), PATIENCE, HASTY)
        return OneSided(float(self.target_rate), float(self.patience))

    @property
    def threshold(self) -> float:
        """The score above which an event is an anomaly, in the detector's own unit; +inf before it is ready."""
        if not self._model.width or self._model.state.seen < MIN_SEEN:
            return math.inf
        state = self._model.state
        slow = state.detector.slow
        height = self._model.factor * float(self._one_sided.threshold(state))
        z = height - 1.0 if height > 1.0 else math.log(height)
        return float(self._model.absolute(slow.location)[0]) + z * float(slow.scale[0])

    def classify(self, score: float) -> bool:
        """Whether the score lies above the threshold. False for NaN, and until 100 scores were learned."""
        if not self._model.width:
            return False
        row = self._model.judge(_event(score))
        return row.item(READY) > 0 and row.item(SCORE) > row.item(THRESHOLD)

    def feedback(self, *args: Any, usual: bool) -> bool:
        """Say that an event is usual ("a false alarm") or not ("you missed this"); whether it is flagged from now on.

        See `Engine.feedback`, which does the same for a slice. The detector itself is taught nothing.
        """
        score = float(self.score_one(*args))
        if self._model.width and score == score:
            self._model.teach(_event(score), usual)
        return self.classify(score)

    def learn_one(self, *args: Any, **learn_kwargs: Any) -> None:
        """Let the threshold learn the event's score, and the detector the event unless it is protected from it."""
        self.score_learn_one(*args, **learn_kwargs)

    def score_learn_one(self, *args: Any, **learn_kwargs: Any) -> float:
        """`score_one`, then `learn_one`."""
        score = float(self.score_one(*args))
        if not (self.protect_anomaly_detector and self.classify(score)):
            self.anomaly_detector.learn_one(*args, **learn_kwargs)
        event = _event(score)
        if event[0] == event[0]:
            if not self._model.width:
                self._model.grow(event)
            self._model.learn(event)
        return score

    def score_many(self, X: Any, **kwargs: Any) -> Any:
        """`score_one` of every row of a frame, as a series of the same kind; a missing value is an absent feature."""
        frame, rows = _dicts(X)
        return dataframe.to_native_series([float(self.score_one(x)) for x in rows], name="score", like=frame)

    def learn_many(self, X: Any, **kwargs: Any) -> None:
        """`learn_one` for every row of a frame, in order; a missing value is an absent feature."""
        for x in _dicts(X)[1]:
            self.learn_one(x)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"anomaly_detector": anomaly.HalfSpaceTrees(seed=1)}


def _event(score: float) -> np.ndarray:
    """A score as an event; an infinite one becomes the largest float32, not a missing value."""
    return np.array([min(max(score, -LARGEST), LARGEST) if score == score else math.nan])


def _dicts(X: Any) -> tuple[Any, list[dict[Any, float]]]:
    frame, names, matrix = read_frame(X)
    rows = [{name: v for name, v in zip(names, row, strict=True) if v == v} for row in matrix.tolist()]
    return frame, rows
