"""What slices have learned, for events that have other features from now on.

`columns` says of each feature of the new events which feature it was before, or NEW. What was learned of a feature that
remains goes along bit for bit; a new one begins as it does in a slice that has seen nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

NEW = -1  # in place of a feature that was not there before

Columns = Sequence[int]  # of n features: each one's number before, or NEW


def carried_leaves(blank: Any, stacked: Any, columns: Columns, axis: int = 0) -> Any:
    """Stacked leaves (slices, ...) for other features: `blank` is one slice's leaves before any event.

    axis: of `blank`, along which features lie.
    """
    import jax  # here and not above: models run on NumPy where JAX is not installed

    return jax.tree.map(lambda one, many: _carried(one, many, columns, axis), blank, stacked)


def carried_choices[T](chosen: tuple[T, ...], columns: Columns, usual: T) -> tuple[T, ...]:
    """What the operator chose for each feature, () for nothing; `usual` for new ones."""
    return tuple(usual if column == NEW else chosen[column] for column in columns) if chosen else ()


def remaining(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Where the features that remain lie from now on, and where they lay before."""
    after = np.flatnonzero(np.array(columns) != NEW)
    return after, np.array(columns, np.int64)[after]


def _carried(one: np.ndarray, many: np.ndarray, columns: Columns, axis: int) -> np.ndarray:
    after, before = remaining(columns)
    found = np.repeat(np.asarray(one)[None], len(many), axis=0)
    np.moveaxis(found, axis + 1, 0)[after] = np.moveaxis(many, axis + 1, 0)[before]
    return found
