"""The estimators that remember the last events, as river anomaly detectors of a single stream."""

import functools
from typing import Any

from onlineguard.core.neighbours import Fitness, Neighbours
from onlineguard.core.standardised import Standardised
from onlineguard.estimators.detector import PackedDetector, checked_patience, checked_target_rate
from onlineguard.models.judged import Judged

# Scales beyond which a feature counts as being that far. On eight tabular sets the mean AUC is .77 at 2.5, .79 at 5 and
# .80 at 10; on made streams whose anomalies are far away in one feature of ten it is .74, .93 and .99.
FARTHEST = 10.0


class _Remembering(PackedDetector):
    """The common part of both: events as they are compared, and the verdicts on their distances."""

    kind: type[Neighbours] | type[Fitness]

    def __init__(
        self,
        target_rate: float = 0.01,
        patience: float = 5_000,
        direction: bool = False,
        bounded_score: bool = False,
    ):
        self.target_rate, self.patience = checked_target_rate(target_rate), checked_patience(patience)
        self.direction, self.bounded_score = direction, bounded_score
        super().__init__(functools.partial(_judged, self.kind, float(target_rate), float(patience), bool(direction)))

    @property
    def remembered(self) -> dict[str, Any]:
        """How many events are remembered, and the bytes that takes; empty before the first event."""
        if not self._features.names:
            return {}
        found = self._model.estimator.describe(self._model.state)
        return {name: found[name] for name in ("remembered", "bytes")}


class NeighboursDetector(_Remembering):
    """Finds events that are far from the nearest of the last ones, whatever shape the usual ones have.

    It knows no law and no scale: what is usual may have several faces, and may turn into something else, which it has
    learned after some dozen events. It remembers 512 events, 2 kB for each feature. See `onlineguard.core.neighbours`.

    Features are compared in units of their own spread, or with `direction` as they come, by the direction of the event
    alone: for features of one unit, such as pixels or counts of words, of which a multiple is the same thing.

    Parameters
    ----------
    target_rate
        Share of usual events to be flagged, in (0, 0.2].
    patience
        Events that a new regime of distances must last before it counts as usual.
    direction
        Whether events are compared by their direction alone.
    bounded_score
        Whether scores lie between 0 and 1, as measures need that cut this range into bins, such as river's ROCAUC.

    Examples
    --------
    >>> import math
    >>> import random
    >>> from onlineguard.estimators import NeighboursDetector
    >>> rng, model = random.Random(0), NeighboursDetector()
    >>> for _ in range(2_000):
    ...     turn = rng.uniform(0.0, 2.0 * math.pi)
    ...     model.learn_one({"x": math.cos(turn), "y": math.sin(turn)})
    >>> model.judge_one({"x": 0.0, "y": 0.0}).anomalous, model.judge_one({"x": 0.6, "y": 0.8}).anomalous
    (True, False)
    """

    kind = Neighbours


class FitnessDetector(_Remembering):
    """Finds events that are far from the mean of the five most similar of the last 256.

    `NeighboursDetector` finds more, in twice the time and memory. Source: FITNESS, Sankararaman et al., ICML 2022, in
    our reading for a location model; see `onlineguard.core.neighbours`.

    Parameters
    ----------
    target_rate
        Share of usual events to be flagged, in (0, 0.2].
    patience
        Events that a new regime of distances must last before it counts as usual.
    direction
        Whether events are compared by their direction alone; by default features are in units of their own spread.
    bounded_score
        Whether scores lie between 0 and 1, as measures need that cut this range into bins, such as river's ROCAUC.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import FitnessDetector
    >>> rng, model = random.Random(0), FitnessDetector()
    >>> for _ in range(1_000):
    ...     load = rng.gauss(0.0, 1.0)
    ...     model.learn_one({"cpu": load, "heat": load + rng.gauss(0.0, 0.1)})
    >>> model.judge_one({"cpu": 1.0, "heat": -1.0}).anomalous, model.judge_one({"cpu": 1.0, "heat": 1.0}).anomalous
    (True, False)
    """

    kind = Fitness


def _judged(
    kind: type[Neighbours] | type[Fitness], target_rate: float, patience: float, direction: bool, width: int
) -> Judged:
    """The model of so many features."""
    remembering: Any = kind(width, direction=direction)
    return Judged(remembering if direction else Standardised(remembering, width, FARTHEST), target_rate, patience)
