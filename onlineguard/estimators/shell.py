"""Shared by the river-style shells: dicts and frames to arrays, and estimators stepped event by event on NumPy.

The dispatch of a compiled call takes too long for one event, so most shells step the core directly on NumPy arrays. The
arrays are float64, which costs one event nothing, and keeps the digits of values far from zero.
"""

import math
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from river import base
from river.utils import dataframe

from onlineguard.core.clips import Adaptive
from onlineguard.core.protocols import Clip, Rate
from onlineguard.core.rates import Derived
from onlineguard.errors import InvalidArgument

TAME = 1e30  # events of a smaller squared length overflow nowhere, and need no np.errstate, which takes 1 us


class Features:
    """Which feature lies in which column. A feature gets its column with its first finite value.

    Features that are new in the same event get columns in the order of their names, not in that of the dict.
    """

    def __init__(self) -> None:
        self.names: list[Hashable] = []
        self._columns: dict[Hashable, int] = {}
        self._get: Any = None

    def all_of(self, x: Mapping[Any, Any]) -> np.ndarray | None:
        """Values (d,) of an event with just the known features, the usual case; None for any other."""
        if len(x) != len(self.names) or self._get is None:
            return None
        try:
            return np.array(self._get(x), np.float64)
        except (KeyError, TypeError, ValueError):
            return None

    def known_of(self, x: Mapping[Any, Any]) -> np.ndarray:
        """Values (d,) of the known features, NaN where one is missing. Raises InvalidArgument if one is no number."""
        return np.array([number(x, name) for name in self.names])

    def new_in(self, x: Mapping[Any, Any]) -> dict[Any, float]:
        """The finite values of features that have no column yet, in the order of their names."""
        values = {name: number(x, name) for name in x if name not in self._columns}
        return {name: values[name] for name in sorted(values, key=_order) if math.isfinite(values[name])}

    def add(self, names: Any) -> None:
        """Give columns to these features."""
        self.names.extend(names)
        self._columns = {name: column for column, name in enumerate(self.names)}
        self._get = itemgetter(*self.names) if len(self.names) > 1 else _Only(self.names[0])

    def values_in(self, names: list[Hashable], matrix: np.ndarray) -> np.ndarray:
        """Rows of known features (n, d) from rows whose columns have other names; NaN where one is missing."""
        rows = np.full((len(matrix), len(self.names)), np.nan)
        for source, name in enumerate(names):
            if name in self._columns:
                rows[:, self._columns[name]] = matrix[:, source]
        return rows

    def stretches(self, names: list[Hashable], matrix: np.ndarray) -> Iterator[tuple[dict[Any, float], np.ndarray]]:
        """Stretches of rows, cut where features are new: the new features with their first values, and the rows.

        The caller adds the new features before it takes the rows' values.
        """
        if not len(matrix):
            return
        finite = np.isfinite(matrix)
        first = np.where(finite.any(0), finite.argmax(0), len(matrix))
        births: dict[int, dict[Any, float]] = {0: {}}
        for column in sorted(range(len(names)), key=lambda i: _order(names[i])):
            row = int(first[column])
            if names[column] not in self._columns and row < len(matrix):
                births.setdefault(row, {})[names[column]] = float(matrix[row, column])
        starts = sorted(births)
        for start, end in zip(starts, [*starts[1:], len(matrix)], strict=True):
            yield births[start], matrix[start:end]


class _Only:
    """`itemgetter` of a single name, which would not give a tuple."""

    def __init__(self, name: Hashable):
        self.name = name

    def __call__(self, x: Mapping[Any, Any]) -> tuple[Any]:
        return (x[self.name],)


def number(x: Mapping[Any, Any], name: Hashable) -> float:
    """One feature of an event; NaN where it is absent or None. Raises InvalidArgument if it is no number."""
    value = x.get(name)
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"x[{name!r}] is {value!r}; a feature must be a number, or absent; "
            "onlineguard.Engine takes texts as categories"
        ) from error


def read_frame(X: Any) -> tuple[Any, list[Hashable], np.ndarray]:
    """A pandas, polars or Arrow frame as narwhals sees it, its column names and its values (n, columns) in float64."""
    try:
        frame = dataframe.into_frame(X)
        names: list[Hashable] = list(frame.columns)
        return frame, names, dataframe.to_numpy(frame).reshape(len(frame), len(names))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"X cannot be read; it must be a pandas or polars frame of numbers: {error}") from error


class EagerDetector(base.AnomalyDetector):
    """A river anomaly detector that steps its estimator on NumPy, one event at a time.

    A subclass says how its state grows and how it is stepped. Features may appear and vanish: a new one starts from its
    first value, a missing one (absent, None, NaN or infinite) is not scored and keeps its estimate.
    """

    def __init__(self) -> None:
        self._features = Features()

    @abstractmethod
    def _grow(self, first: np.ndarray) -> None:
        """Make room in the state for new features, given the first value of each."""

    @abstractmethod
    def _score(self, values: np.ndarray) -> float:
        """The score of an event (d,), NaN where something is missing; nothing is learned."""

    @abstractmethod
    def _step(self, values: np.ndarray) -> float:
        """Learn an event, and return its score by the state from before it."""

    def score_one(self, x: Mapping[Any, Any]) -> float:
        """How odd the event is under what was learned so far; 0.0 where nothing can be scored."""
        if not self._features.names:
            return 0.0
        values = self._features.all_of(x)
        if values is None:
            values = self._features.known_of(x)
        with np.errstate(all="ignore"):
            return self._score(values)

    def learn_one(self, x: Mapping[Any, Any]) -> None:
        """Learn from the event. One that holds no number changes nothing."""
        values = self._features.all_of(x)
        if values is None:
            self._admit(self._features.new_in(x))
            values = self._features.known_of(x)
        if len(values):
            with np.errstate(all="ignore"):
                self._step(values)

    def score_learn_one(self, x: Mapping[Any, Any]) -> float:
        """`score_one`, then `learn_one`, from one look at the event."""
        values = self._features.all_of(x)
        if values is None:
            score = self.score_one(x)
            self.learn_one(x)
            return score
        if values.dot(values) < TAME:
            return self._step(values)
        with np.errstate(all="ignore"):
            return self._step(values)

    def score_many(self, X: Any) -> Any:
        """`score_one` of every row of a frame, as a series of the same kind; nothing is learned."""
        frame, names, matrix = read_frame(X)
        known = bool(self._features.names)
        with np.errstate(all="ignore"):
            scores = [self._score(values) if known else 0.0 for values in self._features.values_in(names, matrix)]
        return dataframe.to_native_series(np.array(scores, np.float64), name="score", like=frame)

    def learn_many(self, X: Any) -> None:
        """`learn_one` for every row of a frame, in order; equal to the last bit."""
        self.score_learn_many(X)

    def score_learn_many(self, X: Any) -> Any:
        """`score_learn_one` for every row of a frame, in order; equal to the last bit."""
        frame, names, matrix = read_frame(X)
        scores: list[float] = []
        with np.errstate(all="ignore"):
            for new, rows in self._features.stretches(names, matrix):
                if new and self._features.names:
                    scores.append(self._score(self._features.values_in(names, rows[:1])[0]))
                elif new:
                    scores.append(0.0)
                self._admit(new)
                values = self._features.values_in(names, rows)
                later = [self._step(row) if self._features.names else 0.0 for row in values]
                scores += later[1:] if new else later
        return dataframe.to_native_series(np.array(scores, np.float64), name="score", like=frame)

    def _admit(self, new: Mapping[Hashable, float]) -> None:
        if new:
            self._features.add(new)
            self._grow(np.array(list(new.values())))

    def _named(self, values: np.ndarray) -> dict[Any, float]:
        return dict(zip(self._features.names, values.tolist(), strict=True))


def checked_rate(rate: Any) -> Rate:
    """The rate, `Derived()` for None; raises InvalidArgument for a rate that cannot be called with a count."""
    if rate is None:
        return Derived()
    if not callable(rate) or isinstance(rate, type):
        raise InvalidArgument(f"rate is {rate!r}; it must be a rate such as Derived() or Constant(0.01), or None")
    return rate


def checked_clip(clip: Any, quantile: float = 0.5) -> Clip:
    """The clip, `Adaptive(quantile)` for None; raises InvalidArgument for anything else."""
    if clip is None:
        return Adaptive(quantile)
    if not hasattr(clip, "observe") or isinstance(clip, type):
        raise InvalidArgument(f"clip is {clip!r}; it must be a clip such as Adaptive() or Fixed(2.0), or None")
    return clip


def checked_count(name: str, count: Any, least: int) -> None:
    """Raises InvalidArgument unless the count is a whole number of at least `least`."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < least:
        raise InvalidArgument(f"{name} is {count!r}; it must be a whole number of at least {least}")


def _order(name: Hashable) -> tuple[str, str]:
    return str(name), type(name).__name__
