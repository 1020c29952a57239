"""The verdicts of a detector that stands in a river pipeline, which hides the methods of its last step."""

from collections.abc import Iterator, Mapping
from typing import Any

from river import base, compose

from onlineguard.engine.verdicts import Verdict
from onlineguard.errors import InvalidArgument
from onlineguard.estimators.detector import MarginalDetector, PackedDetector


def judge_one(model: Any, x: Mapping[Any, Any]) -> Verdict:
    """The verdict on x: score, threshold, p-value, anomalous, ready. Nothing is learned.

    model: a detector of this package, or a pipeline or filter with one at its end. Raises InvalidArgument for others.

    >>> from river import preprocessing
    >>> from onlineguard.estimators import DriftRobustDetector, judge_one
    >>> judge_one(preprocessing.StandardScaler() | DriftRobustDetector(), {"ms": 20.0}).ready
    False
    """
    detector, seen = _reached(model, x)
    return detector.judge_one(seen)


class VerdictFilter(base.AnomalyFilter):
    """Classifies scores by the detector's own threshold, so that river can use its verdicts.

    In a pipeline it keeps anomalies from the steps behind it, and its `classify` gives the labels that measures of
    classification need. `AdaptiveThreshold` is for the detectors of others, which have no threshold.

    Parameters
    ----------
    anomaly_detector
        `DriftRobustDetector`, `MarginalDetector` or `SeriesDetector`, or a pipeline that ends in one.
    protect_anomaly_detector
        Whether the detector is kept from learning flagged events. By default it is not: it resists them by itself, and
        can only follow a drift that it sees.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import DriftRobustDetector, VerdictFilter
    >>> from river import metrics, preprocessing
    >>> rng, recall = random.Random(0), metrics.Recall()
    >>> model = VerdictFilter(preprocessing.StandardScaler() | DriftRobustDetector())
    >>> for i in range(2_000):
    ...     odd = i > 500 and i % 97 == 0
    ...     x = {"ms": rng.gauss(90.0 if odd else 20.0, 4.0)}
    ...     recall.update(odd, model.classify(model.score_one(x)))
    ...     model.learn_one(x)
    >>> recall
    Recall: 100.00%
    """

    def __init__(self, anomaly_detector: Any, protect_anomaly_detector: bool = False):
        _reached(anomaly_detector)
        super().__init__(anomaly_detector, protect_anomaly_detector)

    @property
    def _mutable_attributes(self) -> set[str]:
        return {"anomaly_detector", "protect_anomaly_detector"}

    def classify(self, score: float) -> bool:
        """Whether an event that got this score just now is an anomaly; see `DriftRobustDetector.classify`."""
        return _reached(self.anomaly_detector)[0].classify(score)

    def judge_one(self, x: Mapping[Any, Any]) -> Verdict:
        """The detector's verdict on x. Nothing is learned."""
        return judge_one(self.anomaly_detector, x)

    def learn_one(self, *args: Any, **learn_kwargs: Any) -> None:
        """Let the detector learn the event, unless it is protected from it."""
        if not (self.protect_anomaly_detector and self.classify(self.score_one(*args))):
            self.anomaly_detector.learn_one(*args, **learn_kwargs)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"anomaly_detector": MarginalDetector()}


def _reached(model: Any, x: Any = None) -> tuple[PackedDetector, Any]:
    """The detector in a model, and the event as it reaches it."""
    inner = model
    while isinstance(inner, (compose.Pipeline, base.AnomalyFilter)):  # which river takes for the detectors in them
        if isinstance(inner, compose.Pipeline):
            x, inner = None if x is None else inner.transform_one(x), inner[-1]
        else:
            inner = inner.anomaly_detector
    if not isinstance(inner, PackedDetector):
        raise InvalidArgument(
            "model",
            f"is {model!r}, which gives no verdicts; it must be, or end in, a DriftRobustDetector, MarginalDetector or "
            "SeriesDetector; AdaptiveThreshold classifies the scores of any other",
        )
    return inner, x
