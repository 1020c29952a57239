"""Clicks that were judged live, judged anew: the harm of a faulty model is undone by the decisions of a right one.

    for frame in replayed(History("onlineguard-state/history"), model, since, until): ...

With recorded features a model scores what was counted when the click came. With `recompute` the clicks of the history
are counted again, which is right where counting itself was at fault, or where features have changed since. Either way
one row's score has the bits that a service answers, so the same model gives the very decisions that were given live:
with recorded features always, with recomputed ones where the history is complete (`complete`).

Counting begins `LOOKBACK` before the first click that is judged: no counter reaches further. It goes on `LATE` after
the last one, since a click may have been judged after others that were made later.

Source: that a deployed model is replayed to repair what a faulty one decided is told by Muralidhar, Chitlangia,
Agarwal, Ahmed: "SLIDR: Real-time detection of robotic traffic in online advertising" (IAAI 2023); the way is ours.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.categories import categories
from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.counting.windows import BEHIND_MS, HOUR_MS, KEEP_HOURS, LONGER_HOURS
from onlineguard.slidr.features import LOOKED_UP, NAMES
from onlineguard.slidr.history.reading import History, features_of
from onlineguard.slidr.judge import scored_singly
from onlineguard.slidr.learning.train import Network
from onlineguard.slidr.lookups.lookups import Lookups
from onlineguard.slidr.model import Model
from onlineguard.slidr.pipeline import slice_name

LOOKBACK = (KEEP_HOURS + LONGER_HOURS) * HOUR_MS
LATE = BEHIND_MS

_PLACE = ("source", "sequence", "position")
_BEFORE = {"score": "was_score", "threshold": "was_threshold", "robotic": "was_robotic", "model": "was_model"}
COLUMNS = (
    *_PLACE,
    *("click_id", "ts", "ad_id", "purchase_ts", "slice"),
    *("score", "threshold", "robotic", "model"),
    *_BEFORE.values(),
)


def replayed(
    history: History,
    model: Model,
    since: int | None = None,
    until: int | None = None,
    recompute: bool = False,
    lookups: Lookups | None = None,
) -> Iterator[pl.DataFrame]:
    """The clicks with since <= ts < until as the model decides about them, in the order in which they were judged.

    lookups: what recomputed features are looked up in; by default what was found then is taken.

    The columns are `COLUMNS`: the new score, threshold, decision and version, and behind `was_` those that they
    replace. A click that was judged twice, since its id had been forgotten, is there twice.

    Raises InvalidArgument for a model without thresholds, SourceError where recorded features are of another version.
    """
    if model.thresholds is None:
        raise InvalidArgument(f"model {model.version} has no thresholds; run onlineguard slidr calibrate on it")
    kind = getattr(getattr(model.scorer, "config", None), "kind", None)
    embedding = isinstance(model.scorer, Network) and kind == "embedding"
    read = (*_PLACE, "t", *SCHEMA, *_BEFORE, *(LOOKED_UP if recompute else NAMES))
    featuriser = model.featuriser(lookups) if recompute else None
    first = since if since is None or featuriser is None else since - LOOKBACK
    last = until if until is None or featuriser is None else until + LATE
    for frame in history.clicks(first, last, tuple(dict.fromkeys(read))):
        if featuriser is None:
            counted = features_of(frame)
        else:
            counted = featuriser.transform(frame, frame["t"])
            if lookups is None:
                counted[:, -len(LOOKED_UP) :] = frame.select(LOOKED_UP).to_numpy()
        asked = np.ones(frame.height, bool)
        for bound, sign in ((since, 1), (until, -1)):
            if bound is not None:
                asked &= (frame["ts"].to_numpy() >= bound) == (sign > 0)
        if asked.any():
            chosen = frame.filter(pl.Series(asked))
            codes = categories(chosen) if embedding else None
            yield _decided(chosen, model, scored_singly(model.scorer, counted[asked], codes))


def complete(history: History, since: int | None = None) -> bool:
    """Whether recomputed features are those that were counted live: no file is missing, and the history reaches back
    to the beginning of its journals or `LOOKBACK` before `since`."""
    if history.missing():
        return False
    firsts = {part.source: part.first for part in reversed(history.parts())}
    begun = all(first <= _BEGUN for first in firsts.values())
    return begun or (since is not None and history.span is not None and history.span[0] <= since - LOOKBACK)


_BEGUN = 2  # a journal's first entry says what the operator chose; whoever has all from the next on has everything


def _decided(frame: pl.DataFrame, model: Model, p_robot: np.ndarray) -> pl.DataFrame:
    thresholds = model.thresholds
    assert thresholds is not None  # `replayed` saw to it
    parts = [pl.col(column).cast(pl.String).fill_null("") for column in model.config.slices]
    names = [slice_name(key) for key in thresholds.keys]
    slices = frame.select(slice=pl.concat_str(parts, separator=" / "))["slice"]
    chosen, default = thresholds.calibration.thresholds, thresholds.calibration.default
    limit = slices.replace_strict(names, chosen, default=default, return_dtype=pl.Float64)
    return (
        frame.rename(_BEFORE)
        .with_columns(
            slice=slices,
            score=pl.Series(p_robot).fill_nan(None),
            threshold=limit,
            robotic=pl.Series(p_robot.astype(np.float64) > limit.to_numpy()),
            model=pl.lit(model.version),
        )
        .select(COLUMNS)
    )
