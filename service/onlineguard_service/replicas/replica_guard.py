"""The guard of a replica: it decides about clicks as shards do, and learns nothing of them but figures.

Its model, a candidate on trial, thresholds and figures are those of any guard. Clicks come with their counts. What the
watch of their slices says is asked of the view of the partition that each click belongs to, so no two shards are mixed.
A view that is older than it may be is not asked: then the verdict of the watch is not ready, and the decision stands.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from onlineguard.engine.engine import Engine
from onlineguard.engine.events import CodedEvents
from onlineguard.engine.verdicts import Verdicts
from onlineguard.records.click import Click
from onlineguard.slidr.features import Featuriser
from onlineguard.slidr.judge import MOST, FeatureJudge, JudgedClicks
from onlineguard.slidr.learning.scorer import Scorer
from onlineguard.slidr.model import Model
from onlineguard.slidr.watch import COLUMNS as WATCHED
from onlineguard.wire.placement import key_of, partition_of
from onlineguard_service.alarms import Alarms
from onlineguard_service.entries import Options
from onlineguard_service.guard import Guard
from onlineguard_service.replicas.views import View, Views


class ReplicaGuard(Guard):
    """See this module. `oldest`: seconds that a view may be old."""

    def __init__(self, options: Options, version: str, models: Callable[[str], Model], views: Views, oldest: float):
        self._views, self._oldest = views, oldest
        super().__init__(options, version, models)
        self.alarms = _NoAlarms(1, lambda *_: None)
        self._hear()

    def _judge_of(self, model: Model) -> Any:
        return ViewJudge(model.scorer, model.featuriser(), self.watch, self._view_of)

    def _view_of(self, click: Click) -> View | None:
        views = self._views.now
        view = views[partition_of(key_of(click), len(views))]
        return view if view.age <= self._oldest else None


class ViewJudge:
    """Judges clicks whose counts are given, to the bits of a `ClickJudge`; learns nothing.

    unknowing: an engine that has learned nothing, which answers for views that are too old.
    """

    most = MOST

    def __init__(
        self, scorer: Scorer, featuriser: Featuriser, unknowing: Engine, view_of: Callable[[Click], View | None]
    ):
        self._scores, self._featuriser = FeatureJudge(scorer, unknowing), featuriser
        self._unknowing, self._view_of = unknowing, view_of

    def warmup(self, engine: Engine | None = None) -> None:
        """Compile."""
        self._scores.warmup()

    def judge(
        self,
        clicks: Sequence[Click],
        slices: Sequence[str],
        counts: Int32[np.ndarray, "n 34"],
        looked_up: Float32[np.ndarray, "n columns"] | None = None,
    ) -> JudgedClicks:
        """See `ClickJudge.judge`."""
        ts = np.array([click.ts for click in clicks], np.int64)
        marketplaces, logged_in = [click.marketplace for click in clicks], [click.logged_in for click in clicks]
        features = np.asarray(self._featuriser.of_counts(counts, ts, marketplaces, logged_in, looked_up))
        watched = features[:, WATCHED]
        return JudgedClicks(
            features, self._scores.p_robot(clicks, features), watched, self._verdicts(clicks, slices, watched)
        )

    def _verdicts(self, clicks: Sequence[Click], slices: Sequence[str], watched: np.ndarray) -> Verdicts:
        views = [self._view_of(click) for click in clicks]
        places: dict[int, list[int]] = {}
        for place, view in enumerate(views):
            places.setdefault(id(view), []).append(place)
        found: list[Verdicts] = []
        for of_view in places.values():
            view = views[of_view[0]]
            engine = self._unknowing if view is None else view.watch
            numbers = CodedEvents(watched[of_view].astype(np.float64))
            found.append(engine.score([slices[place] for place in of_view], numbers))
        if len(found) == 1:
            return found[0]
        order = np.argsort([place for of_view in places.values() for place in of_view])
        return Verdicts(np.concatenate([each.judgements for each in found])[order], found[0].target_rate)


class _NoAlarms(Alarms):
    """Alarms are the shards' to raise: each replica would raise them again."""

    def take(self, *args: Any, **named: Any) -> None:
        pass

    def found(self, *args: Any, **named: Any) -> None:
        pass
