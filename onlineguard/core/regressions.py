"""The regressions that need no tuning: at every rate at once, with steps that do not overshoot.

    Engine(n_features=4, estimator=linear_regression(4))        predicts a number in every slice
    Engine(n_features=4, estimator=logistic_regression(4))      and a probability

Six copies with memories of 1 to 1,024 events are trusted by how well they do (`Experts`). Each starts as a running mean
would, so that the slow ones are where they should be after a few events. Features are standardised and clipped
(`Standardised`), which bounds every gradient; the clip of the gradients then bounds what targets can do.

`benchmarks/bench_regression.py` compares them with river's: clean, with a tenth of the targets false, and with absurd
features.
"""

from typing import Any

from onlineguard.core.clips import Adaptive
from onlineguard.core.estimands import LinearRegression, LogisticRegression
from onlineguard.core.experts import Experts
from onlineguard.core.protocols import Clip
from onlineguard.core.standardised import Standardised

RATES = tuple(4.0**-k for k in range(6))  # a rate beyond either end gains nothing; twice as many gain .001
# Early rates a / (n + b). The first step of a linear regression goes most of the way to the first target; that of a
# logistic one, whose targets are noisier, half as far, which is worth .005 of accuracy on short streams.
EARLY_LINEAR, EARLY_LOGISTIC = (4.0, 1), (4.0, 4)
# Share of the gradients used whole. A target that is wrong by far has the longest gradients: the limit is safe while
# fewer than 25 % are wrong. A median would shorten half of them all, and is slow on short streams.
WHOLE = 0.75
RARE = 0.99  # of a logistic regression's, whose longest are those of a rare class; .95 costs .01 AUC


def linear_regression(features: int, l2: float = 0.0) -> Standardised:
    """Least squares of standardised features, for a model of a slice."""
    return Standardised(regression(LinearRegression(features, l2, implicit=True)), features)


def logistic_regression(features: int, l2: float = 0.0) -> Standardised:
    """The probability that y is 1, of standardised features, for a model of a slice."""
    return Standardised(regression(LogisticRegression(features, l2, implicit=True)), features)


def regression(estimand: Any, clip: Clip | None = None) -> Experts:
    """An implicit regression of features of size 1, at every rate at once."""
    logistic = isinstance(estimand, LogisticRegression)
    limit = Adaptive(RARE if logistic else WHOLE) if clip is None else clip
    return Experts(estimand, RATES, limit, early=EARLY_LOGISTIC if logistic else EARLY_LINEAR)
