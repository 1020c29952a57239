"""A program with the river-style estimators, as a user types it."""

from typing import Any, assert_type

from onlineguard import Verdicts
from onlineguard.engine.verdicts import Verdict
from onlineguard.estimators import (
    AdaptiveThreshold,
    ClippedLinearRegression,
    ClippedLogisticRegression,
    DriftRobustDetector,
    SeriesDetector,
    VerdictFilter,
    judge_one,
)

x: dict[str, float] = {  # river names the type `dict[Hashable, float]`, which is none that a user writes
    "ms": 20.0,
    "kb": 3e6,
}
detector = DriftRobustDetector(target_rate=0.01, bounded_score=True)
detector.learn_one(x)
assert_type(detector.score_one(x), float)
assert_type(detector.judge_one(x), Verdict)
assert_type(detector.explain_one(x), dict[Any, float])
shares: dict[str, float] = detector.explain_one(x)
assert_type(detector.target_rate, float)
assert_type(detector.threshold, float)
assert_type(detector.clone(), DriftRobustDetector)
detector.mutate({"target_rate": 0.02})

found = VerdictFilter(SeriesDetector(pause=10.0))
assert_type(found.classify(2.0), bool)
assert_type(judge_one(found, x), Verdict)
assert_type(AdaptiveThreshold(detector).threshold, float)

assert_type(ClippedLinearRegression(l2=0.1).predict_one(x), float)
assert_type(ClippedLogisticRegression().predict_one(x), bool)


def flagged(verdicts: Verdicts) -> int:
    """How many events are anomalies."""
    return sum(verdict.anomalous for verdict in verdicts)
