"""A regression stepped event by event in a row of bits; see `packed`.

A row ends with the estimate of the event before, so that a prediction needs no compiled call: it is a product of the
weights and the standardised features, which NumPy takes in float64.

Float32 keeps seven digits of what it is given. So after 64 events, and again whenever there are four times as many,
targets are counted from the intercept, and features far from zero from their locations. Both are robust: an absurd
first value or target, which an origin would stay at, is forgotten then.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from onlineguard.core.estimands import Linear
from onlineguard.core.experts import Experts
from onlineguard.core.protocols import Array
from onlineguard.core.spread import K
from onlineguard.core.standardised import Standardised, StandardisedState
from onlineguard.engine.events import LARGEST
from onlineguard.estimators.packed import Packed
from onlineguard.estimators.shell import TAME

SETTLED, AGAIN = 64, 4  # events after which origins move, and how many times as many until they do again
FAR = 256.0  # scales between a feature and zero from which float32 loses more than a ten-thousandth of a scale


def _regressed(model: Any, state: Any, event: Array) -> tuple[Any, Array]:
    after, _ = model.step(state, (event[:-1], event[-1]))
    theta = _estimate(model, after)
    return after, jnp.concatenate([theta.w, theta.b[None]])


class PackedRegression(Packed):
    """A `Standardised` regression of features that may become more.

    made: what makes the model for a number of columns.
    centred: whether targets may be counted from an origin, as those of least squares may.
    """

    step = staticmethod(_regressed)
    estimator: Standardised

    def __init__(self, made: Any, centred: bool):
        super().__init__(made, extra=1)
        self._centred = centred
        self._target = 0.0  # what targets are counted from
        self._learned, self._due = 0, SETTLED  # events, and after how many of them origins move next

    @property
    def answers(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The weights and the intercept."""
        return self.width + 1

    @property
    def weights(self) -> np.ndarray:
        """The weight of every feature (d,), per scale of it."""
        return np.zeros(0) if self._row is None else self._tail()[: len(self._origin)].astype(np.float64)

    @property
    def intercept(self) -> float:
        """The prediction where every feature lies at its location."""
        return 0.0 if self._row is None else float(self._tail()[-1]) + self._target

    def learn(self, values: np.ndarray, y: float) -> None:
        """Learn that y, a finite number, came with an event (d,)."""
        if self._unset is not None and self._needs_origin(values):
            self._move(values)
        self._buffer[-1] = min(max(y - self._target, -LARGEST), LARGEST)
        self._row = self._run(values)
        np.asarray(self._row)  # waits until the buffer may be written again
        self._learned += 1
        if self._learned == self._due:
            self._settle()

    def learn_many(self, values: np.ndarray, y: np.ndarray) -> None:
        """`learn` for events (n, d) with targets (n,), in order; equal to the last bit."""
        while len(values):
            n = self._due - self._learned
            for start, end in self._stretches(values[:n]):
                self._run_many(values[start:end], True, y[start:end, None] - self._target)
            self._learned += len(values[:n])
            if self._learned == self._due:
                self._settle()
            values, y = values[n:], y[n:]

    def predict(self, values: np.ndarray) -> float:
        """w.x + b of an event (d,), over the features that are there."""
        if self._row is None:
            return 0.0
        with np.errstate(over="ignore"):
            tame = values.dot(values) < TAME
        if not tame:  # something is missing, or absurd
            values = np.where(np.isfinite(values), np.minimum(np.maximum(values, -LARGEST), LARGEST), np.nan)
        row, d = np.asarray(self._row), len(self._origin)
        location, scale = row[:d], row[self.width : self.width + d]  # a packed state begins with its spread
        z = values - self._origin
        z -= location
        z /= scale
        np.minimum(np.maximum(z, -K, out=z), K, out=z)
        tail = row[-self.width - 1 :]
        return float(np.where(z == z, z, 0.0).dot(tail[:d])) + float(tail[-1]) + self._target

    def _blank(self, count: int, width: int) -> StandardisedState:
        return self.estimator.init()

    def _answer(self, state: StandardisedState) -> np.ndarray:
        theta = _estimate(self.estimator, state)
        return np.append(theta.w, theta.b).astype(np.float32)

    def _tail(self) -> np.ndarray:
        return np.asarray(self._row)[-self.answers :]

    def _settle(self) -> None:
        """Move origins to where the model has found features and targets to lie."""
        self._due *= AGAIN
        state, d = self.state, len(self._origin)
        spread = state.spread
        by = np.where(abs(spread.location) > FAR * spread.scale, spread.location, 0.0).astype(np.float64)
        state = state._replace(spread=spread.moved(by))
        self._origin = self._origin + by[:d]
        if self._centred:
            by_target = self._tail()[-1]
            self._target += float(by_target)
            state = state._replace(inner=_lowered(state.inner, by_target))
        self._put(state)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "_centred": self._centred,
            "_target": self._target,
            "_learned": self._learned,
            "_due": self._due,
        }


def _estimate(model: Standardised, state: StandardisedState) -> Linear:
    """Weights and intercept."""
    return model.inner.theta(state.inner) if isinstance(model.inner, Experts) else state.inner.theta


def _lowered(state: Any, by: np.float32) -> Any:
    """The regression's state with its intercepts lowered."""
    if hasattr(state, "copies"):
        return state._replace(copies=_lowered(state.copies, by))
    return state._replace(theta=state.theta._replace(b=state.theta.b - by))
