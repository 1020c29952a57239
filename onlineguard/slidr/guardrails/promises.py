"""What a model is seen to do before it goes live: rates and scores a slice, features in training, and pinned clicks.

The live watch compares traffic with these, and the guardrails compare the next candidate and its data.
"""

import numpy as np
import polars as pl

from onlineguard.records.versions import Canary, Promises, SlicePromise
from onlineguard.slidr.guardrails.distributions import promise_of, sampled
from onlineguard.slidr.model import Model
from onlineguard.slidr.pipeline import Mask, Prepared, known_humans, purchasing, scores, slice_name

BINS = 20  # of scores, as many in each over all slices
CANARIES = 64  # enough that one flip is within the limit, and few enough for a record
DAY = 86_400_000


def promised(prepared: Prepared, model: Model, learned: Mask, rows: Mask, known_at: int) -> Promises:
    """What a calibrated model does on the clicks `rows` (n,) bool, and the features of those it has `learned`."""
    assert model.thresholds is not None
    p_robot = scores(prepared, model.scorer, rows)
    ids, keys = prepared.ids_among(model.thresholds.keys)
    ids = ids[rows]
    robotic = model.thresholds.calibration.robotic(p_robot, ids)
    bought, heavy = purchasing(prepared, known_at)[rows], prepared.heavy[rows]
    edges = np.unique(np.quantile(p_robot.astype(np.float64), np.arange(1, BINS) / BINS))
    bins = np.searchsorted(edges, p_robot, side="left")
    counts = np.bincount(ids * (len(edges) + 1) + bins, minlength=len(keys) * (len(edges) + 1)).reshape(len(keys), -1)

    def of_slice(*marks: Mask) -> list[int]:
        return np.bincount(ids[np.logical_and.reduce(marks)], minlength=len(keys)).tolist()

    everything = np.ones(len(ids), bool)
    columns = (
        of_slice(everything),
        of_slice(robotic),
        of_slice(bought),
        of_slice(bought, robotic),
        of_slice(heavy),
        of_slice(heavy, robotic),
    )
    names = ("clicks", "robotic", "purchases", "robotic_purchases", "heavy", "robotic_heavy")
    slices = {
        slice_name(key): SlicePromise(**dict(zip(names, figures, strict=True)), scores=histogram)
        for key, *figures, histogram in zip(keys, *columns, counts.tolist(), strict=True)
    }
    span = model.trained
    human = known_humans(prepared, span.known_at, model.config)[learned]
    return Promises(
        clicks_a_day=int(learned.sum()) / max(1e-9, (span.until - span.since) / DAY),
        human_share=float(human.mean()),
        score_edges=edges.tolist(),
        slices=slices,
        features=promise_of(sampled(prepared.X, learned)),
    )


def canaries(prepared: Prepared, model: Model, rows: Mask, known_at: int) -> list[Canary]:
    """Clicks to pin: half of them purchases that the model finds valid, half robotic ones of heavy sessions.

    They are one a visitor, and clear ones: those farthest from their thresholds. There may be fewer than `CANARIES`.
    """
    assert model.thresholds is not None
    at = np.flatnonzero(rows)
    margin = scores(prepared, model.scorer, rows) - model.thresholds.of(prepared)[rows]
    bought, heavy = purchasing(prepared, known_at)[rows], prepared.heavy[rows]
    who = prepared.frame[at].select(pl.coalesce(pl.col("user_id", "ip").cast(pl.String))).to_series()
    pinned: list[Canary] = []
    for mask, robotic in ((bought & (margin <= 0.0), False), (heavy & (margin > 0.0), True)):
        found = pl.DataFrame({"at": at, "who": who, "clear": np.abs(margin)}).filter(pl.Series(mask))
        clearest = found.sort("clear", descending=True).unique("who", keep="first", maintain_order=True)
        for row in clearest["at"].head(CANARIES // 2).to_list():
            name = slice_name(prepared.slice_keys[prepared.slice_ids[row]])
            codes = prepared.categories[row].tolist() if model.config.kind == "embedding" else []
            pinned.append(Canary(name, prepared.X[row].tolist(), codes, robotic))
    return pinned
