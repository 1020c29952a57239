"""The arguments of an Engine, checked once. Every error names the argument, its value, the rule and the way out."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from onlineguard.engine.table import Layout
from onlineguard.errors import InvalidArgument
from onlineguard.models.base import SliceModel
from onlineguard.models.detector import Detector
from onlineguard.models.joint.detector import JointDetector
from onlineguard.models.judged import Judged


def checked_model(estimator: Any, target_rate: float, patience: float) -> SliceModel:
    """The model of one slice: the default JointDetector, a SliceModel as it is, or a `Judged` core estimator."""
    rate, patience = checked_rate(target_rate), checked_patience(patience)
    if estimator is None:
        return JointDetector(rate, patience)
    if isinstance(estimator, type) or any(leaf is estimator for leaf in jax.tree.leaves(estimator)):
        raise InvalidArgument(
            "estimator", f"is {estimator!r}, which is not a pytree; put @pytree above its class, and give an instance"
        )
    if isinstance(estimator, SliceModel):
        checked_rate(estimator.target_rate)
        return estimator
    if not (hasattr(estimator, "init") and hasattr(estimator, "step")):
        raise InvalidArgument(
            "estimator",
            f"is {estimator!r}; it must be a SliceModel such as Series(), or an estimator with init() and "
            "step(state, event) such as ClippedSGD(Mean(2))",
        )
    return Judged(estimator, rate, patience)


def fitting_model(n_features: int, bytes_per_slice: Any, target_rate: float, patience: float) -> SliceModel:
    """The best model whose row takes at most so many bytes: the JointDetector, or else the marginal Detector."""
    rate, patience = checked_rate(target_rate), checked_patience(patience)
    models = (JointDetector(rate, patience), Detector(rate, patience))
    sizes = [row_bytes(model, n_features) for model in models]
    if not _is_number(bytes_per_slice) or bytes_per_slice < sizes[-1]:
        raise InvalidArgument(
            "bytes_per_slice",
            f"is {bytes_per_slice!r}; with {n_features} feature(s) it must be at least {sizes[-1]}, what the marginal "
            f"Detector takes; the JointDetector takes {sizes[0]}",
        )
    return next(model for model, size in zip(models, sizes, strict=True) if size <= bytes_per_slice)


def row_bytes(model: SliceModel, n_features: int) -> int:
    """Bytes that a slice takes in the table."""
    width = model.width(n_features)
    state = model.init(n_features) if width == n_features else model.init(n_features, width)  # type: ignore[call-arg]
    return 4 * Layout.of(state).length


def checked_features(features: Sequence[str] | None) -> list[str] | None:
    """The names of the features, or None; raises InvalidArgument unless they are distinct strings."""
    if features is None:
        return None
    names = [] if isinstance(features, str) else list(features)
    if not names or len(set(names)) != len(names) or not {*map(type, names)} <= {str}:
        raise InvalidArgument(
            "features", f"is {features!r}; it must be a list of names, each once, e.g. ['load', 'bytes']"
        )
    return names


def checked_width(n_features: int | None, features: list[str] | None) -> int:
    """The number of features of an event."""
    if features is not None:
        if n_features not in (None, len(features)):
            raise InvalidArgument(
                "n_features", f"is {n_features}, but {len(features)} features are named; leave it out"
            )
        return len(features)
    if isinstance(n_features, bool) or not isinstance(n_features, (int, np.integer)) or n_features < 1:
        raise InvalidArgument("n_features", f"is {n_features!r}; it must be a whole number of at least 1, e.g. 20")
    return int(n_features)


def checked_rate(target_rate: Any) -> float:
    """The share of usual events to be flagged; raises InvalidArgument unless it lies in (0, 0.2]."""
    if not _is_number(target_rate) or not 0.0 < target_rate <= 0.2:
        raise InvalidArgument(
            "target_rate", f"is {target_rate!r}; it must lie in (0, 0.2], e.g. 0.01 for 1 % of usual events"
        )
    return float(target_rate)


def checked_patience(patience: Any) -> float:
    """The patience in events; raises InvalidArgument unless it is at least 1."""
    if not _is_number(patience) or not patience >= 1:
        raise InvalidArgument("patience", f"is {patience!r}; it must be at least 1 event, e.g. 5000")
    return float(patience)


def checked_max_slices(max_slices: Any) -> int:
    """The most slices to keep; raises InvalidArgument unless it is a whole number of at least 1."""
    if not _is_number(max_slices) or max_slices < 1 or max_slices != int(max_slices):
        raise InvalidArgument(
            "max_slices", f"is {max_slices!r}; it must be a whole number of at least 1, e.g. 1_000_000"
        )
    return int(max_slices)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
