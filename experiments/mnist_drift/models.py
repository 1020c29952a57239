"""The models: clipped SGD from the library at every rate, and what is tried here for the first time.

All take raw pixels, one image an event, and are stepped by `scan`: the score comes from before the event.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from river import anomaly, linear_model, optim, preprocessing

from onlineguard.core.chain import Chain
from onlineguard.core.clipped_sgd import ClippedSGD
from onlineguard.core.clips import Adaptive, Fixed
from onlineguard.core.estimands import LogisticRegression, LogScale, Mean
from onlineguard.core.experts import Experts
from onlineguard.core.neighbours import WINDOWS, Fitness, Neighbours, unit
from onlineguard.core.protocols import Array, Clip, Estimator, Event, Score
from onlineguard.core.pytree import pytree, static
from onlineguard.core.rates import Constant, Decay, Derived
from onlineguard.core.spread import B, K
from onlineguard.estimators.threshold import OneSided

UNCLIPPED = Fixed(np.inf)
TRAINED = 500  # events a frozen model learns from: the shortest segment
CONSTANT = 0.1  # the constant step of a mean,
SMALL_CONSTANT = 0.01  # and of a logistic regression, whose standardised images are 14 long
FEATURES = 256  # random Fourier features
WIDTH = 0.5  # length scale of their kernel; images of unit length are 0.5 to 1 apart


# ------------------------------------------------------------------------------------- stages in front of an estimator


@pytree
class Features:
    """Random Fourier features of the image at unit length, bounded whatever the pixels are, for an estimator.

    Source: Rahimi and Recht, Random features for large-scale kernel machines, NIPS 2007.
    """

    inner: Estimator
    directions: Array  # (pixels, features)
    phases: Array  # (features,)

    def init(self) -> Any:
        """The estimator's state."""
        return self.inner.init()

    def step(self, state: Any, x: Array) -> tuple[Any, Score]:
        """Step the estimator with the features."""
        return self.inner.step(state, jnp.cos(unit(x) @ self.directions + self.phases))


class Spread(NamedTuple):
    """What `Standardised` keeps of every pixel."""

    location: Array
    scale: Array
    seen: Array


@pytree
class Standardised:
    """A supervised estimator whose image comes standardised, every pixel clipped at `limit` of its usual deviations.

    With z = (x - m) / s and u = z clipped to [-limit, limit]: m <- m + eta s u, s <- s (1 + eta (u^2 - B)), where
    B = E min(Z^2, limit^2) for a standard normal Z, as in the library's default detector. The gradient of a logistic
    regression, (p - y) u, is then bounded too; a clip of the gradient itself would shorten those of the rare class.

    Source: Huber, Robust estimation of a location parameter, 1964, Proposal 2, as stochastic approximation.
    """

    inner: Estimator
    pixels: int = static()
    limit: Array = K
    expected: Array = B
    floor: Array = 0.05  # least scale: pixels that are always dark would count for too much once lit

    def init(self) -> tuple[Spread, Any]:
        """Black images of scale 1, and the estimator's state."""
        return Spread(np.zeros(self.pixels, np.float32), np.ones(self.pixels, np.float32), np.int32(0)), (
            self.inner.init()
        )

    def step(self, state: tuple[Spread, Any], event: tuple[Array, Array]) -> tuple[tuple[Spread, Any], Score]:
        """Step the estimator with the standardised image."""
        (location, scale, seen), learned = state
        x, y = event
        u = jnp.clip((x - location) / scale, -self.limit, self.limit)
        eta = jnp.maximum(0.01, 1.0 / (seen + 1.0))
        learned, score = self.inner.step(learned, (u, y))
        location = location + eta * scale * u
        scale = jnp.maximum(scale * (1.0 + jnp.minimum(eta, 0.2) * (u * u - self.expected)), self.floor)
        return (Spread(location, scale, seen + 1), learned), score


@pytree
class Frozen:
    """An estimator that learns from the first `TRAINED` events and never again."""

    inner: Any

    def init(self) -> Any:
        """The estimator's state, and events seen."""
        return self.inner.init(), np.int32(0)

    def step(self, state: Any, event: Event) -> tuple[Any, Score]:
        """Score, and learn if it is early."""
        after, score = self.inner.step(state[0], event)
        early = state[1] < TRAINED
        return (jax.tree.map(lambda a, b: jnp.where(early, a, b), after, state[0]), state[1] + 1), score


@pytree
class OneClass:
    """Logistic regression told that every event is normal; the L2 penalty is what keeps it from always agreeing."""

    inner: Estimator

    def init(self) -> Any:
        """The regression's state."""
        return self.inner.init()

    def step(self, state: Any, x: Array) -> tuple[Any, Score]:
        """The probability of an anomaly, before the event."""
        return self.inner.step(state, (x, jnp.float32(0.0)))


@pytree
class DensityRatio:
    """Logistic regression of the stream's events against events of a reference law, one of each a step.

    Its odds are the ratio of the two densities: images are told from features of random phase.
    Source: Sugiyama, Suzuki, Kanamori, Density ratio estimation in machine learning, 2012.
    """

    inner: Estimator

    def init(self) -> Any:
        """The regression's state, and the key of the reference draws."""
        return self.inner.init(), jax.random.key_data(jax.random.key(0))

    def step(self, state: Any, x: Array) -> tuple[Any, Score]:
        """The probability that the event is of the reference law, before the event."""
        regression, key = state
        key, draw = jax.random.split(jax.random.wrap_key_data(key))
        other = jnp.cos(jax.random.uniform(draw, x.shape, maxval=2 * np.pi))
        regression, score = self.inner.step(regression, (x, jnp.float32(0.0)))
        regression, _ = self.inner.step(regression, (other, jnp.float32(1.0)))
        return (regression, jax.random.key_data(key)), score


@pytree
class Alarm:
    """The library's one-sided online threshold (of `AdaptiveThreshold`) over scores: 1 where one is an anomaly."""

    target_rate: Array

    def init(self) -> Any:
        """The threshold's state before any score."""
        return self._threshold().init(1)

    def step(self, state: Any, score: Array) -> tuple[Any, Array]:
        """Whether the score is an anomaly, with the threshold from before it."""
        after, judged = self._threshold().step(state, score)
        return after, jnp.float32((judged.ready > 0) & (judged.score > judged.threshold))

    def _threshold(self) -> OneSided:
        return OneSided(self.target_rate, 500.0)


# -------------------------------------------------------------------------------------------------------- what is run


def rates(estimand: Any, clip: Clip, constant: float, fastest: int = 1) -> dict[str, Any]:
    """One estimand and clip at every kind of rate; Experts mix 2^-fastest, ..., 2^-11."""
    return {
        "1/t": ClippedSGD(estimand, Decay(), clip),
        "constant": ClippedSGD(estimand, Constant(constant), clip),
        "derived": ClippedSGD(estimand, Derived(), clip),
        "Experts": Experts(estimand, tuple(2.0**-k for k in range(fastest, 12)), clip),
    }


def supervised(side: int) -> dict[str, Any]:
    """Reading (a): an event is the image and the label that is revealed after it was scored."""
    pixels = side**2
    plain = rates(LogisticRegression(pixels, l2=1e-3), UNCLIPPED, SMALL_CONSTANT, fastest=3)
    return (
        {f"LR, {name}": Standardised(model, pixels) for name, model in plain.items()}
        | {f"LR, {name}, unclipped": Standardised(model, pixels, np.inf, 1.0) for name, model in plain.items()}
        | {"LR, frozen": Frozen(Standardised(plain["constant"], pixels))}
    )


def unsupervised(side: int) -> dict[str, Any]:
    """Reading (b): an event is the image, and no label is ever told."""
    random = np.random.default_rng(0)
    directions = (random.standard_normal((side**2, FEATURES)) / WIDTH).astype(np.float32)
    phases = random.uniform(0.0, 2 * np.pi, FEATURES).astype(np.float32)
    mean = Mean(side**2)

    def on_features(model: Any) -> Features:
        return Features(model, directions, phases)

    def regression(l2: float) -> ClippedSGD:
        return ClippedSGD(LogisticRegression(FEATURES, l2=l2), Constant(CONSTANT), Adaptive(0.9))

    return (
        {"neighbours": Neighbours(side**2)}
        | {f"neighbours, last {length}": Neighbours(side**2, ((length, k),)) for length, k in WINDOWS[1::2]}
        | {"FITNESS": Fitness(side**2)}
        | {f"mean, {name}": model for name, model in rates(mean, Adaptive(), CONSTANT).items()}
        | {f"mean, {name}, unclipped": model for name, model in rates(mean, UNCLIPPED, CONSTANT).items()}
        | {
            "mean, frozen": Frozen(ClippedSGD(mean)),
            "mean of features": on_features(Experts(Mean(FEATURES))),
            "location and scale": on_features(
                Chain((ClippedSGD(Mean(FEATURES)), ClippedSGD(LogScale(np.zeros(FEATURES, np.float32)))))
            ),
            "one-class LR": on_features(OneClass(regression(l2=0.1))),
            "density ratio LR": on_features(DensityRatio(regression(l2=1e-3))),
        }
    )


class River:
    """river's detectors, and its logistic regression, each in what did best in trials on other seeds.

    The detectors are given 32 random orthogonal projections of the image at unit length, so that a pixel of 1e6 is
    bounded before it reaches them; the regression is given the pixels, standardised.
    """

    def __init__(self, side: int):
        random = np.random.default_rng(1)
        self.projections = np.linalg.qr(random.standard_normal((side**2, min(32, side**2))))[0]

    def unsupervised(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of every detector, before it learns the image."""
        features = np.asarray(unit(pixels)) @ self.projections
        trees = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=25, window_size=100, seed=1)
        return {
            "river HalfSpaceTrees": _scores(trees, features),
            "river LODA": _scores(anomaly.LODA(seed=1), features),
            # w.x - b, which is larger the more usual an image is: the sign is ours
            "river OneClassSVM": -_scores(anomaly.OneClassSVM(optimizer=optim.SGD(0.1)), features),
        }

    def supervised(self, pixels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities of an anomaly, before the regression learns the image and its label."""
        model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
        scores = np.empty(len(pixels))
        for i, (row, label) in enumerate(zip(pixels.tolist(), labels.tolist(), strict=True)):
            event = dict(enumerate(row))
            scores[i] = model.predict_proba_one(event).get(True, 0.0)
            model.learn_one(event, bool(label))
        return {"river LogisticRegression": scores}


def _scores(model: Any, features: np.ndarray) -> np.ndarray:
    scores = np.empty(len(features))
    for i, row in enumerate(features.tolist()):
        event = dict(enumerate(row))
        scores[i] = model.score_one(event)
        model.learn_one(event)
    return scores
