"""Labels of a few clicks spread to all clicks of their visitor, who was one person all along.

A purchase says that a person made one click. The same person made the visitor's other clicks, so they are learned as
human too: the clicks of one user_id, or where there is none of one session_id. A visitor of n clicks, each of which
leads to a purchase with the probability p, is known with the probability

    P(n) = 1 - (1 - p)^n

so those who click a lot are known too often. Each of their clicks weighs 1 / P(n), by which the known stand for all
people: the sum of these weights over the known visitors expects the number of clicks of all people (Horvitz and
Thompson, "A generalization of sampling without replacement from a finite universe", JASA 1952). p is the share of the
clicks that led to a purchase. Robots are among those clicks, so p is somewhat below that of people, and the weights of
rare visitors are somewhat too large; they are bounded with all other weights.

Source: the setting is that of Bekker and Davis, "Learning from positive and unlabeled data: a survey", 2020, section
on labels that depend on the attributes.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64

PART = 2_000_000  # clicks whose visitors are looked at at once
_HAS_USER = pl.col("user_id").is_not_null()


class Spread(NamedTuple):
    """The labels of n clicks after spreading."""

    human: Bool[np.ndarray, " n"]
    loads: Float64[np.ndarray, " n"]  # 1 / P of the visitor where human, else 1


def spread(clicks: pl.DataFrame, known: Bool[np.ndarray, " n"]) -> Spread:
    """Spread what is known of n clicks, a frame with user_id and session_id, in no particular order.

    A click without either id is alone. If nothing is known, or everything is, the labels stay as they are.

    >>> clicks = pl.DataFrame({"user_id": ["a", "a", "b", None], "session_id": [None, "s", "t", "t"]})
    >>> spread(clicks, np.array([True, False, False, False])).human.tolist()
    [True, True, False, False]
    """
    human, n = known.copy(), np.ones(len(known), np.int64)
    for id_, mine in (("user_id", _HAS_USER), ("session_id", ~_HAS_USER & pl.col("session_id").is_not_null())):
        parts = -(-len(known) // PART)
        for part in range(parts):  # some visitors at a time, for its memory
            rows = clicks.select((mine & (pl.col(id_).hash() % parts == part)).arg_true()).to_series()
            visitor = clicks[id_][rows].to_frame().with_columns(known=pl.Series(known)[rows])
            told = visitor.select(human=pl.col("known").any().over(id_), n=pl.len().over(id_))
            at = rows.to_numpy()
            human[at], n[at] = told["human"].to_numpy(), told["n"].to_numpy()
    share = known.mean() if len(known) else 0.0
    return Spread(human, np.where(human, 1.0 / np.maximum(1.0 - (1.0 - share) ** n, share or 1.0), 1.0))
