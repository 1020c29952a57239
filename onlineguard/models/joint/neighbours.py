"""How far an event lies from a sample of past ones: rare is what has no neighbours.

`SAMPLE` usual events of the last `patience` are kept, dealt to `GROUPS` groups. The squared distance is the mean, over
the groups, of that from the nearest of a group. Each group is a small sample of its own: the mean of several is
steadier than the nearest of all, and an anomaly that got into one group speaks for itself in that group only.

Source: Sugiyama and Borgwardt, "Rapid distance-based outlier detection via sampling", NeurIPS 2013; the groups are from
Pang, Ting and Albrecht, "LeSiNN", ICDM workshops, 2015. A sample that follows the stream is ours.
"""

from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import larger, namespace, put, smaller, where
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float, Float32, Int32

SAMPLE = 32  # 16 rank worse by .01 of AUC, 64 no better, see `benchmarks.ablate_joint`
GROUPS = 4


class Sample(NamedTuple):
    """Some of the past events."""

    rows: Float32[Array, "sample d"]  # their residuals
    squares: Float32[Array, " sample"]  # and the squared lengths of these
    turn: Int32[Array, ""]  # the row that is renewed next
    due: Float32[Array, ""]  # usual events until then

    @classmethod
    def blank(cls, width: int) -> "Sample":
        """Before any event, in NumPy."""
        return cls(np.zeros((SAMPLE, width), np.float32), np.zeros(SAMPLE, np.float32), np.int32(0), np.float32(0.0))


def squared_distances(
    rows: Float32[Array, "rows d"],
    squares: Float32[Array, " rows"],
    y: Float32[Array, " d"],
    square: Float32[Array, ""],
) -> Float32[Array, " rows"]:
    """|row - y|^2 of each row, from the squared lengths: one product of a matrix and a vector."""
    return namespace(y).maximum(squares - 2.0 * (rows @ y) + square, 0.0)


def sparsity(sample: Sample, y: Float32[Array, " d"], square: Float32[Array, ""]) -> Float32[Array, ""]:
    """The mean, over the groups, of the squared distance from the nearest of the group."""
    nearest = squared_distances(sample.rows, sample.squares, y, square)
    while nearest.shape[-1] > GROUPS:
        half = nearest.shape[-1] // 2
        nearest = namespace(y).minimum(nearest[:half], nearest[half:])
    return nearest.sum() / GROUPS


def nearest_rows(
    sample: Sample, y: Float32[np.ndarray, " d"], square: Float32[np.ndarray, ""]
) -> Float32[np.ndarray, "groups d"]:
    """The nearest row of each group; NumPy."""
    squared = squared_distances(sample.rows, sample.squares, y, square).reshape(-1, GROUPS)
    return sample.rows[squared.argmin(axis=0) * GROUPS + np.arange(GROUPS)]


def learned_sample(
    state: Sample,
    y: Float32[Array, " d"],
    square: Float32[Array, ""],
    seen: Float32[Array, ""],
    patience: Float[Array, ""],
    usual: Bool[Array, ""],
) -> Sample:
    """The sample after an event: a usual one takes the place of the oldest if it is time.

    The pause is the age of the slice, or `patience`, divided by SAMPLE: the sample covers it evenly.
    """
    kept = usual & (state.due <= 1.0)
    place = where(kept, state.turn, -1)
    wait = larger(smaller(seen, patience) / SAMPLE, 1.0)
    return Sample(
        put(state.rows, place, y),
        put(state.squares, place, square),
        where(kept, where(state.turn + 1 >= SAMPLE, 0, state.turn + 1), state.turn),
        where(kept, state.due + wait - 1.0, larger(state.due - where(usual, 1.0, 0.0), 0.0)),
    )
