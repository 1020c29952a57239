"""What can be estimated, and which way an estimate is wrong.

An estimand writes one method, `observe`: the gradient at theta for one event, its length, and the event's score. Theta
may have leading axes (copies at several rates); the event then has unit axes there, and meets every copy. A NaN or
infinite feature is a missing one and exerts no pull. Distances beyond 1e17 count as 1e17, so nothing finite overflows.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import capped, finite, lengthen, namespace, safe_norm, strong, where
from onlineguard.core.protocols import Array, Event, Observation, Score, Theta
from onlineguard.core.pytree import pytree, static
from onlineguard.core.registry import register
from onlineguard.core.shapes import Bool, Float, Float64
from onlineguard.core.spread import counted_from

DEGREES = 4.0  # of freedom of the Student t law by which scales are weighed: heavy tails, finite variance


class _Estimand(ABC):
    """What all estimands have in common."""

    clip_range: tuple[Float[Array, ""], Float[Array, ""]] = (0.0, np.inf)
    supervised = False  # an event is a pair (x, y)
    takes_number = False  # an event is one number, not an array of features
    decides = False  # a score above zero is an anomaly
    shiftable = False  # there is a `moved`
    predicts = False  # there is a `prediction`

    @abstractmethod
    def observe(self, theta: Theta, event: Event) -> Observation:
        """The gradient of the event at theta, its length, whether anything was usable, and the score."""

    def gradient(self, theta: Theta, event: Event) -> Theta:
        """Which way theta is wrong, shaped like theta; zero where the event says nothing."""
        return self.observe(theta, event).gradient

    def score(self, theta: Theta, event: Event) -> Score:
        """How odd the event is under theta, higher is odder; NaN if nothing in it is usable."""
        return self.observe(theta, event).score

    def residual(self, theta: Theta, event: Event, seen: Observation) -> Array:
        """What the next stage of a Chain takes as its event: the score, unless there is a signed residual."""
        return seen.score

    def move(self, theta: Theta, gradient: Theta, rate: Float[Array, "*#lead"], shrink: Float[Array, "*lead"]) -> Theta:
        """Theta moved against the shortened gradient."""
        pull = rate * shrink
        if isinstance(theta, tuple):
            return type(theta)(*(t - lengthen(pull, t) * g for t, g in zip(theta, gradient, strict=True)))
        return theta - lengthen(pull, theta) * gradient

    def moved(self, theta: Theta, by: Float64[np.ndarray, "*#lead d"]) -> Theta:
        """Theta when events are counted from `by` more, in NumPy; only where `shiftable`."""
        raise TypeError(f"{type(self).__name__} cannot be shifted")

    def prediction(self, theta: Theta, x: Float[Array, "*#lead d"]) -> Float[Array, "*lead"]:
        """What the target of x is expected to be; only where `predicts`."""
        raise TypeError(f"{type(self).__name__} predicts nothing")

    @abstractmethod
    def describe(self, theta: Theta) -> dict[str, Any]:
        """The estimate under the names that a user knows."""


@register("Mean")
@pytree
class Mean(_Estimand):
    """Location: theta is mu, the score the Euclidean distance of x from mu over the features that are there.

    `start` is the number of features, or the mu to start from.
    """

    start: Array

    shiftable = True

    def init(self) -> Float[Array, " d"]:
        return np.zeros(self.start, np.float32) if isinstance(self.start, int) else _float32(self.start)

    def moved(self, theta: Float[Array, "*lead d"], by: Float64[np.ndarray, "*#lead d"]) -> Float[Array, "*lead d"]:
        return counted_from(theta, by)

    def describe(self, theta: Float[Array, "*lead d"]) -> dict[str, Any]:
        return {"location": theta}

    def observe(self, theta: Float[Array, "*lead d"], event: Float[Array, "*#lead d"]) -> Observation:
        distance = theta - event
        if isinstance(distance, np.ndarray) and distance.ndim == 1:
            square = distance.dot(distance)
            if 1e-30 < square < 1e30:  # nothing is missing or absurd: the same answer, five times as fast
                norm = square**0.5 if square.dtype == np.float32 else math.sqrt(square)
                return Observation(distance, norm, True, norm)
        xp = namespace(distance)
        there = xp.isfinite(event)
        usable = there.any(-1)
        gradient = xp.where(there, capped(distance), 0.0)
        norm = safe_norm(gradient)
        return Observation(gradient, norm, usable, where(usable, norm, np.nan * norm))

    def loss(self, theta: Float[Array, "*lead d"], event: Float[Array, "*#lead d"]) -> Float[Array, "*lead"]:
        """Half the squared distance."""
        return 0.5 * (namespace(theta).where(finite(event), theta - event, 0.0) ** 2).sum(-1)

    def residual(
        self, theta: Float[Array, "*lead d"], event: Float[Array, "*#lead d"], seen: Observation
    ) -> Float[Array, "*lead d"]:
        """x - mu, feature by feature; not finite where a feature is missing."""
        return event - theta

    def surprise(
        self, theta: Float[Array, "*lead d"], event: Float[Array, "*#lead d"], limit: Float[Array, ""]
    ) -> Float[Array, "*lead"]:
        """Minus the log likelihood of a Student t law in all features; `limit` is a usual distance."""
        return _student(self.observe(theta, event).score / limit, theta.shape[-1])


@register("LogScale")
@pytree
class LogScale(_Estimand):
    """Scale of a residual r: theta is s = log sigma, one number or one for each feature.

    The score is abs(r) / sigma; with one sigma a feature, the root mean square of these over the features that are
    there. One sigma fed a vector takes its Euclidean length. Minimising s + r^2 exp(-2 s) / 2 makes sigma the root mean
    square; the clip at 2 caps what one event counts at 3 sigma^2, so sigma is about 0.9 of the standard deviation of
    a normal stream and hardly grows with a tenth of the events corrupted. The gradient has no unit, so neither has its
    clip: an adaptive one stays at 2.
    """

    start: Float[Array, "..."] = 0.0  # s to start from; its shape says which of the two is meant

    clip_range = (2.0, 2.0)

    def init(self) -> Float[Array, "..."]:
        return _float32(self.start)

    def describe(self, theta: Float[Array, "..."]) -> dict[str, Any]:
        return {"scale": np.exp(theta)}

    def observe(self, theta: Float[Array, "..."], event: Float[Array, "..."]) -> Observation:
        xp = namespace(theta)
        ratio, usable = self._ratio(theta, event)
        if np.ndim(self.start) == 0:
            gradient = where(usable, 1.0 - ratio * ratio, 0.0 * ratio)
            return Observation(gradient, abs(gradient), usable, where(usable, ratio, np.nan * ratio))
        squares = ratio * ratio
        gradient = xp.where(usable, 1.0 - squares, 0.0)
        count = usable.sum(-1, dtype=np.float32)
        some = count > 0.0
        score = xp.sqrt(squares.sum(-1) / where(some, count, 1.0))
        return Observation(gradient, safe_norm(gradient), some, where(some, score, np.nan * score))

    def loss(self, theta: Float[Array, "..."], event: Float[Array, "..."]) -> Float[Array, "*lead"]:
        """Minus the log likelihood of a normal residual, up to a constant."""
        ratio, usable = self._ratio(theta, event)
        return self._total(namespace(theta).where(usable, theta + 0.5 * ratio * ratio, 0.0))

    def surprise(
        self, theta: Float[Array, "..."], event: Float[Array, "..."], limit: Float[Array, ""]
    ) -> Float[Array, "*lead"]:
        """Minus the log likelihood of a residual with Student t tails, which no single event can dominate."""
        ratio, usable = self._ratio(theta, event)
        tail = 0.5 * (DEGREES + 1.0) * namespace(theta).log(1.0 + ratio * ratio / DEGREES)
        return self._total(namespace(theta).where(usable, theta + tail, 0.0))

    def _ratio(
        self, theta: Float[Array, "..."], event: Float[Array, "..."]
    ) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
        """abs(r) / sigma, zero where it is missing, and where it is not."""
        size = abs(event)
        if np.ndim(self.start) == 0 and getattr(event, "ndim", 0) > 0:
            there = finite(event)
            size = safe_norm(namespace(event).where(there, capped(event), 0.0))
            size = where(there.any(-1), size, np.nan * size)
        usable = finite(size) & (theta == theta)  # of the shape of the copies
        return capped(where(usable, size, 0.0 * theta) * namespace(theta).exp(-theta)), usable

    def _total(self, nats: Float[Array, "..."]) -> Float[Array, "*lead"]:
        return nats if np.ndim(self.start) == 0 else nats.sum(-1)


@register("Quantile")
@pytree
class Quantile(_Estimand):
    """The value that a share `level` of the stream lies below: theta is q, the score x - q.

    The gradient is 1 - level below q and -level elsewhere (at a tie too), times `unit`: a step is rate times `unit`
    at most, so `unit` should be of the size of the stream's spread; 1 suits scores that a LogScale made. Shortening
    only the rare side would turn every quantile into a median, so an adaptive clip uses the gradient whole.
    """

    level: Float[Array, ""]
    start: Float[Array, ""] = 0.0
    unit: Float[Array, ""] = 1.0

    takes_number = True
    decides = True
    shiftable = True

    @property
    def clip_range(self) -> tuple[Float[Array, ""], Float[Array, ""]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """No gradient is longer than the unit."""
        return self.unit, self.unit

    def init(self) -> Float[Array, ""]:
        return _float32(self.start)

    def moved(self, theta: Float[Array, "*lead"], by: Float64[np.ndarray, "*#lead 1"]) -> Float[Array, "*lead"]:
        return counted_from(theta[..., None], by)[..., 0]

    def describe(self, theta: Float[Array, "*lead"]) -> dict[str, Any]:
        return {"quantile": theta}

    def observe(self, theta: Float[Array, "*lead"], event: Float[Array, "*#lead"]) -> Observation:
        distance = capped(event - theta)
        usable = finite(event)
        side = strong(where(distance < 0.0, 1.0 - self.level, -self.level))
        gradient = where(usable, self.unit * side, 0.0 * side)
        return Observation(gradient, abs(gradient), usable, where(usable, distance, np.nan * distance))

    def loss(self, theta: Float[Array, "*lead"], event: Float[Array, "*#lead"]) -> Float[Array, "*lead"]:
        """The pinball loss."""
        distance = event - theta
        return self.unit * distance * where(distance < 0.0, self.level - 1.0, self.level)

    def surprise(
        self, theta: Float[Array, "*lead"], event: Float[Array, "*#lead"], limit: Float[Array, ""]
    ) -> Float[Array, "*lead"]:
        """The pinball loss in units of `limit`."""
        distance = event - theta
        return distance / limit * where(distance < 0.0, self.level - 1.0, self.level)


class Linear(NamedTuple):
    """A linear function w.x + b."""

    w: Float[Array, "*lead d"]
    b: Float[Array, "*lead"]


class _Regression(_Estimand):
    """A missing feature counts as 0, so where events are counted from matters, and no regression is `shiftable`."""

    start: Array
    l2: Float[Array, ""]
    implicit: bool

    steepest: float  # largest second derivative of the loss in the prediction
    supervised = True
    predicts = True

    def init(self) -> Linear:
        w = np.zeros(self.start, np.float32) if isinstance(self.start, int) else _float32(self.start)
        return Linear(w, namespace(w).zeros((), np.float32)[()])

    def describe(self, theta: Linear) -> dict[str, Any]:
        return {"weights": theta.w, "intercept": theta.b}

    def prediction(self, theta: Linear, x: Float[Array, "*#lead d"]) -> Float[Array, "*lead"]:
        """See `predict`."""
        return self.predict(theta, x)

    def predict(self, theta: Linear, x: Float[Array, "*#lead d"]) -> Float[Array, "*lead"]:
        """w.x + b over the features that are there."""
        return (theta.w * _present(x)).sum(-1) + theta.b

    def residual(
        self, theta: Linear, event: tuple[Float[Array, "*#lead d"], Float[Array, "*#lead"]], seen: Observation
    ) -> Float[Array, "*lead"]:
        """Prediction minus target."""
        return where(seen.usable, seen.gradient.b, np.nan * seen.gradient.b)

    def _penalty(self, theta: Linear, x: Float[Array, "*#lead d"]) -> Float[Array, "*lead"]:
        """The L2 penalty of the features that are there; the intercept is free."""
        return 0.5 * self.l2 * (namespace(theta.w).where(finite(x), theta.w, 0.0) ** 2).sum(-1)

    def _observe(
        self, theta: Linear, x: Float[Array, "*#lead d"], error: Float[Array, "*lead"], score: Score
    ) -> Observation:
        """`error` is the slope of the loss in the prediction."""
        xp = namespace(theta.w)
        there = xp.isfinite(x)
        usable = finite(error) & there.any(-1)
        error = where(usable, capped(error), 0.0 * theta.b)
        pull = xp.where(there, capped(error[..., None] * _present(x) + self.l2 * theta.w), 0.0)
        pull = xp.where(usable[..., None], pull, 0.0)
        slope, size = safe_norm(pull), abs(error)
        norm = safe_norm(xp.stack([slope, size], axis=-1))
        seen = Observation(Linear(pull, error), norm, usable, score)
        if not self.implicit:
            return seen
        present = _present(x)
        return seen._replace(curvature=self.steepest * (1.0 + (present * present).sum(-1)))


@register("LinearRegression")
@pytree
class LinearRegression(_Regression):
    """Least squares: theta is (w, b), an event (x, y), the score abs(w.x + b - y); `l2` makes it a ridge.

    An event whose target or whole x is missing changes nothing and scores NaN. Gradients
    grow with the square of x: a rate that suits features of size 1 is too long for larger ones, unless steps are
    `implicit`; then no event moves the prediction beyond its target.
    """

    start: Array  # the number of features, or the w to start from
    l2: Float[Array, ""] = 0.0
    implicit: bool = static(default=False)

    steepest = 1.0
    measures = True

    def observe(self, theta: Linear, event: tuple[Float[Array, "*#lead d"], Float[Array, "*#lead"]]) -> Observation:
        x, y = event
        error = self.predict(theta, x) - y
        seen = self._observe(theta, x, error, abs(error))
        return seen._replace(score=where(seen.usable, abs(error), np.nan * error))

    def loss(
        self, theta: Linear, event: tuple[Float[Array, "*#lead d"], Float[Array, "*#lead"]]
    ) -> Float[Array, "*lead"]:
        """Half the squared residual, and the penalty."""
        x, y = event
        return 0.5 * (self.predict(theta, x) - y) ** 2 + self._penalty(theta, x)

    def surprise(
        self, theta: Linear, event: tuple[Float[Array, "*#lead d"], Float[Array, "*#lead"]], limit: Float[Array, ""]
    ) -> Float[Array, "*lead"]:
        """Minus the log likelihood of a residual with Student t tails; `limit` is a usual one."""
        return _student((self.predict(theta, event[0]) - event[1]) / limit, 1)


@register("LogisticRegression")
@pytree
class LogisticRegression(_Regression):
    """Log odds of y = 1: theta is (w, b), an event (x, y) with y from 0 to 1, the score p = sigmoid(w.x + b).

    The score needs no target; an event without one teaches nothing. Where one class is rare its gradients are the long
    ones, and a median clip shortens just these: choose `Adaptive(0.99)` or a `Fixed` clip. `implicit` steps do not
    overshoot, as those of `LinearRegression`.
    """

    start: Array  # the number of features, or the w to start from
    l2: Float[Array, ""] = 0.0
    implicit: bool = static(default=False)

    steepest = 0.25

    def prediction(self, theta: Linear, x: Float[Array, "*#lead d"]) -> Float[Array, "*lead"]:
        """The probability that y is 1."""
        return 1.0 / (1.0 + namespace(theta.w).exp(-self.predict(theta, x)))

    def observe(self, theta: Linear, event: tuple[Float[Array, "*#lead d"], Float[Array, "*#lead"]]) -> Observation:
        x, y = event
        p = self.prediction(theta, x)
        return self._observe(theta, x, p - y, where(finite(x).any(-1) & finite(p), p, np.nan * p))

    def loss(
        self, theta: Linear, event: tuple[Float[Array, "*#lead d"], Float[Array, "*#lead"]]
    ) -> Float[Array, "*lead"]:
        """Cross-entropy in nats, and the penalty."""
        return self._cross_entropy(theta, event) + self._penalty(theta, event[0])

    def surprise(
        self, theta: Linear, event: tuple[Float[Array, "*#lead d"], Float[Array, "*#lead"]], limit: Float[Array, ""]
    ) -> Float[Array, "*lead"]:
        """Cross-entropy."""
        return self._cross_entropy(theta, event)

    def _cross_entropy(
        self, theta: Linear, event: tuple[Float[Array, "*#lead d"], Float[Array, "*#lead"]]
    ) -> Float[Array, "*lead"]:
        x, y = event
        logit, xp = self.predict(theta, x), namespace(theta.w)
        size = abs(logit)  # (logit + size) / 2 is the logit where positive, smooth in the sum
        return 0.5 * (logit + size) - y * logit + xp.log(1.0 + xp.exp(-size))


class Moments(NamedTuple):
    """First and second moments."""

    mu: Float[Array, "*lead d"]
    sigma: Float[Array, "*lead d d"]


@register("Covariance")
@pytree
class Covariance(_Estimand):
    """Location and covariance: theta is (mu, Sigma), the score the Mahalanobis distance of x from mu.

    The gradient is that of an estimating equation, (mu - x, Sigma - (x - mu)(x - mu)^T), not of any one loss. Sigma's
    unit is the square of mu's, and so is its clip: with limit L, one event moves mu by at most rate * L and Sigma by at
    most rate * L^2, so scaling the stream scales the estimate. The distance is over the features that are there, under
    Sigma with `ridge` times its mean variance on the diagonal.
    """

    start: Array  # the number of features, or the mu to start from
    ridge: Float[Array, ""] = 1e-3

    shiftable = True

    def moved(self, theta: Moments, by: Float64[np.ndarray, "*#lead d"]) -> Moments:
        return Moments(counted_from(theta.mu, by), theta.sigma)

    def describe(self, theta: Moments) -> dict[str, Any]:
        return {"location": theta.mu, "covariance": theta.sigma}

    def init(self) -> Moments:
        mu = np.zeros(self.start, np.float32) if isinstance(self.start, int) else _float32(self.start)
        return Moments(mu, namespace(mu).eye(mu.shape[-1], dtype=np.float32))

    def observe(self, theta: Moments, event: Float[Array, "*#lead d"]) -> Observation:
        xp = namespace(theta.mu)
        distance, there = self._distance(theta, event)
        pair = there[..., :, None] & there[..., None, :]
        outward = xp.where(pair, theta.sigma - distance[..., :, None] * distance[..., None, :], 0.0)
        norm, norm2 = safe_norm(distance), xp.sqrt(safe_norm(outward, axes=2))
        usable = there.any(-1)
        score = self._mahalanobis(theta, distance, pair)[0]
        norm = where(norm2 > norm, norm2, norm)
        return Observation(Moments(-distance, outward), norm, usable, where(usable, score, np.nan * score))

    def move(
        self, theta: Moments, gradient: Moments, rate: Float[Array, "*#lead"], shrink: Float[Array, "*lead"]
    ) -> Moments:
        """Mu moved by the share `shrink` of its gradient, Sigma by the share shrink^2."""
        return Moments(
            theta.mu - lengthen(rate * shrink, theta.mu) * gradient.mu,
            theta.sigma - lengthen(rate * shrink * shrink, theta.sigma) * gradient.sigma,
        )

    def surprise(
        self, theta: Moments, event: Float[Array, "*#lead d"], limit: Float[Array, ""]
    ) -> Float[Array, "*lead"]:
        """Minus the log likelihood of a multivariate Student t law."""
        distance, there = self._distance(theta, event)
        pair = there[..., :, None] & there[..., None, :]
        score, log_det = self._mahalanobis(theta, distance, pair)
        count = there.sum(-1, dtype=np.float32)
        return 0.5 * (log_det + (DEGREES + count) * namespace(score).log(1.0 + score * score / DEGREES))

    def _distance(
        self, theta: Moments, event: Float[Array, "*#lead d"]
    ) -> tuple[Float[Array, "*lead d"], Bool[Array, "*lead d"]]:
        """x - mu, capped, zero where a feature is missing; and where none is."""
        xp = namespace(theta.mu)
        there = xp.isfinite(event) & (theta.mu == theta.mu)  # of the shape of the copies
        return xp.where(there, capped(event - theta.mu), 0.0), there

    def _mahalanobis(
        self, theta: Moments, distance: Float[Array, "*lead d"], pair: Bool[Array, "*lead d d"]
    ) -> tuple[Float[Array, "*lead"], Float[Array, "*lead"]]:
        """The distance and the log determinant over the pairs of features that are there."""
        xp = namespace(theta.mu)
        unit = xp.eye(distance.shape[-1], dtype=np.float32)
        unit = unit.reshape((1,) * (theta.sigma.ndim - 2) + unit.shape)
        variance = (theta.sigma * unit).sum((-2, -1)) / distance.shape[-1]
        ridge = self.ridge * variance + 1e-30  # never singular, not even before the first spread
        sigma = xp.where(pair, theta.sigma + ridge[..., None, None] * unit, unit)
        whitened = xp.linalg.solve(sigma, distance[..., None])[..., 0]
        square = (distance * whitened).sum(-1)
        return xp.sqrt(where(square > 0.0, square, 0.0 * square)), xp.linalg.slogdet(sigma)[1]


def _student(ratio: Float[Array, "*lead"], features: int) -> Float[Array, "*lead"]:
    """Minus the log density of a multivariate Student t law whose usual length is 1, up to a constant."""
    ratio = capped(ratio)
    return 0.5 * (DEGREES + features) * namespace(ratio).log(1.0 + ratio * ratio * (features / DEGREES))


def _present(x: Float[Array, "*lead d"]) -> Float[Array, "*lead d"]:
    """`x`, capped, with zeros for the features that are missing."""
    xp = namespace(x)
    return xp.where(xp.isfinite(x), capped(x), 0.0)


def _float32(x: Array) -> Array:
    """A template as a float32 array of its own kind; a NumPy scalar if it has no axes, which is the quickest."""
    return namespace(x).asarray(x, dtype=np.float32)[()]
