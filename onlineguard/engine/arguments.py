"""The arguments of an Engine, checked once. Every error names the argument, its value, the rule and the way out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from onlineguard.core.emphasis import Sides, Weights
from onlineguard.engine.table import Layout
from onlineguard.errors import InvalidArgument
from onlineguard.models.absence import Absence
from onlineguard.models.base import SliceModel
from onlineguard.models.categories import Categories
from onlineguard.models.detector import Detector
from onlineguard.models.joint.detector import JointDetector
from onlineguard.models.judged import Judged
from onlineguard.models.lagged import Lagged
from onlineguard.models.series import Series

DETECTORS: dict[str, Any] = {"point": JointDetector, "marginal": Detector, "series": Series}  # as operators name them
HEAVIEST = 1e6  # a larger weight would be the only one that counts


def checked_model(
    estimator: Any, target_rate: float, patience: float, sides: Sides = (), weights: Weights = ()
) -> SliceModel:
    """The model of one slice: the default JointDetector, a SliceModel as it is, or a `Judged` core estimator."""
    rate, patience = checked_rate(target_rate), checked_patience(patience)
    if estimator is None:
        return JointDetector(rate, patience, sides, weights)
    if sides or weights:
        raise InvalidArgument(
            "estimator", f"is {estimator!r}, but only_high, only_low and weights are for the default; leave one out"
        )
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


def fitting_model(
    n_features: int,
    bytes_per_slice: Any,
    target_rate: float,
    patience: float,
    sides: Sides = (),
    weights: Weights = (),
) -> SliceModel:
    """The best model whose row takes at most so many bytes: the JointDetector, or else the marginal Detector."""
    rate, patience = checked_rate(target_rate), checked_patience(patience)
    models = (JointDetector(rate, patience, sides, weights), Detector(rate, patience, sides, weights))
    sizes = [row_bytes(model, n_features) for model in models]
    if not _is_number(bytes_per_slice) or bytes_per_slice < sizes[-1]:
        raise InvalidArgument(
            "bytes_per_slice",
            f"is {bytes_per_slice!r}; with {n_features} feature(s) it must be at least {sizes[-1]}, what the marginal "
            f"Detector takes; the JointDetector takes {sizes[0]}",
        )
    return next(model for model, size in zip(models, sizes, strict=True) if size <= bytes_per_slice)


def named_model(
    detector: str,
    target_rate: float | None = None,
    patience: float | None = None,
    pause: float | None = None,
    lags: int | None = None,
) -> SliceModel:
    """The model of one slice for a name of DETECTORS; None is the model's own default.

    A series has neither patience nor lags, since it looks at its past anyhow, and only a series has a pause.
    """
    chosen: dict[str, Any] = {} if target_rate is None else {"target_rate": checked_rate(target_rate)}
    if detector == "series" and patience is not None:
        raise InvalidArgument("patience", f"is {patience:g}, but the detector is series, which has none; leave it out")
    if patience is not None:
        chosen["patience"] = checked_patience(patience)
    if pause is not None:
        if detector != "series":
            raise InvalidArgument(
                "pause", f"is {pause:g}, but the detector is {detector}, which has none; leave it out"
            )
        if not _is_number(pause) or not pause >= 0:
            raise InvalidArgument("pause", f"is {pause!r}; it must be at least 0 events, e.g. 60")
        chosen["pause"] = float(pause)
    if not lags:
        return DETECTORS[detector](**chosen)
    if detector == "series":
        raise InvalidArgument("lags", f"is {lags}, but the detector is series, which has a past anyhow; leave it out")
    return Lagged(DETECTORS[detector](**chosen), lags)


def detector_of(model: SliceModel) -> str:
    """The name of DETECTORS for a model, or for the one that is given lags; its class's name where it has none."""
    model = model.model if isinstance(model, Lagged) else model
    return next((name for name, kind in DETECTORS.items() if type(model) is kind), type(model).__name__)


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


def checked_width(n_features: Any, features: list[str] | None) -> int:
    """The number of features of an event."""
    if features is not None:
        if n_features not in (None, len(features)):
            raise InvalidArgument(
                "n_features", f"is {n_features}, but {len(features)} features are named; leave it out"
            )
        return len(features)
    if n_features is None:
        raise InvalidArgument(
            "features", "are not named; name them, e.g. Engine(features=['load', 'bytes']), or say how many: Engine(2)"
        )
    if hasattr(n_features, "__len__"):
        kind = type(n_features).__name__
        raise InvalidArgument(
            "n_features",
            f"is a {kind}; it is the number of features. Name them with features=[...], and give events to `update`",
        )
    if isinstance(n_features, bool) or not isinstance(n_features, (int, np.integer)) or n_features < 1:
        raise InvalidArgument("n_features", f"is {n_features!r}; it must be a whole number of at least 1, e.g. 20")
    return int(n_features)


def checked_categories(categories: Sequence[str | int], n_features: int, features: list[str] | None) -> tuple[int, ...]:
    """The numbers of the features that are categories, counted from 0, in their order."""
    return tuple(sorted(columns_named("categories", categories, n_features, features)))


def checked_sides(
    only_high: Sequence[str | int], only_low: Sequence[str | int], n_features: int, features: list[str] | None
) -> Sides:
    """1 for each feature of which only high values are odd, -1 for only low ones, 0 for both; () if all are 0."""
    high = columns_named("only_high", only_high, n_features, features)
    low = columns_named("only_low", only_low, n_features, features)
    if high & low:
        name = min(high & low) if features is None else features[min(high & low)]
        raise InvalidArgument("only_low", f"names {name!r}, which only_high names too; leave it out of both")
    return tuple((j in high) - (j in low) for j in range(n_features)) if high | low else ()


def checked_weights(weights: Mapping[str | int, float] | None, n_features: int, features: list[str] | None) -> Weights:
    """The weight of each feature, 1 where none is given; () if there are none."""
    if not weights:
        return ()
    found = [1.0] * n_features
    for feature, weight in weights.items():
        if not _is_number(weight) or not 0.0 <= weight <= HEAVIEST:
            raise InvalidArgument(
                "weights", f"gives {feature!r} {weight!r}; it must lie from 0 to {HEAVIEST:g}, e.g. 2"
            )
        (column,) = columns_named("weights", [feature], n_features, features)
        found[column] = float(weight)
    return tuple(found)


def columns_named(argument: str, named: Sequence[str | int], n_features: int, features: list[str] | None) -> set[int]:
    """The numbers of the features that an argument names, counted from 0."""
    known: list[Any] = list(range(n_features)) if features is None else list(features)
    found: set[int] = set()
    for feature in [named] if isinstance(named, str) else list(named):
        if feature not in known and feature not in range(n_features):
            raise InvalidArgument(
                argument, f"names {feature!r}, which is no feature; they are {', '.join(map(repr, known))}"
            )
        found.add(known.index(feature) if feature in known else int(feature))
    return found


def with_categories(model: SliceModel, columns: tuple[int, ...]) -> SliceModel:
    """The model, given rarities in place of the categories in these columns, if there are any."""
    if not columns:
        return model
    if isinstance(model, Absence):
        return dataclasses.replace(model, model=with_categories(model.model, columns))
    of_numbers = model.model if isinstance(model, Categories) else model
    return Categories(of_numbers, columns, getattr(model, "patience", Categories.patience))


def with_absence(model: SliceModel) -> SliceModel:
    """The model, given the rarity of what is absent as one more number."""
    return Absence(model, getattr(model, "patience", Absence.patience))


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


def checked_cores(cores: Any) -> int | None:
    """The most cores of a call, None for all; raises InvalidArgument unless it is a whole number of at least 1."""
    if cores is not None and (not _is_number(cores) or cores < 1 or cores != int(cores)):
        raise InvalidArgument("cores", f"is {cores!r}; it must be a whole number of at least 1, or None for all")
    return None if cores is None else int(cores)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
