"""Linear and logistic regression by clipped SGD, on features standardised and clipped as the stream goes.

By default they run at every rate at once; see `onlineguard.core.regressions`, whose models an Engine runs in every
slice. Here features may come and go.
"""

import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from river import base
from river.utils import dataframe

from onlineguard.core.clipped_sgd import ClippedSGD
from onlineguard.core.estimands import LinearRegression, LogisticRegression
from onlineguard.core.protocols import Clip, Rate
from onlineguard.core.regressions import RARE, WHOLE, regression
from onlineguard.core.standardised import Standardised
from onlineguard.errors import InvalidArgument
from onlineguard.estimators.packed_regression import PackedRegression
from onlineguard.estimators.shell import Features, checked_clip, checked_rate, read_frame


class _Regression:
    """The common part of both regressions: features by name, and the model that they are given to."""

    def __init__(
        self,
        estimand: type[LinearRegression] | type[LogisticRegression],
        rate: Rate | None,
        clip: Clip | None,
        l2: float,
        clip_quantile: float,  # of the adaptive clip, which is used if `clip` is None
    ):
        if not 0.0 <= l2 < math.inf:
            raise InvalidArgument(f"l2 is {l2}; it must be zero or more, e.g. 0.001")
        self.rate, self.clip, self.l2 = rate, clip, l2
        self._features = Features()
        chosen = None if rate is None else checked_rate(rate)
        made = functools.partial(_standardised, estimand, chosen, checked_clip(clip, clip_quantile), float(l2))
        self._model = PackedRegression(made, centred=estimand is LinearRegression)

    @property
    def weights(self) -> dict[Any, float]:
        """The weight of every feature, per standard deviation of it."""
        return dict(zip(self._features.names, self._model.weights.tolist(), strict=True))

    @property
    def intercept(self) -> float:
        """The prediction where every feature lies at its location."""
        return self._model.intercept

    def _learn_dict(self, x: Mapping[Any, Any], y: float) -> None:
        values = self._features.all_of(x)
        if values is None:
            self._admit(self._features.new_in(x))
            values = self._features.known_of(x)
        if len(values) and math.isfinite(y):
            self._model.learn(values, y)

    def _learn_frame(self, X: Any, targets: Sequence[float]) -> None:
        _, names, matrix = read_frame(X)
        if len(targets) != len(matrix):
            raise InvalidArgument(f"y has {len(targets)} targets for {len(matrix)} rows of X; it must hold one a row")
        y = np.array(targets, np.float64)
        start = 0
        for new, rows in self._features.stretches(names, matrix):
            self._admit(new)
            told = y[start : start + len(rows)]
            start += len(rows)
            if self._features.names:
                known = np.isfinite(told)
                self._model.learn_many(self._features.values_in(names, rows)[known], told[known])

    def _admit(self, new: Mapping[Hashable, float]) -> None:
        if new:
            self._features.add(new)
            self._model.grow(np.array(list(new.values())))

    def _predicted(self, x: Mapping[Any, Any]) -> float:
        values = self._features.all_of(x) if self._features.names else None
        return self._model.predict(self._features.known_of(x) if values is None else values)

    def _predicted_frame(self, X: Any) -> tuple[Any, np.ndarray]:
        frame, names, matrix = read_frame(X)
        predictions = [self._model.predict(values) for values in self._features.values_in(names, matrix)]
        return frame, np.array(predictions, np.float64)


def _standardised(
    estimand: type[LinearRegression] | type[LogisticRegression],
    rate: Rate | None,
    clip: Clip,
    l2: float,
    width: int,
) -> Standardised:
    """The model of so many features, at every rate where none is named."""
    implicit = estimand(width, l2, implicit=True)
    return Standardised(regression(implicit, clip) if rate is None else ClippedSGD(implicit, rate, clip), width)


class ClippedLinearRegression(_Regression, base.MiniBatchRegressor):
    """Linear regression that follows a drifting stream, and that no corrupted target or feature can move far.

    Features need no scaler. A missing feature counts as lying at its location; an event without a target or without any
    feature is not learned. The first prediction is 0.0.

    Parameters
    ----------
    rate
        How far one step goes. By default six rates at once, trusted by how well they do.
    clip
        How long a gradient may be. By default `Adaptive(0.75)`: the 25 % that are longest are shortened.
    l2
        Pull of the weights towards zero.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import ClippedLinearRegression
    >>> rng, model = random.Random(0), ClippedLinearRegression()
    >>> for i in range(2_000):
    ...     x = {"clicks": rng.uniform(0.0, 1e6)}
    ...     model.learn_one(x, 3.0 * x["clicks"] + 7.0 if i % 10 else 1e12)
    >>> 2.9e6 < model.predict_one({"clicks": 1e6}) < 3.1e6
    True
    """

    def __init__(self, rate: Rate | None = None, clip: Clip | None = None, l2: float = 0.0):
        super().__init__(LinearRegression, rate, clip, l2, clip_quantile=WHOLE)

    def predict_one(self, x: Mapping[Any, Any]) -> float:
        """The target expected with x."""
        return self._predicted(x)

    def learn_one(self, x: Mapping[Any, Any], y: float) -> None:
        """Learn that y came with x."""
        self._learn_dict(x, _target(y, "y"))

    def predict_many(self, X: Any) -> Any:
        """`predict_one` of every row of a frame, as a series of the same kind."""
        frame, predictions = self._predicted_frame(X)
        return dataframe.to_native_series(predictions, name="prediction", like=frame)

    def learn_many(self, X: Any, y: Any) -> None:
        """`learn_one` for every row of a frame, in order; equal to the last bit."""
        self._learn_frame(X, [_target(value, f"y[{i}]") for i, value in enumerate(y)])


class ClippedLogisticRegression(_Regression, base.MiniBatchClassifier):
    """Logistic regression that follows a drifting stream, and that no single event can move far.

    Features need no scaler. A missing feature counts as lying at its location; an event without any feature is not
    learned. The first probability is 0.5.

    Parameters
    ----------
    rate
        How far one step goes. By default six rates at once, trusted by how well they do.
    clip
        How long a gradient may be. By default `Adaptive(0.99)`: a lower quantile would shorten just the gradients of a
        rare class.
    l2
        Pull of the weights towards zero.

    Examples
    --------
    >>> import random
    >>> from onlineguard.estimators import ClippedLogisticRegression
    >>> rng, model = random.Random(0), ClippedLogisticRegression()
    >>> for _ in range(2_000):
    ...     x = {"clicks": rng.uniform(0.0, 1e6)}
    ...     model.learn_one(x, x["clicks"] > 7e5)
    >>> model.predict_one({"clicks": 9e5}), model.predict_one({"clicks": 5e5})
    (True, False)
    """

    def __init__(self, rate: Rate | None = None, clip: Clip | None = None, l2: float = 0.0):
        super().__init__(LogisticRegression, rate, clip, l2, clip_quantile=RARE)

    def predict_proba_one(self, x: Mapping[Any, Any], **kwargs: Any) -> dict[base.typing.ClfTarget, float]:
        """The probabilities of False and True."""
        p = _sigmoid(self._predicted(x))
        return {False: 1.0 - p, True: p}

    def predict_one(self, x: Mapping[Any, Any], **kwargs: Any) -> bool:
        """The likelier label; False at a tie."""
        return self.predict_proba_one(x)[True] > 0.5

    def learn_one(self, x: Mapping[Any, Any], y: base.typing.ClfTarget) -> None:
        """Learn that y, True or False (or 1 or 0), came with x."""
        self._learn_dict(x, _label(y, "y"))

    def predict_proba_many(self, X: Any) -> Any:
        """`predict_proba_one` of every row, as a frame of the same kind; columns are strings if the frame needs it."""
        frame, logits = self._predicted_frame(X)
        p = np.array([_sigmoid(logit) for logit in logits.tolist()], np.float64)
        return dataframe.to_native_frame({False: 1.0 - p, True: p}, like=frame)

    def predict_many(self, X: Any) -> Any:
        """`predict_one` of every row of a frame, as a series of the same kind."""
        frame, logits = self._predicted_frame(X)
        likely = np.array([_sigmoid(logit) > 0.5 for logit in logits.tolist()], np.bool_)
        return dataframe.to_native_series(likely, name="prediction", like=frame)

    def learn_many(self, X: Any, y: Any) -> None:
        """`learn_one` for every row of a frame, in order; equal to the last bit."""
        self._learn_frame(X, [_label(value, f"y[{i}]") for i, value in enumerate(y)])


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit)) if logit > 0.0 else 1.0 - 1.0 / (1.0 + math.exp(logit))


def _target(y: Any, name: str) -> float:
    try:
        return math.nan if y is None else float(y)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{name} is {y!r}; a target must be a number, or None where it is missing") from error


def _label(y: Any, name: str) -> float:
    if isinstance(y, (bool, np.bool_, int, float, np.number)) and y in (0, 1):
        return float(y)
    raise InvalidArgument(f"{name} is {y!r}; a label must be True or False (or 1 or 0)")
