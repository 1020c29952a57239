"""The Engine as a detector with PyOD's conventions; PyOD itself is not needed."""

from numbers import Real
from typing import Any, Literal, Self, overload

import numpy as np
from scipy.stats import binom

from onlineguard.engine.engine import Engine
from onlineguard.errors import InvalidArgument
from onlineguard.sklearn.detector import Judging, as_probabilities

MOST = 0.2  # the highest target rate of an engine; a higher contamination moves `threshold_` alone


class PyODDetector(Judging):
    """Finds outliers as PyOD's detectors do: 1 is an outlier, 0 any other row, and higher scores are odder.

    A share `contamination` of the rows given to `fit` are outliers, whatever they are like. Rows are in the order of
    time. `OutlierDetector` needs no share of outliers, and has scikit-learn's signs.

    Parameters
    ----------
    contamination
        Share of outliers among the rows of `fit`, in (0, 0.5].
    patience
        Rows that a new regime must last before it counts as usual.
    estimator
        The model of one slice, instead of the default `JointDetector`; see `Engine`.

    Attributes
    ----------
    decision_scores_, labels_
        The score of each row that was given last to `fit` or `partial_fit`, and whether it is an outlier (1 or 0).
    threshold_
        The score above which a row is an outlier, found by `fit`.
    engine_
        The Engine. Scores are in units of its threshold for the slice, so `threshold_` stays right under drift.

    Examples
    --------
    >>> import numpy as np
    >>> from onlineguard.sklearn import PyODDetector
    >>> X = np.random.default_rng(0).normal(50.0, 3.0, (1_000, 2))
    >>> X[::50] += 40.0
    >>> detector = PyODDetector(contamination=0.02).fit(X)
    >>> int(detector.labels_.sum()), detector.predict([[51.0, 48.0], [95.0, 88.0]])
    (20, array([0, 1]))
    """

    decision_scores_: np.ndarray
    labels_: np.ndarray
    threshold_: float

    def __init__(self, contamination: float = 0.1, *, patience: float = 5_000, estimator: Any = None):
        self.contamination = contamination
        self.patience = patience
        self.estimator = estimator

    @property
    def target_rate(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The engine's share of usual rows to be flagged."""
        return min(self.contamination, MOST)

    def fit(self, X: Any, y: Any = None, slices: Any = None) -> Self:
        """Forget what was learned, learn the rows of X in their order, and find `threshold_`; y is ignored."""
        if not (isinstance(self.contamination, Real) and 0.0 < self.contamination <= 0.5):
            raise InvalidArgument(
                "contamination", f"is {self.contamination!r}; it must lie in (0, 0.5], e.g. 0.1 for a tenth of the rows"
            )
        super().fit(X, y, slices)
        self.threshold_ = float(np.percentile(self.decision_function(X, slices), 100.0 * (1.0 - self.contamination)))
        return self._labelled(X, slices)

    def partial_fit(self, X: Any, y: Any = None, slices: Any = None) -> Self:
        """Learn the rows of X after those before; `threshold_` stays. The first call is `fit`."""
        if self._is_new():
            return self.fit(X, y, slices)
        super().partial_fit(X, y, slices)
        return self._labelled(X, slices)

    def decision_function(self, X: Any, slices: Any = None) -> np.ndarray:
        """How odd each row is, (n,): higher is odder. 0 where nothing can be scored."""
        return self._oddness(X, slices)

    @overload
    def predict(self, X: Any, slices: Any = None, *, return_confidence: Literal[False] = False) -> np.ndarray: ...
    @overload
    def predict(
        self, X: Any, slices: Any = None, *, return_confidence: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...
    def predict(self, X: Any, slices: Any = None, *, return_confidence: bool = False) -> Any:
        """1 for each row that is an outlier, and 0 for any other, (n,); on request with `predict_confidence`."""
        scores = self.decision_function(X, slices)
        labels = (scores > self.threshold_).astype(int)
        return (labels, self._confidence(scores)) if return_confidence else labels

    def predict_confidence(self, X: Any, slices: Any = None) -> np.ndarray:
        """How likely each row would keep its label if the scores had been drawn again, from 0 to 1, (n,).

        It compares with `decision_scores_`, and so with the rows that were given last.

        Source: L. Perini, V. Vercruyssen, J. Davis, Quantifying the confidence of anomaly detectors in their
        example-wise predictions, ECML PKDD 2020.
        """
        return self._confidence(self.decision_function(X, slices))

    def fit_predict(self, X: Any, y: Any = None, slices: Any = None) -> np.ndarray:
        """`fit`, then `labels_`."""
        return self.fit(X, y, slices).labels_

    def predict_proba(self, X: Any, slices: Any = None) -> np.ndarray:
        """A number from 0 to 1 that a row is usual, and that it is an outlier, (n, 2); 0.5 at `threshold_`."""
        return as_probabilities(self.decision_function(X, slices) / max(self.threshold_, np.finfo(np.float32).tiny))

    def _confidence(self, scores: np.ndarray) -> np.ndarray:
        """`predict_confidence` of rows with these scores."""
        n = len(self.decision_scores_)
        below = np.searchsorted(np.sort(self.decision_scores_), scores, side="right")
        outlier = 1.0 - binom.cdf(n - int(n * self.contamination), n, (1 + below) / (2 + n))
        return np.where(scores > self.threshold_, outlier, 1.0 - outlier)

    def _made(self, n_features: int, features: list[str] | None) -> Engine:
        return Engine(n_features, self.target_rate, patience=self.patience, features=features, estimator=self.estimator)

    def _labelled(self, X: Any, slices: Any) -> Self:
        self.decision_scores_ = self.decision_function(X, slices)
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        return self

    def _kept(self) -> dict[str, Any]:
        found = {"threshold": self.threshold_, "scores": self.decision_scores_.tolist()}
        return super()._kept() | found

    def _restore(self, kept: dict[str, Any]) -> None:
        super()._restore(kept)
        self.threshold_, self.decision_scores_ = kept["threshold"], np.array(kept["scores"], np.float64)
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
