"""The default detector of a numeric series: what has not been seen before, or does not follow from what just was.

Nobody names a period, a scale or a share of anomalies. Every column of a series is looked at in three ways:

1. **Novelty.** The distance of the value to everything seen before (`landmarks`), those of its course and its level
   (`shapes`), and that to the same time of earlier periods, where the series repeats itself (`season`), are read as
   decades of surprise in their own past (`surprise`). With the value's first,

       novelty = value + .7 max(mean(course, level), season - 1) - .3.

   A value that is a little new on a course that is known is no anomaly, and one on a new course is.
2. **Residual.** Where a forecast from the latest values is worth something (`forecast`), with R the decades of rarity
   of what it leaves, `R - 3` counts as well, and a novelty of less than two median residuals does not. A jump that the
   series makes by itself (`steps`), such as that of a counter that starts again, leaves no residual that counts.
3. **Stillness.** Where the series moves less than it ever did (`stillness`), with S the decades of rarity of a stretch
   of 64 values that is as still, `S - log10 2000` counts too.

The largest of the three, in the oddest column, less log10 of the number of columns, is A: decades of surprise beyond
what an alarm takes. **The score** is 2,000 times 10^A. It reads as a return period: an event whose score is 20,000 is
of a kind that comes about once in 20,000 events. So **the threshold** is 1 / target_rate, and a tenfold lower rate asks
for one more decade.

**An alarm is one event.** In the 60 events after it the threshold is infinite, while scores go on being the events'
own: a run of odd values is one alarm when it begins, and another one if what comes after the pause is unlike all of it
too. What came once has been seen, so a new level soon is none.

Source: all of it is ours, and the parts name theirs. `benchmarks/bench_series.py` measures it, and
`benchmarks/ablate_series.py` says what each part and each constant is worth.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import barrier, larger, namespace, saturating_add, to_float, where
from onlineguard.core.protocols import Array
from onlineguard.core.pytree import pytree
from onlineguard.core.quantiles import LEVELS, moved_quantile, quantile_rate
from onlineguard.core.registry import register
from onlineguard.core.shapes import Bool, Float, Float32, Float64, Int32
from onlineguard.core.spread import counted_from
from onlineguard.models import forecast, landmarks, season, shapes, steps, stillness
from onlineguard.models.base import Judgement, SliceModel
from onlineguard.models.carrying import NEW, Columns, carried_leaves
from onlineguard.models.forecast import Forecast
from onlineguard.models.season import Season
from onlineguard.models.shapes import Course
from onlineguard.models.steps import Steps
from onlineguard.models.stillness import Stillness
from onlineguard.models.surprise import MOST, Past, remembered, surprise

VOTES = 0.7  # weight of course and level beside the value; flat from .5 to .9
SEASON = 1.0  # decades by which the season must be the odder one
NOVEL = 0.3  # decades of novelty, at least, of an alarm at the usual rate
RESIDUAL = 3.0  # decades of rarity of a residual, at least: at 2.6 false alarms are ten times as many
LEAST_NEW = 2.0  # median residuals; what is nearer to a value seen before is not new
USUAL_RATE = 1 / 2_000  # the rate at which an alarm takes A > 0: one in a week of five-minute data
STILL = math.log10(1 / USUAL_RATE)  # decades of rarity of a still stretch: the score is its return period, in stretches
PAUSE = 60.0  # events after an alarm in which there is none; flat from 20 to 120
READY = shapes.WHOLE  # events before the first alarm: by then every part has a past
KINDS = 4  # of distances
HUGE = 1e36  # values end here, so that sums of 64 of them stay within float32
USUAL_SCORES = (10.0, 40.0, 200.0)  # where the quantiles of the scores start


class SeriesState(NamedTuple):
    """What the stream taught one slice."""

    landmarks: Float32[Array, "d landmarks"]
    past: Past  # distances of all columns' values, then of their courses, of their levels, and of their seasons
    course: Course
    season: Season
    forecast: Forecast
    steps: Steps
    stillness: Stillness
    counts: Int32[Array, " d"]  # values of every column
    seen: Int32[Array, ""]  # events
    quiet: Float32[Array, ""]  # events left in which there is no alarm
    median: Float32[Array, ""]  # the score that 50 % of the events exceed,
    fifth: Float32[Array, ""]  # 20 %,
    twentieth: Float32[Array, ""]  # and 5 %


class Evidence(NamedTuple):
    """What speaks for an anomaly in every column, in decades; -infinity where nothing can be said."""

    value: Float32[Array, " d"]  # surprises
    course: Float32[Array, " d"]
    level: Float32[Array, " d"]
    season: Float32[Array, " d"]  # less SEASON
    novelty: Float32[Array, " d"]  # of all four, beyond what an alarm takes
    residual: Float32[Array, " d"]  # beyond what an alarm takes; nothing where a usual jump explains it
    stillness: Float32[Array, " d"]  # beyond what an alarm takes

    def most(self) -> Float32[Array, " d"]:
        """The decades that count: of the part that says most."""
        maximum = namespace(self.novelty).maximum
        return maximum(maximum(self.novelty, self.residual), self.stillness)


@register("Series 3")
@pytree
class Series(SliceModel):
    """Novelty and residual of one slice: what the operator chose. Fields may change without recompiling.

    target_rate: share of events to be alarms, at most about, in (0, 0.2].
    pause: events after an alarm in which there is none; the default is five hours of five-minute data.
    """

    target_rate: Float[Array, ""] = USUAL_RATE
    pause: Float[Array, ""] = PAUSE

    shiftable = True
    repeatable = False
    min_seen = READY

    def init(self, n_features: int, width: int | None = None) -> SeriesState:
        """The state before any event, in NumPy."""
        width = width or n_features
        return SeriesState(
            landmarks.blank(width),
            Past.blank(KINDS * width),
            Course.blank(width),
            Season.blank(width),
            Forecast.blank(width),
            Steps.blank(width),
            Stillness.blank(width),
            np.zeros(width, np.int32),
            np.int32(0),
            *np.array([0.0, *USUAL_SCORES], np.float32),
        )

    def step(self, state: SeriesState, event: Float32[Array, " d"]) -> tuple[SeriesState, Judgement]:
        """Judge an event with the state from before it, then learn it.

        A NaN or infinite feature is missing: it is not scored, and its column stays as it is, as if its time had not
        passed. An event without any finite feature changes nothing.
        """
        xp = namespace(event)
        present = xp.isfinite(event)
        x = xp.where(present, xp.minimum(xp.maximum(event, -HUGE), HUGE), 0.0)
        latest = shapes.means(state.course, x)
        (distances,) = barrier(_distances(state, x, latest))
        left = forecast.residual(state.forecast, state.course.latest, x)
        moves = stillness.moved(state.stillness, state.course, x)
        usual = steps.usual(state.steps, state.course, x)
        evidence = _weighed(state, distances, left, moves, usual)

        columns = xp.sum(present.astype(np.int32))
        usable = columns > 0
        decades = xp.max(xp.where(present, evidence.most(), -MOST))
        score = 10.0 ** (decades - xp.log10(larger(to_float(columns), 1.0))) / USUAL_RATE
        ready = (state.seen >= READY) & usable
        threshold = 1.0 / self.target_rate
        alarm = ready & (score > threshold) & (state.quiet <= 0.0)

        quiet = where(alarm, self.pause, larger(state.quiet - 1.0, 0.0))
        rate = usable * quantile_rate(to_float(state.seen))
        learned = SeriesState(
            landmarks.placed(state.landmarks, x, present & (distances[: len(x)] > 0.0)),
            remembered(state.past, distances, xp.tile(present, KINDS) & (distances < math.inf)),
            shapes.followed(state.course, x, latest, state.counts, present),
            season.found(state.season, state.course, latest, state.counts, present),
            forecast.corrected(state.forecast, left, state.course.latest, x, present),
            steps.followed(state.steps, state.course, x, left.rarity, usual, present),
            stillness.followed(state.stillness, moves, state.counts, present),
            saturating_add(state.counts, present),
            saturating_add(state.seen, usable),
            where(usable, quiet, state.quiet),
            *(
                moved_quantile(getattr(state, name), score, level, rate)
                for name, level in zip(("median", "fifth", "twentieth"), LEVELS, strict=True)
            ),
        )
        in_force = where(state.quiet > 0.0, math.inf, threshold)
        quantiles = (state.median, state.fifth, state.twentieth, threshold)
        return learned, Judgement(where(usable, score, math.nan), in_force, ready, *quantiles)

    def moved(self, states: SeriesState, by: Float64[np.ndarray, "slices d"]) -> SeriesState:
        """See `SliceModel.moved`. Distances have no origin."""
        marks = counted_from(states.landmarks, by[..., None])
        return states._replace(landmarks=marks, course=states.course.moved(by))

    def carried(
        self, states: SeriesState, columns: Columns, categories: tuple[int, ...] = ()
    ) -> tuple["Series", SeriesState]:
        """See `SliceModel.carried`. Columns are looked at one by one, so those that remain go on as they were."""
        blank, before = self.init(len(columns)), states.counts.shape[1]
        of_kinds = [c if c == NEW else kind * before + c for kind in range(KINDS) for c in columns]
        by_column = ("landmarks", "course", "season", "forecast", "steps", "stillness", "counts")
        kept = {name: carried_leaves(getattr(blank, name), getattr(states, name), columns) for name in by_column}
        return self, states._replace(past=carried_leaves(blank.past, states.past, of_kinds), **kept)

    def contributions(self, state: SeriesState, event: Float32[Array, " d"]) -> Float64[Array, " d"]:
        """The score that each column would have by itself; the event's is the largest, divided by their number."""
        decades = self.evidence(state, event).most().astype(np.float64)
        return np.where(np.isfinite(event), 10.0**decades / USUAL_RATE, 0.0)

    def evidence(self, state: SeriesState, event: Float32[Array, " d"]) -> Evidence:
        """What speaks for an anomaly in every column of an event, under the state from before it."""
        xp = namespace(event)
        x = xp.where(xp.isfinite(event), xp.minimum(xp.maximum(event, -HUGE), HUGE), 0.0)
        distances = _distances(state, x, shapes.means(state.course, x))
        left = forecast.residual(state.forecast, state.course.latest, x)
        moves = stillness.moved(state.stillness, state.course, x)
        return _weighed(state, distances, left, moves, steps.usual(state.steps, state.course, x))

    def reasons(
        self, state: SeriesState, event: Float32[Array, " d"], origin: Float64[np.ndarray, " d"]
    ) -> dict[str, Any]:
        """The `Evidence` by name, and three values beside it; NumPy.

        These are the `nearest` value seen before, the `forecast`, and `same_time`, the nearest mean of 16 values at
        this time of an earlier period. They are NaN where there is none.
        """
        x = np.asarray(event, np.float32)
        far = abs(x[:, None] - state.landmarks)
        nearest = np.take_along_axis(state.landmarks, np.argmin(far, 1)[:, None], 1)[:, 0]
        left = forecast.residual(state.forecast, state.course.latest, x)
        same_time = season.nearest(state.season, state.course, shapes.means(state.course, x), state.counts)
        return self.evidence(state, x)._asdict() | {
            "nearest": np.where(np.isfinite(nearest), nearest, math.nan) + origin,
            "forecast": x - left.value + origin,
            "same_time": same_time + origin,
        }

    def describe(self, state: SeriesState) -> dict[str, Any]:
        """Threshold of the score, events left without an alarm, and of every feature its period (0: none) and range."""
        marks = np.where(np.isfinite(state.landmarks), state.landmarks, math.nan)
        return {
            "threshold": float(1.0 / self.target_rate),
            "quiet": int(state.quiet),
            "period": np.asarray(state.season.period) * shapes.BLOCK,
            "low": marks[:, 0],
            "high": np.fmax.reduce(marks, axis=1),
            "events": int(state.seen),
        }


def _distances(
    state: SeriesState, x: Float32[Array, " d"], latest: Float32[Array, "d level"]
) -> Float32[Array, " kinds*d"]:
    """Of values, courses, levels and seasons, each kind of all columns; infinite where there is no past."""
    course, level = shapes.distances(state.course, latest)
    same_time = season.distance(state.season, state.course, latest, state.counts)
    return namespace(x).concatenate((landmarks.distance(state.landmarks, x), course, level, same_time))


def _weighed(
    state: SeriesState,
    distances: Float32[Array, " kinds*d"],
    left: forecast.Residual,
    moves: Float32[Array, " d"],
    usual: Bool[Array, " d"],
) -> Evidence:
    """The evidence in the distances, of which those without a past are infinite, the residuals, moves and jumps."""
    xp = namespace(distances)
    there = (distances < math.inf) & (state.past.count > 0)
    surprises = xp.where(there, surprise(state.past, xp.where(there, distances, 0.0)), 0.0)
    value, course, level, same_time = barrier(*surprises.reshape(KINDS, -1))
    near, has_season = distances[: len(value)], there[-len(value) :]
    same_time = xp.where(has_season, same_time - SEASON, -MOST)
    novelty = value + VOTES * xp.maximum(np.float32(0.5) * (course + level), same_time) - NOVEL
    new = there[: len(value)] & ~(left.worth & (near < LEAST_NEW * left.median))
    return Evidence(
        value,
        course,
        level,
        same_time,
        xp.where(new, novelty, -MOST),
        xp.where(left.worth & ~usual & (state.steps.broken == 0), left.rarity - RESIDUAL, -MOST),
        stillness.rarity(state.stillness, moves, state.counts) - STILL,
    )
