"""The regressions that need no tuning as a scikit-learn regressor and classifier."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from onlineguard.core.regressions import linear_regression, logistic_regression
from onlineguard.engine.engine import Engine
from onlineguard.errors import InvalidArgument
from onlineguard.sklearn.streamed import Streamed


class _Regression(Streamed):
    """What both share: their parameters, and how an engine is made of them."""

    def __init__(self, l2: float = 0.0, *, max_slices: int = 1_000_000):
        self.l2 = l2
        self.max_slices = max_slices

    @abstractmethod
    def _model(self, n_features: int) -> Any:
        """The estimator of the core."""

    def _made(self, n_features: int, features: list[str] | None) -> Engine:
        return Engine(n_features, features=features, max_slices=self.max_slices, estimator=self._model(n_features))


class LinearRegressor(RegressorMixin, _Regression):
    """Linear regression that follows a drifting stream, and that no corrupted target or feature can move far
    once a few were learned.

    It takes the rows of X once, in their order, and needs no scaler. Missing features count as lying at their
    location. See `onlineguard.linear_regression`.

    Parameters
    ----------
    l2
        Pull of the weights towards zero.
    max_slices
        The most slices kept; the least recently used are evicted first.

    Examples
    --------
    >>> import numpy as np
    >>> from onlineguard.sklearn import LinearRegressor
    >>> X = np.random.default_rng(0).uniform(0.0, 1e6, (2_000, 1))
    >>> y = 3.0 * X[:, 0] + 7.0
    >>> y[9::10] = 1e12  # a tenth of the targets are false
    >>> bool(2.9e6 < LinearRegressor().fit(X, y).predict([[1e6]])[0] < 3.1e6)
    True
    """

    def fit(self, X: Any, y: Any, slices: Any = None) -> Self:
        """Forget what was learned, then learn that each y came with its row of X, in their order."""
        return self._taught(X, y, slices, afresh=True)

    def partial_fit(self, X: Any, y: Any, slices: Any = None) -> Self:
        """`fit` after the rows before. Pieces give the same state as the whole, to the last bit."""
        return self._taught(X, y, slices, afresh=self._is_new())

    def predict(self, X: Any, slices: Any = None) -> np.ndarray:
        """The target expected with each row, float32 (n,); 0 in a slice that is unknown."""
        rows = self._rows(X)
        return self.engine_.predict(self._keys(slices), rows)

    def _taught(self, X: Any, y: Any, slices: Any, afresh: bool) -> Self:
        rows, targets = validate_data(self, X, y, reset=afresh, y_numeric=True, ensure_all_finite=False)
        self._learn(rows, targets, slices, afresh)
        return self

    def _model(self, n_features: int) -> Any:
        return linear_regression(n_features, self.l2)


class LogisticClassifier(ClassifierMixin, _Regression):
    """Logistic regression of two classes that follows a drifting stream, and that no single row can move far.

    It takes the rows of X once, in their order, and needs no scaler. See `onlineguard.logistic_regression`.

    Parameters
    ----------
    l2
        Pull of the weights towards zero.
    max_slices
        The most slices kept; the least recently used are evicted first.

    Examples
    --------
    >>> import numpy as np
    >>> from onlineguard.sklearn import LogisticClassifier
    >>> X = np.random.default_rng(0).uniform(0.0, 1e6, (2_000, 1))
    >>> labels = np.where(X[:, 0] > 7e5, "robot", "human")
    >>> LogisticClassifier().fit(X, labels).predict([[9e5], [5e5]]).tolist()
    ['robot', 'human']
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any, slices: Any = None) -> Self:
        """Forget what was learned, then learn that each label came with its row of X, in their order."""
        return self._taught(X, y, None, slices, afresh=True)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, slices: Any = None) -> Self:
        """`fit` after the rows before. The first call needs `classes`, both labels, if y has only one of them."""
        return self._taught(X, y, classes, slices, afresh=self._is_new())

    def predict_proba(self, X: Any, slices: Any = None) -> np.ndarray:
        """The probability of each class, in the order of `classes_`, (n, 2); a half in an unknown slice."""
        rows = self._rows(X)
        p = self.engine_.predict(self._keys(slices), rows).astype(np.float64)
        return np.column_stack([1.0 - p, p])

    def predict(self, X: Any, slices: Any = None) -> np.ndarray:
        """The likelier class of each row; the first at a tie, and in a slice that is unknown."""
        check_is_fitted(self)
        return self.classes_[(self.predict_proba(X, slices)[:, 1] > 0.5).astype(int)]

    def _taught(self, X: Any, y: Any, classes: Any, slices: Any, afresh: bool) -> Self:
        rows, labels = validate_data(self, X, y, reset=afresh, ensure_all_finite=False)
        check_classification_targets(labels)
        if afresh:
            self.classes_ = _two(np.unique(labels if classes is None else classes))
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise InvalidArgument(
                "y", f"holds {unknown.tolist()[0]!r}, which is none of the classes {self.classes_.tolist()}"
            )
        self._learn(rows, (labels == self.classes_[1]).astype(float), slices, afresh)
        return self

    def _model(self, n_features: int) -> Any:
        return logistic_regression(n_features, self.l2)

    def _kept(self) -> dict[str, Any]:
        return super()._kept() | {"classes": self.classes_.tolist()}

    def _restore(self, kept: dict[str, Any]) -> None:
        super()._restore(kept)
        self.classes_ = np.array(kept["classes"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _two(classes: np.ndarray) -> np.ndarray:
    if len(classes) != 2:
        only = "Only binary classification is supported. " if len(classes) > 2 else ""
        raise InvalidArgument(
            f"{only}y has {len(classes)} class(es); it must have two, or name both with `classes` in partial_fit"
        )
    return classes
