"""What all estimators of this room share: one Engine, which learns the rows of X in their order.

Rows are events. Without `slices` they are all of one slice, whose key in the engine is STREAM.
"""

from abc import ABC, abstractmethod
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from onlineguard.engine.engine import Engine
from onlineguard.engine.verdicts import Verdicts
from onlineguard.errors import InvalidArgument

STREAM = "all"  # the key of the only slice, where the caller names none
NOTE = "onlineguard.sklearn"  # the note in a saved engine that holds the estimator around it


class Streamed(BaseEstimator, ABC):
    """An Engine behind scikit-learn's methods. A subclass says how its engine is made.

    A value that is NaN or infinite is missing, as it is for the Engine.
    """

    engine_: Engine
    n_features_in_: int
    feature_names_in_: np.ndarray  # only of frames
    _sliced: bool

    @abstractmethod
    def _made(self, n_features: int, features: list[str] | None) -> Engine:
        """A new engine, of the parameters that the operator chose."""

    def _follow(self) -> None:
        """Have the engine follow parameters that were set after it was made."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write the estimator to one file: safetensors with a JSON header, no pickle. Raises CheckpointError."""
        check_is_fitted(self)
        self.engine_.notes[NOTE] = {"kind": type(self).__name__, "sliced": self._sliced, **self._kept()}
        self.engine_.save(path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """The estimator that was saved; it goes on as if it had never stopped.

        Raises CheckpointError for a file that cannot be read, and InvalidArgument for one of another estimator. An
        `estimator` that was named comes back as the model that the engine made of it.
        """
        engine = Engine.load(path)
        kept = engine.notes.get(NOTE, {})
        if kept.get("kind") != cls.__name__:
            holds = f"a {kept['kind']}" if "kind" in kept else "a plain Engine: use Engine.load"
            raise InvalidArgument("path", f"is {str(path)!r}, which holds {holds}, not a {cls.__name__}")
        loaded = cls()
        loaded.engine_, loaded._sliced, loaded.n_features_in_ = engine, kept["sliced"], engine.n_features
        if engine.features is not None:
            loaded.feature_names_in_ = np.array(engine.features, object)
        loaded._restore(kept)
        return loaded

    def _kept(self) -> dict[str, Any]:
        """What `save` keeps beside the engine, as values that JSON can hold."""
        params = self.get_params(deep=False)
        params.pop("estimator", None)
        return {"params": {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}}

    def _restore(self, kept: dict[str, Any]) -> None:
        self.set_params(**kept["params"])

    def _learn(self, X: Any, y: Any, slices: Any, afresh: bool) -> Verdicts:
        """Learn checked rows, and targets if there are any, after those before, or afresh."""
        if afresh:
            names = getattr(self, "feature_names_in_", None)
            self.engine_ = self._made(X.shape[1], None if names is None else names.tolist())
            self._sliced = slices is not None
        else:
            self._follow()
        return self.engine_.update(self._keys(slices), X, y)

    def _is_new(self) -> bool:
        return not hasattr(self, "engine_")

    def _rows(self, X: Any, afresh: bool = False) -> np.ndarray:
        """X as an array (n, d), checked as scikit-learn checks it."""
        if not afresh:
            check_is_fitted(self)
        kind = None if getattr(self, "categories", ()) else "numeric"
        try:
            rows: Any = validate_data(self, X, reset=afresh, dtype=kind, ensure_all_finite=False)
        except ValueError as error:
            if "could not convert string" not in str(error):
                raise
            way = "name their columns in `categories`" if hasattr(self, "categories") else "encode them as numbers"
            raise InvalidArgument("X", f"holds texts: {error}; {way}, or leave them out") from error
        return rows

    def _keys(self, slices: Any) -> Any:
        if (slices is not None) != self._sliced:
            told = "were given to fit, so they must be given here too" if self._sliced else "were not given to fit"
            raise InvalidArgument("slices", f"{told}; give one key for each row to all methods, or to none of them")
        return STREAM if slices is None else slices

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
