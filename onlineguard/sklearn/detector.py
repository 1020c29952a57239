"""The Engine as a scikit-learn outlier detector."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import OutlierMixin

from onlineguard.engine.engine import Engine
from onlineguard.engine.verdicts import Verdicts
from onlineguard.models.absence import Absence
from onlineguard.models.base import SliceModel
from onlineguard.models.categories import Categories
from onlineguard.sklearn.streamed import Streamed


class Judging(Streamed):
    """What detectors share, whichever way round their scores are: parameters, learning, and how odd a row is."""

    target_rate: float
    patience: float
    estimator: Any

    def fit(self, X: Any, y: Any = None, slices: Any = None) -> Self:
        """Forget what was learned, then learn the rows of X in their order; y is ignored."""
        self._learn(self._rows(X, afresh=True), None, slices, afresh=True)
        return self

    def partial_fit(self, X: Any, y: Any = None, slices: Any = None) -> Self:
        """Learn the rows of X after those before. Pieces give the same state as the whole, to the last bit."""
        self.update(X, slices)
        return self

    def update(self, X: Any, slices: Any = None) -> Verdicts:
        """Judge each row by the rows before it, then learn it: `partial_fit` with verdicts, see `Engine.update`."""
        new = self._is_new()
        return self._learn(self._rows(X, afresh=new), None, slices, afresh=new)

    def judge(self, X: Any, slices: Any = None) -> Verdicts:
        """The verdict on each row as if it came next, see `Engine.score`; nothing is learned."""
        rows = self._rows(X)
        return self.engine_.score(self._keys(slices), rows)

    def _oddness(self, X: Any, slices: Any) -> np.ndarray:
        """Scores in units of the threshold of their slice, float64 (n,): above 1 an event is an anomaly.

        0 where nothing can be scored, and 1 at most while the slice is not ready.
        """
        verdicts = self.judge(X, slices)
        with np.errstate(divide="ignore", invalid="ignore"):
            odd = verdicts.score.astype(np.float64) / verdicts.threshold.astype(np.float64)
        odd = np.nan_to_num(odd, nan=0.0, posinf=np.finfo(float).max)
        return np.where(verdicts.ready, odd, np.minimum(odd, 1.0))

    def _follow(self) -> None:
        if not isinstance(self.estimator, SliceModel):  # which brings its own choices
            engine = self.engine_
            if engine.target_rate != self.target_rate:
                engine.target_rate = self.target_rate
            if engine.patience != self.patience:
                engine.patience = self.patience

    def _kept(self) -> dict[str, Any]:
        return super()._kept() | {"own_model": self.estimator is not None}

    def _restore(self, kept: dict[str, Any]) -> None:
        super()._restore(kept)
        if kept["own_model"]:
            self.estimator = _unwrapped(self.engine_.model)


class OutlierDetector(OutlierMixin, Judging):
    """Finds rows that are odd given the rows before them; `partial_fit` goes on while the data drifts.

    It follows scikit-learn's conventions: `predict` gives -1 for an outlier and 1 for any other row, and lower scores
    are odder. Rows are in the order of time. `judge` and `update` give the engine's own verdicts, with p-values.

    Parameters
    ----------
    target_rate
        Share of usual rows to be flagged, in (0, 0.2]. A change by `set_params` holds from the next `partial_fit` on.
    patience
        Rows that a new regime must last before it counts as usual. It may be changed in the same way.
    estimator
        The model of one slice, instead of the default `JointDetector`; see `Engine`. A `SliceModel` brings its own
        target_rate and patience.
    categories, only_high, only_low, weights, absence, max_slices
        As of the Engine. Features are named as columns of a frame, or counted from 0.

    Attributes
    ----------
    engine_
        The Engine, for `explain`, `reasons` and `feedback`. Without `slices` the key of the only slice is "all".
    offset_
        The score below which a row is an outlier: -1, since scores are in units of the threshold of their slice.

    Examples
    --------
    >>> import numpy as np
    >>> from onlineguard.sklearn import OutlierDetector
    >>> X = np.random.default_rng(0).normal(50.0, 3.0, (2_000, 2))
    >>> detector = OutlierDetector().fit(X[:1_000]).partial_fit(X[1_000:])
    >>> detector.predict([[51.0, 48.0], [51.0, 90.0]])
    array([ 1, -1])
    """

    offset_: float

    def __init__(
        self,
        target_rate: float = 0.01,
        *,
        patience: float = 5_000,
        estimator: Any = None,
        categories: Sequence[str | int] = (),
        only_high: Sequence[str | int] = (),
        only_low: Sequence[str | int] = (),
        weights: Mapping[str | int, float] | None = None,
        absence: bool = False,
        max_slices: int = 1_000_000,
    ):
        self.target_rate = target_rate
        self.patience = patience
        self.estimator = estimator
        self.categories = categories
        self.only_high = only_high
        self.only_low = only_low
        self.weights = weights
        self.absence = absence
        self.max_slices = max_slices

    def score_samples(self, X: Any, slices: Any = None) -> np.ndarray:
        """Minus the score of each row in units of its slice's threshold, (n,): lower is odder, and -1 the threshold.

        0 where nothing can be scored: no feature is there, or the slice is unknown.
        """
        return -self._oddness(X, slices)

    def decision_function(self, X: Any, slices: Any = None) -> np.ndarray:
        """`score_samples` counted from the threshold, (n,): below 0 a row is an outlier."""
        return self.score_samples(X, slices) - self.offset_

    def predict(self, X: Any, slices: Any = None) -> np.ndarray:
        """-1 for each row that is an outlier under what was learned, and 1 for any other, (n,)."""
        return np.where(self.decision_function(X, slices) < 0.0, -1, 1)

    def fit_predict(self, X: Any, y: Any = None, slices: Any = None, **kwargs: Any) -> np.ndarray:
        """`fit`, then `predict` of the same rows: each is judged by all of them. See `update` for those before it."""
        return self.fit(X, y, slices, **kwargs).predict(X, slices)

    def predict_proba(self, X: Any, slices: Any = None) -> np.ndarray:
        """A number from 0 to 1 that a row is usual, and that it is an outlier, (n, 2); 0.5 at the threshold.

        It is s / (1 + s) for a score of s thresholds, which ranks rows and is no frequency. `judge(X).p_value` is one:
        the share of usual rows that are at least as odd.
        """
        return as_probabilities(self._oddness(X, slices))

    def _made(self, n_features: int, features: list[str] | None) -> Engine:
        return Engine(
            n_features,
            self.target_rate,
            patience=self.patience,
            features=features,
            max_slices=self.max_slices,
            estimator=self.estimator,
            categories=self.categories,
            only_high=self.only_high,
            only_low=self.only_low,
            weights=self.weights,
            absence=self.absence,
        )

    def _learn(self, X: Any, y: Any, slices: Any, afresh: bool) -> Verdicts:
        self.offset_ = -1.0
        return super()._learn(X, y, slices, afresh)

    def _kept(self) -> dict[str, Any]:
        kept = super()._kept()
        if self.weights is not None:
            kept["params"]["weights"] = [[*item] for item in self.weights.items()]  # JSON has no numbers as keys
        return kept

    def _restore(self, kept: dict[str, Any]) -> None:
        super()._restore(kept)
        self.offset_ = -1.0
        self.weights = None if self.weights is None else dict(self.weights)
        self.categories, self.only_high, self.only_low = map(tuple, (self.categories, self.only_high, self.only_low))


def _unwrapped(model: Any) -> Any:
    """The model inside the wrappers that an Engine put around it for categories and absence."""
    while isinstance(model, (Absence, Categories)):
        model = model.model
    return model


def as_probabilities(odd: np.ndarray) -> np.ndarray:
    """s / (1 + s) of scores s (n,), behind its complement: (n, 2)."""
    outlier = 1.0 - 1.0 / (1.0 + odd)
    return np.column_stack([1.0 - outlier, outlier])
