"""The engine's detectors as river anomaly detectors of a single stream."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, overload

import numpy as np
from river import base
from river.utils import dataframe

from onlineguard.engine.verdicts import Verdict, Verdicts
from onlineguard.errors import InvalidArgument
from onlineguard.estimators.packed_model import SMALLEST_WIDTH, PackedModel
from onlineguard.estimators.shell import Features, read_frame
from onlineguard.models.base import SCORE
from onlineguard.models.detector import Detector
from onlineguard.models.joint.detector import JointDetector
from onlineguard.models.series import PAUSE, USUAL_RATE, Series

UNKNOWN = (math.nan, math.nan, math.nan, math.nan)  # the quantiles before the first event


class Choice[T]:
    """A number that the operator chose, as a parameter of a river estimator. `mutate` may change it at any time.

    checked: what returns the number, or raises InvalidArgument.
    """

    def __init__(self, checked: Callable[[Any], T]):
        self._checked = checked

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "Choice[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else vars(instance)[self._name]

    def __set__(self, instance: Any, value: T) -> None:
        vars(instance)[self._name] = self._checked(value)
        if "_model" in vars(instance):
            instance._follow(self._name)


class PackedDetector(base.AnomalyDetector):
    """A river anomaly detector whose model is stepped through a compiled program.

    Features may appear and vanish. A new one gets its column with its first value; a missing one (absent, None, NaN or
    infinite) is not scored and moves no estimate. The first event waits for a compiler, and so does an event whose new
    features need more columns.
    """

    target_rate = Choice[float](lambda value: checked_target_rate(value))
    bounded_score: bool

    def __init__(self, estimator: Any, smallest_width: int = SMALLEST_WIDTH):
        self._features = Features()
        self._model = PackedModel(estimator, smallest_width)

    @property
    def _mutable_attributes(self) -> set[str]:
        return {"target_rate", "patience", "pause", "bounded_score"} & self._get_params().keys()

    def _follow(self, name: str) -> None:
        """Have the model follow a choice that was changed; its running quantiles move to a new target rate."""
        self._model.use(self._model.estimator.changed(**{name: float(getattr(self, name))}))

    @property
    def threshold(self) -> float:
        """The score from which the next event is an anomaly; NaN before the first event."""
        if not self._features.names:
            return math.nan
        verdict = Verdict.of(self._model.current, self.target_rate)
        at = dataclasses.replace(verdict, score=verdict.threshold)
        return at.bounded_score if self.bounded_score else at.score

    def score_one(self, x: Mapping[Any, Any]) -> float:
        """How odd the event is under what was learned so far; 0.0 where nothing can be scored.

        1 is usual, without an upper bound, or with `bounded_score` a number from 0 to 1: see `Verdicts.bounded_score`.
        """
        if not self._features.names:
            return 0.0
        return self._shown(self._model.judge(self._known(x)))

    def learn_one(self, x: Mapping[Any, Any]) -> None:
        """Learn from the event. One that holds no number changes nothing."""
        values = self._features.all_of(x)
        if values is None:
            self._admit(self._features.new_in(x))
            values = self._features.known_of(x)
        if len(values):
            self._model.learn(values)

    def score_learn_one(self, x: Mapping[Any, Any]) -> float:
        """`score_one`, then `learn_one`, in one call."""
        values = self._features.all_of(x)
        if values is None:
            score = self.score_one(x)
            self.learn_one(x)
            return score
        return self._shown(self._model.learn(values))

    def judge_one(self, x: Mapping[Any, Any]) -> Verdict:
        """The verdict on the event under what was learned so far: score, threshold, p-value, anomalous, ready."""
        if not self._features.names:
            return Verdict(math.nan, math.nan, False, UNKNOWN, self.target_rate)
        return Verdict.of(self._model.judge(self._known(x)), self.target_rate)

    def classify(self, score: float) -> bool:
        """Whether an event that got this score just now is an anomaly, as `judge_one` says it; see `VerdictFilter`.

        False for NaN, and until enough events were learned. Bounded scores end at 12/13: beyond one event in 10^12 they
        cannot say on which side of the threshold an event lies.
        """
        return self._model.settled and score > self.threshold

    def judge_learn_one(self, x: Mapping[Any, Any]) -> Verdict:
        """`judge_one`, then `learn_one`."""
        verdict = self.judge_one(x)
        self.learn_one(x)
        return verdict

    def feedback(self, x: Mapping[Any, Any], usual: bool) -> Verdict:
        """Say that x is usual ("a false alarm") or not ("you missed this"); its verdict from now on.

        See `Engine.feedback`, which does the same for a slice.
        """
        values = self._features.all_of(x)
        if values is None:
            self._admit(self._features.new_in(x))
            values = self._features.known_of(x)
        if len(values):
            self._model.teach(values, usual)
        return self.judge_one(x)

    def score_many(self, X: Any) -> Any:
        """`score_one` of every row of a frame, as a series of the same kind; nothing is learned."""
        frame, names, matrix = read_frame(X)
        if not self._features.names:
            return _series(np.zeros(len(matrix)), frame)
        judgements = self._model.judge_many(self._features.values_in(names, matrix), learn=False)
        return _series(self._shown_many(judgements), frame)

    def learn_many(self, X: Any) -> None:
        """`learn_one` for every row of a frame, in order; equal to the last bit."""
        self.score_learn_many(X)

    def score_learn_many(self, X: Any) -> Any:
        """`score_learn_one` for every row of a frame, in order; equal to the last bit."""
        frame, names, matrix = read_frame(X)
        parts = [np.zeros(0)]
        for new, rows in self._features.stretches(names, matrix):
            first = self._first_score(names, rows) if new else math.nan
            self._admit(new)
            if self._features.names:
                scores = self._shown_many(self._model.judge_many(self._features.values_in(names, rows), learn=True))
            else:
                scores = np.zeros(len(rows))
            parts.append(np.append(first, scores[1:]) if new else scores)
        return _series(np.concatenate(parts), frame)

    def explain_one(self, x: Mapping[Any, Any]) -> dict[Any, float]:
        """Each feature's share of the event's score, largest first; 0 where it is missing."""
        if not self._features.names:
            return {}
        parts = self._model.parts(self._known(x))
        shares = dict(zip(self._features.names, (parts / max(parts.sum(), 1e-300)).tolist(), strict=True))
        return dict(sorted(shares.items(), key=lambda share: -share[1]))

    def _known(self, x: Mapping[Any, Any]) -> np.ndarray:
        values = self._features.all_of(x)
        return self._features.known_of(x) if values is None else values

    def _first_score(self, names: list[Hashable], rows: np.ndarray) -> float:
        if not self._features.names:
            return 0.0
        return self._shown(self._model.judge(self._features.values_in(names, rows[:1])[0]))

    def _shown(self, judgement: np.ndarray) -> float:
        score = Verdict.of(judgement, self.target_rate).bounded_score if self.bounded_score else judgement.item(SCORE)
        return score if score == score else 0.0

    def _shown_many(self, judgements: np.ndarray) -> np.ndarray:
        return Verdicts(judgements, self.target_rate).bounded_score if self.bounded_score else judgements[:, SCORE]

    def _admit(self, new: Mapping[Hashable, float]) -> None:
        if new:
            self._features.add(new)
            self._model.grow(np.array(list(new.values())))


class DriftRobustDetector(PackedDetector):
    """Finds events that are odd for a stream, also while it drifts, is attacked, or has heavy tails.

    Every feature has a running location and scale. The score is the geometric mean of two distances of the standardised
    features: the Mahalanobis distance, and the distance from a sample of usual events. The threshold is a running
    quantile of the scores, which an attack cannot lift above its own scores. It needs no scaler and no knowledge of the
    data. See `onlineguard.models.joint.detector` for how it works, and `Engine` for many streams.

    Parameters
    ----------
    target_rate
        Share of usual events to be flagged, in (0, 0.2].
    patience
        Events that a new regime must last before it counts as usual; shorter bursts are odd to their end.
    bounded_score
        Whether scores lie between 0 and 1, as measures need that cut this range into bins, such as river's ROCAUC.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import DriftRobustDetector
    >>> rng, model = random.Random(0), DriftRobustDetector(target_rate=0.01)
    >>> for _ in range(2_000):
    ...     score = model.score_learn_one({"ms": rng.gauss(20.0, 4.0), "kb": rng.gauss(3e6, 1e5)})
    >>> verdict = model.judge_one({"ms": 95.0, "kb": 3e6})
    >>> verdict.anomalous, verdict.p_value < 1e-4, next(iter(model.explain_one({"ms": 95.0, "kb": 3e6})))
    (True, True, 'ms')
    """

    patience = Choice[float](lambda value: checked_patience(value))

    def __init__(self, target_rate: float = 0.01, patience: float = 5_000, bounded_score: bool = False):
        self.target_rate, self.patience = target_rate, patience
        self.bounded_score = bounded_score
        super().__init__(JointDetector(float(target_rate), float(patience)))


class MarginalDetector(PackedDetector):
    """`DriftRobustDetector` that judges each feature by itself: cheaper by far, and blind to combinations.

    The score is the root mean square of the standardised features. See `onlineguard.models.detector` for how it works.

    Parameters
    ----------
    target_rate
        Share of usual events to be flagged, in (0, 0.2].
    patience
        Events that a new regime must last before it counts as usual; shorter bursts are odd to their end.
    bounded_score
        Whether scores lie between 0 and 1, as measures need that cut this range into bins, such as river's ROCAUC.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import MarginalDetector
    >>> rng, model = random.Random(0), MarginalDetector(target_rate=0.01)
    >>> for _ in range(2_000):
    ...     score = model.score_learn_one({"ms": rng.gauss(20.0, 4.0), "kb": rng.gauss(3e6, 1e5)})
    >>> model.judge_one({"ms": 95.0, "kb": 3e6}).anomalous
    True
    """

    patience = Choice[float](lambda value: checked_patience(value))

    def __init__(self, target_rate: float = 0.01, patience: float = 5_000, bounded_score: bool = False):
        self.target_rate, self.patience = target_rate, patience
        self.bounded_score = bounded_score
        super().__init__(Detector(float(target_rate), float(patience)))


class SeriesDetector(PackedDetector):
    """Finds values of a numeric series that are odd given its past, and reports a run of them once.

    It is for one value, or a few, taken at regular intervals. It knows what the series has been like before (its
    values, its course, its level) and what follows from its latest values, and needs neither a period nor a scale. The
    score reads as a return period: 20,000 is what comes about once in 20,000 events. See `onlineguard.models.series`
    for how it works.

    Parameters
    ----------
    target_rate
        Share of events to be alarms, at most about, in (0, 0.2]. The default is one in a week of five-minute data.
    pause
        Events after an alarm in which there is none; the threshold is infinite then.
    bounded_score
        Whether scores lie between 0 and 1, as measures need that cut this range into bins, such as river's ROCAUC.

    Examples
    --------
    >>> import math
    >>> import random
    >>> from onlineguard.estimators import SeriesDetector
    >>> rng, model, alarms = random.Random(0), SeriesDetector(), []
    >>> for i in range(3_000):
    ...     load = rng.gauss(100.0 + 10.0 * math.sin(i * math.pi / 24), 1.0)
    ...     if 2_500 <= i < 2_550:
    ...         load += 80.0
    ...     if model.judge_learn_one({"load": load}).anomalous:
    ...         alarms.append(i)
    >>> 2_500 in alarms, any(2_500 < i < 2_550 for i in alarms)  # an alarm when it begins, and none while it lasts
    (True, False)
    """

    pause = Choice[float](lambda value: checked_pause(value))

    def __init__(self, target_rate: float = USUAL_RATE, pause: float = PAUSE, bounded_score: bool = False):
        self.target_rate, self.pause = target_rate, pause
        self.bounded_score = bounded_score
        super().__init__(Series(float(target_rate), float(pause)), smallest_width=1)

    def reasons_one(self, x: Mapping[Any, Any]) -> dict[Any, dict[str, float]]:
        """What speaks for an anomaly in each feature of the event, under what was learned so far.

        `value`, `course`, `level` and `season` are decades of surprise; `novelty` and `residual` are what they and the
        forecast come to beyond what an alarm takes at the usual rate. `nearest` is the nearest value seen before,
        `forecast` the one expected, and `same_time` the nearest level at this time of an earlier period, all in the
        data's unit; NaN where there is none.
        """
        if not self._features.names:
            return {}
        with np.errstate(all="ignore"):
            found = self._model.reasons(self._known(x))
        return {
            feature: {name: float(values[i]) for name, values in found.items()}
            for i, feature in enumerate(self._features.names)
        }


def checked_pause(pause: float) -> float:
    """The pause; raises InvalidArgument unless it is a number of events from 0 on."""
    if not 0.0 <= pause < math.inf:
        raise InvalidArgument("pause", f"is {pause}; it must be a number of events of at least 0, e.g. 60")
    return pause


def checked_patience(patience: float) -> float:
    """The patience; raises InvalidArgument unless it is a finite number of at least 1."""
    if not 1.0 <= patience < math.inf:
        raise InvalidArgument("patience", f"is {patience}; it must be at least 1 event, e.g. 5000")
    return patience


def checked_target_rate(target_rate: float) -> float:
    """The target rate; raises InvalidArgument unless it lies in (0, 0.2]."""
    if not 0.0 < target_rate <= 0.2:
        raise InvalidArgument(
            "target_rate", f"is {target_rate}; it must lie in (0, 0.2], e.g. 0.01 to flag 1 % of usual events"
        )
    return target_rate


def _series(scores: np.ndarray, frame: Any) -> Any:
    scores = np.asarray(scores, np.float64)
    return dataframe.to_native_series(np.where(np.isnan(scores), 0.0, scores), name="score", like=frame)
