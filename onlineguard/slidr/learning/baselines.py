"""The baselines that the network is compared with: logistic regression, the velocity rule, and gradient-boosted trees.

Each is a `Scorer`, so all are calibrated and measured by the same code. The authors of SLIDR name the first two as
their baselines without giving details. The details here are ours.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.learning import scorer
from onlineguard.slidr.learning.network import Layer, NetworkConfig, Params, standardise
from onlineguard.slidr.learning.train import Network, checked, moments

ENTITIES = ("user", "session", "ip", "prefix")
WINDOWS = ("1m", "5m")  # longer windows measure volume instead of velocity, and any large gateway has volume
RAREST = 1e-6  # the rarest share that the velocity rule tells apart
LEVELS = 1.0 - np.geomspace(1.0, RAREST, 512)  # evenly spaced in the log of the share above: fine in the upper tail

_ENTITY = f"({'|'.join(ENTITIES)})"
_COUNTER = re.compile(f"(clicks_{_ENTITY}|{_ENTITY}_clicks)_({'|'.join(WINDOWS)})")


class LogisticBaseline(Network):
    """Logistic regression on the standardised features: the network without hidden layers, fitted exactly."""

    @classmethod
    def train(cls, X: np.ndarray, human: np.ndarray, weights: np.ndarray | None = None) -> Self:
        """Arguments as for `train.train`. The optimum by L-BFGS, with a penalty of half the squared weights in all.

        The penalty is negligible beside the losses of thousands of clicks. It keeps weights finite where a plane
        separates the labels. `losses` is empty.
        """
        from sklearn.linear_model import LogisticRegression

        features, labels, loads = checked(X, human, weights)
        mean, scale = moments(features)
        model: Any = LogisticRegression(tol=1e-6, max_iter=1000)
        model.fit(standardise(features, mean, scale), labels, sample_weight=loads)
        head = Layer(model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32))
        return cls(NetworkConfig(hidden=()), Params((), (), None, head), mean, scale, np.empty(0, np.float32))


@dataclasses.dataclass(frozen=True, eq=False)
class VelocityRule:
    """A click is as suspect as its most unusual counter: p_robot = max over counters of the share of clicks below it.

    The counters are the clicks of user, session, ip and prefix in 1 and in 5 minutes. "Below" is measured among the
    training clicks, without their labels, and interpolated between 512 of their quantiles. A count below all of theirs
    scores 0, and one above all of theirs scores 1.
    """

    columns: np.ndarray  # (counters,) int64, their positions in X
    knots: np.ndarray  # (counters, 512) float32, quantiles of every counter
    shares: np.ndarray  # (counters, 512) float64, the share of training clicks below each
    width: int  # number of features

    @classmethod
    def train(cls, X: np.ndarray, names: Sequence[str]) -> Self:
        """Learn the quantiles of the features X (n, width) float32 that are named {entity}_clicks_{window}.

        The names clicks_{entity}_{window} are understood too.
        """
        features = scorer.matrix(X, len(names))
        columns = np.array([i for i, name in enumerate(names) if _COUNTER.fullmatch(name)], np.int64)
        if not len(columns):
            raise InvalidArgument(
                f"none of the {len(names)} names is a counter such as clicks_ip_1m; give features.NAMES"
            )
        if not len(features):
            raise InvalidArgument("X has no rows; the rule needs clicks to know what is usual")
        ordered = np.sort(features[:, columns].T, axis=1)
        _check_finite(ordered[:, -1])  # NaN and infinity are sorted last
        _check_finite(ordered[:, 0])
        knots = ordered[:, np.minimum((LEVELS * len(features)).astype(np.int64), len(features) - 1)]
        knots[:, -1] = ordered[:, -1]
        shares = np.stack([np.searchsorted(row, at) / len(features) for row, at in zip(ordered, knots, strict=True)])
        return cls(columns, knots, shares, len(names))

    def p_robot(self, X: np.ndarray, categories: np.ndarray | None = None) -> np.ndarray:
        """p_robot (n,) float32 of features X (n, width); categories are not used. A NaN counter makes it NaN."""
        features = scorer.matrix(X, self.width)
        out = np.zeros(len(features))
        for column, knots, shares in zip(self.columns, self.knots, self.shares, strict=True):
            np.maximum(out, np.interp(features[:, column], knots, shares, right=1.0), out=out)
        return out.astype(np.float32)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `scorer.safetensors` into the folder, and create the folder if it is missing."""
        tensors = {"columns": self.columns, "knots": self.knots, "shares": self.shares}
        scorer.write(folder, type(self).__name__, {"width": self.width}, tensors)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """The rule that `save` wrote. Raises CheckpointError for a file that is missing, foreign, damaged or newer."""
        config, tensors = scorer.read(folder, cls.__name__)
        try:
            rule = cls(tensors["columns"], tensors["knots"], tensors["shares"], int(config["width"]))
            shape = (len(rule.columns), len(LEVELS))
            if rule.knots.shape != shape or rule.shares.shape != shape or not (rule.columns < rule.width).all():
                raise ValueError(f"{len(rule.columns)} counters of {rule.width} features, but knots {rule.knots.shape}")
        except (ValueError, KeyError, TypeError) as error:
            raise scorer.damaged(folder, f"{type(error).__name__} {error}") from error
        return rule


@dataclasses.dataclass(frozen=True, eq=False)
class TreesBaseline:
    """Gradient-boosted trees, scikit-learn's histogram ones. For comparison only: they cannot be saved."""

    model: Any  # sklearn.ensemble.HistGradientBoostingClassifier, fitted
    width: int  # number of features

    @classmethod
    def train(cls, X: np.ndarray, human: np.ndarray, weights: np.ndarray | None = None, seed: int = 0) -> Self:
        """Arguments as for `train.train`. A hundred trees of 31 leaves at rate 0.1, which are scikit-learn's defaults.

        Training does not stop early, so every click is learned, and the result depends on the data alone.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        features, labels, loads = checked(X, human, weights)
        model: Any = HistGradientBoostingClassifier(random_state=seed)
        model.set_params(early_stopping=False)
        return cls(model.fit(features, labels, sample_weight=loads), features.shape[1])

    def p_robot(self, X: np.ndarray, categories: np.ndarray | None = None) -> np.ndarray:
        """p_robot (n,) float32 of features X (n, width); categories are not used. NaN takes the larger branch."""
        features = scorer.matrix(X, self.width)
        if not len(features):
            return np.empty(0, np.float32)
        return (1.0 - self.model.predict_proba(features)[:, 1]).astype(np.float32)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Raises InvalidArgument: scikit-learn can only pickle such trees, and this library never writes a pickle."""
        raise InvalidArgument(_TREES)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Raises InvalidArgument, since `save` cannot have written any."""
        raise InvalidArgument(_TREES)


_TREES = (
    "TreesBaseline is for comparison only and cannot be saved or loaded: scikit-learn has no format for it but pickle, "
    "which can run code; train it where it is compared, or save a Network, a LogisticBaseline or a VelocityRule"
)


def _check_finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise InvalidArgument(f"X holds {values[~np.isfinite(values)][0]} in a counter; every counter must be finite")
